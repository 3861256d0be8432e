package trafficshift

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// A weight is what Istio makes of a VirtualService, not what stands in it (rules W1 and W2).
func TestWeightsAreReadAsIstioReadsThem(t *testing.T) {
	type weights map[string]int32
	port := func(order []string, w weights) *istio.HTTPRoute {
		route := &istio.HTTPRoute{}
		for _, version := range order {
			route.Route = append(route.Route, &istio.HTTPRouteDestination{Destination: &istio.Destination{Subset: version}, Weight: w[version]})
		}
		return route
	}
	both := []string{"v1", "v2"}
	tests := map[string]struct {
		ports []*istio.HTTPRoute
		want  []shift.Route
		bare  bool
	}{
		"Percents":               {[]*istio.HTTPRoute{port(both, weights{"v1": 95, "v2": 5})}, []shift.Route{{Version: "v1", Weight: 950}, {Version: "v2", Weight: 50}}, false},
		"SumOf1000":              {[]*istio.HTTPRoute{port(both, weights{"v1": 995, "v2": 5})}, []shift.Route{{Version: "v1", Weight: 995}, {Version: "v2", Weight: 5}}, false},
		"AnotherSum":             {[]*istio.HTTPRoute{port(both, weights{"v1": 3, "v2": 1})}, []shift.Route{{Version: "v1", Weight: 750}, {Version: "v2", Weight: 250}}, false},
		"ZeroAltogether":         {[]*istio.HTTPRoute{port(both, nil)}, []shift.Route{{Version: "v1"}, {Version: "v2"}}, false},
		"OneWithoutAWeight":      {[]*istio.HTTPRoute{port(both[:1], nil)}, []shift.Route{{Version: "v1", Weight: 1000}}, false},
		"OneWithALowWeight":      {[]*istio.HTTPRoute{port(both[:1], weights{"v1": 5})}, []shift.Route{{Version: "v1", Weight: 1000}}, false},
		"NoSubset":               {[]*istio.HTTPRoute{port([]string{""}, weights{"": 100})}, nil, true},
		"PortsAgree":             {[]*istio.HTTPRoute{port(both, weights{"v1": 50, "v2": 50}), port(both, weights{"v1": 50, "v2": 50})}, []shift.Route{{Version: "v1", Weight: 500}, {Version: "v2", Weight: 500}}, false},
		"PortsDisagree":          {[]*istio.HTTPRoute{port(both, weights{"v1": 50, "v2": 50}), port(both, weights{"v1": 100})}, []shift.Route{{Version: "v1", Weight: 500}, {Version: "v2", Weight: 0}}, false},
		"OnePortNamesAnotherOne": {[]*istio.HTTPRoute{port(both, weights{"v1": 50, "v2": 50}), port(both[:1], nil)}, []shift.Route{{Version: "v1", Weight: 500}, {Version: "v2", Weight: 0}}, false},
		"NoRouteAtAll":           {nil, nil, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			vs := &networkingv1.VirtualService{}
			for i, http := range tc.ports {
				http.Match = []*istio.HTTPMatchRequest{{Port: uint32(80 + i)}}
			}
			vs.Spec.Http = tc.ports
			got, bare := routesOf(vs)
			if diff := cmp.Diff(tc.want, got); diff != "" || bare != tc.bare {
				t.Errorf("bare %t, want %t; routes (-want +got):\n%s", bare, tc.bare, diff)
			}
		})
	}
}

