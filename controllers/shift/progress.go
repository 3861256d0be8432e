package shift

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/metrics/analysis"
)

// isolationScrapes is for how many scrapes an exposed candidate must see no traffic before its first weight, and how many it takes to
// say that a service has none at all.
const isolationScrapes = 2

// progress looks at a candidate in the one order that is safe: abort, supersede, order, pause, hold, gates, advance. Abort comes before
// every wait, so that a candidate that is not ready, or not measured, can always be taken back.
func (p *pass) progress() {
	p.refind()
	p.noteStable()
	p.count()
	p.noteIsolation()
	p.noteChecks()
	p.approve()
	p.judge()
	checks := []func() bool{
		p.aborted,    // a gate failed, a person said so, pods crash, the deadline passed, something routes around us
		p.superseded, // the template became another version, or the stable one again
		p.commanded,  // a person sends it on
		p.paused,     // a person wants to look
		p.frozen,     // a freeze holds what is under way
		p.waiting,    // pods, subset, route, share, hold
		p.gated,      // the evidence is not there yet, or a person
	}
	if !slices.ContainsFunc(checks, func(check func() bool) bool { return check() }) {
		p.advance()
	}
	if !p.waitsForPods {
		p.stopWaiting() // whatever else it waits for does not count for the deadline
	}
	if p.spec.SkipAnalysis {
		p.message += "; ANALYSIS IS SKIPPED: no gate is asked (spec.skipAnalysis)"
	}
}

// superseded takes the candidate back because the template asks for another version. The next one starts when the traffic is
// back on the stable version: at no time do three versions share it.
func (p *pass) superseded() bool {
	switch target := p.target(); target {
	case p.next.Candidate:
		return false
	case p.next.Stable:
		p.fail(v1alpha1.ReasonCancelled, fmt.Sprintf("the template went back to %s", target), false)
	default:
		p.fail(v1alpha1.ReasonSuperseded, fmt.Sprintf("the template became another version before %s was promoted", p.next.Candidate), false)
	}
	p.rollBack()
	return true
}

// paused keeps the weights where they are. A candidate that has its pods still comes to the address of its own, without a user: to be looked
// at is what a pause is for.
func (p *pass) paused() bool {
	addressed := p.spec.Preview != nil && p.next.Stage == v1alpha1.StagePreparing && p.obs.version(p.next.Candidate).Available >= p.podsAhead()
	if !p.spec.Paused || addressed {
		return false
	}
	p.say(v1alpha1.ReasonPaused, "paused by its owner with %s at %s%s", p.next.Candidate, p.place(), p.resume())
	return true
}

// resume says what ends the pause of a Deployment that is paused itself; whoever has paused with a key of ours knows.
func (p *pass) resume() string {
	if t := p.obs.Template; t.Paused {
		return fmt.Sprintf("; the Deployment is paused: kubectl rollout resume deployment/%s goes on", t.Name)
	}
	return ""
}

// waiting is the ladder of what must be true before the gates are asked: most basic first.
func (p *pass) waiting() bool {
	if (p.next.Weight == 0 || p.unreadable()) && p.blocked() {
		return true
	}
	switch p.next.Stage {
	case v1alpha1.StagePreparing:
		return p.waitForPods(p.podsAhead())
	case v1alpha1.StageExposing:
		return p.waitForIsolation() || p.waitForLost()
	default:
		return p.waitForRoute() || p.waitForStable() || p.waitForShare() || p.waitForHold()
	}
}

// waitForPods waits until the candidate has enough of the pods that its next weight needs. Only this waiting counts for the deadline.
func (p *pass) waitForPods(want int32) bool {
	c := p.obs.version(p.next.Candidate)
	if p.present(c, want) {
		return false
	}
	p.waitsForPods = true
	if p.next.Pods.WaitingSince == nil {
		p.next.Pods.WaitingSince = p.stamp()
	}
	p.until = p.deadline()
	p.wakeAt(p.until)
	reason := v1alpha1.ReasonWaitingForPods
	if p.shown() {
		reason = v1alpha1.ReasonCandidateCapacity
	}
	p.say(reason, "waiting for the pods of %s: %s", c.Name, p.available(c, want))
	return true
}

