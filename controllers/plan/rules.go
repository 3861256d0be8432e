package plan

import (
	"slices"

	networking "istio.io/api/networking/v1alpha3"
	corev1 "k8s.io/api/core/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// The names of the routes beside a port's own, which has the port's name. No port's name has a dot in it.
const (
	ruleMatch  = ".match"  // the group of requests that a step or a test names
	ruleMirror = ".mirror" // the requests of which alone copies are made
	ruleForget = ".forget" // cookies that count no more
	ruleKept   = ".kept-"  // users who stay on the version that follows
	ruleDrawn  = ".drawn-" // users who were given the stable version at the weight that follows
)

// MatchName is the name of the route for the match of a port, whose own route is named so.
func MatchName(port string) string { return port + ruleMatch }

// MirrorName is the name of the route for the requests of a port that are copied, where those are not all of them.
func MirrorName(port string) string { return port + ruleMirror }

// rules are the routes of one port, in the order in which Istio asks them: the first that matches answers, and the last one, which asks
// nothing, carries the weights (V7). Its name is the port's, and the others' begin with it.
//
// A test keeps its users: their cookies are asked before its match, so that nobody changes groups. The match of a step is somebody's
// explicit wish, and comes before any cookie.
func (s Scope) rules(port corev1.ServicePort, d shift.Desired, where Where) []*networking.HTTPRoute {
	r := ruler{s, port, d, where}
	var rules []*networking.HTTPRoute
	switch {
	case d.Bare:
		r.d.Routes, r.d.Mirror = []shift.Route{{Weight: v1alpha1.Whole}}, nil
	case s.Shift.Spec.Strategy == v1alpha1.StrategyABTest:
		rules = append(r.sessions(), r.matched()...)
	default:
		rules = slices.Concat(r.matched(), r.mirrored(), r.sessions())
	}
	return append(rules, r.weighted(port.Name, nil, r.d.Routes))
}

// Where is where a route is asked.
type Where string

// In the mesh a route is for one port of the Service; a gateway's ports are not the Service's, so nothing is matched on them there.
const (
	InMesh    Where = "mesh"
	AtGateway Where = "gateway"
)

// ruler makes the rules of one port.
type ruler struct {
	Scope
	port  corev1.ServicePort
	d     shift.Desired
	where Where
}

// matched sends the requests that the match names to its version. In a test, whoever comes to it has no cookie yet, and is given one.
func (r ruler) matched() []*networking.HTTPRoute {
	if r.d.Match == nil {
		return nil
	}
	rules := ReadMatches(r.d.Match.Rules)
	if len(rules) == 0 {
		return nil // none can be read; preflight says so, and nobody is matched by mistake
	}
	route := r.only(MatchName(r.port.Name), rules, r.d.Match.Version)
	if r.keeps() && r.Shift.Spec.Strategy == v1alpha1.StrategyABTest {
		r.give(route)
	}
	return []*networking.HTTPRoute{route}
}

// mirrored has copies made of the requests that a mirror names, and of no others. They are answered as all are.
func (r ruler) mirrored() []*networking.HTTPRoute {
	m := r.d.Mirror
	if m == nil || len(m.Rules) == 0 {
		return nil
	}
	rules := ReadMatches(m.Rules)
	if len(rules) == 0 {
		return nil // as above: nothing is copied by mistake
	}
	route := r.weighted(MirrorName(r.port.Name), rules, r.d.Routes)
	route.Mirrors = r.copies()
	return []*networking.HTTPRoute{route}
}

// weighted is a route that divides its requests. Copies are made of those that the stable version may answer, which are all but those
// of a rule for the candidate alone. Where users are kept, each destination tells them where they are.
func (r ruler) weighted(name string, asks []*networking.HTTPMatchRequest, routes []shift.Route) *networking.HTTPRoute {
	route := &networking.HTTPRoute{Name: name, Match: r.here(asks), Route: r.destinations(r.port, routes)}
	if m := r.d.Mirror; m != nil && len(m.Rules) == 0 {
		route.Mirrors = r.copies()
	}
	if r.keeps() {
		r.give(route)
	}
	return route
}

func (r ruler) copies() []*networking.HTTPMirrorPolicy {
	m := r.d.Mirror
	return []*networking.HTTPMirrorPolicy{{
		Destination: r.destination(r.port, m.Version),
		Percentage:  &networking.Percent{Value: float64(m.Weight) / 10},
	}}
}

// only is a route to one version.
func (r ruler) only(name string, asks []*networking.HTTPMatchRequest, version string) *networking.HTTPRoute {
	return &networking.HTTPRoute{Name: name, Match: r.here(asks), Route: r.destinations(r.port, []shift.Route{{Version: version, Weight: v1alpha1.Whole}})}
}

// here asks on the port, too, where that is the Service's.
func (r ruler) here(asks []*networking.HTTPMatchRequest) []*networking.HTTPMatchRequest {
	if r.where != InMesh {
		return asks
	}
	if len(asks) == 0 {
		return []*networking.HTTPMatchRequest{{Port: uint32(r.port.Port)}}
	}
	for _, ask := range asks {
		ask.Port = uint32(r.port.Port)
	}
	return asks
}
