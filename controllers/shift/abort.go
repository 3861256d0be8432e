package shift

import (
	"fmt"
	"time"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/metrics/analysis"
)

// restartLimit is how many restarts of one pod say that a candidate crash-loops.
const restartLimit = 2

// aborted asks whether the candidate must be taken back, most certain cause first, and takes it back.
func (p *pass) aborted() bool {
	for _, check := range []func() *v1alpha1.Failure{
		p.abortedByPerson,   // a person said so
		p.failedGate,        // evidence against the candidate
		p.unstablePods,      // crash loops, or pods that were ready and are not
		p.pastDeadline,      // pods that do not come
		p.pauseTimedOut,     // a person who does not come
		p.bypassed,          // traffic at weight 0
		p.loweredByHand,     // somebody took the weight away
		p.noHealthyUpstream, // failures without a host, again, at the last good weight
		p.relapsed,          // suspicion, again and again
	} {
		if f := check(); f != nil {
			p.fail(f.Reason, f.Message, true)
			p.rollBack()
			return true
		}
	}
	return p.retreated() || p.suspected()
}

func failure(reason, format string, args ...any) *v1alpha1.Failure {
	return &v1alpha1.Failure{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

func (p *pass) abortedByPerson() *v1alpha1.Failure {
	if p.abort.Version != p.next.Candidate {
		return nil
	}
	return failure(v1alpha1.ReasonAborted, "%s was aborted at %s by %s", p.next.Candidate, p.place(), p.abort.by)
}

func (p *pass) failedGate() *v1alpha1.Failure {
	v := analysis.Overall(p.verdicts)
	if v.Outcome != analysis.Fail || p.gatesSkipped() {
		return nil
	}
	return failure(v.Reason, "%s at %s: %s", p.next.Candidate, p.place(), v.Message)
}

func (p *pass) unstablePods() *v1alpha1.Failure {
	c := p.obs.version(p.next.Candidate)
	before := p.next.Pods.Ready
	switch {
	case c.Restarts >= restartLimit:
		return failure(v1alpha1.ReasonCandidateUnstable, "a pod of %s restarted %d times%s", c.Name, c.Restarts, because(c))
	case p.next.WeightedAt == nil && p.next.Weight == 0 && c.Ready < before:
		return failure(v1alpha1.ReasonCandidateUnstable, "a pod of %s was ready and is not any more, before its first weight (%d of %d ready)%s", c.Name, c.Ready, before, because(c))
	case p.next.Weight > 0 && c.Ready == 0:
		return failure(v1alpha1.ReasonCandidateUnstable, "%s has %s of the traffic and no ready pod%s", c.Name, p.place(), because(c))
	case p.shown() && c.Ready == 0:
		return failure(v1alpha1.ReasonCandidateUnstable, "%s is at %s and has no ready pod%s", c.Name, p.place(), because(c))
	}
	p.next.Pods.Ready = max(before, c.Ready)
	return nil
}

// pastDeadline adds up only the time spent waiting for pods: pauses, holds and missing evidence do not count. Who is ordered on in a
// pause waits for pods as any other does.
func (p *pass) pastDeadline() *v1alpha1.Failure {
	if p.spec.Paused && !p.ordered() || p.next.Pods.WaitingSince == nil || p.obs.Now.Before(p.deadline()) {
		return nil
	}
	c, want := p.obs.version(p.next.Candidate), p.podsAwaited()
	if p.present(c, want) {
		return nil // they came while nobody looked
	}
	return failure(v1alpha1.ReasonNotReadyInTime, "%s waited %s for its pods: %s", c.Name, p.spec.Deadline.Duration, p.available(c, want))
}

func (p *pass) deadline() time.Time {
	return p.next.Pods.WaitingSince.Add(p.spec.Deadline.Duration - p.next.Pods.Waited.Duration)
}

// stopWaiting stops the deadline's clock and keeps what it counted.
func (p *pass) stopWaiting() {
	if since := p.next.Pods.WaitingSince; since != nil {
		p.next.Pods.Waited.Duration += p.obs.Now.Sub(since.Time)
		p.next.Pods.WaitingSince = nil
	}
}

// bypassed finds traffic on a candidate that has a subset and was never shown: something routes around Sluice, and going on would put
// a version in front of users that no weight can take away again.
func (p *pass) bypassed() *v1alpha1.Failure {
	g := p.next.Gate
	if p.shown() || p.next.WeightedAt != nil || p.spec.SkipAnalysis || g.Candidate.Requests+g.Cross.Requests == 0 {
		return nil
	}
	return failure(v1alpha1.ReasonRouteBypassed, "%s got %d %s at a weight of 0%%: another route, or a client outside the mesh, reaches its pods",
		p.next.Candidate, max(g.Candidate.Requests, g.Cross.Requests), p.counted())
}

// loweredByHand honours a weight that somebody lowered after it was in place, or a match or mirror that somebody took away. One found
// raised is simply written again.
func (p *pass) loweredByHand() *v1alpha1.Failure {
	if p.next.RoutedSince == nil {
		return nil
	}
	if p.obs.hides(p.matched(), p.mirrored().Version) {
		return failure(v1alpha1.ReasonWeightLowered, "%s was at %s, which was taken away by hand", p.next.Candidate, p.place())
	}
	low := p.obs.lowest(p.next.Candidate)
	if low >= p.next.Weight {
		return nil
	}
	return failure(v1alpha1.ReasonWeightLowered, "the weight of %s was lowered from %s to %s by hand", p.next.Candidate, p.next.Weight, low)
}

// noHealthyUpstream aborts where failures without a host go on at the weight that was good before, or come back with the weight that
// was retreated from: a release retreats once.
func (p *pass) noHealthyUpstream() *v1alpha1.Failure {
	if !p.failsWithoutHost() || !(p.next.Gate.Retreated || p.weightBelow(p.next.Weight) == 0) {
		return nil
	}
	return failure(v1alpha1.ReasonNoHealthyUpstream, "%d of %d %s to the service found no healthy host while %s was at %s",
		p.next.Gate.NoHost, p.total(), p.counted(), p.next.Candidate, p.place())
}

// retreated goes back to the last good weight while requests fail without a host: they belong to no version, so they convict
// nobody yet.
func (p *pass) retreated() bool {
	if !p.failsWithoutHost() {
		return false
	}
	from, noHost, total := p.place(), p.next.Gate.NoHost, p.total()
	if !p.goBackTo(p.weightBelow(p.next.Weight)) {
		stable := p.obs.version(p.next.Stable)
		p.say(v1alpha1.ReasonStableUnavailable, "%d of %d %s to the service found no healthy host, and %s cannot take any from %s: it has %d ready pods%s",
			noHost, total, p.counted(), stable.Name, p.next.Candidate, stable.Ready, because(stable))
		return true
	}
	p.next.Gate.Retreated = true
	p.say(v1alpha1.ReasonFailuresWithoutHost, "%d of %d %s to the service found no healthy host; %s goes back from %s to %s",
		noHost, total, p.counted(), p.next.Candidate, from, p.next.Weight)
	return true
}

// goBackTo lowers the candidate's weight as far as the stable version's ready pods can bear, and reports whether that is lower at all. The
// group beside it goes back in any case: a step that has one earns it again.
func (p *pass) goBackTo(to v1alpha1.Permille) bool {
	stable := p.obs.version(p.next.Stable)
	to = max(to, p.leastWeight(stable))
	if to >= p.next.Weight && (p.next.Group == "" || stable.Ready == 0) {
		return false
	}
	if p.next.Stage == v1alpha1.StageBaking {
		p.switched()
	}
	p.next.Weight, p.next.Group = min(to, p.next.Weight), ""
	p.next.Rung = int32(p.ladder.at(p.next)) + 1
	p.next.Order = nil // it was given for a candidate that nothing spoke against
	p.forgetAnswers()
	p.enter(v1alpha1.PhaseProgressing, v1alpha1.StageStepping)
	p.forgetRoute()
	return true
}

// relapses is how many retreats a candidate is allowed: one that comes under suspicion each time its weight is raised is bad at that weight.
const relapses = 2

func (p *pass) relapsed() *v1alpha1.Failure {
	if p.next.Gate.Retreats < relapses || p.next.Weight == 0 || p.spec.SkipAnalysis || p.ordered() {
		return nil
	}
	pace := p.pace()
	if p.next.Gate.Suspected || pace.Reason != analysis.ReasonSuspicious || !p.exceeds(p.next.Weight, p.ceiling(pace)) {
		return nil
	}
	return failure(v1alpha1.ReasonSuspicionOfHarm, "%s at %s came under suspicion again, after %d retreats: %s", p.next.Candidate, p.next.Weight, p.next.Gate.Retreats, pace.Why)
}

// exceeds reports whether a weight lies so far above a ceiling that going back is worth proving the route anew: with evidence, a ceiling
// moves a little at every scrape.
func (p *pass) exceeds(w, ceiling v1alpha1.Permille) bool {
	if p.auto() {
		return float64(w) >= leastLeap*float64(ceiling)
	}
	return w > ceiling
}

// suspected goes back to a small weight while the evidence is too much to go on and too little to convict, or while the stable version
// fails as well: both are reversible, and cost only time. From 100 it also shows whether stable would do any better.
func (p *pass) suspected() bool {
	if p.next.Weight == 0 || p.spec.SkipAnalysis || p.ordered() {
		return false
	}
	pace, from, place := p.pace(), p.next.Weight, p.place()
	if pace.Reason == analysis.ReasonStableFailing && p.stableAlone() {
		return false // users must not be sent back to a version that alone fails them
	}
	if !pace.Suspicious && pace.Reason == "" {
		p.next.Gate.Suspected = false
	}
	if !p.exceeds(from, p.ceiling(pace)) || !p.goBackTo(p.ceiling(pace)) {
		return false
	}
	if pace.Reason == analysis.ReasonSuspicious && !p.next.Gate.Suspected {
		p.next.Gate.Retreats++
		p.next.Gate.Suspected = true
	}
	p.say(pace.Reason, "%s goes back from %s to %s: %s", p.next.Candidate, place, p.next.Weight, pace.Why)
	return true
}

func (p *pass) failsWithoutHost() bool {
	g := p.next.Gate
	if p.stableDown() && p.next.Weight < v1alpha1.Whole {
		return false // stable's own share finds none
	}
	return HasUsers(p.next) && !p.spec.SkipAnalysis && !p.gatesSkipped() && analysis.NoHostAbove(g.NoHost, p.total(), g.NoHostBaseline)
}
