package apply_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/controllers/apply"
)

func annotated(live *unstructured.Unstructured, annotations map[string]string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	u.SetGroupVersionKind(live.GroupVersionKind())
	u.SetNamespace(live.GetNamespace())
	u.SetName(live.GetName())
	u.SetAnnotations(annotations)
	return u
}

func withoutVersion(u *unstructured.Unstructured) *unstructured.Unstructured {
	u = u.DeepCopy()
	u.SetResourceVersion("")
	return u
}

func TestWhatIsAddedIsWithdrawnWithoutATrace(t *testing.T) {
	f := setUp(t)
	was := f.theirs()
	ours := annotated(was, map[string]string{"sluice.dev/x": "1"})
	if wrote, err := f.Add(t.Context(), ours, was); err != nil || !wrote {
		t.Fatalf("wrote %v: %v", wrote, err)
	}
	now := f.reread(was)
	want := map[string]string{"a.b/c": "1", "gone": "1", "sluice.dev/x": "1"}
	if diff := cmp.Diff(want, now.GetAnnotations()); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	path := func(key string) []string { return []string{"metadata", "annotations", key} }
	if !apply.OwnedAlone(now, "sluice", path("sluice.dev/x")...) || apply.OwnedAlone(now, "sluice", path("a.b/c")...) || apply.OwnedAlone(now, "sluice", path("none")...) {
		t.Errorf("whose fields are whose: %v", now.GetManagedFields())
	}
	if wrote, err := f.Add(t.Context(), ours, now); err != nil || wrote {
		t.Errorf("the same again: wrote %v: %v", wrote, err)
	}
	if wrote, err := f.Withdraw(t.Context(), now); err != nil || !wrote {
		t.Fatalf("wrote %v: %v", wrote, err)
	}
	last := f.reread(was)
	if diff := cmp.Diff(withoutVersion(was), withoutVersion(last)); diff != "" {
		t.Errorf("withdrawn (-before +after):\n%s", diff)
	}
	if wrote, err := f.Withdraw(t.Context(), last); err != nil || wrote {
		t.Errorf("nothing to withdraw: wrote %v: %v", wrote, err)
	}
}

// What somebody else says of a field stands, and what somebody else claims as well stays.
func TestAddTakesNothingFromAnybody(t *testing.T) {
	f := setUp(t)
	was := f.theirs()
	if wrote, err := f.Add(t.Context(), annotated(was, map[string]string{"a.b/c": "2"}), was); !apierrors.IsConflict(err) || wrote {
		t.Errorf("wrote %v: %v; want a conflict", wrote, err)
	}
	if wrote, err := f.Add(t.Context(), annotated(was, map[string]string{"a.b/c": "1", "new": "1"}), was); err != nil || !wrote {
		t.Fatalf("wrote %v: %v", wrote, err)
	}
	now := f.reread(was)
	if apply.OwnedAlone(now, "sluice", "metadata", "annotations", "a.b/c") {
		t.Error("a field of two managers is said to be one's")
	}
	if _, err := f.Withdraw(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(withoutVersion(was), withoutVersion(f.reread(was))); diff != "" {
		t.Errorf("withdrawn (-before +after):\n%s", diff)
	}
}

func TestWhatIsGoneIsNotMadeAgain(t *testing.T) {
	f := setUp(t)
	was := f.theirs()
	ours := annotated(was, map[string]string{"new": "1"})
	if _, err := f.Add(t.Context(), ours, was); err != nil {
		t.Fatal(err)
	}
	live := f.reread(was)
	if err := f.Client.Delete(t.Context(), live.DeepCopy()); err != nil {
		t.Fatal(err)
	}
	if wrote, err := f.Add(t.Context(), annotated(was, map[string]string{"new": "2"}), live); err == nil || wrote {
		t.Errorf("adding: wrote %v: %v; want an error", wrote, err)
	}
	if wrote, err := f.Withdraw(t.Context(), live); err == nil || wrote {
		t.Errorf("withdrawing: wrote %v: %v; want an error", wrote, err)
	}
	if err := f.Get(t.Context(), client.ObjectKeyFromObject(was), live); !apierrors.IsNotFound(err) {
		t.Errorf("it is there: %v", err)
	}
}
