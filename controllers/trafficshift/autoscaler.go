package trafficshift

import (
	"context"
	"fmt"
	"slices"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	// scaled are KEDA's.
	scaled scaledObjects
}

// readAutoscalers reads what scales the service, and says what ours is to be made from.
func (r *Reconciler) readAutoscalers(ctx context.Context, w *world) error {
	var list autoscalingv2.HorizontalPodAutoscalerList
	if err := r.Client.List(ctx, &list, client.InNamespace(w.shift.Namespace)); err != nil {
		return fmt.Errorf("listing HorizontalPodAutoscalers: %w", err)
	}
	if err := r.readScaledObjects(ctx, w); err != nil {
		return err
	}
	a := &w.autoscalers
	slices.SortFunc(list.Items, func(a, b autoscalingv2.HorizontalPodAutoscaler) int { return named(&a, &b) })
	for i := range list.Items {
		hpa := &list.Items[i]
		if hpa.Name == plan.AutoscalerName(w.shift.Name) {
			a.named = hpa
		}
		switch ref := hpa.Spec.ScaleTargetRef; {
		case ref.Name != w.shift.Name || w.ours(hpa) || a.scaled.made(hpa):
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
	w.scopeScaledObjects()
	return nil
}

// follows reports whether the owner wants an autoscaler of the Deployment to be followed, and which one is plain.
func (w *world) follows() bool {
	return w.spec.Autoscaler == v1alpha1.AutoscalerFollow && w.rivals() == "" && len(w.autoscalers.template)+len(w.autoscalers.scaled.template) == 1
}

// followed is the HorizontalPodAutoscaler of the Deployment that one of ours follows; nil where none can be.
func (w *world) followed() *autoscalingv2.HorizontalPodAutoscaler {
	if !w.follows() || len(w.autoscalers.template) == 0 || w.unfollowable(w.autoscalers.template[0]) != "" {
		return nil
	}
	return w.autoscalers.template[0]
}

// rivals says which autoscalers of either kind stand beside each other, of which one can be followed.
func (w *world) rivals() string {
	a := w.autoscalers
	of := append(titles("HorizontalPodAutoscaler", a.template), titles("ScaledObject", a.scaled.template)...)
	to := append(titles("HorizontalPodAutoscaler", a.shift), titles("ScaledObject", a.scaled.shift)...)
	switch {
	case len(of) > 1:
		return fmt.Sprintf("%s and %s both target the Deployment; keep one", of[0], of[1])
	case len(of) == 1 && len(to) > 0:
		return fmt.Sprintf("%s targets the Deployment and would be followed, but %s targets the TrafficShift already; keep one", of[0], to[0])
	}
	return ""
}

func titles[T metav1.Object](kind string, all []T) []string {
	var titles []string
	for _, o := range all {
		titles = append(titles, fmt.Sprintf("%s %s/%s", kind, o.GetNamespace(), o.GetName()))
	}
	return titles
}

// unfollowable says why an autoscaler of the Deployment cannot be followed, and what to do.
func (w *world) unfollowable(hpa *autoscalingv2.HorizontalPodAutoscaler) string {
	switch name := scaledObjectOf(hpa); {
	case hpa.Spec.MinReplicas != nil && *hpa.Spec.MinReplicas == 0:
		return fmt.Sprintf("HorizontalPodAutoscaler %s/%s has minReplicas: 0, with which it goes on scaling the Deployment that Sluice holds at 0; %s", hpa.Namespace, hpa.Name, w.retarget())
	case name != "":
		return w.lateKEDA(name)
	}
	return ""
}

// retarget is the remedy that always helps.
func (w *world) retarget() string {
	return fmt.Sprintf("set its scaleTargetRef to apiVersion: %s, kind: TrafficShift, name: %s", v1alpha1.GroupVersion, w.shift.Name)
}

// retargetOrFollow are both ways out of a refusal.
func (w *world) retargetOrFollow() string {
	return fmt.Sprintf("%s, or have it followed with the annotation %s: follow", w.retarget(), v1alpha1.AnnotationAutoscaler)
}

// checkAutoscalers refuses an autoscaler that points at the template, which is held at 0. With autoscaler: follow one is let through that
// ours can follow.
func (r *Reconciler) checkAutoscalers(_ context.Context, w *world) ([]shift.Problem, error) {
	a := w.autoscalers
	if len(a.template)+len(a.scaled.template) == 0 {
		return nil, nil
	}
	if w.spec.Autoscaler == v1alpha1.AutoscalerFollow {
		return w.checkFollowed(), nil
	}
	return w.refuseAutoscaler(w.untaken()), nil
}

// untaken says what is wrong with an autoscaler of the Deployment that nobody has asked to follow.
func (w *world) untaken() string {
	a := w.autoscalers
	if len(a.scaled.template) > 0 {
		return w.scaledObjectProblem(a.scaled.template[0].GetName())
	}
	hpa := a.template[0]
	if name := scaledObjectOf(hpa); name != "" {
		return w.scaledObjectProblem(name)
	}
	return fmt.Sprintf("HorizontalPodAutoscaler %s/%s targets the Deployment, which Sluice holds at 0; %s", hpa.Namespace, hpa.Name, w.retargetOrFollow())
}

// checkFollowed refuses what cannot be followed although its owner asks for it.
func (w *world) checkFollowed() []shift.Problem {
	a := w.autoscalers
	switch text := w.rivals(); {
	case text != "":
		return w.refuseAutoscaler(text)
	case len(a.scaled.template) > 0:
		return w.checkScaledObject(a.scaled.template[0])
	case a.named != nil && !w.ours(a.named):
		return []shift.Problem{nameTaken("HorizontalPodAutoscaler", a.named)}
	}
	return w.refuseAutoscaler(w.unfollowable(a.template[0]))
}

func (w *world) refuseAutoscaler(text string) []shift.Problem {
	if text == "" {
		return nil
	}
	return []shift.Problem{problem(v1alpha1.ReasonAutoscalerTargetsTemplate, "%s", text)}
}

func nameTaken(kind string, o metav1.Object) shift.Problem {
	return problem(v1alpha1.ReasonNameTaken, "%s %s/%s is somebody else's and is left as it is; rename or delete it, or rename the Deployment", kind, o.GetNamespace(), o.GetName())
}

// takeReplicas keeps spec.replicas in step with the Deployment while an autoscaler that will be followed still scales that: what it has
// found out by the time that the Deployment is held is what the first version runs.
func (r *Reconciler) takeReplicas(ctx context.Context, ts *v1alpha1.TrafficShift, w *world) (done bool, err error) {
	n, phase := w.observation.Template.Replicas, ts.Status.State.Phase
	if w.suspended() || !w.follows() || phase != "" && phase != v1alpha1.PhaseAdopting || w.observation.Template.Held || n == 0 || n == w.replicas() {
		return false, nil
	}
	was := ts.DeepCopy()
	ts.Spec.Replicas = &n
	patch := client.MergeFromWithOptions(was, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Patch(ctx, ts, patch, client.FieldOwner(v1alpha1.FieldManager)); err != nil {
		return true, attempted(onShift("set spec.replicas of", ts), fmt.Errorf("TrafficShift %s/%s: setting spec.replicas: %w", ts.Namespace, ts.Name, err))
	}
	return true, nil
}
