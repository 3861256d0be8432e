// Package apply is the one place where Sluice writes to the cluster. It knows objects and owners, and nothing of what they are for.
package apply

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

// ErrForeign says that an object stands in the way that somebody else made: it is not overwritten.
var ErrForeign = errors.New("is not ours")

// Writer writes whole objects by server-side apply with one field manager.
type Writer struct {
	// Client writes. Live reads past every cache, before an object is created.
	Client client.Client
	Live   client.Reader
	// Manager is the field manager.
	Manager client.FieldOwner
}

// Apply makes the cluster's object say what desired says. Live is the object that this was decided on, nil where there was none. It
// is written only where it differs, with live's resourceVersion, so that an old leader or a stale cache cannot write; and forced
// only where owner controls it. Desired is not changed. It reports whether anything was written.
//
// Errors: ErrForeign where an object of another owner stands in the way; a conflict where live is not the newest any more.
func (w Writer) Apply(ctx context.Context, owner types.UID, desired, live client.Object) (bool, error) {
	name, err := w.describe(desired)
	if err != nil {
		return false, err
	}
	if live == nil {
		err := w.create(ctx, name, owner, desired)
		return err == nil, err
	}
	if !controlledBy(live, owner) && !Disowned(live, string(w.Manager)) {
		return false, fmt.Errorf("%s %w: it has another owner, and is left as it is", name, ErrForeign)
	}
	same, err := Same(desired, live)
	if err != nil {
		return false, fmt.Errorf("%s: %w", name, err)
	}
	if same {
		if copied, ok := desired.(*unstructured.Unstructured); !ok || sameCopy(copied, live, string(w.Manager)) {
			return false, nil
		}
	}
	u, err := toUnstructured(desired)
	if err != nil {
		return false, fmt.Errorf("%s: %w", name, err)
	}
	u.SetResourceVersion(live.GetResourceVersion())
	if err := w.patch(ctx, u, client.ForceOwnership); err != nil {
		return false, fmt.Errorf("applying %s: %w", name, err)
	}
	if err := w.strip(ctx, desired, u); err != nil {
		return true, fmt.Errorf("applying %s: %w", name, err)
	}
	return true, nil
}

// strip removes from a route or an autoscaler what others have added to its spec, which is ours as a whole. Applying leaves their fields
// standing: a tls block, or an exportTo that hides the object from its clients. Applied is what the server made of the apply. It is a
// patch, because Sluice is not allowed to update.
func (w Writer) strip(ctx context.Context, desired client.Object, applied *unstructured.Unstructured) error {
	_, copied := desired.(*unstructured.Unstructured)
	if _, known := sameSpec(desired, desired); !known && !copied {
		return nil
	}
	want, err := toUnstructured(desired)
	if err != nil || within(applied.Object["spec"], want.Object["spec"]) {
		return err
	}
	return w.patchJSON(ctx, applied, []operation{{"replace", "/spec", want.Object["spec"]}})
}

// create applies an object that is not there yet. The cluster is asked past the cache first; an object that appears in between is
// met without force, and so not overwritten.
func (w Writer) create(ctx context.Context, name string, owner types.UID, desired client.Object) error {
	u, err := toUnstructured(desired)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	found := &metav1.PartialObjectMetadata{}
	found.SetGroupVersionKind(u.GroupVersionKind())
	err = w.Live.Get(ctx, client.ObjectKeyFromObject(desired), found)
	switch {
	case err == nil && !controlledBy(found, owner) && !Disowned(found, string(w.Manager)):
		return fmt.Errorf("%s %w: it has another owner, and is left as it is", name, ErrForeign)
	case err == nil:
		return apierrors.NewConflict(
			schema.GroupResource{Group: u.GroupVersionKind().Group, Resource: u.GetKind()}, u.GetName(),
			errors.New("it exists, and the cache does not show it yet"))
	case !apierrors.IsNotFound(err):
		return fmt.Errorf("reading %s: %w", name, err)
	}
	if err := w.patch(ctx, u); err != nil {
		return fmt.Errorf("creating %s: %w", name, err)
	}
	return nil
}

// Hold applies a few fields of an object that somebody else owns, by force: the design's one exception, the annotated Deployment.
// The fields carry live's resourceVersion.
func (w Writer) Hold(ctx context.Context, fields *unstructured.Unstructured, live client.Object) (bool, error) {
	same, err := Same(fields, live)
	if err != nil || same {
		return false, err
	}
	u := fields.DeepCopy()
	u.SetResourceVersion(live.GetResourceVersion())
	if err := w.patch(ctx, u, client.ForceOwnership); err != nil {
		return false, fmt.Errorf("holding %s %s/%s: %w", u.GetKind(), u.GetNamespace(), u.GetName(), err)
	}
	return true, nil
}

