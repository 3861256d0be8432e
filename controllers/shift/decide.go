package shift

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/metrics/analysis"
)

// Decide says what comes next. The spec has its defaults and is valid. The error is only ever a broken invariant: a user's
// mistake is a Problem, and waiting is a Decision.
func Decide(spec v1alpha1.TrafficShiftSpec, state v1alpha1.State, obs Observation) (Decision, error) {
	ruled, ladder, err := ruling(spec, state)
	if err != nil {
		return Decision{}, err
	}
	if err := checkState(state); err != nil {
		return Decision{}, err
	}
	p := &pass{spec: ruled, ladder: ladder, obs: obs, next: *state.DeepCopy()}
	p.spec.Paused = spec.Paused || obs.Template.Paused
	if p.suspended() {
		return p.suspend(), nil
	}
	p.recall()
	p.startOver()
	p.keepStrength()
	p.notice()
	p.control()
	if err := p.dispatch(); err != nil {
		return Decision{}, err
	}
	p.noteSessions()
	d := Decision{
		Next: p.next, Desired: p.desired(), Current: current(p.next, obs.Template), Reason: p.reason, Message: p.message, Until: p.until,
		Verdicts: p.verdicts, Ended: p.ended, Arrived: p.arrived, Actions: p.actions, RequeueAfter: p.requeueAfter(),
	}
	if err := checkState(d.Next); err != nil {
		return Decision{}, err
	}
	return d, checkDesired(d, state, obs)
}

// current reports whether nothing is left to do of what the template asks for.
func current(s v1alpha1.State, t Template) bool {
	return s.Phase == v1alpha1.PhaseStable && s.Undo == nil && (!t.Exists || t.Version == s.Stable)
}

// pass is one run of Decide: the inputs, and the decision as it forms.
type pass struct {
	spec   v1alpha1.TrafficShiftSpec // as it rules the candidate
	ladder ladder
	obs    Observation

	next            v1alpha1.State
	reason, message string
	until           time.Time           // when what the message waits for is over
	memory          analysis.Memory     // what next.gate.memory says
	latest          v1alpha1.ShareState // the share that the latest sample shows
	verdicts        []analysis.Verdict
	ended           *v1alpha1.Outcome
	arrived         *Arrival
	actions         []v1alpha1.ActionRecord
	abort           asked  // the abort that was just asked for, and let through
	approval        string // the candidate whose gates were just answered
	waitsForPods    bool
	wake            time.Time
}

// dispatch is the one place where a phase decides who acts.
func (p *pass) dispatch() error {
	if p.letGo() {
		return nil
	}
	switch p.next.Phase {
	case "":
		p.enter(v1alpha1.PhaseAdopting, v1alpha1.StageRecording)
		p.adopt()
	case v1alpha1.PhaseAdopting:
		p.adopt()
	case v1alpha1.PhaseStable, v1alpha1.PhaseFailed:
		p.rest()
	case v1alpha1.PhaseProgressing:
		p.progress()
	case v1alpha1.PhaseRollingBack:
		p.rollBack()
	case v1alpha1.PhaseDetaching:
		p.detach()
	default:
		return fmt.Errorf("phase %q is not one of the state machine's", p.next.Phase)
	}
	return nil
}

// startOver forgets a Deployment that is gone: one that was created again under its name has no versions and no routes, and is taken
// over like any other. Numbers are never reused.
func (p *pass) startOver() {
	t := p.obs.Template
	if !t.Exists || t.UID == p.next.TemplateUID {
		return
	}
	if p.next.TemplateUID != "" {
		p.next = v1alpha1.State{LastVersion: p.next.LastVersion}
	}
	p.next.TemplateUID = t.UID
}

// letGo starts handing the service back when that is asked for, and takes it over again when it is not asked for any more.
func (p *pass) letGo() bool {
	if !p.obs.Intents.Detach {
		p.takeBack()
		return false
	}
	p.endKeeping()
	if p.lost() && p.next.Phase != v1alpha1.PhaseDetaching {
		p.recoverStable()
		return true
	}
	switch p.next.Phase {
	case v1alpha1.PhaseDetaching, v1alpha1.PhaseRollingBack:
		return false
	case v1alpha1.PhaseProgressing:
		p.fail(v1alpha1.ReasonDetaching, fmt.Sprintf("%s is taken back because the service is being handed back", p.next.Candidate), false)
		p.rollBack()
	default:
		p.enter(v1alpha1.PhaseDetaching, v1alpha1.StageReturning)
		p.detach()
	}
	return true
}

// takeBack undoes a handing back that nobody asks for any more: at once while the routes still hold, and otherwise by taking the
// service over anew when it is all handed back.
func (p *pass) takeBack() {
	if p.next.Phase != v1alpha1.PhaseDetaching {
		return
	}
	switch {
	case p.next.Stage == v1alpha1.StageReleased:
		p.next = v1alpha1.State{LastVersion: p.next.LastVersion, TemplateUID: p.next.TemplateUID}
	case p.next.Stage == v1alpha1.StageReturning && p.next.Stable != "" && p.obs.Template.Held:
		p.enter(v1alpha1.PhaseStable, "")
	case p.next.Stage == v1alpha1.StageReturning && p.next.Stable != "" && p.pinned():
		// The mark was lost: the routes are proven to hold before the Deployment's own pods are scaled down again.
		p.next.SubsetSince, p.next.RoutedSince = nil, nil
		p.enter(v1alpha1.PhaseAdopting, v1alpha1.StagePinning)
		p.noticeSubset() // what stands is seen now, as it is when a pass begins
		p.noticeRoutes()
	}
}

// enter moves to a phase and stage; the clocks of the stage before do not count for it.
func (p *pass) enter(phase v1alpha1.Phase, stage v1alpha1.Stage) {
	p.next.Phase, p.next.Stage = phase, stage
	p.next.StageSince = p.stamp()
}

// say gives the reason for being here.
func (p *pass) say(reason, format string, args ...any) {
	p.reason, p.message = reason, fmt.Sprintf(format, args...)
}

// stamp is the present time as the status keeps it.
func (p *pass) stamp() *metav1.MicroTime {
	t := metav1.NewMicroTime(p.obs.Now)
	return &t
}

// passed reports whether d has gone by since a clock was set, and asks to be woken when it has. A clock that is not set has not.
func (p *pass) passed(since *metav1.MicroTime, d time.Duration) bool {
	if since == nil {
		return false
	}
	due := since.Add(d)
	if !p.obs.Now.Before(due) {
		return true
	}
	p.wakeAt(due)
	return false
}

func (p *pass) wakeAt(t time.Time) {
	if p.wake.IsZero() || t.Before(p.wake) {
		p.wake = t
	}
}

// requeueAfter is the wait until the next clock is due. Whatever moves is also looked at every scrape: evidence comes no faster,
// and an event that a watch missed costs no more than that.
func (p *pass) requeueAfter() time.Duration {
	resting := p.next.Phase == v1alpha1.PhaseStable || p.next.Phase == v1alpha1.PhaseFailed || p.next.Stage == v1alpha1.StageReleased
	if !resting || p.leaving() {
		p.wakeAt(p.obs.Now.Add(max(p.obs.Timing.Scrape, 500*time.Millisecond)))
	}
	if p.wake.IsZero() {
		return 0
	}
	return max(p.wake.Sub(p.obs.Now), 10*time.Millisecond)
}
