package query

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/common/model"
)

// asking is shop with custom queries q1, q2 and so on.
func asking(promql ...string) Subject {
	s := shop
	for i, p := range promql {
		s.Queries = append(s.Queries, CustomQuery{fmt.Sprint("q", i+1), p})
	}
	return s
}

func vector(values ...float64) model.Vector {
	v := model.Vector{}
	for i, x := range values {
		v = append(v, &model.Sample{Metric: model.Metric{"n": model.LabelValue(fmt.Sprint(i))}, Value: model.SampleValue(x)})
	}
	return v
}

func TestReadings(t *testing.T) {
	cases := map[string]struct {
		value model.Value
		want  Reading
		says  string
	}{
		"Scalar":    {&model.Scalar{Value: 0.5}, Reading{Value: 0.5, Data: true}, ""},
		"Element":   {vector(-3), Reading{Value: -3, Data: true}, ""},
		"Zero":      {vector(0), Reading{Value: 0, Data: true}, ""},
		"Infinite":  {vector(math.Inf(1)), Reading{Value: math.Inf(1), Data: true}, ""},
		"Empty":     {vector(), Reading{}, ""},
		"NaN":       {vector(math.NaN()), Reading{}, ""},
		"ScalarNaN": {&model.Scalar{Value: model.SampleValue(math.NaN())}, Reading{}, ""},
		"Several":   {vector(1, 2, 3), Reading{}, "the value is a vector of 3 elements; accepted is one"},
		"Matrix":    {model.Matrix{}, Reading{}, "the value is a matrix; accepted are"},
		"Histogram": {model.Vector{{Histogram: &model.SampleHistogram{Count: 1}}}, Reading{}, "the value is a histogram; accepted is a number"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			p := running()
			p.custom = map[string]model.Value{"mine": tc.value}
			c := newWatching(t, p, asking("mine"), plain)
			if got := c.Readings(microAPI); len(got) != 0 {
				t.Errorf("before the first look: %+v", got)
			}
			c.look(t.Context(), tick(0))
			tc.want.Name, tc.want.At = "q1", tick(0)
			got := c.Readings(microAPI)
			if diff := cmp.Diff([]Reading{tc.want}, got, cmpopts.IgnoreFields(Reading{}, "Err")); diff != "" {
				t.Fatalf("-want, +got:\n%s", diff)
			}
			if err := got[0].Err; (err == nil) != (tc.says == "") || err != nil && !strings.Contains(err.Error(), "query q1: "+tc.says) {
				t.Errorf("error %v, want %q", err, tc.says)
			}
		})
	}
}

func TestReadingsOfAPrometheusThatFails(t *testing.T) {
	p := running()
	p.custom = map[string]model.Value{"mine": vector(1)}
	c := newWatching(t, p, asking("mine", "nonsense"), plain)
	c.look(t.Context(), tick(0))
	got := c.Readings(microAPI)
	if len(got) != 2 || !got[0].Data || !errors.Is(got[1].Err, ErrRefused) || !strings.Contains(got[1].Err.Error(), "query q2: asking Prometheus at http://prometheus.test:9090") {
		t.Errorf("one of two is refused: %+v", got)
	}
	p.answer = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(503); return true }
	p.asked()
	c.look(t.Context(), tick(1))
	for _, r := range c.Readings(microAPI) {
		if r.Data || !errors.Is(r.Err, ErrUnreachable) || !r.At.Equal(tick(1)) || r.Name == "" {
			t.Errorf("nothing answers: %+v", r)
		}
	}
	if n := len(p.asked()); n != 1 {
		t.Errorf("asked %d times: the counters' query has told", n)
	}
	p.answer = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Form.Get("query") == "mine" {
			writeValue(w, vector(1), []string{"store-2 did not answer"})
		}
		return r.Form.Get("query") == "mine"
	}
	c.look(t.Context(), tick(2))
	if r := c.Readings(microAPI)[0]; r.Data || !errors.Is(r.Err, ErrUnreachable) {
		t.Errorf("answered in part: %+v", r)
	}
}

func TestReadingsWakeWhenTheyChange(t *testing.T) {
	p := running()
	c := newWatching(t, p, asking("mine"), plain)
	var got []int
	for i, v := range []model.Value{vector(1), vector(1), vector(2), vector(), vector(math.NaN()), vector(1, 2), vector(1, 2), vector(2)} {
		p.custom = map[string]model.Value{"mine": v}
		c.look(t.Context(), tick(i))
		got = append(got, len(drain(c)))
	}
	if diff := cmp.Diff([]int{2, 0, 1, 1, 0, 1, 0, 1}, got); diff != "" { // at first the counters have news, too
		t.Errorf("woken: -want, +got:\n%s", diff)
	}
}

