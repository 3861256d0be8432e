package trafficshift

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/internal/testenv"
)

func shiftOf(t *testing.T, namespace, name, spec string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{Object: map[string]any{}}
	if spec != "" {
		body := map[string]any{}
		if err := yaml.Unmarshal([]byte(spec), &body); err != nil {
			t.Fatal(err)
		}
		u.Object["spec"] = body
	}
	u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("TrafficShift"))
	u.SetNamespace(namespace)
	u.SetName(name)
	return u
}

// bothJudge creates a TrafficShift and holds the API server to a refusal that says want, or to none where that is empty; and the types' own rules to the
// same verdict.
func bothJudge(t *testing.T, api client.Client, u *unstructured.Unstructured, want string) {
	t.Helper()
	err := api.Create(t.Context(), u)
	switch {
	case want == "" && err != nil:
		t.Errorf("refused: %v", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("error %v; want a refusal that says %q", err, want)
	}
	var spec v1alpha1.TrafficShiftSpec
	if body, ok := u.Object["spec"]; ok && runtime.DefaultUnstructuredConverter.FromUnstructured(body.(map[string]any), &spec) == nil {
		spec.Default()
		if errs := spec.Validate(nil); (len(errs) == 0) != (want == "") {
			t.Errorf("Validate does not agree: %v", errs)
		}
	}
}

// TestTheAPIServerRefusesMistakes holds the schema to what it says: a mistake is refused where it is made, by whoever makes it.
func TestTheAPIServerRefusesMistakes(t *testing.T) {
	api, ns := testenv.Namespace(t)
	steps := func(weights string) string { return "steps: [" + weights + "]" }
	tests := map[string]struct {
		spec string
		want string // part of the refusal; empty where it is accepted
	}{
		"Nothing":                {"", ""},
		"WholeWeight":            {steps("{weight: 5}, {weight: 100}"), ""},
		"WeightWithPercent":      {steps(`{weight: "5%"}, {weight: "100%"}`), ""},
		"WeightWithDecimal":      {steps(`{weight: "0.5"}, {weight: 100}`), ""},
		"WeightOf101":            {steps(`{weight: "101"}, {weight: 100}`), "weight"},
		"WeightTooFine":          {steps(`{weight: "0.55"}, {weight: 100}`), "weight"},
		"WeightInWords":          {steps(`{weight: abc}, {weight: 100}`), "weight"},
		"NegativeWeightInWords":  {steps(`{weight: "-5"}, {weight: 100}`), "weight"},
		"NoWeight":               {steps(`{}, {weight: 100}`), "weight"},
		"LastStepIsNot100":       {steps("{weight: 5}, {weight: 50}"), "the last step must be 100"},
		"NoSteps":                {"steps: []", "steps"},
		"ManySteps":              {steps(strings.Repeat("{weight: 5}, ", 50) + "{weight: 100}"), "50"},
		"GatewaysWithoutHosts":   {"gateways: [public]", "gateways need hosts"},
		"GatewaysWithHosts":      {"gateways: [istio-system/public]\nhosts: [shop.example.com]", ""},
		"GatewayWithTwoSlashes":  {"gateways: [a/b/c]\nhosts: [shop.example.com]", "gateways"},
		"HostTwice":              {"hosts: [a.example.com, a.example.com]", "hosts"},
		"EmptyHost":              {`hosts: [""]`, "hosts"},
		"OtherStrategy":          {"strategy: rolling", "strategy"},
		"ErrorRateInWords":       {"maxErrorRate: lots", "maxErrorRate"},
		"ErrorRateAbove100":      {`maxErrorRate: "101%"`, "maxErrorRate"},
		"FineErrorRate":          {`maxErrorRate: "0.125%"`, ""},
		"Latency":                {`maxLatency: {percentile: "99.9", below: 500ms}`, ""},
		"LatencyOfEveryRequest":  {`maxLatency: {percentile: "100", below: 500ms}`, "percentile"},
		"LatencyWithoutBound":    {`maxLatency: {percentile: "99"}`, "below"},
		"NoRequests":             {"minRequests: 0", "minRequests"},
		"Capacity":               {"capacity: proportional", ""},
		"OtherCapacity":          {"capacity: half", "capacity"},
		"Autoscaler":             {"autoscaler: follow", ""},
		"OtherAutoscaler":        {"autoscaler: keda", "autoscaler"},
		"ConfigTracking":         {"configTracking: true", ""},
		"Service":                {"service: shop-2", ""},
		"ServiceNone":            {`service: ""`, ""},
		"ServiceElsewhere":       {"service: pay.bank.svc.cluster.local", "service"},
		"ServiceTooLong":         {"service: a" + strings.Repeat("b", 63), "service"},
		"Drain":                  {"drain: 1m30s", ""},
		"NegativeDrain":          {"drain: -1s", "drain"},
		"NegativeReplicas":       {"replicas: -1", "replicas"},
		"NoReplicas":             {"replicas: 0", ""},
		"TrafficPolicyIsNoMap":   {"trafficPolicy: fast", "trafficPolicy"},
		"TrafficPolicyOfIstio's": {"trafficPolicy: {outlierDetection: {consecutive5xxErrors: 5}}", ""},
		"Attached":               {"routing: {virtualService: {name: shop, routes: [main]}}", ""},
		"AttachedToNoName":       {"routing: {virtualService: {}}", "name"},
		"AttachedToOtherName":    {"routing: {virtualService: {name: Shop/main}}", "name"},
		"AttachedAndDelegate":    {"routing: {delegate: true, virtualService: {name: shop}}", "choose one"},
		"AttachedWithFields":     {"routing: {http: {timeout: 5s}, virtualService: {name: shop}}", "write timeout, retries and the like there"},
		"Several":                {"routing: {virtualServices: [{name: front, routes: [main]}, {name: internal}]}", ""},
		"SeveralAndOne":          {"routing: {virtualService: {name: shop}, virtualServices: [{name: front}]}", "write all of them in virtualServices"},
		"SeveralTwice":           {"routing: {virtualServices: [{name: front}, {name: front}]}", "Duplicate value"},
		"SeveralNone":            {"routing: {virtualServices: []}", "virtualServices"},
		"SeveralTooMany":         {"routing: {virtualServices: [{name: a}, {name: b}, {name: c}, {name: d}, {name: e}, {name: f}, {name: g}, {name: h}, {name: i}]}", "virtualServices"},
		"SeveralAndDelegate":     {"routing: {delegate: true, virtualServices: [{name: shop}]}", "choose one"},
		"SeveralWithFields":      {"routing: {http: {timeout: 5s}, virtualServices: [{name: shop}]}", "write timeout, retries and the like there"},
		"SeveralWithHosts":       {"hosts: [a.example.com]\nrouting: {virtualServices: [{name: shop}]}", "leave out hosts"},
		"SeveralForGateway":      {"routing: {api: gateway, virtualServices: [{name: shop}]}", "are for VirtualServices"},
		"SeveralWithSession":     {"session: {}\nrouting: {virtualServices: [{name: shop}]}", "attaches to routes of yours"},
		"Elsewhere":              {"routing: {virtualServices: [{name: front}, {name: front, namespace: edge}]}", ""},
		"ElsewhereTwice":         {"routing: {virtualServices: [{name: front, namespace: edge}, {name: front, namespace: edge}]}", "Duplicate value"},
		"ElsewhereNoNamespace":   {"routing: {virtualService: {name: front, namespace: a.b}}", "namespace"},
		"Connections":            {"routing: {virtualService: {name: shop, tcp: [{port: 5432}], tls: [{port: 443}, {sniHosts: [a.example.com]}]}}", ""},
		"ConnectionsNoPort":      {"routing: {virtualService: {name: shop, tcp: [{}]}}", "tcp[0].port"},
		"ConnectionsPortTwice":   {"routing: {virtualService: {name: shop, tcp: [{port: 1}, {port: 1}]}}", "Duplicate value"},
		"ConnectionsTLSNothing":  {"routing: {virtualService: {name: shop, tls: [{}]}}", "a TLS route is told by what it matches"},
		"ConnectionsTLSPort":     {"routing: {virtualServices: [{name: shop, tls: [{port: 70000}]}]}", "tls[0].port"},
		"ConnectionsSNITwice":    {"routing: {virtualService: {name: shop, tls: [{sniHosts: [a, a]}]}}", "Duplicate value"},
		"AttachedWithHosts":      {"hosts: [a.example.com]\nrouting: {virtualService: {name: shop}}", "leave out hosts"},
		"RouteTwice":             {"routing: {virtualService: {name: shop, routes: [a, a]}}", "routes"},
		"RouteWithoutName":       {`routing: {virtualService: {name: shop, routes: [""]}}`, "routes"},
		"HTTPFields":             {"routing: {http: {timeout: 5s, fault: {delay: {fixedDelay: 1s}}}}", ""},
		"HTTPFieldsAreNoMap":     {"routing: {http: fast}", "http"},
		"TLS":                    {"hosts: [a.example.com]\ngatewayTLS: {mode: SIMPLE, credentialName: x}\nhttpsRedirect: false", ""},
		"TLSWithoutHosts":        {"gatewayTLS: {mode: SIMPLE}", "it needs hosts, and no gateways"},
		"TLSOfAnothersGateway":   {"hosts: [a.example.com]\ngateways: [public]\ngatewayTLS: {mode: SIMPLE}", "it needs hosts, and no gateways"},
		"RedirectToNothing":      {"hosts: [a.example.com]\nhttpsRedirect: true", "httpsRedirect needs gatewayTLS"},
		"UnknownFieldIsDropped":  {"replica: 3", ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			err := api.Create(t.Context(), shiftOf(t, ns, strings.ToLower(strings.NewReplacer("'", "", " ", "").Replace(name)), tc.spec))
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("error %v; want a refusal that says %q", err, tc.want)
			}
		})
	}
}

