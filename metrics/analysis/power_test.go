package analysis

import (
	"slices"
	"testing"
	"time"
)

// median of an odd number of values.
func median(values []int64) int64 {
	slices.Sort(values)
	return values[len(values)/2]
}

const trials = 41

// toConvict is how many requests a candidate that fails with probability p fails until it is convicted at a weight, beside a stable
// version that fails one in a thousand and was seen for an hour, and with an absolute limit. A block holds half a failure, so that the count is not one of blocks;
// -1 is a candidate that is not convicted.
func toConvict(seed int, p, weight, limit float64) int64 {
	l := defaults()
	l.Weight, l.MaxErrorRate = weight, limit
	candidates := max(0.5/p, 1)
	var failures []int64
	for run := range trials {
		d := newDice(seed, run)
		m := Memory{}.Learn(steady(1, 1000), l)
		failures = append(failures, -1)
		for range 2000 {
			m = m.Count(tick(d.requests(candidates, p, 0), d.requests(candidates/weight*(1-weight), 0.001, 0)), l)
			if s := stateOf(m); s.harm(l).LogHarm >= logAlpha {
				if v := Overall(Judge(s, l)); v.Outcome != Fail {
					panic("convicted, but not taken back: " + v.Message)
				}
				failures[run] = m.Total.Candidate.Errors
				break
			}
		}
	}
	return median(failures)
}

func TestFailuresUntilAConviction(t *testing.T) {
	// The plan is that of an information rate: what independent failures are worth on average, with nothing lost to not knowing the
	// rate and the onset. What the gate takes is more, and less than four times as much.
	for i, tc := range []struct {
		p      float64
		weight float64
		plan   int64
	}{
		{1, 0.05, 3}, {1, 0.5, 9}, {0.25, 0.05, 4}, {0.25, 0.5, 16}, {0.05, 0.05, 5}, {0.05, 0.5, 19},
		{0.02, 0.05, 8}, {0.02, 0.5, 24}, {0.01, 0.05, 14}, {0.01, 0.5, 35}, {0.005, 0.05, 40}, {0.005, 0.5, 81},
	} {
		got, limited := toConvict(i, tc.p, tc.weight, 1), toConvict(i, tc.p, tc.weight, 0.01)
		t.Logf("fails %5.1f%% at a weight of %2.0f%%: %3d failures, %3d with a limit of 1%%, planned %d", 100*tc.p, 100*tc.weight, got, limited, tc.plan)
		if got < tc.plan/2 || got > 2*tc.plan+6 {
			t.Errorf("fails %v at a weight of %v: %d failures until it is convicted, planned %d", tc.p, tc.weight, got, tc.plan)
		}
		if limited < 0 || limited > got+5 {
			t.Errorf("fails %v at a weight of %v: a limit of 1%% convicts after %d failures, none after %d", tc.p, tc.weight, limited, got)
		}
	}
}

func TestASmallWeightConvictsWithFewerFailures(t *testing.T) {
	for i, p := range []float64{1, 0.25, 0.05, 0.02} {
		if small, large := toConvict(i, p, 0.05, 1), toConvict(i, p, 0.5, 1); small < 0 || small >= large {
			t.Errorf("fails %v: %d failures at 5%%, %d at 50%%", p, small, large)
		}
	}
}

// toProve is how many requests it takes a candidate as good as stable to be proven worse by less than increase.
func toProve(seed int, increase, weight float64) int64 {
	l := defaults()
	l.MaxIncrease, l.Weight = increase, weight
	block := 3 / increase // a fiftieth or so of what it takes
	var requests []int64
	for run := range trials {
		d := newDice(seed, run)
		m := Memory{}.Learn(steady(10, 10000), l)
		requests = append(requests, -1)
		for range 1000 {
			m = m.Count(tick(d.requests(block*weight, 0.001, 0), d.requests(block*(1-weight), 0.001, 0)), l)
			if m.Errors.proof() >= logProof {
				requests[run] = m.Total.Candidate.Requests
				break
			}
		}
	}
	return median(requests)
}

func TestRequestsUntilAProof(t *testing.T) {
	for i, tc := range []struct {
		increase float64
		plan     int64
	}{{0.01, 600}, {0.005, 1450}, {0.002, 5800}, {0.001, 19000}} {
		for _, weight := range []float64{0.25, 0.5} {
			got := toProve(i, tc.increase, weight)
			t.Logf("an increase below %.1fpp at a weight of %2.0f%%: %d requests, planned %d", 100*tc.increase, 100*weight, got, tc.plan)
			if got < tc.plan/2 || got > 2*tc.plan {
				t.Errorf("an increase below %v takes %d requests at a weight of %v, planned %d", tc.increase, got, weight, tc.plan)
			}
		}
	}
}

func TestTheForecastIsWhatAProofTakes(t *testing.T) {
	// What people are told at the start is the number of requests that a good candidate is then proven after, give or take its luck.
	for _, rps := range []float64{5, 50} {
		l := defaults()
		l.Weight, l.Auto = 0.25, false
		var took []int64
		var told float64
		for run := range trials {
			d := newDice(7, run)
			m := Memory{}
			for range hour {
				m = m.Watch(tick(Counts{}, d.requests(rps*scrape.Seconds(), 0.001, 0)), l)
			}
			var q question
			for q = range l.questions {
				told += stateOf(m).missing(q, q.advance(), l.Weight, l) / trials
			}
			took = append(took, -1)
			for range 2000 {
				m = m.Count(tick(d.requests(rps*scrape.Seconds()*l.Weight, 0.001, 0), d.requests(rps*scrape.Seconds()*(1-l.Weight), 0.001, 0)), l)
				if m.Errors.proof() >= logProof {
					took[run] = m.Total.Candidate.Requests
					break
				}
			}
		}
		got := median(took)
		t.Logf("at %v requests a second: told %.0f, took %d", rps, told, got)
		if float64(got) < told/2 || float64(got) > 2*told {
			t.Errorf("at %v requests a second people are told %.0f requests, and it takes %d", rps, told, got)
		}
	}
}

func TestADayOfHealthIsForgottenInSeconds(t *testing.T) {
	// A candidate that begins to fail after an hour is convicted with little more than one that fails at once.
	l := defaults()
	m := Memory{}.Learn(steady(1, 1000), l)
	for range hour {
		m = count(m, l, tick(failed(0, 300), failed(1, 1200)))
	}
	before := m.Total.Candidate
	blocks := 0
	for ; stateOf(m).harm(l).LogHarm < logAlpha && blocks < 10; blocks++ {
		m = count(m, l, tick(failed(75, 300), failed(1, 1200)))
	}
	if took := time.Duration(blocks) * scrape; took > 45*time.Second {
		t.Errorf("an hour of health and then a quarter of all requests failed: convicted after %v and %d failures", took, m.Total.Candidate.Errors-before.Errors)
	}
}
