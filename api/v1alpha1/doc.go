// Package v1alpha1 is the API group sluice.dev: the TrafficShift, the ShiftPolicy that many of them share, the annotations that stand
// for a TrafficShift, and every reason that Sluice gives in conditions, events and metrics.
//
// +kubebuilder:object:generate=true
// +groupName=sluice.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the group and version of every type in this package.
var GroupVersion = schema.GroupVersion{Group: "sluice.dev", Version: "v1alpha1"}

// AddToScheme registers the types of this package.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &TrafficShift{}, &TrafficShiftList{}, &ShiftPolicy{}, &ShiftPolicyList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
