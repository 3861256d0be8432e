package query

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"

	"github.com/sluice-dev/sluice/metrics/analysis"
)

var (
	epoch    = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	microAPI = Key{"shop", "micro-api"}
)

// tick is the time of the n-th look, an Interval apart.
func tick(n int) time.Time { return epoch.Add(time.Duration(n) * 5 * time.Second) }

// plain are options without a clock of their own: tests say when to look.
var plain = Options{Interval: 5 * time.Second, Settle: -1, Jitter: -1, MaxAge: time.Minute}

// running is a fake that has been scraping for long and goes on.
func running() *fakePrometheus {
	p := newFake()
	for at := epoch.Add(-time.Hour); at.Before(epoch.Add(time.Hour)); at = at.Add(time.Minute) {
		p.up(at)
	}
	return p
}

// count has Prometheus scrape a counter of the candidate, as a gateway reports it, with changed labels.
func (p *fakePrometheus) count(at time.Time, value float64, changes ...string) {
	p.add(at, value, false, labels(changes...))
}

// hide has a scrape of that counter's target fail.
func (p *fakePrometheus) hide(at time.Time, changes ...string) {
	p.add(at, 0, true, labels(changes...))
}

// buckets has Prometheus scrape a histogram of the candidate.
func (p *fakePrometheus) buckets(at time.Time, values map[string]float64, changes ...string) {
	for le, v := range values {
		p.add(at, v, false, labels(append([]string{"__name__", metricDurations, "le", le}, changes...)...))
	}
}

func newWatching(t testing.TB, p *fakePrometheus, s Subject, o Options) *Collector {
	t.Helper()
	c := NewCollector(p.client(t), o)
	c.Watch(microAPI, s)
	return c
}