// waitForIsolation waits until the candidate's subset has settled and two scrapes have seen no traffic on it: a candidate that
// users reach at weight 0 is reached by something that Sluice does not steer (aborted answers that). Once it was shown, what still comes
// is no news.
func (p *pass) waitForIsolation() bool {
	switch {
	case !p.passed(p.next.SubsetSince, p.obs.Timing.Settle):
		p.say(v1alpha1.ReasonSettling, "the subset of %s is settling in the mesh", p.next.Candidate)
	case p.spec.SkipAnalysis:
		return false
	case !p.obs.Evidence.Available:
		p.say(v1alpha1.ReasonNoEvidence, "%s; %s stays at 0%% until Prometheus can tell that nothing reaches it", p.obs.Evidence.Missing, p.next.Candidate)
	case p.next.WeightedAt != nil && !p.passed(p.next.StageSince, p.spec.Hold.Duration):
		p.say(v1alpha1.ReasonHolding, "the step that %s was on is gone from the ladder; it stays at 0%% for %s before it goes on", p.next.Candidate, p.spec.Hold.Duration)
	case p.next.WeightedAt != nil:
		return false
	case p.next.Gate.Samples < isolationScrapes:
		p.say(v1alpha1.ReasonProvingIsolation, "watching for %d scrapes that nothing reaches %s before its first weight; for 100%%: %s",
			isolationScrapes, p.next.Candidate, p.worded(analysis.Forecast(p.evidence(), p.limits())))
	default:
		return false
	}
	return true
}

// noteIsolation keeps what was seen of that for when the counts are gone, whoever sends the candidate on without waiting for it.
func (p *pass) noteIsolation() {
	if p.next.Stage == v1alpha1.StageExposing && p.next.WeightedAt == nil {
		g := p.next.Gate
		p.next.Isolated = g.Samples >= isolationScrapes && g.Candidate.Requests+g.Cross.Requests == 0
	}
}

func (p *pass) waitForRoute() bool {
	if p.passed(p.next.RoutedSince, p.obs.Timing.Settle) {
		return p.waitForLost()
	}
	if p.next.Exposure != "" {
		p.say(v1alpha1.ReasonRaising, "%s is coming to %s in the mesh", p.next.Candidate, p.place())
		return true
	}
	p.say(v1alpha1.ReasonRaising, "the weight of %s is becoming %s in the mesh", p.next.Candidate, p.place())
	return true
}

// waitForLost waits for routes that had the weight and have lost it: somebody has written them over, or taken one of several away. Nothing
// is raised on the evidence of the others.
func (p *pass) waitForLost() bool {
	lost := p.obs.without(p.next.Stable, p.next.Candidate, p.next.Weight)
	if len(lost) == 0 {
		return false
	}
	if !Exposed(p.next) {
		p.say(v1alpha1.ReasonRaising, "%s does not lead to %s alone any more; holding at 0%% until it does", strings.Join(lost, ", "), p.next.Stable)
		return true
	}
	p.say(v1alpha1.ReasonRaising, "%s does not say any more that %s is at %s; holding until it does", strings.Join(lost, ", "), p.next.Candidate, p.next.Weight)
	return true
}

// waitForStable keeps a candidate at its weight while the stable version has no ready pod: there is nothing to prove its share by, nor to
// compare it with. Whether it is the way out of an outage only a person knows, and is told how to take it.
func (p *pass) waitForStable() bool {
	if !p.stableDown() || p.next.Weight == 0 || p.next.Weight == v1alpha1.Whole || p.spec.SkipAnalysis {
		return false
	}
	stable := p.obs.version(p.next.Stable)
	p.say(v1alpha1.ReasonStableUnavailable, "%s has no ready pod%s, and the rest of the requests goes there; %s stays at %s, with nothing to compare it with: %s",
		stable.Name, because(stable), p.next.Candidate, p.place(), p.sendOn())
	return true
}

// sendOn says how a person sends a candidate on that is the fix.
func (p *pass) sendOn() string {
	return fmt.Sprintf("if it is the fix, %s=%s/all sends it to 100%%", v1alpha1.AnnotationPromote, p.next.Candidate)
}

