package plan

import (
	"strings"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// connections adds the routes of the ports that are not HTTP, with the weights of those that are. Each new connection is drawn by weight
// and stays with its version until it ends: Istio looks at nothing that is said in it.
func (s Scope) connections(vs *networkingv1.VirtualService, d shift.Desired) {
	routes := connectedRoutes(d)
	vs.Spec.Tcp = s.byPort(routes)
	tls := TLSPorts(s.Service)
	if len(tls) == 0 {
		return
	}
	names := s.askedNames()
	vs.Spec.Hosts = names // Istio takes the SNI of a route only where it is one of them
	for _, port := range tls {
		vs.Spec.Tls = append(vs.Spec.Tls, &networking.TLSRoute{
			Match: []*networking.TLSMatchAttributes{{SniHosts: names, Port: uint32(port.Port)}},
			Route: s.connected(port, routes),
		})
	}
}

// bySNI is the route at a gateway of the connections that ask for hosts. A gateway's ports are not the Service's, so nothing is matched on
// them: whichever of its servers pass TLS through for the hosts have it.
func bySNI(hosts []string, route []*networking.RouteDestination) []*networking.TLSRoute {
	return []*networking.TLSRoute{{Match: []*networking.TLSMatchAttributes{{SniHosts: hosts}}, Route: route}}
}

// byPort are the routes of the connections that say nothing. At a gateway, too, a route is for the number of the Service's port: a server of
// that number has it.
func (s Scope) byPort(routes []shift.Route) []*networking.TCPRoute {
	var tcp []*networking.TCPRoute
	for _, port := range TCPPorts(s.Service) {
		tcp = append(tcp, &networking.TCPRoute{
			Match: []*networking.L4MatchAttributes{{Port: uint32(port.Port)}},
			Route: s.connected(port, routes),
		})
	}
	return tcp
}

// connectedRoutes are the weights of connections, which have no rules of their own.
func connectedRoutes(d shift.Desired) []shift.Route {
	if d.Bare {
		return []shift.Route{{Weight: v1alpha1.Whole}}
	}
	return d.Routes
}

// askedNames are the names by which clients in the mesh ask for the service when they begin TLS: those that a pod's resolver knows. A
// name that is not among them would be passed on to the pods of any version, past the weights.
func (s Scope) askedNames() []string {
	name, namespace := s.Service.Name, s.Template.Namespace
	return []string{s.Host, strings.Join([]string{name, namespace, "svc"}, "."), name + "." + namespace, name}
}

// connected writes destinations as HTTP's are written: Istio reads both alike (W1, W2).
func (s Scope) connected(port corev1.ServicePort, routes []shift.Route) []*networking.RouteDestination {
	unit := unitOf(routes)
	destinations := make([]*networking.RouteDestination, 0, len(routes))
	for _, r := range routes {
		destinations = append(destinations, &networking.RouteDestination{Destination: s.destination(port, r.Version), Weight: int32(r.Weight / unit)})
	}
	return destinations
}
