package query

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/common/model"

	"github.com/sluice-dev/sluice/metrics/analysis"
)

// maxHistory is how many samples a history has at most; a longer one has wider samples.
const maxHistory = 1000

// maxHalvings is how often a history that Prometheus refuses is asked for again at half the length. A service with very many series
// may exceed a limit of the server's, or of ours, for the hour, and a short history serves as well as a long one.
const maxHalvings = 3

// History returns what the stable version did in the hour (Options.History) before until, a scrape (Options.Scrape) apart and oldest
// first: the last sample ends at until. Where until is Sample.From of what Since returned, no request is in both. Only Stable is
// counted, by the reporter that the key is counted by, and with the bound that its Slow is counted by.
//
// It is counted from the raw counters, series by series, by the rules of Since: after a first look like any other, one range
// query for the requests, one for the durations where a bound is known, and one that tells since when Prometheus has been scraping.
// A Prometheus that is younger than the hour, or a version that is, gives a shorter history: what lies before the first request is
// left out. Where Prometheus refuses the hour as too much, the history is shorter, too.
//
// It is read once. Asked for again until a later look, it goes on with what was counted in between, as one sample.
//
// The errors are those of Since. Samples of a history have no Newest.
func (c *Collector) History(ctx context.Context, key Key, until time.Time) ([]analysis.Sample, error) {
	w, t, err := c.historyOf(key)
	if err != nil {
		return nil, err
	}
	if samples, ok := c.goneOn(w, until); ok {
		return samples, nil
	}
	samples, err := c.halving(ctx, t, until)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	w.past = past{until, t, samples}
	return slices.Clone(samples), nil
}

// past is a history that was read: what it counts, up to when.
type past struct {
	until   time.Time
	target  target
	samples []analysis.Sample
}

// goneOn has the history that was read go on to another look. It is false where none was read, or what is counted has changed.
func (c *Collector) goneOn(w *watch, until time.Time) ([]analysis.Sample, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := &w.past
	if p.until.IsZero() || w.history().bound != p.target.bound || w.history().subject.Reporter != p.target.subject.Reporter {
		return nil, false
	}
	if until.Equal(p.until) {
		return slices.Clone(p.samples), true
	}
	i, from := w.find(p.until)
	j, to := w.find(until)
	if !from || !to || j < i {
		return nil, false
	}
	x := sample(w.entries[i].sum, w.entries[j].sum, w.ledger.reporter())
	p.samples = append(p.samples, analysis.Sample{From: p.until, To: until, Reporter: x.Reporter, Stable: x.Stable, SlowAbove: duration(p.target.bound)})
	p.samples = slices.DeleteFunc(p.samples, func(x analysis.Sample) bool { return x.From.Before(until.Add(-c.options.History)) })
	p.until = until
	return slices.Clone(p.samples), true
}

// halving reads a history, shorter where Prometheus refuses it.
func (c *Collector) halving(ctx context.Context, t target, until time.Time) ([]analysis.Sample, error) {
	length := c.options.History
	for range maxHalvings {
		samples, err := c.history(ctx, t, until, length)
		if !errors.Is(err, ErrRefused) {
			return samples, err
		}
		length /= 2
	}
	return c.history(ctx, t, until, length)
}

// historyOf is the key's watch, and what its history counts.
func (c *Collector) historyOf(key Key) (*watch, target, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.watches[key]
	if w == nil || len(w.entries) == 0 {
		return nil, target{}, fmt.Errorf("history of %s: %w", key, ErrNotYet)
	}
	return w, w.history(), nil
}

// history is what a history counts: the stable version, by the reporter in charge.
func (w *watch) history() target {
	is := w.ledger.subject
	s := Subject{Namespace: is.Namespace, Stable: is.Stable, Reporter: is.Reporter, Connections: is.Connections}
	if one := w.ledger.reporter(); w.ledger.reports[one] {
		s.Reporter = reporterNames[one]
	}
	return target{s, w.ledger.bound}
}

// span is a range of evaluation times, both ends included.
type span struct {
	from, to time.Time
	step     time.Duration
}

func (c *Collector) history(ctx context.Context, t target, until time.Time, length time.Duration) ([]analysis.Sample, error) {
	step := max(c.options.Scrape, length/maxHistory).Truncate(time.Millisecond)
	over := span{until.Add(-length.Truncate(step)), until, step}
	first, err := c.see(ctx, []target{t}, over.from, true)
	if err != nil {
		return nil, err
	}
	selected := selectionOf([]Subject{t.subject})
	if r := t.subject.Reporter; r != "" {
		selected.reporters = []string{string(r)}
	}
	requests, err := c.series(ctx, kindRequests, selected.requests(asIs), over)
	if err != nil {
		return nil, err
	}
	var durations *replay
	if t.bound > 0 {
		if durations, err = c.series(ctx, kindDurations, selected.durations([]float64{t.bound}, asIs), over); err != nil {
			return nil, err
		}
	}
	up, err := c.series(ctx, kindUp, upBefore(c.options.MaxAge), over)
	if err != nil {
		return nil, err
	}
	return t.replay(over, first, requests, durations, up), nil
}

// replay counts a span look by look, from what a first look saw.
func (t target) replay(over span, first sight, requests, durations, up *replay) []analysis.Sample {
	l := newLedger(t.subject, t.bound)
	l.take(first.of(t.subject, len(up.at(over.from)) > 0))
	var samples []analysis.Sample
	for from := over.from; from.Before(over.to); from = from.Add(over.step) {
		to, before := from.Add(over.step), l.sum
		l.take(look{requests.at(to), durations.at(to), len(up.at(to)) > 0})
		x := sample(before, l.sum, l.reporter())
		if len(samples) == 0 && x.Stable == (analysis.Counts{}) {
			continue // nothing is known of what lies before the first request
		}
		samples = append(samples, analysis.Sample{From: from, To: to, Reporter: x.Reporter, Stable: x.Stable, SlowAbove: duration(t.bound)})
	}
	return samples
}

// series asks for counters over a span.
func (c *Collector) series(ctx context.Context, kind, promql string, over span) (*replay, error) {
	ctx, cancel := context.WithTimeout(ctx, c.options.HistoryTimeout)
	defer cancel()
	start := time.Now()
	m, err := c.client.matrix(ctx, kind, promql, over)
	c.options.Observer.ObserveQuery(kind, time.Since(start), err)
	if err != nil {
		return nil, fmt.Errorf("history from %s: %w", over.from.Format(time.RFC3339), err)
	}
	r := &replay{}
	for _, s := range m {
		p, ok := pointOf(s.Metric)
		if !ok {
			c.options.Observer.ObserveSkipped(kind, len(s.Values))
			continue
		}
		r.series = append(r.series, recording{p, s.Values})
	}
	return r, nil
}

// replay shows recorded series time by time, in order.
type replay struct{ series []recording }

type recording struct {
	point
	values []model.SamplePair
}

// at returns the points of one evaluation time; those of earlier times are gone.
func (r *replay) at(at time.Time) []point {
	if r == nil {
		return nil
	}
	var points []point
	now := model.TimeFromUnixNano(at.UnixNano())
	for i := range r.series {
		s := &r.series[i]
		for len(s.values) > 0 && s.values[0].Timestamp < now {
			s.values = s.values[1:]
		}
		if len(s.values) == 0 || s.values[0].Timestamp != now {
			continue
		}
		p := s.point
		p.value = countOf(s.values[0].Value)
		points = append(points, p)
	}
	return points
}