// since is Since without an error.
func since(t testing.TB, c *Collector, from time.Time) analysis.Sample {
	t.Helper()
	x, err := c.Since(t.Context(), microAPI, from)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func requests(n, failed int64) analysis.Counts { return analysis.Counts{Requests: n, Errors: failed} }

func TestSinceCountsBetweenLooks(t *testing.T) {
	p := running()
	c := newWatching(t, p, shop, plain)
	if _, err := c.Since(t.Context(), microAPI, time.Time{}); !errors.Is(err, ErrNotYet) {
		t.Errorf("before the first look: %v", err)
	}
	p.count(tick(0), 100)
	p.count(tick(0), 1000, labelWorkload, shop.Stable)
	c.look(t.Context(), tick(0))
	want := analysis.Sample{From: tick(0), To: tick(0), Newest: tick(0), Reporter: analysis.Source}
	if diff := cmp.Diff(want, since(t, c, time.Time{})); diff != "" {
		t.Errorf("baseline: -want, +got:\n%s", diff)
	}

	p.count(tick(1), 110)
	p.count(tick(1), 1050, labelWorkload, shop.Stable)
	p.count(tick(1), 4, labelCode, "500")                                             // born
	p.count(tick(1), 3, labelCode, "0", labelFlags, "DC")                             // the client's own
	p.count(tick(1), 2, labelCode, "503", labelFlags, "UH", labelWorkload, "unknown") // nobody's
	p.count(tick(1), 20, labelReporter, "destination")                                // the other reporter
	c.look(t.Context(), tick(1))
	p.count(tick(2), 115)
	c.look(t.Context(), tick(2))
	want = analysis.Sample{From: tick(0), To: tick(2), Newest: tick(2), Reporter: analysis.Source,
		Candidate: requests(19, 4), Stable: requests(50, 0), Cross: requests(20, 0), NoHost: 2}
	if diff := cmp.Diff(want, since(t, c, tick(0))); diff != "" {
		t.Errorf("two looks: -want, +got:\n%s", diff)
	}
	want = analysis.Sample{From: tick(1), To: tick(2), Newest: tick(2), Reporter: analysis.Source, Candidate: requests(5, 0)}
	if diff := cmp.Diff(want, since(t, c, tick(1))); diff != "" {
		t.Errorf("the last look: -want, +got:\n%s", diff)
	}
	if _, err := c.Since(t.Context(), microAPI, tick(3)); !errors.Is(err, ErrNotYet) {
		t.Errorf("from a look to come: %v", err)
	}
}

func TestDestinationReportsWhereNoClientIsInTheMesh(t *testing.T) {
	p := running()
	c := newWatching(t, p, shop, plain)
	for i, v := range []float64{10, 25} {
		p.count(tick(i), v, labelReporter, "destination")
		c.look(t.Context(), tick(i))
	}
	want := analysis.Sample{From: tick(0), To: tick(1), Newest: tick(1), Reporter: analysis.Destination, Candidate: requests(15, 0)}
	if diff := cmp.Diff(want, since(t, c, tick(0))); diff != "" {
		t.Errorf("-want, +got:\n%s", diff)
	}
}

func TestScrapeFailsAtTheFirstLook(t *testing.T) {
	p := running()
	c := newWatching(t, p, shop, plain)
	p.count(tick(-3), 5000)
	p.hide(tick(0))
	p.count(tick(0), 1, "pod", "other")
	c.look(t.Context(), tick(0))
	p.count(tick(1), 5002)
	c.look(t.Context(), tick(1))
	if got := since(t, c, tick(0)).Candidate; got != requests(2, 0) {
		t.Errorf("got %+v: the counter was there before, and its last value is known", got)
	}
}

func TestPrometheusLosesItsData(t *testing.T) {
	p := running()
	c := newWatching(t, p, shop, plain)
	p.count(tick(0), 5000)
	c.look(t.Context(), tick(0))
	p.clear()
	c.look(t.Context(), tick(1))
	if x, err := c.Since(t.Context(), microAPI, tick(0)); err != nil || x.Candidate != requests(0, 0) {
		t.Errorf("just restarted: %+v, %v", x, err)
	}
	p.up(tick(2))
	p.count(tick(2), 5003)
	c.look(t.Context(), tick(2))
	if got := since(t, c, tick(0)).Candidate; got != requests(3, 0) {
		t.Errorf("got %+v: a Prometheus restart made an old counter new", got)
	}
}

func TestWatchBeginsWhilePrometheusRestarts(t *testing.T) {
	p := newFake()
	c := newWatching(t, p, shop, plain)
	p.up(tick(0)) // one target is scraped, the gateway is not yet
	c.look(t.Context(), tick(0))
	p.count(tick(1), 5000)
	c.look(t.Context(), tick(1))
	p.count(tick(2), 5004)
	c.look(t.Context(), tick(2))
	if got := since(t, c, tick(0)).Candidate; got != requests(4, 0) {
		t.Errorf("got %+v: only 4 requests happened while anyone looked", got)
	}
	for i := 3; i < 20; i++ { // after MaxAge what Prometheus does not show does not exist
		p.up(tick(i))
		p.count(tick(i), 5004)
		c.look(t.Context(), tick(i))
	}
	p.count(tick(20), 6, labelCode, "500")
	c.look(t.Context(), tick(20))
	if got := since(t, c, tick(19)).Candidate; got != requests(6, 6) {
		t.Errorf("got %+v: the first errors of a new series were lost", got)
	}
}

func TestErrors(t *testing.T) {
	status := func(code int) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool { http.Error(w, "<html>no</html>", code); return true }
	}
	body := func(s string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool { _, _ = w.Write([]byte(s)); return true }
	}
	cases := map[string]struct {
		answer func(http.ResponseWriter, *http.Request) bool
		want   error
	}{
		"Unavailable": {status(503), ErrUnreachable},
		"Forbidden":   {status(403), ErrRefused},
		"NotFound":    {status(404), ErrRefused},
		"LoginPage":   {body("<html>log in</html>"), ErrUnreachable},
		"Truncated":   {body(`{"status":"success","data":{"resultType":"vector","result":[`), ErrUnreachable},
		"Scalar":      {body(`{"status":"success","data":{"resultType":"scalar","result":[1,"2"]}}`), ErrUnreachable},
		"TooMuch":     {body(`{"status":"error","errorType":"execution","error":"too many samples"}`), ErrRefused},
		"InPart": {func(w http.ResponseWriter, _ *http.Request) bool {
			writeValue(w, model.Vector{}, []string{"store-2 did not answer"})
			return true
		}, ErrUnreachable},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			p := running()
			c := newWatching(t, p, shop, plain)
			p.count(tick(0), 100)
			c.look(t.Context(), tick(0))
			drain(c)

			p.answer = tc.answer
			p.count(tick(1), 108)
			c.look(t.Context(), tick(1))
			x, err := c.Since(t.Context(), microAPI, tick(0))
			if !errors.Is(err, tc.want) || !x.To.Equal(tick(0)) {
				t.Errorf("got %+v, %v", x, err)
			}
			if err != nil && !strings.Contains(err.Error(), "Prometheus at http://prometheus.test:9090: requests query: ") {
				t.Errorf("the error names neither address nor query: %v", err)
			}
			c.look(t.Context(), tick(2))
			if got := drain(c); len(got) != 1 {
				t.Errorf("woken %d times by one new error", len(got))
			}

			p.answer = nil
			c.look(t.Context(), tick(3))
			if got := since(t, c, tick(0)); got.Candidate != requests(8, 0) || len(drain(c)) != 1 {
				t.Errorf("after the recovery: %+v", got)
			}
		})
	}
}

