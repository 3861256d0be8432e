package shim

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	sluice "github.com/sluice-dev/sluice/api/v1alpha1"
)

// What the shim alone refuses: the admission policy cannot read it. The message names the annotation, the path in it, the value, and what
// is accepted.
func TestSpecValues(t *testing.T) {
	const at = "metadata.annotations[sluice.dev/spec]"
	for name, tc := range map[string]struct{ spec, want string }{
		"NotYAML":       {"hold: [", at + `: Invalid value: "hold: [": it cannot be read: `},
		"KeyTwice":      {"hold: 1m\nhold: 2m", `key "hold" already set in map; accepted: YAML or JSON of fields of a TrafficShift's spec`},
		"TwoDocuments":  {"hold: 1m\n---\nbake: 1m", "it has more than one document; accepted: "},
		"AfterTheEnd":   {"hold: 1m\n...\nbake: 1m", "it has more than one document; accepted: "},
		"List":          {"[{hold: 1m}]", "it is not an object; accepted: "},
		"Null":          {"session: null", at + `.session: Invalid value: "null": accepted: a value; leave the field out to say nothing`},
		"NullWithin":    {"trafficPolicy: {tls: [null]}", at + `.trafficPolicy.tls[0]: Invalid value: "null": accepted: a value`},
		"OtherCase":     {"Hold: 1m", at + `.Hold: Invalid value: "1m": no such field; did you mean hold?`},
		"UnknownInStep": {"steps: [{weight: 100, weigth: 5}]", at + `.steps[0].weigth: Invalid value: 5: no such field; did you mean weight?`},
		"NotAnObject":   {"trafficPolicy: fast", at + `.trafficPolicy: Invalid value: "fast": accepted: an object`},
		"NotAList":      {"hosts: a.example.com", at + `.hosts: Invalid value: "a.example.com": accepted: a list`},
		"NotABoolean":   {"suspend: soon", at + `.suspend: Invalid value: "soon": accepted: true or false`},
		"TooMuch":       {"minRequests: 3000000000", at + `.minRequests: Invalid value: 3000000000: accepted: a whole number`},
		"NumberForText": {"maxErrorRate: 1", at + `.maxErrorRate: Invalid value: 1: accepted: text: put it in quotes`},
		"Days":          {"bake: 1d", at + `.bake: Invalid value: "1d": accepted: a duration, such as "90s" or "1h30m"`},
		"Replicas":      {"replicas: 3", at + `.replicas: Invalid value: 3: is not taken from here: write sluice.dev/replicas`},
		"Actions":       {"actions: {abort: v2}", at + `.actions: Invalid value: "{\"abort\":\"v2\"}": is not taken from here`},
		"Strategy":      {"strategy: canary", at + `.strategy: Invalid value: "canary": sluice.dev/strategy says it as well; accepted: one of the two`},
		"BuiltInGate":   {"gates: [{name: latency, manual: {}}]", at + `.gates[0].name: Invalid value: "latency": is the name of a built-in gate`},
		"FieldOfOurs":   {"routing: {http: {route: []}}", at + `.routing.http.route: Invalid value: "[]": is what Sluice itself writes; accepted: corsPolicy`},
		"AutoAndSteps":  {"pacing: auto\nsteps: [{weight: 100}]", at + `.steps: Invalid value: "[{\"weight\":100}]": pacing auto chooses the weights itself`},
		"NotForGateway": {"routing: {api: gateway, delegate: true}", at + `.routing.delegate: Invalid value: true: routes of the Gateway API have no delegates`},
	} {
		t.Run(name, func(t *testing.T) {
			_, errs := Translate(map[string]string{sluice.AnnotationStrategy: "canary", sluice.AnnotationSpec: tc.spec})
			if text := errs.ToAggregate(); text == nil || !strings.Contains(text.Error(), tc.want) {
				t.Errorf("errors: %v\nwant one that says: %s", text, tc.want)
			}
			for _, p := range problemsOf(deployment(), errs) {
				if p.reason != sluice.ReasonInvalidAnnotation {
					t.Errorf("reason %s of %s", p.reason, p.note)
				}
			}
		})
	}
}

