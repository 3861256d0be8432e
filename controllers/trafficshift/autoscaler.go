package trafficshift

import (
	"context"
	"fmt"
	"slices"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/plan"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// autoscalers are what scales a service: the user's, and the one of ours that follows it.
type autoscalers struct {
	// template are those that target the Deployment, shift those of other owners that target the TrafficShift.
	template, shift []*autoscalingv2.HorizontalPodAutoscaler
	// named is the one that has the name of ours, whoever owns it.
	named *autoscalingv2.HorizontalPodAutoscaler
}

// readAutoscalers reads what scales the service, and says what ours is to be made from.
func (r *Reconciler) readAutoscalers(ctx context.Context, w *world) error {
	var list autoscalingv2.HorizontalPodAutoscalerList
	if err := r.Client.List(ctx, &list, client.InNamespace(w.shift.Namespace)); err != nil {
		return fmt.Errorf("listing HorizontalPodAutoscalers: %w", err)
	}
	a := &w.autoscalers
	slices.SortFunc(list.Items, func(a, b autoscalingv2.HorizontalPodAutoscaler) int { return named(&a, &b) })
	for i := range list.Items {
		hpa := &list.Items[i]
		if hpa.Name == plan.AutoscalerName(w.shift.Name) {
			a.named = hpa
		}
		switch ref := hpa.Spec.ScaleTargetRef; {
		case ref.Name != w.shift.Name || w.ours(hpa):
		case ref.Kind == "Deployment":
			a.template = append(a.template, hpa)
		case ref.Kind == "TrafficShift":
			a.shift = append(a.shift, hpa)
		}
	}
	w.scope.Following = a.named != nil && w.ours(a.named)
	if hpa := w.followed(); hpa != nil {
		w.scope.Autoscaler = hpa
	}
	return nil
}

// followed is the autoscaler of the Deployment that one of ours follows; nil where none can be.
func (w *world) followed() *autoscalingv2.HorizontalPodAutoscaler {
	if w.spec.Autoscaler != v1alpha1.AutoscalerFollow || len(w.autoscalers.template) == 0 || w.unfollowable() != "" {
		return nil
	}
	return w.autoscalers.template[0]
}

// unfollowable says why the autoscalers of the Deployment cannot be followed, and what to do.
func (w *world) unfollowable() string {
	a := w.autoscalers
	hpa := a.template[0]
	switch {
	case len(a.template) > 1:
		return fmt.Sprintf("HorizontalPodAutoscalers %s and %s of namespace %s both target the Deployment; keep one", hpa.Name, a.template[1].Name, hpa.Namespace)
	case len(a.shift) > 0:
		return fmt.Sprintf("HorizontalPodAutoscaler %s/%s targets the Deployment and would be followed, but %s targets the TrafficShift already; keep one",
			hpa.Namespace, hpa.Name, a.shift[0].Name)
	case hpa.Spec.MinReplicas != nil && *hpa.Spec.MinReplicas == 0:
		return fmt.Sprintf("HorizontalPodAutoscaler %s/%s has minReplicas: 0, with which it goes on scaling the Deployment that Sluice holds at 0; %s", hpa.Namespace, hpa.Name, w.retarget())
	case scaledObjectOf(hpa) != "":
		return w.scaledObjectProblem(scaledObjectOf(hpa))
	}
	return ""
}

// retarget is the remedy that always helps.
func (w *world) retarget() string {
	return fmt.Sprintf("set its scaleTargetRef to apiVersion: %s, kind: TrafficShift, name: %s", v1alpha1.GroupVersion, w.shift.Name)
}

// checkAutoscalers refuses an autoscaler that points at the template: it stops at 0 replicas, which is where a held template stands. With
// autoscaler: follow one is let through that ours can follow.
func (r *Reconciler) checkAutoscalers(ctx context.Context, w *world) ([]shift.Problem, error) {
	found, err := r.scaledObject(ctx, w)
	if err != nil {
		return nil, err
	}
	a := w.autoscalers
	refuse := func(text string) ([]shift.Problem, error) {
		return []shift.Problem{problem(v1alpha1.ReasonAutoscalerTargetsTemplate, "%s", text)}, nil
	}
	switch {
	case found != "":
		return refuse(w.scaledObjectProblem(found))
	case len(a.template) == 0:
		return nil, nil
	case w.spec.Autoscaler == v1alpha1.AutoscalerFollow && a.named != nil && !w.ours(a.named):
		return []shift.Problem{problem(v1alpha1.ReasonNameTaken,
			"HorizontalPodAutoscaler %s/%s is somebody else's and is left as it is; rename or delete it, or rename the Deployment", a.named.Namespace, a.named.Name)}, nil
	case w.spec.Autoscaler == v1alpha1.AutoscalerFollow:
		if text := w.unfollowable(); text != "" {
			return refuse(text)
		}
		return nil, nil
	case scaledObjectOf(a.template[0]) != "":
		return refuse(w.scaledObjectProblem(scaledObjectOf(a.template[0])))
	}
	hpa := a.template[0]
	return refuse(fmt.Sprintf("HorizontalPodAutoscaler %s/%s targets the Deployment, which Sluice holds at 0; %s, or have it followed with the annotation %s: follow",
		hpa.Namespace, hpa.Name, w.retarget(), v1alpha1.AnnotationAutoscaler))
}

var scaledObjects = schema.GroupVersionKind{Group: "keda.sh", Version: "v1alpha1", Kind: "ScaledObjectList"}

// scaledObjectOf is the name of KEDA's ScaledObject that an autoscaler was made for.
func scaledObjectOf(hpa *autoscalingv2.HorizontalPodAutoscaler) string {
	if ref := metav1.GetControllerOf(hpa); ref != nil && ref.Kind == "ScaledObject" {
		return ref.Name
	}
	return ""
}

// scaledObjectProblem says why KEDA cannot be followed: it wakes what stands at 0 by itself, past its HorizontalPodAutoscaler.
func (w *world) scaledObjectProblem(name string) string {
	return fmt.Sprintf("ScaledObject %s/%s targets the Deployment, which Sluice holds at 0 and KEDA would wake; %s", w.shift.Namespace, name, w.retarget())
}

// scaledObject finds a ScaledObject of KEDA's that targets the Deployment. It is asked when a release, or the first version, is about to
// start: at other times the autoscaler that KEDA makes of it tells. A cluster without KEDA has none.
func (r *Reconciler) scaledObject(ctx context.Context, w *world) (string, error) {
	state, version := w.shift.Status.State, w.observation.Template.Version
	if state.Weight > 0 || state.Candidate == "" && version != "" && (version == state.Stable || version == state.Rejected) {
		return "", nil
	}
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(scaledObjects)
	if err := r.Live.List(ctx, list, client.InNamespace(w.shift.Namespace)); err != nil {
		if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) { // never there, or not any more
			return "", nil
		}
		return "", fmt.Errorf("listing ScaledObjects: %w", err)
	}
	for _, o := range list.Items {
		kind, named, _ := unstructured.NestedString(o.Object, "spec", "scaleTargetRef", "kind")
		target, _, _ := unstructured.NestedString(o.Object, "spec", "scaleTargetRef", "name")
		if target == w.shift.Name && (!named || kind == "Deployment") { // KEDA's own default
			return o.GetName(), nil
		}
	}
	return "", nil
}

// takeReplicas keeps spec.replicas in step with the Deployment while an autoscaler that will be followed still scales that: what it has
// found out by the time that the Deployment is held is what the first version runs.
func (r *Reconciler) takeReplicas(ctx context.Context, ts *v1alpha1.TrafficShift, w *world) (done bool, err error) {
	n, phase := w.observation.Template.Replicas, ts.Status.State.Phase
	if w.suspended() || w.followed() == nil || phase != "" && phase != v1alpha1.PhaseAdopting || w.observation.Template.Held || n == 0 || n == w.replicas() {
		return false, nil
	}
	was := ts.DeepCopy()
	ts.Spec.Replicas = &n
	patch := client.MergeFromWithOptions(was, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Patch(ctx, ts, patch, client.FieldOwner(v1alpha1.FieldManager)); err != nil {
		return true, fmt.Errorf("TrafficShift %s/%s: setting spec.replicas: %w", ts.Namespace, ts.Name, err)
	}
	return true, nil
}
