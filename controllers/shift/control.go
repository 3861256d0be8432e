package shift

import (
	"fmt"
	"slices"
	"time"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// Request is what a person asks for, as it stands on the TrafficShift. Whether it means anything is decided here.
type Request struct {
	Action v1alpha1.Action
	// Source is where it stands; an annotation is taken away once it is answered, a field stays where it is.
	Source v1alpha1.Source
	Value  string
	// By is who wrote it.
	By string
}

// answer is what became of a request.
type answer struct {
	result  v1alpha1.Result
	message string
}

func done(format string, args ...any) answer {
	return answer{v1alpha1.ResultDone, fmt.Sprintf(format, args...)}
}

func refused(format string, args ...any) answer {
	return answer{v1alpha1.ResultRefused, fmt.Sprintf(format, args...)}
}

// asked is a request as it was read, and who made it.
type asked struct {
	v1alpha1.Asked
	by string
}

// control answers what is asked, each request once for as long as it stands there: a field cannot be taken away, and a process may die
// between answering an annotation and taking it away. Before that it follows what was asked earlier.
func (p *pass) control() {
	p.followUndo()
	p.followRestart()
	p.answer()
}

// answer answers what stands there and was not answered yet.
func (p *pass) answer() {
	var stand []v1alpha1.Answered
	for _, r := range p.obs.Requests {
		a := v1alpha1.Answered{Action: r.Action, Source: r.Source, Value: r.Value}
		if !slices.Contains(p.next.Answered, a) {
			p.record(p.reply(r))
		}
		stand = append(stand, a)
	}
	p.resumed(stand)
	p.next.Answered = stand
}

// resumed tells of each field that has paused the shift and does so no more: there is nothing left of it that could ask.
func (p *pass) resumed(stand []v1alpha1.Answered) {
	for _, a := range p.next.Answered {
		if a.Action != v1alpha1.ActionPause || a.Source == v1alpha1.SourceAnnotation || slices.Contains(stand, a) {
			continue
		}
		r := Request{Action: v1alpha1.ActionResume, Source: a.Source, By: p.obs.ResumedBy[a.Source]}
		p.record(r, v1alpha1.Asked{}, p.askResume(a.Source))
	}
}

// record keeps a request and its answer for status and events.
func (p *pass) record(r Request, about v1alpha1.Asked, a answer) {
	p.actions = append(p.actions, v1alpha1.ActionRecord{
		Action: r.Action, Value: r.Value, Version: about.Version, By: r.By, At: truncate(*p.stamp()), Result: a.result, Message: a.message,
	})
}

// reply reads a request and answers it.
func (p *pass) reply(r Request) (Request, v1alpha1.Asked, answer) {
	if r.Action == v1alpha1.ActionPause || r.Action == v1alpha1.ActionResume {
		return r, v1alpha1.Asked{}, p.pauseOrResume(r)
	}
	about, err := v1alpha1.ParseRequest(r.Action, r.Value)
	if err != nil {
		return r, v1alpha1.Asked{}, refused("%v", err)
	}
	if p.suspended() {
		return r, about, refused("it is suspended, and nothing is done for it, not even this: unset spec.suspend (or the Deployment's annotation %s, where that sets it) and ask again",
			v1alpha1.AnnotationSuspend)
	}
	if r.Action == v1alpha1.ActionUndo && about.Version == v1alpha1.Previous {
		about.Version = p.previous()
	}
	a := asked{about, r.By}
	switch r.Action {
	case v1alpha1.ActionAbort:
		return r, about, p.askAbort(a)
	case v1alpha1.ActionRetry:
		return r, about, p.askRetry(a)
	case v1alpha1.ActionApprove:
		return r, about, p.askApprove(a)
	case v1alpha1.ActionPromote:
		return r, about, p.askPromote(a)
	case v1alpha1.ActionUndo:
		return r, about, p.askUndo(a)
	case v1alpha1.ActionRestart:
		return r, about, p.askRestart(a)
	}
	return r, about, refused("%q is no action", r.Action)
}

// elsewhere refuses what makes no sense while the service is being taken over or handed back.
func (p *pass) elsewhere() (answer, bool) {
	switch p.next.Phase {
	case "", v1alpha1.PhaseAdopting:
		return refused("the service is being taken over from its Deployment: there is no release yet"), true
	case v1alpha1.PhaseDetaching:
		return refused("the service is being handed back to its Deployment"), true
	}
	return answer{}, false
}

// notCandidate refuses what is asked of a candidate where the version is none.
func (p *pass) notCandidate(version string) (answer, bool) {
	if a, no := p.elsewhere(); no {
		return a, true
	}
	switch {
	case p.next.Phase == v1alpha1.PhaseRollingBack && version == p.next.Candidate:
		return refused("%s is on its way back already: %s", version, p.next.Failure.Message), true
	case version == p.next.Candidate:
		return answer{}, false
	case version == p.next.Stable:
		return refused("%s is the stable version, and has been promoted", version), true
	case version == p.next.Rejected:
		return refused("%s was refused; %s tries it again", version, v1alpha1.AnnotationRetry), true
	case p.next.Candidate != "":
		return refused("%s is not the candidate: %s is", version, p.next.Candidate), true
	}
	return refused("%s is not a candidate: there is none", version), true
}

func (p *pass) pauseOrResume(r Request) answer {
	if r.Source == v1alpha1.SourceAnnotation && r.Value != "true" && r.Value != "false" {
		return refused("%q is not accepted: write \"true\" or \"false\"", r.Value)
	}
	if r.Action == v1alpha1.ActionPause {
		return p.askPause()
	}
	return p.askResume(r.Source)
}

// askPause says what a pause does where the shift stands: that it is paused is in the spec. What was ordered before and has not been carried
// out is off.
func (p *pass) askPause() answer {
	if p.suspended() {
		if p.next.Weight < v1alpha1.Whole {
			p.next.Order = nil
		}
		return done("it is suspended, and nothing moves; when that ends it stays where it is")
	}
	switch p.next.Phase {
	case "", v1alpha1.PhaseAdopting:
		return done("the service is taken over all the same, since its traffic does not change; the release after that waits to start")
	case v1alpha1.PhaseDetaching:
		if p.obs.Template.Paused && p.next.Stage == v1alpha1.StageReturning {
			return done("the service is handed back when the Deployment is not paused any more")
		}
		return refused("the service is being handed back to its Deployment, and a pause does not stop that; take %s away to keep the service", v1alpha1.AnnotationDetach)
	case v1alpha1.PhaseRollingBack:
		return done("%s goes back to 0%% all the same; after that nothing starts", p.next.Candidate)
	case v1alpha1.PhaseProgressing:
		if o := p.next.Order; o != nil && p.next.Weight < v1alpha1.Whole {
			p.next.Order = nil
			return done("%s stays at %s, and what %s had ordered is off; it is still taken back if it is bad", p.next.Candidate, p.place(), o.By)
		}
		return done("%s stays at %s; it is still taken back if it is bad", p.next.Candidate, p.place())
	}
	return done("a new template waits to start")
}

func (p *pass) askResume(by v1alpha1.Source) answer {
	switch {
	case p.obs.Template.Paused:
		return refused("it stays paused%s", p.resume())
	case by == v1alpha1.SourceDeployment && p.spec.Paused:
		return refused("it stays paused; the TrafficShift is paused: %s: \"false\" on it goes on", v1alpha1.AnnotationPaused)
	}
	if !slices.ContainsFunc(p.next.Answered, func(a v1alpha1.Answered) bool { return a.Action == v1alpha1.ActionPause }) {
		return done("it was not paused")
	}
	if p.suspended() {
		return done("it is not paused any more; it is suspended, and nothing moves until spec.suspend is unset")
	}
	if p.next.Phase == v1alpha1.PhaseProgressing {
		return done("%s goes on from %s", p.next.Candidate, p.place())
	}
	return done("a new template may start")
}

func (p *pass) askAbort(a asked) answer {
	if no, is := p.notCandidate(a.Version); is {
		return no
	}
	p.abort = a
	return done("%s is taken back from %s, and refused", a.Version, p.place())
}

// askRetry forgets that a version was refused: rest then finds a template that it has to release.
func (p *pass) askRetry(a asked) answer {
	if no, is := p.elsewhere(); is {
		return no
	}
	switch {
	case p.next.Phase == v1alpha1.PhaseRollingBack:
		return refused("%s is still on its way back: ask again when it is there", p.next.Candidate)
	case a.Version == p.next.Candidate:
		return refused("%s is being tried", a.Version)
	case a.Version != p.next.Rejected:
		return refused("%s was not refused last", a.Version)
	case a.Version != p.obs.Template.Version:
		return refused("the Deployment's template is not that of %s any more: write that template again", a.Version)
	}
	p.next.Rejected = ""
	p.endKeeping()
	p.enter(v1alpha1.PhaseStable, "")
	return done("%s is tried again", a.Version)
}

// askApprove answers the gates that wait. One that comes before they do answers nothing.
func (p *pass) askApprove(a asked) answer {
	if no, is := p.notCandidate(a.Version); is {
		return no
	}
	if len(p.next.Awaiting) == 0 {
		return refused("no gate waits for a person: approve %s when one does", a.Version)
	}
	p.approval = a.Version
	return done("gate %s is answered", p.next.Awaiting[0])
}

// askPromote takes the order; commanded carries it out.
func (p *pass) askPromote(a asked) answer {
	if no, is := p.notCandidate(a.Version); is {
		return no
	}
	baking := p.next.Stage == v1alpha1.StageBaking
	switch {
	case a.From != nil && *a.From != p.next.Weight:
		return refused("%s stands at %s, and not at %s", a.Version, p.place(), *a.From)
	case p.next.Stage == v1alpha1.StagePreparing && a.Extent == v1alpha1.ExtentStep:
		return refused("%s waits for its pods alone, and nothing goes on without those", a.Version)
	case baking && a.Extent == v1alpha1.ExtentAll:
		return refused("%s has all the traffic already; %s=%s ends its bake", a.Version, v1alpha1.AnnotationPromote, a.Version)
	}
	p.next.Order = &v1alpha1.Order{To: a.Extent, By: a.by}
	switch {
	case a.Extent == v1alpha1.ExtentSkipGates && baking:
		return done("no gate takes %s back any more: it bakes for the rest of its time, and only its pods or a person can end that", a.Version)
	case a.Extent == v1alpha1.ExtentSkipGates:
		return done("%s goes from %s to 100%% whatever the gates say, as soon as it has the pods", a.Version, p.place())
	case a.Extent == v1alpha1.ExtentAll:
		return done("%s goes from %s to 100%% as soon as it has the pods; a gate that fails still takes it back", a.Version, p.place())
	case baking:
		return done("the bake of %s is over", a.Version)
	}
	return done("%s goes on from %s to %s as soon as it has the pods", a.Version, p.place(), p.orderedRung())
}

// commanded carries out what a person has ordered, past pauses, holds and proof, and never past pods, a subset or a route that is not
// there yet. What takes a candidate back was asked before.
func (p *pass) commanded() bool {
	o := p.next.Order
	if o == nil || o.To == v1alpha1.ExtentSkipGates && p.next.Stage == v1alpha1.StageBaking && p.spec.Paused {
		return false
	}
	if (p.next.Weight == 0 || p.unreadable()) && p.blocked() {
		return true
	}
	switch p.next.Stage {
	case v1alpha1.StagePreparing:
		if !p.waitForPods(p.podsAhead()) {
			p.advance()
		}
	case v1alpha1.StageBaking:
		p.endBake(o)
	default:
		p.obey(o)
	}
	return true
}

// obey raises the weight as far as was ordered.
func (p *pass) obey(o *v1alpha1.Order) {
	if p.shown() && p.waitForRoute() {
		return
	}
	if !p.passed(p.next.SubsetSince, p.obs.Timing.Settle) {
		p.say(v1alpha1.ReasonSettling, "the subset of %s is settling in the mesh; %s sends it on", p.next.Candidate, o.By)
		return
	}
	next := p.orderedRung()
	if p.waitForPods(p.podsFor(next)) {
		return
	}
	p.climb(next)
	p.say(v1alpha1.ReasonRaising, "%s sends %s on to %s", o.By, p.next.Candidate, next)
	if o.To != v1alpha1.ExtentSkipGates {
		p.next.Order = nil
	}
}

// endBake promotes a candidate that has all the traffic: at once where that was ordered, and without its gates after the time that
// the owner wants the old version kept warm.
func (p *pass) endBake(o *v1alpha1.Order) {
	if p.waitForRoute() {
		return
	}
	bake := p.spec.Bake.Duration
	if o.To == v1alpha1.ExtentSkipGates && !p.passed(p.next.RoutedSince, bake) {
		if since := p.next.RoutedSince; since != nil {
			p.until = since.Add(bake)
		}
		p.say(v1alpha1.ReasonBaking, "%s holds 100%% for %s, with its gates skipped by %s; %s", p.next.Candidate, bake, o.By, p.evidenceSoFar())
		return
	}
	p.promote()
}

// ordered reports whether a candidate is sent on whatever its evidence allows; unless its gates are skipped, one that fails still counts.
func (p *pass) ordered() bool { return p.next.Order != nil }

// gatesSkipped reports whether nothing that was measured takes the candidate back.
func (p *pass) gatesSkipped() bool {
	return p.next.Order != nil && p.next.Order.To == v1alpha1.ExtentSkipGates
}

// orderedRung is where the candidate is ordered to: to 100, or to the next rung, which without a ladder is as far as a release goes in one
// leap at most.
func (p *pass) orderedRung() rung {
	switch {
	case p.next.Order != nil && p.next.Order.To != v1alpha1.ExtentStep:
		return rung{weight: v1alpha1.Whole}
	case p.auto():
		return rung{weight: p.ahead()}
	}
	return p.ladder.above(p.next)
}

// previous is the version that users were on before: in the middle of a release, and after one that was refused, the stable one.
func (p *pass) previous() string {
	if p.next.Candidate != "" || p.obs.Template.Version != p.next.Stable {
		return p.next.Stable
	}
	if v := p.next.Previous; v != "" {
		return v
	}
	for _, v := range slices.Backward(p.obs.Versions) { // the status was lost: the newest of those that were stable before
		if v.Recorded && v.Proven && Number(v.Name) < Number(p.next.Stable) {
			return v.Name
		}
	}
	return ""
}

// askUndo has the template of a version written into the Deployment again. It is then released like any other, or cancels what is
// being released.
func (p *pass) askUndo(a asked) answer {
	v := p.obs.version(a.Version)
	returning := p.next.Phase == v1alpha1.PhaseDetaching && p.next.Stage == v1alpha1.StageReturning && a.Version == p.next.Stable
	if no, is := p.elsewhere(); is && !returning {
		return no
	}
	switch {
	case a.Version == "":
		return refused("no version was promoted before %s", p.next.Stable)
	case !p.obs.Template.Exists || returning && !p.pinned():
		return refused("there is no Deployment that Sluice holds as a template")
	case a.Version == p.obs.Template.Version:
		return refused("the Deployment's template is that of %s already", a.Version)
	case !v.Recorded:
		return refused("%s is not known: its template is not recorded, or not any more", a.Version)
	case a.Version != p.next.Stable && v.Verdict != "" && !v.Proven:
		return refused("%s was refused when it was tried last (%s): to release it again, change the Deployment's template", a.Version, v.Verdict)
	case a.Version != p.next.Stable && !v.Proven:
		return refused("%s was never promoted: there is nothing to go back to", a.Version)
	}
	p.next.Undo = &v1alpha1.UndoState{Version: a.Version, Generation: p.obs.Template.Generation, By: a.by}
	const git = "; git puts its own template back, so change it there as well"
	switch {
	case returning:
		return done("the template of %s is written into the Deployment again: the service can be handed back"+git, a.Version)
	case a.Version == p.next.Stable && p.next.Phase == v1alpha1.PhaseProgressing:
		return done("the template of %s is written into the Deployment again: %s is cancelled and goes back to 0%%"+git, a.Version, p.next.Candidate)
	case a.Version == p.next.Stable:
		return done("the template of %s is written into the Deployment again: nothing is released"+git, a.Version)
	}
	return done("the template of %s is written into the Deployment again: its release is gated like any other"+git, a.Version)
}

// followUndo looks for the template that was asked back. It is written once: where somebody else has changed the Deployment since, theirs
// is the newer wish, and Sluice does not fight over it.
func (p *pass) followUndo() {
	u := p.next.Undo
	if u == nil {
		return
	}
	switch {
	case p.obs.Template.Version == u.Version:
		p.next.Undo = nil
		if u.Version == p.next.Stable {
			p.next.RejectedGeneration = byUndo // until another template was seen, nobody has gone back but this undo
		}
	case !p.obs.Template.Exists || p.obs.Template.Generation != u.Generation || !p.obs.version(u.Version).Recorded:
		p.next.Undo = nil
		p.record(Request{Action: v1alpha1.ActionUndo, Value: u.Version, By: u.By}, v1alpha1.Asked{Version: u.Version},
			refused("the Deployment was changed by somebody else before the template of %s was seen in it", u.Version))
	}
}

// askRestart has the stable version's pods replaced. In the middle of a release that would change what the candidate is compared with.
func (p *pass) askRestart(a asked) answer {
	if no, is := p.elsewhere(); is {
		return no
	}
	switch {
	case p.next.Candidate != "":
		return refused("%s is being released beside %s: restart when that is over", p.next.Candidate, p.next.Stable)
	case a.Version != p.next.Stable:
		return refused("%s is not the stable version: %s is", a.Version, p.next.Stable)
	case p.strength() == 0:
		return refused("%s has no pods to restart", a.Version)
	}
	p.next.Restart = &v1alpha1.RestartState{Version: a.Version, At: p.obs.Now.UTC().Format(time.RFC3339Nano)}
	return done("the pods of %s are replaced, each before the next goes", a.Version)
}

// followRestart forgets a restart that is seen on its Deployment: it stands there from then on.
func (p *pass) followRestart() {
	if r := p.next.Restart; r != nil && (p.obs.version(r.Version).RestartedAt == r.At || r.Version != p.next.Stable) {
		p.next.Restart = nil
	}
}
