package query

import (
	"context"
	"errors"
	"slices"
	"time"
)

// batch is a group of watches that one look asks for together.
type batch struct {
	keys    []Key
	watches []*watch
	targets []target
	// fresh says that this is their first look.
	fresh bool
}

// look asks Prometheus once for everything that is watched, and offers the news: what was counted does not wait for the custom
// queries.
func (c *Collector) look(ctx context.Context, at time.Time) {
	unreachable := c.lookAll(ctx, at)
	c.offer()
	c.askAll(ctx, at, unreachable)
	c.offer()
}

// lookAll asks for the counters. It returns why Prometheus does not answer, where it does not.
func (c *Collector) lookAll(ctx context.Context, at time.Time) (unreachable error) {
	batches, untrusted := c.batches()
	settled, err := true, error(nil)
	if untrusted {
		settled, err = c.settled(ctx, at)
	}
	for _, b := range batches {
		// A Prometheus that did not answer once is not asked again in the same look: each query may take its whole Timeout.
		if err != nil {
			c.failAll(ctx, b, err)
			continue
		}
		failure := c.lookAt(ctx, b, at, settled)
		if failure != nil {
			c.failAll(ctx, b, failure)
		}
		if errors.Is(failure, ErrUnreachable) {
			err = failure
		}
	}
	if errors.Is(err, ErrUnreachable) {
		return err
	}
	return nil
}

// lookAt looks at one batch. It keeps all that it saw or, where a query fails, nothing.
func (c *Collector) lookAt(ctx context.Context, b batch, at time.Time, settled bool) error {
	s, err := c.see(ctx, b.targets, at, b.fresh)
	if err != nil {
		return err
	}
	newest, err := c.newest(ctx, b.targets, at)
	if err != nil {
		return err
	}
	silence := c.silence(ctx, b, s, newest, at)
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, w := range b.watches {
		if c.watches[b.keys[i]] != w {
			continue // no longer watched, or for another subject
		}
		w.ledger.bound = s.bounds[i]
		if w.keep(at, s.of(w.ledger.subject, settled), newest.of(w.ledger.subject), c.options.Keep) {
			w.owed = true
		}
		if w.fail(w.judge(at, c.options.MaxAge, c.client.Address(), silence[i])) {
			w.owed = true
		}
	}
	return nil
}

// batches groups what is watched: first looks apart, because they are asked for differently, and no more than Chunk together.
// It also says whether any of them does not trust its last look yet.
func (c *Collector) batches() (all []batch, untrusted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var fresh, seasoned []Key
	for _, k := range sortedKeys(c.watches) {
		w := c.watches[k]
		untrusted = untrusted || !w.ledger.trusted
		if len(w.entries) == 0 {
			fresh = append(fresh, k)
		} else {
			seasoned = append(seasoned, k)
		}
	}
	for _, group := range []struct {
		keys  []Key
		fresh bool
	}{{seasoned, false}, {fresh, true}} {
		for keys := range slices.Chunk(group.keys, c.options.Chunk) {
			b := batch{keys: keys, fresh: group.fresh}
			for _, k := range keys {
				w := c.watches[k]
				b.watches = append(b.watches, w)
				b.targets = append(b.targets, target{w.ledger.subject, w.ledger.bound})
			}
			all = append(all, b)
		}
	}
	return all, untrusted
}

// failAll notes why a look brought nothing. A look that ended because the collector stops says nothing about Prometheus.
func (c *Collector) failAll(ctx context.Context, b batch, err error) {
	if ctx.Err() != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, w := range b.watches {
		if c.watches[b.keys[i]] == w && w.fail(err) {
			w.owed = true
		}
	}
}

// offer gives the keys with news to whoever reads Updates, as far as there is room.
func (c *Collector) offer() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range sortedKeys(c.watches) {
		w := c.watches[k]
		if !w.owed {
			continue
		}
		select {
		case c.updates <- k:
			w.owed = false
		default:
			return
		}
	}
}
