package load

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// server answers in place of a network, so that tests may run on a clock of their own.
type server func(n int64, r *http.Request) (version string, status int, takes time.Duration)

type transport struct {
	n      atomic.Int64
	answer server
}

func (s *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	version, status, takes := s.answer(s.n.Add(1)-1, r)
	select {
	case <-time.After(takes):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if status == 0 {
		return nil, errors.New("refused")
	}
	h := http.Header{}
	if version != "" {
		h.Set(VersionHeader, version)
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader("body"))}, nil
}

func begin(t *testing.T, cfg Config, answer server) *Source {
	t.Helper()
	cfg.URL, cfg.Transport = "http://micro-api/", &transport{answer: answer}
	s, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSteady: ten requests per second for five seconds are fifty, and each is in its phase and its second.
func TestSteady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, Config{Rate: 10, For: 5 * time.Second}, func(n int64, _ *http.Request) (string, int, time.Duration) {
			if n%10 == 9 {
				return "v2", 500, time.Millisecond
			}
			return "v1", 200, time.Millisecond
		})
		time.Sleep(1950 * time.Millisecond)
		s.Mark("second half")
		if got := s.Last(time.Second); got.Total != 20 {
			t.Errorf("the last second, to the second: got %d, want 20", got.Total)
		}
		<-s.Done()
		r := s.Stop()
		want := Counts{
			Total: 50, Failed: 5, ByVersion: map[string]int{"v1": 45, "v2": 5}, ByStatus: map[int]int{200: 45, 500: 5},
			Answers: map[string]map[int]int{"v1": {200: 45}, "v2": {500: 5}},
		}
		if diff := cmp.Diff(want, r.Counts); diff != "" {
			t.Errorf("counts (-want +got):\n%s", diff)
		}
		if got := s.Phase("start").Total; got != 20 {
			t.Errorf("first phase: got %d, want 20", got)
		}
		if got := s.Phase("second half").Total; got != 30 {
			t.Errorf("second phase: got %d, want 30", got)
		}
		if got := r.Share("v2"); math.Abs(got-0.1) > 1e-9 {
			t.Errorf("share of v2: got %v, want 0.1", got)
		}
		if len(r.Failures) != 5 || r.Failures[0].Version != "v2" || r.Failures[0].Status != 500 || r.Failures[0].Said != "body" {
			t.Errorf("failures: got %v, want five 500s of v2 with their bodies", r.Failures)
		}
		first, ok := s.FirstBad("v2")
		if wanted := r.Started.Add(901 * time.Millisecond); !ok || !first.Equal(wanted) {
			t.Errorf("first bad answer of v2: got %v, %t, want %v", first, ok, wanted)
		}
		if got := len(s.Failures(first.Add(time.Nanosecond), time.Time{})); got != 4 {
			t.Errorf("failures after the first: got %d, want 4", got)
		}
		if last, ok := s.LastAnswer("v1"); !ok || last.Before(first) {
			t.Errorf("last answer of v1: got %v, %t, want one after %v", last, ok, first)
		}
		if _, ok := s.FirstBad("v1"); ok {
			t.Error("v1 has a bad answer, want none")
		}
	})
}

// TestBounds: so many requests and no more, so many at once and no more; no answer is a failure without a version.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, Config{Rate: 100, Requests: 20, InFlight: 3, Timeout: time.Second}, func(n int64, _ *http.Request) (string, int, time.Duration) {
			if n == 0 {
				return "", 0, 0
			}
			return "", 200, time.Hour
		})
		<-s.Done()
		r := s.Stop()
		if r.Total != 4 || r.Failed != 4 || r.ByStatus[0] != 4 || r.Skipped != 16 {
			t.Errorf("got %d requests, %d failed, %d skipped, want 4, 4, 16", r.Total, r.Failed, r.Skipped)
		}
		if r.Failures[0].Err != "refused" {
			t.Errorf("first failure: got %q, want refused", r.Failures[0].Err)
		}
	})
}

// TestStop: requests in flight end by themselves and are counted; a cancelled context cuts them off.
func TestStop(t *testing.T) {
	slow := func(int64, *http.Request) (string, int, time.Duration) { return "v1", 200, 5 * time.Second }
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, Config{Rate: 1}, slow)
		time.Sleep(1500 * time.Millisecond)
		if r := s.Stop(); r.Total != 2 || r.Failed != 0 || r.Ended.IsZero() {
			t.Errorf("after Stop: %d requests, %d failed, ended %v, want 2, 0, and an end", r.Total, r.Failed, r.Ended)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s, err := Start(ctx, Config{URL: "http://micro-api/", Rate: 1, Transport: &transport{answer: slow}})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(1500 * time.Millisecond)
		cancel()
		if r := s.Stop(); r.Total != 0 {
			t.Errorf("after the context's end: %d requests, want none counted", r.Total)
		}
	})
}

// TestWaitFor: it wakes with the answer that fulfils it, and says so when no answer ever will.
func TestWaitFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := begin(t, Config{Rate: 10, Requests: 30}, func(int64, *http.Request) (string, int, time.Duration) { return "v1", 200, 0 })
		start := time.Now()
		if err := s.WaitFor(t.Context(), func(r Report) bool { return r.Total == 10 }); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 900*time.Millisecond {
			t.Errorf("ten requests at ten per second: got %s, want 900ms", took)
		}
		if err := s.WaitFor(t.Context(), func(r Report) bool { return r.Total > 30 }); err == nil {
			t.Error("a condition beyond the source's bound: got no error")
		}
	})
}

// TestOverHTTP: Host header, prepared requests, observed answers, and a connection each where that is asked for.
func TestOverHTTP(t *testing.T) {
	var connections atomic.Int64
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "micro-api.example.com" || r.Header.Get("X-User") != "jason" {
			w.WriteHeader(http.StatusInternalServerError)
		}
		w.Header().Set(VersionHeader, "v1")
	}))
	web.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	web.Start()
	defer web.Close()
	var observed atomic.Int64
	s, err := Start(t.Context(), Config{
		URL: web.URL, Host: "micro-api.example.com", Rate: 1000, Requests: 20, Fresh: true,
		Prepare: func(_ int, r *http.Request) { r.Header.Set("X-User", "jason") },
		Observe: func(int, *http.Response) { observed.Add(1) },
	})
	if err != nil {
		t.Fatal(err)
	}
	<-s.Done()
	r := s.Stop()
	if r.Failed > 0 || r.ByVersion["v1"] != 20 || observed.Load() != 20 || connections.Load() != 20 {
		t.Errorf("got %v, %d observed, %d connections, want 20 of each", r.Answers, observed.Load(), connections.Load())
	}
}

// TestRefusesNonsense: a source that could not run is not started.
func TestRefusesNonsense(t *testing.T) {
	for name, cfg := range map[string]Config{"rate": {URL: "http://micro-api/"}, "URL": {URL: "http://a b/", Rate: 1}} {
		if _, err := Start(t.Context(), cfg); err == nil {
			t.Errorf("a bad %s is accepted", name)
		}
	}
}
