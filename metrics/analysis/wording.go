package analysis

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// evidence is k of n, in words.
type evidence struct {
	k, n int64
	// verb and noun make the sentence: "failed 8 of 200 requests", "was slow in 8 of 200 timed requests".
	verb, noun string
}

func (e evidence) rate() float64 { return ratio(e.k, e.n) }

// cannotBe says whether so many cannot be chance at one look where the true rate is p or less.
func (e evidence) cannotBe(p float64) bool {
	return e.k >= leastErrors && tail(e.k, e.n, p) < chance
}

// String is the evidence as a fraction: "8 of 200 requests (4.0%)".
func (e evidence) String() string {
	return fmt.Sprintf("%d of %d %s (%s)", e.k, e.n, e.noun, percent(e.rate()))
}

// interval is the rate with its interval, in percent: "4.0% [0.9, 10.6]". Both ends have the decimals that the lower takes to be more
// than nothing.
func (e evidence) interval() string {
	lower, upper := Interval(e.k, e.n, 1-displayed)
	least := lower
	if least == 0 {
		least = upper
	}
	places := max(decimals(100*least, 1), 1)
	return fmt.Sprintf("%s [%.*f, %.*f]", percent(e.rate()), places, 100*lower, places, 100*upper)
}

// comparison is one question put to the two versions: which share of their requests failed, or was slow.
type comparison struct{ candidate, stable evidence }

func failures(candidate, stable Counts) comparison {
	of := func(c Counts) evidence { return evidence{c.Errors, c.Requests, "failed", "requests"} }
	return comparison{of(candidate), of(stable)}
}

func slowness(candidate, stable Counts) comparison {
	of := func(c Counts) evidence { return evidence{c.Slow, c.Timed, "was slow in", "timed requests"} }
	return comparison{of(candidate), of(stable)}
}

// sentence says what both did: "candidate failed 8 of 200 requests (4.0%), stable 7 of 3800 requests (0.2%)".
func (c comparison) sentence() string {
	text := fmt.Sprintf("candidate %s %s", c.candidate.verb, c.candidate)
	if c.stable.n > 0 {
		text += fmt.Sprintf(", stable %s", c.stable)
	}
	return text
}

// withIntervals says it with intervals: "candidate failed 8 of 200 requests, 4.0% [0.9, 10.6] vs stable 0.2% [0.03, 0.59]".
func (c comparison) withIntervals() string {
	e := c.candidate
	text := fmt.Sprintf("candidate %s %d of %d %s, %s", e.verb, e.k, e.n, e.noun, e.interval())
	if c.stable.n > 0 {
		text += " vs stable " + c.stable.interval()
	}
	return text
}

// verdict is a verdict on this comparison.
func (c comparison) verdict(p part, o Outcome, reason, format string, args ...any) Verdict {
	limit := p.question.limit
	if p.relative {
		limit = min(c.stable.rate()+p.question.increase, 1)
	}
	return Verdict{Outcome: o, Reason: reason, Message: fmt.Sprintf(format, args...), Value: c.candidate.rate(), Limit: limit}
}

// Number writes the value or the limit of a verdict for people: rates in percent, and nothing where there is no number.
func (v Verdict) Number(n float64) string {
	compared := v.Reason != ReasonInvalidEvidence && v.Reason != ReasonInvalidLimits
	if !compared || math.IsNaN(n) || math.IsInf(n, 0) {
		return ""
	}
	switch v.Gate {
	case GateErrorRate, GateErrorRateVsStable, GateLatency, GateLatencyVsStable:
		return percent(n)
	case GateRequests:
		return strconv.FormatFloat(n, 'f', 0, 64)
	}
	return strconv.FormatFloat(n, 'g', 6, 64)
}

// percent writes a rate for people: one decimal, and two significant digits where that would round to nothing.
func percent(rate float64) string { return points(rate) + "%" }

// points writes a rate in percentage points: "4.0", "0.03".
func points(rate float64) string {
	p, places := rate*100, 1
	if p > 0 && p < 0.095 {
		places = decimals(p, 2)
	}
	return strconv.FormatFloat(p, 'f', places, 64)
}

// decimals is how many decimals a number below 1 takes to show so many significant digits.
func decimals(v float64, digits int) int { return min(digits-1-int(math.Floor(math.Log10(v))), 10) }

// odds writes an e-value: "4,500", rounded down to two digits so that no figure is claimed that was not reached.
func odds(logE float64) string {
	const precision = 1e-9 // exp(log(1000)) is a little less than 1000
	e := math.Exp(min(logE, math.Log(1e15))) * (1 + precision)
	if e < 1 {
		return "1"
	}
	unit := math.Pow(10, max(math.Floor(math.Log10(e))-1, 0))
	return thousands(int64(math.Floor(e/unit) * unit))
}

// thousands writes a whole number with commas.
func thousands(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// lasts writes a time that is only guessed at: "40s", "12m", "3h", "2 days".
func lasts(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return strconv.Itoa(int(math.Ceil(d.Seconds()))) + "s"
	case d < 2*time.Hour:
		return strconv.Itoa(int(math.Ceil(d.Minutes()))) + "m"
	case d < 48*time.Hour:
		return strconv.Itoa(int(math.Ceil(d.Hours()))) + "h"
	}
	return strconv.Itoa(int(math.Ceil(d.Hours()/24))) + " days"
}
