// Package shiftpolicy keeps the status of ShiftPolicies: whether each can be followed, who follows it, and whether it is frozen. What
// follows from a policy is done by controllers/trafficshift.
package shiftpolicy

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/policy"
)

// Reconciler reconciles the status of ShiftPolicies.
type Reconciler struct {
	Client client.Client
	// Now is the clock.
	Now func() time.Time
}

// SetupWithManager registers the reconciler and its watches.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("shiftpolicy").
		For(&v1alpha1.ShiftPolicy{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.TrafficShift{}, followers()).
		Complete(r)
}

// Reconcile writes the status of one policy, where it has changed, and comes back when a freeze begins or ends.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	p := &v1alpha1.ShiftPolicy{}
	if err := r.Client.Get(ctx, req.NamespacedName, p); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	var shifts v1alpha1.TrafficShiftList
	if err := r.Client.List(ctx, &shifts); err != nil {
		return ctrl.Result{}, fmt.Errorf("listing TrafficShifts: %w", err)
	}
	now := r.Now()
	was := p.DeepCopy()
	p.Status = statusOf(p, shifts.Items, now)
	if !equality.Semantic.DeepEqual(was.Status, p.Status) {
		if err := r.Client.Status().Patch(ctx, p, client.MergeFrom(was), client.FieldOwner(v1alpha1.FieldManager)); err != nil {
			return ctrl.Result{}, client.IgnoreNotFound(fmt.Errorf("ShiftPolicy %s: writing its status: %w", p.Name, err))
		}
	}
	if next := policy.Changes(p.Spec.Freezes, now); !next.IsZero() {
		return ctrl.Result{RequeueAfter: max(next.Sub(now), time.Millisecond)}, nil
	}
	return ctrl.Result{}, nil
}

// statusOf makes a policy's status from values.
func statusOf(p *v1alpha1.ShiftPolicy, shifts []v1alpha1.TrafficShift, now time.Time) v1alpha1.ShiftPolicyStatus {
	q := policy.QueueOf(p.Name, shifts)
	status := v1alpha1.ShiftPolicyStatus{
		ObservedGeneration: p.Generation, Shifts: int32(q.Total), Moving: int32(len(q.Moving)), Waiting: int32(len(q.Waiting)),
		Freeze: policy.Freezes(p.Spec.Freezes, now).String(), Conditions: append([]metav1.Condition(nil), p.Status.Conditions...),
	}
	accepted := metav1.Condition{
		Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue, ObservedGeneration: p.Generation,
		Reason: v1alpha1.ReasonAccepted, Message: "shifts may use it",
	}
	if errs := policy.Check(&p.Spec, field.NewPath("spec")); len(errs) > 0 {
		accepted.Status, accepted.Reason = metav1.ConditionFalse, v1alpha1.ReasonPolicyInvalid
		accepted.Message = fmt.Sprintf("no shift starts under it: %v", errs.ToAggregate())
	}
	meta.SetStatusCondition(&status.Conditions, accepted)
	return status
}

// followers are the policies that a TrafficShift counts for, before and after a change that matters to them.
func followers() handler.EventHandler {
	add := func(q queue, shifts ...client.Object) {
		for _, o := range shifts {
			if ts, ok := o.(*v1alpha1.TrafficShift); ok && policy.Name(ts) != "" {
				q.Add(reconcile.Request{NamespacedName: types.NamespacedName{Name: policy.Name(ts)}})
			}
		}
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { add(q, e.Object) },
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) { add(q, e.Object) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			was, ok1 := e.ObjectOld.(*v1alpha1.TrafficShift)
			is, ok2 := e.ObjectNew.(*v1alpha1.TrafficShift)
			if ok1 && ok2 && (policy.Name(was) != policy.Name(is) || policy.Moving(was) != policy.Moving(is) || policy.Waiting(was) != policy.Waiting(is)) {
				add(q, was, is)
			}
		},
	}
}

// queue is what requests are added to.
type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
