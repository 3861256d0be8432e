package analysis

import (
	"fmt"
	"math"
	"time"
)

const (
	// shareAtRisk is the share of all users that may meet a failure before the candidate can be taken back, as far as the evidence can
	// tell.
	shareAtRisk = 0.05
	// leastWeight is the least weight there is.
	leastWeight = 0.001
	// topLeast and topMost bound the last weight before 100: enough for what only load shows, and never so much that stable is no
	// comparison any more.
	topLeast, topMost = 0.25, 0.8
	// unknownStart is the first weight where the traffic is not known.
	unknownStart = 0.01
	// probeShare is the share of the budget that a suspected candidate is looked into with.
	probeShare = 0.2
	// spare is how much more than the mean a proof is given, in requests.
	spare = 1.5
)

// Pace is what evidence allows a candidate's weight to be, as shares of the traffic.
type Pace struct {
	// Start is the first weight; a candidate that is suspected goes back to it. Top is the last weight before 100.
	Start, Top float64
	// Allowed is the most that the present evidence justifies.
	Allowed float64
	// Ceiling is what the weight must not exceed: 1, or less where the candidate retreats. Reason and Why say so.
	Ceiling     float64
	Reason, Why string
	// Suspicious is whether there is evidence that something is wrong.
	Suspicious bool
}

// PaceOf says which weights the evidence allows. left is the time until the last weight before 100 is due: until then a candidate gets
// no more traffic than it takes to prove it by then, because what begins to fail later fails at the weight of that moment.
//
// With U the increase that the data still allow (the upper end of the always-valid interval over stable's rate), R the requests a second
// and T the time to react, a candidate as bad as that fails U*w*R*T requests before it can be taken back at weight w, and w*U of all
// users are hit: both are bounded.
func PaceOf(s State, l Limits, left time.Duration) Pace {
	s.Memory = s.Memory.Under(l)
	m := s.Memory
	flow := m.Rate(l.Scrape) * l.Reaction.Seconds() // requests before one can react
	budget := func(rate, share float64) float64 {
		if rate <= 0 {
			return 1
		}
		w := shareAtRisk * share / rate
		if flow > 0 {
			w = min(w, share*float64(l.Budget)/(rate*flow))
		}
		return min(max(w, leastWeight), 1)
	}
	p := Pace{Ceiling: 1, Start: budget(1, 1)}
	if flow == 0 {
		p.Start = unknownStart
	}
	need := spare * s.need(l, left)
	p.Top = s.top(l, need)
	p.Allowed = min(budget(s.mayBe(l), 1), p.Top)
	if need == 0 {
		p.Allowed = p.Top // it was proven to do less harm than may be promoted
	}
	if left > 0 {
		p.Allowed = min(p.Allowed, max(2*need, p.Start)) // twice, since a bound on the rate takes more than the proof
	}
	harm := s.harm(l)
	p.Suspicious = harm.LogHarm >= logSuspicion
	probe := max(p.Start, budget(s.seen(l), probeShare))
	if p.Suspicious {
		p.Allowed = min(p.Allowed, probe)
	}
	switch {
	case m.Outage > 0 && !l.Alone: // where nobody is on stable, what it did before is no reason to go back to it
		p.Ceiling, p.Reason = p.Start, ReasonStableFailing
		p.Why = "stable is failing too: shared dependency?"
	case max(harm.LogHarm, harm.LogBurst) >= logRetreat:
		p.Ceiling, p.Reason, p.Allowed = probe, ReasonSuspicious, p.Start // and no more until the suspicion is less
		p.Why = harm.why(s)
	}
	p.Allowed = min(p.Allowed, p.Ceiling)
	return p
}

// why is what a retreat is for.
func (e Evidence) why(s State) string {
	said := fmt.Sprintf("evidence %s:1", odds(e.LogHarm))
	if e.LogHarm < logRetreat {
		said = "one scrape alone says"
	}
	return fmt.Sprintf("%s; %s that %s", e.culprit.shown(s).sentence(), said, e.culprit.claim())
}

