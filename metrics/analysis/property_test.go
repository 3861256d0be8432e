package analysis

import (
	"math"
	"testing"
	"time"

	"gonum.org/v1/gonum/stat/distuv"
	"pgregory.net/rapid"
)

// rate draws one from 0 to 1, small ones as often as large ones.
func rate(t *rapid.T, name string) float64 {
	return math.Pow(10, -rapid.Float64Range(0, 6).Draw(t, name))
}

// logMean is log E[L] where the rates truly are (s, c): L is a product over the requests, and each factor is linear in the rate.
func logMean(a, b, ns, nc, s, c float64, h null) float64 {
	x := h.nearest(a, b, ns, nc)
	y := h.boundary(x)
	return ns*math.Log1p((a-x)*(s/x-(1-s)/(1-x))) + nc*math.Log1p((b-y)*(c/y-(1-c)/(1-y)))
}

func TestMeanOfLIsAtMostOneWhereThereIsNoHarm(t *testing.T) {
	h := null{1 + relativeMargin, errorMargin}
	rapid.Check(t, func(t *rapid.T) {
		a := min(max(rate(t, "a"), 1e-5), 0.5)
		ns, nc := float64(rapid.Int64Range(1, 100_000).Draw(t, "ns")), float64(rapid.Int64Range(1, 100_000).Draw(t, "nc"))
		s := rate(t, "stable")
		c := min(h.boundary(s), 1) * rapid.Float64Range(0, 1).Draw(t, "part")
		if rapid.Bool().Draw(t, "onTheLine") {
			c = min(h.boundary(s), 1)
		}
		for _, x := range excesses {
			if b := min(max(a+x, h.boundary(a)+x/2), 0.999); b > h.boundary(a) {
				if got := logMean(a, b, ns, nc, s, c, h); got > 1e-9 {
					t.Fatalf("alternative (%v, %v): log E[L] = %v where the rates are (%v, %v)", a, b, got, s, c)
				}
			}
		}
	})
}

func TestMeanOfLIsAtMostOneWhereTheIncreaseIsTooLarge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := min(max(rate(t, "a"), 1e-5), 0.5)
		q := margins{increase: rapid.Float64Range(0.0011, 1).Draw(t, "increase")}
		h := q.advance()
		ns, nc := float64(rapid.Int64Range(1, 100_000).Draw(t, "ns")), float64(rapid.Int64Range(1, 100_000).Draw(t, "nc"))
		s := rapid.Float64Range(1e-6, 1-h.delta).Draw(t, "stable")
		c := h.boundary(s) + (1-h.boundary(s))*rapid.Float64Range(0, 1).Draw(t, "part")
		if rapid.Bool().Draw(t, "onTheLine") {
			c = h.boundary(s)
		}
		for _, b := range [2]float64{a, a + h.delta/4} {
			if got := logMean(a, b, ns, nc, s, min(c, 1), h); got > 1e-9 {
				t.Fatalf("alternative (%v, %v) against %v: log E[L] = %v where the rates are (%v, %v)", a, b, h.delta, got, s, c)
			}
		}
	})
}

// mean is the mean of f over the failures of both versions, each of which fails on its own.
func mean(ns, nc int, s, c float64, f func(ks, kc float64) float64) (sum float64) {
	stable, candidate := distuv.Binomial{N: float64(ns), P: s}, distuv.Binomial{N: float64(nc), P: c}
	for ks := range ns + 1 {
		for kc := range nc + 1 {
			sum += stable.Prob(float64(ks)) * candidate.Prob(float64(kc)) * f(float64(ks), float64(kc))
		}
	}
	return sum
}

