package shim

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// set puts a value where a path with dots says; several annotations may name parts of one field.
func (f Fields) set(path string, value any) {
	if value == nil {
		return
	}
	in, keys := map[string]any(f), strings.Split(path, ".")
	for _, key := range keys[:len(keys)-1] {
		next, ok := in[key].(map[string]any)
		if !ok {
			next = map[string]any{}
			in[key] = next
		}
		in = next
	}
	in[keys[len(keys)-1]] = value
}

// at reads what set has put; nil where there is nothing.
func (f Fields) at(path string) any {
	var at any = map[string]any(f)
	for key := range strings.SplitSeq(path, ".") {
		m, ok := at.(map[string]any)
		if !ok {
			return nil
		}
		at = m[key]
	}
	return at
}

// paths are the fields that are named, sorted: the innermost ones, which is how managedFields has them. A list is one field.
func (f Fields) paths() []string {
	var paths []string
	for name, value := range f {
		paths = append(paths, leaves(name, value)...)
	}
	slices.Sort(paths)
	return paths
}

func leaves(path string, value any) []string {
	m, ok := value.(map[string]any)
	if !ok || len(m) == 0 {
		return []string{path}
	}
	var all []string
	for key, v := range m {
		all = append(all, leaves(path+"."+key, v)...)
	}
	return all
}

// owned are the fields of spec that an entry of managedFields has, with dots as Fields.paths has them.
func owned(e metav1.ManagedFieldsEntry) []string {
	if e.FieldsV1 == nil {
		return nil
	}
	var set struct {
		Spec map[string]any `json:"f:spec"`
	}
	if err := json.Unmarshal(e.FieldsV1.GetRawBytes(), &set); err != nil {
		return nil
	}
	var all []string
	for _, key := range slices.Sorted(maps.Keys(set.Spec)) {
		if name, ok := strings.CutPrefix(key, "f:"); ok {
			all = append(all, ownedLeaves(name, set.Spec[key])...)
		}
	}
	return all
}

func ownedLeaves(path string, value any) []string {
	m, _ := value.(map[string]any)
	var all []string
	for key, v := range m {
		if name, ok := strings.CutPrefix(key, "f:"); ok {
			all = append(all, ownedLeaves(path+"."+name, v)...)
		}
	}
	if all == nil {
		return []string{path}
	}
	return all
}

// holds reports whether a live value has all that another one says, whatever else there is: what the API server fills in, and what
// others write beside it.
func holds(live, want any) bool {
	switch want := want.(type) {
	case nil:
		return true
	case map[string]any:
		have, ok := live.(map[string]any)
		for key, value := range want {
			ok = ok && holds(have[key], value)
		}
		return ok
	case []any:
		have, ok := live.([]any)
		return ok && holdsList(have, want)
	}
	return reflect.DeepEqual(live, want)
}

// holdsList finds items by name where they have one, and texts anywhere, as the API server merges them; other lists are whole.
func holdsList(live, want []any) bool {
	if !slices.ContainsFunc(want, func(item any) bool { return nameOf(item) == "" }) {
		return !slices.ContainsFunc(want, func(item any) bool {
			return !slices.ContainsFunc(live, func(have any) bool { return nameOf(have) == nameOf(item) && holds(have, item) })
		})
	}
	return slices.EqualFunc(live, want, holds)
}

// nameOf is what tells an item of a list from the others.
func nameOf(item any) string {
	switch item := item.(type) {
	case string:
		return item
	case map[string]any:
		name, _ := item["name"].(string)
		return name
	}
	return ""
}
