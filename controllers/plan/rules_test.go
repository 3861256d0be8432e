package plan_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/plan"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// The rules of the mesh that objects must keep, one test for each. Those of order and time are in controllers/shift.

func written[T plan.Object](p plan.Plan) []T {
	var found []T
	for _, g := range p {
		for _, s := range g.Steps {
			if o, ok := s.Object.(T); ok && s.Verb != plan.Delete {
				found = append(found, o)
			}
		}
	}
	return found
}

func planned(t *testing.T, change func(*scenario)) plan.Plan {
	t.Helper()
	s := load(t, "testdata/own-gateway.in.yaml")
	change(&s)
	p, err := plan.For(s.scope(t), s.Desired)
	if err != nil {
		t.Fatalf("planning: %v", err)
	}
	return p
}

// R1, both ways: one plan that adds or removes a subset writes the routes first, so that a removed subset is out of them already, and
// the routes of an added one were not asked for yet.
func TestR1RoutesAreWrittenBeforeSubsets(t *testing.T) {
	order := []string{}
	for _, g := range planned(t, func(s *scenario) {
		zero := int32(0)
		s.Desired.Scales, s.Desired.Record, s.Desired.Prune = []shift.Scale{{Version: "v1", Replicas: 3}}, "v3", []string{"v2"}
		s.Desired.Template, s.Desired.Held = &zero, true
	}) {
		order = append(order, g.Name)
	}
	want := []string{"routes", "records", "service", "deployments", "subsets", "template", "history"}
	if diff := cmp.Diff(want, order); diff != "" {
		t.Errorf("the order of the groups (-want +got):\n%s", diff)
	}
}

// R3: never change a subset's labels; only add and remove subsets. A version's subset is the same whatever stands beside it.
func TestR3SubsetsNeverChange(t *testing.T) {
	of := func(subsets ...string) map[string]map[string]string {
		labels := map[string]map[string]string{}
		for _, rule := range written[*networkingv1.DestinationRule](planned(t, func(s *scenario) { s.Desired.Subsets, s.Desired.Routes = subsets, nil })) {
			for _, subset := range rule.Spec.GetSubsets() {
				labels[subset.GetName()] = subset.GetLabels()
			}
		}
		return labels
	}
	alone, among := of("v2"), of("v1", "v2", "v3")
	if diff := cmp.Diff(alone["v2"], among["v2"]); diff != "" {
		t.Errorf("the labels of subset v2, alone and among others (-alone +among):\n%s", diff)
	}
	if diff := cmp.Diff(plan.VersionLabels("micro-api", "v2"), alone["v2"]); diff != "" {
		t.Errorf("the labels of subset v2 and of its pods (-pods +subset):\n%s", diff)
	}
}

// W1: Istio divides by the sum; always write a sum of 100, or of 1000 for what is finer than a percent.
func TestW1WeightsSumTo100Or1000(t *testing.T) {
	base := load(t, "testdata/own-gateway.in.yaml")
	rapid.Check(t, func(rt *rapid.T) {
		s := base
		w := v1alpha1.Permille(rapid.IntRange(0, 1000).Draw(rt, "weight"))
		s.Desired.Routes = []shift.Route{{Version: "v1", Weight: v1alpha1.Whole - w}, {Version: "v2", Weight: w}}
		p, err := plan.For(s.scope(t), s.Desired)
		if err != nil {
			rt.Fatalf("planning: %v", err)
		}
		for _, vs := range written[*networkingv1.VirtualService](p) {
			sum, of := int32(0), int32(0)
			for _, d := range vs.Spec.GetHttp()[0].GetRoute() {
				sum += d.GetWeight()
				if d.GetDestination().GetSubset() == "v2" {
					of = d.GetWeight()
				}
			}
			want := int32(1000)
			if w%10 == 0 {
				want = 100
			}
			if sum != want || int64(of)*1000 != int64(w)*int64(sum) {
				rt.Fatalf("%s writes v2 at %d of %d; want %s", vs.Name, of, sum, w)
			}
		}
	})
}

// W2: a route with exactly one destination gets everything, its weight ignored: it must say everything.
func TestW2ASingleDestinationSaysTheWhole(t *testing.T) {
	for name, desired := range map[string]func(*scenario){
		"AtRest": func(s *scenario) { s.Desired.Routes = []shift.Route{{Version: "v1", Weight: v1alpha1.Whole}} },
		"Bare":   func(s *scenario) { s.Desired.Routes, s.Desired.Bare = nil, true },
	} {
		t.Run(name, func(t *testing.T) {
			tables := written[*networkingv1.VirtualService](planned(t, desired))
			if len(tables) != 2 {
				t.Fatalf("%d VirtualServices; want 2", len(tables))
			}
			for _, vs := range tables {
				if r := vs.Spec.GetHttp()[0].GetRoute(); len(r) != 1 || r[0].GetWeight() != 100 {
					t.Errorf("%s: %v; want one destination with 100", vs.Name, r)
				}
			}
		})
	}
}

// V1: always full names, for hosts and for destinations: a short one is of the namespace of the object that says it.
func TestV1NamesAreFull(t *testing.T) {
	p := planned(t, func(*scenario) {})
	const host = "micro-api.shop.svc.cluster.local"
	for _, vs := range written[*networkingv1.VirtualService](p) {
		if vs.Name == "micro-api" && !slices.Equal(vs.Spec.GetHosts(), []string{host}) {
			t.Errorf("%s is for %v; want %s", vs.Name, vs.Spec.GetHosts(), host)
		}
		for _, d := range vs.Spec.GetHttp()[0].GetRoute() {
			if got := d.GetDestination().GetHost(); got != host {
				t.Errorf("%s sends to %q; want %s", vs.Name, got, host)
			}
		}
	}
	for _, rule := range written[*networkingv1.DestinationRule](p) {
		if got := rule.Spec.GetHost(); got != host {
			t.Errorf("DestinationRule for %q; want %s", got, host)
		}
	}
}

