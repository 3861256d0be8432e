package analysis

import (
	"fmt"
	"math"
	"strconv"
)

// evidence is k of n, in words.
type evidence struct {
	k, n int64
	// verb and noun make the sentence: "failed 8 of 200 requests", "was slow in 8 of 200 requests".
	verb, noun string
}

func (e evidence) rate() float64 { return ratio(e.k, e.n) }

// cannotBe says whether so many cannot be chance where the true rate is p or less.
func (e evidence) cannotBe(p float64) bool {
	return e.k >= leastErrors && tail(e.k, e.n, p) < chance
}

// String is the evidence as a fraction: "8 of 200 requests (4.0%)".
func (e evidence) String() string {
	return fmt.Sprintf("%d of %d %s (%s)", e.k, e.n, e.noun, percent(e.rate()))
}

// comparison is one question put to the two versions: which share of their requests failed, or was slow.
type comparison struct {
	candidate, stable evidence
	// why and whyStable are the reasons to fail a candidate against the absolute limit and against stable.
	why, whyStable string
}

func failures(candidate, stable Counts) comparison {
	of := func(c Counts) evidence { return evidence{c.Errors, c.Requests, "failed", "requests"} }
	return comparison{of(candidate), of(stable), ReasonErrorRate, ReasonErrorRateVsStable}
}

func slowness(candidate, stable Counts) comparison {
	of := func(c Counts) evidence { return evidence{c.Slow, c.Timed, "was slow in", "timed requests"} }
	return comparison{of(candidate), of(stable), ReasonLatency, ReasonLatencyVsStable}
}

// sentence says what the candidate did: "candidate failed 8 of 200 requests (4.0%)".
func (c comparison) sentence() string {
	return fmt.Sprintf("candidate %s %s", c.candidate.verb, c.candidate)
}

// absolute holds the candidate against limit. Where stable breaks the same limit the fault is shared, and the candidate is not
// failed for it: the comparison with stable tells whether it is worse.
func (c comparison) absolute(limit float64, l Limits) Verdict {
	if c.candidate.n == 0 {
		return c.noTraffic(limit)
	}
	v := c.judge(limit, limit, l)
	v.Message = fmt.Sprintf("%s, limit %s%s", c.sentence(), percent(limit), v.Message)
	if v.Outcome == Fail {
		v.Reason = c.why
		if !l.Alone && c.stable.rate() > limit {
			v.Outcome, v.Reason = Inconclusive, ReasonStableBreaksLimit
			v.Message += fmt.Sprintf("; stable breaks it too: %s", c.stable)
		}
	}
	return v
}

// relative holds the candidate against stable's rate and a margin. Stable's rate is itself a reading. To fail the candidate,
// the upper end of what it may be is taken (Clopper-Pearson, 95%), so that little stable traffic convicts nobody; to pass it,
// the reading as it stands, so that little stable traffic excuses nobody.
func (c comparison) relative(margin float64, l Limits) Verdict {
	limit := min(c.stable.rate()+margin, 1)
	if c.candidate.n == 0 {
		return c.noTraffic(limit)
	}
	if c.stable.n == 0 {
		return Verdict{Outcome: Inconclusive, Reason: ReasonNoStableTraffic, Value: c.candidate.rate(), Limit: limit,
			Message: fmt.Sprintf("%s, and stable has none to compare with", c.sentence())}
	}
	v := c.judge(min(UpperBound(c.stable.k, c.stable.n, stableConfidence)+margin, 1), limit, l)
	v.Message = fmt.Sprintf("%s, stable %s, limit %s%s", c.sentence(), c.stable, percent(limit), v.Message)
	if v.Outcome == Fail {
		v.Reason = c.whyStable
	}
	return v
}

// judge is the test that every gate shares: fail above what failLimit explains, pass within passLimit. The message is what is
// to be added to the sentence.
func (c comparison) judge(failLimit, passLimit float64, l Limits) Verdict {
	e, least := c.candidate, leastRequests(l)
	v := Verdict{Outcome: Inconclusive, Value: e.rate(), Limit: passLimit}
	switch {
	case e.cannotBe(failLimit):
		v.Outcome = Fail
	case e.n < least:
		v.Reason, v.Message = ReasonTooFewRequests, fmt.Sprintf(", after %d of %d requests", e.n, least)
	case e.rate() > passLimit:
		v.Reason, v.Message = ReasonAboveLimit, ": above it, but that may be chance"
	default:
		v.Outcome, v.Reason = Pass, ReasonWithinLimit
	}
	return v
}

// noTraffic is the verdict on a candidate that nobody asked anything yet.
func (c comparison) noTraffic(limit float64) Verdict {
	return Verdict{Outcome: Inconclusive, Reason: ReasonNoTraffic, Limit: limit, Message: fmt.Sprintf("no %s yet", c.candidate.noun)}
}

// percent writes a rate for people: one decimal, and two significant digits where that would round to nothing.
func percent(rate float64) string {
	p, decimals := rate*100, 1
	if p > 0 && p < 0.095 {
		decimals = min(1-int(math.Floor(math.Log10(p))), 10)
	}
	return strconv.FormatFloat(p, 'f', decimals, 64) + "%"
}