// What stands beside the weights is read as Istio reads it, too: a rule that asks nothing any more answers everybody.
func TestRulesBesideTheWeightsAreReadBack(t *testing.T) {
	to := func(versions ...string) (routes []*istio.HTTPRouteDestination) {
		for i, v := range versions {
			routes = append(routes, &istio.HTTPRouteDestination{Destination: &istio.Destination{Subset: v}, Weight: int32(100 * (1 - min(i, 1)))})
		}
		return routes
	}
	at := func(port uint32) *istio.HTTPMatchRequest { return &istio.HTTPMatchRequest{Port: port} }
	testers := func(port uint32) *istio.HTTPMatchRequest {
		return &istio.HTTPMatchRequest{Port: port, Headers: map[string]*istio.StringMatch{"x-tester": {}}}
	}
	rule := func(name, version string, match ...*istio.HTTPMatchRequest) *istio.HTTPRoute {
		return &istio.HTTPRoute{Name: name, Match: match, Route: to(version)}
	}
	weights := func(name string, percent float64, match ...*istio.HTTPMatchRequest) *istio.HTTPRoute {
		r := &istio.HTTPRoute{Name: name, Match: match, Route: to("v1", "v2")}
		if percent > 0 {
			r.Mirrors = []*istio.HTTPMirrorPolicy{{Destination: &istio.Destination{Subset: "v2"}, Percentage: &istio.Percent{Value: percent}}}
		}
		return r
	}
	type read struct {
		Routes   []shift.Route
		Matched  string
		Mirrored shift.Copies
	}
	stable, candidate := []shift.Route{{Version: "v1", Weight: 1000}, {Version: "v2"}}, []shift.Route{{Version: "v2", Weight: 1000}}
	both := []shift.Route{{Version: "v1", Weight: 800}, {Version: "v2", Weight: 200}}
	split := func(name string, match ...*istio.HTTPMatchRequest) *istio.HTTPRoute {
		r := weights(name, 0, match...)
		r.Route[0].Weight, r.Route[1].Weight = 80, 20
		return r
	}
	copies := func(weight v1alpha1.Permille, matching bool) shift.Copies {
		return shift.Copies{Route: shift.Route{Version: "v2", Weight: weight}, Matching: matching}
	}
	for name, tc := range map[string]struct {
		http []*istio.HTTPRoute
		want read
	}{
		"NoRule":                  {[]*istio.HTTPRoute{weights("http", 0, at(80))}, read{Routes: stable}},
		"Matched":                 {[]*istio.HTTPRoute{rule("http.match", "v2", testers(80)), weights("http", 0, at(80))}, read{Routes: stable, Matched: "v2"}},
		"MatchedAtGateway":        {[]*istio.HTTPRoute{rule("http.match", "v2", testers(0)), weights("http", 0)}, read{Routes: stable, Matched: "v2"}},
		"OtherRulesAreNoMatch":    {[]*istio.HTTPRoute{rule("http.kept-v2", "v2", testers(80)), weights("http", 0, at(80))}, read{Routes: stable}},
		"OneOfItsQuestionsIsGone": {[]*istio.HTTPRoute{rule("http.match", "v2", testers(80), at(80)), weights("http", 0, at(80))}, read{Routes: candidate}},
		"ItsQuestionsAreGone":     {[]*istio.HTTPRoute{rule("http.match", "v2"), weights("http", 0, at(80))}, read{Routes: candidate}},
		"BehindTheWeights":        {[]*istio.HTTPRoute{weights("http", 0, at(80)), rule("http.match", "v2", testers(80))}, read{Routes: stable}},
		"ToBoth":                  {[]*istio.HTTPRoute{weights("http.match", 0, testers(80)), weights("http", 0, at(80))}, read{Routes: stable}},
		"AtOnePortOnly": {[]*istio.HTTPRoute{rule("http.match", "v2", testers(80)), weights("http", 0, at(80)), weights("grpc", 0, at(70))},
			read{Routes: stable}},
		"AtBothPorts": {[]*istio.HTTPRoute{rule("http.match", "v2", testers(80)), weights("http", 0, at(80)), rule("grpc.match", "v2", testers(70)), weights("grpc", 0, at(70))},
			read{Routes: stable, Matched: "v2"}},
		"Mirrored":               {[]*istio.HTTPRoute{weights("http", 12.5, at(80))}, read{Routes: stable, Mirrored: copies(125, false)}},
		"MatchedBesideWeights":   {[]*istio.HTTPRoute{rule("http.match", "v2", testers(80)), split("http", at(80))}, read{Routes: both, Matched: "v2"}},
		"MirroredWhereItMatches": {[]*istio.HTTPRoute{weights("http.mirror", 10, testers(80)), weights("http", 0, at(80))}, read{Routes: stable, Mirrored: copies(100, true)}},
		"ItsMirrorIsGone":        {[]*istio.HTTPRoute{weights("http.mirror", 0, testers(80)), weights("http", 0, at(80))}, read{Routes: stable}},
		"TheMirrorsMatchIsGone":  {[]*istio.HTTPRoute{weights("http.mirror", 10, at(80)), weights("http", 0, at(80))}, read{Routes: stable, Mirrored: copies(100, false)}},
		"MirroredTwice":          {[]*istio.HTTPRoute{weights("http.mirror", 10, testers(80)), weights("http", 20, at(80))}, read{Routes: stable, Mirrored: copies(200, false)}},
		"MirrorBehindTheWeights": {[]*istio.HTTPRoute{weights("http", 0, at(80)), weights("http.mirror", 10, testers(80))}, read{Routes: stable}},
		"MatchMirrorAtOnePort": {[]*istio.HTTPRoute{weights("http.mirror", 10, testers(80)), weights("http", 0, at(80)), weights("grpc", 10, at(70))},
			read{Routes: stable}},
		"MirroredAtOnePortOnly":   {[]*istio.HTTPRoute{weights("http", 10, at(80)), weights("grpc", 0, at(70))}, read{Routes: stable}},
		"MirroredUnevenly":        {[]*istio.HTTPRoute{weights("http", 10, at(80)), weights("grpc", 20, at(70))}, read{Routes: stable}},
		"WeightsThatNobodyAnswer": {[]*istio.HTTPRoute{rule("all", "v2"), weights("http", 10, at(80))}, read{Routes: candidate}},
	} {
		t.Run(name, func(t *testing.T) {
			vs := &networkingv1.VirtualService{}
			vs.Spec.Http = tc.http
			got := read{Matched: matchedIn(vs), Mirrored: mirroredIn(vs)}
			got.Routes, _ = routesOf(vs)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("read back (-want +got):\n%s", diff)
			}
		})
	}
}

