package apply

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// operation is one of a JSON patch (RFC 6902).
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// Adjust changes an object that somebody else owns into desired, which differs from live in little: each value that differs is tested
// to be what was read and replaced, at live's resourceVersion, and nothing else is sent. What neither side knows of stays.
func (w Writer) Adjust(ctx context.Context, desired, live *unstructured.Unstructured) (bool, error) {
	changes := differences("", live.Object, desired.Object)
	if len(changes) == 0 {
		return false, nil
	}
	if err := w.patchJSON(ctx, live, changes); err != nil {
		return false, fmt.Errorf("adjusting %s %s/%s: %w", live.GetKind(), live.GetNamespace(), live.GetName(), err)
	}
	return true, nil
}

// Forget takes our field manager's entries off an object that somebody else owns; the object itself does not change.
func (w Writer) Forget(ctx context.Context, live *unstructured.Unstructured) (bool, error) {
	return w.forget(ctx, live, string(w.Manager))
}

func (w Writer) forget(ctx context.Context, live *unstructured.Unstructured, manager string) (bool, error) {
	entries, _, _ := unstructured.NestedSlice(live.Object, "metadata", "managedFields")
	kept := slices.DeleteFunc(slices.Clone(entries), func(e any) bool {
		entry, _ := e.(map[string]any)
		return entry["manager"] == manager
	})
	if len(kept) == len(entries) {
		return false, nil
	}
	if len(kept) == 0 {
		kept = []any{map[string]any{}} // what resets the list; an empty one would be taken for one that was not sent
	}
	if err := w.patchJSON(ctx, live, []operation{{"replace", "/metadata/managedFields", kept}}); err != nil {
		return false, fmt.Errorf("letting %s %s/%s go: %w", live.GetKind(), live.GetNamespace(), live.GetName(), err)
	}
	return true, nil
}

// patchJSON sends a JSON patch. That it sets the resourceVersion is what makes the server answer a conflict where the object has
// moved on, and not try again on what nobody has read.
func (w Writer) patchJSON(ctx context.Context, live *unstructured.Unstructured, changes []operation) error {
	all := append([]operation{{"replace", "/metadata/resourceVersion", live.GetResourceVersion()}}, changes...)
	raw, err := json.Marshal(all)
	if err != nil {
		return err
	}
	target := &unstructured.Unstructured{}
	target.SetGroupVersionKind(live.GroupVersionKind())
	target.SetNamespace(live.GetNamespace())
	target.SetName(live.GetName())
	return w.Client.Patch(ctx, target, client.RawPatch(types.JSONPatchType, raw), w.Manager)
}

// differences are the operations that make have into want: as deep as the two are alike, and lists of other lengths as a whole.
func differences(path string, have, want any) []operation {
	if h, w, ok := both[map[string]any](have, want); ok {
		var all []operation
		for _, key := range slices.Sorted(maps.Keys(union(h, w))) {
			at := path + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
			hv, had := h[key]
			wv, wants := w[key]
			switch {
			case had && wants:
				all = append(all, differences(at, hv, wv)...)
			case had:
				all = append(all, operation{"test", at, hv}, operation{Op: "remove", Path: at})
			default:
				all = append(all, operation{"add", at, wv})
			}
		}
		return all
	}
	if h, w, ok := both[[]any](have, want); ok && len(h) == len(w) {
		var all []operation
		for i := range h {
			all = append(all, differences(fmt.Sprintf("%s/%d", path, i), h[i], w[i])...)
		}
		return all
	}
	if reflect.DeepEqual(have, want) {
		return nil
	}
	return []operation{{"test", path, have}, {"replace", path, want}}
}

func both[T any](a, b any) (T, T, bool) {
	x, ok1 := a.(T)
	y, ok2 := b.(T)
	return x, y, ok1 && ok2
}

func union(a, b map[string]any) map[string]any {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]any{}
	}
	maps.Copy(all, b)
	return all
}

// Managed reports whether manager has an entry among an object's managed fields.
func Managed(o metav1.Object, manager string) bool {
	return slices.ContainsFunc(o.GetManagedFields(), func(f metav1.ManagedFieldsEntry) bool { return f.Manager == manager })
}
