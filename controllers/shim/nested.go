package shim

import (
	"encoding/json"
	"maps"
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

// paths are the fields that are named, sorted: by their own name, or, of a field that annotations name parts of, each part.
func (f Fields) paths() []string {
	var paths []string
	for name, value := range f {
		if nested(name) {
			paths = append(paths, leaves(name, value)...)
			continue
		}
		paths = append(paths, name)
	}
	slices.Sort(paths)
	return paths
}

// nested reports whether annotations name parts of a field.
func nested(name string) bool {
	return slices.ContainsFunc(table, func(e entry) bool { return strings.HasPrefix(e.field, name+".") })
}

func leaves(path string, value any) []string {
	m, ok := value.(map[string]any)
	if !ok {
		return []string{path}
	}
	var all []string
	for key, v := range m {
		all = append(all, leaves(path+"."+key, v)...)
	}
	return all
}

// valueAt reads what set has put.
func valueAt(in map[string]any, path string) any {
	var at any = in
	for key := range strings.SplitSeq(path, ".") {
		m, ok := at.(map[string]any)
		if !ok {
			return nil
		}
		at = m[key]
	}
	return at
}

// nestedIn are the parts of such fields that an entry of managedFields owns.
func nestedIn(e metav1.ManagedFieldsEntry) []string {
	if e.FieldsV1 == nil {
		return nil
	}
	var owned struct {
		Spec map[string]any `json:"f:spec"`
	}
	if err := json.Unmarshal(e.FieldsV1.GetRawBytes(), &owned); err != nil {
		return nil
	}
	var all []string
	for _, key := range slices.Sorted(maps.Keys(owned.Spec)) {
		if name, ok := strings.CutPrefix(key, "f:"); ok && nested(name) {
			all = append(all, ownedLeaves(name, owned.Spec[key])...)
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
