package trafficshift

import (
	"math"

	"google.golang.org/protobuf/proto"
	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/plan"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// tablesRead reads the weights back from every VirtualService that must carry them. One that is not ours does not count as there.
func (w *world) tablesRead() []shift.Table {
	if len(w.scope.Attached) > 0 {
		var tables []shift.Table
		for _, a := range w.scope.Attached {
			tables = append(tables, a.Table(w.scope.Host, w.subsetsRead()))
		}
		return tables
	}
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
			t.Matched, t.Mirrored = matchedIn(vs), mirroredIn(vs)
		}
		tables = append(tables, t)
	}
	return tables
}

// routesOf reads a VirtualService's destinations in thousandths, over all of its ports.
func routesOf(vs *networkingv1.VirtualService) (routes []shift.Route, bare bool) {
	var all [][]shift.Route
	for _, http := range weightedIn(vs) {
		all = append(all, destinationsOf(http.GetRoute()))
	}
	for i, read := range append(all, connectionsIn(vs)...) {
		if i == 0 {
			routes = read
			continue
		}
		plan.Lower(routes, read)
	}
	bare = len(routes) == 1 && routes[0].Version == ""
	if bare {
		return nil, true
	}
	return routes, false
}

// weightedIn are the routes that carry the weights, one for each port: the first that asks for nothing else answers whoever comes to it,
// whatever stands behind it.
func weightedIn(vs *networkingv1.VirtualService) []*istio.HTTPRoute {
	var weighted []*istio.HTTPRoute
	answered := map[uint32]bool{}
	for _, http := range vs.Spec.GetHttp() {
		if port, all := asksNothing(http); all && !answered[port] && !answered[0] {
			answered[port] = true
			weighted = append(weighted, http)
		}
	}
	return weighted
}

// asksNothing reports whether a route answers every request to a port, and to which; 0 is any.
func asksNothing(http *istio.HTTPRoute) (port uint32, all bool) {
	if len(http.GetMatch()) == 0 {
		return 0, true
	}
	for _, m := range http.GetMatch() {
		if proto.Equal(m, &istio.HTTPMatchRequest{Port: m.GetPort()}) {
			return m.GetPort(), true
		}
	}
	return 0, false
}

// matchedIn is the version that the requests of a match go to, where every port sends them there and nowhere else. A rule that somebody
// took the questions out of matches nobody in particular.
func matchedIn(vs *networkingv1.VirtualService) string {
	matched := ""
	for i, http := range weightedIn(vs) {
		rule := ruleBefore(vs, http, plan.MatchName(http.GetName()))
		if _, all := asksNothing(rule); all || len(rule.GetRoute()) != 1 {
			return ""
		}
		version := rule.GetRoute()[0].GetDestination().GetSubset()
		if i > 0 && version != matched {
			return ""
		}
		matched = version
	}
	return matched
}

// ruleBefore is the route of a name that is asked before another one.
func ruleBefore(vs *networkingv1.VirtualService, other *istio.HTTPRoute, name string) *istio.HTTPRoute {
	for _, http := range vs.Spec.GetHttp() {
		switch {
		case http == other:
			return nil
		case http.GetName() == name:
			return http
		}
	}
	return nil
}

// mirroredIn is the version that gets copies, of what share, and whether of matching requests alone, where every port makes the same of
// them.
func mirroredIn(vs *networkingv1.VirtualService) shift.Copies {
	var mirrored shift.Copies
	for i, http := range weightedIn(vs) {
		to := copiesOf(http)
		if rule := ruleBefore(vs, http, plan.MirrorName(http.GetName())); rule != nil && to == (shift.Copies{}) {
			to = copiesOf(rule)
			to.Matching = to.Version != ""
		}
		if i > 0 && to != mirrored {
			return shift.Copies{}
		}
		mirrored = to
	}
	return mirrored
}

// copiesOf reads the copies that one route has made.
func copiesOf(http *istio.HTTPRoute) shift.Copies {
	if len(http.GetMirrors()) != 1 {
		return shift.Copies{}
	}
	m := http.GetMirrors()[0]
	to := shift.Route{Version: m.GetDestination().GetSubset(), Weight: v1alpha1.Whole}
	if m.GetPercentage() != nil {
		to.Weight = v1alpha1.Permille(math.Round(10 * m.GetPercentage().GetValue()))
	}
	return shift.Copies{Route: to}
}

// destinationsOf reads one route, of requests or of connections.
func destinationsOf[D interface {
	GetDestination() *istio.Destination
	GetWeight() int32
}](route []D) []shift.Route {
	read := make([]plan.Weighted, 0, len(route))
	for _, d := range route {
		read = append(read, plan.Weighted{Version: d.GetDestination().GetSubset(), Weight: int64(d.GetWeight())})
	}
	return plan.RoutesOf(read)
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
