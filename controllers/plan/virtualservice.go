package plan

import (
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
)

var (
	virtualServiceType  = metav1.TypeMeta{APIVersion: "networking.istio.io/v1", Kind: "VirtualService"}
	destinationRuleType = metav1.TypeMeta{APIVersion: "networking.istio.io/v1", Kind: "DestinationRule"}
	gatewayType         = metav1.TypeMeta{APIVersion: "networking.istio.io/v1", Kind: "Gateway"}
)

// routes are the VirtualServices: the one for the mesh, and the one for external hosts where those are asked for. Both carry the
// same weights.
func (s Scope) routes(d shift.Desired) []Step {
	switch {
	case len(s.Attached) > 0:
		return s.attach(d)
	case d.Unroute:
		return s.unroute()
	case !s.routable() && d.Bare:
		return s.unroute() // a service that says no protocol any more is bare without a route
	case !s.routable():
		return nil // a route could not name a port: those that stand stay, and preflight says why
	case d.Bare, len(d.Routes) > 0:
		return s.virtualServices(d)
	}
	return nil
}

func (s Scope) virtualServices(d shift.Desired) []Step {
	steps := []Step{{Apply, s.MakeVirtualService(d)}}
	if s.hosted() {
		steps = append(steps, Step{Apply, s.MakeHostsVirtualService(d)})
	}
	return steps
}

// MakeVirtualService makes the one for the mesh: the Service's full name (V1), bound to the mesh alone (V2), in the Service's own
// namespace with exportTo unset (V4), the rules of each HTTP port and the routes of those that are not.
func (s Scope) MakeVirtualService(d shift.Desired) *networkingv1.VirtualService {
	vs := &networkingv1.VirtualService{TypeMeta: virtualServiceType, ObjectMeta: s.meta(s.Template.Name)}
	vs.Spec.Hosts = []string{s.Host}
	vs.Spec.Gateways = []string{"mesh"}
	for _, port := range HTTPPorts(s.Service) {
		vs.Spec.Http = append(vs.Spec.Http, s.rules(port, d, InMesh)...)
	}
	s.carry(vs.Spec.Http)
	if !s.Delegate {
		s.connections(vs, d)
	}
	s.delegate(vs)
	return vs
}

// routable reports whether the Service has a port that a route can be for. A delegate routes HTTP alone (V5).
func (s Scope) routable() bool {
	if s.Delegate {
		return len(HTTPPorts(s.Service)) > 0
	}
	return len(RoutedPorts(s.Service)) > 0
}

// hosted reports whether there are external hosts, and a port that they can be served by.
func (s Scope) hosted() bool { return len(s.Entry.Hosts) > 0 && len(s.entryPorts()) > 0 }

// MakeHostsVirtualService makes the one for external hosts, bound to their gateways.
func (s Scope) MakeHostsVirtualService(d shift.Desired) *networkingv1.VirtualService {
	vs := &networkingv1.VirtualService{TypeMeta: virtualServiceType, ObjectMeta: s.meta(HostsName(s.Template.Name))}
	vs.Spec.Hosts = s.Entry.Hosts
	vs.Spec.Gateways = s.gateways()
	switch s.Told() {
	case BySNI:
		vs.Spec.Tls = bySNI(vs.Spec.Hosts, s.connected(s.entryPort(), connectedRoutes(d)))
	case ByPort:
		vs.Spec.Tcp = s.byPort(connectedRoutes(d))
	default:
		vs.Spec.Http = s.rules(s.entryPort(), d, AtGateway)
		s.carry(vs.Spec.Http)
	}
	return vs
}

// Told is how gateways tell what is for external hosts; empty where no port could serve them.
func (s Scope) Told() Told {
	switch ports := s.entryPorts(); {
	case len(ports) == 0:
		return ""
	case IsTLS(ports[0]):
		return BySNI
	case IsTCP(ports[0]):
		return ByPort
	}
	return ByHost
}

// entryPorts are the ports of which external hosts are served: those that are told as they are already, or else those of HTTP, or of TLS,
// or of TCP. A port of HTTP that is added later does not take over hosts that are served by connections.
func (s Scope) entryPorts() []corev1.ServicePort {
	if s.Delegate {
		return HTTPPorts(s.Service)
	}
	for _, told := range []Told{s.Entry.Told, ByHost, BySNI, ByPort} {
		if ports := s.portsTold(told); len(ports) > 0 {
			return ports
		}
	}
	return nil
}

