package analysis

import (
	"flag"
	"math"
	"testing"
	"time"
)

// runs is how many hours each null is lived through. The default keeps the package quick; the table in the documentation takes more.
var runs = flag.Int("runs", 120, "runs of each calibration")

// rates are what the two versions truly do in one block.
type rates struct{ stable, candidate, slowStable, slowCandidate float64 }

// hypothesis is a truth on the edge of what the gate must not convict (or must not promote), and a service that it is lived through on.
type hypothesis struct {
	name   string
	limits Limits
	rps    float64
	// seeded is whether the hour before was seen; the stable version lives through it as it does afterwards.
	seeded bool
	// weight and rates may depend on everything before the block; nil is 20% always. span is how many scrapes the block takes; nil is 1.
	weight func(logE float64) float64
	rates  func(d dice) rates
	span   func(d dice) int
	// measured is where nothing is asserted: what the level assumes does not hold, and the test shows what that costs.
	measured bool
}

// outcome is in how many runs the evidence of harm ever reached 1/0.05 and 1/0.001, and in how many the candidate ever
// passed the comparison with stable in errors and in latency.
type outcome struct{ suspected, convicted, promoted, notSlower int }

// live is one hour, looked at after every block.
func (h hypothesis) live(seed, run int) outcome {
	d := newDice(seed, run)
	var m Memory
	if h.seeded {
		for range hour {
			r := h.rates(d)
			m = m.Watch(tick(Counts{}, d.requests(h.rps*scrape.Seconds(), r.stable, r.slowStable)), h.limits)
		}
	}
	var o outcome
	logE := 0.0
	for i := 0; i < hour; {
		weight, span := h.limits.Weight, 1
		if h.weight != nil {
			weight = h.weight(logE)
		}
		if h.span != nil {
			span = h.span(d)
		}
		i += span
		r, took := h.rates(d), time.Duration(span)*scrape
		flow := h.rps * took.Seconds()
		if h.limits.Alone {
			weight = 1
		}
		m = m.Count(lasting(took, d.requests(flow*weight, r.candidate, r.slowCandidate), d.requests(flow*(1-weight), r.stable, r.slowStable)), h.limits)
		s := stateOf(m)
		logE = s.harm(h.limits).LogHarm
		if logE >= math.Log(20) {
			o.suspected = 1
		}
		proven := m.Errors.proof() >= logProof && o.promoted == 0 || m.Slow.proof() >= logProof && o.notSlower == 0
		if logE < logAlpha && !proven {
			continue // Judge writes sentences: it is asked where it matters
		}
		for _, v := range Judge(s, h.limits) {
			switch {
			case v.Outcome == Pass && v.Gate == GateErrorRateVsStable:
				o.promoted = 1
			case v.Outcome == Pass && v.Gate == GateLatencyVsStable:
				o.notSlower = 1
			case v.Outcome == Fail:
				o.convicted = 1
			}
		}
	}
	return o
}

// measure lives through all runs.
func (h hypothesis) measure(seed int) (sum outcome) {
	for run := range *runs {
		o := h.live(seed, run)
		sum.suspected += o.suspected
		sum.convicted += o.convicted
		sum.promoted += o.promoted
		sum.notSlower += o.notSlower
	}
	return sum
}

// most is how many of n runs a level may hit: more has a probability of 0.1% where the level holds.
func most(n int, level float64) int { return int(quantile(0.999, int64(n), level)) }

// line is the largest rate that is no harm.
func line(stable float64) float64 { return (1+relativeMargin)*stable + errorMargin }

// onTheLine is the null of harm at its boundary: the candidate fails a quarter more than stable and 0.1 points. Latency keeps its
// own: a quarter more and half a point.
func onTheLine(stable float64) rates {
	const slow = 0.01
	return rates{stable, line(stable), slow, (1+relativeMargin)*slow + slowMargin}
}

