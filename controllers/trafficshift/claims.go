package trafficshift

import (
	"context"
	"fmt"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/plan"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// checkClaims finds every other object, in any namespace, that routes the same host. Istio drops the younger of two VirtualServices
// without a word (rule V3), and a DestinationRule in a client's namespace hides our subsets from that client (D2).
func (r *Reconciler) checkClaims(ctx context.Context, w *world) ([]shift.Problem, error) {
	if w.scope.Service == nil {
		return nil, nil
	}
	var claims []string
	for _, find := range []func(context.Context, *world) ([]string, error){r.claimingVirtualServices, r.claimingRules, r.claimingRoutes} {
		found, err := find(ctx, w)
		if err != nil {
			return nil, err
		}
		claims = append(claims, found...)
	}
	if len(claims) == 0 {
		return nil, nil
	}
	slices.Sort(claims)
	return []shift.Problem{problem(v1alpha1.ReasonHostClaimed, "%s: remove or change what routes it already, because Istio would drop or hide one of the two without a word: %s",
		w.scope.Host, strings.Join(claims, ", "))}, nil
}

func (r *Reconciler) claimingVirtualServices(ctx context.Context, w *world) ([]string, error) {
	var list networkingv1.VirtualServiceList
	if err := r.Client.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("listing VirtualServices: %w", err)
	}
	gateways := plan.QualifiedGateways(w.shift.Namespace, w.spec.Gateways)
	if len(w.spec.Gateways) == 0 {
		gateways = []string{w.shift.Namespace + "/" + w.shift.Name}
	}
	if w.gatewayAPIRoutes() {
		gateways = nil // of another kind, which no VirtualService is bound to
	}
	all, err := r.gateways(ctx, w)
	if err != nil {
		return nil, err
	}
	var claims []string
	told := w.told()
	slices.SortFunc(list.Items, named)
	for _, vs := range list.Items {
		if w.accountedFor(vs) {
			continue
		}
		bound := plan.QualifiedGateways(vs.Namespace, vs.Spec.GetGateways())
		mesh := len(bound) == 0 || slices.Contains(vs.Spec.GetGateways(), "mesh")
		past, contests := r.routesTo(vs, w.scope.Host), false
		for _, host := range vs.Spec.GetHosts() {
			inMesh := mesh && r.fullName(host, vs.Namespace) == w.scope.Host
			if inMesh || w.asksFor(host) && (past || told == plan.ByHost && catchesAll(vs)) && all.meet(gateways, bound, host) {
				claims = append(claims, fmt.Sprintf("VirtualService %s/%s (host %s)", vs.Namespace, vs.Name, host))
				contests = true
			}
		}
		for _, name := range namesIn(vs) {
			if !contests && told == plan.BySNI && w.asksFor(name) && all.meet(gateways, bound, name) {
				claims = append(claims, fmt.Sprintf("VirtualService %s/%s (SNI %s)", vs.Namespace, vs.Name, name))
				contests = true
			}
		}
		if told == plan.ByPort && !contests {
			if port := w.share(all, gateways, vs); port > 0 {
				claims = append(claims, fmt.Sprintf("VirtualService %s/%s (TCP port %d of a gateway)", vs.Namespace, vs.Name, port))
				contests = true
			}
		}
		if past && !contests {
			w.advise(v1alpha1.ReasonRoutedPast, "VirtualService %s/%s sends %s to %s past the weights, and a candidate that gets requests so is taken back: have Sluice route those hosts (annotation %s), and take the route out",
				vs.Namespace, vs.Name, strings.Join(vs.Spec.GetHosts(), ", "), w.scope.Host, v1alpha1.AnnotationHosts)
		}
	}
	return claims, nil
}

// accountedFor reports whether a VirtualService is ours, or one of the user's that ours goes with, or reported by its name already.
func (w *world) accountedFor(vs *networkingv1.VirtualService) bool {
	attached, here := len(w.scope.Attached) > 0, vs.Namespace == w.shift.Namespace
	switch {
	case w.ours(vs), w.attached(vs).Name != "", w.scope.Delegate && plan.DelegatesTo(vs, w.shift.Namespace, w.shift.Name):
		return true
	case attached, w.gatewayAPIRoutes(): // whose objects have other names
		return false
	}
	return here && (vs.Name == w.shift.Name || vs.Name == plan.HostsName(w.shift.Name) && len(w.spec.Hosts) > 0 ||
		vs.Name == plan.PreviewName(w.shift.Name) && len(w.previewHost()) > 0 && !w.hostsEach())
}

