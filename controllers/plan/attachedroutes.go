package plan

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// The kinds of routes, as a VirtualService's spec has them.
const (
	httpRoutes = "http"
	tlsRoutes  = "tls"
	tcpRoutes  = "tcp"
)

// attachedRoute is one route of a VirtualService of the user's, the nth of its kind. What it has for route reads alike in all kinds.
type attachedRoute struct {
	kind   string
	n      int
	fields map[string]any
}

// listed are the routes of one kind.
func (a Attached) listed(kind string) []any {
	if a.Object == nil {
		return nil
	}
	spec, _ := a.Object.Object["spec"].(map[string]any)
	routes, _ := spec[kind].([]any)
	return routes
}

// count is how many routes there are, and one is one of them: those of HTTP come first.
func (a Attached) count() int {
	return len(a.listed(httpRoutes)) + len(a.listed(tlsRoutes)) + len(a.listed(tcpRoutes))
}

func (a Attached) one(i int) attachedRoute {
	for _, kind := range []string{httpRoutes, tlsRoutes, tcpRoutes} {
		routes := a.listed(kind)
		if i < len(routes) {
			fields, _ := routes[i].(map[string]any)
			return attachedRoute{kind, i, fields}
		}
		i -= len(routes)
	}
	return attachedRoute{}
}

// key is a route's name. One of connections has none, and is told by what it matches, because their order may change; one that nothing tells
// is told by its place.
func (a Attached) key(i int) string {
	r := a.one(i)
	if name, _ := r.fields["name"].(string); r.kind == httpRoutes {
		if name != "" {
			return name
		}
		return fmt.Sprintf("#%d", r.n)
	}
	matched, told := r.matched(), true
	for j := range i {
		told = told && (a.one(j).kind != r.kind || a.one(j).matched() != matched)
	}
	if matched == "" || !told {
		return fmt.Sprintf("%s#%d", r.kind, r.n)
	}
	return r.kind + ":" + matched
}

// matched says what connections a route is for: "5432", "443,shop.example.com".
func (r attachedRoute) matched() string {
	var said []string
	for _, m := range r.matches() {
		if m.port > 0 {
			said = append(said, fmt.Sprint(m.port))
		}
		said = append(said, m.names...)
	}
	return strings.Join(said, ",")
}

// match is what one of the matches of a route of connections asks for.
type match struct {
	port  int64
	names []string
}

func (r attachedRoute) matches() []match {
	listed, _ := r.fields["match"].([]any)
	var all []match
	for i := range listed {
		fields, _ := listed[i].(map[string]any)
		m := match{}
		m.port, _ = fields["port"].(int64)
		names, _ := fields["sniHosts"].([]any)
		for _, name := range names {
			text, _ := name.(string)
			m.names = append(m.names, text)
		}
		all = append(all, m)
	}
	return all
}

// carries is what a route sends on.
func (a Attached) carries(i int) string {
	if a.one(i).kind == httpRoutes {
		return "requests"
	}
	return "connections"
}

// named reports whether the spec names a route.
func (a Attached) named(i int) bool {
	r := a.one(i)
	switch r.kind {
	case httpRoutes:
		name, _ := r.fields["name"].(string)
		return slices.Contains(a.Routes, name)
	case tcpRoutes:
		return slices.ContainsFunc(a.TCP, r.isTCP)
	}
	return slices.ContainsFunc(a.TLS, r.isTLS)
}

func (r attachedRoute) isTCP(asked v1alpha1.AttachedTCPRoute) bool {
	return r.kind == tcpRoutes && slices.ContainsFunc(r.matches(), func(m match) bool { return m.port == int64(asked.Port) })
}

func (r attachedRoute) isTLS(asked v1alpha1.AttachedTLSRoute) bool {
	return r.kind == tlsRoutes && slices.ContainsFunc(r.matches(), func(m match) bool {
		lacks := slices.ContainsFunc(asked.SNIHosts, func(name string) bool { return !slices.Contains(m.names, name) })
		return (asked.Port == 0 || m.port == int64(asked.Port)) && !lacks
	})
}

// missing are the routes that the spec names and that are not there.
func (a Attached) missing() []string {
	there := func(is func(attachedRoute) bool) bool {
		for i := range a.count() {
			if is(a.one(i)) {
				return true
			}
		}
		return false
	}
	var missing []string
	for _, name := range a.Routes {
		if !there(func(r attachedRoute) bool { return r.kind == httpRoutes && r.fields["name"] == name }) {
			missing = append(missing, "route named "+name)
		}
	}
	for _, asked := range a.TCP {
		if !there(func(r attachedRoute) bool { return r.isTCP(asked) }) {
			missing = append(missing, fmt.Sprintf("tcp route that matches port %d", asked.Port))
		}
	}
	for _, asked := range a.TLS {
		if !there(func(r attachedRoute) bool { return r.isTLS(asked) }) {
			missing = append(missing, tlsAsked(asked))
		}
	}
	return missing
}

func tlsAsked(asked v1alpha1.AttachedTLSRoute) string {
	var parts []string
	if asked.Port > 0 {
		parts = append(parts, fmt.Sprintf("port %d", asked.Port))
	}
	if len(asked.SNIHosts) > 0 {
		parts = append(parts, "sniHosts "+strings.Join(asked.SNIHosts, ", "))
	}
	return "tls route that matches " + strings.Join(parts, " and ")
}

// RoutesPort reports whether the connections to a port of the service's go by routes that are written: those of clients of the mesh, who come by
// a route that matches the port, or those that a gateway sends on to it. In that case whoever comes from the mesh comes past the weights, so
// that somebody must count the connections and see it.
func (a Attached) RoutesPort(port corev1.ServicePort, host string, counted bool) bool {
	return slices.ContainsFunc(a.selected(host), func(i int) bool {
		switch r := a.one(i); {
		case r.kind == httpRoutes:
			return false
		case a.inMesh():
			return r.matchesPort(int64(port.Port))
		}
		return counted && a.leadsTo(i, int64(port.Port))
	})
}

func (r attachedRoute) matchesPort(port int64) bool {
	matches := r.matches()
	return len(matches) == 0 || slices.ContainsFunc(matches, func(m match) bool { return m.port == 0 || m.port == port })
}

// leadsTo reports whether a route's destination is a port, as it says itself or, where it does not, as it matches.
func (a Attached) leadsTo(i int, port int64) bool {
	to, _ := a.destination(i, 0)["destination"].(map[string]any)
	selector, _ := to["port"].(map[string]any)
	if number, ok := selector["number"].(int64); ok {
		return number == port
	}
	return a.one(i).matchesPort(port)
}

// inMesh reports whether clients of the mesh come by a VirtualService's routes.
func (a Attached) inMesh() bool {
	spec, _ := a.Object.Object["spec"].(map[string]any)
	bound, _ := spec["gateways"].([]any)
	return len(bound) == 0 || slices.Contains(bound, any("mesh"))
}