func TestMeanOfEvidenceDoesNotGrowWhereThereIsNoHarm(t *testing.T) {
	// The sum over all outcomes of one more block, of what the product makes of it: tempered, capped, insured, mixed, and averaged
	// with the evidence against the absolute limit.
	rapid.Check(t, func(t *rapid.T) {
		l := defaults()
		l.MaxErrorRate = rapid.Float64Range(0, 0.9).Draw(t, "limit")
		m := Memory{}.Learn(steady(rapid.Int64Range(0, 50).Draw(t, "usual"), 100), l)
		m.Errors.Usual.Excess += rapid.Float64Range(0, 1).Draw(t, "bursts") * m.Errors.Usual.Square
		for range rapid.IntRange(0, 3).Draw(t, "before") {
			n := rapid.Int64Range(1, 400).Draw(t, "n")
			m = count(m, l, tick(failed(rapid.Int64Range(0, n).Draw(t, "kc"), n), failed(0, 200)))
		}
		ns, nc := rapid.IntRange(1, 9).Draw(t, "ns"), rapid.IntRange(1, 9).Draw(t, "nc")
		s := rapid.Float64Range(0, 0.7).Draw(t, "stable")
		c := min(line(s), l.MaxErrorRate, 1)
		if rapid.Bool().Draw(t, "below") {
			c *= rapid.Float64Range(0, 1).Draw(t, "part")
		}
		before := stateOf(m).harm(l).LogHarm
		for _, p := range l.parts(&m) {
			was := p.mixture.log()
			sum := mean(ns, nc, s, c, func(ks, kc float64) float64 {
				after := count(m, l, tick(failed(int64(kc), int64(nc)), failed(int64(ks), int64(ns))))
				for _, q := range l.parts(&after) {
					if q.gate == p.gate {
						return math.Exp(q.mixture.log() - was)
					}
				}
				return 0
			})
			if sum > 1+1e-9 {
				t.Fatalf("%s: the evidence grows by %v on average where the rates are (%v, %v); it was %v", p.gate, sum, s, c, before)
			}
		}
	})
}

func TestMeanOfProofDoesNotGrowWhereTheIncreaseIsTooLarge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := defaults()
		l.MaxIncrease = rapid.Float64Range(0.0011, 0.5).Draw(t, "increase")
		m := Memory{}.Learn(steady(rapid.Int64Range(0, 50).Draw(t, "usual"), 100), l)
		m.Errors.Usual.Excess += rapid.Float64Range(0, 1).Draw(t, "bursts") * m.Errors.Usual.Square
		ns, nc := rapid.IntRange(1, 12).Draw(t, "ns"), rapid.IntRange(1, 12).Draw(t, "nc")
		s := rapid.Float64Range(0, 1-l.MaxIncrease).Draw(t, "stable")
		c := s + l.MaxIncrease + (1-s-l.MaxIncrease)*rapid.Float64Range(0, 1).Draw(t, "part")
		was := m.Errors.proof()
		sum := mean(ns, nc, s, min(c, 1), func(ks, kc float64) float64 {
			after := count(m, l, tick(failed(int64(kc), int64(nc)), failed(int64(ks), int64(ns))))
			return math.Exp(after.Errors.proof() - was)
		})
		if sum > 1+1e-9 {
			t.Fatalf("the proof grows by %v on average where the rates are (%v, %v)", sum, s, c)
		}
	})
}

// stream is what a release may see, block by block.
func stream(t *rapid.T, least, most int) []Sample {
	blocks := make([]Sample, rapid.IntRange(least, most).Draw(t, "blocks"))
	p, q := rate(t, "stable"), rate(t, "candidate")
	for i := range blocks {
		nc, ns := rapid.Int64Range(0, 400).Draw(t, "nc"), rapid.Int64Range(0, 2000).Draw(t, "ns")
		near := func(n int64, p float64) int64 {
			return min(int64(2*p*float64(n)*rapid.Float64Range(0, 1).Draw(t, "luck")+0.5), n)
		}
		blocks[i] = tick(
			Counts{Requests: nc, Errors: near(nc, q), Timed: nc, Slow: near(nc, q)},
			Counts{Requests: ns, Errors: near(ns, p), Timed: ns, Slow: near(ns, p)})
	}
	return blocks
}

func limitsOf(t *rapid.T) Limits {
	l := timed()
	if rapid.Bool().Draw(t, "untimed") {
		l.MaxSlowRate = -1
	}
	l.Alone = rapid.IntRange(0, 3).Draw(t, "alone") == 0
	l.MaxErrorRate = rate(t, "limit")
	return l
}

// severity orders verdicts from kind to harsh.
var severity = map[Outcome]int{Pass: 0, Inconclusive: 1, Fail: 2}

func TestMoreFailuresOfTheCandidateNeverHelpIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, blocks := limitsOf(t), stream(t, 1, 30)
		better := count(Memory{}.Learn(steady(1, 1000), l), l, blocks...)
		i := rapid.IntRange(0, len(blocks)-1).Draw(t, "worse")
		c := &blocks[i].Candidate
		c.Errors = rapid.Int64Range(c.Errors, c.Requests).Draw(t, "errors")
		c.Slow = rapid.Int64Range(c.Slow, c.Timed).Draw(t, "slow")
		worse := count(Memory{}.Learn(steady(1, 1000), l), l, blocks...)
		isNoKinder(t, l, stateOf(better), stateOf(worse))
	})
}