// drain takes the news that wait.
func drain(c *Collector) []Key {
	var keys []Key
	for {
		select {
		case k := <-c.Updates():
			keys = append(keys, k)
		default:
			return keys
		}
	}
}

func TestErrorOfTheFirstLook(t *testing.T) {
	p := running()
	p.answer = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(502); return true }
	c := newWatching(t, p, shop, plain)
	c.look(t.Context(), tick(0))
	if x, err := c.Since(t.Context(), microAPI, time.Time{}); !errors.Is(err, ErrUnreachable) || !x.To.IsZero() {
		t.Errorf("got %+v, %v", x, err)
	}
}

func TestNoSeriesAndStale(t *testing.T) {
	p := running()
	c := newWatching(t, p, shop, plain)
	c.look(t.Context(), tick(0))
	x, err := c.Since(t.Context(), microAPI, time.Time{})
	if !errors.Is(err, ErrNoSeries) || !x.To.Equal(tick(0)) {
		t.Errorf("nothing there: %+v, %v", x, err)
	}
	p.count(tick(1), 7)
	c.look(t.Context(), tick(1))
	if got := since(t, c, tick(0)).Candidate; got != requests(7, 0) {
		t.Errorf("the first requests ever: %+v", got)
	}
	c.look(t.Context(), tick(13)) // exactly MaxAge later
	since(t, c, tick(1))
	drain(c)
	c.look(t.Context(), tick(14))
	x, err = c.Since(t.Context(), microAPI, tick(1))
	if !errors.Is(err, ErrStale) || !x.Newest.Equal(tick(1)) || !strings.Contains(err.Error(), "1m5s old, older than 1m0s") {
		t.Errorf("a minute later: %+v, %v", x, err)
	}
	if len(drain(c)) != 1 {
		t.Error("nobody was told that the evidence became stale")
	}
	c.look(t.Context(), tick(15))
	if len(drain(c)) != 0 {
		t.Error("somebody was told twice")
	}
}

func TestNoNewScrapeIsNoNews(t *testing.T) {
	p := running()
	c := newWatching(t, p, shop, plain)
	p.count(tick(0), 7)
	c.look(t.Context(), tick(0))
	first := len(drain(c))
	c.look(t.Context(), tick(1))
	idle := len(drain(c))
	p.count(tick(2), 7) // scraped again, though nothing happened
	c.look(t.Context(), tick(2))
	if scraped := len(drain(c)); first != 1 || idle != 0 || scraped != 1 {
		t.Errorf("woken %d, %d, %d times", first, idle, scraped)
	}
}

