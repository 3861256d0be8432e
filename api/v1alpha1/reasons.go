package v1alpha1

// Condition types of a TrafficShift. Ready is the summary; Reconciling and Stalled are kstatus' own and present only while true.
const (
	ConditionAccepted          = "Accepted"
	ConditionRouteVerified     = "RouteVerified"
	ConditionEvidenceAvailable = "EvidenceAvailable"
	ConditionProgressing       = "Progressing"
	ConditionReady             = "Ready"
	ConditionReconciling       = "Reconciling"
	ConditionStalled           = "Stalled"
	// ConditionReplicasContested is true while something keeps scaling the held template up.
	ConditionReplicasContested = "ReplicasContested"
)

// Reasons of decisions: where a shift stands, or why it waits.
const (
	ReasonAdopting            = "Adopting"
	ReasonWaitingForRollout   = "WaitingForRollout"
	ReasonStable              = "Stable"
	ReasonWaitingForPods      = "WaitingForPods"
	ReasonSettling            = "Settling"
	ReasonProvingIsolation    = "ProvingIsolation"
	ReasonRaising             = "Raising"
	ReasonVerifyingRoute      = "VerifyingRoute"
	ReasonHolding             = "Holding"
	ReasonNoTraffic           = "NoTraffic"
	ReasonTooFewRequests      = "TooFewRequests"
	ReasonNoEvidence          = "NoEvidence"
	ReasonInconclusive        = "Inconclusive"
	ReasonSuspicionOfHarm     = "SuspicionOfHarm"
	ReasonStableFailing       = "StableFailing"
	ReasonWaitingForApproval  = "WaitingForApproval"
	ReasonGateNotAsked        = "GateNotAsked"
	ReasonGatePassed          = "GatePassed"
	ReasonGateFailing         = "GateFailing"
	ReasonGateInconclusive    = "GateInconclusive"
	ReasonPaused              = "Paused"
	ReasonSuspended           = "Suspended"
	ReasonBaking              = "Baking"
	ReasonPromoted            = "Promoted"
	ReasonSuperseded          = "Superseded"
	ReasonCancelled           = "Cancelled"
	ReasonRejected            = "Rejected"
	ReasonDetaching           = "Detaching"
	ReasonDetached            = "Detached"
	ReasonTemplateNotStable   = "TemplateNotStable"
	ReasonStableUnavailable   = "StableUnavailable"
	ReasonCandidateCapacity   = "CandidateCapacity"
	ReasonFailuresWithoutHost = "FailuresWithoutHost"
	ReasonReplicasContested   = "ReplicasContested"
	ReasonScalingDown         = "ScalingDown"
	ReasonAtRest              = "AtRest"
	ReasonVerified            = "Verified"
	ReasonCounting            = "Counting"
	ReasonShiftStarted        = "ShiftStarted"
	ReasonWeightRaised        = "WeightRaised"
	ReasonAdopted             = "Adopted"
	ReasonShown               = "Shown"
	ReasonAnalysisSkipped     = "AnalysisSkipped"
	ReasonActionTaken         = "ActionTaken"
	ReasonActionRefused       = "ActionRefused"
	ReasonGatesSkipped        = "GatesSkipped"
	ReasonUndoing             = "Undoing"
)

// Reasons that there is no evidence for, beside NoEvidence and NoTraffic: what condition EvidenceAvailable says.
const (
	ReasonPrometheusUnreachable  = "PrometheusUnreachable"
	ReasonPrometheusRefused      = "PrometheusRefused"
	ReasonEvidenceStale          = "EvidenceStale"
	ReasonTelemetryMissing       = "TelemetryMissing"
	ReasonTelemetryLabelsMissing = "TelemetryLabelsMissing"
)

// Reasons of advice: a TrafficShift is accepted all the same, and its owner had better know.
const (
	ReasonAcceptedWithAdvice = "AcceptedWithAdvice"
	ReasonHostPorts          = "HostPorts"
	ReasonAntiAffinity       = "AntiAffinity"
	ReasonSidecarNotNeeded   = "SidecarNotNeeded"
	ReasonRoutedPast         = "RoutedPast"
	ReasonVersionSelected    = "VersionSelected"
)

// Reasons a candidate is taken back for.
const (
	ReasonErrorRate         = "ErrorRateExceeded"
	ReasonErrorRateVsStable = "ErrorRateAboveStable"
	ReasonLatency           = "LatencyExceeded"
	ReasonLatencyVsStable   = "LatencyAboveStable"
	ReasonGateFailed        = "GateFailed"
	ReasonCandidateUnstable = "CandidateUnstable"
	ReasonNotReadyInTime    = "NotReadyInTime"
	ReasonRouteBypassed     = "RouteBypassed"
	ReasonNoHealthyUpstream = "NoHealthyUpstream"
	ReasonWeightLowered     = "WeightLowered"
	ReasonAborted           = "Aborted"
	ReasonPauseTimedOut     = "PauseTimedOut"
)

// Reasons a TrafficShift is not accepted for: what stands in the way before any traffic is touched.
const (
	ReasonAccepted                  = "Accepted"
	ReasonInvalidAnnotation         = "InvalidAnnotation"
	ReasonUnknownAnnotation         = "UnknownAnnotation"
	ReasonAnnotationsIgnored        = "AnnotationsIgnored"
	ReasonInvalidSpec               = "InvalidSpec"
	ReasonDeploymentNotFound        = "DeploymentNotFound"
	ReasonServiceAmbiguous          = "ServiceAmbiguous"
	ReasonServiceUnsupported        = "ServiceUnsupported"
	ReasonServiceSelectsVersion     = "ServiceSelectsVersion"
	ReasonTemplateSetsVersion       = "TemplateSetsVersion"
	ReasonVirtualServiceUnfit       = "VirtualServiceUnfit"
	ReasonHostClaimed               = "HostClaimed"
	ReasonDuplicateTLSHost          = "DuplicateTLSHost"
	ReasonHostNotAllowed            = "HostNotAllowed"
	ReasonGatewayNotAllowed         = "GatewayNotAllowed"
	ReasonAutoscalerTargetsTemplate = "AutoscalerTargetsTemplate"
	ReasonConfigTrackingOff         = "ConfigTrackingOff"
	ReasonNameTaken                 = "NameTaken"
	ReasonNameUnsupported           = "NameUnsupported"
	ReasonSelectorSelectsVersion    = "SelectorSelectsVersion"
	ReasonPortUnsupported           = "PortUnsupported"
	ReasonPortNamesDiffer           = "PortNamesDiffer"
	ReasonNamespaceNotInMesh        = "NamespaceNotInMesh"
	ReasonNoSidecar                 = "NoSidecar"
	ReasonAmbientWithoutWaypoint    = "AmbientWithoutWaypoint"
	ReasonGatewayNotFound           = "GatewayNotFound"
	ReasonGatewayWithoutHost        = "GatewayWithoutHost"
	ReasonGatewaySelectsNothing     = "GatewaySelectsNothing"
	ReasonQuotaExceeded             = "QuotaExceeded"
	ReasonVolumeNotShareable        = "VolumeNotShareable"
)
