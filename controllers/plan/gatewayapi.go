package plan

import (
	"slices"
	"strconv"
	"strings"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// routing is one way of writing routes: the objects that clients reach the service by, those that carry the weights, those that
// tell versions apart, and those that show one to whoever wants to see it. Scope itself is Istio's own way, gatewayAPI the other one.
type routing interface {
	entry(shift.Desired) []Step
	routes(shift.Desired) []Step
	subsets(shift.Desired) []Step
	previews(shift.Desired) []Step
}

func (s Scope) routing() routing {
	if s.API == v1alpha1.RoutingGateway {
		return gatewayAPI{s}
	}
	return s
}

// gatewayAPI writes routes of the Gateway API. Their backends are Services, which have no subsets: each version has a Service of its
// own. What holds for subsets holds for those: a route names one only once it was read back, and one goes only when no route that was
// read back names it.
type gatewayAPI struct{ Scope }

// RouteName is the name of the route of one port. A route's backends name their port, so that a Service of several ports has a route
// for each.
func RouteName(shift string, port int32) string { return shift + "-" + strconv.Itoa(int(port)) }

var (
	httpRouteType = metav1.TypeMeta{APIVersion: gatewayv1.GroupVersion.String(), Kind: "HTTPRoute"}
	grpcRouteType = metav1.TypeMeta{APIVersion: gatewayv1.GroupVersion.String(), Kind: "GRPCRoute"}
)

// entry makes the Service where none selects the pods. No Gateway is made: which one a route is for is its administrator's to say, and
// one of the Gateway API would start a proxy.
func (g gatewayAPI) entry(d shift.Desired) []Step {
	if g.Made && d.Mesh && !d.Bare {
		return []Step{{Apply, g.Service}}
	}
	return nil
}

// routes are one for each port, whose parent is the Service itself, and one for external hosts where those are asked for. All carry the
// same weights.
func (g gatewayAPI) routes(d shift.Desired) []Step {
	ports := HTTPPorts(g.Service)
	switch {
	case d.Unroute, len(ports) == 0 && d.Bare:
		return g.unroute()
	case len(ports) == 0:
		return nil // a route could not name a port: those that stand stay, and preflight says why
	case d.Bare:
		return append(g.applied([]shift.Route{{Weight: v1alpha1.Whole}}), g.leftover()...)
	case len(d.Routes) > 0:
		return append(g.applied(d.Routes), g.leftover()...)
	}
	return nil
}

func (g gatewayAPI) applied(routes []shift.Route) []Step {
	var steps []Step
	for _, port := range HTTPPorts(g.Service) {
		steps = append(steps, Step{Apply, g.meshRoute(port, routes)})
	}
	if len(g.Entry.Hosts) > 0 && len(steps) > 0 {
		steps = append(steps, Step{Apply, g.hostsRoute(g.meta(HostsName(g.Template.Name)), routes)})
	}
	return steps
}

// GatewayAPIRoutes are the routes that carry the weights where they are those of the Gateway API, as they would be for the Service itself.
func (s Scope) GatewayAPIRoutes() []Object {
	if s.Service == nil {
		return nil
	}
	var routes []Object
	for _, step := range (gatewayAPI{s}).applied([]shift.Route{{Weight: v1alpha1.Whole}}) {
		routes = append(routes, step.Object)
	}
	return routes
}

// leftover removes the routes of ours that nothing asks for any more: of a port that the Service has lost, of one whose protocol is
// another now, of hosts that are not served any more.
func (g gatewayAPI) leftover() []Step {
	wanted := map[string]bool{}
	for _, step := range g.applied(nil) {
		wanted[step.String()] = true
	}
	var steps []Step
	for _, route := range g.Routes {
		if !wanted[Step{Apply, route}.String()] {
			steps = append(steps, Step{Delete, route})
		}
	}
	return steps
}

// unroute removes every route of ours. Hosts that nothing else serves keep one to the Service itself, which belongs to nobody from
// then on.
func (g gatewayAPI) unroute() []Step {
	kept := ""
	var steps []Step
	if !g.Leave && len(g.Entry.Hosts) > 0 && len(HTTPPorts(g.Service)) > 0 {
		route := g.hostsRoute(g.disowned(HostsName(g.Template.Name)), []shift.Route{{Weight: v1alpha1.Whole}})
		kept = Step{Delete, route}.String()
		steps = append(steps, Step{Disown, route})
	}
	for _, route := range g.Routes {
		if step := (Step{Delete, route}); step.String() != kept {
			steps = append(steps, step)
		}
	}
	return steps
}

// meshRoute is for clients in the mesh, and for the waypoint: whoever asks for the Service on that port.
func (g gatewayAPI) meshRoute(port corev1.ServicePort, routes []shift.Route) Object {
	parent := gatewayv1.ParentReference{
		Group: new(gatewayv1.Group("")), Kind: new(gatewayv1.Kind("Service")), Name: gatewayv1.ObjectName(g.Service.Name), Port: &port.Port,
	}
	meta := g.meta(RouteName(g.Template.Name, port.Port))
	return g.route(meta, port, routes, []gatewayv1.ParentReference{parent}, nil)
}

// hostsRoute binds the external hosts to their Gateways.
func (g gatewayAPI) hostsRoute(meta metav1.ObjectMeta, routes []shift.Route) Object {
	var parents []gatewayv1.ParentReference
	for _, gateway := range g.Entry.Gateways {
		namespace, name, _ := strings.Cut(gateway, "/")
		parents = append(parents, gatewayv1.ParentReference{
			Group: new(gatewayv1.Group(gatewayv1.GroupName)), Kind: new(gatewayv1.Kind("Gateway")),
			Namespace: new(gatewayv1.Namespace(namespace)), Name: gatewayv1.ObjectName(name),
		})
	}
	var hosts []gatewayv1.Hostname
	for _, host := range g.Entry.Hosts {
		hosts = append(hosts, gatewayv1.Hostname(host))
	}
	return g.route(meta, g.entryPort(), routes, parents, hosts)
}

// route makes the route of one port. What the API server would fill in is written out, so that what is read back is the same.
func (g gatewayAPI) route(
	meta metav1.ObjectMeta, port corev1.ServicePort, routes []shift.Route, parents []gatewayv1.ParentReference, hosts []gatewayv1.Hostname,
) Object {
	common := gatewayv1.CommonRouteSpec{ParentRefs: parents}
	backends := g.backends(port, routes)
	if isGRPC(port) {
		r := &gatewayv1.GRPCRoute{TypeMeta: grpcRouteType, ObjectMeta: meta, Spec: gatewayv1.GRPCRouteSpec{CommonRouteSpec: common, Hostnames: hosts}}
		rule := gatewayv1.GRPCRouteRule{}
		for _, b := range backends {
			rule.BackendRefs = append(rule.BackendRefs, gatewayv1.GRPCBackendRef{BackendRef: b})
		}
		r.Spec.Rules = []gatewayv1.GRPCRouteRule{rule}
		return r
	}
	r := &gatewayv1.HTTPRoute{TypeMeta: httpRouteType, ObjectMeta: meta, Spec: gatewayv1.HTTPRouteSpec{CommonRouteSpec: common, Hostnames: hosts}}
	rule := gatewayv1.HTTPRouteRule{Matches: []gatewayv1.HTTPRouteMatch{{
		Path: &gatewayv1.HTTPPathMatch{Type: new(gatewayv1.PathMatchPathPrefix), Value: new("/")},
	}}}
	for _, b := range backends {
		rule.BackendRefs = append(rule.BackendRefs, gatewayv1.HTTPBackendRef{BackendRef: b})
	}
	r.Spec.Rules = []gatewayv1.HTTPRouteRule{rule}
	return r
}

// backends writes weights as destinations does. A version is its Service; no version is the Service itself.
func (g gatewayAPI) backends(port corev1.ServicePort, routes []shift.Route) []gatewayv1.BackendRef {
	unit := unitOf(routes)
	var backends []gatewayv1.BackendRef
	for _, r := range routes {
		name := g.Service.Name
		if r.Version != "" {
			name = VersionName(g.Template.Name, r.Version)
		}
		backends = append(backends, gatewayv1.BackendRef{
			BackendObjectReference: gatewayv1.BackendObjectReference{
				Group: new(gatewayv1.Group("")), Kind: new(gatewayv1.Kind("Service")), Name: gatewayv1.ObjectName(name), Port: &port.Port,
			},
			Weight: new(int32(r.Weight / unit)),
		})
	}
	return backends
}

// isGRPC reports whether a port is routed by a GRPCRoute. An HTTPRoute would do as well, but for what it could match on.
func isGRPC(p corev1.ServicePort) bool {
	protocol, _, _ := strings.Cut(p.Name, "-")
	if p.AppProtocol != nil {
		protocol = strings.TrimPrefix(*p.AppProtocol, "kubernetes.io/")
	} else if strings.HasPrefix(strings.ToLower(p.Name), "grpc-web") {
		return false
	}
	return strings.EqualFold(protocol, "grpc")
}

// subsets are the Services of versions, each with a DestinationRule where there is a trafficPolicy: that of the Service itself says
// nothing of requests which a route has sent elsewhere.
func (g gatewayAPI) subsets(d shift.Desired) []Step {
	var steps []Step
	if !d.Unroute && (!d.Mesh || len(d.Subsets) == 0) {
		return nil
	}
	if !d.Unroute {
		for _, version := range d.Subsets {
			steps = append(steps, g.subset(version)...)
		}
	}
	for _, version := range g.Versions {
		if d.Unroute || !slices.Contains(d.Subsets, version) {
			steps = append(steps, Step{Delete, g.versionRule(version)}, Step{Delete, g.VersionService(version)})
		}
	}
	return steps
}

// subset makes what tells one version apart. While the Service is gone, and its ports are known from the routes alone, a Service that
// stands is better than one made anew: nothing tells which port of the pods is meant.
func (g gatewayAPI) subset(version string) []Step {
	if len(g.Service.Spec.Selector) == 0 {
		return nil
	}
	rule := Step{Delete, g.versionRule(version)}
	if g.Policy != nil {
		rule.Verb = Apply
	}
	return []Step{rule, {Apply, g.VersionService(version)}}
}

// VersionService is the Service that routes send the requests of one version to. Its selector never changes, whatever becomes of the
// Service's own: the labels of a version are its alone. Whoever asks for it by its name meets the waypoint as well.
func (s Scope) VersionService(version string) *corev1.Service {
	svc := s.MakeVersionService(version)
	svc.Spec.Selector = VersionLabels(s.Template.Name, version)
	svc.Spec.TrafficDistribution = s.Service.Spec.TrafficDistribution
	svc.Annotations = map[string]string{v1alpha1.AnnotationRoutedService: s.Service.Name}
	if s.Made {
		svc.Annotations[v1alpha1.AnnotationService] = ServiceMade
	}
	for _, key := range []string{LabelUseWaypoint, LabelUseWaypointNamespace} {
		if value, ok := s.Service.Labels[key]; ok {
			svc.Labels[key] = value
		}
	}
	return svc
}

// previews are none: each live version has its Service for the routes, and that is its address.
func (g gatewayAPI) previews(shift.Desired) []Step { return nil }

// The labels by which a Service is put behind a waypoint.
const (
	LabelUseWaypoint          = "istio.io/use-waypoint"
	LabelUseWaypointNamespace = "istio.io/use-waypoint-namespace"
)

// versionRule carries the trafficPolicy over to the Service of one version.
func (s Scope) versionRule(version string) *networkingv1.DestinationRule {
	name := VersionName(s.Template.Name, version)
	rule := &networkingv1.DestinationRule{TypeMeta: destinationRuleType, ObjectMeta: s.meta(name)}
	rule.Spec.Host = s.VersionHost(version)
	if s.Policy != nil {
		rule.Spec.TrafficPolicy = s.Policy.DeepCopy()
	}
	return rule
}
