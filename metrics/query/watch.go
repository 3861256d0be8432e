package query

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-dev/sluice/metrics/analysis"
)

// watch is what is kept of one key.
type watch struct {
	ledger *ledger
	// entries are the looks, oldest first, each with what was counted up to it.
	entries []entry
	// newest is the time of the youngest sample seen, by reporter.
	newest [reporters]time.Time
	// err is why the latest look brought nothing, or why what it brought is no evidence.
	err error
	// past is its history, once it was asked for.
	past past
	// questions are its custom queries.
	questions []question
	// owed says that the key has news that found no room.
	owed bool
}

type entry struct {
	at  time.Time
	sum totals
}

// keep notes one look at the subject and says whether it brought news.
func (w *watch) keep(at time.Time, x look, newest [reporters]time.Time, limit int) (news bool) {
	first, sum, was := len(w.entries) == 0, w.ledger.sum, w.newest
	w.ledger.take(x)
	for r, t := range newest {
		w.newest[r] = later(w.newest[r], t)
	}
	w.insert(entry{at, w.ledger.sum}, limit)
	return first || sum != w.ledger.sum || was != w.newest
}

// judge says why the evidence is none, as of at. Silence is why there is no series, where that could be told.
func (w *watch) judge(at time.Time, maxAge time.Duration, address string, silence error) error {
	s, newest := w.ledger.subject, w.newest[w.ledger.reporter()]
	switch {
	case newest.IsZero() && len(w.ledger.requests) == 0:
		return fmt.Errorf("asking Prometheus at %s: %s query: no %s of %s to %s or %s: %w",
			address, kindRequests, s.metric(), s.Service, s.Stable, s.Candidate, cmp.Or(silence, ErrNoSeries))
	case newest.IsZero():
		return fmt.Errorf("asking Prometheus at %s: %s query: every sample of %s is too old to be shown: %w", address, kindFreshness, s.Service, ErrStale)
	case at.Sub(newest) > maxAge:
		return fmt.Errorf("asking Prometheus at %s: %s query: the newest sample of %s is %s old, older than %s: %w",
			address, kindFreshness, s.Service, at.Sub(newest).Round(time.Second), maxAge, ErrStale)
	}
	return nil
}

// fail notes why there is no evidence and says whether that changed in kind.
func (w *watch) fail(err error) (changed bool) {
	changed = kindOf(w.err) != kindOf(err)
	w.err = err
	return changed
}

// kindOf names what an error stands for, without its numbers; empty for none.
func kindOf(err error) string {
	if err == nil {
		return ""
	}
	for _, kind := range []error{ErrUnreachable, ErrRefused, ErrNoMetric, ErrNoLabels, ErrNoTraffic, ErrNoSeries, ErrStale, ErrNotYet} {
		if errors.Is(err, kind) {
			return kind.Error()
		}
	}
	return err.Error()
}

// insert keeps the entries in order and drops the oldest beyond limit.
func (w *watch) insert(e entry, limit int) {
	i, found := w.find(e.at)
	if found {
		return
	}
	w.entries = slices.Insert(w.entries, i, e)
	if over := len(w.entries) - limit; over > 0 {
		w.entries = slices.Delete(w.entries, 0, over)
	}
}

// find returns the place of the look at that time, to the millisecond.
func (w *watch) find(at time.Time) (int, bool) {
	return slices.BinarySearchFunc(w.entries, at, func(e entry, at time.Time) int {
		return int(e.at.UnixMilli() - at.UnixMilli())
	})
}

// request is one call of Since, resolved as far as memory goes.
type request struct {
	watch  *watch
	target target
	// from and to bound the sample; sum is what was counted up to to.
	from   time.Time
	to     entry
	newest time.Time
	by     int
	err    error
	// before is what was counted up to from. Where anchor is set it is not known: what was counted between from and the anchor
	// must be read back.
	before totals
	anchor entry
}

func (r request) sample(before totals) analysis.Sample {
	x := sample(before, r.to.sum, r.by)
	x.From, x.To, x.Newest, x.SlowAbove = r.from, r.to.at, r.newest, duration(r.target.bound)
	return x
}

// since resolves a call of Since against what is remembered.
func (c *Collector) since(key Key, from time.Time) (request, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.watches[key]
	if w == nil {
		return request{}, fmt.Errorf("evidence of %s: it is not watched: %w", key, ErrNotYet)
	}
	if len(w.entries) == 0 {
		if w.err != nil {
			return request{}, w.err
		}
		return request{}, fmt.Errorf("evidence of %s: %w", key, ErrNotYet)
	}
	by := w.ledger.reporter()
	r := request{watch: w, target: target{w.ledger.subject, w.ledger.bound}, from: from,
		to: w.entries[len(w.entries)-1], newest: w.newest[by], by: by, err: w.err}
	if from.IsZero() {
		r.from = r.to.at
		r.before = r.to.sum
		return r, nil
	}
	i, found := w.find(from)
	switch {
	case found:
		r.before = w.entries[i].sum
	case i == len(w.entries):
		return request{}, fmt.Errorf("evidence of %s: the latest look is not after %s: %w", key, from.Format(time.RFC3339Nano), ErrNotYet)
	default:
		r.anchor = w.entries[i]
	}
	return r, nil
}

// remember keeps what was read back, so that it is read back once.
func (c *Collector) remember(key Key, w *watch, e entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watches[key] == w {
		w.insert(e, c.options.Keep)
	}
}

// maxReplay is how many looks between from and the anchor are made up for.
const maxReplay = 16

// readBack counts what a collector would have counted that was running from one time to another: it begins a ledger at from and
// looks again, an Interval apart, or in maxReplay steps where that takes fewer. Whatever is reset or born in between is seen as
// it would have been.
func (c *Collector) readBack(ctx context.Context, t target, from, to time.Time) (totals, error) {
	settled, err := c.settled(ctx, from)
	if err != nil {
		return totals{}, fmt.Errorf("reading back from %s: %w", from.Format(time.RFC3339Nano), err)
	}
	l := newLedger(t.subject, t.bound)
	step := max(c.options.Interval, to.Sub(from)/maxReplay)
	for at := from; ; at = at.Add(step) {
		if at.After(to) {
			at = to
		}
		s, err := c.see(ctx, []target{t}, at, at.Equal(from))
		if err != nil {
			return totals{}, fmt.Errorf("reading back from %s: %w", from.Format(time.RFC3339Nano), err)
		}
		l.take(s.of(t.subject, settled))
		if !at.Before(to) {
			return l.sum, nil
		}
	}
}
