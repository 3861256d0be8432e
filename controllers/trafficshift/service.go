package trafficshift

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/plan"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// readService finds the Service that carries the traffic. Before the service is taken over that is the one that selects the pods, or
// that the owner has named, or one to be made. Afterwards it is the one that our DestinationRule is for, whatever happens to it: routes
// that followed a selector, a name or a port list would move everybody's traffic at once, past every gate.
func (r *Reconciler) readService(ctx context.Context, w *world) error {
	if w.scope.Template == nil {
		return nil
	}
	var list corev1.ServiceList
	if err := r.Client.List(ctx, &list, client.InNamespace(w.shift.Namespace)); err != nil {
		return fmt.Errorf("listing Services: %w", err)
	}
	w.previews = map[string]*corev1.Service{}
	for i := range list.Items {
		s := &list.Items[i]
		if version, ok := w.versionOf(s.Name); ok {
			w.previews[version] = s
		}
		if selects(s, w.scope.Template) {
			w.services = append(w.services, *s)
			continue
		}
		if s.Name == w.shift.Name {
			w.namesake = s
		}
		if s.Name == w.spec.Service {
			w.named = s
		}
	}
	slices.SortFunc(w.services, func(a, b corev1.Service) int { return cmp.Compare(a.Name, b.Name) })
	w.pick()
	if w.rule != nil && w.ours(w.rule) {
		w.established, _, _ = strings.Cut(w.rule.Spec.GetHost(), ".")
		w.useEstablished(list.Items)
	} else if w.established = w.establishedService(); w.established != "" {
		w.useEstablished(list.Items)
	} else if w.picked != nil {
		w.use(w.picked, (len(w.services) == 0 || w.ours(w.picked)) && w.namesake == nil)
	}
	w.readPreviews()
	if w.scope.Service != nil {
		w.scope.Host = r.fullName(w.scope.Service.Name, w.shift.Namespace)
	}
	return nil
}

// pick chooses among the Services as they are now.
func (w *world) pick() {
	switch i := slices.IndexFunc(w.services, func(s corev1.Service) bool { return s.Name == w.spec.Service }); {
	case i >= 0:
		w.picked = &w.services[i]
	case w.spec.Service == "" && len(w.services) == 1:
		w.picked = &w.services[0]
	case w.spec.Service == "" && len(w.services) == 0:
		w.picked = w.scope.MakeService()
	}
}

// use makes s the Service that the objects are made for. One of ours is made anew, so that drift in it is put right.
func (w *world) use(s *corev1.Service, made bool) {
	w.scope.Service, w.scope.Made = s.DeepCopy(), made
	if again := w.scope.MakeService(); w.ours(s) && again != nil {
		w.scope.Service = again
	}
}

// useEstablished goes on with the Service that the routes are for. One that is gone, or has not the ports any more that the routes are for, is read off the
// routes that stand, so that a candidate can still be taken back; one that Sluice made is made again.
func (w *world) useEstablished(all []corev1.Service) {
	if i := slices.IndexFunc(all, func(s corev1.Service) bool { return s.Name == w.established }); i >= 0 {
		w.use(&all[i], w.ours(&all[i]))
	} else if made := w.scope.MakeService(); made != nil && w.serviceMade() {
		w.use(made, true)
	}
	routed := routedService(w.established, w.shift.Namespace, w.tables[w.shift.Name])
	routed.Spec.Ports = append(routed.Spec.Ports, w.routedPorts()...)
	if w.scope.Service == nil || lacksPorts(w.scope.Service, routed) || w.lacksEntry(w.scope.Service) {
		w.scope.Service, w.scope.Made = routed, false
	}
}

// serviceMade reports whether our routes are for a Service that Sluice made.
func (w *world) serviceMade() bool {
	if w.rule != nil && w.ours(w.rule) {
		return w.rule.Annotations[v1alpha1.AnnotationService] == plan.ServiceMade
	}
	return slices.ContainsFunc(w.ourVersionServices(), func(s *corev1.Service) bool { return s.Annotations[v1alpha1.AnnotationService] == plan.ServiceMade })
}

// routedService is as much of a Service as its routes tell: name and ports.
func routedService(name, namespace string, vs *networkingv1.VirtualService) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}}
	if vs == nil {
		return s
	}
	http := "http"
	for _, route := range weightedIn(vs) {
		for _, match := range route.GetMatch() {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: route.GetName(), Port: int32(match.GetPort()), AppProtocol: &http})
		}
	}
	s.Spec.Ports = append(s.Spec.Ports, connectedPorts(vs)...)
	return s
}

// selects reports whether a Service selects the pods of a Deployment's template.
func selects(s *corev1.Service, d *appsv1.Deployment) bool {
	return len(s.Spec.Selector) > 0 && unselected(s, d) == ""
}

