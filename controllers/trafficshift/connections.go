package trafficshift

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/plan"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// connectionsOnly reports whether users of the service are seen by their connections alone: no port of it is HTTP.
func (w *world) connectionsOnly() bool {
	return w.scope.Service != nil && len(plan.HTTPPorts(w.scope.Service)) == 0 && len(plan.RoutedPorts(w.scope.Service)) > 0
}

// told is how gateways tell, or would tell, what is for external hosts; empty where no port could serve them.
func (w *world) told() plan.Told {
	if w.gatewayAPIRoutes() {
		return plan.ByHost
	}
	asked := w.scope
	asked.Entry = plan.Entry{Gateways: plan.QualifiedGateways(w.shift.Namespace, w.spec.Gateways), Told: w.liveEntry().Told}
	return asked.Told()
}

// counted is what users are counted by.
func (w *world) counted() string { return shift.Counted(w.connectionsOnly()) }

// lacksPorts reports whether a Service has not the ports any more that its routes are for: none at all, or none for requests where that is
// what they carry. A candidate can be taken back all the same, by the ports that the routes tell.
func lacksPorts(s, routed *corev1.Service) bool {
	return len(plan.RoutedPorts(s)) == 0 && len(routed.Spec.Ports) > 0 || len(plan.HTTPPorts(s)) == 0 && len(plan.HTTPPorts(routed)) > 0
}

// lacksEntry reports whether a Service has no port any more of the kind that its hosts are served by, where that is connections.
func (w *world) lacksEntry(s *corev1.Service) bool {
	told := w.liveEntry().Told
	return told == plan.BySNI && len(plan.TLSPorts(s)) == 0 || told == plan.ByPort && len(plan.TCPPorts(s)) == 0
}

// checkPorts refuses ports whose clients would reach a version past its weight: those of which Istio would guess the protocol, and those
// that the routes cannot be for.
func (w *world) checkPorts(service string, s *corev1.Service) []shift.Problem {
	if w.scope.Service != nil && len(plan.RoutedPorts(s)) > 0 && lacksPorts(s, w.scope.Service) {
		return []shift.Problem{problem(v1alpha1.ReasonPortUnsupported,
			"%s has no HTTP port any more, and its routes are for HTTP; name one http, http2 or grpc, or hand the service back first (annotation %s: \"true\" on the TrafficShift)",
			service, v1alpha1.AnnotationDetach)}
	}
	if live := w.liveEntry(); w.lacksEntry(s) {
		kind := map[plan.Told]string{plan.BySNI: "tls or https", plan.ByPort: "tcp"}[live.Told]
		return []shift.Problem{problem(v1alpha1.ReasonPortUnsupported,
			"%s has no port any more that its hosts (%s) are served by; name one %s, or hand the service back first (annotation %s: \"true\" on the TrafficShift)",
			service, strings.Join(live.Hosts, ", "), kind, v1alpha1.AnnotationDetach)}
	}
	for _, p := range s.Spec.Ports {
		switch connected := plan.IsTCP(p) || plan.IsTLS(p); {
		case plan.IsHTTP(p), connected && w.routesConnections(p):
		case !connected:
			return []shift.Problem{problem(v1alpha1.ReasonPortUnsupported,
				"port %d (%q) of %s does not say what is spoken on it, or nothing that Istio routes; name it http, http2, grpc, tcp, tls or https, or with such a prefix, or set its appProtocol",
				p.Port, p.Name, service)}
		case w.gatewayAPIRoutes():
			return []shift.Problem{problem(v1alpha1.ReasonPortUnsupported,
				"port %d (%q) of %s is %s, and the routes are HTTPRoutes, which are for HTTP alone: its connections would reach a candidate past the weights; write routing.api: istio before the service is taken over, or take the port out",
				p.Port, p.Name, service, plan.ProtocolOf(p))}
		case w.scope.Delegate:
			return []shift.Problem{problem(v1alpha1.ReasonPortUnsupported,
				"port %d (%q) of %s is %s, and a delegate has HTTP routes alone: its connections would reach a candidate past the weights; leave routing.delegate out, and Sluice routes every port, or take the port out",
				p.Port, p.Name, service, plan.ProtocolOf(p))}
		default:
			return []shift.Problem{problem(v1alpha1.ReasonPortUnsupported,
				"port %d (%q) of %s is %s, and no tcp or tls route of %s leads clients of the mesh to it: its connections would reach a candidate past the weights; give one of them such a route, or take the port out",
				p.Port, p.Name, service, plan.ProtocolOf(p), w.carriedBy())}
		}
	}
	return nil
}

