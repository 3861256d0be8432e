package webhook

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-dev/sluice/metrics/analysis"
)

// The tests of this file run in a bubble whose clock is the test's own: endpoints are functions, and a wait takes no time.

// endpoints answer by host, and note when they were asked.
type endpoints struct {
	mu     sync.Mutex
	began  time.Time
	asked  map[string][]time.Duration
	bodies map[string]string
	answer func(ctx context.Context, host string, n int) (status int)
	now    map[string]int
	most   map[string]int // requests under way at once
}

func (e *endpoints) RoundTrip(r *http.Request) (*http.Response, error) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	host := r.URL.Host
	e.mu.Lock()
	e.asked[host] = append(e.asked[host], time.Since(e.began))
	e.bodies[host] = string(text)
	n := len(e.asked[host])
	for _, name := range []string{host, "all"} {
		e.now[name]++
		e.most[name] = max(e.most[name], e.now[name])
	}
	e.mu.Unlock()
	status := e.answer(r.Context(), host, n)
	e.mu.Lock()
	e.now[host]--
	e.now["all"]--
	e.mu.Unlock()
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: status, Body: http.NoBody, Request: r, Header: http.Header{}}, nil
}

func (e *endpoints) times(host string) []time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.asked[host])
}

// within runs a test in a bubble, with a caller that asks on the dot.
func within(t *testing.T, options Options, answer func(ctx context.Context, host string, n int) int, test func(*testing.T, *Caller, *endpoints)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e := &endpoints{began: time.Now(), asked: map[string][]time.Duration{}, bodies: map[string]string{}, now: map[string]int{}, most: map[string]int{}, answer: answer}
		options.Hosts = Hosts{patterns: []string{"*"}}
		if options.Jitter == 0 {
			options.Jitter = -1
		}
		c := NewCaller(options)
		c.client.Transport = e
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Start(ctx) }()
		synctest.Wait()
		test(t, c, e)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func always(status int) func(context.Context, string, int) int {
	return func(context.Context, string, int) int { return status }
}

// hangs is an endpoint that never answers.
func hangs(ctx context.Context) int {
	<-ctx.Done()
	return 0
}

var key = Key{"shop", "micro-api"}

func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func answers(c *Caller, k Key) []string {
	var all []string
	for _, a := range c.Answers(k) {
		all = append(all, fmt.Sprintf("%s %s: %s", a.Gate, a.Outcome, a.Message))
	}
	return all
}

// news are the keys that have news, read until there is none.
func news(c *Caller) []Key {
	var all []Key
	for {
		select {
		case k := <-c.Updates():
			all = append(all, k)
		default:
			return all
		}
	}
}

func TestAQuestionIsAskedWhileItIsWatched(t *testing.T) {
	within(t, Options{}, always(200), func(t *testing.T, c *Caller, e *endpoints) {
		after(time.Hour)
		c.Watch(key, []Question{question("http://a/")})
		if diff := cmp.Diff([]string{"ask Inconclusive: no answer yet"}, answers(c, key)); diff != "" {
			t.Errorf("before it was asked (-want +got):\n%s", diff)
		}
		after(31 * time.Second)
		c.Watch(key, []Question{question("http://a/")}) // as every pass does
		after(15 * time.Second)
		want := []time.Duration{time.Hour, time.Hour + 15*time.Second, time.Hour + 30*time.Second, time.Hour + 45*time.Second}
		if diff := cmp.Diff(want, e.times("a")); diff != "" {
			t.Errorf("asked at (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"ask Pass: a answered 200"}, answers(c, key)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]Key{key}, news(c)); diff != "" {
			t.Errorf("the same answer four times is news once (-want +got):\n%s", diff)
		}
		c.Unwatch(key)
		c.Unwatch(key)
		after(time.Hour)
		if n := len(e.times("a")); n != 4 || c.Answers(key) != nil {
			t.Errorf("after Unwatch: asked %d times, answers %v", n, c.Answers(key))
		}
	})
}

func TestWhatIsWatchedBeforeStartIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &endpoints{asked: map[string][]time.Duration{}, bodies: map[string]string{}, now: map[string]int{}, most: map[string]int{}, answer: always(200)}
		c := NewCaller(Options{Hosts: Hosts{patterns: []string{"*"}}})
		c.client.Transport = e
		c.Watch(key, []Question{question("http://a/")})
		c.Watch(Key{"shop", "gone"}, []Question{question("http://b/")})
		c.Unwatch(Key{"shop", "gone"})
		after(time.Hour)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Start(ctx) }()
		after(time.Second)
		if len(e.times("a")) != 1 || len(e.times("b")) != 0 {
			t.Errorf("asked at %v and %v; want once, and not at all", e.times("a"), e.times("b"))
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		c.Watch(key, []Question{question("http://c/")}) // a reconcile that is under way when the manager stops
		after(time.Hour)
		if len(e.times("a"))+len(e.times("c")) != 1 || !c.NeedLeaderElection() {
			t.Error("it asks after its end, or as a follower")
		}
	})
}

