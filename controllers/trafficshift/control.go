package trafficshift

import (
	"cmp"
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/apply"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// requestLimit is how many answers a status keeps.
const requestLimit = 10

// actionKeys are the annotations of actions.
var actionKeys = map[v1alpha1.Action]string{
	v1alpha1.ActionAbort: v1alpha1.AnnotationAbort, v1alpha1.ActionRetry: v1alpha1.AnnotationRetry, v1alpha1.ActionApprove: v1alpha1.AnnotationApprove,
	v1alpha1.ActionPromote: v1alpha1.AnnotationPromote, v1alpha1.ActionUndo: v1alpha1.AnnotationUndo, v1alpha1.ActionRestart: v1alpha1.AnnotationRestart,
}

// intentsOf are what a person asks for on the TrafficShift for as long as it stands there.
func intentsOf(ts *v1alpha1.TrafficShift) shift.Intents {
	a := ts.Annotations
	return shift.Intents{
		Detach: !ts.DeletionTimestamp.IsZero() || a[v1alpha1.AnnotationDetach] == "true",
		Force:  a[v1alpha1.AnnotationForce] == "true",
	}
}

// requestsOf are what a person asks for once, each with who wrote it, in the order in which they are answered.
func requestsOf(ts *v1alpha1.TrafficShift) []shift.Request {
	requests := pauseRequests(ts)
	for _, asked := range ts.Spec.Actions.ByAction() {
		if value, ok := ts.Annotations[actionKeys[asked.Action]]; ok {
			by := writer(ts, "metadata", "annotations", actionKeys[asked.Action])
			requests = append(requests, shift.Request{Action: asked.Action, Source: v1alpha1.SourceAnnotation, Value: value, By: by})
		}
		if asked.Value != "" {
			by := writer(ts, "spec", "actions", string(asked.Action))
			requests = append(requests, shift.Request{Action: asked.Action, Source: v1alpha1.SourceField, Value: asked.Value, By: by})
		}
	}
	return requests
}

// pauseRequests are the two ways to pause. What the annotation says wins over the field: git does not revert it.
func pauseRequests(ts *v1alpha1.TrafficShift) []shift.Request {
	var requests []shift.Request
	if value, ok := ts.Annotations[v1alpha1.AnnotationPaused]; ok {
		action := v1alpha1.ActionPause
		if value == "false" {
			action = v1alpha1.ActionResume
		}
		by := writer(ts, "metadata", "annotations", v1alpha1.AnnotationPaused)
		requests = append(requests, shift.Request{Action: action, Source: v1alpha1.SourceAnnotation, Value: value, By: by})
	}
	if ts.Spec.Paused {
		requests = append(requests, shift.Request{Action: v1alpha1.ActionPause, Source: v1alpha1.SourceField, Value: "true", By: writer(ts, "spec", "paused")})
	}
	return requests
}

// deploymentPause is the third way to pause: kubectl rollout pause of the Deployment.
func deploymentPause(template *appsv1.Deployment) []shift.Request {
	if template == nil || !template.Spec.Paused {
		return nil
	}
	return []shift.Request{{Action: v1alpha1.ActionPause, Source: v1alpha1.SourceDeployment, Value: "true", By: writer(template, "spec", "paused")}}
}

// resumedBy is who last wrote the fields that pause.
func resumedBy(ts *v1alpha1.TrafficShift, template *appsv1.Deployment) map[v1alpha1.Source]string {
	by := map[v1alpha1.Source]string{v1alpha1.SourceField: writer(ts, "spec", "paused")}
	if template != nil {
		by[v1alpha1.SourceDeployment] = writer(template, "spec", "paused")
	}
	return by
}

// writer is the field manager that wrote a field.
func writer(o metav1.Object, path ...string) string {
	return cmp.Or(apply.ManagerOf(o, path...), "unknown")
}

// takeAway removes the annotations that were answered, so that they do not meet the next release. One that somebody has changed since the
// object was read is left for the next pass.
func (r *Reconciler) takeAway(ctx context.Context, ts *v1alpha1.TrafficShift) error {
	was := ts.DeepCopy()
	for _, a := range ts.Status.State.Answered {
		key, ok := actionKeys[a.Action]
		if !ok {
			key = v1alpha1.AnnotationPaused
		}
		if a.Source == v1alpha1.SourceAnnotation && ts.Annotations[key] == a.Value && !(key == v1alpha1.AnnotationPaused && pauses(ts, a.Value)) {
			delete(ts.Annotations, key)
		}
	}
	if len(was.Annotations) == len(ts.Annotations) {
		return nil
	}
	patch := client.MergeFromWithOptions(was, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Patch(ctx, ts, patch, client.FieldOwner(v1alpha1.FieldManager)); err != nil {
		return attempted(onShift("take answered requests off", ts), fmt.Errorf("TrafficShift %s/%s: taking answered requests away: %w", ts.Namespace, ts.Name, err))
	}
	return nil
}

// pauses reports whether a value of the annotation goes on meaning something: "true" does until the service is handed back, "false" for as
// long as it stands against the field.
func pauses(ts *v1alpha1.TrafficShift, value string) bool {
	switch value {
	case "true":
		return ts.Status.Phase != v1alpha1.PhaseDetaching
	case "false":
		return ts.Spec.Paused
	}
	return false
}

// remembered are the answers that a status keeps, newest first.
func remembered(before []v1alpha1.ActionRecord, now []v1alpha1.ActionRecord) []v1alpha1.ActionRecord {
	for _, a := range now {
		before = append([]v1alpha1.ActionRecord{a}, before...)
	}
	return before[:min(len(before), requestLimit)]
}

// actionNotes tell of what people asked for, and what became of it.
func actionNotes(actions []v1alpha1.ActionRecord) []note {
	var notes []note
	for _, a := range actions {
		what := fmt.Sprintf("%s=%s by %s: %s", a.Action, a.Value, a.By, a.Message)
		asked, err := v1alpha1.ParseRequest(a.Action, a.Value)
		switch {
		case a.Result == v1alpha1.ResultRefused:
			notes = append(notes, note{corev1.EventTypeWarning, v1alpha1.ReasonActionRefused, "Refuse", what})
		case err == nil && asked.Extent == v1alpha1.ExtentSkipGates:
			notes = append(notes, note{corev1.EventTypeWarning, v1alpha1.ReasonGatesSkipped, "SkipGates", what})
		default:
			notes = append(notes, note{corev1.EventTypeNormal, v1alpha1.ReasonActionTaken, "Act", what})
		}
	}
	return notes
}
