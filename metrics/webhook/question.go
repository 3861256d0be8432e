package webhook

import (
	"cmp"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/sluice-dev/sluice/metrics/analysis"
)

// Key names a shift.
type Key struct{ Namespace, Name string }

// String writes namespace/name.
func (k Key) String() string { return k.Namespace + "/" + k.Name }

// Question is one gate's webhook and what it is asked about.
type Question struct {
	// URL is asked every Interval; Event is what it is told.
	URL      string
	Interval time.Duration
	Event    Event
	// Timeout bounds each request. A request that failed is sent again up to Retries times.
	Timeout time.Duration
	Retries int
	// OnError is what an error means after that: Fail or Inconclusive.
	OnError analysis.Outcome
}

// same reports whether an answer to one question is an answer to the other: it comes from the same place, and speaks of the same
// release. The weight may have moved in between.
func (q Question) same(other Question) bool {
	return q.URL == other.URL && q.Event.Run == other.Event.Run && q.Event.Gate == other.Event.Gate
}

// paced reports whether both are asked in the same way.
func (q Question) paced(other Question) bool {
	return q.Interval == other.Interval && q.Timeout == other.Timeout && q.Retries == other.Retries && q.OnError == other.OnError
}

// Answer is what a webhook said last.
type Answer struct {
	// Gate is the gate's name.
	Gate string
	// At is when it was given, to the microsecond; zero where there is none yet.
	At time.Time
	// Outcome is Pass, Fail or Inconclusive, and Message says why, in words that stay the same while nothing changes.
	Outcome analysis.Outcome
	Message string
}

// fresh is for how long an answer counts: three intervals, and the time that the next question may take with all of its retries, so that
// an endpoint that is slow, and in time, is never stale.
func (o Options) fresh(q Question) time.Duration {
	limit := 3*q.Interval + time.Duration(q.Retries+1)*q.Timeout
	pause := o.pauses(q)
	for range q.Retries {
		limit += time.Duration(float64(pause.Step()) * (1 + spread))
	}
	if rest := limit % time.Second; rest > 0 {
		limit += time.Second - rest // users read it
	}
	return limit
}

// spread is the share by which a pause before a retry is made longer at random, at most.
const spread = 0.5

// pauses are those before the retries of a question, without what is added at random.
func (o Options) pauses(q Question) wait.Backoff {
	return wait.Backoff{Duration: o.Backoff, Factor: 2, Steps: q.Retries + 1, Cap: o.MaxBackoff}
}

// asOf is the answer as it counts at a later time.
func (a Answer) asOf(now time.Time, limit time.Duration) Answer {
	if !a.At.IsZero() && now.Sub(a.At) > limit {
		a.Outcome, a.Message = analysis.Inconclusive, "no fresh answer: the last one is older than "+limit.String()
	}
	return a
}

// Observer hears of every request. metrics/exporter is one.
type Observer interface {
	// ObserveWebhook reports one request: what came of it ("pass", "wait" or "error") and how long it took.
	ObserveWebhook(result string, took time.Duration)
}

// Options are the caller's settings. The zero value of each but Hosts and SigningKey means its default.
type Options struct {
	// Hosts are the hosts that may be called beside the Services of a shift's own namespace. The zero value adds none.
	Hosts Hosts
	// ClusterDomain ends every Service's name. Default cluster.local.
	ClusterDomain string
	// SigningKey returns the key that requests are signed with; it is asked each time, so that the key can be rotated. Nil signs none.
	SigningKey func() ([]byte, error)
	// Jitter is the share of an interval by which each question is moved at random. Default 0.1; negative for none.
	Jitter float64
	// Backoff is the pause before the first retry; each further one is about twice as long, up to MaxBackoff. Defaults 500ms, 10s.
	Backoff, MaxBackoff time.Duration
	// PerShift is how many requests of one shift are under way at a time, and Total how many there are in all. Defaults 4, 256.
	PerShift, Total int
	// Log is told, at its debug level, why a webhook was not reached: an answer does not say it. Default: nobody.
	Log logr.Logger
	// Observer hears of every request. Default: nobody.
	Observer Observer
}

func (o Options) withDefaults() Options {
	o.Backoff = cmp.Or(o.Backoff, 500*time.Millisecond)
	o.MaxBackoff = cmp.Or(o.MaxBackoff, 10*time.Second)
	o.PerShift, o.Total = cmp.Or(o.PerShift, 4), cmp.Or(o.Total, 256)
	o.ClusterDomain = normal(cmp.Or(o.ClusterDomain, "cluster.local"))
	o.Jitter = max(0, cmp.Or(o.Jitter, 0.1))
	if o.Observer == nil {
		o.Observer = nobody{}
	}
	return o
}

type nobody struct{}

func (nobody) ObserveWebhook(string, time.Duration) {}