func TestOtherQueriesForgetNoCounts(t *testing.T) {
	p := running()
	p.custom = map[string]model.Value{"a": vector(1), "b": vector(2), "c": vector(3)}
	c := newWatching(t, p, asking("a", "b"), plain)
	p.count(tick(0), 10)
	c.look(t.Context(), tick(0))
	s := asking("x", "b", "c")
	s.Queries[0] = CustomQuery{"q9", "a"} // renamed: another question
	c.Watch(microAPI, s)
	want := []Reading{{Name: "q2", At: tick(0), Value: 2, Data: true}}
	if diff := cmp.Diff(want, c.Readings(microAPI)); diff != "" {
		t.Errorf("right after: -want, +got:\n%s", diff)
	}
	p.count(tick(1), 15)
	c.look(t.Context(), tick(1))
	if got := since(t, c, tick(0)).Candidate; got != requests(5, 0) {
		t.Errorf("got %+v: the counters were forgotten", got)
	}
	want = []Reading{
		{Name: "q9", At: tick(1), Value: 1, Data: true}, {Name: "q2", At: tick(1), Value: 2, Data: true}, {Name: "q3", At: tick(1), Value: 3, Data: true},
	}
	if diff := cmp.Diff(want, c.Readings(microAPI)); diff != "" {
		t.Errorf("-want, +got:\n%s", diff)
	}
	c.Watch(microAPI, shop)
	if got := c.Readings(microAPI); len(got) != 0 {
		t.Errorf("without queries: %+v", got)
	}
	c.Unwatch(microAPI)
	if got := c.Readings(microAPI); got != nil {
		t.Errorf("unwatched: %+v", got)
	}
}

// slow has the custom queries take a time each.
func (p *fakePrometheus) slow(took func(promql string) time.Duration) {
	p.answer = func(_ http.ResponseWriter, r *http.Request) bool {
		q := r.Form.Get("query")
		if _, mine := p.custom[q]; !mine {
			return false
		}
		select {
		case <-time.After(took(q)):
		case <-r.Context().Done():
		}
		return false
	}
}

func TestCustomQueriesDelayALookByOneTimeoutAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 40
		p := running()
		p.custom = map[string]model.Value{}
		var texts []string
		for i := range n {
			texts = append(texts, fmt.Sprint("m", i))
			p.custom[texts[i]] = vector(float64(i))
		}
		p.slow(func(string) time.Duration { return time.Second })
		c := newWatching(t, p, asking(texts...), Options{Interval: 10 * time.Second, Timeout: 3500 * time.Millisecond})
		for i := range 4 {
			start := time.Now()
			c.look(t.Context(), tick(i))
			if took := time.Since(start); took > 3500*time.Millisecond {
				t.Errorf("look %d took %s", i, took)
			}
		}
		got := c.Readings(microAPI)
		if len(got) != n {
			t.Errorf("%d of %d were asked in four looks, though each has time for 12", len(got), n)
		}
		for i, r := range got {
			if r.Err != nil || r.Value != float64(i) {
				t.Errorf("%+v", r)
			}
		}
	})
}

func TestACustomQueryThatHangsIsAnErrorAndStopsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := running()
		p.custom = map[string]model.Value{"hangs": vector(1), "answers": vector(2)}
		p.slow(func(q string) time.Duration {
			if q == "hangs" {
				return time.Hour
			}
			return 0
		})
		c := newWatching(t, p, asking("hangs", "answers"), Options{Interval: 10 * time.Second, Timeout: 3 * time.Second})
		start := time.Now()
		c.look(t.Context(), tick(0))
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("the look took %s", took)
		}
		got := c.Readings(microAPI)
		if !errors.Is(got[0].Err, ErrUnreachable) || !errors.Is(got[0].Err, context.DeadlineExceeded) || got[1].Value != 2 {
			t.Errorf("%+v", got)
		}
	})
}

func TestNewsOfCountsDoNotWaitForCustomQueries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := running()
		p.custom = map[string]model.Value{"mine": vector(1)}
		p.slow(func(string) time.Duration { return time.Second })
		c := newWatching(t, p, asking("mine"), Options{Interval: 10 * time.Second})
		start := time.Now()
		go c.look(t.Context(), tick(0))
		<-c.Updates()
		if waited := time.Since(start); waited != 0 {
			t.Errorf("the counts waited %s", waited)
		}
		<-c.Updates()
		if waited := time.Since(start); waited != time.Second {
			t.Errorf("the reading waited %s", waited)
		}
	})
}
