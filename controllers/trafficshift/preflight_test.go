package trafficshift

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

const virtualService = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: NAME}
spec:
  hosts: [HOST]
  GATEWAYS
  http: [{route: [{destination: {host: HOST}}]}]
`

const destinationRule = `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: NAME}
spec: {host: HOST, trafficPolicy: {connectionPool: {http: {http2MaxRequests: 7}}}}
`

// rival makes an object from a manifest: pairs of name and value.
func rival(manifest string, pairs ...string) string {
	return strings.NewReplacer(append(pairs, "GATEWAYS", "")...).Replace(manifest)
}

const fullHost = "micro-api.NS.svc.cluster.local"

// TestWhatStandsInTheWayIsSaidWithItsRemedy holds every reason not to accept a TrafficShift to the same promise: it is found before any
// traffic is touched, it is said in a condition and in one Warning event, and the message says what to do.
func TestWhatStandsInTheWayIsSaidWithItsRemedy(t *testing.T) {
	hosts := func(also string) string {
		return strings.Replace(trafficShift, "spec:", "spec:\n  hosts: [shop.example.com]\n"+also, 1)
	}
	routed := func(routing string) string {
		return strings.Replace(trafficShift, "spec:", "spec:\n  routing: {"+routing+"}", 1)
	}
	secureGateway := func(protocol, selector string) string {
		return "\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: theirs}\nspec:\n  selector: {" + selector + "}\n" +
			"  servers: [{port: {number: 443, name: s, protocol: " + protocol + "}, hosts: [OTHER/shop.example.com], tls: {mode: SIMPLE, credentialName: x}}]\n"
	}
	users := func(routes string) string {
		return "\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: theirs}\nspec:\n  hosts: [micro-api]\n  http: [" + routes + "]\n"
	}
	edit := func(pairs ...string) string { return strings.NewReplacer(pairs...).Replace(service) }
	alone := func(pairs ...string) string { d, _, _ := strings.Cut(edit(pairs...), "\n---\n"); return d }
	headless := `
