package v1alpha1

import (
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TrafficShift moves the traffic of one service from its stable version to a candidate, step by step, each step earned by
// evidence. It belongs to the Deployment of its own name, which is the template of every version.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=tshift,categories=sluice
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.replicas,statuspath=.status.replicas,selectorpath=.status.selector
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Step",type=string,JSONPath=`.status.step`
// +kubebuilder:printcolumn:name="Weight",type=string,JSONPath=`.status.weight`
// +kubebuilder:printcolumn:name="Observed",type=string,JSONPath=`.status.observedWeight`
// +kubebuilder:printcolumn:name="Stable",type=string,JSONPath=`.status.stable`
// +kubebuilder:printcolumn:name="Candidate",type=string,JSONPath=`.status.candidate`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Why",type=string,JSONPath=`.status.message`
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 52",message="the name must be at most 52 characters, so that NAME-vN still names a Deployment's pods"
type TrafficShift struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the owner of the service asks for.
	// +optional
	Spec TrafficShiftSpec `json:"spec,omitempty"`
	// status is where the shift stands and why.
	// +optional
	Status TrafficShiftStatus `json:"status,omitempty"`
}

// TrafficShiftList is a list of TrafficShifts.
//
// +kubebuilder:object:root=true
type TrafficShiftList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []TrafficShift `json:"items"`
}

// Strategy is a way of moving traffic.
//
// +kubebuilder:validation:Enum=canary;blue-green;ab-test
type Strategy string

// The strategies.
const (
	// StrategyCanary raises the candidate's weight step by step.
	StrategyCanary Strategy = "canary"
	// StrategyBlueGreen brings the candidate up at full strength, shows it at its preview address, and moves all the traffic at once.
	StrategyBlueGreen Strategy = "blue-green"
	// StrategyABTest sends a group of users to the candidate, and everybody or nobody in the end.
	StrategyABTest Strategy = "ab-test"
)