func TestSlowPrometheus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := running()
		p.answer = func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true }
		c := newWatching(t, p, shop, Options{Interval: 10 * time.Second, Timeout: 3 * time.Second, Chunk: 1})
		c.Watch(Key{"shop", "cart"}, Subject{Service: "cart"})
		c.Watch(Key{"shop", "till"}, Subject{Service: "till"})
		start := time.Now()
		c.look(t.Context(), tick(0))
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("a look at a Prometheus that hangs took %v: one Timeout is enough to know", took)
		}
		for k := range c.watches {
			if _, err := c.Since(t.Context(), k, time.Time{}); !errors.Is(err, ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", k, err)
			}
		}
	})
}

func TestStartLooksOnlyWhileSomethingIsWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newFake()
		c := NewCollector(p.client(t), Options{Interval: 5 * time.Second})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Start(ctx) }()
		time.Sleep(time.Hour)
		if q := p.asked(); len(q) != 0 {
			t.Errorf("at rest it asked %q", q)
		}
		c.Watch(microAPI, shop)
		synctest.Wait()
		if len(p.asked()) == 0 {
			t.Error("the first look waits for nothing")
		}
		time.Sleep(time.Minute)
		looks := 0
		for _, q := range p.asked() {
			if strings.HasPrefix(q, "istio_requests_total") || strings.HasPrefix(q, "last_over_time(istio_requests_total") {
				looks++
			}
		}
		if looks < 10 || looks > 14 { // 12, moved by a tenth of the interval each
			t.Errorf("%d looks in a minute", looks)
		}
		c.Unwatch(microAPI)
		time.Sleep(10 * time.Second)
		p.asked()
		time.Sleep(time.Hour)
		if q := p.asked(); len(q) != 0 {
			t.Errorf("at rest again it asked %q", q)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestLooksNeverGoBackInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCollector(newFake().client(t), Options{Settle: time.Second})
		c.last = time.Now().Add(time.Hour).UTC().Truncate(time.Millisecond)
		if at := c.now(); !at.Equal(time.Now().Add(time.Hour+time.Millisecond)) || at.Nanosecond()%1e6 != 0 {
			t.Errorf("looked at %v", at)
		}
		c.last = time.Time{}
		if at := c.now(); !at.Equal(time.Now().Add(-time.Second)) {
			t.Errorf("looked at %v", at)
		}
	})
}

func TestOneQueryForMany(t *testing.T) {
	p := running()
	c := NewCollector(p.client(t), Options{Interval: 5 * time.Second, Chunk: 10})
	subject := func(i int) (Key, Subject) {
		n := fmt.Sprintf("s%02d", i)
		return Key{"shop", n}, Subject{Service: n + ".shop", Namespace: "shop", Stable: n + "-v1", Candidate: n + "-v2"}
	}
	scrape := func(at time.Time, of func(i int) float64) {
		for i := range 25 {
			_, s := subject(i)
			p.count(at, of(i), labelService, s.Service, labelWorkload, s.Candidate)
		}
	}
	for i := range 25 {
		c.Watch(subject(i))
	}
	scrape(tick(0), func(i int) float64 { return float64(1000 * i) })
	c.look(t.Context(), tick(0))
	p.asked()
	scrape(tick(1), func(i int) float64 { return float64(1000*i + i) })
	c.look(t.Context(), tick(1))
	if q := p.asked(); len(q) != 3*2 {
		t.Errorf("25 subjects in chunks of 10 took %d queries, want 3 of requests and 3 of freshness:\n%s", len(q), strings.Join(q, "\n"))
	}
	for i := range 25 {
		k, _ := subject(i)
		if x, err := c.Since(t.Context(), k, tick(0)); err != nil || x.Candidate != requests(int64(i), 0) {
			t.Errorf("%s: %+v, %v", k, x, err)
		}
	}
	if got := drain(c); len(got) != 50 {
		t.Errorf("woken %d times in two looks, want 50", len(got))
	}
}

func TestLabelValuesThatNeedEscapes(t *testing.T) {
	p := running()
	hostile := Subject{Service: "a|b\"}.c\\d\n*", Namespace: "a\\|b", Stable: ".*", Candidate: "x+"}
	c := newWatching(t, p, hostile, plain)
	for i, v := range []float64{5, 9} {
		p.count(tick(i), v, labelService, hostile.Service, labelNamespace, hostile.Namespace, labelWorkload, hostile.Candidate)
		p.count(tick(i), 100*v, labelService, hostile.Service, labelNamespace, hostile.Namespace, labelWorkload, "xx") // matches x+ as a regular expression
		c.look(t.Context(), tick(i))
	}
	if got := since(t, c, tick(0)); got.Candidate != requests(4, 0) || got.Stable != requests(0, 0) {
		t.Errorf("got %+v", got)
	}
}

