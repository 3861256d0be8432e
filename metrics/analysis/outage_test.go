package analysis

import (
	"math"
	"testing"
)

// healthy is a release under way of a service that fails one in a thousand.
func healthy(l Limits) Memory {
	m := Memory{}.Learn(steady(1, 1000), l)
	return count(m, l, quiet(), quiet(), quiet(), quiet(), quiet(), quiet(), quiet(), quiet())
}

// quiet is a block in which nobody fails more than usual, and outage one in which everybody does.
func quiet() Sample  { return tick(failed(0, 300), failed(1, 1200)) }
func outage() Sample { return tick(failed(120, 300), failed(360, 1200)) }

func TestAnOutageSuspendsTheEvidenceFromTheNextBlock(t *testing.T) {
	l := defaults()
	before := healthy(l)
	first := before.Count(outage(), l)
	if first.Errors.Harm.T != before.Errors.Harm.T+1 {
		t.Error("the block that an outage is noticed in is no evidence: what is bet must not depend on its own outcome")
	}
	m := first
	for i := range 30 {
		if m.Outage == 0 {
			t.Fatalf("block %d: there is no outage", i)
		}
		m = m.Count(outage(), l)
		if m.Errors.Harm != first.Errors.Harm || m.Errors.Limit != first.Errors.Limit || m.Errors.Advance != first.Errors.Advance {
			t.Fatalf("block %d of an outage is evidence", i)
		}
		if m.Errors.Usual != before.Errors.Usual {
			t.Fatalf("block %d of an outage was learned for usual", i)
		}
		if m.Total != first.Total {
			t.Fatalf("block %d of an outage is in the totals", i)
		}
	}
	if v := Overall(Judge(stateOf(m), l)); v.Outcome != Inconclusive {
		t.Errorf("an outage that both share ends in %s: %s", v.Outcome, v.Message)
	}
	if p := PaceOf(stateOf(m), l, 0); p.Ceiling != p.Start || p.Reason != ReasonStableFailing || p.Allowed > p.Ceiling {
		t.Errorf("in an outage the pace is %+v", p)
	}
}

func TestAnOutageEndsAfterThreeQuietBlocks(t *testing.T) {
	l := defaults()
	m := count(healthy(l), l, outage(), outage())
	bets := m.Errors.Harm.T
	for i := range outageBlocks {
		if m.Outage == 0 {
			t.Fatalf("it ended after %d quiet blocks", i)
		}
		m = m.Count(quiet(), l)
	}
	if m.Outage != 0 || m.Failing != 0 {
		t.Fatalf("it goes on after %d quiet blocks: %d, %d", outageBlocks, m.Outage, m.Failing)
	}
	if m.Errors.Harm.T != bets {
		t.Error("a block of the outage is evidence")
	}
	if m = m.Count(quiet(), l); m.Errors.Harm.T != bets+1 {
		t.Error("the block after the outage is no evidence")
	}
}

func TestARateThatStaysIsUsualAfterAWhile(t *testing.T) {
	l := defaults()
	m := healthy(l)
	blocks := 0
	for ; m.Outage > 0 || blocks == 0; blocks++ {
		if blocks > outagePatience+2*outageBlocks {
			t.Fatalf("after %d blocks what stable does is not usual yet: %+v", blocks, m.Errors.Usual)
		}
		m = m.Count(tick(failed(90, 300), failed(360, 1200)), l)
	}
	if blocks < outagePatience {
		t.Errorf("after %d blocks what stable does is usual", blocks)
	}
	if got := m.Errors.Usual.rate(usualErrors); math.Abs(got-0.3) > 0.03 {
		t.Errorf("30%% fail, and %v is usual", got)
	}
	bets := m.Errors.Harm.T
	if m = m.Count(tick(failed(90, 300), failed(360, 1200)), l); m.Errors.Harm.T != bets+1 {
		t.Error("what is usual now is no evidence")
	}
}

func TestNothingIsUnusualWhileNothingIsKnown(t *testing.T) {
	l := defaults()
	if m := count(Memory{}, l, tick(failed(0, 10), failed(20, 50))); m.Outage > 0 {
		t.Error("the first block of a service is an outage")
	}
}

func TestNoSingleBlockConvicts(t *testing.T) {
	for name, n := range map[string]int64{"Hundred": 100, "TenThousand": 10_000, "Billion": 1_000_000_000, "AllThereAre": 1_000_000_000_000_000} {
		t.Run(name, func(t *testing.T) {
			for _, before := range []Memory{{}, healthy(defaults()), healthy(timed())} {
				l := timed()
				if before.Slow == (metric{}) {
					l = defaults()
				}
				m := before.Count(tick(Counts{Requests: n, Errors: n, Timed: n, Slow: n}, Counts{Requests: 4 * n, Timed: 4 * n}), l)
				e := stateOf(m).harm(l)
				if e.LogHarm >= logAlpha {
					t.Errorf("the evidence of one block is %v", e.LogHarm)
				}
				if v := Overall(Judge(stateOf(m), l)); v.Outcome == Fail {
					t.Errorf("one block convicts: %s", v.Message)
				}
				p := PaceOf(stateOf(m), l, 0)
				if e.LogBurst < logRetreat || p.Ceiling >= 1 || p.Reason != ReasonSuspicious || p.Why == "" || p.Allowed > p.Ceiling {
					t.Errorf("no retreat is asked for: %v, %+v", e.LogBurst, p)
				}
				if m = m.Count(tick(Counts{Requests: n, Errors: n, Timed: n, Slow: n}, Counts{Requests: 4 * n, Timed: 4 * n}), l); stateOf(m).harm(l).LogHarm < logAlpha {
					t.Errorf("two blocks do not convict: %v", stateOf(m).harm(l).LogHarm)
				}
			}
		})
	}
}

