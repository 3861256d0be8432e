package trafficshift

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/plan"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// Istio's own labels and names.
const (
	labelInjection    = "istio-injection"
	labelRevision     = "istio.io/rev"
	labelInject       = "sidecar.istio.io/inject" // an annotation, too
	labelDataplane    = "istio.io/dataplane-mode"
	dataplaneAmbient  = "ambient"
	dataplaneNone     = "none"
	containerOfProxy  = "istio-proxy"
	injectionEnabled  = "enabled"
	injectionDisabled = "disabled"
)

// membership is how pods take part in the mesh.
type membership int

const (
	// outside: nothing of the namespace or the template asks for it.
	outside membership = iota
	// refused: the namespace asks for sidecars and the template for none.
	refused
	// sidecar: each pod gets a proxy of its own.
	sidecar
	// ambient: the node's ztunnel carries their traffic.
	ambient
)

// memberOf tells how the pods of a template will take part, as Istio's injector and its CNI read labels (rule I1). A label of the pod
// wins over its annotation, and either over what the namespace says; a value that is neither true nor false says nothing.
func memberOf(namespace map[string]string, template *corev1.PodTemplateSpec) membership {
	wish := template.Annotations[labelInject]
	if label, ok := template.Labels[labelInject]; ok {
		wish = label
	}
	injection, revision := namespace[labelInjection], namespace[labelRevision]
	asked := injection == injectionEnabled || injection == "" && (revision != "" || wish == "true" || template.Labels[labelRevision] != "")
	wanted := wish != "false" && !template.Spec.HostNetwork
	captured := namespace[labelDataplane] == dataplaneAmbient
	if mode := template.Labels[labelDataplane]; mode != "" {
		captured = mode == dataplaneAmbient
	}
	switch {
	case hasProxy(&template.Spec): // put there by istioctl kube-inject
		return sidecar
	case injection == injectionDisabled && !captured:
		return outside
	case asked && wanted:
		return sidecar
	case captured && !template.Spec.HostNetwork:
		return ambient
	case asked:
		return refused
	}
	return outside
}

// hasProxy reports whether a pod has a sidecar: a container, or a native one among the init containers.
func hasProxy(pod *corev1.PodSpec) bool {
	return slices.ContainsFunc(slices.Concat(pod.InitContainers, pod.Containers), func(c corev1.Container) bool { return c.Name == containerOfProxy })
}

// readNamespace reads what the namespace says of the mesh.
func (r *Reconciler) readNamespace(ctx context.Context, w *world) error {
	w.namespace = &corev1.Namespace{}
	if err := r.Client.Get(ctx, client.ObjectKey{Name: w.shift.Namespace}, w.namespace); err != nil {
		return fmt.Errorf("reading Namespace %s: %w", w.shift.Namespace, err)
	}
	return nil
}

// checkMembership refuses pods that the mesh cannot see. Clients split by weight with their own proxies, and count as well; but only the
// pods' own proxies, or a waypoint, see what reaches a candidate past the routes. Whoever counts with the clients alone says so.
func (r *Reconciler) checkMembership(ctx context.Context, w *world) ([]shift.Problem, error) {
	template := w.scope.Template
	member := memberOf(w.namespace.Labels, &template.Spec.Template)
	if member == outside && w.spec.Reporter != v1alpha1.ReporterSource {
		injected, err := r.injectedAllTheSame(ctx, w)
		if err != nil {
			return nil, err
		}
		if injected {
			member = sidecar
		}
	}
	switch member {
	case ambient:
		return w.checkWaypoint(), nil
	case sidecar:
		if pod := w.bare[w.introduced()]; pod != "" {
			return w.withoutSidecar("pod %s/%s of %s came up without the container %s: bring Istio's injector back, then take %[3]s back (annotation %[5]s) and try it again (%[6]s)",
				w.shift.Namespace, pod, w.introduced(), containerOfProxy, v1alpha1.AnnotationAbort, v1alpha1.AnnotationRetry), nil
		}
		return nil, nil
	case refused:
		if template.Spec.Template.Spec.HostNetwork {
			return w.withoutSidecar("the pod template of Deployment %s/%s sets hostNetwork: true, and Istio injects no sidecar there: take hostNetwork out", template.Namespace, template.Name), nil
		}
		return w.withoutSidecar("the pod template of Deployment %s/%s sets %s: \"false\": take it out, accepted is \"true\" or nothing", template.Namespace, template.Name, labelInject), nil
	}
	if w.spec.Reporter == v1alpha1.ReporterSource {
		w.advise(v1alpha1.ReasonSidecarNotNeeded, clientsOnly, w.shift.Name)
		return nil, nil
	}
	return []shift.Problem{problem(v1alpha1.ReasonNamespaceNotInMesh,
		"Namespace %s is not in the mesh: it has neither the label %s: %s nor %s, nor %s: %s; set one of them and restart its pods, or, where all clients are gateways or have sidecars, count as they do: spec.reporter: source (annotation %s)",
		w.shift.Namespace, labelInjection, injectionEnabled, labelRevision, labelDataplane, dataplaneAmbient, v1alpha1.AnnotationReporter)}, nil
}

