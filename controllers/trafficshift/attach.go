package trafficshift

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/plan"
	"github.com/sluice-dev/sluice/controllers/shift"
)

var virtualServiceKind = schema.GroupVersionKind{Group: "networking.istio.io", Version: "v1", Kind: "VirtualService"}

// readRouting finds whose routes carry the weights. Once the service is taken over that is what our own objects say, whatever the spec
// says by now: routes that followed an edit would leave weights behind in somebody else's.
func (r *Reconciler) readRouting(ctx context.Context, w *world) error {
	if w.scope.Template == nil {
		return nil
	}
	w.scope.Attached, w.scope.Delegate = wishedAttachments(w.shift, w.spec.Routing), w.spec.Routing != nil && w.spec.Routing.Delegate
	if w.rule != nil && w.ours(w.rule) {
		w.scope.Attached = plan.ReadAttached(w.rule)
	}
	if vs, ok := w.tables[w.shift.Name]; ok && w.ours(vs) {
		w.scope.Delegate = len(vs.Spec.GetHosts()) == 0
	}
	w.scope.Delegate = w.scope.Delegate && len(w.scope.Attached) == 0
	for _, a := range w.scope.Attached {
		r.readAttached(ctx, w.shift.Namespace, a)
	}
	return nil
}

// readAttached reads a VirtualService of the user's past the cache, which drops what this release of Istio's types does not know. One that
// cannot be read is no reason to leave the others as they are: a candidate may have to be taken back.
func (r *Reconciler) readAttached(ctx context.Context, namespace string, a *plan.Attached) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(virtualServiceKind)
	a.Object, a.Unread, a.Withheld = nil, nil, a.Namespace != ""
	if err := r.Live.Get(ctx, client.ObjectKey{Namespace: cmp.Or(a.Namespace, namespace), Name: a.Name}, u); err == nil {
		a.Object, a.Withheld = u, a.Namespace != "" && !letsWrite(u, namespace)
	} else if !apierrors.IsNotFound(err) {
		a.Unread = fmt.Errorf("reading VirtualService %s/%s: %w", cmp.Or(a.Namespace, namespace), a.Name, err)
	}
}

// letsWrite reports whether a VirtualService lets shifts of another namespace write its weights: the controller may write everywhere, and who
// may edit a TrafficShift may not thereby.
func letsWrite(vs *unstructured.Unstructured, namespace string) bool {
	allowed := split(vs.GetAnnotations()[v1alpha1.AnnotationAllowedNamespaces])
	return slices.Contains(allowed, namespace) || slices.Contains(allowed, "*")
}

// untouched reports whether Sluice has never named a version of a service, and so never written a route of it.
func untouched(ts *v1alpha1.TrafficShift) bool { return ts.Status.State.LastVersion == 0 }

// wishedAttachments are what a spec asks to attach to.
func wishedAttachments(ts *v1alpha1.TrafficShift, routing *v1alpha1.Routing) []*plan.Attached {
	var wished []*plan.Attached
	asked := routing.Attached()
	for _, vs := range asked {
		if vs.Namespace == ts.Namespace {
			vs.Namespace = ""
		}
		wished = append(wished, &plan.Attached{Name: vs.Name, Namespace: vs.Namespace, Routes: vs.Routes, TCP: vs.TCP, TLS: vs.TLS, Untouched: untouched(ts), Several: len(asked) > 1})
	}
	return wished
}

// checkRouting reports what keeps the weights from being carried by the routes that the spec names.
func (r *Reconciler) checkRouting(ctx context.Context, w *world) ([]shift.Problem, error) {
	if w.scope.Service == nil {
		return nil, nil
	}
	if moved := w.checkMovedRouting(); moved != nil {
		return moved, nil
	}
	switch {
	case len(w.scope.Attached) > 0:
		return r.checkAttached(ctx, w)
	case w.scope.Delegate:
		return r.checkRoot(ctx, w)
	}
	return nil, nil
}

// checkAttached reports each VirtualService that cannot carry the weights, and each that does so for the same service already because
// another shift is attached to it: two would write the same routes by turns.
func (r *Reconciler) checkAttached(ctx context.Context, w *world) ([]shift.Problem, error) {
	rules, err := r.rulesOf(ctx, w.shift.Namespace)
	if err != nil {
		return nil, err
	}
	var problems []shift.Problem
	for i, a := range w.scope.Attached {
		if a.Withheld && a.Unread == nil {
			problems = append(problems, problem(v1alpha1.ReasonVirtualServiceNotAllowed, "%s", a.NotAllowed(w.shift.Namespace)))
			continue
		}
		why := a.Unfit(w.scope.Host, w.scope.Service.Name)
		if slices.ContainsFunc(w.scope.Attached[:i], a.Same) {
			why = fmt.Sprintf("routing.virtualServices: %q is there twice, once with the namespace %s; leave one of the two out", a.Name, w.shift.Namespace)
		}
		if other := alsoAttached(w.shift.Name, a, w.scope.Host, rules); why == "" && other != "" {
			why = fmt.Sprintf("VirtualService %q carries the weights of %s for TrafficShift %s already; hand that one back, or name another VirtualService", a.FullName(), w.scope.Service.Name, other)
		}
		if why != "" {
			problems = append(problems, problem(v1alpha1.ReasonVirtualServiceUnfit, "%s", why))
		}
	}
	return problems, nil
}

