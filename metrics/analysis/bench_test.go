package analysis

import "testing"

// busy is a release under way, with latency asked about.
func busy() (Memory, Sample, Limits) {
	l := timed()
	m := Memory{}.Learn(steady(2, 1000), l)
	x := tick(Counts{Requests: 300, Errors: 1, Timed: 300, Slow: 3}, Counts{Requests: 1200, Errors: 1, Timed: 1200, Slow: 12})
	for range 50 {
		m = m.Count(x, l)
	}
	return m, x, l
}

func BenchmarkMetricTick(b *testing.B) {
	m, x, l := busy()
	for q := range l.questions {
		if q.slow {
			break
		}
		d := q.block(pair{x.Candidate, x.Stable})
		b.ReportAllocs()
		for b.Loop() {
			m.Errors.take(d, q.margins, l.Alone, false)
			m.Errors.Usual = m.Errors.Usual.learn(d.ks, d.ns, q.prior)
		}
	}
}

// BenchmarkCount closes a block of two metrics.
func BenchmarkCount(b *testing.B) {
	m, x, l := busy()
	b.ReportAllocs()
	for b.Loop() {
		m = m.Count(x, l)
	}
}

func BenchmarkJudge(b *testing.B) {
	m, _, l := busy()
	s := stateOf(m)
	b.ReportAllocs()
	for b.Loop() {
		Judge(s, l)
	}
}

func BenchmarkPace(b *testing.B) {
	m, _, l := busy()
	s := stateOf(m)
	b.ReportAllocs()
	for b.Loop() {
		PaceOf(s, l, 0)
	}
}

func BenchmarkEncode(b *testing.B) {
	m, _, _ := busy()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Encode(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	m, _, _ := busy()
	raw, err := m.Encode()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeMemory(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func TestClosingABlockAllocatesNothing(t *testing.T) {
	m, x, l := busy()
	if n := testing.AllocsPerRun(100, func() { m = m.Count(x, l) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
