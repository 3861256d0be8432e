package apply

import (
	"encoding/json"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// SpecFields returns the fields directly under spec that an entry of managedFields owns.
func SpecFields(e metav1.ManagedFieldsEntry) map[string]bool {
	if e.FieldsV1 == nil {
		return nil
	}
	var owned struct {
		Spec map[string]json.RawMessage `json:"f:spec"`
	}
	if err := json.Unmarshal(e.FieldsV1.GetRawBytes(), &owned); err != nil {
		return nil
	}
	names := map[string]bool{}
	for key := range owned.Spec {
		if name, ok := strings.CutPrefix(key, "f:"); ok {
			names[name] = true
		}
	}
	return names
}

// AppliedByOthers reports whether a manager other than ours owns a field of spec through server-side apply. Ours are manager, and
// manager followed by "-" and what it does.
func AppliedByOthers(o metav1.Object, manager, field string) bool {
	for _, e := range o.GetManagedFields() {
		ours := e.Manager == manager || strings.HasPrefix(e.Manager, manager+"-")
		if !ours && e.Operation == metav1.ManagedFieldsOperationApply && SpecFields(e)[field] {
			return true
		}
	}
	return false
}

// ManagerOf returns the manager that wrote a field last, of those that own it; empty where none does.
func ManagerOf(o metav1.Object, path ...string) string {
	manager, at := "", metav1.Time{}
	for _, e := range o.GetManagedFields() {
		if e.Subresource != "" || e.FieldsV1 == nil || !owns(e.FieldsV1.GetRawBytes(), path) {
			continue
		}
		if manager == "" || e.Time != nil && !e.Time.Before(&at) {
			manager = e.Manager
			if e.Time != nil {
				at = *e.Time
			}
		}
	}
	return manager
}

// OwnedAlone reports whether manager has written a field, and nobody else claims it.
func OwnedAlone(o metav1.Object, manager string, path ...string) bool {
	ours := false
	for _, e := range o.GetManagedFields() {
		if e.FieldsV1 == nil || !owns(e.FieldsV1.GetRawBytes(), path) {
			continue
		}
		if e.Manager != manager {
			return false
		}
		ours = true
	}
	return ours
}

// owns reports whether a set of fields holds the field at path.
func owns(fields []byte, path []string) bool {
	var set map[string]json.RawMessage
	if err := json.Unmarshal(fields, &set); err != nil {
		return false
	}
	inner, ok := set["f:"+path[0]]
	return ok && (len(path) == 1 || owns(inner, path[1:]))
}
