package trafficshift

import (
	"cmp"
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/plan"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// Reconcile is the pipeline: observe, decide, persist, plan, apply. The TrafficShift is read past the cache, because a decision
// taken on a stale state could raise a weight again that was already taken back.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	ts := &v1alpha1.TrafficShift{}
	if err := r.Client.Get(ctx, req.NamespacedName, ts); apierrors.IsNotFound(err) {
		r.forget(req) // most Deployments of a cluster have none: they cost nothing
		return ctrl.Result{}, nil
	}
	if err := r.Live.Get(ctx, req.NamespacedName, ts); err != nil {
		r.forget(req)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if done, err := r.finalize(ctx, ts); done || err != nil {
		return ctrl.Result{}, err
	}
	world, err := r.observe(ctx, ts)
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("observing: %w", err)
	}
	defer func() { world.yieldTurn() }()
	if done, err := r.setReplicas(ctx, ts, world); done || err != nil {
		return conflictIsNoError(err)
	}
	decision, err := shift.Decide(world.spec, ts.Status.State, world.observation)
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("deciding: %w", err)
	}
	world, decision = r.lookTwice(ctx, ts, world, decision)
	before := ts.DeepCopy()
	if err := r.persist(ctx, ts, world, decision); err != nil {
		return conflictIsNoError(err)
	}
	world.yieldTurn()
	r.tell(ctx, before, ts, world, decision)
	if world.suspended() {
		return conflictIsNoError(r.takeAway(ctx, ts))
	}
	err = r.execute(ctx, world, decision)
	if err == nil {
		err = r.finish(ctx, ts)
	}
	if err := r.noteRefusal(ctx, ts, world, decision, err); err != nil {
		return conflictIsNoError(err)
	}
	return ctrl.Result{RequeueAfter: lookAgain(world, decision)}, nil
}

// recheckDelay is how soon a shift at rest looks again at what stands in its way: not every remedy is an object that is watched.
const recheckDelay = time.Minute

// lookAgain is when the next pass is due, without an event.
func lookAgain(w *world, d shift.Decision) time.Duration {
	if d.RequeueAfter == 0 && len(w.observation.Problems) > 0 && w.scope.Template != nil {
		return recheckDelay
	}
	return d.RequeueAfter
}

// setReplicas settles spec.replicas before anything is decided on it.
func (r *Reconciler) setReplicas(ctx context.Context, ts *v1alpha1.TrafficShift, w *world) (done bool, err error) {
	if done, err = r.fillReplicas(ctx, ts, w); !done && err == nil {
		done, err = r.takeReplicas(ctx, ts, w)
	}
	if err != nil {
		err = r.noteRefusal(ctx, ts, w, undecided(ts), err)
	}
	return done, err
}

