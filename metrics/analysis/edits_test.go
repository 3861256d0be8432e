package analysis

import (
	"testing"
	"time"
)

// What was proven of a large increase is no proof of a small one, and what was slow above one bound says nothing of another.
func TestProofOfOneQuestionIsNoneOfAnother(t *testing.T) {
	loose := defaults()
	loose.MaxIncrease, loose.MaxSlowRate, loose.MaxErrorRate = 0.5, 0.01, 1
	fresh := func() State {
		var s State
		for range 12 {
			x := tick(Counts{Requests: 100, Timed: 100}, Counts{Requests: 100, Timed: 100})
			x.SlowAbove = 5 * time.Second
			s = s.Add(x)
			s.Memory = s.Memory.Count(x, loose)
		}
		return s
	}
	outcome := func(l Limits, gate string) Outcome {
		for _, v := range Judge(fresh(), l) {
			if v.Gate == gate {
				return v.Outcome
			}
		}
		return ""
	}
	if got := outcome(loose, GateErrorRateVsStable); got != Pass {
		t.Fatalf("1200 clean requests do not prove that the increase is less than 50 points: %s", got)
	}
	tight := loose
	tight.MaxIncrease = 0.002
	if got := outcome(tight, GateErrorRateVsStable); got != Inconclusive {
		t.Errorf("after an edit of maxIncrease the old proof counts: %s", got)
	}
	sooner := loose
	sooner.SlowAbove = 100 * time.Millisecond
	if got := outcome(sooner, GateLatencyVsStable); got == Pass {
		t.Errorf("after an edit of maxLatency the old response times count: %s", got)
	}
}

// A candidate that was sent back from 100 is scraped once more before the route has arrived: without a request of stable's, what it fails
// then may be everybody's.
func TestABlockWithoutStableConvictsNobody(t *testing.T) {
	l := defaults()
	alone := l
	alone.Alone = true
	var m Memory
	for range 12 {
		m = m.Count(tick(Counts{Requests: 750}, Counts{Requests: 750, Errors: 1}), l)
	}
	m = m.Switched(l)
	for range 4 {
		m = m.Count(tick(Counts{Requests: 1500, Errors: 1}, Counts{}), alone)
	}
	outage := tick(Counts{Requests: 1500, Errors: 300}, Counts{})
	m = m.Count(outage, alone).Switched(alone).Count(outage, l)
	if v := Overall(Judge(stateOf(m), l)); v.Outcome == Fail {
		t.Errorf("a candidate that nobody was compared with is convicted: %s", v.Message)
	}
}

// What is proven is not held up by a bound on what the data still allow: at much traffic that would take hours.
func TestWhatIsProvenIsAllowed(t *testing.T) {
	l := defaults()
	var m Memory
	for range 20 {
		m = m.Count(tick(Counts{Requests: 15_000, Errors: 30}, Counts{Requests: 1_485_000, Errors: 1485}), l)
	}
	p := PaceOf(stateOf(m), l, 0)
	if p.Allowed < p.Top || p.Top < topLeast {
		t.Errorf("a candidate that was proven to be harmless at 100,000 requests a second is allowed %v of %v", p.Allowed, p.Top)
	}
}

// A service that was idle for an hour and is not any more is not one of little traffic.
func TestTrafficThatBeginsIsNotAveragedOverTheTimeWithout(t *testing.T) {
	l := defaults()
	m := Memory{}.Watch(tick(Counts{}, Counts{Requests: 15}), l)
	for range 200 {
		m = m.Watch(tick(Counts{}, Counts{}), l)
	}
	if r := m.Rate(l.Scrape); r > 0.01 {
		t.Errorf("after 50 minutes without a request the rate is %v a second", r)
	}
	m = m.Watch(tick(Counts{}, Counts{Requests: 1500}), l)
	if r := m.Rate(l.Scrape); r < 50 || r > 100 {
		t.Errorf("after the first scrape of 100 requests a second the rate is %v a second; want it at least half of that", r)
	}
}