// portsTold are the ports whose hosts can be told so. TCP takes a whole port of a gateway, which is nothing to make for one service.
func (s Scope) portsTold(told Told) []corev1.ServicePort {
	switch {
	case told == ByHost:
		return HTTPPorts(s.Service)
	case told == BySNI:
		return TLSPorts(s.Service)
	case told == ByPort && len(s.Entry.Gateways) > 0:
		return TCPPorts(s.Service)
	}
	return nil
}

// entryPort is the port that external hosts are served by: the one that serves them already, or else the one named http (https, of those of
// TLS), or else the first. The order of the Service's ports may change; what users reach must not change with it.
func (s Scope) entryPort() corev1.ServicePort {
	ports, named := s.entryPorts(), "http"
	if s.Told() == BySNI {
		named = "https"
	}
	for _, is := range []func(corev1.ServicePort) bool{
		func(p corev1.ServicePort) bool { return p.Port == s.Entry.Port },
		func(p corev1.ServicePort) bool { return p.Name == named },
	} {
		if i := slices.IndexFunc(ports, is); i >= 0 {
			return ports[i]
		}
	}
	return ports[0]
}

// destinations writes weights as percents where they are whole and with a sum of 1000 where they are not: Istio divides by the sum
// (W1). A single destination gets everything whatever its weight says (W2), so it says everything.
func (s Scope) destinations(port corev1.ServicePort, routes []shift.Route) []*networking.HTTPRouteDestination {
	unit := unitOf(routes)
	destinations := make([]*networking.HTTPRouteDestination, 0, len(routes))
	for _, r := range routes {
		destinations = append(destinations, &networking.HTTPRouteDestination{
			Destination: s.destination(port, r.Version),
			Weight:      int32(r.Weight / unit),
		})
	}
	return destinations
}

// destination names its port, because on a Service of several ports a gateway takes one without for a cluster that does not exist.
func (s Scope) destination(port corev1.ServicePort, version string) *networking.Destination {
	return &networking.Destination{Host: s.Host, Subset: version, Port: &networking.PortSelector{Number: uint32(port.Port)}}
}

// unitOf is what weights are counted in: percents, or thousandths where one of them is no whole percent.
func unitOf(routes []shift.Route) v1alpha1.Permille {
	if slices.ContainsFunc(routes, func(r shift.Route) bool { return r.Weight%10 != 0 }) {
		return 1
	}
	return 10
}

// unroute removes what Sluice alone needs. Hosts that nothing else serves keep a Gateway and a VirtualService without subsets, which
// belong to nobody from then on.
func (s Scope) unroute() []Step {
	steps := []Step{s.letMeshGo()}
	switch {
	case s.Leave:
		return append(steps, s.deleteHosts(), s.deleteGateway())
	case len(s.Entry.Hosts) == 0:
		return steps
	case !s.hosted():
		return append(steps, s.deleteHosts())
	}
	hosts := s.MakeHostsVirtualService(shift.Desired{Bare: true})
	hosts.ObjectMeta = s.disowned(hosts.Name)
	steps = append(steps, Step{Disown, hosts})
	if len(s.Entry.Gateways) == 0 {
		s.Entry.Preview = "" // which nobody answers for any more
		gateway := s.MakeGateway(shift.Desired{})
		gateway.ObjectMeta = s.disowned(gateway.Name)
		steps = append(steps, Step{Disown, gateway})
	}
	return steps
}

// letMeshGo removes the VirtualService for the mesh. A delegate stays, without subsets and without an owner: its root names it, and would
// answer 404 without it.
func (s Scope) letMeshGo() Step {
	if !s.Delegate || !s.routable() {
		return Step{Delete, &networkingv1.VirtualService{TypeMeta: virtualServiceType, ObjectMeta: s.meta(s.Template.Name)}}
	}
	vs := s.MakeVirtualService(shift.Desired{Bare: true})
	vs.ObjectMeta = s.disowned(vs.Name)
	return Step{Disown, vs}
}

// gateways are what the hosts are bound to, each with its namespace.
func (s Scope) gateways() []string {
	if len(s.Entry.Gateways) == 0 {
		return []string{s.Template.Namespace + "/" + s.Template.Name}
	}
	return s.Entry.Gateways
}

// QualifiedGateways gives every gateway its namespace.
func QualifiedGateways(namespace string, gateways []string) []string {
	full := make([]string, 0, len(gateways))
	for _, g := range gateways {
		if !strings.Contains(g, "/") {
			g = namespace + "/" + g
		}
		full = append(full, g)
	}
	return full
}
