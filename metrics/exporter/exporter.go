// Package exporter is what Sluice exposes to Prometheus: names, labels and help texts (names.go), and the one place that sets
// them. It is told, it does not look.
package exporter

import (
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// Role is the part that a version plays in a shift.
type Role string

// The roles.
const (
	Stable    Role = "stable"
	Candidate Role = "candidate"
	Retiring  Role = "retiring"
)

// Unknown stands for a number that was not measured: its series is absent.
const Unknown = -1.0

// Shift is everything that is shown of one shift.
type Shift struct {
	Namespace, Name string
	Phase           v1alpha1.Phase
	// Reason is why the shift is where it is, one of the Reason constants.
	Reason string
	// Step counts from 1; 0 where no candidate is on a rung. Steps is the length of the ladder.
	Step, Steps int
	// Stable and Candidate name versions ("v2"); empty where there is none.
	Stable, Candidate string
	Versions          []Version
	Verdicts          []Verdict
	// EvidenceAge is the age of the newest sample; negative where there is none.
	EvidenceAge time.Duration
}

// Version is one version of a shift. Ratios are from 0 to 1, and Unknown (any negative number) where not measured.
type Version struct {
	Name string
	Role Role
	// Weight is the desired share of the traffic, Share the observed one.
	Weight, Share float64
	// ErrorRate and SlowRate are those of the present step.
	ErrorRate, SlowRate float64
}

// Verdict is what one gate says. Outcome is "Pass", "Fail" or "Inconclusive"; Value and Limit are NaN where there is none.
type Verdict struct {
	Gate         string
	Value, Limit float64
	Outcome      string
}

// Build says what is running.
type Build struct{ Version, Revision, GoVersion string }

// Exporter sets the metrics of every shift. It is safe for concurrent use.
type Exporter struct {
	gauges gauges
	events events

	mu sync.Mutex
	// shown are the series of each shift, so that those it no longer has can be taken away.
	shown map[key]map[series]bool
}

type key struct{ namespace, name string }

// New registers every metric of Sluice with reg.
func New(reg prometheus.Registerer, build Build) (*Exporter, error) {
	e := &Exporter{gauges: newGauges(), events: newEvents(), shown: map[key]map[series]bool{}}
	for _, c := range append(e.gauges.all(), e.events.all()...) {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("registering Sluice's metrics: %w", err)
		}
	}
	e.events.buildInformation.WithLabelValues(build.Version, build.Revision, build.GoVersion).Set(1)
	return e, nil
}

// Observe sets every gauge of a shift and takes away those that it no longer has; of one that is new it shows that nothing has ended
// yet. The same shift twice changes nothing.
func (e *Exporter) Observe(s Shift) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := map[series]bool{}
	for _, p := range e.gauges.points(s) {
		p.series.set(p.value)
		now[p.series] = true
	}
	k := key{s.Namespace, s.Name}
	if e.shown[k] == nil {
		for _, reason := range endings {
			e.events.outcomes.WithLabelValues(s.Namespace, s.Name, reason)
		}
	}
	for old := range e.shown[k] {
		if !now[old] {
			old.remove()
		}
	}
	e.shown[k] = now
}

// Forget takes every series of a shift away.
func (e *Exporter) Forget(namespace, name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	k := key{namespace, name}
	for s := range e.shown[k] {
		s.remove()
	}
	delete(e.shown, k)
	for _, counter := range []*prometheus.CounterVec{e.events.outcomes, e.events.actions} {
		counter.DeletePartialMatch(prometheus.Labels{"namespace": namespace, "name": name})
	}
}

// Outcome counts the end of one release: reason is Promoted or why it was not, took is the time since the candidate appeared.
func (e *Exporter) Outcome(namespace, name, reason string, took time.Duration) {
	e.events.outcomes.WithLabelValues(namespace, name, reason).Inc()
	e.events.duration.WithLabelValues(reason).Observe(took.Seconds())
}

// Action counts a request of a person's: result is Done or Refused.
func (e *Exporter) Action(namespace, name, action, result string) {
	e.events.actions.WithLabelValues(namespace, name, action, result).Inc()
}

// RolledBack records how long it took from the decision to weight 0 read back from every VirtualService.
func (e *Exporter) RolledBack(took time.Duration) { e.events.rollback.Observe(took.Seconds()) }

// ObserveQuery records one query to Prometheus. It makes an Exporter the Observer of metrics/query.
func (e *Exporter) ObserveQuery(kind string, took time.Duration, err error) {
	e.events.queryDuration.WithLabelValues(kind).Observe(took.Seconds())
	failures := e.events.queryErrors.WithLabelValues(kind) // shown from the first query on, so that its first rise is seen
	if err != nil {
		failures.Inc()
	}
}

// ObserveWebhook records one request to the webhook of a gate. It makes an Exporter the Observer of metrics/webhook.
func (e *Exporter) ObserveWebhook(result string, took time.Duration) {
	e.events.webhookDuration.WithLabelValues(result).Observe(took.Seconds())
}

// ObserveSkipped counts values that were no counter values.
func (e *Exporter) ObserveSkipped(kind string, values int) {
	e.events.skippedValues.WithLabelValues(kind).Add(float64(values))
}