// What somebody else may write on the TrafficShift is not missed here: the API server sees both.
func TestSpecLeavesTheRestToOthers(t *testing.T) {
	for name, spec := range map[string]string{
		"Hosts":        "gateways: [infra/public]",
		"PreviewHosts": "preview: {host: p.example.com}",
		"GatewayTLS":   "httpsRedirect: false",
		"Gate":         "steps: [{weight: 5, gates: [theirs]}, {weight: 100}]",
		"Percentile":   `maxLatency: {percentile: "99"}`,
	} {
		if _, errs := Translate(map[string]string{sluice.AnnotationStrategy: "canary", sluice.AnnotationSpec: spec}); len(errs) > 0 {
			t.Errorf("%s: %v", name, errs)
		}
	}
}

// A key with a bad value of its own is told of alone: nothing is held against fields that may be right with the mended one.
func TestSpecBesideAMistake(t *testing.T) {
	_, errs := Translate(map[string]string{sluice.AnnotationStrategy: "ab", sluice.AnnotationSpec: "abTest: {match: [{headers: {a: {exact: b}}}]}"})
	if len(errs) != 1 || errs[0].Field != "metadata.annotations[sluice.dev/strategy]" {
		t.Errorf("errors: %v", errs)
	}
}

func TestSpecWithoutStrategy(t *testing.T) {
	if _, errs := Translate(map[string]string{sluice.AnnotationSpec: "hold: 1m"}); len(errs) != 1 || !strings.Contains(errs[0].Error(), `without it these do nothing: sluice.dev/spec="hold: 1m"`) {
		t.Errorf("errors: %v", errs)
	}
}

// Many and long mistakes still fit into an event and an annotation.
func TestSpecErrorsAreBrief(t *testing.T) {
	var spec strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&spec, "%s%d: %s\n", strings.Repeat("x", 100), i, strings.Repeat("y", 100))
	}
	_, errs := Translate(map[string]string{sluice.AnnotationStrategy: "canary", sluice.AnnotationSpec: spec.String()})
	if text := errs.ToAggregate().Error(); len(errs) != 10 || len(text) > 10_000 {
		t.Errorf("%d errors of %d bytes", len(errs), len(text))
	}
}

// Every type within a spec is one that checkForm knows: a field of another one could not be written.
func TestEveryFieldHasAForm(t *testing.T) {
	seen := map[reflect.Type]bool{}
	var walk func(reflect.Type, string)
	walk = func(of reflect.Type, path string) {
		switch of.Kind() {
		case reflect.Pointer, reflect.Slice:
			if of != rawType {
				walk(of.Elem(), path)
			}
		case reflect.Struct:
			if of == durationType || of == rawType || of == weightType || seen[of] {
				return
			}
			seen[of] = true
			for name, inner := range fieldsOf(of) {
				if name == "" || name == "-" {
					t.Errorf("%s has a field without a name", path)
				}
				walk(inner, path+"."+name)
			}
		case reflect.String, reflect.Bool, reflect.Int, reflect.Int32, reflect.Int64:
		default:
			t.Errorf("%s is a %s", path, of)
		}
	}
	walk(specType, "spec")
	if len(seen) < 10 {
		t.Errorf("only %d structs seen", len(seen))
	}
}

// A spec, written as the annotation, means the same spec.
func roundTrip(spec *sluice.TrafficShiftSpec) error {
	want := spec.DeepCopy()
	want.Replicas, want.Actions = nil, nil // which have their own places
	said := asMap(want)
	delete(said, "strategy")
	raw, err := yaml.Marshal(said)
	if err != nil {
		return err
	}
	text, err := json.Marshal(said)
	if err != nil {
		return err
	}
	for _, form := range []string{string(raw), string(text)} {
		fields, errs := Translate(map[string]string{sluice.AnnotationStrategy: string(want.Strategy), sluice.AnnotationSpec: form})
		if len(errs) > 0 {
			return fmt.Errorf("%s: %w", form, errs.ToAggregate())
		}
		got, err := fields.spec()
		if err != nil {
			return err
		}
		if diff := cmp.Diff(asMap(want), asMap(got)); diff != "" {
			return fmt.Errorf("%s (-want +got):\n%s", form, diff)
		}
	}
	return nil
}