// routesConnections reports whether the connections to a port go by weight: by routes of Sluice's own, or by some of the user's. One that is
// not there, or not read, is reported as such.
func (w *world) routesConnections(p corev1.ServicePort) bool {
	switch {
	case w.scope.Delegate || w.gatewayAPIRoutes():
		return false
	case len(w.scope.Attached) == 0:
		return true
	}
	return slices.ContainsFunc(w.scope.Attached, func(a *plan.Attached) bool {
		return a.Object == nil || a.RoutesPort(p, w.scope.Host, w.connectionsOnly())
	})
}

// checkConnections refuses what needs requests to look at, where there are connections alone.
func (w *world) checkConnections() []shift.Problem {
	if !w.connectionsOnly() {
		return w.checkConnectedHosts()
	}
	var problems []shift.Problem
	asked := w.spec
	asked.MaxLatency = w.shift.Spec.MaxLatency // a policy's is for those that have requests
	switch w.told() {
	case plan.BySNI:
		asked.Hosts, asked.Preview = nil, nil // both are names to begin TLS with
	case plan.ByPort:
		asked.Hosts = nil // the gateway's port tells
	}
	if len(asked.Hosts) > 0 {
		problems = append(problems, problem(v1alpha1.ReasonHTTPRequired,
			"spec.hosts needs HTTP or TLS to be told by, and no port of Service %s/%s is either: of plain TCP a gateway knows its own port alone; leave it out, name a port http, http2, grpc, tls or https, or name a Gateway of yours with a server of protocol TCP on port %s (annotation %s)",
			w.shift.Namespace, w.scope.Service.Name, numbers(plan.TCPPorts(w.scope.Service)), v1alpha1.AnnotationGateway))
	}
	for _, field := range needHTTP(&asked) {
		problems = append(problems, problem(v1alpha1.ReasonHTTPRequired,
			"%s needs HTTP, and no port of Service %s/%s is: Istio splits its connections by weight and sees nothing that is said in them; leave it out, or name a port http, http2 or grpc",
			field, w.shift.Namespace, w.scope.Service.Name))
	}
	return problems
}

// checkConnectedHosts refuses what must be read back from every route where those of the hosts are for connections, and stay so beside an HTTP
// port that was added later: a match that cannot be written there would be waited for without end.
func (w *world) checkConnectedHosts() []shift.Problem {
	if w.scope.Service == nil || len(w.spec.Hosts) == 0 && !w.busy() {
		return nil
	}
	told, live := w.told(), w.liveEntry()
	if told != plan.BySNI && told != plan.ByPort {
		return nil
	}
	var problems []shift.Problem
	for _, field := range needRequests(&w.spec) {
		problems = append(problems, problem(v1alpha1.ReasonHTTPRequired,
			"%s needs HTTP at the hosts too, and theirs (%s) are told by %s, as they were before Service %s/%s had an HTTP port: nothing that is said there is seen; leave it out, or leave spec.hosts out",
			field, strings.Join(live.Hosts, ", "), told, w.shift.Namespace, w.scope.Service.Name))
	}
	return problems
}

