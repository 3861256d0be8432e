package trafficshift

import (
	"context"
	"fmt"
	"maps"
	"slices"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/source"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/plan"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// The Gateway API's side of one pass: what of it stands, which of the two APIs is the shift's, and what its routes say.

// routesWatch finds the Gateway API in the cluster, and watches its routes and what tells that a version's Service leads to pods.
func routesWatch(cache cache.Cache) *lateWatch {
	w := &lateWatch{title: "the Gateway API"}
	for _, kind := range []string{"HTTPRoute", "GRPCRoute"} {
		w.kinds = append(w.kinds, schema.GroupVersionKind{Group: gatewayv1.GroupName, Version: gatewayv1.GroupVersion.Version, Kind: kind})
	}
	for _, o := range []client.Object{&gatewayv1.HTTPRoute{}, &gatewayv1.GRPCRoute{}, &discoveryv1.EndpointSlice{}} {
		w.sources = append(w.sources, source.Kind(cache, o, handler.EnqueueRequestsFromMapFunc(byLabel)))
	}
	return w
}

// gatewayAPI is what stands of the Gateway API under the names of one shift, whoever owns it.
type gatewayAPI struct {
	routes   map[string]liveRoute // by kind and name
	services map[string]*corev1.Service
	rules    map[string]*networkingv1.DestinationRule
	ready    map[string]bool // the Services of versions, by name, that have a ready endpoint
	present  bool            // whether the cluster has the API
}

// liveRoute is a route of either kind as it was read.
type liveRoute struct {
	plan.Object
	parents  []gatewayv1.ParentReference
	hosts    []gatewayv1.Hostname
	backends []gatewayv1.BackendRef
	answers  []gatewayv1.RouteParentStatus
	// catchesAll is whether a rule takes whatever no other does.
	catchesAll bool
}

func httpRoute(r gatewayv1.HTTPRoute) liveRoute {
	r.TypeMeta = metav1.TypeMeta{APIVersion: gatewayv1.GroupVersion.String(), Kind: "HTTPRoute"} // reading through a client leaves it out
	live := liveRoute{Object: &r, parents: r.Spec.ParentRefs, hosts: r.Spec.Hostnames, answers: r.Status.Parents}
	for _, rule := range r.Spec.Rules {
		live.catchesAll = live.catchesAll || len(rule.Matches) == 0 || slices.ContainsFunc(rule.Matches, anyRequest)
		for _, b := range rule.BackendRefs {
			live.backends = append(live.backends, b.BackendRef)
		}
	}
	return live
}

// anyRequest reports whether a match asks for nothing. The API server writes the path's default, the prefix "/".
func anyRequest(m gatewayv1.HTTPRouteMatch) bool {
	anyPath := m.Path == nil || ptr.Deref(m.Path.Value, "/") == "/" && ptr.Deref(m.Path.Type, gatewayv1.PathMatchPathPrefix) == gatewayv1.PathMatchPathPrefix
	return anyPath && len(m.Headers) == 0 && len(m.QueryParams) == 0 && m.Method == nil
}

func grpcRoute(r gatewayv1.GRPCRoute) liveRoute {
	r.TypeMeta = metav1.TypeMeta{APIVersion: gatewayv1.GroupVersion.String(), Kind: "GRPCRoute"}
	live := liveRoute{Object: &r, parents: r.Spec.ParentRefs, hosts: r.Spec.Hostnames, answers: r.Status.Parents}
	for _, rule := range r.Spec.Rules {
		live.catchesAll = live.catchesAll || len(rule.Matches) == 0 ||
			slices.ContainsFunc(rule.Matches, func(m gatewayv1.GRPCRouteMatch) bool { return m.Method == nil && len(m.Headers) == 0 })
		for _, b := range rule.BackendRefs {
			live.backends = append(live.backends, b.BackendRef)
		}
	}
	return live
}

func liveRoutes(https []gatewayv1.HTTPRoute, grpcs []gatewayv1.GRPCRoute) []liveRoute {
	all := make([]liveRoute, 0, len(https)+len(grpcs))
	for _, route := range https {
		all = append(all, httpRoute(route))
	}
	for _, route := range grpcs {
		all = append(all, grpcRoute(route))
	}
	return all
}

func (l liveRoute) kind() string { return l.GetObjectKind().GroupVersionKind().Kind }

func (l liveRoute) String() string {
	return fmt.Sprintf("%s %s/%s", l.kind(), l.GetNamespace(), l.GetName())
}

// readGatewayAPI reads the routes, and the Services and DestinationRules of versions. Those may stand where the cluster has lost the kinds
// of the routes that they were for.
func (r *Reconciler) readGatewayAPI(ctx context.Context, w *world) error {
	w.gatewayAPI = gatewayAPI{
		routes: map[string]liveRoute{}, services: map[string]*corev1.Service{}, rules: map[string]*networkingv1.DestinationRule{}, ready: map[string]bool{},
	}
	if w.scope.Template == nil {
		return nil
	}
	if err := r.readVersionServices(ctx, w); err != nil {
		return err
	}
	var err error
	if w.gatewayAPI.present, err = r.GatewayAPI(); err != nil || !w.gatewayAPI.present {
		return err
	}
	if err := r.readRoutes(ctx, w); err != nil {
		return err
	}
	return r.readEndpoints(ctx, w)
}

func (r *Reconciler) readRoutes(ctx context.Context, w *world) error {
	var https gatewayv1.HTTPRouteList
	if err := r.Client.List(ctx, &https, client.InNamespace(w.shift.Namespace)); err != nil {
		return fmt.Errorf("listing HTTPRoutes: %w", err)
	}
	var grpcs gatewayv1.GRPCRouteList
	if err := r.Client.List(ctx, &grpcs, client.InNamespace(w.shift.Namespace)); err != nil {
		return fmt.Errorf("listing GRPCRoutes: %w", err)
	}
	for _, l := range liveRoutes(https.Items, grpcs.Items) {
		w.gatewayAPI.routes[l.kind()+" "+l.GetName()] = l
	}
	return nil
}

// readVersionServices reads what has the name of a version, as far as it is no Deployment.
func (r *Reconciler) readVersionServices(ctx context.Context, w *world) error {
	var services corev1.ServiceList
	if err := r.Client.List(ctx, &services, client.InNamespace(w.shift.Namespace)); err != nil {
		return fmt.Errorf("listing Services: %w", err)
	}
	for i := range services.Items {
		if _, ok := w.versionOf(services.Items[i].Name); ok {
			w.gatewayAPI.services[services.Items[i].Name] = &services.Items[i]
		}
	}
	var rules networkingv1.DestinationRuleList
	if err := r.Client.List(ctx, &rules, client.InNamespace(w.shift.Namespace)); err != nil {
		return fmt.Errorf("listing DestinationRules: %w", err)
	}
	for _, rule := range rules.Items {
		if _, ok := w.versionOf(rule.Name); ok {
			w.gatewayAPI.rules[rule.Name] = rule
		}
	}
	return nil
}

// readEndpoints finds the versions' Services that lead somewhere. Kubernetes puts the labels of a Service on its EndpointSlices.
func (r *Reconciler) readEndpoints(ctx context.Context, w *world) error {
	var list discoveryv1.EndpointSliceList
	if err := r.Client.List(ctx, &list, client.InNamespace(w.shift.Namespace), client.MatchingLabels{v1alpha1.LabelShift: w.shift.Name}); err != nil {
		return fmt.Errorf("listing EndpointSlices: %w", err)
	}
	for _, slice := range list.Items {
		for _, e := range slice.Endpoints {
			if e.Conditions.Ready == nil || *e.Conditions.Ready {
				w.gatewayAPI.ready[slice.Labels[discoveryv1.LabelServiceName]] = true
			}
		}
	}
	return nil
}

// ourRoutes are the routes that the annotated Deployment controls, in a fixed order.
func (w *world) ourRoutes() []liveRoute {
	var ours []liveRoute
	for _, key := range slices.Sorted(maps.Keys(w.gatewayAPI.routes)) {
		if l := w.gatewayAPI.routes[key]; w.ours(l) {
			ours = append(ours, l)
		}
	}
	return ours
}

// ourVersionServices are the Services of versions that routes are for: an address for people to look at a version is none.
func (w *world) ourVersionServices() []*corev1.Service {
	var ours []*corev1.Service
	for _, name := range slices.Sorted(maps.Keys(w.gatewayAPI.services)) {
		if s := w.gatewayAPI.services[name]; w.ours(s) && s.Annotations[v1alpha1.AnnotationRoutedService] != "" {
			ours = append(ours, s)
		}
	}
	return ours
}

// standing is the API that the service's routes are written in now; empty where nothing stands.
func (w *world) standing() v1alpha1.RoutingAPI {
	switch {
	case w.rule != nil && w.ours(w.rule), slices.ContainsFunc(slices.Collect(maps.Values(w.tables)), func(vs *networkingv1.VirtualService) bool { return w.ours(vs) }):
		return v1alpha1.RoutingIstio
	case len(w.ourVersionServices()) > 0, len(w.ourRoutes()) > 0:
		return v1alpha1.RoutingGateway
	}
	return ""
}

// chooseAPI settles which API the routes are written in: the one that stands; before anything stands the one that is asked for, or that
// fits the service. Two sets of routes for one host, of which Istio would take either, there are never.
func (r *Reconciler) chooseAPI(_ context.Context, w *world) error {
	if w.scope.Template == nil {
		return nil
	}
	w.scope.API = w.standing()
	if w.scope.API == "" {
		w.scope.API = w.askedAPI()
	}
	if w.gatewayAPIRoutes() {
		w.unsupported = w.spec.NotForGatewayAPI(field.NewPath("spec"))
		w.scope.Attached, w.scope.Delegate = nil, false
		mend(&w.spec, w.unsupported) // routes that never carry it are not waited for
	}
	for _, l := range w.ourRoutes() {
		w.scope.Routes = append(w.scope.Routes, l.Object)
	}
	for _, s := range w.ourVersionServices() {
		version, _ := w.versionOf(s.Name)
		w.scope.Versions = append(w.scope.Versions, version)
	}
	return nil
}

// gatewayAPIRoutes reports whether the routes are those of the Gateway API.
func (w *world) gatewayAPIRoutes() bool { return w.scope.API == v1alpha1.RoutingGateway }

// askedAPI is the API that the spec names, or else the one that fits: behind a waypoint a VirtualService is Istio's alpha, and HTTPRoutes
// are what it recommends. A spec that only a VirtualService can carry out has one wherever it is.
func (w *world) askedAPI() v1alpha1.RoutingAPI {
	routing := w.spec.Routing
	switch {
	case routing != nil && routing.API != "":
		return routing.API
	case !w.behindWaypoint(), routing != nil && (len(routing.Attached()) > 0 || routing.Delegate || routing.HTTP != nil):
		return v1alpha1.RoutingIstio
	}
	return v1alpha1.RoutingGateway
}

// establishedService names the Service that our routes are for, once there are any.
func (w *world) establishedService() string {
	for _, s := range w.ourVersionServices() {
		return s.Annotations[v1alpha1.AnnotationRoutedService]
	}
	for _, l := range w.ourRoutes() {
		for _, p := range l.parents {
			if isService(p) {
				return string(p.Name)
			}
		}
	}
	return ""
}

func isService(p gatewayv1.ParentReference) bool { return p.Kind != nil && *p.Kind == "Service" }

// routedPorts are the ports that our routes are for.
func (w *world) routedPorts() []corev1.ServicePort {
	var ports []corev1.ServicePort
	for _, l := range w.ourRoutes() {
		protocol := "http"
		if l.kind() == "GRPCRoute" {
			protocol = "grpc"
		}
		for _, p := range l.parents {
			if isService(p) && p.Port != nil {
				ports = append(ports, corev1.ServicePort{Name: fmt.Sprintf("%s-%d", protocol, *p.Port), Port: *p.Port, AppProtocol: &protocol})
			}
		}
	}
	return ports
}

// hostsRoute is our route for external hosts.
func (w *world) hostsRoute() (liveRoute, bool) {
	for _, l := range w.ourRoutes() {
		if l.GetName() == plan.HostsName(w.shift.Name) {
			return l, true
		}
	}
	return liveRoute{}, false
}

// routedEntry reads the entry back from our route for external hosts.
func (w *world) routedEntry() plan.Entry {
	l, ok := w.hostsRoute()
	if !ok {
		return plan.Entry{}
	}
	e := plan.Entry{}
	for _, host := range l.hosts {
		e.Hosts = append(e.Hosts, string(host))
	}
	for _, p := range l.parents {
		e.Gateways = append(e.Gateways, parentNamespace(p, l)+"/"+string(p.Name))
	}
	for _, b := range l.backends {
		if b.Port != nil {
			e.Port = *b.Port
		}
	}
	return e
}

// routeTables reads the weights back from every route that must carry them. One that is not ours, or of the other kind than its port
// asks for, does not count as there.
func (w *world) routeTables() []shift.Table {
	var tables []shift.Table
	for _, route := range w.scope.GatewayAPIRoutes() {
		t := shift.Table{Name: route.GetName()}
		if l, ok := w.gatewayAPI.routes[route.GetObjectKind().GroupVersionKind().Kind+" "+t.Name]; ok && w.ours(l) {
			t.Exists = true
			t.Routes, t.Bare = w.backendsOf(l)
		}
		tables = append(tables, t)
	}
	return tables
}

// backendsOf reads a route's backends in thousandths: a weight is a share of their sum, and a single backend gets everything. Those of all
// rules are read as one, and a backend that is no version's never counts as a weight.
func (w *world) backendsOf(l liveRoute) (routes []shift.Route, bare bool) {
	sum := int64(0)
	for _, b := range l.backends {
		sum += weightOf(b)
	}
	for _, b := range l.backends {
		version, ok := w.versionOf(string(b.Name))
		switch {
		case !ok:
			bare = true
			continue
		case sum > 0:
			routes = append(routes, shift.Route{Version: version, Weight: v1alpha1.Permille(int64(v1alpha1.Whole) * weightOf(b) / sum)})
		default:
			routes = append(routes, shift.Route{Version: version})
		}
	}
	if bare && len(routes) == 0 && len(l.backends) == 1 {
		return nil, true
	}
	return routes, false
}

// weightOf is a backend's weight, which is 1 where nobody has said.
func weightOf(b gatewayv1.BackendRef) int64 {
	if b.Weight == nil {
		return 1
	}
	return int64(*b.Weight)
}

// versionsServed are the versions that routes may name: their Service is there. One that is just being introduced must lead to a ready
// pod as well; what becomes of pods later is the gates' affair, and a weight must be writable whatever they do.
func (w *world) versionsServed() []string {
	state := w.shift.Status.State
	introduced := ""
	switch state.Stage {
	case v1alpha1.StagePinning:
		introduced = state.Stable
	case v1alpha1.StageExposing:
		introduced = state.Candidate
	}
	var served []string
	for _, s := range w.ourVersionServices() {
		version, _ := w.versionOf(s.Name)
		if s.DeletionTimestamp.IsZero() && (version != introduced || w.gatewayAPI.ready[s.Name]) {
			served = append(served, version)
		}
	}
	return served
}

// liveGatewayAPI returns the object that a planned one would change; nil where there is none, or it is none of the Gateway API's.
func (w *world) liveGatewayAPI(o plan.Object) client.Object {
	switch o.(type) {
	case *gatewayv1.HTTPRoute, *gatewayv1.GRPCRoute:
		if l, ok := w.gatewayAPI.routes[o.GetObjectKind().GroupVersionKind().Kind+" "+o.GetName()]; ok {
			return l.Object
		}
	case *networkingv1.DestinationRule:
		if rule, ok := w.gatewayAPI.rules[o.GetName()]; ok {
			return rule
		}
	}
	return nil
}
