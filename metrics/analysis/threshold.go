package analysis

import (
	"fmt"
	"math"
)

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
	ReasonEnoughRequests    = "EnoughRequests"
	ReasonAllPass           = "AllGatesPass"
	ReasonNoTraffic         = "NoTraffic"
	ReasonTooFewRequests    = "TooFewRequests"
	ReasonAboveLimit        = "AboveLimit"
	ReasonStableBreaksLimit = "StableBreaksLimit"
	ReasonNoStableTraffic   = "NoStableTraffic"
	ReasonReportersDisagree = "ReportersDisagree"
	ReasonInvalidEvidence   = "InvalidEvidence"
	ReasonInvalidLimits     = "InvalidLimits"
	ReasonNoVerdict         = "NoVerdict"
)

const (
	// DefaultMargin is how far above stable's error rate a candidate may lie: half a point. It is the usual Limits.Margin.
	DefaultMargin = 0.005
	// LatencyMargin is the same for the share of slow requests: two points.
	LatencyMargin = 0.02

	// chance is what counts as no longer chance: a candidate that lies exactly on its limit is failed by one look with less
	// than this probability.
	chance = 0.001
	// leastErrors is how many failures it takes to fail a candidate: one failed request convicts nobody, however low the limit.
	leastErrors = 2
	// stableConfidence is how surely stable's true rate lies below the reading that a candidate is failed by.
	stableConfidence = 0.95
)

// Threshold is the plain gate: counts against fixed limits, each with an exact binomial test.
//
// A gate fails a candidate only where its failures cannot be chance under the limit: P(X >= k | n, limit) < 0.001 and k >= 2.
// That is asked from the first requests on, so that a plainly bad version is convicted within a handful of them. A gate passes
// where at least MinRequests were seen and their rate is within the limit. Everything else is Inconclusive.
//
// Slow requests are counted whatever their status: a version that is slow to fail is slow. The 0.001 is for each look, not for
// the whole of a shift.
type Threshold struct{}

var _ Gate = Threshold{}

// Judge returns one verdict for each gate that the limits ask for. Evidence or limits that make no sense (negative counts, more
// errors than requests, NaN) leave every gate Inconclusive.
func (Threshold) Judge(s State, l Limits) []Verdict {
	gates := []struct {
		name  string
		asked bool
		judge func(State, Limits) Verdict
	}{
		{GateRequests, true, requests},
		{GateErrorRate, true, errorRate},
		{GateErrorRateVsStable, !l.Alone, errorRateVsStable},
		{GateLatency, !(l.MaxSlowRate < 0), latency}, // a NaN limit is asked about, and found invalid
		{GateLatencyVsStable, !(l.MaxSlowRate < 0) && !l.Alone, latencyVsStable},
	}
	reason, message := invalid(s, l)
	var verdicts []Verdict
	for _, g := range gates {
		if !g.asked {
			continue
		}
		v := Verdict{Outcome: Inconclusive, Reason: reason, Message: message}
		if reason == "" {
			v = g.judge(s, l)
		}
		v.Gate = g.name
		verdicts = append(verdicts, v)
	}
	return verdicts
}

// invalid says what about the evidence or the limits makes no sense; both are empty where all does.
func invalid(s State, l Limits) (reason, message string) {
	for _, c := range []struct {
		who string
		Counts
	}{{"candidate", s.Candidate}, {"stable", s.Stable}, {"the other reporter", s.Cross}} {
		if c.Errors < 0 || c.Errors > c.Requests || c.Slow < 0 || c.Slow > c.Timed {
			return ReasonInvalidEvidence, fmt.Sprintf("the counts of %s make no sense: %d errors of %d requests, %d slow of %d timed",
				c.who, c.Errors, c.Requests, c.Slow, c.Timed)
		}
	}
	switch {
	case s.Samples < 0 || s.NoHost < 0:
		return ReasonInvalidEvidence, fmt.Sprintf("the counts make no sense: %d samples, %d failures without a host", s.Samples, s.NoHost)
	case !isRate(l.MaxErrorRate) || !isRate(l.Margin) || math.IsNaN(l.MaxSlowRate) || l.MaxSlowRate > 1 || l.MinRequests < 0:
		return ReasonInvalidLimits, fmt.Sprintf("the limits make no sense: error rate %v, margin %v, slow rate %v, %d requests",
			l.MaxErrorRate, l.Margin, l.MaxSlowRate, l.MinRequests)
	}
	return "", ""
}

// requests asks whether the candidate was seen often enough.
func requests(s State, l Limits) Verdict {
	n, least := s.Candidate.Requests, leastRequests(l)
	v := Verdict{Outcome: Inconclusive, Value: float64(n), Limit: float64(least), Message: fmt.Sprintf("%d of %d requests", n, least)}
	switch {
	case n == 0:
		v.Reason, v.Message = ReasonNoTraffic, fmt.Sprintf("no requests yet, %d needed", least)
	case n < least:
		v.Reason = ReasonTooFewRequests
	default:
		v.Outcome, v.Reason = Pass, ReasonEnoughRequests
	}
	return v
}

// leastRequests is how many requests it takes to pass: never none.
func leastRequests(l Limits) int64 { return max(l.MinRequests, 1) }

// errorRate asks whether the candidate's errors are within the absolute limit. Where the other reporter's counts break a limit
// that this one's keep, one of the two is wrong, and nothing passes on the word of either.
func errorRate(s State, l Limits) Verdict {
	t := failures(s.Candidate, s.Stable)
	v := t.absolute(l.MaxErrorRate, l)
	if cross := failures(s.Cross, Counts{}).candidate; v.Outcome == Pass && cross.cannotBe(l.MaxErrorRate) {
		v.Outcome, v.Reason = Inconclusive, ReasonReportersDisagree
		v.Message = fmt.Sprintf("the reporters disagree: %s, but the other reporter counts %s, limit %s",
			t.sentence(), cross, percent(l.MaxErrorRate))
	}
	return v
}

// errorRateVsStable asks whether the candidate's errors are within stable's and a margin.
func errorRateVsStable(s State, l Limits) Verdict {
	return failures(s.Candidate, s.Stable).relative(l.Margin, l)
}

// latency asks whether the candidate's slow requests are within the absolute limit.
func latency(s State, l Limits) Verdict {
	return slowness(s.Candidate, s.Stable).absolute(l.MaxSlowRate, l)
}

// latencyVsStable asks whether the candidate's slow requests are within stable's and a margin.
func latencyVsStable(s State, l Limits) Verdict {
	return slowness(s.Candidate, s.Stable).relative(LatencyMargin, l)
}

// Overall is the verdict of all gates together: the first Fail, else the first that is not Pass, else Pass. No verdicts, and
// outcomes that are none, are Inconclusive.
func Overall(verdicts []Verdict) Verdict {
	if len(verdicts) == 0 {
		return Verdict{Outcome: Inconclusive, Reason: ReasonNoVerdict, Message: "no gate was asked"}
	}
	for _, v := range verdicts {
		if v.Outcome == Fail {
			return v
		}
	}
	for _, v := range verdicts {
		if v.Outcome != Pass {
			v.Outcome = Inconclusive
			return v
		}
	}
	return Verdict{Outcome: Pass, Reason: ReasonAllPass, Message: fmt.Sprintf("all %d gates pass", len(verdicts))}
}
