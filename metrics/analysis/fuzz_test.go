package analysis

import (
	"math"
	"testing"
	"time"
)

// wellFormed fails where a decision is made of numbers that are none.
func wellFormed(t *testing.T, s State, l Limits) {
	t.Helper()
	for _, v := range Judge(s, l) {
		if v.Outcome != Pass && v.Outcome != Inconclusive && v.Outcome != Fail || v.Gate == "" || v.Reason == "" || v.Message == "" {
			t.Errorf("no verdict: %+v", v)
		}
		if l.MaxErrorRate == l.MaxErrorRate && (math.IsNaN(v.Value) || math.IsNaN(v.Limit)) {
			t.Errorf("a verdict without numbers: %+v", v)
		}
	}
	if reason, _ := invalid(s, l); reason != "" {
		return
	}
	for _, left := range []time.Duration{0, time.Minute, time.Hour} {
		p := PaceOf(s, l, left)
		for _, w := range []float64{p.Start, p.Top, p.Allowed, p.Ceiling} {
			if !(w > 0 && w <= 1) {
				t.Errorf("no weight: %+v", p)
			}
		}
	}
	for q := range l.questions {
		n := s.missing(q, q.advance(), 0.25, l)
		if !(n >= 0) || math.IsInf(n, 0) {
			t.Errorf("%v requests are missing", n)
		}
	}
	if e := s.harm(l); math.IsNaN(e.LogHarm) || math.IsNaN(e.LogBurst) || math.IsInf(e.LogHarm, 1) {
		t.Errorf("no evidence: %v, %v", e.LogHarm, e.LogBurst)
	}
}

func FuzzDecodeMemory(f *testing.F) {
	m := Memory{}.Learn(steady(2, 1000), timed())
	for range 3 {
		m = count(m, timed(), tick(failed(1, 100), failed(2, 1000)), tick(slowed(90, 100), slowed(3, 1000)))
		if raw, err := m.Encode(); err == nil {
			f.Add(raw)
		}
	}
	for _, raw := range []string{
		``, `{}`, `null`, `{"v":1}`, `{"v":2}`, `[]`, `{"v":1,"e":{"a":[1e308,1e308]}}`, `{"v":1,"e":{"h":{"t":9223372036854775807}}}`,
		`{"v":1,"e":{"h":{"t":1,"s":[1e300,0,0,0,0,0,0]}}}`, `{"v":1,"e":{"h":{"t":3,"s":[9,9,9,9,9,9,9],"b":-1e999}}}`,
		`{"v":1,"e":{"u":{"k":1,"n":2,"x":1e300,"q":1e-300}}}`, `{"v":1,"n":1e300,"t":1e-300}`, `{"v":1,"d":9223372036854775807}`,
		`{"v":1,"a":{"c":{"n":9223372036854775807,"k":1},"s":{"n":9223372036854775807}}}`, `{"v":1,"o":3,"f":9223372036854775807}`,
	} {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := DecodeMemory(raw)
		if err != nil {
			if m != (Memory{}) {
				t.Fatalf("%v, and yet %+v", err, m)
			}
			return
		}
		again, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if same, err := DecodeMemory(again); err != nil || same != m {
			t.Fatalf("%s is read as %+v, %v", again, same, err)
		}
		if !m.sane() {
			t.Fatalf("not sane: %s", raw)
		}
		for _, l := range []Limits{defaults(), timed(), {Alone: true, MaxErrorRate: 0.01, MaxIncrease: 0.005, MaxSlowRate: 0.05, Scrape: scrape}} {
			wellFormed(t, stateOf(m), l)
			m.StableLimits(l)
			for _, x := range []Sample{tick(failed(1, 2), failed(0, 9)), tick(slowed(1000, 1000), failed(1000, 1000)), tick(Counts{}, Counts{})} {
				wellFormed(t, stateOf(m.Count(x, l)), l)
				wellFormed(t, stateOf(m.Watch(x, l)), l)
			}
			wellFormed(t, stateOf(m.Switched(l)), l)
		}
	})
}