// waitForShare waits until what Prometheus sees proves the route: the step's clock starts then, and not before.
func (p *pass) waitForShare() bool {
	switch {
	case p.next.VerifiedSince != nil:
		return false
	case p.spec.SkipAnalysis || Previewing(p.next):
		p.next.VerifiedSince = p.stamp()
		return false
	case !p.obs.Evidence.Available:
		p.say(v1alpha1.ReasonNoEvidence, "%s; holding at %s", p.obs.Evidence.Missing, p.place())
		return true
	case p.next.Weight == 0 || p.spec.Session != nil:
		return p.waitForOne()
	}
	return p.waitForWeight()
}

// waitForOne waits for a first request. How many match, are copied or come with a cookie follows from no weight.
func (p *pass) waitForOne() bool {
	s := p.next.Share
	switch {
	case s.Candidate > 0:
		p.next.VerifiedSince = p.stamp()
		return false
	case s.Samples < isolationScrapes && s.Total == 0:
		p.say(v1alpha1.ReasonVerifyingRoute, "waiting for the first request that reaches %s at %s", p.next.Candidate, p.place())
	case s.Total == 0:
		p.say(v1alpha1.ReasonNoTraffic, "no %s reach the service; holding at %s until there is traffic to judge by", p.counted(), p.place())
	default:
		p.say(v1alpha1.ReasonVerifyingRoute, "%s got none of %d %s at %s; the first proves the route", p.next.Candidate, s.Total, p.counted(), p.place())
	}
	return true
}

// waitForWeight waits until the share that is measured matches the weight; beside a group, until it reaches it.
func (p *pass) waitForWeight() bool {
	if p.next.Group != "" {
		return p.waitForLeast()
	}
	s, weight := &p.next.Share, float64(p.next.Weight)/float64(v1alpha1.Whole)
	ok, low, high := analysis.ShareMatches(s.Candidate, s.Total, weight)
	now, _, _ := analysis.ShareMatches(p.latest.Candidate, p.latest.Total, weight) // a proxy that was late spoils only the sample before
	switch {
	case ok || now:
		p.next.VerifiedSince = p.stamp()
		return false
	case s.Samples < isolationScrapes && s.Total == 0:
		p.say(v1alpha1.ReasonVerifyingRoute, "measuring the share that %s gets at %s", p.next.Candidate, p.next.Weight)
	case s.Total == 0:
		p.say(v1alpha1.ReasonNoTraffic, "no %s reach the service; holding at %s until there is traffic to judge by", p.counted(), p.next.Weight)
	default:
		p.say(v1alpha1.ReasonVerifyingRoute, "%s got %d of %d %s at a weight of %s; between %.1f%% and %.1f%% of them proves the route",
			p.next.Candidate, s.Candidate, s.Total, p.counted(), p.next.Weight, 100*low, 100*high)
	}
	return true
}

// waitForLeast waits until the candidate gets at least what its weight explains. How much more it gets from its group follows from no
// weight; less would mean that requests go around the routes.
func (p *pass) waitForLeast() bool {
	s, weight := &p.next.Share, float64(p.next.Weight)/float64(v1alpha1.Whole)
	ok, low := analysis.ShareReaches(s.Candidate, s.Total, weight)
	now, _ := analysis.ShareReaches(p.latest.Candidate, p.latest.Total, weight) // as above
	switch {
	case ok || now:
		p.next.VerifiedSince = p.stamp()
		return false
	case s.Total == 0 || s.Candidate == 0:
		return p.waitForOne()
	}
	p.say(v1alpha1.ReasonVerifyingRoute, "%s got %d of %d %s at %s; %.1f%% of them or more proves the route",
		p.next.Candidate, s.Candidate, s.Total, p.counted(), p.place(), 100*low)
	return true
}

