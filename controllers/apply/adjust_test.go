package apply_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/controllers/apply"
)

// theirs is an object of somebody else's, with a key that needs escaping in a path.
func (f *fixture) theirs() *unstructured.Unstructured {
	f.Helper()
	u := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": "theirs", "namespace": f.ns, "annotations": map[string]any{"a.b/c": "1", "gone": "1"}},
		"data":     map[string]any{"mine": "1", "yours": "1"},
	}}
	if err := f.Create(f.Context(), u, client.FieldOwner("kubectl")); err != nil {
		f.Fatal(err)
	}
	return f.reread(u)
}

func (f *fixture) reread(u *unstructured.Unstructured) *unstructured.Unstructured {
	f.Helper()
	live := &unstructured.Unstructured{}
	live.SetGroupVersionKind(u.GroupVersionKind())
	if err := f.Get(f.Context(), client.ObjectKeyFromObject(u), live); err != nil {
		f.Fatal(err)
	}
	return live
}

func TestAdjustSendsWhatDiffersAndForgetLeavesNoTrace(t *testing.T) {
	f := setUp(t)
	live := f.theirs()
	want := live.DeepCopy()
	want.SetAnnotations(map[string]string{"a.b/c": "2"})
	data := map[string]any{"mine": "2", "yours": "1", "new": "1"}
	want.Object["data"] = data
	if wrote, err := f.Adjust(t.Context(), want, live); err != nil || !wrote {
		t.Fatalf("wrote %v: %v", wrote, err)
	}
	now := f.reread(live)
	if diff := cmp.Diff(data, now.Object["data"]); diff != "" || !cmp.Equal(now.GetAnnotations(), want.GetAnnotations()) {
		t.Errorf("annotations %v, data (-want +got):\n%s", now.GetAnnotations(), diff)
	}
	if !apply.Managed(now, "sluice") {
		t.Error("it does not say who wrote")
	}
	if wrote, err := f.Adjust(t.Context(), now.DeepCopy(), now); err != nil || wrote {
		t.Errorf("no difference: wrote %v: %v", wrote, err)
	}
	if wrote, err := f.Forget(t.Context(), now); err != nil || !wrote {
		t.Fatalf("wrote %v: %v", wrote, err)
	}
	last := f.reread(live)
	if apply.Managed(last, "sluice") || !apply.Managed(last, "kubectl") || !cmp.Equal(last.Object["data"], now.Object["data"]) {
		t.Errorf("after letting go: %v", last.Object)
	}
	if wrote, err := f.Forget(t.Context(), last); err != nil || wrote {
		t.Errorf("nothing to forget: wrote %v: %v", wrote, err)
	}
}

// What somebody else has written since is never written over.
func TestAdjustDoesNotWriteOnAStaleRead(t *testing.T) {
	f := setUp(t)
	stale := f.theirs()
	if err := f.Patch(t.Context(), stale.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(`{"data": {"yours": "2"}}`)), client.FieldOwner("kubectl")); err != nil {
		t.Fatal(err)
	}
	want := stale.DeepCopy()
	want.Object["data"] = map[string]any{"mine": "2", "yours": "1"}
	if wrote, err := f.Adjust(t.Context(), want, stale); !apierrors.IsConflict(err) || wrote {
		t.Errorf("wrote %v: %v; want a conflict", wrote, err)
	}
	if got := f.reread(stale).Object["data"]; !cmp.Equal(got, map[string]any{"mine": "1", "yours": "2"}) {
		t.Errorf("data is %v", got)
	}
}