func TestFewerFailuresOfStableNeverHelpTheCandidate(t *testing.T) {
	// In the latest block: earlier ones also teach what is usual, and an outage suspends evidence, both for good reason.
	rapid.Check(t, func(t *rapid.T) {
		l, blocks := limitsOf(t), stream(t, 1, 30)
		l.MaxErrorRate, l.Alone = 1, false // against the limit, blocks in which stable breaks it are left out
		last := &blocks[len(blocks)-1].Stable
		better := count(Memory{}.Learn(steady(1, 1000), l), l, blocks...)
		last.Errors = rapid.Int64Range(0, last.Errors).Draw(t, "errors")
		worse := count(Memory{}.Learn(steady(1, 1000), l), l, blocks...)
		if better.Errors.Harm.log() > worse.Errors.Harm.log()+1e-9 {
			t.Fatalf("the evidence of harm falls from %v to %v", better.Errors.Harm.log(), worse.Errors.Harm.log())
		}
		if worse.Errors.proof() > better.Errors.proof()+1e-9 {
			t.Fatalf("the proof rises from %v to %v", better.Errors.proof(), worse.Errors.proof())
		}
	})
}

// isNoKinder fails where the worse evidence is treated better than the better.
func isNoKinder(t *rapid.T, l Limits, better, worse State) {
	t.Helper()
	b, w := Overall(Judge(better, l)), Overall(Judge(worse, l))
	if severity[w.Outcome] < severity[b.Outcome] {
		t.Fatalf("more failures turn %s (%s) into %s (%s)", b.Outcome, b.Message, w.Outcome, w.Message)
	}
	left := time.Duration(rapid.IntRange(0, 600).Draw(t, "left")) * time.Second
	atBest, atWorst := PaceOf(better, l, left), PaceOf(worse, l, left)
	if atWorst.Ceiling > atBest.Ceiling {
		t.Fatalf("more failures raise the ceiling from %v to %v", atBest.Ceiling, atWorst.Ceiling)
	}
	// A candidate that has more to prove is given the traffic to prove it with, and so a higher top; never more than the risk allows.
	if better.need(l, left) > worse.need(l, left) {
		t.Fatalf("more failures leave less to prove: %v and then %v", better.need(l, left), worse.need(l, left))
	}
	if atWorst.Allowed > atBest.Allowed && better.need(l, left) == worse.need(l, left) {
		t.Fatalf("more failures raise the weight that is allowed from %v to %v", atBest.Allowed, atWorst.Allowed)
	}
	if better.mayBe(l) > worse.mayBe(l)+1e-12 || better.seen(l) > worse.seen(l) {
		t.Fatalf("more failures make the candidate look better")
	}
}

func TestABlockWithoutTheCandidateIsNoEvidence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, blocks := limitsOf(t), stream(t, 1, 10)
		before := count(Memory{}, l, blocks...)
		n := rapid.Int64Range(0, 5000).Draw(t, "n")
		after := count(before, l, tick(Counts{}, failed(rapid.Int64Range(0, n).Draw(t, "k"), n)))
		if before.Errors.Harm != after.Errors.Harm || before.Errors.Limit != after.Errors.Limit || before.Errors.Advance != after.Errors.Advance ||
			before.Slow.Harm != after.Slow.Harm || before.Slow.Advance != after.Slow.Advance {
			t.Fatal("the evidence changed")
		}
	})
}

func TestMemoryWrittenAndReadGoesOnAsIfItHadNotBeen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, blocks := limitsOf(t), stream(t, 2, 40)
		for i := range blocks { // some looks are too soon to be blocks
			if rapid.Bool().Draw(t, "soon") {
				blocks[i].To = blocks[i].From.Add(5 * time.Second)
			}
		}
		kept := Memory{}.Learn(steady(1, 1000), l)
		written := kept
		for _, x := range blocks {
			raw, err := written.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if written, err = DecodeMemory(raw); err != nil {
				t.Fatalf("%v: %s", err, raw)
			}
			kept, written = kept.Count(x, l), written.Count(x, l)
			if a, b := stateOf(kept), stateOf(written); PaceOf(a, l, time.Minute) != PaceOf(b, l, time.Minute) || !equal(Judge(a, l), Judge(b, l)) {
				t.Fatalf("decisions differ: %+v and %+v", Judge(a, l), Judge(b, l))
			}
		}
		if written.Version = 0; kept != written {
			t.Fatalf("%+v became %+v", kept, written)
		}
	})
}

func equal(a, b []Verdict) bool {
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return len(a) == len(b)
}