func TestABurstThatDoesNotComeBackIsForgotten(t *testing.T) {
	l := defaults()
	m := healthy(l).Count(tick(failed(90, 300), failed(1, 1200)), l)
	for i := range 20 {
		if m = m.Count(quiet(), l); PaceOf(stateOf(m), l, 0).Ceiling == 1 {
			if v := Overall(Judge(stateOf(m), l)); v.Outcome == Fail {
				t.Fatal(v.Message)
			}
			t.Logf("forgotten after %d quiet blocks", i+1)
			return
		}
	}
	t.Error("the candidate is held back for five minutes of health")
}

func TestTemperingIsWhatBurstsCall(t *testing.T) {
	h := null{1 + relativeMargin, errorMargin}
	d := block{ns: 12_000, nc: 3000}
	learned := func(cv2 float64) usual {
		dice, u := newDice(3, int(10*cv2)), usual{}
		for range hour {
			p := 0.001
			if cv2 > 0 {
				p *= dice.gamma(cv2)
			}
			u = u.learn(float64(dice.binomial(15_000, p)), 15_000, usualErrors)
		}
		return u
	}
	if phi := learned(0).tempering(0.001, d, h); phi > 1.2 {
		t.Errorf("independent failures are tempered by %v", phi)
	}
	last := 1.0
	for _, cv2 := range []float64{0.25, 1, 2} {
		phi := learned(cv2).tempering(0.001, d, h)
		want := 1 + cv2*d.ns*0.001 // the variance of the count of a gamma mixture, as a multiple of its mean
		if phi < last || phi < want/2 || phi > 2*want {
			t.Errorf("bursts of %v are tempered by %v, want about %v", cv2, phi, want)
		}
		last = phi
	}
	if phi := (usual{K: 100, N: 1e5, Excess: 1e30, Square: 1}).tempering(0.001, d, h); phi != maxTempering {
		t.Errorf("tempered by %v", phi)
	}
}

func TestALimitThatStableBreaksTooConvictsNobody(t *testing.T) {
	// Both fail 3%, at a limit of 1%: the service's fault, and not the candidate's.
	l := defaults()
	past := steady(30, 1000)
	m := Memory{}.Learn(past, l)
	for range hour {
		m = m.Count(tick(failed(9, 300), failed(36, 1200)), l)
		if v := Overall(Judge(stateOf(m), l)); v.Outcome == Fail {
			t.Fatal(v.Message)
		}
	}
	if v := verdictOf(Judge(stateOf(m), l), GateErrorRate); v.Reason != ReasonStableBreaksLimit {
		t.Errorf("%s: %s", v.Reason, v.Message)
	}
	// One that fails everything is convicted all the same, by the comparison: the limit must not stand in its way.
	for range 40 {
		m = m.Count(tick(failed(300, 300), failed(0, 1200)), l)
	}
	if v := verdictOf(Judge(stateOf(m), l), GateErrorRateVsStable); v.Outcome != Fail {
		t.Errorf("%s: %s", v.Outcome, v.Message)
	}
}

func TestALimitThatStableJustBreaksDoesNotShieldTheCandidate(t *testing.T) {
	// Stable failed 1.8% so far, and nothing in the blocks in which the candidate failed a fifth: most evidence is against the limit,
	// and that is not what it may be convicted of.
	l := defaults()
	m := Memory{}.Learn(steady(1, 1000), l).Count(tick(failed(0, 4), failed(2, 50)), l)
	for range 6 {
		m = m.Count(tick(failed(2, 10), failed(0, 10)), l)
	}
	s := stateOf(m)
	v := Overall(Judge(s, l))
	if convicts := s.harm(l).LogHarm >= logAlpha; convicts != (v.Outcome == Fail) {
		t.Errorf("evidence of %v, and the verdict is %s: %s", s.harm(l).LogHarm, v.Outcome, v.Message)
	}
	for _, p := range l.parts(&m) {
		if !p.relative && s.harm(l).culprit.gate == p.gate {
			t.Error("a limit that stable breaks too speaks for the evidence")
		}
	}
}

// Where stable alone fails, no user is sent back to it: that takes intervals that do not overlap, and lasts for as long as it is so.
func TestAnOutageThatIsStablesAlone(t *testing.T) {
	tests := map[string]struct {
		blocks []Sample
		want   bool
	}{
		"Both":              {[]Sample{outage()}, false},
		"StableAlone":       {[]Sample{tick(failed(0, 300), failed(600, 1200))}, true},
		"TooFewToTell":      {[]Sample{tick(failed(0, 3), failed(600, 1200))}, false},
		"NoCandidate":       {[]Sample{tick(failed(0, 0), failed(600, 1200))}, false},
		"TheCandidateAfter": {[]Sample{tick(failed(0, 300), failed(600, 1200)), tick(failed(400, 600), failed(600, 1200)), tick(failed(400, 600), failed(600, 1200))}, false},
		"Over":              {[]Sample{tick(failed(0, 300), failed(600, 1200)), quiet(), quiet(), quiet()}, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			l := defaults()
			s := stateOf(count(healthy(l), l, tc.blocks...))
			if got := StableAlone(s, l); got != tc.want {
				t.Errorf("stable alone: %t; want %t (%+v)", got, tc.want, s.Memory.Beside)
			}
			if v := Overall(Judge(s, l)); s.Memory.Outage > 0 && v.Outcome != Inconclusive {
				t.Errorf("it ends in %s: %s", v.Outcome, v.Message)
			}
		})
	}
}