// What is no longer the same question has no answer: another URL, another release, another gate.
func TestAnotherQuestionForgetsTheAnswer(t *testing.T) {
	change := map[string]func(*Question){
		"URL":      func(q *Question) { q.URL = "http://b/" },
		"Run":      func(q *Question) { q.Event.Run = "6f1c-v3-2" },
		"Gate":     func(q *Question) { q.Event.Gate = "other" },
		"Weight":   func(q *Question) { q.Event.Weight = "50%" },
		"Interval": func(q *Question) { q.Interval = time.Minute },
		"OnError":  func(q *Question) { q.OnError = analysis.Fail },
	}
	forgets := map[string]bool{"URL": true, "Run": true, "Gate": true}
	for name, apply := range change {
		t.Run(name, func(t *testing.T) {
			answer := func(ctx context.Context, host string, n int) int {
				if n > 1 || host == "b" {
					return hangs(ctx)
				}
				return 200
			}
			within(t, Options{}, answer, func(t *testing.T, c *Caller, _ *endpoints) {
				q := question("http://a/")
				c.Watch(key, []Question{q})
				after(time.Second)
				apply(&q)
				c.Watch(key, []Question{q})
				after(time.Second)
				want := q.Event.Gate + " Pass: a answered 200"
				if forgets[name] {
					want = q.Event.Gate + " Inconclusive: no answer yet"
				}
				if diff := cmp.Diff([]string{want}, answers(c, key)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestTheNextQuestionTellsThePresentWeight(t *testing.T) {
	within(t, Options{}, always(200), func(t *testing.T, c *Caller, e *endpoints) {
		q := question("http://a/")
		c.Watch(key, []Question{q})
		after(time.Second)
		q.Event.Weight = "50%"
		c.Watch(key, []Question{q})
		after(15 * time.Second)
		if n := len(e.times("a")); n != 2 || !strings.Contains(e.bodies["a"], `"weight":"50%"`) {
			t.Errorf("asked %d times, last with %s", n, e.bodies["a"])
		}
	})
}

func TestGatesKeepTheOrderOfTheSpec(t *testing.T) {
	within(t, Options{}, always(200), func(t *testing.T, c *Caller, e *endpoints) {
		gate := func(name string) Question {
			q := question("http://" + name + "/")
			q.Event.Gate = name
			return q
		}
		c.Watch(key, []Question{gate("b"), gate("a"), gate("c")})
		after(time.Second)
		c.Watch(key, []Question{gate("c"), gate("a"), gate("d")})
		want := []string{"c Pass: c answered 200", "a Pass: a answered 200", "d Inconclusive: no answer yet"}
		if diff := cmp.Diff(want, answers(c, key)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		after(time.Minute)
		if n := len(e.times("b")); n != 1 {
			t.Errorf("a gate that was taken out of the spec was asked %d times; want once, before", n)
		}
	})
}

// An answer that nobody has repeated for longer than it takes to ask again says nothing of the present, and the same answer after that
// is news. Here the second question of a gate waits behind another gate of its shift.
func TestAnAnswerGoesStale(t *testing.T) {
	answer := func(ctx context.Context, host string, _ int) int {
		if host == "slow" {
			return hangs(ctx)
		}
		return 200
	}
	within(t, Options{PerShift: 1, Backoff: 2 * time.Second}, answer, func(t *testing.T, c *Caller, _ *endpoints) {
		q, slow := question("http://a/"), question("http://slow/")
		q.Retries = 1
		slow.Event.Gate, slow.Timeout, slow.Interval = "slow", time.Minute, time.Hour
		c.Watch(key, []Question{q})
		after(time.Second)
		c.Watch(key, []Question{q, slow})
		for _, tc := range []struct {
			wait time.Duration
			want string
		}{
			{57 * time.Second, "ask Pass: a answered 200"}, // three intervals, two timeouts, a pause of 2s and half of it
			{time.Millisecond, "ask Inconclusive: no fresh answer: the last one is older than 58s"},
			{3 * time.Second, "ask Pass: a answered 200"},
			{time.Minute, "ask Pass: a answered 200"},
		} {
			after(tc.wait)
			if diff := cmp.Diff(tc.want, answers(c, key)[0]); diff != "" {
				t.Errorf("after %s (-want +got):\n%s", tc.wait, diff)
			}
		}
		if n := len(news(c)); n != 3 {
			t.Errorf("news %d times; want 3: passed, the slow one failed, passed again", n)
		}
	})
}

// An endpoint that takes longer than the interval, and not longer than it may, passes all the time.
func TestASlowAnswerDoesNotFlap(t *testing.T) {
	answer := func(_ context.Context, _ string, n int) int {
		time.Sleep(10 * time.Second)
		if n%2 == 0 {
			return 503
		}
		return 200
	}
	within(t, Options{Jitter: 0.1}, answer, func(t *testing.T, c *Caller, _ *endpoints) {
		q := question("http://a/")
		q.Interval, q.Timeout, q.Retries = time.Second, 11*time.Second, 1
		c.Watch(key, []Question{q})
		after(11 * time.Second)
		for range 600 {
			if diff := cmp.Diff([]string{"ask Pass: a answered 200"}, answers(c, key)); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
			after(500 * time.Millisecond)
		}
		if n := len(news(c)); n != 1 {
			t.Errorf("news %d times; want once", n)
		}
	})
}

// The bound holds for the longest pauses that there can be, and is a round number.
func TestHowLongAnAnswerCounts(t *testing.T) {
	for _, tc := range []struct {
		interval, timeout time.Duration
		retries           int
		want              time.Duration
	}{
		{15 * time.Second, 5 * time.Second, 0, 50 * time.Second},
		{15 * time.Second, 5 * time.Second, 2, 63 * time.Second}, // 45s + 15s + 1.5*(0.5s + 1s), and what rounds it
		{time.Second, time.Minute, 10, 762 * time.Second},        // 1.5*(0.5s + 1s + 2s + 4s + 8s + 5*10s), and what rounds it
	} {
		q := Question{Interval: tc.interval, Timeout: tc.timeout, Retries: tc.retries}
		if got := (Options{}).withDefaults().fresh(q); got != tc.want {
			t.Errorf("%+v: %s; want %s", tc, got, tc.want)
		}
	}
}

func TestRetriesBackOff(t *testing.T) {
	within(t, Options{Backoff: time.Second, MaxBackoff: 4 * time.Second}, always(503), func(t *testing.T, c *Caller, e *endpoints) {
		q := question("http://a/")
		q.Retries, q.Interval, q.OnError = 5, time.Hour, analysis.Fail
		c.Watch(key, []Question{q})
		after(time.Minute)
		times := e.times("a")
		if len(times) != 6 {
			t.Fatalf("asked at %v; want 6 times", times)
		}
		for i, seconds := range []int{1, 2, 4, 4, 4} {
			least := time.Duration(seconds) * time.Second
			if got := times[i+1] - times[i]; got < least || got > least*3/2 {
				t.Errorf("retry %d after %s; want from %s to half as much again", i+1, got, least)
			}
		}
		if diff := cmp.Diff([]string{"ask Fail: a answered 503 Service Unavailable (asked 6 times)"}, answers(c, key)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestTheIntervalIsMovedAtRandom(t *testing.T) {
	within(t, Options{Jitter: 0.1}, always(200), func(t *testing.T, c *Caller, e *endpoints) {
		c.Watch(key, []Question{question("http://a/")})
		after(time.Hour)
		times := e.times("a")
		seen := map[time.Duration]bool{}
		for i := range times[1:] {
			gap := times[i+1] - times[i]
			seen[gap] = true
			if gap < 13500*time.Millisecond || gap > 16500*time.Millisecond {
				t.Errorf("%s between two questions; want 15s, a tenth more or less", gap)
			}
		}
		if len(seen) < 10 {
			t.Errorf("%d different pauses in an hour", len(seen))
		}
	})
}

// One shift whose endpoints never answer takes nothing from another one, even one that asks the same host.
func TestASlowEndpointDelaysNobodyElse(t *testing.T) {
	answer := func(ctx context.Context, host string, _ int) int {
		if strings.HasPrefix(host, "slow") {
			return hangs(ctx)
		}
		return 200
	}
	within(t, Options{PerShift: 4, Total: 100}, answer, func(t *testing.T, c *Caller, e *endpoints) {
		for s := range 20 {
			var questions []Question
			for g := range 16 {
				q := question("http://slow/")
				q.Event.Gate, q.Timeout, q.Retries = fmt.Sprint("g", g), time.Minute, 10
				questions = append(questions, q)
			}
			c.Watch(Key{"slow", fmt.Sprint(s)}, questions)
		}
		after(time.Second)
		c.Watch(key, []Question{question("http://a/")})
		after(time.Minute)
		want := []time.Duration{time.Second, 16 * time.Second, 31 * time.Second, 46 * time.Second, 61 * time.Second}
		if diff := cmp.Diff(want, e.times("a")); diff != "" {
			t.Errorf("asked at (-want +got):\n%s", diff)
		}
		if e.most["slow"] != 80 {
			t.Errorf("%d requests to the slow host at once; want four for each of 20 shifts", e.most["slow"])
		}
	})
}

func TestRequestsAreBoundedInAll(t *testing.T) {
	within(t, Options{Total: 10}, func(ctx context.Context, _ string, _ int) int { return hangs(ctx) }, func(t *testing.T, c *Caller, e *endpoints) {
		for s := range 30 {
			c.Watch(Key{"shop", fmt.Sprint(s)}, []Question{question("http://a/")})
		}
		after(time.Second)
		if e.most["all"] != 10 {
			t.Errorf("%d requests at once; want 10", e.most["all"])
		}
	})
}

// News that finds no room is offered again, and holds up no question.
func TestNobodyReadsTheNews(t *testing.T) {
	within(t, Options{}, func(_ context.Context, _ string, n int) int { return 200 + n%2 }, func(t *testing.T, c *Caller, e *endpoints) {
		c.updates = make(chan Key, 1)
		other := Key{"shop", "other"}
		c.Watch(key, []Question{question("http://a/")})
		after(time.Second)
		c.Watch(other, []Question{question("http://b/")})
		after(time.Minute)
		if n := len(e.times("b")); n != 5 {
			t.Errorf("asked %d times in a minute; want 5", n)
		}
		if diff := cmp.Diff([]Key{key}, news(c)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		after(15 * time.Second)
		if got := news(c); len(got) != 1 {
			t.Errorf("news %v; want what found no room before", got)
		}
	})
}