// heard is an Observer.
type heard struct {
	mu      sync.Mutex
	queries map[string]int
	failed  map[string]int
	skipped int
}

func (h *heard) ObserveQuery(kind string, _ time.Duration, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.queries[kind]++
	if err != nil {
		h.failed[kind]++
	}
}

func (h *heard) ObserveSkipped(_ string, n int) { h.skipped += n }

func TestNaNIsSkippedAndReported(t *testing.T) {
	p, h := running(), &heard{queries: map[string]int{}, failed: map[string]int{}}
	o := plain
	o.Observer = h
	c := newWatching(t, p, shop, o)
	for i, v := range []string{"10", "NaN", "12"} {
		p.count(tick(i), 1+float64(i), "pod", "sound")
		var broken model.SampleValue
		_ = broken.UnmarshalJSON([]byte(`"` + v + `"`))
		p.count(tick(i), float64(broken), "pod", "broken")
		c.look(t.Context(), tick(i))
	}
	if got := since(t, c, tick(0)); got.Candidate != requests(4, 0) || h.skipped != 1 {
		t.Errorf("got %+v, %d skipped", got, h.skipped)
	}
	want := map[string]int{kindRequests: 3, kindFreshness: 3, kindUp: 1}
	if diff := cmp.Diff(want, h.queries); diff != "" || len(h.failed) != 0 {
		t.Errorf("-want, +got:\n%s", diff)
	}
}

func TestLatency(t *testing.T) {
	s := shop
	s.SlowAbove = 400 * time.Millisecond
	p := running()
	c := newWatching(t, p, s, plain)
	c.look(t.Context(), tick(0))
	// Prometheus 3 spells "500" as "500.0"; a proxy with bounds of its own has no such bucket.
	p.count(tick(1), 10)
	p.buckets(tick(1), map[string]float64{"250": 4, "500.0": 8, "1000": 9, "+Inf": 10})
	p.buckets(tick(1), map[string]float64{"600": 5, "+Inf": 1000}, "pod", "own-bounds")
	p.buckets(tick(1), map[string]float64{"500.0": 2, "+Inf": 3}, labelCode, "500")
	c.look(t.Context(), tick(1))
	want := analysis.Sample{From: tick(0), To: tick(1), Newest: tick(1), Reporter: analysis.Source, SlowAbove: 500 * time.Millisecond,
		Candidate: analysis.Counts{Requests: 10, Timed: 10, Slow: 2}}
	if diff := cmp.Diff(want, since(t, c, tick(0))); diff != "" {
		t.Errorf("-want, +got:\n%s", diff)
	}
	p.asked()
	c.look(t.Context(), tick(2))
	if q := strings.Join(p.asked(), "\n"); strings.Contains(q, "count by") || !strings.Contains(q, `le=~"\\+Inf|500|500\\.0"`) {
		t.Errorf("with a bound chosen it asks for two buckets and for no list of bounds:\n%s", q)
	}
}

