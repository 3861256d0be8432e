package query

import (
	"context"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/prometheus/common/model"

	"github.com/sluice-dev/sluice/metrics/analysis"
)

// target is one subject to look at, with the histogram bound chosen for it so far.
type target struct {
	subject Subject
	bound   float64
}

// sight is what one grouped look showed, by service.
type sight struct {
	requests, durations map[string][]point
	// bounds are those chosen for the targets, in their order; 0 while no histogram has one that is large enough.
	bounds []float64
}

// at returns what a ledger of one service needs.
func (s sight) at(service string, settled bool) look {
	return look{s.requests[service], s.durations[service], settled}
}

// see looks at all targets at one time: one query per metric. With memory it sees the last values of series that are missing
// at that very moment, which is what a ledger begins with.
func (c *Collector) see(ctx context.Context, targets []target, at time.Time, memory bool) (sight, error) {
	var s sight
	var err error
	promql := c.remembering(selectionOf(subjectsOf(targets)).requests(), memory)
	if s.requests, err = c.points(ctx, kindRequests, promql, at); err != nil {
		return sight{}, err
	}
	if s.bounds, err = c.chooseBounds(ctx, targets, at); err != nil {
		return sight{}, err
	}
	s.durations, err = c.durations(ctx, subjectsOf(targets), s.bounds, at, memory)
	return s, err
}

func subjectsOf(targets []target) []Subject {
	subjects := make([]Subject, len(targets))
	for i, t := range targets {
		subjects[i] = t.subject
	}
	return subjects
}

// remembering has a selector see the last values within Memory.
func (c *Collector) remembering(selector string, memory bool) string {
	if memory {
		return lastOf(selector, c.options.Memory)
	}
	return selector
}

// durations asks for the buckets of the subjects that have a bound.
func (c *Collector) durations(ctx context.Context, subjects []Subject, bounds []float64, at time.Time, memory bool) (map[string][]point, error) {
	var timed []Subject
	var chosen []float64
	for i, b := range bounds {
		if b > 0 {
			timed, chosen = append(timed, subjects[i]), append(chosen, b)
		}
	}
	if len(timed) == 0 {
		return nil, nil
	}
	return c.points(ctx, kindDurations, c.remembering(selectionOf(timed).durations(chosen), memory), at)
}

// chooseBounds returns the bound of each target: the one it has, or the smallest that exists and is not below SlowAbove.
func (c *Collector) chooseBounds(ctx context.Context, targets []target, at time.Time) ([]float64, error) {
	bounds := make([]float64, len(targets))
	var unknown []Subject
	for i, t := range targets {
		bounds[i] = t.bound
		if t.subject.SlowAbove > 0 && t.bound == 0 {
			unknown = append(unknown, t.subject)
		}
	}
	if len(unknown) == 0 {
		return bounds, nil
	}
	existing, err := c.existingBounds(ctx, unknown, at)
	if err != nil {
		return nil, err
	}
	for i, t := range targets {
		if t.subject.SlowAbove > 0 && t.bound == 0 {
			bounds[i] = notBelow(existing[t.subject.Service], t.subject.SlowAbove)
		}
	}
	return bounds, nil
}

// existingBounds lists the finite bounds, in milliseconds, of the services' histograms.
func (c *Collector) existingBounds(ctx context.Context, subjects []Subject, at time.Time) (map[string][]float64, error) {
	v, err := c.query(ctx, kindBounds, selectionOf(subjects).bounds(c.options.Memory), at)
	if err != nil {
		return nil, err
	}
	bounds := map[string][]float64{}
	for _, s := range v {
		b := parseBound(string(s.Metric[model.BucketLabel]))
		if b > 0 && !math.IsInf(b, 1) {
			service := string(s.Metric[labelService])
			bounds[service] = append(bounds[service], b)
		}
	}
	return bounds, nil
}

// notBelow is the smallest bound that is not below d; 0 where there is none.
func notBelow(bounds []float64, d time.Duration) float64 {
	slices.Sort(bounds)
	i, _ := slices.BinarySearch(bounds, milliseconds(d))
	if i == len(bounds) {
		return 0
	}
	return bounds[i]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// newest is the time of the youngest sample of each service and reporter.
func (c *Collector) newest(ctx context.Context, targets []target, at time.Time) (map[string][reporters]time.Time, error) {
	v, err := c.query(ctx, kindFreshness, selectionOf(subjectsOf(targets)).freshness(), at)
	if err != nil {
		return nil, err
	}
	newest := map[string][reporters]time.Time{}
	for _, s := range v {
		r := slices.Index(reporterNames[:], analysis.Reporter(s.Metric[labelReporter]))
		seconds := float64(s.Value)
		if r < 0 || !(seconds > 0 && seconds < 1e11) { // not a time
			continue
		}
		service := string(s.Metric[labelService])
		times := newest[service]
		times[r] = time.UnixMilli(int64(math.Round(seconds * 1000))).UTC()
		newest[service] = times
	}
	return newest, nil
}

// settled asks whether Prometheus had been scraping for MaxAge by then. One that has only just started has not yet seen every
// target, and what it does not show may well exist. The series up is written by Prometheus itself for each of its targets.
func (c *Collector) settled(ctx context.Context, at time.Time) (bool, error) {
	v, err := c.query(ctx, kindUp, upBefore(c.options.MaxAge), at)
	return len(v) > 0 && v[0].Value > 0, err
}

// points asks for counters.
func (c *Collector) points(ctx context.Context, kind, promql string, at time.Time) (map[string][]point, error) {
	v, err := c.query(ctx, kind, promql, at)
	if err != nil {
		return nil, err
	}
	p, skipped := points(v)
	if skipped > 0 {
		c.options.Observer.ObserveSkipped(kind, skipped)
	}
	return p, nil
}

// query asks one question in bounded time.
func (c *Collector) query(ctx context.Context, kind, promql string, at time.Time) (model.Vector, error) {
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	start := time.Now()
	v, err := c.client.vector(ctx, kind, promql, at)
	c.options.Observer.ObserveQuery(kind, time.Since(start), err)
	return v, err
}

// sortedKeys are the keys of a map in a fixed order.
func sortedKeys[V any](m map[Key]V) []Key {
	return slices.SortedFunc(maps.Keys(m), Key.compare)
}
