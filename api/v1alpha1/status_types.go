package v1alpha1

import (
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Phase is where a TrafficShift stands in its life.
//
// +kubebuilder:validation:Enum=Adopting;Stable;Progressing;RollingBack;Failed;Detaching
type Phase string

// The phases.
const (
	// PhaseAdopting: the service is being taken over from its Deployment; its traffic does not change.
	PhaseAdopting Phase = "Adopting"
	// PhaseStable: one version carries all the traffic.
	PhaseStable Phase = "Stable"
	// PhaseProgressing: a candidate is being prepared, stepped up, baked or promoted.
	PhaseProgressing Phase = "Progressing"
	// PhaseRollingBack: a candidate is on its way back to weight 0.
	PhaseRollingBack Phase = "RollingBack"
	// PhaseFailed: the last candidate was rejected; the stable version carries all the traffic.
	PhaseFailed Phase = "Failed"
	// PhaseDetaching: the service is being handed back to its Deployment.
	PhaseDetaching Phase = "Detaching"
)

// TrafficShiftStatus is where the shift stands and why.
type TrafficShiftStatus struct {
	// observedGeneration is the generation of the spec that the rest of the status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// observedTemplateGeneration is the Deployment's metadata.generation that the rest of the status speaks of: Ready of an earlier one says
	// nothing of the release that has just been asked for.
	// +optional
	ObservedTemplateGeneration int64 `json:"observedTemplateGeneration,omitempty"`
	// phase is where the shift stands in its life.
	// +optional
	Phase Phase `json:"phase,omitempty"`
	// step is the rung that the candidate is on, such as "2/4", or "3/4 match" where requests that match go to it as well, or "auto" where
	// evidence sets the pace; empty at rest.
	// +optional
	Step string `json:"step,omitempty"`
	// weight is the share of the traffic that the candidate is meant to get.
	// +optional
	Weight string `json:"weight,omitempty"`
	// observedWeight is the share that Prometheus saw it get: more than the weight where requests that match go to it as well.
	// +optional
	ObservedWeight string `json:"observedWeight,omitempty"`
	// stable is the version that users are on.
	// +optional
	Stable string `json:"stable,omitempty"`
	// candidate is the version that is being introduced.
	// +optional
	Candidate string `json:"candidate,omitempty"`
	// rejected is the version that was refused last; its template is not tried again until somebody has gone back to the stable version's, or
	// someone retries.
	// +optional
	Rejected string `json:"rejected,omitempty"`
	// message says in one sentence why the shift is where it is.
	// +optional
	Message string `json:"message,omitempty"`
	// until is when what message waits for is over by itself: a hold, a bake, a freeze, the pause of a step. Of a candidate that waits for
	// its pods it is when it is given up.
	// +optional
	Until *metav1.Time `json:"until,omitempty"`
	// gates are what was asked about the candidate at the last look, each with its answer.
	// +listType=atomic
	// +optional
	Gates []GateStatus `json:"gates,omitempty"`
	// refusedWrite is what the API server has not taken of what was decided; it goes away when the write works.
	// +optional
	RefusedWrite *RefusedWrite `json:"refusedWrite,omitempty"`
	// replicas is the number of pods of the versions that carry weight, for the scale subresource.
	// +optional
	Replicas int32 `json:"replicas"`
	// selector selects the pods of the versions that carry weight, for the scale subresource.
	// +optional
	Selector string `json:"selector,omitempty"`
	// conditions: Accepted, RouteVerified, EvidenceAvailable, Progressing, Ready, and Reconciling or Stalled while true.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// previews are the addresses of the versions, where previews are asked for, as they were read back.
	// +listType=map
	// +listMapKey=version
	// +optional
	Previews []PreviewAddress `json:"previews,omitempty"`
	// policy is the ShiftPolicy that the shift is under.
	// +optional
	Policy *PolicyInForce `json:"policy,omitempty"`
	// effective is the spec that rules: the shift's own fields, then the policy's, then the defaults, all of them filled in (pacing, steps,
	// hold, drain and session are none of the schema's), and without replicas and actions. Of a spec that is refused it has what can be
	// followed. It is for people to read, and not an API.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	// +optional
	Effective *apiextensionsv1.JSON `json:"effective,omitempty"`
	// history is what became of the last releases, newest first.
	// +kubebuilder:validation:MaxItems=10
	// +listType=atomic
	// +optional
	History []Outcome `json:"history,omitempty"`
	// actions are the last requests of people, and how they were answered, newest first.
	// +kubebuilder:validation:MaxItems=10
	// +listType=atomic
	// +optional
	Actions []ActionRecord `json:"actions,omitempty"`
	// state is what the controller must not forget. It is written before the effects that depend on it.
	// +optional
	State State `json:"state,omitzero"`
}

// PreviewAddress is where one version can be looked at.
type PreviewAddress struct {
	// version names it.
	Version string `json:"version"`
	// service is the full name of its Service, for clients in the mesh.
	Service string `json:"service"`
	// host is the external host that leads to it, where hosts are asked for.
	// +optional
	Host string `json:"host,omitempty"`
}

// GateStatus is what one gate said when it was asked last.
type GateStatus struct {
	// name is requests, error-rate, error-rate-vs-stable, latency, latency-vs-stable, or that of one of spec.gates.
	Name string `json:"name"`
	// verdict is Pass, Fail or Inconclusive.
	Verdict Verdict `json:"verdict"`
	// reason is why, in a word.
	// +optional
	Reason string `json:"reason,omitempty"`
	// value is what was read, such as "0.2%"; empty where there is no number.
	// +optional
	Value string `json:"value,omitempty"`
	// limit is what it is held against, such as "1.0%".
	// +optional
	Limit string `json:"limit,omitempty"`
	// message is why, in a sentence with the numbers.
	// +optional
	Message string `json:"message,omitempty"`
	// dryRun is set where the verdict decides nothing.
	// +optional
	DryRun bool `json:"dryRun,omitempty"`
}

// Verdict is what a gate says. No data is Inconclusive: it holds, and takes nothing back.
//
// +kubebuilder:validation:Enum=Pass;Fail;Inconclusive
type Verdict string

// The verdicts.
const (
	VerdictPass         Verdict = "Pass"
	VerdictFail         Verdict = "Fail"
	VerdictInconclusive Verdict = "Inconclusive"
)

// RefusedWrite is a write that the API server, or what it asks, did not take. It is tried again.
type RefusedWrite struct {
	// write is the verb and the object, such as "apply VirtualService shop/micro-api".
	// +kubebuilder:validation:MaxLength=1024
	Write string `json:"write"`
	// message is what the API server said.
	// +kubebuilder:validation:MaxLength=4096
	Message string `json:"message"`
	// at is when it said so.
	At metav1.Time `json:"at"`
}

// Outcome is what became of one release.
type Outcome struct {
	// version is the version that was introduced.
	Version string `json:"version"`
	// reason is Promoted, or why it was not.
	Reason string `json:"reason"`
	// message gives the numbers behind the reason.
	// +optional
	Message string `json:"message,omitempty"`
	// weight is the highest weight it was given.
	// +optional
	Weight string `json:"weight,omitempty"`
	// skippedGatesBy is who had it promoted whatever the gates said; empty where nobody did.
	// +optional
	SkippedGatesBy string `json:"skippedGatesBy,omitempty"`
	// withinRollbackWindow is whether it went to 100 without steps, because users had been on it a short while ago (spec.rollbackWindow).
	// +optional
	WithinRollbackWindow bool `json:"withinRollbackWindow,omitempty"`
	// startedAt is when the candidate appeared.
	// +optional
	StartedAt *metav1.Time `json:"startedAt,omitempty"`
	// endedAt is when it was promoted, or back at weight 0.
	// +optional
	EndedAt *metav1.Time `json:"endedAt,omitempty"`
}
