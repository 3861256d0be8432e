package trafficshift

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	istio "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/plan"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// gateways are Istio's Gateways by "namespace/name".
type gateways map[string]*networkingv1.Gateway

// gateways are those of the cluster, and the one that is to be made. Without hosts there is nothing to ask them.
func (r *Reconciler) gateways(ctx context.Context, w *world) (gateways, error) {
	if len(w.spec.Hosts) == 0 {
		return nil, nil
	}
	var list networkingv1.GatewayList
	if err := r.Client.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("listing Gateways: %w", err)
	}
	all := gateways{}
	for _, g := range list.Items {
		all[g.Namespace+"/"+g.Name] = g
	}
	if len(w.spec.Gateways) == 0 {
		made := w.scope
		made.Entry = plan.Entry{Hosts: w.spec.Hosts, Told: w.told()}
		if w.hostsEach() {
			made.Entry.Preview = w.spec.Preview.Host
		}
		all[w.shift.Namespace+"/"+w.shift.Name] = made.MakeGateway(shift.Desired{Previews: w.previewable()})
	}
	return all, nil
}

// checkGateways finds gateways that could not serve the hosts: one that is not there, whose servers do not take the host (rule G2), or
// that no pod runs (G1).
func (r *Reconciler) checkGateways(ctx context.Context, w *world) ([]shift.Problem, error) {
	if w.gatewayAPIRoutes() {
		return r.checkParents(ctx, w)
	}
	all, err := r.gateways(ctx, w)
	if err != nil || all == nil {
		return nil, err
	}
	names := plan.QualifiedGateways(w.shift.Namespace, w.spec.Gateways)
	if len(names) == 0 {
		names = []string{w.shift.Namespace + "/" + w.shift.Name}
	}
	var problems []shift.Problem
	var found []*networkingv1.Gateway
	for _, name := range names {
		if g, ok := all[name]; ok {
			found = append(found, g)
			continue
		}
		problems = append(problems, problem(v1alpha1.ReasonGatewayNotFound, "spec.gateways: there is no Gateway %q; create it, or name one of those that take %s: %s",
			name, strings.Join(w.spec.Hosts, ", "), list(all.serving(w.shift.Namespace, w.spec.Hosts))))
	}
	asked := w.spec.Hosts
	if w.hostsEach() && len(w.spec.Gateways) > 0 {
		asked = slices.Concat(asked, w.previewHost()) // which a wildcard takes, whatever the version
	}
	for _, host := range asked {
		if len(found) > 0 && !slices.ContainsFunc(found, func(g *networkingv1.Gateway) bool { return takes(g, w.shift.Namespace, host) }) {
			problems = append(problems, problem(v1alpha1.ReasonGatewayWithoutHost, "no server of Gateway %s takes the host %q from namespace %s (its servers take: %s); add the host to servers[].hosts, or name a Gateway that has it: %s",
				nameOf(found[0]), host, w.shift.Namespace, list(hostsOf(found[0])), list(all.serving(w.shift.Namespace, []string{host}))))
			continue
		}
		problems = append(problems, w.checkServers(all, found, host)...)
	}
	idle, err := r.checkGatewayPods(ctx, w, found)
	return append(problems, idle...), err
}

// checkServers finds gateways of which none has a server for the connections of a host, where it is not requests that it is served by.
func (w *world) checkServers(all gateways, found []*networkingv1.Gateway, host string) []shift.Problem {
	told := w.told()
	serves := func(g *networkingv1.Gateway) bool {
		return slices.ContainsFunc(g.Spec.GetServers(), func(s *istio.Server) bool {
			return offers(g, s, w.shift.Namespace, host) && (told == plan.BySNI && passesTLS(s) || told == plan.ByPort && w.passesTCP(s))
		})
	}
	if len(found) == 0 || told != plan.BySNI && told != plan.ByPort || slices.ContainsFunc(found, serves) {
		return nil
	}
	lacks := fmt.Sprintf("passes TLS through for the host %q, and the pods of Service %s end it themselves", host, nameOf(w.scope.Service))
	remedy := "give one of them protocol: TLS and tls.mode: PASSTHROUGH"
	if told == plan.ByPort {
		lacks = fmt.Sprintf("takes TCP for the host %q on port %s, as Service %s has it", host, numbers(plan.TCPPorts(w.scope.Service)), nameOf(w.scope.Service))
		remedy = "add one of protocol: TCP with that number"
	}
	return []shift.Problem{problem(v1alpha1.ReasonGatewayWithoutHost, "no server of Gateway %s %s (its servers: %s); %s, or name a Gateway that has such a server: %s",
		nameOf(found[0]), lacks, list(serversOf(found[0])), remedy, list(all.that(serves)))}
}