func TestMemoryThatNoEvidenceGivesIsRefused(t *testing.T) {
	for name, raw := range map[string]string{
		"NotJSON":                 `{`,
		"NoVersion":               `{}`,
		"AnotherVersion":          `{"v":2}`,
		"MoreErrorsThanRequests":  `{"v":1,"a":{"c":{"n":1,"k":2}}}`,
		"NegativeCounts":          `{"v":1,"p":{"s":{"n":-1}}}`,
		"NegativeSpan":            `{"v":1,"d":-1}`,
		"ProofWithoutABlock":      `{"v":1,"e":{"a":[9,9]}}`,
		"ProofBeyondAllRequests":  `{"v":1,"e":{"h":{"t":1,"s":[-1,-1,-1,-1,-1,-1,-1]},"a":[1e300,1]}}`,
		"HarmBeyondTheCap":        `{"v":1,"e":{"h":{"t":1,"s":[99,0,0,0,0,0,0]}}}`,
		"HarmBelowTheInsurance":   `{"v":1,"e":{"h":{"t":1,"s":[-99,0,0,0,0,0,0]}}}`,
		"MoreBlocksThanTimeHas":   `{"v":1,"e":{"h":{"t":9223372036854775807}}}`,
		"UsualRateAboveOne":       `{"v":1,"e":{"u":{"k":2,"n":1}}}`,
		"TemperingWithoutMeasure": `{"v":1,"e":{"u":{"k":1,"n":2,"x":1e30,"q":1e-300}}}`,
		"InfiniteTraffic":         `{"v":1,"n":1e300,"t":1e-300}`,
		"OutageForEver":           `{"v":1,"o":99}`,
		"InfiniteNumber":          `{"v":1,"e":{"r":1e999}}`,
	} {
		t.Run(name, func(t *testing.T) {
			if m, err := DecodeMemory([]byte(raw)); err == nil {
				t.Errorf("read as %+v", m)
			}
		})
	}
}

func FuzzJudge(f *testing.F) {
	f.Add(int64(8), int64(200), int64(7), int64(3800), 0.01, 0.005, 0.05, 0.2, false, int64(15))
	f.Add(int64(-1), int64(5), int64(9), int64(3), math.NaN(), math.Inf(1), -1.0, 2.0, true, int64(-1))
	f.Add(int64(1e15), int64(1e15), int64(0), int64(1e15), 1.0, 1.0, 1.0, 0.0, false, int64(0))
	f.Add(int64(math.MaxInt64), int64(math.MaxInt64), int64(math.MaxInt64), int64(math.MaxInt64), 0.0, 0.002, 0.0, 1.0, false, int64(1e9))
	f.Fuzz(func(t *testing.T, kc, nc, ks, ns int64, maxErrors, maxIncrease, maxSlow, weight float64, alone bool, seconds int64) {
		l := Limits{
			MaxErrorRate: maxErrors, MaxIncrease: maxIncrease, MaxSlowRate: maxSlow, MinRequests: 50, Alone: alone, Scrape: scrape,
			Weight: weight, Auto: !alone, Budget: 50, Reaction: 2 * scrape,
		}
		c, s := Counts{nc, kc, nc, kc / 2}, Counts{ns, ks, ns, ks / 3}
		x := Sample{From: epoch, To: epoch.Add(time.Duration(seconds) * time.Second), Candidate: c, Stable: s}
		m := Memory{}
		for range 3 {
			m = m.Count(x, l)
			state := stateOf(m)
			wellFormed(t, state, l)
			impossible := !c.Plausible() || !s.Plausible() || !isRate(maxErrors) || !isRate(maxIncrease)
			if o := Overall(Judge(state, l)).Outcome; impossible && o != Inconclusive {
				t.Errorf("%s on numbers that make no sense", o)
			}
		}
		state := State{Candidate: c, Stable: s, Memory: m}
		wellFormed(t, state, l)
		if raw, err := m.Encode(); m.sane() && err != nil {
			t.Errorf("%v: %+v", err, m)
		} else if len(raw) > 2048 {
			t.Errorf("%d bytes: %s", len(raw), raw)
		} else if _, err := DecodeMemory(raw); m.sane() && err != nil {
			t.Errorf("%v: %s", err, raw)
		}
	})
}
