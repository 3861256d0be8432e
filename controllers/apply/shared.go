package apply

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Add applies a few fields of an object that somebody else owns, at live's resourceVersion and without force: one that somebody has written
// otherwise stays as it is, and is a conflict.
func (w Writer) Add(ctx context.Context, fields *unstructured.Unstructured, live client.Object) (bool, error) {
	same, err := Same(fields, live)
	if err != nil || same {
		return false, err
	}
	u := fields.DeepCopy()
	pin(u, live)
	if err := w.patch(ctx, u); err != nil {
		return false, fmt.Errorf("adding to %s %s/%s: %w", u.GetKind(), u.GetNamespace(), u.GetName(), err)
	}
	return true, nil
}

// Withdraw gives up every field that was added to an object. What nobody else claims goes, and nothing else of the object changes.
func (w Writer) Withdraw(ctx context.Context, live *unstructured.Unstructured) (bool, error) {
	if !manages(live, string(w.Manager)) {
		return false, nil
	}
	empty := &unstructured.Unstructured{}
	empty.SetGroupVersionKind(live.GroupVersionKind())
	empty.SetNamespace(live.GetNamespace())
	empty.SetName(live.GetName())
	pin(empty, live)
	if err := w.patch(ctx, empty); err != nil {
		return false, fmt.Errorf("withdrawing from %s %s/%s: %w", live.GetKind(), live.GetNamespace(), live.GetName(), err)
	}
	return true, nil
}

// pin makes fields those of this very object as it was read. Without the UID an apply would make one that is gone again.
func pin(fields *unstructured.Unstructured, live metav1.Object) {
	fields.SetUID(live.GetUID())
	fields.SetResourceVersion(live.GetResourceVersion())
}

// sameCopy reports whether live says what desired says and no more, where desired is a whole object of a kind that Sluice has no types of: it
// mirrors one of somebody else's, and what they take out of theirs has to go.
func sameCopy(desired *unstructured.Unstructured, live client.Object, manager string) bool {
	have, ok := live.(*unstructured.Unstructured)
	return ok && equality.Semantic.DeepEqual(desired.Object["spec"], have.Object["spec"]) && !outlived(desired, live, manager)
}

// outlived reports whether live has an annotation of manager's that desired does not have any more.
func outlived(desired, live client.Object, manager string) bool {
	wanted := desired.GetAnnotations()
	return slices.ContainsFunc(slices.Collect(maps.Keys(live.GetAnnotations())), func(key string) bool {
		_, ok := wanted[key]
		return !ok && slices.ContainsFunc(live.GetManagedFields(), func(e metav1.ManagedFieldsEntry) bool {
			return e.Manager == manager && e.FieldsV1 != nil && owns(e.FieldsV1.GetRawBytes(), []string{"metadata", "annotations", key})
		})
	})
}
