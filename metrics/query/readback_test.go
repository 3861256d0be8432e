package query

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sluice-dev/sluice/metrics/analysis"
)

// A restart loses nothing and counts nothing twice: however a run of looks is divided among processes, with looks missed in
// between, the samples add up to what one process that never stopped would have counted.
func TestRestartsDoNotChangeTheSum(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(3, 14).Draw(rt, "looks")
		s := shop
		s.SlowAbove = rapid.SampledFrom([]time.Duration{0, 400 * time.Millisecond}).Draw(rt, "slow above")
		p := running()
		drawWorld(rt, p, n)

		whole := newWatching(t, p, s, plain)
		for i := range n {
			whole.look(t.Context(), tick(i))
		}
		want := since(t, whole, tick(0))

		var got analysis.State
		counted := tick(0)
		c := newWatching(t, p, s, plain)
		c.look(t.Context(), counted)
		for i := 1; i < n; i++ {
			switch rapid.SampledFrom([]string{"look", "look and count", "restart", "down"}).Draw(rt, fmt.Sprint("at look ", i)) {
			case "restart":
				c = newWatching(t, p, s, plain)
			case "down":
				c = newWatching(t, p, s, plain)
				if i < n-1 {
					continue
				}
			case "look":
				c.look(t.Context(), tick(i))
				if i < n-1 {
					continue
				}
			}
			c.look(t.Context(), tick(i))
			x := since(t, c, counted)
			if !x.From.Equal(counted) || !x.To.Equal(tick(i)) {
				rt.Fatalf("asked from %v at %v, got a sample from %v to %v", counted, tick(i), x.From, x.To)
			}
			got, counted = got.Add(x), x.To
		}
		if diff := cmp.Diff(analysis.State{}.Add(want), got, ignoreSamples); diff != "" {
			rt.Fatalf("-uninterrupted, +restarted:\n%s", diff)
		}
	})
}

var ignoreSamples = cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "Samples" }, cmp.Ignore())

// drawWorld scrapes a few counters at every look: they rise, are reset, are born and hide.
func drawWorld(t *rapid.T, p *fakePrometheus, looks int) {
	kinds := [][]string{
		{"pod", "gateway"},
		{"pod", "gateway", labelCode, "500"},
		{"pod", "sidecar", labelCode, "503", labelFlags, "UF"},
		{"pod", "gateway", labelWorkload, shop.Stable},
		{"pod", "server", labelReporter, "destination"},
		{"pod", "gateway", labelWorkload, "unknown", labelCode, "503", labelFlags, "UH"},
	}
	for k, changes := range kinds {
		v := float64(rapid.IntRange(0, 1000).Draw(t, fmt.Sprint("series ", k)))
		slow := math.Floor(v / 2)
		born := rapid.IntRange(-2, looks-1).Draw(t, fmt.Sprint("birth of ", k))
		for i := max(born, 0); i < looks; i++ {
			switch rapid.SampledFrom([]string{"rise", "rise", "rise", "reset", "hide", "keep"}).Draw(t, "then") {
			case "keep":
				continue // it is not scraped, and shows what it showed
			case "hide":
				p.hide(tick(i), changes...)
				for _, le := range []string{"500", "+Inf"} {
					p.hide(tick(i), append([]string{"__name__", metricDurations, "le", le}, changes...)...)
				}
				continue
			case "reset":
				v, slow = 0, 0
			}
			v += float64(rapid.IntRange(0, 50).Draw(t, "by"))
			slow += float64(rapid.IntRange(0, int(v-slow)).Draw(t, "slow"))
			p.count(tick(i), v, changes...)
			p.buckets(tick(i), map[string]float64{"500": v - slow, "+Inf": v}, changes...)
		}
	}
	p.count(tick(0), 1, "pod", "always") // so that there is always a series
	for i := range looks {
		p.count(tick(i), 1, "pod", "always")
	}
}

func TestReadBackIsRememberedAndRepeated(t *testing.T) {
	p := running()
	p.count(tick(0), 100)
	p.count(tick(9), 130)
	c := newWatching(t, p, shop, plain)
	c.look(t.Context(), tick(10))
	p.answer = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(503); return true }
	x, err := c.Since(t.Context(), microAPI, tick(0))
	if !errors.Is(err, ErrUnreachable) || x != (analysis.Sample{}) || !strings.Contains(err.Error(), "reading back from 2026-01-02T03:04:05Z") {
		t.Errorf("without an answer: %+v, %v", x, err)
	}
	p.answer = nil
	p.asked()
	if got := since(t, c, tick(0)).Candidate; got != requests(30, 0) {
		t.Errorf("got %+v", got)
	}
	if n := len(p.asked()); n == 0 || n > 2+maxReplay {
		t.Errorf("%d queries to read back", n)
	}
	if got := since(t, c, tick(0)).Candidate; got != requests(30, 0) || len(p.asked()) != 0 {
		t.Errorf("the second time: %+v", got)
	}
}

func TestReadBackFromLongAgoIsBounded(t *testing.T) {
	p := running()
	for i := range 600 {
		p.count(tick(i), float64(i))
	}
	c := newWatching(t, p, shop, plain)
	c.look(t.Context(), tick(600))
	p.asked()
	if got := since(t, c, tick(0)).Candidate; got != requests(599, 0) {
		t.Errorf("got %+v", got)
	}
	if n := len(p.asked()); n > 2+maxReplay {
		t.Errorf("%d queries for 50 minutes", n)
	}
}

func TestReadBackFromATimeThatPrometheusLost(t *testing.T) {
	p := newFake() // it restarted without its data a while after from
	for i := 5; i < 40; i++ {
		p.up(tick(i))
		p.count(tick(i), float64(5000+i), labelWorkload, shop.Stable)
		p.count(tick(i), float64(700+i), labelCode, "500")
	}
	c := newWatching(t, p, shop, plain)
	c.look(t.Context(), tick(39))
	got := since(t, c, tick(0))
	if got.Stable.Requests > 39 || got.Candidate.Requests > 39 {
		t.Errorf("got %+v: counters of before were counted as new", got)
	}
}

func TestReadBackFindsWhatAFailedScrapeHid(t *testing.T) {
	p := running()
	p.count(tick(-2), 5000)
	p.hide(tick(0))
	p.count(tick(1), 5004)
	c := newWatching(t, p, shop, plain)
	c.look(t.Context(), tick(3))
	if got := since(t, c, tick(0)).Candidate; got != requests(4, 0) {
		t.Errorf("got %+v", got)
	}
}

func TestOldLooksAreReadBack(t *testing.T) {
	p := running()
	o := plain
	o.Keep = 3
	c := newWatching(t, p, shop, o)
	for i := range 10 {
		p.count(tick(i), float64(10*i))
		c.look(t.Context(), tick(i))
	}
	if n := len(c.watches[microAPI].entries); n != 3 {
		t.Errorf("%d looks kept, want 3", n)
	}
	if got := since(t, c, tick(2)).Candidate; got != requests(70, 0) {
		t.Errorf("got %+v", got)
	}
}