func TestEverySpecOfTheExamplesIsAnAnnotation(t *testing.T) {
	files, err := filepath.Glob("../../examples/*/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for document := range strings.SplitSeq(string(raw), "\n---\n") {
			ts := &sluice.TrafficShift{}
			u := &unstructured.Unstructured{}
			if err := yaml.Unmarshal([]byte(document), &u.Object); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			if u.GetKind() != "TrafficShift" {
				continue
			}
			found++
			if err := yaml.UnmarshalStrict([]byte(document), ts); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			if ts.Spec.Strategy == "" {
				ts.Spec.Strategy = sluice.StrategyCanary
			}
			if err := roundTrip(&ts.Spec); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
	if found == 0 {
		t.Error("no example has a TrafficShift")
	}
}

// TestEveryFieldIsReachable holds "everything is reachable by both": a spec with every field of a strategy is one that the annotation says.
func TestEveryFieldIsReachable(t *testing.T) {
	common := `
policy: standard
hold: 90s
maxErrorRate: 2%
maxIncrease: 0.3%
maxLatency: {percentile: "99.9", below: 500ms}
minRequests: 7
maxFailedRequests: 9
gates:
- {name: a, query: {promql: up, min: "0", max: "1e3", window: 2m, noData: fail, failures: 3}}
- {name: b, dryRun: true, webhook: {url: "https://a.example.com/x", timeout: 1s, retries: 1, interval: 20s, onError: fail}}
- {name: c, manual: {before: "50"}}
reporter: source
prometheus: team-a
service: svc
capacity: proportional
drain: 10s
readyThreshold: 80%
keepRejected: 1h
minReplicas: 2
autoscaler: follow
configTracking: true
deadline: 1h
bake: 3m
paused: true
suspend: true
skipAnalysis: true
rollbackWindow: {revisions: 3}
trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}
`
	reached := map[string]bool{"strategy": true, "replicas": true, "actions": true} // each has its own key, on one of the two objects
	for name, spec := range map[string]string{
		"Canary": `
strategy: canary
pacing: ladder
steps:
- {match: [{headers: {x: {exact: "yes"}}}], hold: 1m, pause: {timeout: 1h, onTimeout: abort}, gates: [a]}
- {mirror: 10%, replicas: 2}
- {weight: "0.5"}
- {weight: 100}
hosts: [a.example.com, "*.b.example.com"]
gatewayTLS: {mode: SIMPLE, credentialName: shop-tls, minProtocolVersion: TLSV1_2}
httpsRedirect: false
session: {cookie: c, maxAge: 1h, attributes: Path=/; Secure}
preview: {host: p.example.com}
routing: {delegate: true, http: {timeout: 5s, corsPolicy: {allowMethods: [GET]}, fault: {abort: {httpStatus: 500, percentage: {value: 0.1}}}}}
`,
		"AttachedToSeveral": "strategy: canary\nrouting: {virtualServices: [{name: front, routes: [main]}, {name: internal}]}",
		"Attached":          "strategy: canary\nrouting: {api: istio, virtualService: {name: shop, routes: [main]}}",
		"Test":              "strategy: ab-test\nabTest: {match: [{queryParams: {a: {exact: b}}}], duration: 48h, conclude: decide}",
		"Even":              "strategy: canary\nduration: 30m\nhosts: [a.example.com]\ngateways: [infra/public]",
	} {
		t.Run(name, func(t *testing.T) {
			var written sluice.TrafficShiftSpec
			text := spec + "\n" + common
			if name == "Even" { // in whose place duration stands
				text = strings.Replace(text, "hold: 90s\n", "\n", 1)
			}
			if err := yaml.UnmarshalStrict([]byte(text), &written); err != nil {
				t.Fatal(err)
			}
			if err := roundTrip(&written); err != nil {
				t.Error(err)
			}
			for field := range asMap(&written) {
				reached[field] = true
			}
		})
	}
	for field := range fieldsOf(specType) {
		if !reached[field] {
			t.Errorf("no spec of this test has the field %s", field)
		}
	}
}

// TestSpecMeansWhatItSays draws specs, and parts of them said by the other keys.
func TestSpecMeansWhatItSays(t *testing.T) {
	percent := rapid.SampledFrom([]sluice.Percent{"", "1%", "0.5", "20.0%"})
	text := rapid.StringMatching(`[a-zA-Z0-9:#{}\[\],&*!|>'"%@\x60 .-]{0,12}`)
	rapid.Check(t, func(t *rapid.T) {
		s := &sluice.TrafficShiftSpec{Strategy: sluice.StrategyCanary, MaxErrorRate: percent.Draw(t, "rate"), Paused: rapid.Bool().Draw(t, "paused")}
		if rapid.Bool().Draw(t, "hold") {
			s.Hold = &metav1.Duration{Duration: time.Duration(rapid.Int64Range(0, 99999*3600).Draw(t, "seconds")) * time.Second}
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "gates") {
			s.Gates = append(s.Gates, sluice.Gate{Name: fmt.Sprint("g", i), Query: &sluice.QueryGate{PromQL: "x" + text.Draw(t, "promql"), Min: "1"}})
		}
		if rapid.Bool().Draw(t, "policy") {
			raw, err := json.Marshal(map[string]any{"x": map[string]any{text.Draw(t, "key") + ".y": text.Draw(t, "value"), "n": rapid.Int32().Draw(t, "n")}, "f": []any{0.25, text.Draw(t, "item")}})
			if err != nil {
				t.Fatal(err)
			}
			s.TrafficPolicy = &apiextensionsv1.JSON{Raw: raw}
		}
		if err := roundTrip(s); err != nil {
			t.Fatal(err)
		}
	})
}

// A field with parts that an annotation and the spec share.
func TestSpecBesideOtherKeys(t *testing.T) {
	in := map[string]string{sluice.AnnotationStrategy: "canary", sluice.AnnotationSession: "1h", sluice.AnnotationPreview: "true", sluice.AnnotationHosts: "a.example.com"}
	fields, errs := Translate(withSpec(in, "session: {attributes: Secure}\npreview: {host: p.example.com}"))
	want := Fields{
		"strategy": "canary", "hosts": []any{"a.example.com"}, "session": map[string]any{"maxAge": "1h0m0s", "attributes": "Secure"}, "preview": map[string]any{"host": "p.example.com"},
	}
	if diff := cmp.Diff(want, fields); diff != "" || len(errs) > 0 {
		t.Errorf("%v (-want +got):\n%s", errs, diff)
	}
	in[sluice.AnnotationSession] = "false"
	if _, errs := Translate(withSpec(in, "session: {attributes: Secure}")); len(errs) != 1 || !strings.Contains(errs[0].Error(), "sluice.dev/session says it as well") {
		t.Errorf("none, and some: %v", errs)
	}
}

func withSpec(in map[string]string, spec string) map[string]string {
	out := maps.Clone(in)
	out[sluice.AnnotationSpec] = spec
	return out
}

func TestHolds(t *testing.T) {
	for name, tc := range map[string]struct {
		live, want string
		holds      bool
	}{
		"Defaults":     {`{a: [{name: x, b: 1, c: 2}]}`, `{a: [{name: x, b: 1}]}`, true},
		"OtherItem":    {`{a: [{name: y}, {name: x}]}`, `{a: [{name: x}]}`, true},
		"ItemIsGone":   {`{a: [{name: y}]}`, `{a: [{name: x}]}`, false},
		"OtherText":    {`{a: [p, q]}`, `{a: [q]}`, true},
		"TextIsGone":   {`{a: [p]}`, `{a: [q]}`, false},
		"OtherOrder":   {`{a: [{w: 2}, {w: 1}]}`, `{a: [{w: 1}, {w: 2}]}`, false},
		"MoreSteps":    {`{a: [{w: 1}, {w: 2}]}`, `{a: [{w: 1}]}`, false},
		"OtherValue":   {`{a: {b: 1}}`, `{a: {b: 2}}`, false},
		"ValueIsGone":  {`{a: {}}`, `{a: {b: 2}}`, false},
		"ObjectIsGone": {`{}`, `{a: {}}`, false},
		"Beside":       {`{a: {b: 1, c: 2}, d: 3}`, `{a: {b: 1}}`, true},
	} {
		t.Run(name, func(t *testing.T) {
			var live, want any
			for text, into := range map[string]*any{tc.live: &live, tc.want: &want} {
				if err := yaml.Unmarshal([]byte(text), into); err != nil {
					t.Fatal(err)
				}
			}
			if got := holds(live, want); got != tc.holds {
				t.Errorf("holds(%s, %s) = %t", tc.live, tc.want, got)
			}
		})
	}
}

// In the cluster: what the annotation says is applied once, owned field by field, and goes with it; a mistake loses nothing.
func TestSpecInTheCluster(t *testing.T) {
	c := start(t)
	c.create("replicas: 3", "strategy: canary", "hold: 90s", `spec: "{trafficPolicy: {connectionPool: {tcp: {maxConnections: 10}}}, gates: [{name: a, query: {promql: up, min: '0'}}], `+
		`steps: [{match: [{headers: {x.y: {exact: z}}}]}, {weight: 100, pause: {}}], session: {attributes: Path=/}, hosts: [b.example.com, a.example.com]}"`)
	const named = "gates hold hosts session.attributes steps strategy trafficPolicy.connectionPool.tcp.maxConnections"
	c.want(named, c.named)
	c.want(`3, seen ""`, c.replicas)
	version := func() string { return c.shift().ResourceVersion }
	at := version()
	c.annotate(`held: "true"`) // wakes the shim
	c.stays(at, version)
	s := c.shift()
	d := &appsv1.Deployment{}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(s), d); err != nil {
		t.Fatal(err)
	}
	if fields, errs := Translate(d.Annotations); len(errs) > 0 || !settled(d, s, fields) {
		t.Errorf("the shim would apply for ever: %v, %+v", errs, s.Spec)
	}
	if s.Spec.Gates[0].Query.Window == nil || s.Spec.Session.MaxAge == nil || len(s.Spec.Steps) != 2 {
		t.Errorf("the spec, or its defaults: %+v", s.Spec)
	}

	// Somebody's own gate and host stay beside, and an edit of ours is put back.
	c.applyShift("kubectl", nil, map[string]any{"gates": []any{map[string]any{"name": "b", "manual": map[string]any{}}}, "hosts": []any{"c.example.com"}})
	was := c.shift()
	edited := was.DeepCopy()
	edited.Spec.TrafficPolicy.Raw = []byte(`{"connectionPool": {"tcp": {"maxConnections": 99}}}`)
	if err := c.Patch(t.Context(), edited, client.MergeFrom(was), client.FieldOwner("kubectl-edit")); err != nil {
		t.Fatal(err)
	}
	state := func() string {
		s := c.shift()
		return fmt.Sprintf("%d gates, %d hosts, %s, %s", len(s.Spec.Gates), len(s.Spec.Hosts), s.Spec.Hold.Duration, s.Spec.TrafficPolicy.Raw)
	}
	const kept = `2 gates, 3 hosts, 1m30s, {"connectionPool":{"tcp":{"maxConnections":10}}}`
	c.stays(kept, state)
	c.stays("", c.reasons)

	// What the shim refuses, and what only the API server can.
	for i, bad := range []string{"{hold: 5m}", "{maxLatency: {percentile: '99'}}", "{trafficPolicy: {connectionPool: 1}, nonsense: 1}"} {
		c.annotate(`spec: "` + bad + `"`)
		c.want(strings.TrimPrefix(strings.Repeat(", Warning InvalidAnnotation", i+1), ", "), c.reasons)
		c.stays(kept, state)
		if c.shift().Annotations[sluice.AnnotationInvalid] == "" {
			t.Errorf("%s is not told on the TrafficShift", bad)
		}
	}
	if note := c.events.all()[1]; !strings.Contains(note, "spec.maxLatency.below") {
		t.Errorf("the API server's refusal does not name the field: %s", note)
	}

	// Without it the fields go, and those of others stay.
	c.annotate("spec: null")
	c.want("hold strategy", c.named)
	if s := c.shift(); len(s.Spec.Gates) != 1 || s.Spec.Gates[0].Name != "b" || len(s.Spec.Hosts) != 1 || s.Spec.TrafficPolicy != nil && string(s.Spec.TrafficPolicy.Raw) != "{}" || s.Spec.Steps != nil {
		t.Errorf("what is left: %+v", s.Spec)
	}
	c.want("", func() string { return c.shift().Annotations[sluice.AnnotationInvalid] })
}