// What each strategy takes, and what shows a candidate to whom: what the types' own rules refuse, the API server refuses as well, where
// CEL can see it, and what it accepts they accept.
func TestTheAPIServerRefusesMistakesInStrategies(t *testing.T) {
	api, ns := testenv.Namespace(t)
	const group = "abTest: {match: [{headers: {x-group: {exact: b}}}]}"
	steps := func(s string) string { return "steps: [" + s + ", {weight: 100}]" }
	session := func(s string) string { return "session: {" + s + "}" }
	tests := map[string]struct{ spec, want string }{
		"BlueGreen":             {"strategy: blue-green", ""},
		"BlueGreenMirror":       {"strategy: blue-green\n" + steps("{mirror: 10%}"), ""},
		"BlueGreenWeight":       {"strategy: blue-green\n" + steps("{weight: 10}"), "its steps are mirrors"},
		"BlueGreenAuto":         {"strategy: blue-green\npacing: auto", "leave out pacing"},
		"ABTest":                {"strategy: ab-test\n" + group, ""},
		"ABTestDecide":          {"strategy: ab-test\nabTest: {match: [{uri: {prefix: /b}}], conclude: decide, duration: 1h}", ""},
		"ABTestWithoutGroup":    {"strategy: ab-test", "needs to know its group"},
		"ABTestWithoutRules":    {"strategy: ab-test\nabTest: {match: []}", "abTest.match"},
		"ABTestSteps":           {"strategy: ab-test\n" + group + "\n" + steps("{weight: 5}"), "leave out steps"},
		"ABTestRuleInWords":     {"strategy: ab-test\nabTest: {match: [x-group]}", "abTest.match[0]"},
		"ABTestConclude":        {"strategy: ab-test\nabTest: {match: [{uri: {prefix: /b}}], conclude: win}", "conclude"},
		"GroupOfACanary":        {group, "abTest is for strategy ab-test"},
		"AllKinds":              {steps("{match: [{headers: {x-tester: {}}}]}, {mirror: 12.5%}, {weight: 5}"), ""},
		"NoKind":                {steps("{hold: 1m}"), "a step is a weight, a match or a mirror"},
		"TwoKinds":              {steps(`{weight: 5, mirror: "5"}`), "a weight and a mirror never beside each other"},
		"ThreeKinds":            {steps(`{weight: 5, mirror: "5", match: [{uri: {prefix: /b}}]}`), "a weight and a mirror never beside each other"},
		"MatchBesideWeights":    {steps("{weight: 5, match: [{headers: {x-tester: {}}}]}, {weight: 20}, {weight: 50%, match: [{uri: {prefix: /b}}], replicas: 3}"), ""},
		"MatchBesideMirror":     {steps("{mirror: 10%, match: [{headers: {x-tester: {}}}]}, {weight: 5}"), ""},
		"MatchBeside100":        {`steps: [{weight: 5}, {weight: 100, match: [{uri: {prefix: /b}}]}]`, "at 100 everybody is on the candidate"},
		"MatchBeside100Percent": {`steps: [{weight: 5}, {weight: "100.0%", match: [{uri: {prefix: /b}}]}]`, "at 100 everybody is on the candidate"},
		"NoRulesBesideAWeight":  {steps("{weight: 5, match: []}"), "steps[0].match"},
		"NoRulesBesideAMirror":  {steps("{mirror: 5%, match: []}"), "steps[0].match"},
		"BlueGreenMatchMirror":  {"strategy: blue-green\n" + steps("{mirror: 10%, match: [{uri: {prefix: /b}}]}"), ""},
		"BlueGreenMatchWeight":  {"strategy: blue-green\n" + steps("{weight: 10, match: [{uri: {prefix: /b}}]}"), "its steps are mirrors"},
		"NoRules":               {steps("{match: []}"), "steps[0].match"},
		"MirrorNothing":         {steps(`{mirror: "0"}`), "a mirror must be above 0%"},
		"MirrorTooFine":         {steps(`{mirror: "0.25"}`), "mirror"},
		"MirrorInWords":         {steps("{mirror: all}"), "mirror"},
		"LastStepMirrors":       {"steps: [{weight: 5}, {mirror: 100%}]", "the last step must be 100"},
		"StepHold":              {steps("{weight: 5, hold: soon}"), "hold"},
		"StepReplicas":          {steps("{weight: 5, replicas: 0}"), "replicas"},
		"StepGate":              {"gates: [{name: g, manual: {}}]\n" + steps("{weight: 5, gates: [g]}"), ""},
		"StepGateOfNobody":      {"gates: [{name: g, manual: {}}]\n" + steps("{weight: 5, gates: [h]}"), "names a gate that is none of gates"},
		"StepGateWithoutGates":  {steps("{weight: 5, gates: [h]}"), "names a gate that is none of gates"},
		"Pause":                 {steps("{weight: 5, pause: {}}, {weight: 10, pause: {timeout: 1h, onTimeout: abort}}"), ""},
		"StepGateOfTheSteps":    {`gates: [{name: g, at: steps, webhook: {url: "http://x"}}]` + "\n" + steps("{weight: 5, gates: [g]}"), ""},
		"StepGateOfTheStart":    {`gates: [{name: g, at: start, webhook: {url: "http://x"}}]` + "\n" + steps("{weight: 5, gates: [g]}"), "asked at the start, before any step"},
		"PauseWithoutTime":      {steps("{weight: 5, pause: {timeout: 0s}}"), "a timeout must be more than 0s"},
		"PauseEnd":              {steps("{weight: 5, pause: {onTimeout: ask}}"), "onTimeout"},
		"Session":               {session(""), ""},
		"SessionOfItsOwn":       {session(`cookie: __Host-shop, maxAge: 90s, attributes: "Path=/; Secure"`), ""},
		"CookieWithABlank":      {session(`cookie: "my cookie"`), "cookie"},
		"CookieWithAnEqualSign": {session(`cookie: "a=b"`), "cookie"},
		"CookieWithAVariable":   {session(`cookie: "a%b"`), "cookie"},
		"NoAge":                 {session("maxAge: 0s"), "at least 1s"},
		"AgeInAttributes":       {session(`attributes: "Path=/; max-age=5"`), "leave out Max-Age and Expires"},
		"ExpiryInAttributes":    {session(`attributes: "Expires=Wed, 21 Oct 2026 07:28:00 GMT"`), "leave out Max-Age and Expires"},
		"VariableInAttributes":  {session(`attributes: "Path=/%REQ(x)%"`), "attributes"},
		"LineInAttributes":      {session(`attributes: "Path=/\nx: y"`), "attributes"},
		"RollbackWindow":        {"rollbackWindow: {revisions: 10}", ""},
		"NoRevisions":           {"rollbackWindow: {}", "revisions"},
		"ZeroRevisions":         {"rollbackWindow: {revisions: 0}", "revisions"},
		"ManyRevisions":         {"rollbackWindow: {revisions: 11}", "revisions"},
		"Preview":               {"preview: {}", ""},
		"PreviewHost":           {"hosts: [shop.example.com]\npreview: {host: preview.example.com}", ""},
		"PreviewHostAlone":      {"preview: {host: preview.example.com}", "preview.host needs hosts"},
		"PreviewHostOfUsers":    {"hosts: [shop.example.com]\npreview: {host: shop.example.com}", "choose another one"},
		"PreviewHosts":          {"hosts: [shop.example.com]\npreview: {host: '*.example.com'}", "preview.host"},
		"AttachedSession":       {"routing: {virtualService: {name: mine}}\n" + session(""), "attaches to routes of yours"},
		"AttachedMirror":        {"routing: {virtualService: {name: mine}}\n" + steps("{mirror: 5%}"), "attaches to routes of yours"},
		"AttachedMatchWeight":   {"routing: {virtualService: {name: mine}}\n" + steps("{weight: 5, match: [{uri: {prefix: /b}}]}"), "attaches to routes of yours"},
		"GatewayMatchWeight":    {"routing: {api: gateway}\n" + steps("{weight: 5, match: [{uri: {prefix: /b}}]}"), "leave"},
		"AttachedTest":          {"routing: {virtualService: {name: mine}}\nstrategy: ab-test\n" + group, "attaches to routes of yours"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			bothJudge(t, api, shiftOf(t, ns, "strategies-"+strings.ToLower(name), tc.spec), tc.want)
		})
	}
}