// checkShared refuses to take over a Service whose pods are another Deployment's as well: routes that name versions would give those pods nothing,
// and the versions all of it. Where the service is taken over already it is too late for that, and where its routes are somebody else's they
// may know better: then it is only told.
func (w *world) checkShared() []shift.Problem {
	s := w.scope.Service
	if s == nil || w.scope.Made || selectedVersion(s) != "" {
		return nil
	}
	var others []string
	for name, d := range w.deployments {
		ours := name == w.shift.Name || w.ours(d) || d.Labels[v1alpha1.LabelShift] == w.shift.Name
		if !ours && d.DeletionTimestamp.IsZero() && ptr.Deref(d.Spec.Replicas, 1) > 0 && selects(s, d) && listensFor(s, d) {
			others = append(others, name)
		}
	}
	if len(others) == 0 {
		return nil
	}
	slices.Sort(others)
	p := problem(v1alpha1.ReasonServiceShared,
		"Service %s/%s selects the pods of other Deployments, too, which get no traffic once routes name the versions of %s: %s; give the Service a label in its selector that only the pods of %[3]s have, or scale those to 0 first where %[3]s alone bears it all",
		s.Namespace, s.Name, w.shift.Name, strings.Join(others, ", "))
	if w.established != "" || len(w.scope.Attached) > 0 {
		w.advise(p.Reason, "%s", p.Message)
		return nil
	}
	return []shift.Problem{p}
}

// listensFor reports whether a Deployment's pods may be endpoints of a Service: those without a port of a name that the Service asks for are none.
func listensFor(s *corev1.Service, d *appsv1.Deployment) bool {
	return slices.ContainsFunc(s.Spec.Ports, func(asked corev1.ServicePort) bool {
		return asked.TargetPort.Type == intstr.Int || slices.ContainsFunc(d.Spec.Template.Spec.Containers, func(one corev1.Container) bool {
			return slices.ContainsFunc(one.Ports, func(has corev1.ContainerPort) bool { return has.Name == asked.TargetPort.StrVal })
		})
	})
}

// unselected is the first label that a Service selects on and that the template does not carry as it asks; empty where there is none. The
// label version is Sluice's to set, and is asked about by itself.
func unselected(s *corev1.Service, d *appsv1.Deployment) string {
	for _, key := range slices.Sorted(maps.Keys(s.Spec.Selector)) {
		if d.Spec.Template.Labels[key] != s.Spec.Selector[key] && key != v1alpha1.LabelIstioVersion {
			return key
		}
	}
	return ""
}

// entry is how clients outside the mesh are to reach the service. Hosts or gateways that are not granted, or that somebody else
// serves, change nothing: what was granted before stays. Hosts that are not asked for any more stay as long as a version is on its way
// in or out, because its weight must be taken away there too; then leave says that what was made for them goes.
func (w *world) entry(problems []shift.Problem) (entry plan.Entry, leave bool) {
	live := w.liveEntry()
	refused := slices.ContainsFunc(problems, func(p shift.Problem) bool {
		return slices.Contains([]string{v1alpha1.ReasonHostNotAllowed, v1alpha1.ReasonGatewayNotAllowed, v1alpha1.ReasonHostClaimed, v1alpha1.ReasonNameTaken,
			v1alpha1.ReasonDuplicateTLSHost, v1alpha1.ReasonHTTPRequired, v1alpha1.ReasonGatewayNotFound, v1alpha1.ReasonGatewayWithoutHost, v1alpha1.ReasonGatewaySelectsNothing}, p.Reason)
	})
	asked := plan.Entry{Hosts: w.spec.Hosts, Gateways: plan.QualifiedGateways(w.shift.Namespace, w.spec.Gateways), Port: live.Port, Told: live.Told}
	if w.spec.Preview != nil {
		asked.Preview = w.spec.Preview.Host
	}
	switch {
	case w.scope.Template == nil:
		return plan.Entry{}, false
	case refused, len(asked.Hosts) == 0 && w.busy(), w.gatewayAPIRoutes() && len(asked.Gateways) == 0 && len(asked.Hosts) > 0:
		return live, false
	case len(asked.Hosts) == 0:
		return plan.Entry{}, len(live.Hosts) > 0 || w.gateway != nil && w.ours(w.gateway)
	}
	return asked, false
}

// busy reports whether a version is on its way in or out.
func (w *world) busy() bool {
	state := w.shift.Status.State
	return state.Candidate != "" || slices.ContainsFunc(state.Retiring, func(r v1alpha1.Retiring) bool { return !shift.Kept(r) })
}

// liveEntry reads the entry back from our VirtualService for external hosts.
func (w *world) liveEntry() plan.Entry {
	if w.gatewayAPIRoutes() {
		return w.routedEntry()
	}
	vs, ok := w.tables[plan.HostsName(w.shift.Name)]
	if !ok || !w.ours(vs) {
		return plan.Entry{}
	}
	own := w.shift.Namespace + "/" + w.shift.Name
	e := plan.Entry{Hosts: vs.Spec.GetHosts(), Gateways: slices.DeleteFunc(slices.Clone(vs.Spec.GetGateways()), func(g string) bool { return g == own })}
	for _, to := range destinationsIn(vs) {
		e.Port = int32(to.GetPort().GetNumber())
	}
	switch {
	case len(vs.Spec.GetTls()) > 0:
		e.Told = plan.BySNI
	case len(vs.Spec.GetTcp()) > 0:
		e.Told = plan.ByPort
	default:
		e.Told = plan.ByHost
	}
	if shown, ok := w.tables[plan.PreviewName(w.shift.Name)]; ok && w.ours(shown) && len(shown.Spec.GetHosts()) > 0 {
		e.Preview = shown.Spec.GetHosts()[0]
	}
	for _, version := range w.scope.Hosted {
		if vs, ok := w.hostOf(version); ok {
			e.Preview = vs.Annotations[v1alpha1.AnnotationPreview]
		}
	}
	return e
}
