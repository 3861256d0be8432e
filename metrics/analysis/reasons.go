package analysis

// The gates, in the order of their verdicts.
const (
	GateRequests          = "requests"
	GateErrorRate         = "error-rate"
	GateErrorRateVsStable = "error-rate-vs-stable"
	GateLatency           = "latency"
	GateLatencyVsStable   = "latency-vs-stable"
)

// The reasons of verdicts. Those of failures are the reasons that a TrafficShift gives for taking a candidate back.
const (
	ReasonErrorRate         = "ErrorRateExceeded"
	ReasonErrorRateVsStable = "ErrorRateAboveStable"
	ReasonLatency           = "LatencyExceeded"
	ReasonLatencyVsStable   = "LatencyAboveStable"

	ReasonWithinLimit       = "WithinLimit"
	ReasonNoWorse           = "NoWorseThanStable"
	ReasonEnoughRequests    = "EnoughRequests"
	ReasonAllPass           = "AllGatesPass"
	ReasonNoTraffic         = "NoTraffic"
	ReasonTooFewRequests    = "TooFewRequests"
	ReasonInsufficientData  = "InsufficientData"
	ReasonAboveLimit        = "AboveLimit"
	ReasonSuspicious        = "SuspicionOfHarm"
	ReasonStableFailing     = "StableFailing"
	ReasonStableBreaksLimit = "StableBreaksLimit"
	ReasonNoStableTraffic   = "NoStableTraffic"
	ReasonReportersDisagree = "ReportersDisagree"
	ReasonInvalidEvidence   = "InvalidEvidence"
	ReasonInvalidLimits     = "InvalidLimits"
	ReasonNoVerdict         = "NoVerdict"
)