// PutBack writes spec.template of an object that somebody else owns, as it is, where live has another. It keeps no field of it: the owner's
// next apply meets no conflict. A live object that was changed since is one.
func (w Writer) PutBack(ctx context.Context, fields *unstructured.Unstructured, live client.Object) (bool, error) {
	was, err := toUnstructured(live)
	if err != nil {
		return false, err
	}
	was.SetGroupVersionKind(fields.GroupVersionKind()) // known from the types; a typed object leaves it out
	want := was.DeepCopy()
	template, _, err := unstructured.NestedMap(fields.Object, "spec", "template")
	if err == nil {
		err = unstructured.SetNestedMap(want.Object, template, "spec", "template")
	}
	if err != nil || reflect.DeepEqual(was.Object, want.Object) {
		return false, err
	}
	patch := client.MergeFromWithOptions(was, client.MergeFromWithOptimisticLock{})
	manager := w.Manager + "-undo"
	if err := w.Client.Patch(ctx, want, patch, manager); err != nil {
		return false, fmt.Errorf("putting the template of %s %s/%s back: %w", fields.GetKind(), fields.GetNamespace(), fields.GetName(), err)
	}
	_, err = w.forget(ctx, want, string(manager))
	return true, err
}

// HandOver gives up every field of ours on an object and leaves the values of fields standing. A field whose last applier lets go
// of it falls back to its default, which for spec.replicas is 1; so another manager takes the values first.
func (w Writer) HandOver(ctx context.Context, fields *unstructured.Unstructured, live client.Object) (bool, error) {
	if !manages(live, string(w.Manager)) {
		return false, nil
	}
	kept := fields.DeepCopy()
	kept.SetResourceVersion("")
	if err := w.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(kept), w.Manager+"-handed-over"); err != nil {
		return false, fmt.Errorf("handing over %s %s/%s: %w", kept.GetKind(), kept.GetNamespace(), kept.GetName(), err)
	}
	empty := &unstructured.Unstructured{}
	empty.SetGroupVersionKind(kept.GroupVersionKind())
	empty.SetNamespace(kept.GetNamespace())
	empty.SetName(kept.GetName())
	if err := w.patch(ctx, empty); err != nil {
		return false, fmt.Errorf("handing over %s %s/%s: %w", kept.GetKind(), kept.GetNamespace(), kept.GetName(), err)
	}
	return true, nil
}

// Disown applies an object of ours without an owner or a mark, so that it outlives Sluice. One that is not ours, or not there, is
// left alone.
func (w Writer) Disown(ctx context.Context, owner types.UID, desired, live client.Object) (bool, error) {
	if live == nil || !controlledBy(live, owner) {
		return false, nil
	}
	u, err := toUnstructured(desired)
	if err != nil {
		return false, err
	}
	u.SetResourceVersion(live.GetResourceVersion())
	if err := w.patch(ctx, u, client.ForceOwnership); err != nil {
		return false, fmt.Errorf("disowning %s %s/%s: %w", u.GetKind(), u.GetNamespace(), u.GetName(), err)
	}
	return true, nil
}

// Delete removes an object that owner controls, at the resourceVersion that this was decided on. One that is gone, or not ours, is
// left alone.
func (w Writer) Delete(ctx context.Context, owner types.UID, live client.Object) (bool, error) {
	if live == nil || !controlledBy(live, owner) || !live.GetDeletionTimestamp().IsZero() {
		return false, nil
	}
	uid, version := live.GetUID(), live.GetResourceVersion()
	err := w.Client.Delete(ctx, live,
		client.Preconditions{UID: &uid, ResourceVersion: &version}, client.PropagationPolicy(metav1.DeletePropagationBackground))
	if client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("deleting %s/%s: %w", live.GetNamespace(), live.GetName(), err)
	}
	return true, nil
}

func (w Writer) patch(ctx context.Context, u *unstructured.Unstructured, opts ...client.ApplyOption) error {
	return w.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), append(opts, w.Manager)...)
}

func (w Writer) describe(o client.Object) (string, error) {
	gvk, err := apiutil.GVKForObject(o, w.Client.Scheme())
	if err != nil {
		return "", fmt.Errorf("%T: %w", o, err)
	}
	return fmt.Sprintf("%s %s/%s", gvk.Kind, o.GetNamespace(), o.GetName()), nil
}

// Disowned reports whether an object is what manager left behind when it let go: it applied it, and nobody owns it. Whoever comes
// next may take it over.
func Disowned(o metav1.Object, manager string) bool {
	return metav1.GetControllerOfNoCopy(o) == nil && manages(o, manager)
}

// controlledBy reports whether owner is the object's controller.
func controlledBy(o metav1.Object, owner types.UID) bool {
	ref := metav1.GetControllerOfNoCopy(o)
	return ref != nil && ref.UID == owner
}

// manages reports whether manager has applied any field of the object.
func manages(o metav1.Object, manager string) bool {
	for _, f := range o.GetManagedFields() {
		if f.Manager == manager && f.Operation == metav1.ManagedFieldsOperationApply {
			return true
		}
	}
	return false
}
