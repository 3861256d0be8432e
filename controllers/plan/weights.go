package plan

import (
	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// Weighted is one destination as a VirtualService has it: the subset that it names, and its weight as written.
type Weighted struct {
	Version string
	Weight  int64
}

// RoutesOf reads the destinations of one route in thousandths. Istio divides weights by their sum (W1), and gives a single destination
// everything (W2).
func RoutesOf(destinations []Weighted) []shift.Route {
	sum := int64(0)
	for _, d := range destinations {
		sum += d.Weight
	}
	routes := make([]shift.Route, 0, len(destinations))
	for _, d := range destinations {
		r := shift.Route{Version: d.Version}
		switch {
		case len(destinations) == 1:
			r.Weight = v1alpha1.Whole
		case sum > 0:
			r.Weight = v1alpha1.Permille(int64(v1alpha1.Whole) * d.Weight / sum)
		}
		routes = append(routes, r)
	}
	return routes
}

// Lower lowers each of the routes to what another one gives its version. Where routes disagree, which no write of ours leaves behind, a
// version has the least that any of them gives it, so that the disagreement is seen.
func Lower(routes, other []shift.Route) {
	for i := range routes {
		routes[i].Weight = min(routes[i].Weight, weightOf(other, routes[i].Version))
	}
}

func weightOf(routes []shift.Route, version string) v1alpha1.Permille {
	for _, r := range routes {
		if r.Version == version {
			return r.Weight
		}
	}
	return 0
}