// checkGatewayPods asks, past the cache and only before something new is served, whether pods run the gateways.
func (r *Reconciler) checkGatewayPods(ctx context.Context, w *world, found []*networkingv1.Gateway) ([]shift.Problem, error) {
	if !w.starting() && !w.entryChanges() {
		return nil, nil
	}
	var problems []shift.Problem
	for _, g := range found {
		selector := g.Spec.GetSelector()
		if len(selector) == 0 {
			continue // every gateway runs it
		}
		pods := &metav1.PartialObjectMetadataList{}
		pods.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PodList"))
		if err := r.Live.List(ctx, pods, client.MatchingLabels(selector), client.Limit(1)); err != nil {
			return nil, fmt.Errorf("listing the pods of Gateway %s: %w", nameOf(g), err)
		}
		if len(pods.Items) > 0 {
			continue
		}
		remedy := "correct its selector, or install the gateway"
		if g.Namespace == w.shift.Namespace && g.Name == w.shift.Name && len(w.spec.Gateways) == 0 {
			remedy = "install the gateway, name a Gateway of your own (annotation " + v1alpha1.AnnotationGateway + "), or have the administrator correct --gateway-selector"
		}
		problems = append(problems, problem(v1alpha1.ReasonGatewaySelectsNothing, "Gateway %s selects pods with %s, and no namespace has one: nobody would serve %s; %s",
			nameOf(g), labels.Set(selector), strings.Join(w.spec.Hosts, ", "), remedy))
	}
	return problems, nil
}

// entryChanges reports whether hosts or gateways are asked for that are not served yet.
func (w *world) entryChanges() bool {
	live := w.liveEntry()
	return !slices.Equal(live.Hosts, w.spec.Hosts) || !slices.Equal(live.Gateways, plan.QualifiedGateways(w.shift.Namespace, w.spec.Gateways))
}

// serving lists the gateways that take all of the hosts.
func (all gateways) serving(namespace string, hosts []string) []string {
	return all.that(func(g *networkingv1.Gateway) bool {
		return !slices.ContainsFunc(hosts, func(h string) bool { return !takes(g, namespace, h) })
	})
}

// that lists the gateways that are so.
func (all gateways) that(is func(*networkingv1.Gateway) bool) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if is(all[name]) {
			names = append(names, name)
		}
	}
	return names
}

// meet reports whether a host that is bound to some gateways and to others as well ends up in one and the same place: at a gateway that
// both name, or at two that the same pods run on the same port. Istio then takes the routes of the older VirtualService (rules V3, G3).
func (all gateways) meet(ours, theirs []string, host string) bool {
	for _, a := range ours {
		for _, b := range theirs {
			if a == b || all[a] != nil && all[b] != nil && shareListener(all[a], all[b], host) {
				return true
			}
		}
	}
	return false
}

func shareListener(a, b *networkingv1.Gateway, host string) bool {
	if !samePods(a, b) {
		return false
	}
	for _, sa := range a.Spec.GetServers() {
		for _, sb := range b.Spec.GetServers() {
			if sa.GetPort().GetNumber() == sb.GetPort().GetNumber() && takesHost(sa.GetHosts(), host) && takesHost(sb.GetHosts(), host) {
				return true
			}
		}
	}
	return false
}

// samePods reports whether the pods of one gateway are among those of another.
func samePods(a, b *networkingv1.Gateway) bool {
	return within(a.Spec.GetSelector(), b.Spec.GetSelector()) || within(b.Spec.GetSelector(), a.Spec.GetSelector())
}

// within reports whether every pod that has b's labels has a's.
func within(a, b map[string]string) bool {
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}

func takesHost(of []string, host string) bool {
	return slices.ContainsFunc(of, func(h string) bool {
		if _, name, ok := strings.Cut(h, "/"); ok {
			h = name
		}
		return grants(h, host)
	})
}