func (p *pass) waitForHold() bool {
	hold, since, verb := p.standing().hold, p.next.VerifiedSince, v1alpha1.ReasonHolding
	switch {
	case p.next.Stage == v1alpha1.StageBaking:
		hold, verb = p.spec.Bake.Duration, v1alpha1.ReasonBaking
	case p.auto():
		since = p.next.RoutedSince // the pace is set by evidence, which counts from the first request on
	}
	if p.passed(since, hold) {
		return false
	}
	if since != nil {
		p.until = since.Add(hold)
	}
	p.say(verb, "%s holds %s for %s; %s", p.next.Candidate, p.place(), hold, p.outlook())
	return true
}

// gated asks the gates, and then the people. Missing evidence only holds, for as long as it is missing; a preview needs none.
func (p *pass) gated() bool {
	next, wait := p.nextRung()
	switch {
	case p.spec.SkipAnalysis:
		return false
	case !p.shown():
		return p.next.Stage == v1alpha1.StageExposing && (p.keptBack() || p.unapproved(next))
	case !p.obs.Evidence.Available && (!Previewing(p.next) || next.exposure == ""): // a preview needs no requests, and a weight needs somebody who counts
		p.say(v1alpha1.ReasonNoEvidence, "%s; holding at %s", p.obs.Evidence.Missing, p.place())
		return true
	}
	if v, objects := p.objection(next); objects {
		p.say(p.holdReason(v), "holding at %s: %s", p.place(), v.Message)
		if v.Reason == analysis.ReasonStableFailing && analysis.StableAlone(p.evidence(), p.limits()) {
			p.message += "; " + p.sendOn()
		}
		return true
	}
	if p.auto() && next.weight == p.next.Weight && p.next.Stage == v1alpha1.StageStepping {
		p.say(v1alpha1.ReasonHolding, "holding at %s: %s", p.next.Weight, wait)
		return true
	}
	return p.unapproved(next)
}

// keptBack holds a candidate that a gate at the start has not let go yet: nobody meets it.
func (p *pass) keptBack() bool {
	for _, v := range p.verdicts {
		if v.Outcome != analysis.Pass && !v.DryRun {
			p.say(p.holdReason(v), "holding at %s, before anybody meets %s: %s", p.place(), p.next.Candidate, v.Message)
			return true
		}
	}
	return false
}

// outlook is the evidence so far and, where proof is lacking, how much more it takes.
func (p *pass) outlook() string {
	text := p.evidenceSoFar()
	for _, v := range p.verdicts {
		if v.Unproven && v.Reason == analysis.ReasonInsufficientData {
			return text + "; " + v.Message
		}
	}
	return text
}

// objection is the first verdict that stands in the way of a rung. Everything must pass for 100; below, it is enough that nothing speaks
// against the candidate. On a ladder each rung also takes its least of requests.
func (p *pass) objection(next rung) (analysis.Verdict, bool) {
	for _, v := range p.verdicts {
		if v.Outcome != analysis.Pass && !v.DryRun && !p.lenient(v, next) {
			return v, true
		}
	}
	return analysis.Overall(nil), len(p.verdicts) == 0 && !Previewing(p.next)
}

// lenient reports whether a verdict that does not pass lets the candidate go on all the same. Nobody but whoever tests a preview comes
// there: their requests convict, and prove nothing.
func (p *pass) lenient(v analysis.Verdict, next rung) bool {
	switch {
	case Previewing(p.next) && p.gateNamed(v.Gate) == nil:
		return v.Reason != analysis.ReasonSuspicious
	case next.raises(v1alpha1.Whole):
		return false
	}
	return v.Unproven || p.auto() && p.paced(v, next.weight)
}

// paced reports whether the pace has taken a verdict into account: few requests, or a suspicion, allow little more weight.
func (p *pass) paced(v analysis.Verdict, next v1alpha1.Permille) bool {
	few := v.Reason == analysis.ReasonTooFewRequests
	return few || v.Reason == analysis.ReasonSuspicious && next > p.next.Weight
}

func (p *pass) holdReason(v analysis.Verdict) string {
	switch {
	case v.Reason == analysis.ReasonSuspicious || v.Reason == analysis.ReasonStableFailing || p.gateNamed(v.Gate) != nil:
		return v.Reason
	case p.next.Gate.Candidate.Requests == 0:
		return v1alpha1.ReasonNoTraffic
	case v.Gate == analysis.GateRequests:
		return v1alpha1.ReasonTooFewRequests
	}
	return v1alpha1.ReasonInconclusive
}