// fillReplicas sets spec.replicas once on a TrafficShift that its owner wrote without: the scale subresource has no value otherwise. One
// that the annotations make is the shim's to fill.
func (r *Reconciler) fillReplicas(ctx context.Context, ts *v1alpha1.TrafficShift, w *world) (done bool, err error) {
	template := w.scope.Template
	if w.suspended() || ts.Spec.Replicas != nil || template == nil || metav1.IsControlledBy(ts, template) || ts.Annotations[v1alpha1.AnnotationExtends] == "true" {
		return false, nil
	}
	was, n := ts.DeepCopy(), w.replicas()
	ts.Spec.Replicas = &n
	patch := client.MergeFromWithOptions(was, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Patch(ctx, ts, patch, client.FieldOwner(v1alpha1.FieldManager)); err != nil {
		if ts.Spec.Replicas = nil; ts.Status.State.Candidate != "" && !apierrors.IsConflict(err) {
			ctrl.LoggerFrom(ctx).Error(err, "setting spec.replicas; the release goes on with its strength, because it must be able to go back")
			return false, nil
		}
		return true, attempted(onShift("set spec.replicas of", ts), fmt.Errorf("TrafficShift %s/%s: setting spec.replicas: %w", ts.Namespace, ts.Name, err))
	}
	return true, nil
}

// conflictIsNoError looks again soon where something was read too early: nothing is wrong, and the next pass sees it.
func conflictIsNoError(err error) (ctrl.Result, error) {
	if apierrors.IsConflict(err) {
		return ctrl.Result{RequeueAfter: conflictDelay}, nil
	}
	return ctrl.Result{}, err
}

// execute runs the plan. All steps of a group are tried, so that neither VirtualService of a rollback waits for the other; after a group
// that has failed only pods are added, unless it is one aside.
func (r *Reconciler) execute(ctx context.Context, w *world, d shift.Decision) error {
	if w.scope.Template == nil {
		return r.letGo(ctx, w.shift)
	}
	if !w.writable() {
		return nil
	}
	groups, err := plan.For(w.scope, d.Desired)
	if err != nil {
		return fmt.Errorf("planning: %w", err)
	}
	var failed, aside error
	for _, group := range groups {
		var errs []error
		for _, step := range group.Steps {
			if failed != nil && !w.raisesCapacity(step) {
				continue
			}
			wrote, err := r.step(ctx, w, step)
			if wrote {
				log.FromContext(ctx).Info("wrote", "step", step.String(), "reason", d.Reason)
			}
			errs = append(errs, attempted(step.String(), err))
		}
		switch err := first(errs); {
		case err == nil:
		case group.Aside:
			aside = fmt.Errorf("writing %s: %w", group.Name, err)
		default:
			failed = cmp.Or(failed, fmt.Errorf("writing %s: %w", group.Name, err))
		}
	}
	return cmp.Or(failed, aside)
}

// raisesCapacity reports whether a step only adds pods: that depends on no route, and must not wait for one that cannot be written.
func (w *world) raisesCapacity(step plan.Step) bool {
	d, ok := step.Object.(*appsv1.Deployment)
	if !ok || step.Verb != plan.Apply {
		return false
	}
	live, there := w.deployments[d.Name]
	return !there || ptr.Deref(d.Spec.Replicas, 1) >= ptr.Deref(live.Spec.Replicas, 1)
}

// first prefers a real error over a conflict, which only says to look again.
func first(errs []error) error {
	var conflict error
	for _, err := range errs {
		switch {
		case err == nil:
		case apierrors.IsConflict(err):
			conflict = err
		default:
			return err
		}
	}
	return conflict
}

func (r *Reconciler) step(ctx context.Context, w *world, step plan.Step) (bool, error) {
	owner, live := w.scope.Template.UID, w.live(step.Object)
	switch step.Verb {
	case plan.Apply:
		return r.writer().Apply(ctx, owner, step.Object, live)
	case plan.Disown:
		return r.writer().Disown(ctx, owner, step.Object, live)
	case plan.Delete:
		return r.writer().Delete(ctx, owner, live)
	}
	fields, ok := step.Object.(*unstructured.Unstructured)
	if !ok {
		return false, fmt.Errorf("%s: %T is not a set of fields", step, step.Object)
	}
	a := w.attached(fields)
	switch step.Verb {
	case plan.Adjust:
		if a.Unread != nil {
			return false, a.Unread
		}
		return r.writer().Adjust(ctx, fields, a.Object)
	case plan.Forget:
		return r.disclaim(ctx, w.shift.Namespace, *a)
	case plan.Add:
		return r.writer().Add(ctx, fields, w.autoscalers.scaled.byName(fields.GetName()))
	case plan.Withdraw:
		return r.writer().Withdraw(ctx, w.autoscalers.scaled.byName(fields.GetName()))
	case plan.HandOver:
		return r.writer().HandOver(ctx, fields, w.scope.Template)
	case plan.PutBack:
		return r.writer().PutBack(ctx, fields, w.scope.Template)
	}
	return r.writer().Hold(ctx, fields, w.scope.Template)
}

// finalize adds the finalizer, and takes it away where there is nothing to hand back any more: the Deployment is gone, or going.
func (r *Reconciler) finalize(ctx context.Context, ts *v1alpha1.TrafficShift) (done bool, err error) {
	if ts.DeletionTimestamp.IsZero() {
		if controllerutil.AddFinalizer(ts, v1alpha1.Finalizer) {
			return true, r.patchFinalizers(ctx, ts)
		}
		return false, nil
	}
	if !controllerutil.ContainsFinalizer(ts, v1alpha1.Finalizer) {
		return true, nil
	}
	template := &appsv1.Deployment{}
	err = r.Client.Get(ctx, client.ObjectKeyFromObject(ts), template)
	released := ts.Status.State.Stage == v1alpha1.StageReleased
	if err != nil && !apierrors.IsNotFound(err) {
		return true, fmt.Errorf("reading Deployment %s/%s: %w", ts.Namespace, ts.Name, err)
	}
	if err == nil && template.DeletionTimestamp.IsZero() && !released {
		return false, nil
	}
	if err := r.letGo(ctx, ts); err != nil {
		return true, err
	}
	controllerutil.RemoveFinalizer(ts, v1alpha1.Finalizer)
	return true, r.patchFinalizers(ctx, ts)
}

// letGo takes what Sluice has written into objects of the user's out again, where there is no Deployment that could be handed back.
func (r *Reconciler) letGo(ctx context.Context, ts *v1alpha1.TrafficShift) error {
	return first([]error{r.giveRoutesBack(ctx, ts), r.wakeScaledObjects(ctx, ts)})
}

// patchFinalizers writes metadata.finalizers alone, at the resourceVersion that was read.
func (r *Reconciler) patchFinalizers(ctx context.Context, ts *v1alpha1.TrafficShift) error {
	was := ts.DeepCopy()
	if controllerutil.ContainsFinalizer(ts, v1alpha1.Finalizer) {
		controllerutil.RemoveFinalizer(was, v1alpha1.Finalizer)
	} else {
		controllerutil.AddFinalizer(was, v1alpha1.Finalizer)
	}
	patch := client.MergeFromWithOptions(was, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Patch(ctx, ts, patch, client.FieldOwner(v1alpha1.FieldManager)); err != nil {
		err = fmt.Errorf("TrafficShift %s/%s: writing its finalizer: %w", ts.Namespace, ts.Name, err)
		return attempted(onShift("write the finalizer of", ts), client.IgnoreNotFound(err))
	}
	return nil
}

// finish takes away what was asked for and is answered, and the finalizer of a shift that has let go.
func (r *Reconciler) finish(ctx context.Context, ts *v1alpha1.TrafficShift) error {
	if err := r.takeAway(ctx, ts); err != nil {
		return err
	}
	if !ts.DeletionTimestamp.IsZero() {
		_, err := r.finalize(ctx, ts)
		return err
	}
	return nil
}
