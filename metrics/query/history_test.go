package query

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sluice-dev/sluice/metrics/analysis"
)

// history is History without an error.
func history(t testing.TB, c *Collector, until time.Time) []analysis.Sample {
	t.Helper()
	h, err := c.History(t.Context(), microAPI, until)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// A history and what is counted after it add up to what one process would have counted that had been there all the time.
func TestHistoryIsWhatLooksWouldHaveCounted(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(4, 14).Draw(rt, "looks")
		until := rapid.IntRange(2, n-1).Draw(rt, "until")
		s := shop
		s.SlowAbove = rapid.SampledFrom([]time.Duration{0, 400 * time.Millisecond}).Draw(rt, "slow above")
		p := running()
		drawWorld(rt, p, n)

		whole := newWatching(t, p, s, plain)
		for i := range n {
			whole.look(t.Context(), tick(i))
		}
		o := plain
		o.Scrape, o.History = 5*time.Second, time.Duration(until)*5*time.Second
		c := newWatching(t, p, s, o)
		for i := until; i < n; i++ {
			c.look(t.Context(), tick(i))
		}
		past, sum := history(t, c, tick(until)), analysis.Counts{}
		for i, x := range past {
			sum = sum.Add(x.Stable)
			if x.Candidate != (analysis.Counts{}) || x.Reporter != analysis.Source {
				rt.Fatalf("sample %d: %+v", i, x)
			}
			if end := tick(until - len(past) + 1 + i); !x.To.Equal(end) || !x.From.Equal(end.Add(-5*time.Second)) {
				rt.Fatalf("sample %d of %d ends at %s, want %s", i, len(past), x.To, end)
			}
		}
		if until < n-1 {
			sum = sum.Add(since(t, c, tick(until)).Stable)
		}
		if diff := cmp.Diff(since(t, whole, tick(0)).Stable, sum); diff != "" {
			rt.Fatalf("-there all the time, +history and after:\n%s", diff)
		}
	})
}

func TestHistory(t *testing.T) {
	minute := func(n int) time.Time { return epoch.Add(time.Duration(n) * time.Minute) }
	o := plain
	o.Scrape, o.History = time.Minute, 5*time.Minute
	stable := []string{labelWorkload, shop.Stable}
	failing := []string{labelWorkload, shop.Stable, labelCode, "500"}
	cases := map[string]struct {
		reason string
		world  func(*fakePrometheus)
		want   []analysis.Counts
	}{
		"AScrapeApart": {"each minute its own", func(p *fakePrometheus) {
			for i := range 6 {
				p.count(minute(i), float64(100+10*i*i), stable...)
			}
			p.count(minute(3), 4, failing...)
		}, []analysis.Counts{requests(10, 0), requests(30, 0), requests(54, 4), requests(70, 0), requests(90, 0)}},
		"AScrapeFails": {"the counter of a target that was hidden is not new", func(p *fakePrometheus) {
			p.count(minute(0), 5000, stable...)
			p.hide(minute(1), stable...)
			p.count(minute(2), 5006, stable...)
		}, []analysis.Counts{requests(6, 0), {}, {}, {}}},
		"HiddenAtFirst": {"its last value is known", func(p *fakePrometheus) {
			p.count(minute(-3), 5000, stable...)
			p.hide(minute(-1), stable...)
			p.count(minute(2), 5006, stable...)
		}, []analysis.Counts{requests(6, 0), {}, {}, {}}},
		"AReset": {"what was counted since", func(p *fakePrometheus) {
			p.count(minute(0), 5000, stable...)
			p.count(minute(1), 5010, stable...)
			p.count(minute(2), 7, stable...)
		}, []analysis.Counts{requests(10, 0), requests(7, 0), {}, {}, {}}},
		"AYoungVersion": {"before it nothing is known", func(p *fakePrometheus) {
			p.count(minute(4), 7, stable...)
			p.count(minute(5), 9, stable...)
		}, []analysis.Counts{requests(7, 0), requests(2, 0)}},
		"Nothing":    {"no traffic is no history", func(*fakePrometheus) {}, nil},
		"OnlyOthers": {"a candidate is no history", func(p *fakePrometheus) { p.count(minute(1), 7) }, nil},
		"TheOtherWord": {"the server's word does not count beside the gateway's", func(p *fakePrometheus) {
			p.count(minute(5), 1)
			p.count(minute(2), 7, append(stable, labelReporter, "destination")...)
		}, nil},
		"TheServersWord": {"where no client reports", func(p *fakePrometheus) { p.count(minute(4), 7, append(stable, labelReporter, "destination")...) }, []analysis.Counts{requests(7, 0), {}}},
		"ANoneNumber": {"is no value", func(p *fakePrometheus) {
			p.count(minute(0), 100, stable...)
			p.count(minute(1), -1, stable...)
			p.count(minute(2), 103, stable...)
		}, []analysis.Counts{requests(3, 0), {}, {}, {}}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			p := running()
			tc.world(p)
			c := newWatching(t, p, shop, o)
			c.look(t.Context(), minute(5))
			var got []analysis.Counts
			for _, x := range history(t, c, minute(5)) {
				got = append(got, x.Stable)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s: -want, +got:\n%s", tc.reason, diff)
			}
		})
	}
}