// advance takes the one step that everything before has earned.
func (p *pass) advance() {
	c := p.next.Candidate
	switch p.next.Stage {
	case v1alpha1.StagePreparing:
		p.next.SubsetSince = nil
		p.enter(v1alpha1.PhaseProgressing, v1alpha1.StageExposing)
		p.forgetRoute()
		p.say(v1alpha1.ReasonSettling, "%s is available; adding its subset", c)
	case v1alpha1.StageBaking:
		if !p.waitForRest() {
			p.promote()
		}
	default:
		if next, _ := p.nextRung(); !p.waitForPods(p.podsFor(next)) {
			p.climb(next)
		}
	}
}

// waitForRest waits until every pod of the candidate is ready, where fewer were enough for its weights: a promotion gives the stable version's
// pods up. It is not what the deadline counts: users are served, by pods that are watched, and the old version stands behind them.
func (p *pass) waitForRest() bool {
	c, old, whole := p.obs.version(p.next.Candidate), p.next.Stable, p.capacity(v1alpha1.Whole)
	if p.enough(whole) == whole || c.Ready >= whole {
		return false
	}
	p.say(v1alpha1.ReasonCandidateCapacity, "%s has passed its bake and keeps %s behind it until all of its pods are ready: %d of %d ready%s; %s=%s promotes it as it is",
		c.Name, old, c.Ready, whole, because(c), v1alpha1.AnnotationPromote, c.Name)
	return true
}

// climb takes the candidate to the next rung.
func (p *pass) climb(next rung) {
	if p.next.Weight == 0 && p.next.WeightedAt == nil {
		p.next.WeightedAt = p.stamp()
		p.next.Gate.NoHostBaseline = partsPerMillion(p.next.Gate.NoHost, p.total())
	}
	p.forgetAnswers()
	if next.exposure == "" {
		p.raise(next)
		return
	}
	p.next.Rung, p.next.Exposure, p.next.Shown = int32(p.ladder.next(p.next))+1, next.exposure, next.digest()
	p.enter(v1alpha1.PhaseProgressing, v1alpha1.StageStepping)
	p.forgetRoute()
	p.next.RaisedFrom = new(p.next.Weight)
	p.say(v1alpha1.ReasonRaising, "showing %s at %s", p.next.Candidate, p.place())
}

// raise sets the next weight, and the group beside it. The evidence of a weight does not count for another.
func (p *pass) raise(next rung) {
	from, w := p.next.Weight, next.weight
	p.next.Exposure, p.next.Group = "", next.group()
	p.next.Weight, p.next.Peak = w, max(p.next.Peak, w)
	p.next.Rung = int32(p.ladder.at(p.next)) + 1
	stage := v1alpha1.StageStepping
	if w == v1alpha1.Whole {
		stage = v1alpha1.StageBaking
		p.switchOver()
	}
	p.enter(v1alpha1.PhaseProgressing, stage)
	p.forgetRoute()
	p.next.RaisedFrom = new(from)
	p.say(v1alpha1.ReasonRaising, "raising %s to %s", p.next.Candidate, p.place())
}

// promote makes the candidate the stable version. Nothing moves in the mesh: it has all the traffic already, and the pods that
// were judged are the pods that stay.
func (p *pass) promote() {
	old := p.next.Stable
	why := p.evidenceSoFar()
	if p.spec.SkipAnalysis {
		why = "analysis was skipped (spec.skipAnalysis)"
	}
	if p.next.WithinRollbackWindow {
		why = "it was within the rollback window and took no steps; " + why
	}
	p.end(v1alpha1.ReasonPromoted, fmt.Sprintf("%s replaced %s: %s", p.next.Candidate, old, why))
	p.follow(old)
	p.clearCandidate()
	p.retire(old, false)
	p.next.Failure = nil
	p.enter(v1alpha1.PhaseStable, "")
	p.say(v1alpha1.ReasonPromoted, "%s was promoted and has all the traffic", p.next.Stable)
}