// takes reports whether a gateway's servers take a host from a namespace.
func takes(g *networkingv1.Gateway, namespace, host string) bool {
	return slices.ContainsFunc(g.Spec.GetServers(), func(s *istio.Server) bool { return offers(g, s, namespace, host) })
}

// offers reports whether a server of a gateway takes a host from a namespace. Servers write "host", "namespace/host", "./host" or "*/host".
func offers(g *networkingv1.Gateway, s *istio.Server, namespace, host string) bool {
	return slices.ContainsFunc(s.GetHosts(), func(h string) bool {
		from, name, ok := strings.Cut(h, "/")
		switch {
		case !ok:
			from, name = "*", h
		case from == ".":
			from = g.Namespace
		}
		return (from == "*" || from == namespace) && (grants(name, host) || grants(host, name))
	})
}

// passesTLS reports whether a server hands TLS on as it comes. It is what Istio takes settings for that name no mode, and a redirect too.
func passesTLS(s *istio.Server) bool {
	protocol := strings.ToUpper(s.GetPort().GetProtocol())
	return s.GetTls() != nil && s.GetTls().GetMode() == istio.ServerTLSSettings_PASSTHROUGH && (protocol == "TLS" || protocol == "HTTPS")
}

// passesTCP reports whether a server hands on whatever comes to a port that has the number of one of our Service's.
func (w *world) passesTCP(s *istio.Server) bool {
	return takesTCP(s) && slices.ContainsFunc(plan.TCPPorts(w.scope.Service), func(p corev1.ServicePort) bool { return uint32(p.Port) == s.GetPort().GetNumber() })
}

func takesTCP(s *istio.Server) bool {
	return s.GetTls() == nil && slices.Contains([]string{"TCP", "MONGO", "MYSQL", "REDIS"}, strings.ToUpper(s.GetPort().GetProtocol()))
}

// share is the port of ours at which another VirtualService's TCP comes to the same place; 0 is none. Istio gives a port of TCP to the oldest
// VirtualService whose hosts its server takes, and has one such server for the port at the same pods.
func (w *world) share(all gateways, ours []string, theirs *networkingv1.VirtualService) int32 {
	bound := plan.QualifiedGateways(theirs.Namespace, theirs.Spec.GetGateways())
	serves := func(gateway string, port int32, namespace string, hosts []string) bool {
		g := all[gateway]
		return g != nil && slices.ContainsFunc(g.Spec.GetServers(), func(s *istio.Server) bool {
			return takesTCP(s) && s.GetPort().GetNumber() == uint32(port) && slices.ContainsFunc(hosts, func(h string) bool { return offers(g, s, namespace, h) })
		})
	}
	for _, port := range plan.TCPPorts(w.scope.Service) {
		for _, a := range ours {
			for _, b := range bound {
				if routesPort(theirs, port.Port) && serves(a, port.Port, w.shift.Namespace, w.spec.Hosts) && serves(b, port.Port, theirs.Namespace, theirs.Spec.GetHosts()) &&
					(a == b || samePods(all[a], all[b])) {
					return port.Port
				}
			}
		}
	}
	return 0
}

// routesPort reports whether a VirtualService has a route for the TCP of a gateway's port.
func routesPort(vs *networkingv1.VirtualService, port int32) bool {
	return slices.ContainsFunc(vs.Spec.GetTcp(), func(route *istio.TCPRoute) bool {
		return len(route.GetMatch()) == 0 || slices.ContainsFunc(route.GetMatch(), func(m *istio.L4MatchAttributes) bool { return m.GetPort() == 0 || m.GetPort() == uint32(port) })
	})
}

// serversOf says what each server of a gateway does with TLS.
func serversOf(g *networkingv1.Gateway) []string {
	var servers []string
	for _, s := range g.Spec.GetServers() {
		mode := "without TLS"
		if s.GetTls() != nil && !s.GetTls().GetHttpsRedirect() {
			mode = s.GetTls().GetMode().String()
		}
		servers = append(servers, fmt.Sprintf("port %d %s %s", s.GetPort().GetNumber(), s.GetPort().GetProtocol(), mode))
	}
	return servers
}

func hostsOf(g *networkingv1.Gateway) []string {
	var hosts []string
	for _, s := range g.Spec.GetServers() {
		hosts = append(hosts, s.GetHosts()...)
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

func nameOf(o metav1.Object) string { return o.GetNamespace() + "/" + o.GetName() }
