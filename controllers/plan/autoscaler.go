package plan

import (
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
)

var autoscalerType = metav1.TypeMeta{APIVersion: "autoscaling/v2", Kind: "HorizontalPodAutoscaler"}

// AutoscalerName is the name of the autoscaler, of either kind, that follows the user's. The user's own often has the name of the Deployment.
func AutoscalerName(shift string) string { return shift + "-sluice" }

// autoscaler keeps the one that scales the TrafficShift in step with the one that targets the Deployment, and removes it with that.
func (s Scope) autoscaler(d shift.Desired) []Step {
	if d.Autoscaler && s.Autoscaler != nil {
		return []Step{{Apply, s.MakeAutoscaler()}}
	}
	if !s.Following {
		return nil
	}
	return []Step{{Delete, &autoscalingv2.HorizontalPodAutoscaler{TypeMeta: autoscalerType, ObjectMeta: s.meta(AutoscalerName(s.Template.Name))}}}
}

// MakeAutoscaler makes what follows the user's autoscaler: the same settings, for the TrafficShift.
func (s Scope) MakeAutoscaler() *autoscalingv2.HorizontalPodAutoscaler {
	hpa := &autoscalingv2.HorizontalPodAutoscaler{TypeMeta: autoscalerType, ObjectMeta: s.meta(AutoscalerName(s.Template.Name))}
	s.Autoscaler.Spec.DeepCopyInto(&hpa.Spec)
	hpa.Spec.ScaleTargetRef = autoscalingv2.CrossVersionObjectReference{
		APIVersion: v1alpha1.GroupVersion.String(), Kind: "TrafficShift", Name: s.Template.Name,
	}
	return hpa
}