// rulesOf are the DestinationRules of a namespace, by name.
func (r *Reconciler) rulesOf(ctx context.Context, namespace string) ([]*networkingv1.DestinationRule, error) {
	var rules networkingv1.DestinationRuleList
	if err := r.Client.List(ctx, &rules, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("listing DestinationRules: %w", err)
	}
	slices.SortFunc(rules.Items, named)
	return rules.Items, nil
}

// alsoAttached names another shift than this one whose DestinationRule says that it is attached to a VirtualService for the host.
func alsoAttached(name string, a *plan.Attached, host string, rules []*networkingv1.DestinationRule) string {
	for _, rule := range rules {
		other := rule.Labels[v1alpha1.LabelShift]
		if other != "" && other != name && rule.Spec.GetHost() == host && slices.ContainsFunc(plan.ReadAttached(rule), a.Same) {
			return other
		}
	}
	return ""
}

// checkMovedRouting refuses to change whose routes carry the weights of a service that is taken over already.
func (w *world) checkMovedRouting() []shift.Problem {
	if w.rule == nil || !w.ours(w.rule) {
		return nil
	}
	wished, is := wishedAttachments(w.shift, w.spec.Routing), w.scope.Attached
	delegate := w.spec.Routing != nil && w.spec.Routing.Delegate
	same := len(wished) == len(is) && !slices.ContainsFunc(wished, func(a *plan.Attached) bool { return !slices.ContainsFunc(is, a.Equal) })
	if same && (len(is) > 0 || delegate == w.scope.Delegate) {
		return nil
	}
	return []shift.Problem{problem(v1alpha1.ReasonInvalidSpec,
		"spec.routing: the weights are carried by %s, and moving them would move all traffic past the gates; hand the service back first (annotation %s: \"true\" on the TrafficShift)",
		w.carriedBy(), v1alpha1.AnnotationDetach)}
}

func (w *world) carriedBy() string {
	var carriers []string
	for _, a := range w.scope.Attached {
		carriers = append(carriers, a.String())
	}
	switch {
	case len(carriers) > 0:
		return strings.Join(carriers, " and ")
	case w.scope.Delegate:
		return fmt.Sprintf("VirtualService %s, a delegate", w.shift.Name)
	}
	return "VirtualServices of Sluice's own"
}

// checkRoot refuses a delegate that no root names, or that Istio would drop without a word (rule V5).
func (r *Reconciler) checkRoot(ctx context.Context, w *world) ([]shift.Problem, error) {
	var list networkingv1.VirtualServiceList
	if err := r.Client.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("listing VirtualServices: %w", err)
	}
	unfit := func(format string, args ...any) []shift.Problem {
		return []shift.Problem{problem(v1alpha1.ReasonVirtualServiceUnfit, "routing.delegate: "+format, args...)}
	}
	if ports := plan.HTTPPorts(w.scope.Service); len(ports) > 1 {
		return unfit("Service %s has %d HTTP ports, and a delegate has one route for whatever its root hands over; attach to a VirtualService of yours with routing.virtualService instead",
			w.scope.Service.Name, len(ports)), nil
	}
	found := false
	slices.SortFunc(list.Items, named)
	for _, root := range list.Items {
		if w.ours(root) || !plan.DelegatesTo(root, w.shift.Namespace, w.shift.Name) {
			continue
		}
		found = true
		name := root.Namespace + "/" + root.Name
		if len(root.Spec.GetHosts()) == 0 {
			return unfit("VirtualService %s names %s and is a delegate itself; Istio follows one level only: name it in the root", name, w.shift.Name), nil
		}
		for _, http := range root.Spec.GetHttp() {
			for _, d := range http.GetRoute() {
				if r.fullName(d.GetDestination().GetHost(), root.Namespace) == w.scope.Host {
					return unfit("VirtualService %s also has a route to %s itself, past the weights; let it delegate to %s/%s instead",
						name, w.scope.Service.Name, w.shift.Namespace, w.shift.Name), nil
				}
			}
		}
	}
	if !found {
		return unfit("no VirtualService delegates to %s/%s; give a route of your root delegate: {name: %s, namespace: %s} in place of route",
			w.shift.Namespace, w.shift.Name, w.shift.Name, w.shift.Namespace), nil
	}
	return nil, nil
}