// V2: gateways left out means the mesh, and one object with both captures the external host in every sidecar: two objects, the mesh's
// bound to the mesh alone, with the same weights.
func TestV2MeshAndGatewaysAreTwoObjectsWithTheSameWeights(t *testing.T) {
	tables := written[*networkingv1.VirtualService](planned(t, func(*scenario) {}))
	if len(tables) != 2 {
		t.Fatalf("%d VirtualServices; want 2", len(tables))
	}
	mesh, hosts := tables[0], tables[1]
	if !slices.Equal(mesh.Spec.GetGateways(), []string{"mesh"}) {
		t.Errorf("the mesh's is bound to %v; want mesh", mesh.Spec.GetGateways())
	}
	if slices.Contains(hosts.Spec.GetGateways(), "mesh") || len(hosts.Spec.GetGateways()) == 0 {
		t.Errorf("the hosts' is bound to %v; want gateways only", hosts.Spec.GetGateways())
	}
	weights := func(vs *networkingv1.VirtualService) map[string]int32 {
		all := map[string]int32{}
		for _, d := range vs.Spec.GetHttp()[0].GetRoute() {
			all[d.GetDestination().GetSubset()] = d.GetWeight()
		}
		return all
	}
	if diff := cmp.Diff(weights(mesh), weights(hosts)); diff != "" {
		t.Errorf("weights (-mesh +hosts):\n%s", diff)
	}
}

// V4: an object of the service's own namespace, with exportTo unset, is what every client finds.
func TestV4EverythingIsExportedFromTheServicesNamespace(t *testing.T) {
	p := planned(t, func(*scenario) {})
	for _, vs := range written[*networkingv1.VirtualService](p) {
		if vs.Namespace != "shop" || len(vs.Spec.GetExportTo()) > 0 {
			t.Errorf("VirtualService %s/%s exported to %v", vs.Namespace, vs.Name, vs.Spec.GetExportTo())
		}
	}
}

// D1: one DestinationRule for each host: of two with the same subset, the younger is ignored.
func TestD1OneRuleNamesEverySubset(t *testing.T) {
	rules := written[*networkingv1.DestinationRule](planned(t, func(s *scenario) { s.Desired.Subsets = []string{"v1", "v2", "v3"} }))
	if len(rules) != 1 || len(rules[0].Spec.GetSubsets()) != 3 {
		t.Errorf("%d rules; want one with all three subsets: %v", len(rules), rules)
	}
}

// D2: the first namespace with a rule for the host wins, and the client's own comes first: ours stands where the Service does.
func TestD2TheRuleIsInTheServicesNamespace(t *testing.T) {
	for _, rule := range written[*networkingv1.DestinationRule](planned(t, func(*scenario) {})) {
		if rule.Namespace != "shop" || len(rule.Spec.GetExportTo()) > 0 || rule.Spec.GetWorkloadSelector() != nil {
			t.Errorf("the rule is in %q, exported to %v; want the Service's namespace, and every client", rule.Namespace, rule.Spec.GetExportTo())
		}
	}
}

// D4: a tls block switches automatic mutual TLS off: it is there only where the owner wrote it.
func TestD4TLSIsNeverInvented(t *testing.T) {
	for _, policy := range []*networking.TrafficPolicy{nil, {ConnectionPool: &networking.ConnectionPoolSettings{}}} {
		for _, rule := range written[*networkingv1.DestinationRule](planned(t, func(s *scenario) { s.Policy = policy })) {
			if rule.Spec.GetTrafficPolicy().GetTls() != nil {
				t.Errorf("policy %v became %v", policy, rule.Spec.GetTrafficPolicy())
			}
		}
	}
}

// P1: Istio routes HTTP on ports that say so, by appProtocol before the name's prefix.
func TestP1HTTPIsWhatIstioTakesForHTTP(t *testing.T) {
	is := func(protocol string) *string { return &protocol }
	tests := map[string]struct {
		name        string
		appProtocol *string
		want        bool
	}{
		"HTTP":                  {"http", nil, true},
		"HTTPWithSuffix":        {"http-web", nil, true},
		"HTTP2":                 {"http2", nil, true},
		"GRPC":                  {"grpc-api", nil, true},
		"GRPCWeb":               {"grpc-web", nil, true},
		"UpperCase":             {"HTTP-web", nil, true},
		"NoName":                {"", nil, false},
		"TCP":                   {"tcp-db", nil, false},
		"HTTPSIsEncrypted":      {"https", nil, false},
		"PrefixWithoutADash":    {"httpd", nil, false},
		"OtherName":             {"web", nil, false},
		"AppProtocol":           {"web", is("http"), true},
		"AppProtocolH2C":        {"web", is("kubernetes.io/h2c"), true},
		"AppProtocolBeforeName": {"http", is("tcp"), false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := plan.IsHTTP(corev1.ServicePort{Name: tc.name, AppProtocol: tc.appProtocol}); got != tc.want {
				t.Errorf("port %q: HTTP is %t; want %t", tc.name, got, tc.want)
			}
		})
	}
}