func TestHistoryOfAYoungPrometheusIsShort(t *testing.T) {
	p := newFake() // it has been scraping for ten minutes, and the counters are old
	for i := range 121 {
		p.up(tick(i))
		p.count(tick(i), float64(5000+i), labelWorkload, shop.Stable)
		if i > 1 { // a target that it finds a little later
			p.count(tick(i), float64(700+i), labelWorkload, shop.Stable, "pod", "late")
		}
	}
	c := newWatching(t, p, shop, plain)
	c.look(t.Context(), tick(120))
	got, sum := history(t, c, tick(120)), int64(0)
	for _, x := range got {
		sum += x.Stable.Requests
	}
	if len(got) != 40 || sum < 230 || sum > 238 {
		t.Errorf("%d samples of %d requests; there were 120 and 118 in ten minutes", len(got), sum)
	}
}

func TestHistoryAsksOncePerMetric(t *testing.T) {
	s := shop
	s.SlowAbove = 400 * time.Millisecond
	p := running()
	c := newWatching(t, p, s, plain)
	for i := range 10 {
		p.count(tick(i), float64(i), labelWorkload, shop.Stable)
		p.buckets(tick(i), map[string]float64{"500": float64(i) / 2, "+Inf": float64(i)}, labelWorkload, shop.Stable)
	}
	c.look(t.Context(), tick(9))
	p.asked()
	got := history(t, c, tick(9))
	if last := got[len(got)-1]; last.SlowAbove != 500*time.Millisecond || last.Stable.Timed == 0 {
		t.Errorf("the last sample is %+v", last)
	}
	want := []string{
		`last_over_time(istio_requests_total{reporter=~"destination|source|waypoint",destination_workload=~"micro-api-v1",destination_workload_namespace=~"shop"}[15m])`,
		`last_over_time(istio_request_duration_milliseconds_bucket{reporter=~"destination|source|waypoint",destination_workload=~"micro-api-v1",destination_workload_namespace=~"shop",response_code!~"5..",le=~"\\+Inf|500|500\\.0"}[15m])`,
		`istio_requests_total{reporter=~"source",destination_workload=~"micro-api-v1",destination_workload_namespace=~"shop"}`,
		`istio_request_duration_milliseconds_bucket{reporter=~"source",destination_workload=~"micro-api-v1",destination_workload_namespace=~"shop",response_code!~"5..",le=~"\\+Inf|500|500\\.0"}`,
		`count(up offset 1m)`,
	}
	if diff := cmp.Diff(want, p.asked()); diff != "" {
		t.Errorf("-want, +got:\n%s", diff)
	}
}