// clientsOnly is what it means to count as clients do.
const clientsOnly = "the pods of %s have no sidecar, and spec.reporter is source: only clients with a sidecar, and gateways, follow the weights and are counted; any other client reaches a candidate from its first ready pod on, and nobody sees it"

// withoutSidecar refuses, or only tells where the clients' own proxies are what counts.
func (w *world) withoutSidecar(format string, args ...any) []shift.Problem {
	if w.spec.Reporter == v1alpha1.ReporterSource {
		w.advise(v1alpha1.ReasonSidecarNotNeeded, clientsOnly, w.shift.Name)
		return nil
	}
	p := problem(v1alpha1.ReasonNoSidecar, format, args...)
	p.Message += fmt.Sprintf("; or, where all clients are gateways or have sidecars, count as they do: spec.reporter: source (annotation %s)", v1alpha1.AnnotationReporter)
	return []shift.Problem{p}
}

// waypoint is the one that requests for the Service go through, empty where there is none: its own label wins over its namespace's.
func (w *world) waypoint() string {
	name := w.namespace.Labels[plan.LabelUseWaypoint]
	if s := w.scope.Service; s != nil && s.Labels[plan.LabelUseWaypoint] != "" {
		name = s.Labels[plan.LabelUseWaypoint]
	}
	if name == dataplaneNone {
		return ""
	}
	return name
}

// behindWaypoint reports whether a waypoint is what tells requests for the service apart.
func (w *world) behindWaypoint() bool {
	return memberOf(w.namespace.Labels, &w.scope.Template.Spec.Template) == ambient && w.waypoint() != ""
}

// checkWaypoint refuses what only ztunnel carries: it knows connections, and no weights (rule A1). A waypoint that only the pods name is
// for requests to their own addresses, not to the Service.
func (w *world) checkWaypoint() []shift.Problem {
	if w.waypoint() != "" {
		return nil
	}
	on := "Namespace " + w.shift.Namespace
	if s := w.scope.Service; s != nil && !w.scope.Made {
		on = fmt.Sprintf("Service %s/%s or its Namespace", s.Namespace, s.Name)
	}
	return []shift.Problem{problem(v1alpha1.ReasonAmbientWithoutWaypoint,
		"the pods of Deployment %s/%s are in the ambient mesh without a waypoint, and ztunnel splits nothing by weight: make one (istioctl waypoint apply -n %s) and set the label %s: waypoint on %s",
		w.shift.Namespace, w.shift.Name, w.shift.Namespace, plan.LabelUseWaypoint, on)}
}

// introduced is the version whose pods were not judged yet: a candidate, or the first version of a service that is being taken over.
func (w *world) introduced() string {
	state := w.shift.Status.State
	if state.Phase == v1alpha1.PhaseAdopting {
		return state.Stable
	}
	return state.Candidate
}

// injectedAllTheSame asks whether pods have sidecars where no label says so: a mesh may inject everywhere (enableNamespacesByDefault).
// Its own pods, or those of its versions, are asked past the cache, and only where the answer would otherwise be no.
func (r *Reconciler) injectedAllTheSame(ctx context.Context, w *world) (bool, error) {
	if w.namespace.Labels[labelInjection] == injectionDisabled {
		return false, nil
	}
	if w.proxy != nil {
		return true, nil // the pods of a version have one
	}
	var pods corev1.PodList
	selector, err := metav1.LabelSelectorAsSelector(w.scope.Template.Spec.Selector)
	if err != nil {
		return false, fmt.Errorf("reading spec.selector of Deployment %s/%s: %w", w.shift.Namespace, w.shift.Name, err)
	}
	if err := r.Live.List(ctx, &pods, client.InNamespace(w.shift.Namespace), client.MatchingLabelsSelector{Selector: selector}, client.Limit(10)); err != nil {
		return false, fmt.Errorf("listing pods of Deployment %s/%s: %w", w.shift.Namespace, w.shift.Name, err)
	}
	return slices.ContainsFunc(pods.Items, func(pod corev1.Pod) bool { return hasProxy(&pod.Spec) }), nil
}