apiVersion: v1
kind: Service
metadata: {name: micro-api-peers}
spec: {clusterIP: None, selector: {app: micro-api}, ports: [{name: http, port: 80}]}
`
	tests := map[string]struct {
		service, shift, also string
		elsewhere            string // in a namespace of its own
		reason               string
		remedy               []string // parts of the message
	}{
		"ConnectionRefused": {shift: strings.Replace(trafficShift, "spec:", "spec:\n  prometheus: tenant-a\n", 1), reason: v1alpha1.ReasonInvalidSpec,
			remedy: []string{"spec.prometheus", `"tenant-a"`, "accepted: default"}},
		"NoPromQL": {shift: strings.Replace(trafficShift, "spec:", "spec:\n  gates: [{name: mine, query: {promql: 'sum by ({{name}}) (up)', max: '1'}}]\n", 1),
			reason: v1alpha1.ReasonInvalidSpec, remedy: []string{"spec.gates[0].query.promql", `"mine"`, "1:9: {{name}} cannot stand here"}},
		"NoDeployment": {service: "-", reason: v1alpha1.ReasonDeploymentNotFound, remedy: []string{"NS/micro-api", "create it, or delete this TrafficShift"}},
		"SeveralServices": {also: edit("name: micro-api}\nspec:\n  selector", "name: other}\nspec:\n  selector")[strings.Index(service, "---")+4:],
			reason: v1alpha1.ReasonServiceAmbiguous, remedy: []string{"micro-api, other", "sluice.dev/service"}},
		"NamedServiceIsNotThere": {shift: strings.Replace(trafficShift, "spec:", "spec:\n  service: nope", 1),
			reason: v1alpha1.ReasonServiceUnsupported, remedy: []string{`"nope"`, "accepted: micro-api"}},
		"Headless": {service: edit("  selector: {app: micro-api}\n  ports: [{", "  clusterIP: None\n  selector: {app: micro-api}\n  ports: [{"),
			reason: v1alpha1.ReasonServiceUnsupported, remedy: []string{"headless", "use a ClusterIP Service"}},
		"HeadlessBeside": {also: headless, reason: v1alpha1.ReasonServiceAmbiguous, remedy: []string{"micro-api-peers", "sluice.dev/service"}},
		"PortSaysNothing": {service: edit("{name: http, port: 80, targetPort: http}", "{port: 81}"),
			reason: v1alpha1.ReasonPortUnsupported, remedy: []string{"port 81", `""`, "name it http", "tcp, tls"}},
		"OnePortIsUDP": {service: edit("{name: http, port: 80, targetPort: http}", "{name: http, port: 80}, {name: tcp-x, port: 53, protocol: UDP}"),
			reason: v1alpha1.ReasonPortUnsupported, remedy: []string{"port 53", `"tcp-x"`}},
		"OnePortSaysNothing": {service: edit("{name: http, port: 80, targetPort: http}", "{name: http, port: 80}, {name: metrics, port: 9090}"),
			reason: v1alpha1.ReasonPortUnsupported, remedy: []string{"port 9090", `"metrics"`}},
		"NoServiceAndNoPort": {service: alone("name: http, containerPort: 8080", "name: db, containerPort: 5432", "port: http", "port: db"),
			reason: v1alpha1.ReasonServiceUnsupported, remedy: []string{"none can be made", "name a container port http"}},
		"ServiceSelectsVersion": {service: edit("  selector: {app: micro-api}\n  ports", "  selector: {app: micro-api, version: blue}\n  ports"),
			reason: v1alpha1.ReasonServiceSelectsVersion, remedy: []string{"Service NS/micro-api", "remove it from the selector"}},
		"TemplateSetsVersion": {service: edit("version: blue", "sluice.dev/version: mine"),
			reason: v1alpha1.ReasonTemplateSetsVersion, remedy: []string{`"mine"`, "remove it"}},
		"HostClaimedInAnotherNamespace": {elsewhere: rival(virtualService, "NAME", "theirs", "HOST", fullHost),
			reason: v1alpha1.ReasonHostClaimed, remedy: []string{fullHost, "VirtualService OTHER/theirs", "remove or change"}},
		"HostClaimedByItsShortName": {also: rival(virtualService, "NAME", "theirs", "HOST", "micro-api"),
			reason: v1alpha1.ReasonHostClaimed, remedy: []string{"VirtualService NS/theirs (host micro-api)"}},
		"HostClaimedUnderTheNameOfOurHosts": {also: rival(virtualService, "NAME", "micro-api-hosts", "HOST", "micro-api"),
			reason: v1alpha1.ReasonHostClaimed, remedy: []string{"VirtualService NS/micro-api-hosts"}},
		"RuleHasAVersionsSubset": {also: rival(destinationRule, "NAME", "theirs", "HOST", "micro-api", "trafficPolicy", "subsets: [{name: v1}, {name: all}], trafficPolicy"),
			reason: v1alpha1.ReasonHostClaimed, remedy: []string{"DestinationRule NS/theirs: its subsets v1 have the names of versions", "rename or remove them"}},
		"RuleIsNotForEverybody": {also: rival(destinationRule, "NAME", "micro-api", "HOST", "micro-api", "trafficPolicy", "exportTo: [.], trafficPolicy"),
			reason: v1alpha1.ReasonHostClaimed, remedy: []string{"DestinationRule NS/micro-api: its exportTo (.)", "remove it"}},
		"RuleSelectsWorkloads": {also: rival(destinationRule, "NAME", "theirs", "HOST", fullHost, "trafficPolicy", "workloadSelector: {matchLabels: {a: b}}, trafficPolicy"),
			reason: v1alpha1.ReasonHostClaimed, remedy: []string{"DestinationRule NS/theirs: it has a workloadSelector", "remove it"}},
		"TwoTrafficPolicies": {shift: strings.Replace(trafficShift, "spec:", "spec:\n  trafficPolicy: {loadBalancer: {simple: RANDOM}}", 1),
			also:   rival(destinationRule, "NAME", "theirs", "HOST", "micro-api"),
			reason: v1alpha1.ReasonHostClaimed, remedy: []string{"DestinationRule NS/theirs: it has a trafficPolicy and so has the TrafficShift", "keep one"}},
		"HTTPFieldsAreNone": {shift: routed("http: {timeout: 5s, match: []}"),
			reason: v1alpha1.ReasonInvalidSpec, remedy: []string{"spec.routing.http.match", "is what Sluice itself writes; accepted: corsPolicy, fault"}},
		"HTTPFieldsHaveATypo": {shift: routed("http: {retries: {attempt: 3}}"),
			reason: v1alpha1.ReasonInvalidSpec, remedy: []string{"spec.routing.http.retries.attempt", `"attempts"`}},
		"TLSOfAFile": {shift: hosts("  gatewayTLS: {mode: SIMPLE, serverCertificate: /etc/tls.crt}"),
			reason: v1alpha1.ReasonInvalidSpec, remedy: []string{"spec.gatewayTLS.serverCertificate", "use credentialName"}},
		"TLSHostServedAlready": {shift: hosts("  gatewayTLS: {mode: SIMPLE, credentialName: shop-tls}"), elsewhere: secureGateway("HTTPS", "istio: ingressgateway, of: NS"),
			reason: v1alpha1.ReasonDuplicateTLSHost, remedy: []string{"Gateway OTHER/theirs: it serves shop.example.com on port 443", "sluice.dev/gateway", "take the host out of it"}},
		"TLSPortSpeaksHTTP": {shift: hosts("  gatewayTLS: {mode: SIMPLE, credentialName: shop-tls}"), elsewhere: strings.Replace(secureGateway("HTTP", "istio: ingressgateway, of: NS"), ", tls: {mode: SIMPLE, credentialName: x}", "", 1),
			reason: v1alpha1.ReasonDuplicateTLSHost, remedy: []string{"it speaks HTTP on port 443"}},
		"AttachedToNothing": {shift: routed("virtualService: {name: theirs}"),
			reason: v1alpha1.ReasonVirtualServiceUnfit, remedy: []string{`"theirs" does not exist`, "create it, or leave routing.virtualService out"}},
		"AttachedToAnotherRoute": {shift: routed("virtualService: {name: theirs, routes: [main, spare]}"), also: users("{name: main, route: [{destination: {host: micro-api}}]}"),
			reason: v1alpha1.ReasonVirtualServiceUnfit, remedy: []string{"no route named spare", "its routes: main"}},
		"AttachedToAnotherHost": {shift: routed("virtualService: {name: theirs, routes: [main]}"), also: users("{name: main, route: [{destination: {host: other}}]}"),
			reason: v1alpha1.ReasonVirtualServiceUnfit, remedy: []string{`route main sends requests to "other"`, "a route of their own"}},
		"AttachedToNoRoute": {shift: routed("virtualService: {name: theirs}"), also: users("{route: [{destination: {host: other}}]}"),
			reason: v1alpha1.ReasonVirtualServiceUnfit, remedy: []string{"no route to micro-api", "its routes: #0"}},
		"AttachedToARedirect": {shift: routed("virtualService: {name: theirs, routes: [main]}"), also: users("{name: main, redirect: {uri: /x}}"),
			reason: v1alpha1.ReasonVirtualServiceUnfit, remedy: []string{"route main has a redirect", "name another"}},
		"AttachedToSeveralDestinations": {shift: routed("virtualService: {name: theirs}"),
			also:   users("{name: main, route: [{destination: {host: micro-api, subset: a}, weight: 1}, {destination: {host: micro-api, subset: b}, weight: 1}]}"),
			reason: v1alpha1.ReasonVirtualServiceUnfit, remedy: []string{"route main has several destinations", "leave one"}},
		"AttachedBesideAnotherRoute": {shift: routed("virtualService: {name: theirs, routes: [main]}"),
			also:   users("{name: api, match: [{uri: {prefix: /api}}], route: [{destination: {host: micro-api}}]}, {name: main, route: [{destination: {host: micro-api}}]}"),
			reason: v1alpha1.ReasonVirtualServiceUnfit, remedy: []string{"route api sends requests to micro-api too, past the weights", "name it as well"}},
		"AttachedBesideConnections": {shift: routed("virtualService: {name: theirs, routes: [main]}"),
			also:   strings.Replace(users("{name: main, route: [{destination: {host: micro-api}}]}"), "  http:", "  tcp: [{route: [{destination: {host: micro-api}}]}]\n  http:", 1),
			reason: v1alpha1.ReasonVirtualServiceUnfit, remedy: []string{"route tcp#0 sends connections to micro-api too, past the weights", "leave routes, tcp and tls out"}},
		"AttachedToADelegate": {shift: routed("virtualService: {name: theirs}"), also: strings.Replace(users("{name: main, route: [{destination: {host: micro-api}}]}"), "hosts: [micro-api]", "exportTo: [.]", 1),
			reason: v1alpha1.ReasonVirtualServiceUnfit, remedy: []string{`"theirs" is a delegate`, "routing.delegate: true"}},
		"AttachedAndAlsoClaimed": {shift: routed("virtualService: {name: theirs}"), elsewhere: rival(virtualService, "NAME", "theirs", "HOST", fullHost),
			also: users("{name: main, route: [{destination: {host: micro-api}}]}"), reason: v1alpha1.ReasonHostClaimed, remedy: []string{"VirtualService OTHER/theirs"}},
		"DelegateWithoutARoot": {shift: routed("delegate: true"),
			reason: v1alpha1.ReasonVirtualServiceUnfit, remedy: []string{"no VirtualService delegates to NS/micro-api", "delegate: {name: micro-api, namespace: NS}"}},
		"DelegateOfADelegate": {shift: routed("delegate: true"), also: strings.Replace(users("{delegate: {name: micro-api, namespace: NS}}"), "hosts: [micro-api]", "exportTo: [.]", 1),
			reason: v1alpha1.ReasonVirtualServiceUnfit, remedy: []string{"NS/theirs names micro-api and is a delegate itself", "name it in the root"}},
		"DelegateWithARouteBeside": {shift: routed("delegate: true"),
			also:   users("{match: [{uri: {prefix: /a}}], delegate: {name: micro-api, namespace: NS}}, {route: [{destination: {host: micro-api}}]}"),
			reason: v1alpha1.ReasonVirtualServiceUnfit, remedy: []string{"also has a route to micro-api itself, past the weights"}},
		"DelegateOfTwoPorts": {shift: routed("delegate: true"), service: edit("{name: http, port: 80, targetPort: http}", "{name: http, port: 80}, {name: grpc, port: 81}"),
			reason: v1alpha1.ReasonVirtualServiceUnfit, remedy: []string{"has 2 HTTP ports", "routing.virtualService instead"}},
		"HostHiddenByAClientsRule": {elsewhere: rival(destinationRule, "NAME", "theirs", "HOST", fullHost),
			reason: v1alpha1.ReasonHostClaimed, remedy: []string{"DestinationRule OTHER/theirs"}},
		"HostHiddenByAClientsWildcard": {elsewhere: rival(destinationRule, "NAME", "theirs", "HOST", `"*.NS.svc.cluster.local"`),
			reason: v1alpha1.ReasonHostClaimed, remedy: []string{"DestinationRule OTHER/theirs"}},
		"HostClaimedAtItsGateway": {shift: hosts("  gateways: [public]"),
			also:   "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: unused}\n---" + rival(virtualService, "NAME", "theirs", "HOST", "shop.example.com", "GATEWAYS", "gateways: [public]"),
			reason: v1alpha1.ReasonHostClaimed, remedy: []string{"VirtualService NS/theirs (host shop.example.com)"}},
		"HostNotAllowed": {shift: strings.Replace(trafficShift, "spec:", "spec:\n  hosts: [bank.example.org]", 1),
			reason: v1alpha1.ReasonHostNotAllowed, remedy: []string{`"bank.example.org"`, "sluice.dev/allowed-hosts", "granted now: *.example.com"}},
		"HostOfTLSNotAllowed": {service: edit("name: http, port: 80", "name: tls, port: 443"), shift: strings.Replace(trafficShift, "spec:", "spec:\n  hosts: [bank.example.org]", 1),
			reason: v1alpha1.ReasonHostNotAllowed, remedy: []string{`"bank.example.org"`, "sluice.dev/allowed-hosts"}},
		"GatewayNotAllowed": {shift: hosts("  gateways: [istio-system/public]"),
			reason: v1alpha1.ReasonGatewayNotAllowed, remedy: []string{`"istio-system/public"`, "sluice.dev/allowed-gateways"}},
		"AutoscalerTargetsTemplate": {also: `
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: micro-api}
spec: {maxReplicas: 5, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: micro-api}}
`, reason: v1alpha1.ReasonAutoscalerTargetsTemplate, remedy: []string{"NS/micro-api", "kind: TrafficShift"}},
		"VirtualServiceNameTaken": {also: rival(virtualService, "NAME", "micro-api", "HOST", "other"),
			reason: v1alpha1.ReasonNameTaken, remedy: []string{"VirtualService NS/micro-api", "rename or delete it"}},
		"HostsVirtualServiceNameTaken": {shift: hosts(""), also: rival(virtualService, "NAME", "micro-api-hosts", "HOST", "other"),
			reason: v1alpha1.ReasonNameTaken, remedy: []string{"VirtualService NS/micro-api-hosts"}},
		"BothDestinationRuleNamesTaken": {also: rival(destinationRule, "NAME", "micro-api", "HOST", "other") + "---" + rival(destinationRule, "NAME", "micro-api-versions", "HOST", "other"),
			reason: v1alpha1.ReasonNameTaken, remedy: []string{"DestinationRule NS/micro-api-versions"}},
		"GatewayNameTaken": {shift: hosts(""), also: `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: micro-api}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [x.example.com]}]}