// Gates say what to ask with other people's services: what the types' own rules refuse, the API server refuses as well.
func TestTheAPIServerRefusesMistakesInGates(t *testing.T) {
	api, ns := testenv.Namespace(t)
	query := func(s string) string { return "{name: g, query: {promql: up, " + s + "}}" }
	webhook := func(s string) string { return "{name: g, webhook: {" + s + "}}" }
	manual := func(s string) string { return "{name: g, manual: {" + s + "}}" }
	tests := map[string]struct{ gates, want string }{
		"OneOfEach":      {`{name: a, query: {promql: up, min: "1"}}, {name: b, webhook: {url: "https://gate.shop/ask"}}, {name: c, manual: {}}`, ""},
		"NameTwice":      {`{name: c, manual: {}}, {name: c, manual: {}}`, "Duplicate"},
		"Name":           {`{name: C, manual: {}}`, "name"},
		"BuiltIn":        {`{name: latency, manual: {}}`, "is the name of a built-in gate"},
		"NoKind":         {`{name: c}`, "exactly one of query, webhook and manual"},
		"TwoKinds":       {`{name: c, manual: {}, webhook: {url: "http://x"}}`, "exactly one of query, webhook and manual"},
		"DryPerson":      {`{name: c, dryRun: true, manual: {}}`, "a person is asked"},
		"AtTheStart":     {`{name: a, at: start, query: {promql: up, min: "1"}}, {name: b, at: start, dryRun: true, webhook: {url: "http://x"}}, {name: c, at: steps, manual: {}}`, ""},
		"StartOfAPerson": {`{name: c, at: start, manual: {}}`, "says in before when it is asked"},
		"AtTheEnd":       {`{name: c, at: end, webhook: {url: "http://x"}}`, "at"},
		"NoBound":        {query(`window: 1m`), "a query needs min or max"},
		"NoPromQL":       {`{name: g, query: {min: "1"}}`, "promql"},
		"NumberIsText":   {query(`min: 0.95`), "must be of type string"},
		"MinAboveMax":    {query(`min: "0.2", max: "1e-1"`), "min must not be above max"},
		"MinIsMax":       {query(`min: "0.1", max: "1e-1"`), ""},
		"Infinite":       {query(`max: "1e999"`), "spec.gates[0].query"},
		"NoWindow":       {query(`min: "1", window: 0s`), "a window must be more than 0s"},
		"NoData":         {query(`min: "1", noData: ignore`), "noData"},
		"NoFailures":     {query(`min: "1", failures: 0`), "failures"},
		"ManyFailures":   {query(`min: "1", failures: 101`), "failures"},
		"NoURL":          {webhook(`timeout: 5s`), "url"},
		"URLScheme":      {webhook(`url: "ftp://x/"`), "url"},
		"URLOnlyPort":    {webhook(`url: "http://:80/ask"`), "a url must be http://HOST"},
		"URLUser":        {webhook(`url: "http://me:secret@x/ask"`), "url"},
		"URLBadPort":     {webhook(`url: "http://x:port/"`), "a url must be http://HOST"},
		"URLFragment":    {webhook(`url: "http://x/#ask"`), "url"},
		"URLIPv6":        {webhook(`url: "https://[2001:db8::1]:8443/ask?at=a@b"`), ""},
		"NoTimeout":      {webhook(`url: "http://x", timeout: 0s`), "a timeout must be more than 0s and at most 1m"},
		"LongTimeout":    {webhook(`url: "http://x", timeout: 61s`), "a timeout must be more than 0s and at most 1m"},
		"Interval":       {webhook(`url: "http://x", interval: 500ms`), "an interval must be at least 1s"},
		"Retries":        {webhook(`url: "http://x", retries: -1`), "retries"},
		"ManyRetries":    {webhook(`url: "http://x", retries: 11`), "retries"},
		"OnError":        {webhook(`url: "http://x", onError: pass`), "onError"},
		"Before":         {manual(`before: "0.5%"`), ""},
		"BeforeTooFine":  {manual(`before: "0.05%"`), "at most one decimal"},
		"BeforeNothing":  {manual(`before: "0"`), "above 0%"},
		"BeforeTooMuch":  {manual(`before: "101"`), "before"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			u := shiftOf(t, ns, "gates-"+strings.ToLower(name), "gates: ["+tc.gates+"]")
			err := api.Create(t.Context(), u)
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("error %v; want a refusal that says %q", err, tc.want)
			}
			if err != nil {
				return
			}
			var read v1alpha1.TrafficShift
			if err := api.Get(t.Context(), client.ObjectKeyFromObject(u), &read); err != nil {
				t.Fatalf("what is accepted does not decode: %v", err)
			}
			filled := *read.Spec.DeepCopy()
			filled.Default()
			if errs := filled.Validate(nil); len(errs) > 0 {
				t.Errorf("what the API server accepts is refused later: %v", errs)
			}
			if diff := cmp.Diff(filled.Gates, read.Spec.Gates); diff != "" {
				t.Errorf("gates (-Default +read):\n%s", diff)
			}
		})
	}
}

