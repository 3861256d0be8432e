package trafficshift

import (
	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/plan"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// tablesRead reads the weights back from every VirtualService that must carry them. One that is not ours does not count as there.
func (w *world) tablesRead() []shift.Table {
	names := []string{w.shift.Name}
	if len(w.scope.Entry.Hosts) > 0 {
		names = append(names, plan.HostsName(w.shift.Name))
	}
	tables := make([]shift.Table, 0, len(names))
	for _, name := range names {
		t := shift.Table{Name: name}
		if vs, ok := w.tables[name]; ok && w.ours(vs) {
			t.Exists = true
			t.Routes, t.Bare = routesOf(vs)
		}
		tables = append(tables, t)
	}
	return tables
}

// routesOf reads a VirtualService's destinations in thousandths. Where its ports disagree, which no write of ours leaves behind, a
// version has the least that any port gives it, so that the disagreement is seen.
func routesOf(vs *networkingv1.VirtualService) (routes []shift.Route, bare bool) {
	for i, http := range vs.Spec.GetHttp() {
		read := destinationsOf(http)
		if i == 0 {
			routes = read
			continue
		}
		for j := range routes {
			routes[j].Weight = min(routes[j].Weight, weightIn(read, routes[j].Version))
		}
	}
	bare = len(routes) == 1 && routes[0].Version == ""
	if bare {
		return nil, true
	}
	return routes, false
}

// destinationsOf reads one route. Istio divides weights by their sum (W1), and gives a single destination everything (W2).
func destinationsOf(http *istio.HTTPRoute) []shift.Route {
	sum := int64(0)
	for _, d := range http.GetRoute() {
		sum += int64(d.GetWeight())
	}
	routes := make([]shift.Route, 0, len(http.GetRoute()))
	for _, d := range http.GetRoute() {
		r := shift.Route{Version: d.GetDestination().GetSubset(), Weight: v1alpha1.Whole}
		if len(http.GetRoute()) > 1 {
			r.Weight = 0
			if sum > 0 {
				r.Weight = v1alpha1.Permille(int64(v1alpha1.Whole) * int64(d.GetWeight()) / sum)
			}
		}
		routes = append(routes, r)
	}
	return routes
}

func weightIn(routes []shift.Route, version string) v1alpha1.Permille {
	for _, r := range routes {
		if r.Version == version {
			return r.Weight
		}
	}
	return 0
}

// subsetsRead reads the versions that the DestinationRule names with our labels.
func (w *world) subsetsRead() []string {
	if w.rule == nil || !w.ours(w.rule) {
		return nil
	}
	var subsets []string
	for _, s := range w.rule.Spec.GetSubsets() {
		if s.GetLabels()[v1alpha1.LabelVersion] == plan.VersionName(w.shift.Name, s.GetName()) {
			subsets = append(subsets, s.GetName())
		}
	}
	return subsets
}