// attached is what was read of the VirtualService that a step is about.
func (w *world) attached(o client.Object) *plan.Attached {
	for _, a := range w.scope.Attached {
		if a.Name == o.GetName() && cmp.Or(a.Namespace, w.shift.Namespace) == o.GetNamespace() {
			return a
		}
	}
	return &plan.Attached{}
}

// giveRoutesBack takes our subsets off the user's VirtualServices of a shift whose Deployment is gone: that takes our DestinationRule
// with it, and a route that went on naming its subsets would answer 503 for ever. What another shift carries by now is that one's.
func (r *Reconciler) giveRoutesBack(ctx context.Context, ts *v1alpha1.TrafficShift) error {
	all, host, err := r.abandoned(ctx, ts)
	if err != nil || len(all) == 0 {
		return err
	}
	rules, err := r.rulesOf(ctx, ts.Namespace)
	if err != nil {
		return err
	}
	var errs []error
	for _, a := range all {
		if alsoAttached(ts.Name, a, host, rules) == "" {
			errs = append(errs, r.giveBack(ctx, ts.Namespace, a, host))
		}
	}
	return first(errs)
}

// giveBack gives one VirtualService back. One that is gone has nothing of ours.
func (r *Reconciler) giveBack(ctx context.Context, namespace string, a *plan.Attached, host string) error {
	if r.readAttached(ctx, namespace, a); a.Object == nil {
		return a.Unread
	}
	if a.Withheld && !a.OursIn(host) {
		return nil
	}
	adjust := plan.Step{Verb: plan.Adjust, Object: a.Bare(host)}
	if _, err := r.writer().Adjust(ctx, a.Bare(host), a.Object); err != nil {
		return attempted(adjust.String(), err)
	}
	_, err := r.disclaim(ctx, namespace, *a)
	return attempted(plan.Step{Verb: plan.Forget, Object: a.Object}.String(), err)
}

// disclaim takes our entry out of the managedFields of a VirtualService as it is now: it may have been given back a moment ago.
func (r *Reconciler) disclaim(ctx context.Context, namespace string, a plan.Attached) (bool, error) {
	if r.readAttached(ctx, namespace, &a); a.Object == nil {
		return false, a.Unread
	}
	return r.writer().Forget(ctx, a.Object)
}

// abandoned are what a shift without a Deployment was attached to, and for which host: as our DestinationRule says while it is there, and
// as the spec says afterwards. Its namespace's people may edit either, so that neither is believed of a host that is another namespace's: what
// names versions there is somebody else's release.
func (r *Reconciler) abandoned(ctx context.Context, ts *v1alpha1.TrafficShift) ([]*plan.Attached, string, error) {
	for _, name := range []string{ts.Name, plan.RuleBeside(ts.Name)} {
		rule := &networkingv1.DestinationRule{}
		found, err := r.read(ctx, ts.Namespace, name, rule)
		if err != nil {
			return nil, "", err
		}
		host := rule.Spec.GetHost()
		if all := plan.ReadAttached(rule); found && len(all) > 0 && rule.Labels[v1alpha1.LabelShift] == ts.Name && r.isServiceOf(host, ts.Namespace) {
			return all, host, nil
		}
	}
	host := r.fullName(cmp.Or(ts.Spec.Service, ts.Name), ts.Namespace)
	if !r.isServiceOf(host, ts.Namespace) {
		return nil, "", nil
	}
	return wishedAttachments(ts, ts.Spec.Routing), host, nil
}

// isServiceOf reports whether a host is the full name of a Service of a namespace.
func (r *Reconciler) isServiceOf(host, namespace string) bool {
	_, rest, _ := strings.Cut(host, ".")
	return rest == namespace+".svc."+r.Config.ClusterDomain
}

// byAttachment maps a VirtualService of a user's to the shifts that write its weights, or that wait for it to be there or to be fit. Any
// VirtualService of the cluster asks all of its shifts: they are read as the cache has them, without a copy, and must not be changed.
func (r *Reconciler) byAttachment(ctx context.Context, o client.Object) []reconcile.Request {
	requests := byLabel(ctx, o)
	var list v1alpha1.TrafficShiftList
	if err := r.Client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return requests
	}
	for i := range list.Items {
		ts := &list.Items[i]
		if slices.ContainsFunc(ts.Spec.Routing.Attached(), func(vs v1alpha1.AttachedVirtualService) bool {
			return vs.Name == o.GetName() && cmp.Or(vs.Namespace, ts.Namespace) == o.GetNamespace()
		}) {
			requests = append(requests, request(ts.Namespace, ts.Name)...)
		}
	}
	return requests
}
