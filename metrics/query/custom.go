package query

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/common/model"
)

// CustomQuery is a question of a user's own. PromQL is what Template.Render makes: its value is a scalar, or a vector of one element.
type CustomQuery struct{ Name, PromQL string }

// Reading is the latest answer to a custom query.
type Reading struct {
	Name string
	// At is the evaluation time. It tells one reading from the next: a query whose turn did not come keeps its reading.
	At time.Time
	// Data says that there is a value: an empty vector and NaN are none. Value may be infinite.
	Value float64
	Data  bool
	// Err is why there is neither: it wraps ErrUnreachable or ErrRefused where Prometheus is to blame, and nothing where the answer
	// is not one number.
	Err error
}

// Readings returns the latest reading of each of the key's queries, in their order. One that was not asked yet has none.
func (c *Collector) Readings(key Key) []Reading {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.watches[key]
	if w == nil {
		return nil
	}
	var all []Reading
	for _, q := range w.questions {
		if !q.latest.At.IsZero() {
			all = append(all, q.latest)
		}
	}
	return all
}

// question is a custom query of a watch with its latest reading, whose At is zero while there is none.
type question struct {
	CustomQuery
	latest Reading
}

// askFor has the watch ask these queries. One that it asks already keeps its reading.
func (w *watch) askFor(queries []CustomQuery) {
	questions := make([]question, 0, len(queries))
	for _, q := range queries {
		i := slices.IndexFunc(w.questions, func(old question) bool { return old.CustomQuery == q })
		if i >= 0 {
			questions = append(questions, w.questions[i])
		} else {
			questions = append(questions, question{CustomQuery: q})
		}
	}
	w.questions = questions
}

// answered notes a reading and says whether it differs from the one before. The queries may have changed since it was asked for.
func (w *watch) answered(q CustomQuery, r Reading) (changed bool) {
	for i, old := range w.questions {
		if old.CustomQuery != q {
			continue
		}
		w.questions[i].latest = r
		was := old.latest
		return was.At.IsZero() || was.Data != r.Data || r.Data && was.Value != r.Value || kindOf(was.Err) != kindOf(r.Err)
	}
	return false
}

// turn is one custom query to be asked.
type turn struct {
	key   Key
	watch *watch
	question
}

// turns are all that are watched, those that were asked longest ago first.
func (c *Collector) turns() []turn {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []turn
	for _, k := range sortedKeys(c.watches) {
		for _, q := range c.watches[k].questions {
			all = append(all, turn{k, c.watches[k], q})
		}
	}
	slices.SortStableFunc(all, func(a, b turn) int { return a.latest.At.Compare(b.latest.At) })
	return all
}

// askers is how many custom queries are asked at once.
const askers = 4

// askAll asks the custom queries for at most one Timeout in all, so that the next look is not late for more; those whose turn does
// not come are the first of the next time. A Prometheus that did not even show its counters is not asked.
func (c *Collector) askAll(ctx context.Context, at time.Time, unreachable error) {
	turns := c.turns()
	if unreachable != nil {
		for _, t := range turns {
			c.note(ctx, t, Reading{At: at, Err: unreachable})
		}
		return
	}
	start := time.Now()
	bounded, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	next := make(chan turn)
	var group sync.WaitGroup
	for range min(askers, len(turns)) {
		group.Go(func() {
			for t := range next {
				late := time.Since(start) > c.options.Timeout/2
				r := c.ask(bounded, t.CustomQuery, at)
				if late && bounded.Err() != nil {
					continue // it was not given its time
				}
				c.note(ctx, t, r)
			}
		})
	}
	for _, t := range turns {
		select {
		case next <- t:
			continue
		case <-bounded.Done():
		}
		break
	}
	close(next)
	group.Wait()
}

// ask asks one custom query.
func (c *Collector) ask(ctx context.Context, q CustomQuery, at time.Time) Reading {
	start := time.Now()
	v, err := c.client.value(ctx, q, at)
	c.options.Observer.ObserveQuery(kindCustom, time.Since(start), err)
	r := Reading{At: at}
	if err == nil {
		r.Value, r.Data, err = number(v)
	}
	if err != nil {
		r.Err = fmt.Errorf("query %s: %w", q.Name, err)
	}
	return r
}

// note keeps a reading. One that ended because the collector stops says nothing.
func (c *Collector) note(ctx context.Context, t turn, r Reading) {
	if ctx.Err() != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r.Name = t.Name
	if c.watches[t.key] == t.watch && t.watch.answered(t.CustomQuery, r) {
		t.watch.owed = true
	}
}

// number reads the one number of an answer.
func number(v model.Value) (value float64, data bool, err error) {
	switch v := v.(type) {
	case *model.Scalar:
		value = float64(v.Value)
	case model.Vector:
		switch {
		case len(v) == 0:
			return 0, false, nil
		case len(v) > 1:
			return 0, false, fmt.Errorf("the value is a vector of %d elements; accepted is one: aggregate them, as sum does", len(v))
		case v[0].Histogram != nil:
			return 0, false, errors.New("the value is a histogram; accepted is a number, as histogram_quantile makes")
		}
		value = float64(v[0].Value)
	default:
		return 0, false, fmt.Errorf("the value is a %s; accepted are a scalar and a vector of one element", v.Type())
	}
	if math.IsNaN(value) {
		return 0, false, nil
	}
	return value, true, nil
}

// value evaluates a custom query.
func (c *Client) value(ctx context.Context, q CustomQuery, at time.Time) (model.Value, error) {
	value, warnings, _, err := c.api.Query(ctx, q.PromQL, at)
	return answer[model.Value](c, kindCustom, value, warnings, err)
}
