package v1alpha1

import (
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Step is one rung of the ladder: a weight, a match or a mirror, and how long and on what terms the candidate stays on it. A match may
// stand beside either of the others.
//
// +kubebuilder:validation:XValidation:rule="has(self.weight) ? !has(self.mirror) : has(self.match) || has(self.mirror)",message="a step is a weight, a match or a mirror: a match may stand beside a weight or a mirror, and a weight and a mirror never beside each other"
// +kubebuilder:validation:XValidation:rule="!has(self.match) || !has(self.weight) || !(string(self.weight) in ['100', '100%', '100.0', '100.0%'])",message="at 100 everybody is on the candidate, and a match says nothing: leave out match"
type Step struct {
	// weight is the share of the traffic that the candidate gets, in percent: 5, "5%" or "0.5". Beside a match it is the share of the
	// requests that do not match.
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^(100(\.0)?|[0-9]{1,2}(\.[0-9])?)%?$`
	// +kubebuilder:validation:MaxLength=6
	// +kubebuilder:validation:XValidation:rule="type(self) == string || (self >= 1 && self <= 100)",message="a weight is a percentage from 0.1 to 100"
	// +optional
	Weight *intstr.IntOrString `json:"weight,omitempty"`
	// match sends the requests that match any of these rules to the candidate: alone, and no others; beside a weight below 100, and of the
	// others the share that the weight says, until a step without it. Beside a mirror, requests that match are copied, and no others. Each
	// is Istio's own HTTPMatchRequest, without port, gateways, name and statPrefix.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:Type=object
	// +listType=atomic
	// +optional
	Match []apiextensionsv1.JSON `json:"match,omitempty"`
	// mirror sends the candidate a copy of this share of the requests, in percent, and drops its answers. Copies write as the requests
	// themselves do: mirror only what may happen twice.
	// +kubebuilder:validation:Pattern=`^(100(\.0)?|[0-9]{1,2}(\.[0-9])?)%?$`
	// +kubebuilder:validation:XValidation:rule="double(self.replace('%', '')) > 0.0",message="a mirror must be above 0%, such as 10%"
	// +optional
	Mirror Percent `json:"mirror,omitempty"`
	// hold is the least time on this step, in place of the ladder's own.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]{1,5}(\.[0-9]{1,9})?(ms|s|m|h))+$`
	// +kubebuilder:validation:MaxLength=32
	// +optional
	Hold *metav1.Duration `json:"hold,omitempty"`
	// gates names the gates of the spec that are asked on this step and on the others that name them. A gate that no step names is asked
	// on every step.
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=63
	// +listType=set
	// +optional
	Gates []string `json:"gates,omitempty"`
	// pause waits for a person at the end of this step.
	// +optional
	Pause *Pause `json:"pause,omitempty"`
	// replicas is how many pods the candidate has on this step, where its weight does not need more.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`
}

// Pause waits for a person, who goes on with the annotation sluice.dev/approve on the TrafficShift.
type Pause struct {
	// timeout is how long to wait; without one, for as long as it takes.
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s')",message="a timeout must be more than 0s; leave it out to wait for as long as it takes"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]{1,5}(\.[0-9]{1,9})?(ms|s|m|h))+$`
	// +kubebuilder:validation:MaxLength=32
	// +optional
	Timeout *metav1.Duration `json:"timeout,omitempty"`
	// onTimeout is what happens when nobody came: proceed or abort.
	// +kubebuilder:default=proceed
	// +optional
	OnTimeout OnTimeout `json:"onTimeout,omitempty"`
}

// OnTimeout is what happens when a pause ends without a person.
//
// +kubebuilder:validation:Enum=proceed;abort
type OnTimeout string

// What happens.
const (
	OnTimeoutProceed OnTimeout = "proceed"
	OnTimeoutAbort   OnTimeout = "abort"
)

// ABTest is a test of the candidate on a group of users.
type ABTest struct {
	// match are the rules that make a request one of the group's: any of them. Each is Istio's own HTTPMatchRequest, without port,
	// gateways, name and statPrefix.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:Type=object
	// +listType=atomic
	Match []apiextensionsv1.JSON `json:"match"`
	// duration is how long the test runs at least; hold where it is not given.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]{1,5}(\.[0-9]{1,9})?(ms|s|m|h))+$`
	// +kubebuilder:validation:MaxLength=32
	// +optional
	Duration *metav1.Duration `json:"duration,omitempty"`
	// conclude is how the test ends: promote moves everybody to the candidate once duration has passed and the gates pass; decide waits
	// for a person to promote or abort it.
	// +kubebuilder:default=promote
	// +optional
	Conclude Conclude `json:"conclude,omitempty"`
}

// Conclude is how a test ends.
//
// +kubebuilder:validation:Enum=promote;decide
type Conclude string

// How a test ends.
const (
	ConcludePromote Conclude = "promote"
	ConcludeDecide  Conclude = "decide"
)

// Session is the cookie that keeps a user on a version. Its value is Sluice's; when the shift is over it is taken away again, for as long
// as the session stands in the spec.
type Session struct {
	// cookie is its name; "sluice-" and the TrafficShift's name where it is not given.
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9!#$&'*+.^_|~-]+$`
	// +optional
	Cookie string `json:"cookie,omitempty"`
	// maxAge is how long a browser keeps it.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s')",message="a cookie must be kept for at least 1s"
	// +kubebuilder:default="24h"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]{1,5}(\.[0-9]{1,9})?(ms|s|m|h))+$`
	// +kubebuilder:validation:MaxLength=32
	// +optional
	MaxAge *metav1.Duration `json:"maxAge,omitempty"`
	// attributes follow in the Set-Cookie header as written, such as "Path=/; Secure; HttpOnly; SameSite=Lax". Path=/ where not given.
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[ -$&-:<-~]+(;[ -$&-:<-~]+)*$`
	// +kubebuilder:validation:XValidation:rule="!self.lowerAscii().matches('(^|;) *(max-age|expires) *(=|;|$)')",message="leave out Max-Age and Expires: maxAge says how long the cookie is kept"
	// +optional
	Attributes string `json:"attributes,omitempty"`
}

// Preview is the address of each live version.
//
// +kubebuilder:validation:XValidation:rule="!has(self.host) || !self.host.contains('{{version}}') || size(self.host.split('.')[0]) <= 67",message="preview.host: the first label, with v999999 in the place of {{version}}, must have at most 63 characters"
type Preview struct {
	// host is an external host that the candidate, or else the stable version, answers for at the gateways of hosts. With a place for
	// the version, as the first label or in it, every live version has one of its own: {{version}}.preview.example.com is
	// v1.preview.example.com and v2.preview.example.com, and shop-{{version}}.example.com is shop-v1.example.com. It must be granted
	// to the namespace as every other host: with a place, by a wildcard or as it is written here.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^([a-z0-9]([-a-z0-9]*[a-z0-9])?|([a-z0-9][-a-z0-9]*)?\{\{version\}\}([-a-z0-9]*[a-z0-9])?\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	// +optional
	Host string `json:"host,omitempty"`
	// replicas is how many pods a candidate of blue-green has while its preview alone shows it: all of them where it is not given. hold, gates
	// and people are asked with these. When they let it go on, the others are made, and the switch waits for them; that counts for deadline.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`
}