func TestTheBoundNextToTheLimit(t *testing.T) {
	cases := map[string]struct {
		reason  string
		limit   time.Duration
		buckets map[string]float64
		bound   time.Duration
		want    analysis.Counts
	}{
		"NotAsked":   {"nobody is timed", 0, map[string]float64{"500": 8, "+Inf": 10}, 0, requests(10, 0)},
		"OnABound":   {"that one", 500 * time.Millisecond, map[string]float64{"250": 7, "500": 8, "1000": 9, "+Inf": 10}, 500 * time.Millisecond, analysis.Counts{Requests: 10, Timed: 10, Slow: 2}},
		"Between":    {"the smallest that is not below", 501 * time.Millisecond, map[string]float64{"500": 8, "1000": 9, "+Inf": 10}, time.Second, analysis.Counts{Requests: 10, Timed: 10, Slow: 1}},
		"BelowAll":   {"the smallest", time.Microsecond, map[string]float64{"0.5": 1, "1": 2, "+Inf": 10}, 500 * time.Microsecond, analysis.Counts{Requests: 10, Timed: 10, Slow: 9}},
		"AboveAll":   {"the largest finite one, so that something is timed", time.Hour, map[string]float64{"500": 8, "1000": 9, "+Inf": 10}, time.Second, analysis.Counts{Requests: 10, Timed: 10, Slow: 1}},
		"NoBuckets":  {"nobody is timed", time.Second, nil, 0, requests(10, 0)},
		"NoneFinite": {"nobody is timed", time.Second, map[string]float64{"+Inf": 10}, 0, requests(10, 0)},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s := shop
			s.SlowAbove = tc.limit
			p := running()
			c := newWatching(t, p, s, plain)
			c.look(t.Context(), tick(0))
			p.count(tick(1), 10)
			p.buckets(tick(1), tc.buckets)
			c.look(t.Context(), tick(1))
			if got := since(t, c, tick(0)); got.SlowAbove != tc.bound || got.Candidate != tc.want {
				t.Errorf("%s: bound %s, %+v", tc.reason, got.SlowAbove, got.Candidate)
			}
		})
	}
}