func always(r rates) func(dice) rates { return func(dice) rates { return r } }

// bursting multiplies each version's rate with a gamma variable of its own in each block. The mean lies on the line.
func bursting(r rates, cv2 float64) func(dice) rates {
	return func(d dice) rates {
		burst := r
		burst.stable, burst.candidate = min(r.stable*d.gamma(cv2), 1), min(r.candidate*d.gamma(cv2), 1)
		return burst
	}
}

func calibrations() []hypothesis {
	fixed := always(onTheLine(0.001))
	adversary := func(logE float64) float64 {
		switch {
		case logE < 0:
			return 0.01
		case logE < 1:
			return 0.2
		}
		return 0.8
	}
	jumping := func(d dice) rates { return onTheLine(0.0005 * math.Pow(600, d.uniform())) } // 0.05% to 30%
	anyLimit := defaults()
	anyLimit.MaxErrorRate = 1 // the null of the absolute limit must hold too
	alone := defaults()
	alone.Alone = true
	twoAtOnce := func(d dice) int { return 1 + int(2*d.uniform()) }
	return []hypothesis{
		// Null: the candidate fails exactly 1.25 times what stable does and 0.1 points, and less than the limit of 1%.
		{name: "HarmAtAFixedWeight", limits: defaults(), rps: 100, seeded: true, rates: fixed},
		{name: "HarmOfAServiceNeverSeen", limits: defaults(), rps: 100, rates: fixed},
		{name: "HarmAtLittleTraffic", limits: defaults(), rps: 5, seeded: true, rates: fixed},
		// The same, at the limit as well: 1.25 * 0.72% + 0.1% = 1%.
		{name: "HarmOnBothLines", limits: defaults(), rps: 100, seeded: true, rates: always(onTheLine(0.0072))},
		// The same null; the next weight is chosen from the evidence so far, so as to push it on where it is high.
		{name: "HarmAtAnAdversarialWeight", limits: defaults(), rps: 100, seeded: true, rates: fixed, weight: adversary},
		// The same null in each block, whatever stable does in it.
		{name: "HarmWhereStableJumps", limits: anyLimit, rps: 100, seeded: true, rates: jumping, weight: adversary},
		// The same null; every other look is missed, so that two scrapes are one block.
		{name: "HarmWithMissedLooks", limits: defaults(), rps: 100, seeded: true, rates: fixed, span: twoAtOnce},
		// The same null on average alone: both versions burst, each on its own. What tempering is for.
		{name: "HarmInBursts", limits: defaults(), rps: 100, seeded: true, rates: bursting(onTheLine(0.001), 1)},
		{name: "HarmInBurstsAtMuchTraffic", limits: defaults(), rps: 1000, seeded: true, rates: bursting(onTheLine(0.001), 1)},
		// Bursts that were not seen before: tempering learns of them too late. At so much traffic the level is exceeded.
		{name: "HarmInBurstsNeverSeen", limits: defaults(), rps: 1000, rates: bursting(onTheLine(0.001), 1), measured: true},
		// Bursts so large that tempering by 50 is not enough.
		{name: "HarmInBurstsBeyondTempering", limits: defaults(), rps: 1000, seeded: true, rates: bursting(onTheLine(0.005), 2), measured: true},
		// Null: both versions fail alike, in bursts.
		{name: "EqualInBurstsNeverSeen", limits: defaults(), rps: 1000, rates: bursting(rates{stable: 0.001, candidate: 0.001}, 1)},
		// Null: with all of the traffic, the candidate fails exactly the limit.
		{name: "AloneAtTheLimit", limits: alone, rps: 100, seeded: true, rates: always(rates{stable: 0.001, candidate: 0.01})},
		{name: "AloneAtTheLimitAtMuchTraffic", limits: alone, rps: 1000, seeded: true, rates: always(rates{stable: 0.001, candidate: 0.01})},
		// Null: errors and slow requests both lie on their lines: 1.25 * 1% + 0.5% of the requests are slow.
		{name: "HarmOfErrorsAndLatency", limits: timed(), rps: 100, seeded: true, rates: fixed},
	}
}

