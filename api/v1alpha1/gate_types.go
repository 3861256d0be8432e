package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Gate is one question of the owner's own: a query, a webhook or a person. It is asked from the first weight on, or before anybody meets
// the candidate.
//
// +kubebuilder:validation:XValidation:rule="(has(self.query) ? 1 : 0) + (has(self.webhook) ? 1 : 0) + (has(self.manual) ? 1 : 0) == 1",message="a gate is exactly one of query, webhook and manual"
// +kubebuilder:validation:XValidation:rule="!(has(self.manual) && has(self.dryRun) && self.dryRun)",message="a manual gate cannot be a dry run: a person is asked, or is not"
// +kubebuilder:validation:XValidation:rule="!(has(self.manual) && has(self.at) && self.at == 'start')",message="at: start is for query and webhook: a manual gate says in before when it is asked"
type Gate struct {
	// name names the gate in status, events and metrics.
	// +kubebuilder:validation:XValidation:rule="!(self in ['requests', 'error-rate', 'error-rate-vs-stable', 'latency', 'latency-vs-stable'])",message="is the name of a built-in gate: choose another"
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`
	// dryRun has the gate asked and reported, and its answer ignored.
	// +optional
	DryRun bool `json:"dryRun,omitempty"`
	// at is when the gate is asked: start is once the candidate's pods are ready and before anybody meets it, by weight, match, mirror or
	// preview, and not after that; steps is from then on, on every step or on those that name it.
	// +kubebuilder:default=steps
	// +optional
	At GateTime `json:"at,omitempty"`
	// query asks Prometheus.
	// +optional
	Query *QueryGate `json:"query,omitempty"`
	// webhook asks an HTTP endpoint.
	// +optional
	Webhook *WebhookGate `json:"webhook,omitempty"`
	// manual asks a person.
	// +optional
	Manual *ManualGate `json:"manual,omitempty"`
}

// GateTime is when a gate is asked.
//
// +kubebuilder:validation:Enum=start;steps
type GateTime string

// When gates are asked.
const (
	GateAtStart GateTime = "start"
	GateAtSteps GateTime = "steps"
)

// QueryGate holds the value of a PromQL expression against bounds.
//
// +kubebuilder:validation:XValidation:rule="has(self.min) || has(self.max)",message="a query needs min or max: without a bound it asks nothing"
// +kubebuilder:validation:XValidation:rule="(has(self.min) ? double(self.min) : -1.7e308) <= (has(self.max) ? double(self.max) : 1.7e308)",message="min must not be above max, and both must be finite numbers"
type QueryGate struct {
	// promql is an expression whose value is one number: a scalar, or a vector of one element. {{namespace}}, {{name}}, {{stable}},
	// {{candidate}} (the versions' Deployments) and {{window}} stand for the shift's own.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	PromQL string `json:"promql"`
	// min is the least value that passes, a number in quotes such as "0.95" or "1e3".
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?$`
	// +optional
	Min string `json:"min,omitempty"`
	// max is the highest value that passes, a number in quotes.
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?$`
	// +optional
	Max string `json:"max,omitempty"`
	// window is what {{window}} stands for.
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s')",message="a window must be more than 0s, such as 1m"
	// +kubebuilder:default="1m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]{1,5}(\.[0-9]{1,9})?(ms|s|m|h))+$`
	// +kubebuilder:validation:MaxLength=32
	// +optional
	Window *metav1.Duration `json:"window,omitempty"`
	// noData is what an empty answer, or NaN, means: hold, pass or fail.
	// +kubebuilder:default=hold
	// +optional
	NoData NoData `json:"noData,omitempty"`
	// failures is how many readings in a row must be out of bounds before the candidate is taken back. One less only holds.
	// +kubebuilder:default=2
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	Failures *int32 `json:"failures,omitempty"`
}

// NoData is what the absence of a value means.
//
// +kubebuilder:validation:Enum=hold;pass;fail
type NoData string

// What no data means.
const (
	NoDataHold NoData = "hold"
	NoDataPass NoData = "pass"
	NoDataFail NoData = "fail"
)

// WebhookGate asks an HTTP endpoint. It gets a POST whose body is a CloudEvent (JSON, structured mode): 2xx passes, 409 and 425
// hold, and anything else is what onError says.
type WebhookGate struct {
	// url is the endpoint, http or https, without a user or a password. The administrator may limit its host.
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^https?://[^\s/?#@]+([/?][^\s#]*)?$`
	// +kubebuilder:validation:XValidation:rule="isURL(self) && url(self).getHostname() != ''",message="a url must be http://HOST[:PORT][/PATH][?QUERY] or https://..."
	URL string `json:"url"`
	// timeout bounds each request; at most 1m.
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s') && duration(self) <= duration('1m')",message="a timeout must be more than 0s and at most 1m"
	// +kubebuilder:default="5s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]{1,5}(\.[0-9]{1,9})?(ms|s|m|h))+$`
	// +kubebuilder:validation:MaxLength=32
	// +optional
	Timeout *metav1.Duration `json:"timeout,omitempty"`
	// retries is how often a request that failed is sent again, before it counts as an error.
	// +kubebuilder:default=2
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10
	// +optional
	Retries *int32 `json:"retries,omitempty"`
	// interval is the time between two questions; at least 1s. An answer older than three intervals and the time that the
	// next question may take, with its retries, counts no more.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s')",message="an interval must be at least 1s"
	// +kubebuilder:default="15s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]{1,5}(\.[0-9]{1,9})?(ms|s|m|h))+$`
	// +kubebuilder:validation:MaxLength=32
	// +optional
	Interval *metav1.Duration `json:"interval,omitempty"`
	// onError is what any other answer, and none, means: hold or fail.
	// +kubebuilder:default=hold
	// +optional
	OnError OnError `json:"onError,omitempty"`
}

// OnError is what a webhook that does not answer as it should means.
//
// +kubebuilder:validation:Enum=hold;fail
type OnError string

// What an error means.
const (
	OnErrorHold OnError = "hold"
	OnErrorFail OnError = "fail"
)

// ManualGate asks a person, who answers with the annotation sluice.dev/approve on the TrafficShift.
type ManualGate struct {
	// before is the weight, in percent, that the candidate does not reach without an approval.
	// +kubebuilder:default="100"
	// +kubebuilder:validation:XValidation:rule="self.matches('^[^.]*([.][0-9]0*)?%?$') && double(self.replace('%', '')) > 0.0",message="before must be a percentage of at most one decimal, above 0% and up to 100%"
	// +optional
	Before Percent `json:"before,omitempty"`
}