// adviseOnConnections tells of ports that nobody judges a candidate by: beside one of HTTP, which may be for metrics alone, connections ride along.
func (w *world) adviseOnConnections() {
	http, connected := plan.HTTPPorts(w.scope.Service), slices.DeleteFunc(plan.RoutedPorts(w.scope.Service), plan.IsHTTP)
	if len(http) == 0 || len(connected) == 0 {
		return
	}
	w.advise(v1alpha1.ReasonNotJudged, "a candidate of Service %s/%s is judged by its requests to port %s, and not by the connections to port %s, which go with the weights all the same; where those are what counts, give them a Service of their own (annotation %s)",
		w.shift.Namespace, w.scope.Service.Name, numbers(http), numbers(connected), v1alpha1.AnnotationService)
}

// numbers lists ports.
func numbers(ports []corev1.ServicePort) string {
	var text []string
	for _, p := range ports {
		text = append(text, fmt.Sprint(p.Port))
	}
	return strings.Join(text, " or ")
}

// needHTTP are the fields of a spec that are about requests.
func needHTTP(spec *v1alpha1.TrafficShiftSpec) []string {
	fields := needRequests(spec)
	need := func(set bool, field string) {
		if set {
			fields = append(fields, field)
		}
	}
	need(spec.MaxLatency != nil, "spec.maxLatency")
	need(spec.GatewayTLS != nil, "spec.gatewayTLS")
	need(spec.Preview != nil && spec.Preview.Host != "", "spec.preview.host")
	need(spec.Routing != nil && spec.Routing.HTTP != nil, "spec.routing.http")
	return fields
}

// needRequests are those of them by which it is told request by request who answers, wherever users come in.
func needRequests(spec *v1alpha1.TrafficShiftSpec) []string {
	var fields []string
	need := func(set bool, format string, args ...any) {
		if set {
			fields = append(fields, fmt.Sprintf(format, args...))
		}
	}
	need(spec.Strategy == v1alpha1.StrategyABTest, "spec.strategy: %s", v1alpha1.StrategyABTest)
	for i, step := range spec.Steps {
		need(len(step.Match) > 0, "spec.steps[%d].match", i)
		need(step.Mirror != "", "spec.steps[%d].mirror", i)
	}
	need(spec.Session != nil, "spec.session")
	return fields
}

// connectionsIn are the weights of a VirtualService's ports that are not HTTP.
func connectionsIn(vs *networkingv1.VirtualService) [][]shift.Route {
	var all [][]shift.Route
	for _, route := range vs.Spec.GetTcp() {
		all = append(all, destinationsOf(route.GetRoute()))
	}
	for _, route := range vs.Spec.GetTls() {
		all = append(all, destinationsOf(route.GetRoute()))
	}
	return all
}

// connectedPorts are the ports that are not HTTP, as far as their routes tell.
func connectedPorts(vs *networkingv1.VirtualService) []corev1.ServicePort {
	var ports []corev1.ServicePort
	add := func(protocol string, port uint32) {
		known := slices.ContainsFunc(ports, func(p corev1.ServicePort) bool { return p.Port == int32(port) })
		if port > 0 && !known {
			ports = append(ports, corev1.ServicePort{Name: fmt.Sprintf("%s-%d", protocol, port), Port: int32(port)})
		}
	}
	for _, route := range vs.Spec.GetTcp() {
		for _, match := range route.GetMatch() {
			add("tcp", match.GetPort())
		}
	}
	for _, route := range vs.Spec.GetTls() {
		for _, match := range route.GetMatch() {
			add("tls", match.GetPort())
		}
	}
	slices.SortFunc(ports, func(a, b corev1.ServicePort) int { return cmp.Compare(a.Port, b.Port) })
	return ports
}

// destinationsIn are all destinations of a VirtualService's routes.
func destinationsIn(vs *networkingv1.VirtualService) []*istio.Destination {
	var all []*istio.Destination
	for _, route := range vs.Spec.GetHttp() {
		for _, d := range route.GetRoute() {
			all = append(all, d.GetDestination())
		}
	}
	for _, route := range vs.Spec.GetTcp() {
		for _, d := range route.GetRoute() {
			all = append(all, d.GetDestination())
		}
	}
	for _, route := range vs.Spec.GetTls() {
		for _, d := range route.GetRoute() {
			all = append(all, d.GetDestination())
		}
	}
	return all
}