func TestAFailureIsNotTimed(t *testing.T) {
	s := shop
	s.SlowAbove = 500 * time.Millisecond
	p := running()
	c := newWatching(t, p, s, plain)
	c.look(t.Context(), tick(0))
	p.count(tick(1), 10)
	for _, failure := range [][]string{{labelCode, "503"}, {labelProtocol, "grpc", labelGRPCStatus, "14"}} {
		p.count(tick(1), 20, failure...)
		p.buckets(tick(1), map[string]float64{"500": 1, "+Inf": 20}, failure...)
	}
	p.buckets(tick(1), map[string]float64{"500": 6, "+Inf": 7})
	p.buckets(tick(1), map[string]float64{"500": 1, "+Inf": 3}, labelCode, "404")
	c.look(t.Context(), tick(1))
	want := analysis.Counts{Requests: 50, Errors: 40, Timed: 10, Slow: 3}
	if got := since(t, c, tick(0)).Candidate; got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestASecondServiceOverTheSamePodsIsSeen(t *testing.T) {
	p := running()
	c := newWatching(t, p, shop, plain)
	c.look(t.Context(), tick(0))
	p.count(tick(1), 3, labelService, "all.shop.svc.cluster.local")
	p.count(tick(1), 2, labelService, "all.shop.svc.cluster.local", labelCode, "500")
	p.count(tick(1), 90, labelWorkload, shop.Stable)
	p.count(tick(1), 5, labelWorkload, shop.Stable, labelService, "all.shop.svc.cluster.local")
	p.count(tick(1), 40, labelNamespace, "till")
	p.count(tick(1), 30, labelService, "all.shop.svc.cluster.local", labelWorkload, "unknown", labelNamespace, "unknown", labelCode, "503", labelFlags, "UH")
	c.look(t.Context(), tick(1))
	want := analysis.Sample{From: tick(0), To: tick(1), Newest: tick(1), Reporter: analysis.Source, Candidate: requests(5, 2), Stable: requests(95, 0)}
	if diff := cmp.Diff(want, since(t, c, tick(0))); diff != "" {
		t.Errorf("-want, +got:\n%s", diff)
	}
}

// What comes to a version's own Service is no user's, and counts only while that is all there is to see of it.
func TestAPreviewIsNoTraffic(t *testing.T) {
	for previewing, want := range map[bool]analysis.Counts{false: requests(5, 0), true: requests(8, 2)} {
		p := running()
		subject := shop
		subject.Previewing = previewing
		c := newWatching(t, p, subject, plain)
		c.look(t.Context(), tick(0))
		p.count(tick(1), 5)
		p.count(tick(1), 1, labelService, shop.Candidate+".shop.svc.cluster.local")
		p.count(tick(1), 2, labelService, shop.Candidate+".shop.svc.cluster.local", labelCode, "500")
		c.look(t.Context(), tick(1))
		if diff := cmp.Diff(want, since(t, c, tick(0)).Candidate); diff != "" {
			t.Errorf("previewing %t (-want +got):\n%s", previewing, diff)
		}
	}
}

// Copies are seen by the server alone: the caller's proxy forgets them. With the server as the reporter both versions are counted by it.
func TestCopiesAreCountedByTheServer(t *testing.T) {
	p := running()
	subject := shop
	subject.Reporter = analysis.Destination
	c := newWatching(t, p, subject, plain)
	c.look(t.Context(), tick(0))
	p.count(tick(1), 100, labelWorkload, shop.Stable)
	p.count(tick(1), 100, labelWorkload, shop.Stable, labelReporter, "destination")
	p.count(tick(1), 8, labelReporter, "destination")
	p.count(tick(1), 2, labelReporter, "destination", labelCode, "500")
	c.look(t.Context(), tick(1))
	want := analysis.Sample{From: tick(0), To: tick(1), Newest: tick(1), Reporter: analysis.Destination, Candidate: requests(10, 2), Stable: requests(100, 0)}
	if diff := cmp.Diff(want, since(t, c, tick(0))); diff != "" {
		t.Errorf("-want, +got:\n%s", diff)
	}
}

func TestReporter(t *testing.T) {
	all := map[string]float64{"source": 7, "waypoint": 6, "destination": 8}
	only := func(names ...string) map[string]float64 {
		some := map[string]float64{}
		for _, n := range names {
			some[n] = all[n]
		}
		return some
	}
	cases := map[string]struct {
		setting      analysis.Reporter
		reports      map[string]float64
		want         analysis.Reporter
		main, cross  int64
		noHost       int64
		alsoNoHostBy string
	}{
		"AutoAll":             {"", all, analysis.Source, 7, 8, 0, ""},
		"AutoSource":          {"", only("source"), analysis.Source, 7, 0, 0, ""},
		"AutoAmbient":         {"", only("waypoint", "destination"), analysis.Waypoint, 6, 8, 0, ""},
		"AutoNoClient":        {"", only("destination"), analysis.Destination, 8, 0, 0, ""},
		"AutoNone":            {"", nil, analysis.Destination, 0, 0, 0, ""},
		"AutoNoHostOnly":      {"", only("destination"), analysis.Source, 0, 8, 4, "source"},
		"Source":              {analysis.Source, all, analysis.Source, 7, 8, 0, ""},
		"SourceSilent":        {analysis.Source, only("waypoint", "destination"), analysis.Source, 0, 8, 0, ""},
		"Waypoint":            {analysis.Waypoint, all, analysis.Waypoint, 6, 8, 4, "waypoint"},
		"Destination":         {analysis.Destination, all, analysis.Destination, 8, 7, 0, "source"},
		"DestinationAmbient":  {analysis.Destination, only("waypoint", "destination"), analysis.Destination, 8, 6, 0, "waypoint"},
		"DestinationNoClient": {analysis.Destination, only("destination"), analysis.Destination, 8, 0, 0, ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s := shop
			s.Reporter = tc.setting
			p := running()
			c := newWatching(t, p, s, plain)
			c.look(t.Context(), tick(0))
			for r, n := range tc.reports {
				p.count(tick(1), n, labelReporter, r)
			}
			if tc.alsoNoHostBy != "" {
				p.count(tick(1), 4, labelReporter, tc.alsoNoHostBy, labelWorkload, "unknown", labelNamespace, "unknown", labelCode, "503", labelFlags, "UH")
			}
			c.look(t.Context(), tick(1))
			got, _ := c.Since(t.Context(), microAPI, tick(0))
			want := analysis.Sample{From: tick(0), To: tick(1), Newest: got.Newest, Reporter: tc.want,
				Candidate: requests(tc.main, 0), Cross: requests(tc.cross, 0), NoHost: tc.noHost}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want, +got:\n%s", diff)
			}
		})
	}
}

