package trafficshift

import (
	"context"
	"fmt"
	"slices"
	"strings"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

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
	for _, find := range []func(context.Context, *world) ([]string, error){r.claimingVirtualServices, r.claimingRules, r.claimingHTTPRoutes} {
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
	var claims []string
	for _, vs := range list.Items {
		if w.accountedFor(vs) {
			continue
		}
		bound := plan.QualifiedGateways(vs.Namespace, vs.Spec.GetGateways())
		mesh := len(bound) == 0 || slices.Contains(vs.Spec.GetGateways(), "mesh")
		for _, host := range vs.Spec.GetHosts() {
			inMesh := mesh && r.fullName(host, vs.Namespace) == w.scope.Host
			atGateway := slices.Contains(slices.Concat(w.spec.Hosts, w.previewHost()), host) && slices.ContainsFunc(bound, func(g string) bool { return slices.Contains(gateways, g) })
			if inMesh || atGateway {
				claims = append(claims, fmt.Sprintf("VirtualService %s/%s (host %s)", vs.Namespace, vs.Name, host))
			}
		}
	}
	return claims, nil
}

// accountedFor reports whether a VirtualService is ours, or one of the user's that ours goes with, or reported by its name already.
func (w *world) accountedFor(vs *networkingv1.VirtualService) bool {
	a, here := w.scope.Attached, vs.Namespace == w.shift.Namespace
	switch {
	case w.ours(vs), a != nil && here && vs.Name == a.Name, w.scope.Delegate && plan.DelegatesTo(vs, w.shift.Namespace, w.shift.Name):
		return true
	case a != nil:
		return false
	}
	return here && (vs.Name == w.shift.Name || vs.Name == plan.HostsName(w.shift.Name) && len(w.spec.Hosts) > 0 ||
		vs.Name == plan.PreviewName(w.shift.Name) && len(w.previewHost()) > 0)
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
	for _, rule := range list.Items {
		host := r.fullName(rule.Spec.GetHost(), rule.Namespace)
		exact, wild := host == w.scope.Host, strings.HasPrefix(host, "*") && grants(host, w.scope.Host)
		here, root := rule.Namespace == w.shift.Namespace, rule.Namespace == r.Config.RootNamespace
		switch {
		case w.ours(rule) || !exact && !wild || here && w.rule != nil && rule.Name == w.rule.Name:
		case exact && here:
			w.merged = append(w.merged, rule)
			if why := plan.Mergeable(rule, w.spec.TrafficPolicy != nil); why != "" {
				claims = append(claims, fmt.Sprintf("DestinationRule %s/%s: %s", rule.Namespace, rule.Name, why))
			}
		case exact && !root, wild && !here && !root:
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

var httpRoutes = schema.GroupVersionKind{Group: "gateway.networking.k8s.io", Version: "v1", Kind: "HTTPRouteList"}

// claimingHTTPRoutes finds Gateway API routes whose parent is the Service itself. A cluster without that API has none.
func (r *Reconciler) claimingHTTPRoutes(ctx context.Context, w *world) ([]string, error) {
	state, version := w.shift.Status.State, w.observation.Template.Version
	if state.Weight > 0 || state.Candidate == "" && version != "" && (version == state.Stable || version == state.Rejected) {
		return nil, nil // asked when a release is about to start; from its first weight on the measured share tells
	}
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(httpRoutes)
	if err := r.Live.List(ctx, list); err != nil {
		if meta.IsNoMatchError(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("listing HTTPRoutes: %w", err)
	}
	var claims []string
	for _, route := range list.Items {
		parents, _, _ := unstructured.NestedSlice(route.Object, "spec", "parentRefs")
		for _, p := range parents {
			ref, _ := p.(map[string]any)
			namespace, ok := ref["namespace"].(string)
			if !ok {
				namespace = route.GetNamespace()
			}
			if ref["kind"] == "Service" && ref["name"] == w.scope.Service.Name && namespace == w.shift.Namespace {
				claims = append(claims, fmt.Sprintf("HTTPRoute %s/%s", route.GetNamespace(), route.GetName()))
			}
		}
	}
	return claims, nil
}

// fullName resolves a host as Istio does: a name without dots is of the namespace of the object that says it (rule V1).
func (r *Reconciler) fullName(host, namespace string) string {
	if host == "" || strings.Contains(host, ".") || strings.HasPrefix(host, "*") {
		return host
	}
	return fmt.Sprintf("%s.%s.svc.%s", host, namespace, r.Config.ClusterDomain)
}
