package trafficshift

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

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
			vs.Spec.Http = tc.ports
			got, bare := routesOf(vs)
			if diff := cmp.Diff(tc.want, got); diff != "" || bare != tc.bare {
				t.Errorf("bare %t, want %t; routes (-want +got):\n%s", bare, tc.bare, diff)
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