// What the schema lets through and the types cannot hold is worse than a mistake: one such object breaks every list of TrafficShifts,
// and with it the controller of the whole cluster.
func TestTheAPIServerRefusesWhatTheTypesCannotHold(t *testing.T) {
	api, ns := testenv.Namespace(t)
	for name, spec := range map[string]string{
		"hold": "hold: soon", "bake": "bake: 5", "deadline": "deadline: 1 week", "below": `maxLatency: {percentile: "99", below: fast}`,
		"number": "steps: [{weight: 101}, {weight: 100}]", "negative-number": "steps: [{weight: -5}, {weight: 100}]",
		"replicas": "replicas: 3000000000", "below-long": `maxLatency: {percentile: "99", below: 99999999999999999999h}`, "hold-long": "hold: 99999999h",
		"failed": "maxFailedRequests: 3000000000", "window": `gates: [{name: g, query: {promql: up, min: "1", window: 1 week}}]`,
		"window-long": `gates: [{name: g, query: {promql: up, min: "1", window: 99999999h}}]`,
		"failures":    `gates: [{name: g, query: {promql: up, min: "1", failures: 3000000000}}]`,
		"timeout":     `gates: [{name: g, webhook: {url: "http://x", timeout: 5}}]`, "interval": `gates: [{name: g, webhook: {url: "http://x", interval: soon}}]`,
		"retries": `gates: [{name: g, webhook: {url: "http://x", retries: 1.5}}]`, "before": "gates: [{name: g, manual: {before: 50}}]",
	} {
		t.Run(name, func(t *testing.T) {
			u := shiftOf(t, ns, name, spec)
			if err := api.Create(t.Context(), u); err == nil {
				t.Errorf("%q is accepted", spec)
				_ = api.Delete(t.Context(), u)
			}
		})
	}
}