// routesTo reports whether a VirtualService sends requests or connections to a host without a subset.
func (r *Reconciler) routesTo(vs *networkingv1.VirtualService, host string) bool {
	return slices.ContainsFunc(destinationsIn(vs), func(to *networking.Destination) bool {
		return to.GetSubset() == "" && r.fullName(to.GetHost(), vs.Namespace) == host
	})
}

// namesIn are the names of TLS that a VirtualService routes. Of two routes for one name at a gateway Istio drops the younger, with every other
// name that it is for.
func namesIn(vs *networkingv1.VirtualService) []string {
	var names []string
	for _, route := range vs.Spec.GetTls() {
		for _, match := range route.GetMatch() {
			names = append(names, match.GetSniHosts()...)
		}
	}
	return names
}

// catchesAll reports whether a VirtualService has a route for whatever no other takes. Gateways put the VirtualServices of a host one
// after the other, and keep the oldest such route alone; those with conditions stand beside ours (rule V3).
func catchesAll(vs *networkingv1.VirtualService) bool {
	return slices.ContainsFunc(vs.Spec.GetHttp(), func(route *networking.HTTPRoute) bool {
		return len(route.GetMatch()) == 0 || slices.ContainsFunc(route.GetMatch(), func(m *networking.HTTPMatchRequest) bool {
			anyPath := m.GetUri() == nil || m.GetUri().GetPrefix() == "/"
			return anyPath && len(m.GetHeaders())+len(m.GetQueryParams())+len(m.GetWithoutHeaders())+len(m.GetSourceLabels()) == 0 &&
				m.GetMethod() == nil && m.GetAuthority() == nil && m.GetScheme() == nil && m.GetSourceNamespace() == ""
		})
	})
}

// claimingRules finds DestinationRules that hide or contest ours, and carries over the policy of one that ours would hide: a rule of
// the root namespace, or a wildcard of the service's own.
func (r *Reconciler) claimingRules(ctx context.Context, w *world) ([]string, error) {
	var list networkingv1.DestinationRuleList
	if err := r.Client.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("listing DestinationRules: %w", err)
	}
	var claims []string
	best := -1
	slices.SortFunc(list.Items, aged) // of two that say as much, the older one rules (D1)
	for _, rule := range list.Items {
		host := r.fullName(rule.Spec.GetHost(), rule.Namespace)
		exact, wild := host == w.scope.Host, strings.HasPrefix(host, "*") && grants(host, w.scope.Host)
		here, root := rule.Namespace == w.shift.Namespace, rule.Namespace == r.Config.RootNamespace
		chosen := rule.Spec.GetWorkloadSelector() != nil // it is for some clients of its own namespace alone
		hidesHere := exact && !root || wild && here && chosen
		hidesThere := !here && !root && lookedUpAtHome(rule)
		hidesFromGateways := root && (chosen || privateTo(rule)) // they often live there
		switch {
		case w.ours(rule) || !exact && !wild || here && w.rule != nil && rule.Name == w.rule.Name && !w.gatewayAPIRoutes():
		case exact && here && !w.gatewayAPIRoutes():
			w.merged = append(w.merged, rule)
			if why := plan.Mergeable(rule, w.spec.TrafficPolicy != nil); why != "" {
				claims = append(claims, fmt.Sprintf("DestinationRule %s/%s: %s", rule.Namespace, rule.Name, why))
			}
		case !here && !root && !lookedUpAtHome(rule):
		case hidesHere, hidesThere, hidesFromGateways:
			claims = append(claims, fmt.Sprintf("DestinationRule %s/%s (host %s)", rule.Namespace, rule.Name, rule.Spec.GetHost()))
		default:
			rank := len(host)
			if here {
				rank += len(w.scope.Host) // the service's own namespace is looked up before the root's (D2)
			}
			if rank > best && w.spec.TrafficPolicy == nil {
				best, w.scope.Policy = rank, rule.Spec.GetTrafficPolicy()
			}
		}
	}
	if len(w.merged) > 0 && w.spec.TrafficPolicy == nil {
		w.scope.Policy = nil // theirs hides what ours would have carried over, and stays in force
	}
	return claims, nil
}