func TestHistoryThatIsRefusedIsAskedForShorter(t *testing.T) {
	p := running()
	c := newWatching(t, p, shop, plain)
	p.count(tick(0), 10, labelWorkload, shop.Stable)
	c.look(t.Context(), tick(1))
	refused, longest := 0, 30*time.Minute
	p.answer = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Form.Has("time") || timeOf(r, "end").Sub(timeOf(r, "start")) <= longest {
			return false
		}
		refused++
		w.WriteHeader(http.StatusUnprocessableEntity)
		_, _ = fmt.Fprint(w, `{"status":"error","errorType":"execution","error":"too many samples"}`)
		return true
	}
	if got := history(t, c, tick(1)); len(got) != 1 || refused != 1 {
		t.Errorf("%d samples, refused %d times", len(got), refused)
	}
	longest, refused = 0, 0
	if _, err := c.History(t.Context(), microAPI, tick(0)); !errors.Is(err, ErrRefused) || refused != 1+maxHalvings {
		t.Errorf("refused %d times: %v", refused, err)
	}
}

func TestAnAnswerThatIsTooLargeIsRefused(t *testing.T) {
	p := running()
	c := newWatching(t, p, shop, plain)
	c.look(t.Context(), tick(1))
	p.answer = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Form.Has("time") {
			return false
		}
		_, _ = fmt.Fprint(w, `{"status":"success","data":{"resultType":"matrix","result":[]}`, strings.Repeat(" ", maxRange), "}")
		return true
	}
	if _, err := c.History(t.Context(), microAPI, tick(1)); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "too large") {
		t.Errorf("got %v", err)
	}
}

func TestHistoryErrors(t *testing.T) {
	p := running()
	c := NewCollector(p.client(t), plain)
	if _, err := c.History(t.Context(), microAPI, tick(0)); !errors.Is(err, ErrNotYet) {
		t.Errorf("of what is not watched: %v", err)
	}
	c.Watch(microAPI, shop)
	if _, err := c.History(t.Context(), microAPI, tick(0)); !errors.Is(err, ErrNotYet) {
		t.Errorf("before the first look: %v", err)
	}
	c.look(t.Context(), tick(0))
	p.answer = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(503); return true }
	if _, err := c.History(t.Context(), microAPI, tick(0)); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "prometheus.test:9090") {
		t.Errorf("without an answer: %v", err)
	}
}

func TestHistoryIsReadOnceAndGoesOn(t *testing.T) {
	p := running()
	for i := range 200 {
		p.count(tick(i), float64(i*i), labelWorkload, shop.Stable)
	}
	o := plain
	o.Scrape, o.History = 5*time.Second, time.Minute
	c := newWatching(t, p, shop, o)
	c.look(t.Context(), tick(100))
	first := history(t, c, tick(100))
	p.asked()
	if diff := cmp.Diff(first, history(t, c, tick(100))); diff != "" || len(p.asked()) != 0 {
		t.Errorf("asked again: -first, +second:\n%s", diff)
	}
	for i := range 20 {
		c.look(t.Context(), tick(101+i))
	}
	p.asked()
	later := history(t, c, tick(103))
	if diff := cmp.Diff(first[3:], later[:len(later)-1]); diff != "" || len(p.asked()) != 0 {
		t.Errorf("gone on: -first, +later:\n%s", diff)
	}
	want := analysis.Sample{From: tick(100), To: tick(103), Reporter: analysis.Source, Stable: requests(103*103-100*100, 0)}
	if diff := cmp.Diff(want, later[len(later)-1]); diff != "" {
		t.Errorf("what came after: -want, +got:\n%s", diff)
	}
	if got := history(t, c, tick(90)); !got[len(got)-1].To.Equal(tick(90)) {
		t.Errorf("until an earlier time it ends at %s", got[len(got)-1].To)
	}
}