func TestNamesThatLeaveNoRoomForAVersionAreRefused(t *testing.T) {
	api, ns := testenv.Namespace(t)
	if err := api.Create(t.Context(), shiftOf(t, ns, strings.Repeat("x", 52), "")); err != nil {
		t.Errorf("52 characters: %v", err)
	}
	if err := api.Create(t.Context(), shiftOf(t, ns, strings.Repeat("x", 53), "")); err == nil || !strings.Contains(err.Error(), "at most 52 characters") {
		t.Errorf("53 characters: %v; want a refusal that says how many there may be", err)
	}
}

func TestDefaultsAreSeenByWhoReadsTheObject(t *testing.T) {
	api, ns := testenv.Namespace(t)
	if err := api.Create(t.Context(), shiftOf(t, ns, "micro-api", "replicas: 3")); err != nil {
		t.Fatal(err)
	}
	var got v1alpha1.TrafficShift
	if err := api.Get(t.Context(), types.NamespacedName{Namespace: ns, Name: "micro-api"}, &got); err != nil {
		t.Fatal(err)
	}
	three := int32(3)
	want := v1alpha1.TrafficShiftSpec{Replicas: &three}
	want.Default()
	want.Pacing, want.Hold = "", nil // which depend on whether there are steps: no static default can say them
	if diff := cmp.Diff(want, got.Spec); diff != "" {
		t.Errorf("spec (-Default +read):\n%s", diff)
	}
}