func TestAHarmlessCandidateIsConvictedNoMoreOftenThanPromised(t *testing.T) {
	for i, h := range calibrations() {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			o := h.measure(i)
			t.Logf("1/0.05 in %.2f%%, 1/0.001 in %.3f%% of %d hours", percentOf(o.suspected), percentOf(o.convicted), *runs)
			if h.measured {
				return
			}
			if bound := most(*runs, 0.05); o.suspected > bound {
				t.Errorf("the evidence reached 20 in %d of %d hours, at most %d are due to a level of 5%%", o.suspected, *runs, bound)
			}
			if bound := most(*runs, alpha); o.convicted > bound {
				t.Errorf("%d of %d hours ended in a conviction, at most %d are due to a level of %v", o.convicted, *runs, bound, alpha)
			}
		})
	}
}

func percentOf(hits int) float64 { return 100 * float64(hits) / float64(*runs) }

func TestAWorseCandidateIsPromotedNoMoreOftenThanPromised(t *testing.T) {
	tooSlow := rates{stable: 0.001, candidate: 0.001, slowStable: 0.01, slowCandidate: 0.01 + slowIncrease}
	tooMany := func(stable float64) func(dice) rates { return always(rates{stable: stable, candidate: stable + 0.005}) }
	half := defaults()
	half.Weight = 0.5
	adversary := func(logE float64) float64 { return []float64{0.05, 0.5}[int(min(max(1-logE, 0), 1))] }
	for i, h := range []hypothesis{
		// Null: the candidate fails 0.5 points more than stable, which is maxIncrease.
		{name: "AtLittleTraffic", limits: half, rps: 10, seeded: true, rates: tooMany(0.001)},
		{name: "AtSomeTraffic", limits: half, rps: 100, seeded: true, rates: tooMany(0.001)},
		{name: "AtAFifth", limits: defaults(), rps: 100, seeded: true, rates: tooMany(0.001)},
		{name: "NeverSeen", limits: defaults(), rps: 30, rates: tooMany(0.001)},
		{name: "AtAHighRate", limits: half, rps: 100, seeded: true, rates: tooMany(0.004)},
		{name: "AtAnAdversarialWeight", limits: half, rps: 30, seeded: true, rates: tooMany(0.001), weight: adversary},
		// The same null on average alone: both versions burst, each on its own.
		{name: "InBursts", limits: half, rps: 100, seeded: true, rates: bursting(rates{stable: 0.001, candidate: 0.006}, 1)},
		// So little is seen of these bursts that they pass for chance.
		{name: "InBurstsAtLittleTraffic", limits: half, rps: 10, seeded: true, rates: bursting(rates{stable: 0.001, candidate: 0.006}, 1), measured: true},
		{name: "InBurstsAtMuchTraffic", limits: half, rps: 1000, seeded: true, rates: bursting(rates{stable: 0.001, candidate: 0.006}, 1)},
		{name: "InSmallBursts", limits: half, rps: 100, seeded: true, rates: bursting(rates{stable: 0.001, candidate: 0.006}, 0.25)},
		// Null: two points more of the requests are slow.
		{name: "TooSlow", limits: timed(), rps: 30, seeded: true, rates: always(tooSlow)},
	} {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			o := h.measure(100 + i)
			hits := o.promoted
			if h.limits.MaxSlowRate >= 0 {
				hits = o.notSlower
			}
			t.Logf("passed in %.2f%% of %d hours", percentOf(hits), *runs)
			if bound := most(*runs, beta); !h.measured && hits > bound {
				t.Errorf("passed in %d of %d hours, at most %d are due to a level of %v", hits, *runs, bound, beta)
			}
		})
	}
}