// Who may edit a Deployment may not thereby claim a host: a grant must not match more than it says.
func TestGrantsMatchNoMoreThanTheySay(t *testing.T) {
	hosts := map[[2]string]bool{
		{"shop.example.com", "shop.example.com"}:   true,
		{"shop.example.com", "SHOP.example.com"}:   true,
		{"shop.example.com", "a.shop.example.com"}: false,
		{"*.example.com", "shop.example.com"}:      true,
		{"*.example.com", "a.b.example.com"}:       true,
		{"*.example.com", "example.com"}:           false,
		{"*.example.com", ".example.com"}:          false,
		{"*.example.com", "evilexample.com"}:       false,
		{"*example.com", "evilexample.com"}:        false,
		{"*", "anything.org"}:                      true,
		{"", "shop.example.com"}:                   false,
		{"shop.example.com", "*"}:                  false,
		{"*.example.com", "*"}:                     false,
		{"*.example.com", "*.shop.example.com"}:    true,
	}
	for pair, want := range hosts {
		if got := grants(pair[0], pair[1]); got != want {
			t.Errorf("grant %q for host %q is %t; want %t", pair[0], pair[1], got, want)
		}
	}
	gateways := map[[2]string]bool{
		{"istio-system/public", "istio-system/public"}:  true,
		{"istio-system/*", "istio-system/public"}:       true,
		{"istio-system/*", "istio-system-evil/public"}:  false,
		{"istio-system*", "istio-system-evil/public"}:   false,
		{"*", "any/where"}:                              true,
		{"istio-system/public", "istio-system/public2"}: false,
		{"istio-system/pub*", "istio-system/public"}:    false,
	}
	for pair, want := range gateways {
		if got := grantsGateway(pair[0], pair[1]); got != want {
			t.Errorf("grant %q for gateway %q is %t; want %t", pair[0], pair[1], got, want)
		}
	}
}
