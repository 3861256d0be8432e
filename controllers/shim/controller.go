package shim

import (
	"context"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	sluice "github.com/sluice-dev/sluice/api/v1alpha1"
)

// Reconciler keeps the TrafficShift of each annotated Deployment at what its annotations say.
type Reconciler struct {
	// Client reads from a cache that keeps managedFields: they tell who wrote a number of replicas.
	Client client.Client
	// Live reads past the cache, before a TrafficShift is made.
	Live     client.Reader
	Recorder events.EventRecorder

	told ledger
}

// SetupWithManager registers the controller.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("shim").
		For(&appsv1.Deployment{}, builder.WithPredicates(concerned, predicate.Or(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}))).
		// By name and not by owner: a TrafficShift that somebody wrote by hand matters too, when it goes.
		Watches(&sluice.TrafficShift{}, &handler.EnqueueRequestForObject{}, builder.WithPredicates(
			predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}, phaseChanged))).
		Complete(r)
}

// concerned passes Deployments that carry, or carried until this update, a key of ours. One that lost its keys while nobody
// watched is found through its TrafficShift.
var concerned = predicate.Funcs{
	CreateFunc: func(e event.CreateEvent) bool { return annotated(e.Object) },
	UpdateFunc: func(e event.UpdateEvent) bool { return annotated(e.ObjectOld) || annotated(e.ObjectNew) },
}

// phaseChanged passes the moment at which a wish that had to wait may be followed.
var phaseChanged = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	was, ok := e.ObjectOld.(*sluice.TrafficShift)
	is, ok2 := e.ObjectNew.(*sluice.TrafficShift)
	return ok && ok2 && moving(was) != moving(is)
}}

func annotated(obj client.Object) bool {
	for key := range obj.GetAnnotations() {
		if strings.HasPrefix(key, sluice.Prefix) {
			return true
		}
	}
	return false
}

// Reconcile makes, keeps or removes one TrafficShift. A mistake in an annotation is told once and not retried: only its author
// can mend it, and that wakes us.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	d := &appsv1.Deployment{}
	if err := r.Client.Get(ctx, req.NamespacedName, d); err != nil {
		r.told.swap(req.NamespacedName, nil, "")
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if d.DeletionTimestamp != nil || isVersion(d) {
		return ctrl.Result{}, nil
	}
	shift, err := get(ctx, r.Client, req.NamespacedName)
	if err != nil {
		return ctrl.Result{}, err
	}
	err = r.reconcile(ctx, d, shift)
	if apierrors.IsConflict(err) {
		// Decided on a copy that was no longer the latest. The cache is about to catch up.
		return ctrl.Result{RequeueAfter: 200 * time.Millisecond}, nil
	}
	return ctrl.Result{}, err
}

func (r *Reconciler) reconcile(ctx context.Context, d *appsv1.Deployment, shift *sluice.TrafficShift) error {
	fields, errs := Translate(d.Annotations)
	_, ours := d.Annotations[sluice.AnnotationStrategy]
	switch {
	case !ours:
		r.tell(d, shift, problemsOf(d, errs))
		return r.release(ctx, d, shift)
	case shift != nil && shift.DeletionTimestamp != nil:
		return nil // its end wakes us
	case shift != nil && !mine(d, shift):
		r.tell(d, nil, []problem{ignored(d)})
		return nil
	case len(errs) > 0:
		return r.refuse(ctx, d, shift, problemsOf(d, errs))
	case shift == nil || !settled(d, shift, fields):
		return r.apply(ctx, d, shift, fields)
	}
	return r.accept(ctx, d, shift, fields)
}

