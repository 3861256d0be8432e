package v1alpha1

import (
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ShiftPolicy is what the shifts of many services share: settings, how many may move at the same time, and when none may start. A
// TrafficShift uses it by name, from any namespace that the policy is for.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=spolicy,categories=sluice
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Shifts",type=integer,JSONPath=`.status.shifts`
// +kubebuilder:printcolumn:name="Moving",type=integer,JSONPath=`.status.moving`
// +kubebuilder:printcolumn:name="Waiting",type=integer,JSONPath=`.status.waiting`
// +kubebuilder:printcolumn:name="Max",type=integer,JSONPath=`.spec.maxConcurrent`
// +kubebuilder:printcolumn:name="Freeze",type=string,JSONPath=`.status.freeze`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ShiftPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the shifts that use the policy share.
	// +optional
	Spec ShiftPolicySpec `json:"spec,omitempty"`
	// status is whether the policy can be followed, and who follows it.
	// +optional
	Status ShiftPolicyStatus `json:"status,omitempty"`
}

// ShiftPolicyList is a list of ShiftPolicies.
//
// +kubebuilder:object:root=true
type ShiftPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ShiftPolicy `json:"items"`
}

// ShiftPolicySpec is what the shifts that use a policy share.
type ShiftPolicySpec struct {
	// namespaces selects, by their labels, the namespaces whose shifts may use the policy. Empty is every namespace.
	// +optional
	Namespaces *metav1.LabelSelector `json:"namespaces,omitempty"`
	// defaults are the settings of shifts that do not set them themselves.
	// +optional
	Defaults ShiftDefaults `json:"defaults,omitzero"`
	// maxConcurrent is how many shifts under the policy may move at the same time, in all namespaces together. The others wait before
	// they start, the one that has waited longest first. Empty is any number.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100000
	// +optional
	MaxConcurrent *int32 `json:"maxConcurrent,omitempty"`
	// freezes are the times in which no shift under the policy starts. A candidate that must be taken back is taken back at any time.
	// +kubebuilder:validation:MaxItems=32
	// +listType=map
	// +listMapKey=name
	// +optional
	Freezes []Freeze `json:"freezes,omitempty"`
}

// Freeze is a time, again and again, in which no shift starts.
type Freeze struct {
	// name names the freeze in messages.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`
	// schedule is when the freeze begins: the five fields of cron (minute, hour, day of the month, month, day of the week), such as
	// "0 17 * * FRI". A time that the clock leaps over in spring is when it leaps; one that comes twice in autumn is the first.
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[0-9A-Za-z*/,?-]+( +[0-9A-Za-z*/,?-]+){4}$`
	Schedule string `json:"schedule"`
	// duration is how long the freeze lasts, as a stopwatch counts it; at most 8784h.
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s') && duration(self) <= duration('8784h')",message="a freeze must last more than 0s and at most 8784h (a year), such as 63h"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]{1,5}(\.[0-9]{1,9})?(ms|s|m|h))+$`
	// +kubebuilder:validation:MaxLength=32
	Duration metav1.Duration `json:"duration"`
	// timeZone is the zone that the schedule is read in, by its name in the IANA database, such as Europe/Berlin.
	// +kubebuilder:default=UTC
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[A-Za-z][A-Za-z0-9_+/-]*$`
	// +kubebuilder:validation:XValidation:rule="self != 'Local'",message="Local is no zone that two machines agree on: name one, such as Europe/Berlin"
	// +optional
	TimeZone string `json:"timeZone,omitempty"`
	// onRunning is what becomes of a shift that is under way when the freeze begins: finish lets it go on, hold keeps its weight until the
	// freeze ends.
	// +kubebuilder:default=finish
	// +optional
	OnRunning OnRunning `json:"onRunning,omitempty"`
}

// OnRunning is what becomes of a shift that is under way when a freeze begins.
//
// +kubebuilder:validation:Enum=hold;finish
type OnRunning string

// What becomes of it.
const (
	OnRunningHold   OnRunning = "hold"
	OnRunningFinish OnRunning = "finish"
)

// ShiftPolicyStatus is whether a policy can be followed, and who follows it.
type ShiftPolicyStatus struct {
	// observedGeneration is the generation of the spec that the rest of the status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// shifts is how many TrafficShifts name the policy.
	// +optional
	Shifts int32 `json:"shifts"`
	// moving is how many shifts under the policy have a candidate on its way, up or back.
	// +optional
	Moving int32 `json:"moving"`
	// waiting is how many have a new template and wait to start, for their turn or for the end of a freeze.
	// +optional
	Waiting int32 `json:"waiting"`
	// freeze names the freezes that are in force and says until when.
	// +optional
	Freeze string `json:"freeze,omitempty"`
	// conditions: Accepted, which says what of the spec cannot be followed.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// PolicyInForce is the ShiftPolicy that a shift is under, as it was when the present step began: an edit, or its end, acts at the next
// step and moves no traffic by itself.
type PolicyInForce struct {
	// name names the ShiftPolicy.
	Name string `json:"name"`
	// generation is the generation of its spec that was taken.
	// +optional
	Generation int64 `json:"generation,omitempty"`
	// fields are the settings of the shift that come from the policy.
	// +listType=atomic
	// +optional
	Fields []string `json:"fields,omitempty"`
	// candidate is the candidate that was on its way when it was taken, if any.
	// +optional
	Candidate string `json:"candidate,omitempty"`
	// weight is the candidate's weight then, in thousandths.
	// +optional
	Weight Permille `json:"weight,omitempty"`
	// settings are the policy's defaults and freezes, as they were taken.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	// +optional
	Settings *apiextensionsv1.JSON `json:"settings,omitempty"`
}
