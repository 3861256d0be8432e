package shim

import (
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	sluice "github.com/sluice-dev/sluice/api/v1alpha1"
)

// FieldManager owns exactly the fields that annotations name. It is not the manager of the other controllers, because a field
// is released when its annotation goes, and releasing must not take along what they wrote.
const FieldManager = "sluice-annotations"

// deploymentKind and shiftKind are the two ends of the shim.
var (
	deploymentKind = appsv1.SchemeGroupVersion.WithKind("Deployment")
	shiftKind      = sluice.GroupVersion.WithKind("TrafficShift")
)

// Desired returns what is applied over the TrafficShift that stands there (nil: none): the owner and the named fields, nothing
// else. spec.replicas is never among them (see follow), or every apply would take it back from an autoscaler.
func Desired(d *appsv1.Deployment, shift *sluice.TrafficShift, fields Fields) *unstructured.Unstructured {
	spec := maps.Clone(map[string]any(fields))
	delete(spec, "replicas")
	u := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	u.SetGroupVersionKind(shiftKind)
	u.SetNamespace(d.Namespace)
	u.SetName(d.Name)
	u.SetOwnerReferences([]metav1.OwnerReference{*metav1.NewControllerRef(d, deploymentKind)})
	if shift == nil || !extends(shift) {
		// One that somebody else maintains keeps the label of their tool, which may look itself up by it.
		u.SetLabels(map[string]string{sluice.LabelManagedBy: sluice.ManagedBy})
	}
	if shift != nil {
		u.SetResourceVersion(shift.ResourceVersion)
	}
	return u
}

// mine reports whether the TrafficShift follows the Deployment's annotations: the Deployment controls it, or its author says
// that it only adds to them and nothing else controls it.
func mine(d *appsv1.Deployment, shift *sluice.TrafficShift) bool {
	return metav1.IsControlledBy(shift, d) || extends(shift) && metav1.GetControllerOf(shift) == nil
}

func extends(shift *sluice.TrafficShift) bool {
	return shift.Annotations[sluice.AnnotationExtends] == "true"
}

// settled reports whether applying want again would change nothing: the fields we own are those that it names, and they read
// as it says.
func settled(d *appsv1.Deployment, shift *sluice.TrafficShift, fields Fields) bool {
	named := slices.DeleteFunc(fields.paths(), func(f string) bool { return f == "replicas" })
	if !metav1.IsControlledBy(shift, d) || !slices.Equal(named, appliedFields(shift, FieldManager)) {
		return false
	}
	// Both sides take the same way from Go to JSON, so that an omitted false equals a written one.
	want, err := fields.spec()
	if err != nil {
		return false
	}
	said, there := asMap(want), asMap(&shift.Spec)
	delete(said, "replicas")
	for _, path := range named {
		if !has(said, path) && has(there, path) {
			return false // said to be false, or 0
		}
	}
	return holds(there, said)
}

func has(spec map[string]any, path string) bool {
	_, found, err := unstructured.NestedFieldNoCopy(spec, strings.Split(path, ".")...)
	return found && err == nil
}

func (f Fields) spec() (*sluice.TrafficShiftSpec, error) {
	spec := &sluice.TrafficShiftSpec{}
	return spec, runtime.DefaultUnstructuredConverter.FromUnstructured(f, spec)
}

func asMap(spec *sluice.TrafficShiftSpec) map[string]any {
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(spec)
	if err != nil {
		return nil
	}
	return m
}

// appliedFields returns the fields of spec that a manager owns through server-side apply, sorted, with dots as Fields.paths has them.
func appliedFields(obj metav1.Object, manager string) []string {
	var names []string
	for _, e := range obj.GetManagedFields() {
		if e.Manager != manager || e.Operation != metav1.ManagedFieldsOperationApply || e.Subresource != "" {
			continue
		}
		names = append(names, owned(e)...)
	}
	slices.Sort(names)
	return names
}
