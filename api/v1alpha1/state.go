package v1alpha1

import (
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Stage is where a candidate stands within the phase Progressing.
type Stage string

// The stages of a candidate, in order.
const (
	// StagePreparing: its pods are starting; it has no subset and no route.
	StagePreparing Stage = "Preparing"
	// StageExposing: its subset is in the DestinationRule and settling; it must see no traffic yet.
	StageExposing Stage = "Exposing"
	// StageStepping: it has a weight below 100.
	StageStepping Stage = "Stepping"
	// StageBaking: it has all the traffic, and the stable version waits behind it.
	StageBaking Stage = "Baking"
)

// The stages of a service that is taken over from its Deployment or handed back to it, in order.
const (
	// StageRecording: waiting for the Deployment's own rollout to end, then recording its template as the first version.
	StageRecording Stage = "Recording"
	// StageStarting: the first version's pods are starting beside the Deployment's own.
	StageStarting Stage = "Starting"
	// StagePinning: subset and routes pin the traffic to the first version; the Deployment's own pods still run.
	StagePinning Stage = "Pinning"
	// StageHolding: the Deployment is scaled to 0 and is a template from now on.
	StageHolding Stage = "Holding"

	// StageReturning: the Deployment's own pods are starting again.
	StageReturning Stage = "Returning"
	// StageUnpinning: the routes name the service without subsets.
	StageUnpinning Stage = "Unpinning"
	// StageRemoving: routes and subsets are gone and are settling.
	StageRemoving Stage = "Removing"
	// StageReleasing: versions and marks are removed.
	StageReleasing Stage = "Releasing"
	// StageReleased: nothing of the service is Sluice's any more.
	StageReleased Stage = "Released"
)

// State is the durable part of a TrafficShift: everything that a restarted controller cannot read off the cluster. All that is
// here is decided by controllers/shift and by nothing else.
type State struct {
	// phase is the position in the state machine.
	// +optional
	Phase Phase `json:"phase,omitempty"`
	// stage is the position within the phase.
	// +optional
	Stage Stage `json:"stage,omitempty"`

	// stable is the version that users are on, such as "v2".
	// +optional
	Stable string `json:"stable,omitempty"`
	// candidate is the version that is being introduced.
	// +optional
	Candidate string `json:"candidate,omitempty"`
	// rejected is the version that was refused last.
	// +optional
	Rejected string `json:"rejected,omitempty"`
	// rejectedGeneration is the Deployment's generation from which on the stable version's template says that somebody has gone back to it,
	// and the refusal is forgotten: an older one is a late reading, or what Sluice has set back itself.
	// +optional
	RejectedGeneration int64 `json:"rejectedGeneration,omitempty"`
	// templateUID is the Deployment that all this speaks of: one created again under its name starts over.
	// +optional
	TemplateUID string `json:"templateUID,omitempty"`
	// lastVersion is the highest version number ever given; numbers are never reused.
	// +optional
	LastVersion int32 `json:"lastVersion,omitempty"`

	// weight is the candidate's weight in thousandths as last decided.
	// +optional
	Weight Permille `json:"weight,omitempty"`
	// peak is the highest weight that the candidate had, in thousandths.
	// +optional
	Peak Permille `json:"peak,omitempty"`

	// raisedFrom is the weight that the candidate comes from, until the step that it has taken was first read back from every VirtualService.
	// +optional
	RaisedFrom *Permille `json:"raisedFrom,omitempty"`
	// rung is how many steps of the ladder the candidate has passed, the one that it stands on included.
	// +optional
	Rung int32 `json:"rung,omitempty"`
	// exposure is how the candidate is exposed while it has no weight.
	// +optional
	Exposure Exposure `json:"exposure,omitempty"`
	// shown is a digest of what the exposure shows, the match or the share: one that is edited has to be earned anew.
	// +kubebuilder:validation:MaxLength=32
	// +optional
	Shown string `json:"shown,omitempty"`
	// group is a digest of the match beside the weight, whose requests go to the candidate whatever the weight says; empty where there is
	// none. A match that is edited has to be earned anew.
	// +kubebuilder:validation:MaxLength=32
	// +optional
	Group string `json:"group,omitempty"`
	// sessions are the cookies that keep users on versions.
	// +optional
	Sessions SessionState `json:"sessions,omitzero"`

	// isolated is whether scrapes have shown that nothing reached the candidate before it was shown to anybody.
	// +optional
	Isolated bool `json:"isolated,omitempty"`
	// weightedAt is when the candidate was first shown: given a weight, a match, a mirror or its preview.
	// +optional
	WeightedAt *metav1.MicroTime `json:"weightedAt,omitempty"`
	// startedAt is when the candidate appeared.
	// +optional
	StartedAt *metav1.MicroTime `json:"startedAt,omitempty"`
	// stageSince is when the stage began.
	// +optional
	StageSince *metav1.MicroTime `json:"stageSince,omitempty"`
	// waitingSince is since when a new template has waited to start: for its turn under a ShiftPolicy, or for the end of a freeze.
	// +optional
	WaitingSince *metav1.MicroTime `json:"waitingSince,omitempty"`
	// routedSince is when the present weights were first read back from every VirtualService.
	// +optional
	RoutedSince *metav1.MicroTime `json:"routedSince,omitempty"`
	// subsetSince is when the candidate's subset was first read back from the DestinationRule.
	// +optional
	SubsetSince *metav1.MicroTime `json:"subsetSince,omitempty"`
	// verifiedSince is when the measured share was found to match the weight: the step's clock.
	// +optional
	VerifiedSince *metav1.MicroTime `json:"verifiedSince,omitempty"`

	// share is what was seen of the present weight since it settled, until it is verified.
	// +optional
	Share ShareState `json:"share,omitzero"`

	// pods keeps the deadline's clock, and remembers that pods were ready.
	// +optional
	Pods PodsState `json:"pods,omitzero"`

	// strength is the most pods for all of the traffic that were asked for since the candidate started: no wish lowers capacity while
	// traffic moves.
	// +optional
	Strength int32 `json:"strength,omitempty"`

	// retiring are the versions on their way out, each on the one exit path.
	// +listType=map
	// +listMapKey=version
	// +optional
	Retiring []Retiring `json:"retiring,omitempty"`

	// gate is the evidence counted so far at this step.
	// +optional
	Gate GateState `json:"gate,omitzero"`

	// checks are the owner's own gates that are asked outside, as they were read last.
	// +listType=map
	// +listMapKey=name
	// +optional
	Checks []CheckState `json:"checks,omitempty"`
	// approved are the manual gates and pauses ("step-2") that a person has answered for the candidate.
	// +listType=set
	// +optional
	Approved []string `json:"approved,omitempty"`
	// awaiting are the manual gates that hold the candidate.
	// +listType=set
	// +optional
	Awaiting []string `json:"awaiting,omitempty"`

	// awaitingSince is when the present step's pause began to wait for a person.
	// +optional
	AwaitingSince *metav1.MicroTime `json:"awaitingSince,omitempty"`
	// previous is the version that users were on before the stable one.
	// +optional
	Previous string `json:"previous,omitempty"`
	// former are the versions that there are to go back to, those that users were on before the stable one, the latest first: as many as a
	// rollback window can have, and none that somebody has gone back from.
	// +listType=atomic
	// +optional
	Former []string `json:"former,omitempty"`
	// withinRollbackWindow is whether the candidate goes to 100 without steps: it was one of those when it started.
	// +optional
	WithinRollbackWindow bool `json:"withinRollbackWindow,omitempty"`
	// answered are the requests that stand there and were answered already.
	// +listType=map
	// +listMapKey=action
	// +listMapKey=source
	// +optional
	Answered []Answered `json:"answered,omitempty"`
	// order is what the candidate was told to do beyond what it has earned.
	// +optional
	Order *Order `json:"order,omitempty"`
	// undo is a template that is on its way back into the Deployment.
	// +optional
	Undo *UndoState `json:"undo,omitempty"`
	// restart is what was asked of the pods of a version and is not seen to be done yet.
	// +optional
	Restart *RestartState `json:"restart,omitempty"`

	// failure is why the candidate is being taken back.
	// +optional
	Failure *Failure `json:"failure,omitempty"`

	// contested counts how often the held template was scaled up by somebody else.
	// +optional
	Contested int32 `json:"contested,omitempty"`
	// contestedGeneration is the template's generation that was counted last.
	// +optional
	ContestedGeneration int64 `json:"contestedGeneration,omitempty"`
}

// Exposure is how a candidate without a weight is exposed.
//
// +kubebuilder:validation:Enum=Preview;Match;Mirror
type Exposure string

// The exposures.
const (
	// ExposurePreview: at its preview address alone.
	ExposurePreview Exposure = "Preview"
	// ExposureMatch: to the requests that match.
	ExposureMatch Exposure = "Match"
	// ExposureMirror: to copies of requests.
	ExposureMirror Exposure = "Mirror"
)

// SessionState is what the cookies given out so far say.
type SessionState struct {
	// epoch tells cookies given before a weight was lowered from those given since.
	// +optional
	Epoch int32 `json:"epoch,omitempty"`
	// given are the candidate's weights since the epoch began, rising.
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	Given []Permille `json:"given,omitempty"`
}

// ShareState counts the requests that prove a weight.
type ShareState struct {
	// candidate is how many of the requests went to the candidate.
	// +optional
	Candidate int64 `json:"candidate,omitempty"`
	// total is how many requests the service had.
	// +optional
	Total int64 `json:"total,omitempty"`
	// samples is how many samples were counted.
	// +optional
	Samples int32 `json:"samples,omitempty"`
}

// PodsState is what must be remembered of a candidate's pods.
type PodsState struct {
	// waited is the time spent waiting for pods before waitingSince.
	// +optional
	Waited metav1.Duration `json:"waited,omitzero"`
	// waitingSince is set while the shift waits for pods.
	// +optional
	WaitingSince *metav1.MicroTime `json:"waitingSince,omitempty"`
	// ready is the most pods that were ready at once before the first weight.
	// +optional
	Ready int32 `json:"ready,omitempty"`
}

// Retiring is a version on its way out: weight 0, drain, route destination, subset, pods, in that order and no other.
type Retiring struct {
	// version names it.
	Version string `json:"version"`
	// zeroSince is when every VirtualService was first read back with no weight for it.
	// +optional
	ZeroSince *metav1.MicroTime `json:"zeroSince,omitempty"`
	// unroutedSince is when no VirtualService named it any more.
	// +optional
	UnroutedSince *metav1.MicroTime `json:"unroutedSince,omitempty"`
	// unsubsetSince is when the DestinationRule named it no more.
	// +optional
	UnsubsetSince *metav1.MicroTime `json:"unsubsetSince,omitempty"`
	// keptSince is since when the pods of a version that was refused are kept for people to look at; empty where they are not, or not any more.
	// +optional
	KeptSince *metav1.MicroTime `json:"keptSince,omitempty"`
	// keptUnready is whether they are kept only for as long as none of them is ready: nobody has seen that nothing reaches them.
	// +optional
	KeptUnready bool `json:"keptUnready,omitempty"`
	// drained is set where waiting would only help a bad version: its drain is skipped.
	// +optional
	Drained bool `json:"drained,omitempty"`
}

// Failure is why a candidate is taken back.
type Failure struct {
	// reason is one of the Reason constants.
	Reason string `json:"reason"`
	// message gives the numbers.
	Message string `json:"message"`
	// reject is whether the template is refused until it was another one; a cancel or a supersede refuses nothing.
	// +optional
	Reject bool `json:"reject,omitempty"`
}

// GateState is the evidence counted at the present step. A restart reads the counter baselines back from Prometheus as of
// countedTo, so that nothing is lost and nothing is counted twice.
type GateState struct {
	// countedTo is the evaluation time of the last sample counted.
	// +optional
	CountedTo *metav1.MicroTime `json:"countedTo,omitempty"`
	// seenTo is the time of the youngest scrape behind it: requests before that are all counted.
	// +optional
	SeenTo *metav1.MicroTime `json:"seenTo,omitempty"`
	// samples is how many scrapes were counted since the counts were last set to zero.
	// +optional
	Samples int32 `json:"samples,omitempty"`
	// candidate is the candidate's requests since then.
	// +optional
	Candidate Counts `json:"candidate,omitzero"`
	// stable is the stable version's requests since then.
	// +optional
	Stable Counts `json:"stable,omitzero"`
	// cross is the candidate as the other reporter counted it.
	// +optional
	Cross Counts `json:"cross,omitzero"`
	// noHost counts the service's requests that no version could be blamed for (flags UH, NC, NR, UO).
	// +optional
	NoHost int64 `json:"noHost,omitempty"`
	// noHostBaseline is the service's own share of those before the shift, in parts per million.
	// +optional
	NoHostBaseline int64 `json:"noHostBaseline,omitempty"`
	// retreats counts how often suspicion has sent the candidate back to a small weight.
	// +optional
	Retreats int32 `json:"retreats,omitempty"`
	// suspected is set from such a retreat until the suspicion is settled.
	// +optional
	Suspected bool `json:"suspected,omitempty"`
	// retreated is set once failures without a host have sent the candidate back to its last good weight.
	// +optional
	Retreated bool `json:"retreated,omitempty"`
	// stableDownAt is when the stable version was last seen without a ready pod: what finds no host around then is its own.
	// +optional
	StableDownAt *metav1.MicroTime `json:"stableDownAt,omitempty"`
	// memory is what the statistical gate keeps from look to look, since the candidate's first weight: versioned, at most 2 KB, written
	// and read by metrics/analysis alone.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	// +optional
	Memory *apiextensionsv1.JSON `json:"memory,omitempty"`
	// ceiling is the error limit frozen at the switch to 100, in parts per million: there is no stable traffic to compare with.
	// +optional
	Ceiling int64 `json:"ceiling,omitempty"`
	// slowCeiling is the same for the share of slow requests.
	// +optional
	SlowCeiling int64 `json:"slowCeiling,omitempty"`
}

// CheckState counts the readings of one gate that were out of bounds, one after the other.
type CheckState struct {
	// name is the gate's.
	Name string `json:"name"`
	// readAt is the time of the latest reading counted.
	// +optional
	ReadAt *metav1.MicroTime `json:"readAt,omitempty"`
	// failures is how many readings in a row were out of bounds, that one included.
	// +optional
	Failures int32 `json:"failures,omitempty"`
}

// Counts are requests of one version.
type Counts struct {
	// requests is all of them.
	// +optional
	Requests int64 `json:"requests,omitempty"`
	// errors is how many the version failed (HTTP 5xx, gRPC server faults).
	// +optional
	Errors int64 `json:"errors,omitempty"`
	// timed is how many have a response time.
	// +optional
	Timed int64 `json:"timed,omitempty"`
	// slow is how many of those took longer than the latency bound.
	// +optional
	Slow int64 `json:"slow,omitempty"`
}