`, reason: v1alpha1.ReasonNameTaken, remedy: []string{"Gateway NS/micro-api"}},
		"ServiceNameTaken": {service: edit("  selector: {app: micro-api}\n  ports", "  selector: {app: other}\n  ports"),
			reason: v1alpha1.ReasonNameTaken, remedy: []string{"Service NS/micro-api"}},
		"TrafficPolicyHasATypo": {shift: strings.Replace(trafficShift, "spec:", "spec:\n  trafficPolicy: {conectionPool: {http: {http2MaxRequests: 7}}}", 1),
			reason: v1alpha1.ReasonInvalidSpec, remedy: []string{"spec.trafficPolicy.conectionPool", "connectionPool"}},
		"TrafficPolicyIsNone": {shift: strings.Replace(trafficShift, "spec:", "spec:\n  trafficPolicy: {loadBalancer: {simple: FASTEST}}", 1),
			reason: v1alpha1.ReasonInvalidSpec, remedy: []string{"spec.trafficPolicy", "FASTEST"}},
		"StepsFall": {shift: strings.Replace(trafficShift, "{weight: 5}, {weight: 50}", "{weight: 50}, {weight: 5}", 1),
			reason: v1alpha1.ReasonInvalidSpec, remedy: []string{"spec.steps[1].weight", "must rise"}},
		"AnnotationsAreInvalid": {shift: strings.Replace(trafficShift, "{name: micro-api}", `{name: micro-api, annotations: {sluice.dev/invalid-annotations: "sluice.dev/hold: soon"}}`, 1),
			reason: v1alpha1.ReasonInvalidAnnotation, remedy: []string{"sluice.dev/hold: soon"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.Config.AllowedHosts = []string{"*.example.com"}
			if name == "HostClaimedAtItsGateway" || name == "HostNotAllowed" {
				c.Config.AllowedGateways = []string{"*"}
			}
			other := &corev1.Namespace{}
			other.GenerateName = "other-"
			if err := c.Create(t.Context(), other); err != nil {
				t.Fatal(err)
			}
			names := strings.NewReplacer("NS", c.ns, "OTHER", other.Name)
			switch tc.service {
			case "":
				c.apply(service)
			case "-":
			default:
				c.apply(tc.service)
			}
			if tc.also != "" {
				c.apply(names.Replace(tc.also))
			}
			if tc.elsewhere != "" {
				c.apply(strings.Replace(names.Replace(tc.elsewhere), "{name: theirs", "{namespace: "+other.Name+", name: theirs", 1))
			}
			if tc.shift == "" {
				tc.shift = trafficShift
			}
			c.apply(tc.shift)
			c.kubelet()
			for range 5 {
				c.pass()
			}
			s := c.shift()
			accepted := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionAccepted)
			if accepted == nil || accepted.Status != "False" || accepted.Reason != tc.reason {
				t.Fatalf("Accepted is %+v; want False %s", accepted, tc.reason)
			}
			for _, part := range tc.remedy {
				if !strings.Contains(accepted.Message, names.Replace(part)) {
					t.Errorf("the message does not say %q: %s", names.Replace(part), accepted.Message)
				}
			}
			if got := condition(s, v1alpha1.ConditionReady); got != "False "+tc.reason {
				t.Errorf("Ready is %q; want False %s", got, tc.reason)
			}
			if got := condition(s, v1alpha1.ConditionStalled); !strings.HasPrefix(got, "True ") {
				t.Errorf("Stalled is %q; want True: nothing goes on until somebody acts", got)
			}
			if diff := cmp.Diff([]string{"Warning " + tc.reason}, c.told.take()); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if sizes := c.deploymentSizes(); len(sizes) > 1 {
				t.Errorf("versions were started all the same: %q", sizes)
			}
		})
	}
}

// Rules of the root namespace, and wildcards of the service's own, applied before and are hidden by ours: their policy is carried over.
func TestD2AHiddenRulesPolicyIsCarriedOver(t *testing.T) {
	tests := map[string]string{
		"Wildcard":      rival(destinationRule, "NAME", "all", "HOST", `"*.NS.svc.cluster.local"`),
		"RootNamespace": rival(destinationRule, "NAME", "all", "HOST", fullHost),
	}
	for name, rule := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			root := &corev1.Namespace{}
			root.GenerateName = "root-"
			if err := c.Create(t.Context(), root); err != nil {
				t.Fatal(err)
			}
			c.Config.RootNamespace = root.Name
			if name == "RootNamespace" {
				rule = strings.Replace(rule, "{name:", "{namespace: "+root.Name+", name:", 1)
			}
			c.apply(strings.ReplaceAll(rule, "NS", c.ns))
			c.adopt()
			ours := &networkingv1.DestinationRule{}
			c.get("micro-api", ours)
			if got := ours.Spec.GetTrafficPolicy().GetConnectionPool().GetHttp().GetHttp2MaxRequests(); got != 7 {
				t.Errorf("the policy in force before is lost: %v", ours.Spec.GetTrafficPolicy())
			}
		})
	}
}

// V3: of two mesh VirtualServices for a host, Istio drops the younger without a word. One that appears in the middle of a shift does not
// stop a way back, and the next release waits.
func TestV3ARivalThatAppearsLaterStopsTheNextRelease(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	c.apply(rival(virtualService, "NAME", "theirs", "HOST", "micro-api"))
	c.pass()
	if got := condition(c.shift(), v1alpha1.ConditionAccepted); got != "False HostClaimed" {
		t.Fatalf("Accepted is %q", got)
	}
	c.setImage("micro-api:1.2")
	for range 10 {
		c.pass()
		c.kubelet()
	}
	if s := c.shift(); s.Status.Candidate != "" || s.Status.Stable != "v1" {
		t.Errorf("a release has started beside a rival: %+v", s.Status)
	}
	if err := c.Delete(t.Context(), &networkingv1.VirtualService{ObjectMeta: objectMeta(c.ns, "theirs")}); err != nil {
		t.Fatal(err)
	}
	c.run("the release", 60, func(s *v1alpha1.TrafficShift) bool { return s.Status.Candidate == "v2" })
}
