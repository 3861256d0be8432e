package plan

import (
	"maps"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// ScaledObjectKind is what KEDA scales by. Sluice knows what it needs of it, and not its types: whatever a newer KEDA adds is carried over.
var ScaledObjectKind = schema.GroupVersionKind{Group: "keda.sh", Version: "v1alpha1", Kind: "ScaledObject"}

// KEDA's own keys on a ScaledObject.
const (
	// KEDAPrefix is what those start with that tell KEDA how to scale.
	KEDAPrefix = "autoscaling.keda.sh/"
	// KEDAPaused ("true") has KEDA delete its HorizontalPodAutoscaler and leave the target as it stands.
	KEDAPaused = KEDAPrefix + "paused"
	// KEDAPausedReplicas ("3") has it scale the target to that first.
	KEDAPausedReplicas = KEDAPrefix + "paused-replicas"
	// paused is the word of Sluice's own. KEDA reads any boolean; everybody else writes "true", which thereby is a change of the object that
	// shows whose pause it is by then.
	paused = "True"
	// kedaExcludedLabels are not to be copied to the HorizontalPodAutoscaler that KEDA makes: they say that Sluice has made it.
	kedaExcludedLabels = "scaledobject.keda.sh/hpa-excluded-labels"
)

// Scaled is what is known of the ScaledObjects of a service.
type Scaled struct {
	// Object is the user's own of the Deployment that one of ours follows, without what Sluice has written into it; nil where none is.
	// Following is whether ours is there.
	Object    *unstructured.Unstructured
	Following bool
	// Pausable is whether Sluice is to pause it: not where its owner has said what is to be.
	Pausable bool
	// Paused are the user's that Sluice has paused; Strays are those of them that it has no more business with.
	Paused, Strays []*unstructured.Unstructured
}

// pause keeps KEDA from waking the Deployment before that is scaled to 0.
func (s Scope) pause(d shift.Desired) []Step {
	if !d.Still || s.Scaled.Object == nil || !s.Scaled.Pausable {
		return nil
	}
	fields := s.fieldsOf(s.Scaled.Object)
	fields.SetAnnotations(map[string]string{KEDAPaused: paused, v1alpha1.AnnotationPausedFor: s.Template.Name})
	return []Step{{Add, fields}}
}

// scaledObject keeps the one that scales the TrafficShift in step with the user's, and has KEDA scale what is handed back.
func (s Scope) scaledObject(d shift.Desired) []Step {
	var steps []Step
	switch {
	case d.Autoscaler && s.Scaled.Object != nil:
		steps = append(steps, Step{Apply, s.MakeScaledObject()})
	case s.Scaled.Following:
		steps = append(steps, Step{Delete, s.ourScaledObject()})
	}
	waking := s.Scaled.Strays
	if !d.Still {
		waking = s.Scaled.Paused
	}
	for _, o := range waking {
		steps = append(steps, Step{Withdraw, s.fieldsOf(o)})
	}
	return steps
}

// MakeScaledObject makes what follows the user's: the same settings, and the same pauses, for the TrafficShift. It leaves out what is of
// one object alone: the name of its HorizontalPodAutoscaler, the container of the Deployment that it reads, and that KEDA puts replicas
// back when it goes, which for ours would be in the middle of handing back.
func (s Scope) MakeScaledObject() *unstructured.Unstructured {
	annotations := maps.Clone(s.Scaled.Object.GetAnnotations())
	maps.DeleteFunc(annotations, func(key, _ string) bool { return !strings.HasPrefix(key, KEDAPrefix) })
	o := s.ourScaledObject()
	o.SetAnnotations(merge(annotations, map[string]string{kedaExcludedLabels: v1alpha1.LabelManagedBy + "," + v1alpha1.LabelShift}))

	spec, _, _ := unstructured.NestedMap(s.Scaled.Object.Object, "spec") // a copy; one that is no map makes an empty one, which KEDA refuses
	if spec == nil {
		spec = map[string]any{}
	}
	spec["scaleTargetRef"] = map[string]any{"apiVersion": v1alpha1.GroupVersion.String(), "kind": "TrafficShift", "name": s.Template.Name}
	if advanced, ok := spec["advanced"].(map[string]any); ok {
		delete(advanced, "restoreToOriginalReplicaCount")
		if config, ok := advanced["horizontalPodAutoscalerConfig"].(map[string]any); ok {
			delete(config, "name")
		}
	}
	o.Object["spec"] = spec
	return o
}

// ourScaledObject is ours without its settings.
func (s Scope) ourScaledObject() *unstructured.Unstructured {
	meta, o := s.meta(AutoscalerName(s.Template.Name)), &unstructured.Unstructured{Object: map[string]any{}}
	o.SetGroupVersionKind(ScaledObjectKind)
	o.SetNamespace(meta.Namespace)
	o.SetName(meta.Name)
	o.SetLabels(meta.Labels)
	o.SetOwnerReferences(meta.OwnerReferences)
	return o
}

// fieldsOf begins a set of fields of an object of the user's.
func (s Scope) fieldsOf(o metav1.Object) *unstructured.Unstructured {
	fields := &unstructured.Unstructured{Object: map[string]any{}}
	fields.SetGroupVersionKind(ScaledObjectKind)
	fields.SetNamespace(s.Template.Namespace)
	fields.SetName(o.GetName())
	return fields
}