// An autoscaler, or kubectl scale, points at the TrafficShift.
func TestTheScaleSubresourceWorks(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	ts, scale := c.shift(), &autoscalingv1.Scale{}
	if err := c.SubResource("scale").Get(t.Context(), ts, scale); err != nil {
		t.Fatal(err)
	}
	want := autoscalingv1.ScaleStatus{Replicas: 3, Selector: "sluice.dev/version in (micro-api-v1)"}
	if diff := cmp.Diff(want, scale.Status); diff != "" || scale.Spec.Replicas != 3 {
		t.Errorf("scale: %d wished, status (-want +got):\n%s", scale.Spec.Replicas, diff)
	}
	scale.Spec.Replicas = 5
	if err := c.SubResource("scale").Update(t.Context(), ts, client.WithSubResourceBody(scale)); err != nil {
		t.Fatal(err)
	}
	c.pass()
	if diff := cmp.Diff([]string{"micro-api 0", "micro-api-v1 5"}, c.deploymentSizes()); diff != "" {
		t.Errorf("Deployments (-want +got):\n%s", diff)
	}
}

func TestKubectlGetShowsWhereAShiftStands(t *testing.T) {
	api, _ := testenv.Namespace(t)
	crd := &unstructured.Unstructured{}
	crd.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
	if err := api.Get(t.Context(), types.NamespacedName{Name: "trafficshifts.sluice.dev"}, crd); err != nil {
		t.Fatal(err)
	}
	versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	version, _ := versions[0].(map[string]any)
	columns, _, _ := unstructured.NestedSlice(version, "additionalPrinterColumns")
	var got []string
	for _, column := range columns {
		c, _ := column.(map[string]any)
		name, _ := c["name"].(string)
		got = append(got, name)
	}
	if diff := cmp.Diff([]string{"Phase", "Step", "Weight", "Observed", "Stable", "Candidate", "Age", "Why"}, got); diff != "" {
		t.Errorf("columns (-want +got):\n%s", diff)
	}
	short, _, _ := unstructured.NestedStringSlice(crd.Object, "spec", "names", "shortNames")
	if diff := cmp.Diff([]string{"tshift"}, short); diff != "" {
		t.Errorf("short names (-want +got):\n%s", diff)
	}
}