// The source's first words repeat what the destination has told already.
func TestABetterReporterThatComesLaterCountsNothingTwice(t *testing.T) {
	p := running()
	c := newWatching(t, p, shop, plain)
	c.look(t.Context(), tick(0))
	p.count(tick(1), 10, labelReporter, "destination")
	c.look(t.Context(), tick(1))
	p.count(tick(2), 12)
	p.count(tick(2), 12, labelReporter, "destination")
	c.look(t.Context(), tick(2))
	p.count(tick(3), 20)
	p.count(tick(3), 20, labelReporter, "destination")
	c.look(t.Context(), tick(3))
	got := since(t, c, tick(0))
	if got.Reporter != analysis.Source || got.Candidate.Requests != 18 {
		t.Errorf("got %+v: 20 requests were sent, and the two of the look in which the reporter changed are nobody's", got)
	}
	if got := since(t, c, tick(2)); got.Candidate != requests(8, 0) || got.Cross != requests(8, 0) {
		t.Errorf("after the change: %+v", got)
	}
}

func TestAnotherSubjectBeginsAnew(t *testing.T) {
	p := running()
	c := newWatching(t, p, shop, plain)
	next := Subject{Service: shop.Service, Namespace: shop.Namespace, Stable: shop.Candidate, Candidate: "micro-api-v3"}
	p.count(tick(0), 10)
	c.look(t.Context(), tick(0))
	c.Watch(microAPI, shop) // the same again
	since(t, c, tick(0))
	c.Watch(microAPI, next)
	if _, err := c.Since(t.Context(), microAPI, tick(0)); !errors.Is(err, ErrNotYet) {
		t.Errorf("right after the change: %v", err)
	}
	p.count(tick(1), 30)
	p.count(tick(1), 6, labelWorkload, next.Candidate)
	c.look(t.Context(), tick(1))
	if got := since(t, c, tick(0)); got.Stable != requests(20, 0) || got.Candidate != requests(6, 0) {
		t.Errorf("got %+v", got)
	}
	c.Unwatch(microAPI)
	if _, err := c.Since(t.Context(), microAPI, tick(0)); !errors.Is(err, ErrNotYet) {
		t.Errorf("after Unwatch: %v", err)
	}
}

func TestUpdatesNeverBlockAndLoseNothing(t *testing.T) {
	p := running()
	c := newWatching(t, p, shop, plain)
	for range room { // nobody reads
		c.updates <- Key{}
	}
	c.look(t.Context(), tick(0))
	drain(c)
	c.look(t.Context(), tick(1))
	if diff := cmp.Diff([]Key{microAPI}, drain(c)); diff != "" {
		t.Errorf("news for which there was no room: -want, +got:\n%s", diff)
	}
}

func TestStoppingIsNoFailureOfPrometheus(t *testing.T) {
	p := running()
	c := newWatching(t, p, shop, plain)
	p.count(tick(0), 1)
	c.look(t.Context(), tick(0))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c.look(ctx, tick(1))
	since(t, c, tick(0))
}

func TestConcurrentUse(t *testing.T) {
	p := running()
	for i := range 30 {
		p.count(tick(i), float64(i))
	}
	c := newWatching(t, p, shop, plain)
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			for n := range 30 {
				k := Key{"shop", fmt.Sprint(i, n%3)}
				c.Watch(k, shop)
				_, _ = c.Since(t.Context(), microAPI, tick(-1))
				c.Unwatch(k)
				drain(c)
			}
		})
	}
	for i := range 30 {
		c.look(t.Context(), tick(i))
	}
	group.Wait()
	if got := since(t, c, tick(0)).Candidate; got != requests(29, 0) {
		t.Errorf("got %+v", got)
	}
}

func TestNewClientRefusesWhatIsNoAddress(t *testing.T) {
	for _, address := range []string{"", "prometheus:9090", "ftp://prometheus", "http://", "http://[::1"} {
		if _, err := NewClient(address, nil); err == nil {
			t.Errorf("%q was taken for an address", address)
		}
	}
	c, err := NewClient("https://user:secret@prometheus.test", nil)
	if err != nil || strings.Contains(c.Address(), "secret") {
		t.Errorf("%v, %v", c, err)
	}
}