// TrafficShiftSpec is what the owner of the service asks for.
//
// Whatever the schema lets through must decode: one object that does not would blind every controller's watch to all of them.
//
// +kubebuilder:validation:XValidation:rule="!has(self.gateways) || size(self.gateways) == 0 || (has(self.hosts) && size(self.hosts) > 0)",message="gateways need hosts: a gateway is bound only for the hosts it serves"
// +kubebuilder:validation:XValidation:rule="!has(self.gatewayTLS) || (has(self.hosts) && size(self.hosts) > 0 && (!has(self.gateways) || size(self.gateways) == 0))",message="gatewayTLS is for the Gateway that Sluice makes: it needs hosts, and no gateways"
// +kubebuilder:validation:XValidation:rule="!has(self.httpsRedirect) || has(self.gatewayTLS)",message="httpsRedirect needs gatewayTLS: there is nothing to redirect to"
// +kubebuilder:validation:XValidation:rule="!has(self.pacing) || self.pacing != 'auto' || !has(self.steps)",message="pacing auto chooses the weights itself: leave out steps, or write pacing: ladder"
// +kubebuilder:validation:XValidation:rule="!has(self.duration) || !has(self.hold)",message="duration and hold exclude each other: duration is the whole way, and hold a part of it"
// +kubebuilder:validation:XValidation:rule="!has(self.duration) || !has(self.pacing) || self.pacing != 'auto'",message="pacing auto takes as long as the evidence takes: leave out duration, or write pacing: ladder"
// +kubebuilder:validation:XValidation:rule="!has(self.duration) || !has(self.strategy) || self.strategy == 'canary'",message="duration is a canary's: for blue-green write hold, and for ab-test abTest.duration"
// +kubebuilder:validation:XValidation:rule="!has(self.strategy) || self.strategy != 'ab-test' || has(self.abTest)",message="an ab-test needs to know its group: write abTest, with a match"
// +kubebuilder:validation:XValidation:rule="!has(self.abTest) || has(self.strategy) && self.strategy == 'ab-test'",message="abTest is for strategy ab-test: write that, or leave out abTest"
// +kubebuilder:validation:XValidation:rule="!has(self.strategy) || self.strategy == 'canary' || !has(self.pacing) || self.pacing != 'auto'",message="blue-green and ab-test move all the traffic at once: leave out pacing"
// +kubebuilder:validation:XValidation:rule="!has(self.strategy) || self.strategy != 'ab-test' || !has(self.steps) || size(self.steps) == 1",message="an ab-test has its group and then everybody: leave out steps"
// +kubebuilder:validation:XValidation:rule="!has(self.strategy) || self.strategy != 'blue-green' || !has(self.steps) || self.steps.all(s, has(s.mirror) || has(s.weight) && string(s.weight) in ['100', '100%', '100.0', '100.0%'])",message="blue-green moves all the traffic at once: its steps are mirrors, and 100 at the end"
// +kubebuilder:validation:XValidation:rule="!has(self.steps) || self.steps.all(s, !has(s.gates) || s.gates.all(n, has(self.gates) && self.gates.exists(g, g.name == n)))",message="a step names a gate that is none of gates: name one of them, or add it there"
// +kubebuilder:validation:XValidation:rule="!has(self.steps) || !has(self.gates) || self.steps.all(s, !has(s.gates) || s.gates.all(n, !self.gates.exists(g, g.name == n && has(g.at) && g.at == 'start')))",message="a step names a gate that is asked at the start, before any step: leave it out there, or write at: steps in the gate"
// +kubebuilder:validation:XValidation:rule="!has(self.preview) || !has(self.preview.host) || has(self.hosts) && size(self.hosts) > 0",message="preview.host needs hosts: the preview is served by their gateways"
// +kubebuilder:validation:XValidation:rule="!has(self.preview) || !has(self.preview.host) || !has(self.hosts) || !(self.preview.host in self.hosts)",message="preview.host is one of hosts, which users come to: choose another one for the preview"
// +kubebuilder:validation:XValidation:rule="!has(self.preview) || !has(self.preview.replicas) || has(self.strategy) && self.strategy == 'blue-green'",message="preview.replicas is for strategy blue-green, whose preview comes before all else: leave it out, and write replicas in a step"
// +kubebuilder:validation:XValidation:rule="!has(self.preview) || !has(self.preview.host) || !has(self.hosts) || !self.preview.host.contains('{{version}}') || !self.hosts.exists(h, h.matches('^' + self.preview.host.replace('.', '[.]').replace('{{version}}', 'v[1-9][0-9]*') + '$'))",message="one of hosts, which users come to, is what preview.host is for a version: choose another one for the preview"
// +kubebuilder:validation:XValidation:rule="!has(self.routing) || !(has(self.routing.virtualService) || has(self.routing.virtualServices)) || !has(self.session) && (!has(self.strategy) || self.strategy != 'ab-test') && (!has(self.steps) || self.steps.all(s, has(s.weight) && !has(s.match)))",message="routing.virtualService attaches to routes of yours, of which only weights are written: leave it out, or leave out ab-test, session, match and mirror"
// +kubebuilder:validation:XValidation:rule="!has(self.routing) || !(has(self.routing.virtualService) || has(self.routing.virtualServices)) || !has(self.hosts) || size(self.hosts) == 0",message="the hosts and gateways are those of routing.virtualService: leave out hosts"
// +kubebuilder:validation:XValidation:rule="!has(self.routing) || !has(self.routing.api) || self.routing.api != 'gateway' || !has(self.hosts) || size(self.hosts) == 0 || (has(self.gateways) && size(self.gateways) > 0)",message="routing.api gateway makes no Gateway: name in gateways those of gateway.networking.k8s.io that serve the hosts"
// +kubebuilder:validation:XValidation:rule="!has(self.routing) || !has(self.routing.api) || self.routing.api != 'gateway' || !(has(self.session) || has(self.gatewayTLS) || (has(self.strategy) && self.strategy == 'ab-test') || (has(self.preview) && has(self.preview.host)) || (has(self.steps) && self.steps.exists(s, has(s.match) || has(s.mirror))))",message="routing.api gateway carries weights alone: leave out session, preview.host, gatewayTLS, strategy ab-test, and match and mirror of steps, or write routing.api: istio"
type TrafficShiftSpec struct {
	// strategy is the way traffic moves.
	// +kubebuilder:default=canary
	// +optional
	Strategy Strategy `json:"strategy,omitempty"`

	// policy names the ShiftPolicy whose settings rule where this spec sets none, and which says when a candidate may start.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	// +optional
	Policy string `json:"policy,omitempty"`

	// pacing is how the weights are chosen: auto raises them as fast as the evidence allows, within maxFailedRequests; ladder climbs
	// steps. It is auto where no steps are given, and ladder where they are; a ladder without steps has 5, 20, 50 and 100.
	// +optional
	Pacing Pacing `json:"pacing,omitempty"`

	// steps is the ladder that a candidate climbs: weights, and before them matches and mirrors. Weights rise and the last one is 100.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=50
	// +kubebuilder:validation:XValidation:rule="has(self[size(self) - 1].weight) && string(self[size(self) - 1].weight) in ['100', '100%', '100.0', '100.0%']",message="the last step must be 100: that is where the candidate becomes stable"
	// +listType=atomic
	// +optional
	Steps []Step `json:"steps,omitempty"`

	// hold is the least time that a candidate stays at each weight, before the next one: 1m on a ladder, 30s with pacing auto, which
	// also takes at least six holds from the first weight to 100.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]{1,5}(\.[0-9]{1,9})?(ms|s|m|h))+$`
	// +kubebuilder:validation:MaxLength=32
	// +optional
	Hold *metav1.Duration `json:"hold,omitempty"`

	// duration is how long a canary takes from its first weight to 100, at least: 10, 20 and so on to 100 where no steps are given, each
	// held for an even part of it. It stands in place of hold.
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s')",message="a duration must be more than 0s, such as 30m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]{1,5}(\.[0-9]{1,9})?(ms|s|m|h))+$`
	// +kubebuilder:validation:MaxLength=32
	// +optional
	Duration *metav1.Duration `json:"duration,omitempty"`

	// skipAnalysis moves all the traffic to a candidate as soon as its pods are ready, and asks no gate: neither the built-in ones nor
	// those of gates. Pods that crash, the deadline, and people still take it back, and the stable version is kept for bake.
	// +optional
	SkipAnalysis bool `json:"skipAnalysis,omitempty"`

	// rollbackWindow lets a version that users were on a short while ago go to 100 without steps. Off where it is not given.
	// +optional
	RollbackWindow *RollbackWindow `json:"rollbackWindow,omitempty"`

	// suspend has nothing at all written for this shift: no candidate starts, goes on or is taken back, not even by an abort, which is
	// refused as all actions are. It goes on where it stood when suspend is unset. Handing the service back is done all the same.
	// +optional
	Suspend bool `json:"suspend,omitempty"`

	// maxErrorRate is the share of requests that a candidate may fail. Whatever it is, a candidate must also be no worse than the
	// stable version at the same moment.
	// +kubebuilder:default="1%"
	// +optional
	MaxErrorRate Percent `json:"maxErrorRate,omitempty"`

	// maxLatency limits a percentile of the candidate's response time.
	// +optional
	MaxLatency *LatencyLimit `json:"maxLatency,omitempty"`

	// minRequests is how many requests a candidate must have answered at a step before the step can pass.
	// +kubebuilder:default=50
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000000
	// +optional
	MinRequests *int32 `json:"minRequests,omitempty"`

	// maxIncrease is how far the candidate's error rate may lie above the stable version's and the candidate still be promoted, in
	// percentage points: that it lies below must be proven before the weight becomes 100. Less takes more requests to prove.
	// +kubebuilder:default="0.5%"
	// +optional
	MaxIncrease Percent `json:"maxIncrease,omitempty"`

	// maxFailedRequests is how many requests a candidate may fail before it can be taken back, as far as the evidence can tell: the
	// budget that pacing auto spends.
	// +kubebuilder:default=50
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	MaxFailedRequests *int32 `json:"maxFailedRequests,omitempty"`

	// gates are further questions, asked beside the error rate and the latency. All must pass before a weight is raised, or, of those
	// at the start, before the candidate is shown to anybody.
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=name
	// +optional
	Gates []Gate `json:"gates,omitempty"`

	// reporter is whose telemetry is counted: source (sidecars and gateways of clients), destination (the service's own sidecars) or
	// waypoint (ambient meshes). auto is the first of source, waypoint and destination that reports on the service.
	// +kubebuilder:default=auto
	// +optional
	Reporter Reporter `json:"reporter,omitempty"`

	// prometheus names one of the connections that the administrator has set up, where the namespace may use it. Empty is the
	// default one.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +optional
	Prometheus string `json:"prometheus,omitempty"`

	// hosts are the external hosts that the service answers for at a gateway. Empty keeps the service internal. Each must be
	// granted to the namespace by its annotation sluice.dev/allowed-hosts. They reach the Service's HTTP port; without one its port of TLS,
	// which gateways pass through by the name that clients begin TLS with; or those of TCP, at gateways that have a server of TCP for them.
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +listType=set
	// +optional
	Hosts []string `json:"hosts,omitempty"`

	// gateways are existing Istio Gateways (name or namespace/name) that serve the hosts. Empty with hosts set makes a Gateway.
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:Pattern=`^([a-z0-9]([-a-z0-9]*[a-z0-9])?/)?[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +listType=set
	// +optional
	Gateways []string `json:"gateways,omitempty"`

	// gatewayTLS is Istio's own ServerTLSSettings for the Gateway that Sluice makes, such as {mode: SIMPLE, credentialName: shop-tls}: the
	// hosts are then served with TLS on port 443. The Secret must be in the namespace of the gateway's pods, wherever this one is.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	// +optional
	GatewayTLS *apiextensionsv1.JSON `json:"gatewayTLS,omitempty"`

	// httpsRedirect answers requests without TLS with a redirect. It is true where gatewayTLS is set and nothing is said.
	// +optional
	HTTPSRedirect *bool `json:"httpsRedirect,omitempty"`

	// service names the Service of the Deployment's namespace that carries the traffic, where several select the pods.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^([a-z]([-a-z0-9]*[a-z0-9])?)?$`
	// +optional
	Service string `json:"service,omitempty"`

	// replicas is how many pods carry the whole of the traffic. The scale subresource writes it.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`

	// capacity is how many pods the stable version keeps while a candidate is on its way. full keeps all of them until the candidate is
	// promoted. proportional keeps what its weight needs, rounded up: it gives pods up once its weight was lowered, has settled and has
	// drained, waits through bake with those of its last weight, and gets all of them back first when the candidate goes back.
	// +kubebuilder:default=full
	// +optional
	Capacity Capacity `json:"capacity,omitempty"`

	// minReplicas is the least number of pods for a share of the traffic, however small: of a candidate, and with capacity proportional of the
	// stable version. It is never more than replicas. It is no floor for an autoscaler, which has one of its own.
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	MinReplicas *int32 `json:"minReplicas,omitempty"`

	// drain is how long requests in flight may take to end after a version's weight was lowered, before it loses pods: the controller's
	// setting where it is not given. The pods then end as their terminationGracePeriodSeconds says.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]{1,5}(\.[0-9]{1,9})?(ms|s|m|h))+$`
	// +kubebuilder:validation:MaxLength=32
	// +optional
	Drain *metav1.Duration `json:"drain,omitempty"`

	// autoscaler is what is done with a HorizontalPodAutoscaler, or a ScaledObject of KEDA's, that targets the Deployment, which stands at 0:
	// refuse touches no traffic until it targets the TrafficShift instead; follow makes one of the same settings for the TrafficShift, and
	// keeps it in step. A ScaledObject that is followed is paused until the service is handed back.
	// +kubebuilder:default=refuse
	// +optional
	Autoscaler Autoscaler `json:"autoscaler,omitempty"`

	// configTracking makes a change of a ConfigMap or Secret that the pod template refers to a release like one of the template. The
	// administrator must have allowed the controller to read them. One that carries the annotation sluice.dev/config-tracking: disabled does
	// not count. Their contents are not copied: a pod of the old version that starts again reads the new ones.
	// +optional
	ConfigTracking bool `json:"configTracking,omitempty"`

	// readyThreshold is the share of the pods that a weight needs which must be available before the weight is given, rounded up: with 80%, 8 of
	// 10. The others are started all the same. What takes a candidate back, gives pods of the stable version up, or takes the service over or
	// hands it back, goes by all of them: below 100%, a candidate whose bake is over waits at 100 until they are ready, with its gates armed
	// and for as long as that takes, and a person may promote it all the same.
	// +kubebuilder:default="100%"
	// +kubebuilder:validation:XValidation:rule="double(self.replace('%', '')) > 0.0",message="a readyThreshold must be above 0%, such as 80%"
	// +optional
	ReadyThreshold Percent `json:"readyThreshold,omitempty"`

	// deadline is how long a candidate may wait for its pods, in all. Time spent paused or waiting for evidence does not count,
	// unless somebody has sent it on meanwhile.
	// +kubebuilder:default="10m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]{1,5}(\.[0-9]{1,9})?(ms|s|m|h))+$`
	// +kubebuilder:validation:MaxLength=32
	// +optional
	Deadline *metav1.Duration `json:"deadline,omitempty"`

	// bake is how long a candidate at 100 stays watched, with the stable version behind it: at full strength, or as capacity says.
	// +kubebuilder:default="10m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]{1,5}(\.[0-9]{1,9})?(ms|s|m|h))+$`
	// +kubebuilder:validation:MaxLength=32
	// +optional
	Bake *metav1.Duration `json:"bake,omitempty"`

	// keepRejected is how long the pods of a candidate that was refused stay for people to look at, with no traffic of the service's: at their own
	// Service too, where previews are asked for. They go at once when the next candidate starts, when somebody retries, hands the service back or
	// scales that version's Deployment to 0, and when a time that was shortened is over. One that something routes around Sluice to
	// (RouteBypassed), or that was cancelled or superseded, is not kept. One of which nobody has seen that nothing routes around, because it was
	// refused before that, or skipAnalysis or a person sent it past that, is kept only for as long as none of its pods is ready.
	// +kubebuilder:default="0s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]{1,5}(\.[0-9]{1,9})?(ms|s|m|h))+$`
	// +kubebuilder:validation:MaxLength=32
	// +optional
	KeepRejected *metav1.Duration `json:"keepRejected,omitempty"`

	// paused keeps the weights where they are. A bad candidate is still taken back.
	// +optional
	Paused bool `json:"paused,omitempty"`

	// actions are what a person asks of the shift, each once for each value: see docs/control.md.
	// +optional
	Actions *Actions `json:"actions,omitempty"`

	// abTest says which users are the group of strategy ab-test, and how the test ends.
	// +optional
	ABTest *ABTest `json:"abTest,omitempty"`

	// session keeps each user on the version that answered first, while a candidate is on its way.
	// +optional
	Session *Session `json:"session,omitempty"`

	// preview gives every live version an address of its own, which no user's traffic comes to: a Service named as its Deployment. It
	// is always there with strategy blue-green. status.previews has the addresses.
	// +optional
	Preview *Preview `json:"preview,omitempty"`

	// routing is how requests are routed, beyond the weights.
	// +optional
	Routing *Routing `json:"routing,omitempty"`

	// trafficPolicy is Istio's own DestinationRule trafficPolicy, carried over as written.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	// +optional
	TrafficPolicy *apiextensionsv1.JSON `json:"trafficPolicy,omitempty"`
}

// Pacing is how the weights of a candidate are chosen.
//
// +kubebuilder:validation:Enum=auto;ladder
type Pacing string

// The pacings.
const (
	PacingAuto   Pacing = "auto"
	PacingLadder Pacing = "ladder"
)

// Reporter is whose telemetry is counted.
//
// +kubebuilder:validation:Enum=auto;source;destination;waypoint
type Reporter string

// The reporters.
const (
	ReporterAuto        Reporter = "auto"
	ReporterSource      Reporter = "source"
	ReporterDestination Reporter = "destination"
	ReporterWaypoint    Reporter = "waypoint"
)

// LatencyLimit says that a percentile of the response times stays below a bound.
type LatencyLimit struct {
	// percentile is the share of the requests that must be faster, such as "99" or "99.9".
	// +kubebuilder:validation:Pattern=`^[1-9][0-9]?(\.[0-9]{1,2})?$`
	Percentile string `json:"percentile"`
	// below is the bound. Evidence is counted at the nearest bucket bound of the mesh's histogram that is not below it.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Pattern=`^([0-9]{1,5}(\.[0-9]{1,9})?(ms|s|m|h))+$`
	// +kubebuilder:validation:MaxLength=32
	Below metav1.Duration `json:"below"`
}