// top is the last weight before 100: as much as the proof needs, and no more than half where so much traffic would break the budget.
func (s State) top(l Limits, need float64) float64 {
	top := min(max(need, topLeast), topMost)
	if flow := s.Memory.Rate(l.Scrape) * l.Reaction.Seconds(); flow > 0 {
		top = min(top, max(float64(l.Budget)/flow, 0.5))
	}
	return top
}

// mayBe is the largest increase over stable that the data still allow.
func (s State) mayBe(l Limits) float64 {
	most := 0.0
	for q := range l.questions {
		d := q.block(s.Memory.Total)
		_, upper := Interval(int64(d.kc), int64(d.nc), beta)
		most = max(most, upper-q.metric(&s.Memory).Usual.rate(q.prior))
	}
	return most
}

// seen is the largest rate that the candidate showed, in the last block or since the first weight.
func (s State) seen(l Limits) float64 {
	most := 0.0
	for q := range l.questions {
		d := q.block(s.Memory.Total)
		most = max(most, q.metric(&s.Memory).Rate, d.kc/max(d.nc, 1))
	}
	return most
}

// need is the weight at which the proof for promotion takes the time that is left.
func (s State) need(l Limits, left time.Duration) float64 {
	most := 0.0
	for q := range l.questions {
		most = max(most, s.missing(q, q.advance(), topLeast, l))
	}
	if most == 0 {
		return 0
	}
	available := s.Memory.Rate(l.Scrape) * max(left, l.Scrape).Seconds()
	if available <= 0 {
		return 1
	}
	return most / available
}

// missing is how many requests of the candidate it takes to prove that its increase is less than that of h, on average, where it is as
// good as stable and has the given weight; 0 where it is proven.
func (s State) missing(q question, h null, weight float64, l Limits) float64 {
	metric := q.metric(&s.Memory)
	lacking := logProof + math.Ln2 - metric.proof()
	if metric.proof() >= logProof {
		return 0
	}
	a, scrape := metric.Usual.rate(q.prior), s.Memory.Rate(l.Scrape)*l.Scrape.Seconds()
	ratio := (1 - weight) / weight
	gain := h.divergence(a, a, ratio, 1) * (1 - insurance)
	phi := metric.Usual.tempering(a, block{ns: scrape * (1 - weight), nc: scrape * weight}, h)
	return max(lacking, 0) * phi / max(gain, 1e-12)
}

// forecast says how much more traffic the proof takes, and how long that is at today's rate.
func (s State) forecast(q question, l Limits) string {
	n := q.block(s.Memory.Total).nc
	weight := max(l.Weight, leastWeight)
	if l.Auto {
		weight = s.top(l, 1)
	}
	more := s.missing(q, q.advance(), weight, l)
	noun := "candidate requests"
	if q.slow {
		noun = "timed candidate requests"
	}
	text := fmt.Sprintf("insufficient data: %s of ~%s %s", thousands(int64(n)), thousands(int64(math.Ceil(n+more))), noun)
	rate := s.Memory.Rate(l.Scrape) * weight
	if rate <= 0 {
		return text + "; there is no traffic"
	}
	d := time.Duration(min(more/rate, 1e9) * float64(time.Second))
	text += fmt.Sprintf("; at this traffic ~%s more", lasts(d))
	if wider := s.wider(q, weight, rate, l); wider > q.increase && !q.slow && d > patience {
		text += fmt.Sprintf(", or raise maxIncrease to %spp", points(wider))
	}
	return text
}

// Forecast says how much traffic the proof of no more errors takes, and how long that is at today's rate: before anything is known of the
// candidate, what a release will take.
func Forecast(s State, l Limits) string {
	s.Memory = s.Memory.Under(l)
	for q := range l.questions {
		return s.forecast(q, l)
	}
	return ""
}

// patience is a wait that nobody needs to be told how to shorten.
const patience = 10 * time.Minute

// wider is the increase that patience is enough to prove, rounded up to a tenth of a point; 0 where none is.
func (s State) wider(q question, weight, rate float64, l Limits) float64 {
	for increase := math.Ceil(q.increase*1000+0.5) / 1000; increase <= 0.1; increase += 0.001 {
		if s.missing(q, null{1, increase}, weight, l) <= rate*patience.Seconds() {
			return increase
		}
	}
	return 0
}
