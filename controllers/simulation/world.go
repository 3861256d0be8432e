package simulation

import (
	"math"
	"slices"

	"github.com/sluice-dev/sluice/metrics/analysis"
)

// world is one service under traffic, second by second.
type world struct {
	scenario Scenario
	dice     *dice
	// stable is whether anybody looks at the stable version's requests.
	stable bool

	// now is the clock; the candidate got its first weight at origin, which is negative while it has none.
	now, origin int
	weight      float64
	coming      []change
	onset       int
	spared      int64
	// phase is how long after the first weight the scrapes come: none for the rivals, who are given exact windows; any for Sluice.
	phase int

	// count is all that was counted; scrapes is what it was at each scrape.
	count   pair
	scrapes []scraped
	// leaked is the requests that the candidate failed beyond those that stable would have failed, in expectation.
	leaked float64
}

// change is a weight on its way to the mesh.
type change struct {
	at     int
	weight float64
}

// scraped is what a scrape saw.
type scraped struct {
	at    int
	count pair
}

// pair is the requests of both versions.
type pair struct{ candidate, stable analysis.Counts }

func (p pair) minus(q pair) pair {
	return pair{less(p.candidate, q.candidate), less(p.stable, q.stable)}
}

func less(a, b analysis.Counts) analysis.Counts {
	return analysis.Counts{Requests: a.Requests - b.Requests, Errors: a.Errors - b.Errors}
}

// newWorld is a service with a candidate that has no weight yet.
func newWorld(s Scenario, key uint64, stable bool) *world {
	w := &world{scenario: s, dice: newDice(key), stable: stable, origin: -1, onset: s.From, spared: int64(pods * s.Spared), scrapes: make([]scraped, 1, 64)}
	if stable {
		w.dice.aim(atPhase, 0)
		w.phase = w.dice.rng.IntN(scrape)
	}
	if s.To-s.From == scrape {
		w.onset += w.phase // what lasts for one scrape begins with one
	}
	if s.Anywhere {
		w.dice.aim(atOnset, 0)
		w.onset = w.dice.rng.IntN(600)
	}
	return w
}

// route decides a weight: the first takes effect at once, because every clock starts with it, and later ones after the lag.
func (w *world) route(weight float64) {
	if w.origin < 0 {
		if weight > 0 {
			w.origin, w.weight = w.now, weight
			if w.phase == 0 {
				w.scrape()
			}
		}
		return
	}
	w.coming = append(w.coming, change{w.now + lag, weight})
}

// elapsed is the time since the first weight.
func (w *world) elapsed() int { return w.now - w.origin }

// runTo lets time go by.
func (w *world) runTo(clock int) {
	for w.now < clock {
		for len(w.coming) > 0 && w.coming[0].at <= w.now {
			w.weight, w.coming = w.coming[0].weight, w.coming[1:]
		}
		w.second()
		w.now++
		if (w.now-max(w.origin, 0))%scrape == w.phase {
			w.scrape()
		}
	}
}

func (w *world) scrape() {
	if w.scrapes[len(w.scrapes)-1].at < w.now {
		w.scrapes = append(w.scrapes, scraped{w.now, w.count})
	}
}

// seen is the latest scrape at a time.
func (w *world) seen(at int) scraped {
	i := len(w.scrapes) - 1
	for i > 0 && w.scrapes[i].at > at {
		i--
	}
	return w.scrapes[i]
}

// second lets the requests of one second come.
func (w *world) second() {
	if w.origin < 0 {
		if w.stable {
			w.dice.aim(atBefore, w.now)
			w.count.stable = w.count.stable.Add(w.requests(w.scenario.RPS, usual))
		}
		return
	}
	t := w.elapsed()
	stable, candidate := w.rates(t)
	burstStable, burstCandidate := w.bursts(t / scrape)
	w.dice.aim(atRequests, t)
	if w.weight > 0 {
		c := w.candidateRequests(w.weight*w.scenario.RPS, candidate*burstCandidate)
		w.count.candidate = w.count.candidate.Add(c)
	}
	if w.stable {
		w.count.stable = w.count.stable.Add(w.requests((1-w.weight)*w.scenario.RPS, stable*burstStable))
	}
}

// requests draws those of one second: a Poisson stream of which each fails with the same probability is two Poisson streams.
func (w *world) requests(rate, fails float64) analysis.Counts {
	fails = min(fails, 1)
	errors := w.dice.poisson(rate * fails)
	return analysis.Counts{Requests: errors + w.dice.poisson(rate*(1-fails)), Errors: errors}
}

// candidateRequests draws the candidate's and adds up what leaked. The pods take turns, so that those that spare their first requests
// spare the first of all.
func (w *world) candidateRequests(rate, fails float64) analysis.Counts {
	c := w.requests(rate, fails)
	spared := min(w.spared, c.Requests)
	w.spared -= spared
	c.Errors = min(c.Errors, c.Requests-spared)
	w.leaked += float64(c.Requests-spared) * w.excess(w.elapsed())
	return c
}

// rates are the shares that each version fails in a second after the first weight, bursts aside.
func (w *world) rates(t int) (stable, candidate float64) {
	s := w.scenario
	if o := s.Outage; o.From <= t && t < o.To {
		return o.Stable, o.Candidate
	}
	if t < w.onset || s.To > 0 && t >= s.To+w.onset-s.From {
		return usual, usual
	}
	return usual, s.Candidate
}

func (w *world) excess(t int) float64 {
	stable, candidate := w.rates(t)
	return candidate - stable
}

// bursts are the factors of a scrape's failure rates.
func (w *world) bursts(block int) (stable, candidate float64) {
	if w.scenario.Bursts == NoBursts {
		return 1, 1
	}
	w.dice.aim(atStableBurst, block)
	stable = w.dice.burst()
	if w.scenario.Bursts == SharedBursts {
		return stable, stable
	}
	w.dice.aim(atCandidateBurst, block)
	return stable, w.dice.burst()
}

// window is what was counted in the last seconds, which begin and end with a scrape.
func (w *world) window(seconds int) analysis.Counts {
	return w.seen(w.now).count.minus(w.seen(w.now - seconds).count).candidate
}

// rest is what will leak from now to the horizon, in expectation, with the weights on their way and nothing after them.
func (w *world) rest() float64 {
	sum, weight, coming := 0.0, w.weight, slices.Clone(w.coming)
	for t := w.elapsed(); t < Horizon; t++ {
		for len(coming) > 0 && coming[0].at <= t+w.origin {
			weight, coming = coming[0].weight, coming[1:]
		}
		sum += weight * w.scenario.RPS * w.excess(t)
	}
	return sum
}

// history is the stable version's past, a scrape apart, oldest first.
func (w *world) history(scrapes int) []analysis.Counts {
	past := make([]analysis.Counts, scrapes)
	for i := range past {
		burst := 1.0
		if w.scenario.Bursts != NoBursts {
			w.dice.aim(atStableBurst, math.MaxInt32-i)
			burst = w.dice.burst()
		}
		w.dice.aim(atHistory, i)
		past[i] = w.requests(scrape*w.scenario.RPS, usual*burst)
	}
	return past
}