// apply force-applies the named fields, and so releases those that are named no more.
func (r *Reconciler) apply(ctx context.Context, d *appsv1.Deployment, shift *sluice.TrafficShift, fields Fields) error {
	key := client.ObjectKeyFromObject(d)
	opts := []client.ApplyOption{client.FieldOwner(FieldManager)}
	if shift != nil {
		opts = append(opts, client.ForceOwnership)
	} else {
		// Server-side apply cannot say "only if there is none": a stale cache must not make us merge into somebody else's, and
		// one that appears at this very moment is met without force.
		live, err := get(ctx, r.Live, key)
		if err != nil {
			return err
		}
		if live != nil {
			return apierrors.NewConflict(sluice.GroupVersion.WithResource("trafficshifts").GroupResource(), d.Name, fmt.Errorf("the cache has yet to show it"))
		}
	}
	want := Desired(d, shift, fields)
	err := r.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(want), opts...)
	if apierrors.IsInvalid(err) {
		return r.refuse(ctx, d, shift, refused(d, err))
	}
	if err != nil {
		return fmt.Errorf("cannot apply TrafficShift %s: %w", key, err)
	}
	applied := &sluice.TrafficShift{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(want.Object, applied); err != nil {
		return fmt.Errorf("cannot read back TrafficShift %s: %w", key, err)
	}
	return r.accept(ctx, d, applied, fields)
}

// accept is where an accepted set of annotations ends: nothing is wrong any more, and replicas follow the template's wish.
func (r *Reconciler) accept(ctx context.Context, d *appsv1.Deployment, shift *sluice.TrafficShift, fields Fields) error {
	r.tell(d, shift, nil)
	return r.patch(ctx, shift, func(s *sluice.TrafficShift) {
		delete(s.Annotations, sluice.AnnotationInvalid)
		follow(d, s, fields)
	})
}

// refuse leaves the last accepted spec as it is and says what is wrong. Where there is no TrafficShift yet, none is made.
func (r *Reconciler) refuse(ctx context.Context, d *appsv1.Deployment, shift *sluice.TrafficShift, problems []problem) error {
	r.tell(d, shift, problems)
	if shift == nil || !metav1.IsControlledBy(shift, d) {
		return nil
	}
	return r.patch(ctx, shift, func(s *sluice.TrafficShift) {
		metav1.SetMetaDataAnnotation(&s.ObjectMeta, sluice.AnnotationInvalid, text(problems))
	})
}

// release deletes the TrafficShift of a Deployment that no longer asks for one. Its own controller hands the service back
// before it lets go.
func (r *Reconciler) release(ctx context.Context, d *appsv1.Deployment, shift *sluice.TrafficShift) error {
	if shift == nil || shift.DeletionTimestamp != nil || !metav1.IsControlledBy(shift, d) {
		return nil
	}
	err := r.Client.Delete(ctx, shift, client.Preconditions{UID: &shift.UID, ResourceVersion: &shift.ResourceVersion})
	return client.IgnoreNotFound(err)
}

// patch writes what is not applied by force: replicas, and what we note on the TrafficShift. Nothing changed, nothing written.
func (r *Reconciler) patch(ctx context.Context, shift *sluice.TrafficShift, change func(*sluice.TrafficShift)) error {
	changed := shift.DeepCopy()
	change(changed)
	if equality.Semantic.DeepEqual(shift, changed) {
		return nil
	}
	base := client.MergeFromWithOptions(shift, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Patch(ctx, changed, base, client.FieldOwner(FieldManager)); err != nil {
		return fmt.Errorf("cannot patch TrafficShift %s: %w", client.ObjectKeyFromObject(shift), err)
	}
	return nil
}

// isVersion reports whether the Deployment is one that Sluice made from another one's template.
func isVersion(d *appsv1.Deployment) bool {
	owner := metav1.GetControllerOf(d)
	return owner != nil && owner.Kind == deploymentKind.Kind && owner.APIVersion == deploymentKind.GroupVersion().String()
}

// get returns nil where there is no TrafficShift.
func get(ctx context.Context, c client.Reader, key types.NamespacedName) (*sluice.TrafficShift, error) {
	shift := &sluice.TrafficShift{}
	if err := c.Get(ctx, key, shift); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	return shift, nil
}