// TestPreviewHostsAreHeldTwice holds the schema and the controller to the same hosts: what one lets through the other must not refuse.
func TestPreviewHostsAreHeldTwice(t *testing.T) {
	api, ns := testenv.Namespace(t)
	longest := strings.Repeat("a", 56) // and v999999 beside it
	for name, tc := range map[string]struct{ host, hosts, want string }{
		"WholeLabel":        {"{{version}}.preview.example.com", "shop.example.com", ""},
		"PartOfALabel":      {"shop-{{version}}.example.com", "shop.example.com", ""},
		"BeforeAPart":       {"{{version}}-shop.example.com", "shop-v1.example.com", ""},
		"Longest":           {longest + "{{version}}.example.com", "shop.example.com", ""},
		"TooLong":           {longest + "a{{version}}.example.com", "shop.example.com", "63 characters"},
		"Alone":             {"{{version}}", "shop.example.com", "preview.host"},
		"SecondLabel":       {"shop.{{version}}.example.com", "shop.example.com", "preview.host"},
		"Twice":             {"{{version}}-{{version}}.example.com", "shop.example.com", "preview.host"},
		"TwiceInTwo":        {"{{version}}.{{version}}.example.com", "shop.example.com", "preview.host"},
		"AnotherPlace":      {"{{candidate}}.example.com", "shop.example.com", "preview.host"},
		"Spaces":            {"{{ version }}.example.com", "shop.example.com", "preview.host"},
		"BeginsWithAHyphen": {"-{{version}}.example.com", "shop.example.com", "preview.host"},
		"EndsInAHyphen":     {"{{version}}-.example.com", "shop.example.com", "preview.host"},
		"NoHosts":           {"{{version}}.example.com", "", "needs hosts"},
		"OfUsers":           {"shop-{{version}}.example.com", "shop.example.com, shop-v12.example.com", "choose another one"},
		"NearUsers":         {"shop-{{version}}.example.com", "shop-v0.example.com, shop-vx.example.com, shop-v1xexample.com", ""},
	} {
		t.Run(name, func(t *testing.T) {
			u := shiftOf(t, ns, "preview-"+strings.ToLower(name), "preview: {host: '"+tc.host+"'}\nhosts: ["+tc.hosts+"]")
			var read v1alpha1.TrafficShift
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &read); err != nil {
				t.Fatal(err)
			}
			read.Spec.Default()
			for who, err := range map[string]error{"the schema": api.Create(t.Context(), u), "the controller": validated(&read.Spec).ToAggregate()} {
				switch {
				case tc.want == "" && err != nil:
					t.Errorf("%s refuses it: %v", who, err)
				case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
					t.Errorf("%s says %v; want a refusal that says %q", who, err, tc.want)
				}
			}
		})
	}
}
