package shift

import (
	"time"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/metrics/analysis"
)

const (
	// Where evidence sets the pace, a release takes at least this many holds from the first weight to 100, and the last of them at the
	// highest weight: bugs that show after a while, and under load, are given a chance to.
	leastHolds, topHolds = 6, 1.25
	// topDue is when the highest weight is due, in holds: with room for the time that a route takes.
	topDue = 4.4
	// leastLeap is by how much a weight is raised at least: every change costs the time to prove the route anew.
	leastLeap = 1.25
	// firstMost is the most that a first weight is, and topLeast the least that stands before 100; they are what pods are made for.
	firstMost, topLeast v1alpha1.Permille = 50, 250
)

// auto reports whether evidence sets the pace.
func (p *pass) auto() bool { return p.spec.Pacing == v1alpha1.PacingAuto && !p.spec.SkipAnalysis }

// pace is what the evidence allows.
func (p *pass) pace() analysis.Pace {
	pace := analysis.PaceOf(p.evidence(), p.limits(), p.left())
	pace.Why = p.worded(pace.Why)
	return pace
}

// left is the time until the highest weight before 100 is due.
func (p *pass) left() time.Duration {
	left := holds(p.spec.Hold.Duration, topDue)
	if since := p.next.WeightedAt; since != nil {
		left -= p.obs.Now.Sub(since.Time)
	}
	return max(left, 0)
}

func holds(hold time.Duration, n float64) time.Duration { return time.Duration(float64(hold) * n) }

// weightAbove is the weight that the evidence allows next. It is the present one, and says what is waited for, where there is none yet.
func (p *pass) weightAbove() (next v1alpha1.Permille, wait string) {
	w, pace := p.next.Weight, p.pace()
	top := fine(pace.Top)
	switch {
	case w == v1alpha1.Whole:
		return w, ""
	case w == 0:
		return min(fine(pace.Start), firstMost), ""
	case w >= top:
		return p.lastLeap()
	}
	next = min(fine(pace.Allowed), p.ahead())
	if left := p.left(); next < top && left > 0 && left < p.spec.Hold.Duration {
		next = w // it would only put off the highest weight
	}
	if next <= w || next < min(top, p.ahead()) && float64(next) < leastLeap*float64(w) {
		return w, "the evidence so far allows no more; " + p.outlook()
	}
	return next, ""
}

// lastLeap is the switch to 100, once the candidate has had the time that shows what needs time.
func (p *pass) lastLeap() (next v1alpha1.Permille, wait string) {
	hold := p.spec.Hold.Duration
	if !p.passed(p.next.WeightedAt, holds(hold, leastHolds)) || !p.passed(p.next.RoutedSince, holds(hold, topHolds)) {
		return p.next.Weight, "the last weight before 100% is held for a while; " + p.outlook()
	}
	return v1alpha1.Whole, ""
}

// ahead is the weight that pods are made for before it is earned.
func (p *pass) ahead() v1alpha1.Permille {
	w := p.next.Weight
	switch {
	case w == 0:
		return firstMost
	case w < topLeast:
		return topLeast
	}
	return v1alpha1.Whole
}

// podsAhead is how many pods the candidate is given before they are needed: what it stands on takes, and what comes next.
func (p *pass) podsAhead() int32 {
	switch {
	case p.ordered():
		return max(p.podsFor(p.standing()), p.podsFor(p.orderedRung()))
	case p.auto():
		return p.capacity(p.ahead())
	}
	return max(p.podsFor(p.standing()), p.podsFor(p.ladder.above(p.next)))
}

// podsFor is how many pods a rung takes. How many requests match is not known beforehand: unless the owner says how many pods they take,
// they are given those for all of the traffic, as a preview is, which the switch follows.
func (p *pass) podsFor(r rung) int32 {
	switch r.exposure {
	case v1alpha1.ExposurePreview, v1alpha1.ExposureMatch:
		if r.replicas == 0 {
			return p.capacity(v1alpha1.Whole)
		}
		return r.replicas
	}
	if r.group() != "" && r.replicas == 0 {
		return p.capacity(v1alpha1.Whole)
	}
	return max(p.capacity(r.weight), r.replicas)
}

// podsAwaited is how many pods are waited for.
func (p *pass) podsAwaited() int32 {
	switch {
	case p.next.Stage == v1alpha1.StagePreparing:
		return p.podsAhead()
	case p.ordered():
		return p.podsFor(p.orderedRung())
	}
	next, _ := p.nextRung()
	return p.podsFor(next)
}

// ceiling is the weight that the evidence sends a candidate back to: never below the first one.
func (p *pass) ceiling(pace analysis.Pace) v1alpha1.Permille {
	if pace.Ceiling >= 1 {
		return v1alpha1.Whole
	}
	most := fine(pace.Ceiling)
	if p.auto() {
		return most
	}
	rungs := p.ladder[p.ladder.exposures():]
	to := rungs[0].weight
	for _, r := range rungs {
		if r.weight <= most {
			to = r.weight
		}
	}
	return to
}

// weightBelow is the last weight that was good before w: the rung below, or the first weight; 0 where there is none.
func (p *pass) weightBelow(w v1alpha1.Permille) v1alpha1.Permille {
	if !p.auto() {
		return p.rungBelow(w)
	}
	if start := min(fine(p.pace().Start), firstMost); start < w {
		return start
	}
	return 0
}

// fine is a share in thousandths, rounded down: in whole percents from 1% on, since finer ones serve only services of much traffic,
// and never nothing.
func fine(share float64) v1alpha1.Permille {
	w := v1alpha1.Permille(share*float64(v1alpha1.Whole) + 1e-9)
	if w >= 10 {
		w -= w % 10
	}
	return min(max(w, 1), v1alpha1.Whole)
}

// rungBelow is the last weight of the ladder below w, or 0.
func (p *pass) rungBelow(w v1alpha1.Permille) v1alpha1.Permille {
	below := v1alpha1.Permille(0)
	for _, r := range p.ladder {
		if r.exposure == "" && r.weight < w {
			below = r.weight
		}
	}
	return below
}