// split is one block as several looks, of which none but the last is long enough.
func split(t *rapid.T, x Sample) []Sample {
	var looks []Sample
	part := func(n int64) int64 { return rapid.Int64Range(0, n).Draw(t, "part") }
	cut := func(c Counts) Counts {
		d := Counts{Requests: part(c.Requests), Timed: part(c.Timed)}
		// what is left must be possible too
		d.Errors = rapid.Int64Range(max(0, c.Errors-(c.Requests-d.Requests)), min(c.Errors, d.Requests)).Draw(t, "errors")
		d.Slow = rapid.Int64Range(max(0, c.Slow-(c.Timed-d.Timed)), min(c.Slow, d.Timed)).Draw(t, "slow")
		return d
	}
	less := func(c, d Counts) Counts {
		return Counts{c.Requests - d.Requests, c.Errors - d.Errors, c.Timed - d.Timed, c.Slow - d.Slow}
	}
	for range rapid.IntRange(0, 3).Draw(t, "looks") {
		look := Sample{From: x.From, To: x.From.Add(3 * time.Second), Candidate: cut(x.Candidate), Stable: cut(x.Stable)}
		x.From, x.Candidate, x.Stable = look.To, less(x.Candidate, look.Candidate), less(x.Stable, look.Stable)
		looks = append(looks, look)
	}
	return append(looks, x)
}

func TestHowOftenOneLooksChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, blocks := limitsOf(t), stream(t, 1, 20)
		seldom, often := Memory{}, Memory{}
		for _, x := range blocks {
			x.Stable.Requests++ // a span without any request is no block
			seldom = seldom.Count(x, l)
			for _, look := range split(t, x) {
				often = often.Count(look, l)
			}
			if seldom != often {
				t.Fatalf("%+v and %+v", seldom, often)
			}
		}
	})
}

func TestMemoryFitsIntoTwoKilobytes(t *testing.T) {
	l := timed()
	longest := 0
	for seed := range 40 {
		d := newDice(seed, 0)
		m := Memory{}
		size := []float64{1e3, 1e6, 1e9, 1e12}[seed%4]
		for i := range 1500 {
			of := func() Counts {
				n := int64(size * d.uniform())
				if i%97 == 0 {
					n = 1e15
				}
				return Counts{Requests: n, Errors: int64(float64(n) * math.Pow(d.uniform(), 9)), Timed: n, Slow: int64(float64(n) * math.Pow(d.uniform(), 9))}
			}
			x := tick(of(), of())
			if i%100 == 0 { // a look that closes no block: its counts are pending
				x.To = x.From.Add(7 * time.Second)
			}
			m = m.Count(x, l)
			if i%10 != 0 {
				continue
			}
			raw, err := m.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if longest = max(longest, len(raw)); len(raw) > 2048 {
				t.Fatalf("%d bytes: %s", len(raw), raw)
			}
			if _, err := DecodeMemory(raw); err != nil {
				t.Fatalf("%v: %s", err, raw)
			}
		}
	}
	t.Logf("at most %d bytes", longest)
}

func TestIntervalHoldsTheRateAndIsMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(1, 1_000_000_000).Draw(t, "n")
		k := rapid.Int64Range(0, n).Draw(t, "k")
		level := rapid.Float64Range(1e-6, 0.5).Draw(t, "alpha")
		lower, upper := Interval(k, n, level)
		if p := ratio(k, n); !(0 <= lower && lower <= p && p <= upper && upper <= 1) {
			t.Fatalf("%d of %d: [%v, %v]", k, n, lower, upper)
		}
		const slack = 1e-12
		if k < n {
			if l, u := Interval(k+1, n, level); l < lower-slack || u < upper-slack {
				t.Fatalf("one more failure of %d: [%v, %v] becomes [%v, %v]", n, lower, upper, l, u)
			}
		}
		if l, u := Interval(k, n, level/2); l > lower+slack || u < upper-slack {
			t.Fatalf("at half the level [%v, %v] becomes [%v, %v]", lower, upper, l, u)
		}
		if l, u := Interval(10*k, 10*n, level); u-l > upper-lower+slack {
			t.Fatalf("ten times as much of the same widens [%v, %v] to [%v, %v]", lower, upper, l, u)
		}
	})
}

func TestIntervalCoversTheRateAtEveryLook(t *testing.T) {
	const hours, p = 400, 0.02
	missed := 0
	for run := range hours {
		d, k, n, out := newDice(5, run), int64(0), int64(0), false
		for range hour {
			n += 20
			k += d.binomial(20, p)
			lower, upper := Interval(k, n, 0.05)
			out = out || p < lower || p > upper
		}
		if out {
			missed++
		}
	}
	if bound := most(hours, 0.05); missed > bound {
		t.Errorf("missed the rate in %d of %d hours, at most %d are due", missed, hours, bound)
	}
}