// lookedUpAtHome reports whether the clients of a rule's own namespace find it there, before they look anywhere else. Of other namespaces
// than theirs, the service's and the root's, nobody looks at the rules.
func lookedUpAtHome(rule *networkingv1.DestinationRule) bool {
	to := rule.Spec.GetExportTo()
	return len(to) == 0 || rule.Spec.GetWorkloadSelector() != nil || slices.ContainsFunc(to, func(ns string) bool { return ns == "*" || ns == "." || ns == rule.Namespace })
}

// privateTo reports whether a rule is for its own namespace alone.
func privateTo(rule *networkingv1.DestinationRule) bool {
	to := rule.Spec.GetExportTo()
	return len(to) == 1 && (to[0] == "." || to[0] == rule.Namespace)
}

// claimingRoutes finds routes of the Gateway API whose parent is the Service itself, and where ours are such routes, those at the same
// Gateway for the same host. A cluster without that API has none.
func (r *Reconciler) claimingRoutes(ctx context.Context, w *world) ([]string, error) {
	state, version := w.shift.Status.State, w.observation.Template.Version
	if state.Weight > 0 || state.Candidate == "" && version != "" && (version == state.Stable || version == state.Rejected) {
		return nil, nil // asked when a release is about to start; from its first weight on the measured share tells
	}
	all, err := r.allRoutes(ctx)
	if err != nil {
		return nil, err
	}
	var claims []string
	for _, route := range all {
		if w.ours(route) {
			continue
		}
		if slices.ContainsFunc(route.parents, func(p gatewayv1.ParentReference) bool {
			return isService(p) && string(p.Name) == w.scope.Service.Name && parentNamespace(p, route) == w.shift.Namespace
		}) {
			claims = append(claims, route.String())
		} else if host := w.contestedAt(route); host != "" {
			claims = append(claims, fmt.Sprintf("%s (host %s)", route, host))
		}
	}
	return claims, nil
}

// allRoutes are the routes of every namespace, read past the cache.
func (r *Reconciler) allRoutes(ctx context.Context) ([]liveRoute, error) {
	https, grpcs := &gatewayv1.HTTPRouteList{}, &gatewayv1.GRPCRouteList{}
	for _, list := range []client.ObjectList{https, grpcs} {
		if err := r.Live.List(ctx, list); err != nil && !meta.IsNoMatchError(err) && !apierrors.IsNotFound(err) { // never there, or not any more
			return nil, fmt.Errorf("listing routes of the Gateway API: %w", err)
		}
	}
	return liveRoutes(https.Items, grpcs.Items), nil
}

// contestedAt is the host that somebody else's route takes at a Gateway of ours, with a rule for whatever no other takes or to our Service:
// of two that match as much the older route wins (Gateway API, HTTPRouteRule). Those with conditions of their own stand beside ours.
func (w *world) contestedAt(route liveRoute) string {
	ours := plan.QualifiedGateways(w.shift.Namespace, w.spec.Gateways)
	meets := w.gatewayAPIRoutes() && slices.ContainsFunc(route.parents, func(p gatewayv1.ParentReference) bool {
		return !isService(p) && slices.Contains(ours, parentNamespace(p, route)+"/"+string(p.Name))
	})
	past := slices.ContainsFunc(route.backends, func(b gatewayv1.BackendRef) bool {
		return string(b.Name) == w.scope.Service.Name && route.GetNamespace() == w.shift.Namespace
	})
	if !meets || !route.catchesAll && !past {
		return ""
	}
	for _, host := range route.hosts {
		if slices.ContainsFunc(w.spec.Hosts, func(h string) bool { return strings.EqualFold(h, string(host)) }) {
			return string(host)
		}
	}
	return ""
}

// parentNamespace is where a route's parent is: its own namespace where it names none.
func parentNamespace(p gatewayv1.ParentReference, route liveRoute) string {
	if p.Namespace == nil {
		return route.GetNamespace()
	}
	return string(*p.Namespace)
}

// fullName resolves a host as Istio does: a name without dots is of the namespace of the object that says it (rule V1).
func (r *Reconciler) fullName(host, namespace string) string {
	if host == "" || strings.Contains(host, ".") || strings.HasPrefix(host, "*") {
		return host
	}
	return fmt.Sprintf("%s.%s.svc.%s", host, namespace, r.Config.ClusterDomain)
}
