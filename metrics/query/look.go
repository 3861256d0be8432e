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

// sight is what one grouped look showed, by whose it is.
type sight struct {
	requests, durations map[owner][]point
	// bounds are those chosen for the targets, in their order; 0 while there is no histogram.
	bounds []float64
}

// of returns what a ledger of the subject needs.
func (s sight) of(subject Subject, settled bool) look {
	x := look{settled: settled}
	for _, o := range subject.owners() {
		x.requests = append(x.requests, s.requests[o]...)
		x.durations = append(x.durations, s.durations[o]...)
	}
	return x
}

// see looks at all targets at one time: one query per metric. With memory it sees the last values of series that are missing
// at that very moment, which is what a ledger begins with.
func (c *Collector) see(ctx context.Context, targets []target, at time.Time, memory bool) (sight, error) {
	var s sight
	var err error
	read := c.remembering(memory)
	s.requests = map[owner][]point{}
	for _, selected := range selectionsOf(subjectsOf(targets)) {
		found, err := c.points(ctx, kindRequests, selected.requests(read), at)
		if err != nil {
			return sight{}, err
		}
		maps.Copy(s.requests, found) // an owner is asked about under one metric
	}
	if s.bounds, err = c.chooseBounds(ctx, targets, at); err != nil {
		return sight{}, err
	}
	s.durations, err = c.durations(ctx, subjectsOf(targets), s.bounds, at, read)
	return s, err
}

func subjectsOf(targets []target) []Subject {
	subjects := make([]Subject, len(targets))
	for i, t := range targets {
		subjects[i] = t.subject
	}
	return subjects
}

// remembering reads the last values within Memory, or those of the moment.
func (c *Collector) remembering(memory bool) read {
	if memory {
		return lastWithin(c.options.Memory)
	}
	return asIs
}

// durations asks for the buckets of the subjects that have a bound.
func (c *Collector) durations(ctx context.Context, subjects []Subject, bounds []float64, at time.Time, read read) (map[owner][]point, error) {
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
	return c.points(ctx, kindDurations, selectionOf(timed).durations(chosen, read), at)
}

// chooseBounds returns the bound of each target: the one it has, or the one of those that exist that is next to SlowAbove.
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
			bounds[i] = nextTo(existing.of(t.subject), t.subject.SlowAbove)
		}
	}
	return bounds, nil
}

// bounds are the finite bounds of histograms, in milliseconds, by whose they are.
type bounds map[owner][]float64

func (b bounds) of(s Subject) []float64 {
	var all []float64
	for _, o := range s.owners() {
		all = append(all, b[o]...)
	}
	return all
}

// existingBounds lists the bounds of the subjects' histograms.
func (c *Collector) existingBounds(ctx context.Context, subjects []Subject, at time.Time) (bounds, error) {
	v, err := c.query(ctx, kindBounds, selectionOf(subjects).bounds(c.options.Memory), at)
	if err != nil {
		return nil, err
	}
	found := bounds{}
	for _, s := range v {
		b := parseBound(string(s.Metric[model.BucketLabel]))
		if b > 0 && !math.IsInf(b, 1) {
			o := ownerOf(s.Metric)
			found[o] = append(found[o], b)
		}
	}
	return found, nil
}

// nextTo is the smallest bound that is not below d or, where d lies above all of them, the largest: a version that is held to too
// small a bound is still compared with the other one, and a version that is held to none is not. It is 0 where there is none.
func nextTo(bounds []float64, d time.Duration) float64 {
	if len(bounds) == 0 {
		return 0
	}
	slices.Sort(bounds)
	i, _ := slices.BinarySearch(bounds, milliseconds(d))
	return bounds[min(i, len(bounds)-1)]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func duration(milliseconds float64) time.Duration {
	return time.Duration(math.Round(milliseconds * float64(time.Millisecond)))
}

// sampled are the times of the youngest sample of each owner, by reporter.
type sampled map[owner][reporters]time.Time

// of is the youngest of the subject's.
func (a sampled) of(s Subject) (newest [reporters]time.Time) {
	for _, o := range s.owners() {
		for r, t := range a[o] {
			newest[r] = later(newest[r], t)
		}
	}
	return newest
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// newest asks for the time of the youngest sample of everything the targets count.
func (c *Collector) newest(ctx context.Context, targets []target, at time.Time) (sampled, error) {
	newest := sampled{}
	for _, selected := range selectionsOf(subjectsOf(targets)) {
		v, err := c.query(ctx, kindFreshness, selected.freshness(), at)
		if err != nil {
			return nil, err
		}
		newest.note(v)
	}
	return newest, nil
}

// note takes times in.
func (a sampled) note(v model.Vector) {
	for _, s := range v {
		r := slices.Index(reporterNames[:], analysis.Reporter(s.Metric[labelReporter]))
		seconds := float64(s.Value)
		if r < 0 || !(seconds > 0 && seconds < 1e11) { // not a time
			continue
		}
		o := ownerOf(s.Metric)
		youngest := a[o]
		youngest[r] = later(youngest[r], time.UnixMilli(int64(math.Round(seconds*1000))).UTC())
		a[o] = youngest
	}
}

// settled asks whether Prometheus had been scraping for MaxAge by then. One that has only just started has not yet seen every
// target, and what it does not show may well exist. The series up is written by Prometheus itself for each of its targets.
func (c *Collector) settled(ctx context.Context, at time.Time) (bool, error) {
	v, err := c.query(ctx, kindUp, upBefore(c.options.MaxAge), at)
	return len(v) > 0 && v[0].Value > 0, err
}

// points asks for counters.
func (c *Collector) points(ctx context.Context, kind, promql string, at time.Time) (map[owner][]point, error) {
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
