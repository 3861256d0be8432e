package query

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-dev/sluice/metrics/analysis"
)

// What Prometheus shows is not what happened: series stay for five minutes after their target went, vanish while a scrape fails, are
// no number, and begin anew. None of this may count anything twice, take anything back, or turn "no data" into requests without
// errors.

// each looks tick by tick and returns what each look added to the candidate.
func each(t *testing.T, s Subject, ticks int, scrape func(p *fakePrometheus, i int)) []analysis.Counts {
	t.Helper()
	p := running()
	c := newWatching(t, p, s, plain)
	var got []analysis.Counts
	for i := range ticks {
		scrape(p, i)
		c.look(t.Context(), tick(i))
		if i > 0 {
			x, err := c.Since(t.Context(), microAPI, tick(i-1))
			if err != nil && kindOf(err) != ErrStale.Error() {
				t.Fatal(err)
			}
			got = append(got, x.Candidate)
		}
	}
	return got
}

func TestAnOldValueAddsNothing(t *testing.T) {
	got := each(t, shop, 70, func(p *fakePrometheus, i int) {
		if i < 3 { // after that the target is gone, and its last value is shown for another 60 looks
			p.count(tick(i), float64(100+10*i))
			p.count(tick(i), float64(5*i), labelCode, "500")
		}
		p.count(tick(i), float64(i), labelWorkload, shop.Stable)
	})
	want := make([]analysis.Counts, 69)
	want[0], want[1] = requests(15, 5), requests(15, 5)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want, +got:\n%s", diff)
	}
}

func TestATargetThatComesBack(t *testing.T) {
	cases := map[string]struct {
		reason string
		back   float64
		want   int64
	}{
		"GoesOn":    {"it was only not reached", 130, 20},
		"Unchanged": {"nothing happened meanwhile", 110, 0},
		"Restarted": {"what it has counted since", 7, 7},
		"Zero":      {"nothing yet", 0, 0},
	}
	for name, tc := range cases {
		for gone, vanish := range map[string]func(*fakePrometheus, int){
			"marked stale":   func(p *fakePrometheus, i int) { p.hide(tick(i)) },
			"not scraped":    func(*fakePrometheus, int) {},
			"scraped as NaN": func(p *fakePrometheus, i int) { p.count(tick(i), math.NaN()) },
		} {
			t.Run(name+" "+gone, func(t *testing.T) {
				got := each(t, shop, 81, func(p *fakePrometheus, i int) {
					p.count(tick(i), float64(i), labelWorkload, shop.Stable)
					switch {
					case i < 2:
						p.count(tick(i), float64(100+10*i))
					case i < 80:
						vanish(p, i)
					default:
						p.count(tick(i), tc.back)
					}
				})
				want := make([]analysis.Counts, 80)
				want[0], want[79] = requests(10, 0), requests(tc.want, 0)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s: -want, +got:\n%s", tc.reason, diff)
				}
			})
		}
	}
}

func TestResetsDuringAShift(t *testing.T) {
	s := shop
	s.SlowAbove = 500 * time.Millisecond
	values := []struct{ ok, failed, timed, fast float64 }{
		{1000, 50, 1000, 900}, {1010, 52, 1010, 905}, {4, 1, 4, 2}, {4, 1, 4, 2}, {1100, 2, 1100, 1000}, {0, 0, 0, 0}, {1, 0, 1, 0},
	}
	got := each(t, s, len(values), func(p *fakePrometheus, i int) {
		v := values[i]
		p.count(tick(i), v.ok)
		p.count(tick(i), v.failed, labelCode, "500")
		p.buckets(tick(i), map[string]float64{"500": v.fast, "+Inf": v.timed})
	})
	want := []analysis.Counts{
		{Requests: 12, Errors: 2, Timed: 10, Slow: 5}, {Requests: 5, Errors: 1, Timed: 4, Slow: 2}, {},
		{Requests: 1097, Errors: 1, Timed: 1096, Slow: 98}, {}, {Requests: 1, Timed: 1, Slow: 1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want, +got:\n%s", diff)
	}
}

// One bucket of a histogram that is no number, or missing, leaves the histogram as it was: the other bucket alone would make every
// request slow, or none.
func TestHalfAHistogramIsNone(t *testing.T) {
	s := shop
	s.SlowAbove = 500 * time.Millisecond
	for name, half := range map[string]map[string]float64{
		"NaN":         {"500": math.NaN(), "+Inf": 20},
		"NaNAll":      {"500": 15, "+Inf": math.NaN()},
		"Missing":     {"+Inf": 20},
		"OnlyTheFast": {"500": 15},
	} {
		t.Run(name, func(t *testing.T) {
			got := each(t, s, 3, func(p *fakePrometheus, i int) {
				p.count(tick(i), 1)
				switch i {
				case 0:
					p.buckets(tick(i), map[string]float64{"500": 10, "+Inf": 10})
				case 1:
					p.hide(tick(i), "__name__", metricDurations, "le", "500")
					p.hide(tick(i), "__name__", metricDurations, "le", "+Inf")
					p.buckets(tick(i), half)
				case 2:
					p.buckets(tick(i), map[string]float64{"500": 16, "+Inf": 30})
				}
			})
			if diff := cmp.Diff([]analysis.Counts{{}, {Timed: 20, Slow: 14}}, got); diff != "" {
				t.Errorf("-want, +got:\n%s", diff)
			}
		})
	}
}

// Nothing that is shown is evidence once no target answers: the newest sample tells, not the values.
func TestValuesWithoutNewSamplesAreStale(t *testing.T) {
	p := running()
	c := newWatching(t, p, shop, plain)
	p.count(tick(0), 100)
	c.look(t.Context(), tick(0))
	p.count(tick(1), 110)
	for i := 1; i < 40; i++ {
		c.look(t.Context(), tick(i))
	}
	x, err := c.Since(t.Context(), microAPI, tick(1))
	if kindOf(err) != ErrStale.Error() || x.Candidate != (analysis.Counts{}) || !x.Newest.Equal(tick(1)) {
		t.Errorf("got %+v, %v", x, err)
	}
}

// A process that begins while a counter is no number does not know what it was: it must not take all of it for new.
func TestNaNAtTheFirstLook(t *testing.T) {
	s := shop
	s.SlowAbove = 500 * time.Millisecond
	got := each(t, s, 4, func(p *fakePrometheus, i int) {
		p.count(tick(i), 1, labelWorkload, shop.Stable)
		v := float64(5000 + i)
		if i < 2 {
			v = math.NaN()
		}
		p.count(tick(i), v)
		p.buckets(tick(i), map[string]float64{"500": v, "+Inf": 6000 + float64(2*i)})
	})
	if diff := cmp.Diff([]analysis.Counts{{}, {}, {Requests: 1, Timed: 2, Slow: 1}}, got); diff != "" {
		t.Errorf("-want, +got:\n%s", diff)
	}
}
