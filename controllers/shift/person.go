package shift

import (
	"fmt"
	"slices"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// approve takes a person's answer to the gates and the pause that hold the candidate. One that comes before they do answers nothing.
func (p *pass) approve() {
	if p.approval == p.next.Candidate {
		p.next.Approved = append(p.next.Approved, p.next.Awaiting...)
		p.next.Awaiting = nil
	}
}

// unapproved holds a candidate where a person is to be asked before the next rung.
func (p *pass) unapproved(next rung) bool {
	waiting := p.gatesUnapproved(next)
	name, pause := p.pausing()
	if pause != nil {
		waiting = append(waiting, name)
	}
	p.next.Awaiting = waiting
	if len(waiting) == 0 {
		return false
	}
	what := "gate " + waiting[0]
	if waiting[0] == name {
		what = fmt.Sprintf("the pause of step %d%s", p.ladder.at(p.next)+1, until(pause))
		if pause.Timeout != nil && p.next.AwaitingSince != nil {
			p.until = p.next.AwaitingSince.Add(pause.Timeout.Duration)
		}
	}
	p.say(v1alpha1.ReasonWaitingForApproval, "%s: %s waits at %s for a person; approve it with the annotation %s=%s on its TrafficShift, or end it with %s=%s",
		what, p.next.Candidate, p.place(), v1alpha1.AnnotationApprove, p.next.Candidate, v1alpha1.AnnotationAbort, p.next.Candidate)
	return true
}

// gatesUnapproved are the manual gates that nobody has answered. One that steps name is asked at the end of those, and any other before
// its weight.
func (p *pass) gatesUnapproved(next rung) []string {
	var waiting []string
	for _, g := range p.spec.Gates {
		if g.Manual == nil || slices.Contains(p.next.Approved, g.Name) || !p.asked(g.Name) {
			continue
		}
		before, err := g.Manual.Before.Permille() // validated with the spec
		early := p.next.Stage == v1alpha1.StageBaking || err == nil && !next.raises(before)
		if !p.named(g.Name) && early {
			continue
		}
		waiting = append(waiting, g.Name)
	}
	return waiting
}

// pausing is the pause that ends the present step, and the name by which it awaits a person; nil where there is none, where somebody has
// answered it, or where it is over.
func (p *pass) pausing() (name string, pause *v1alpha1.Pause) {
	name, pause = p.pause()
	if pause == nil || slices.Contains(p.next.Approved, name) {
		return name, nil
	}
	if p.next.AwaitingSince == nil {
		p.next.AwaitingSince = p.stamp()
	}
	if t := pause.Timeout; t != nil && p.passed(p.next.AwaitingSince, t.Duration) && pause.OnTimeout != v1alpha1.OnTimeoutAbort {
		return name, nil
	}
	return name, pause
}

// pause is that of the rung that the candidate stands on.
func (p *pass) pause() (name string, pause *v1alpha1.Pause) {
	if i := p.ladder.at(p.next); i >= 0 {
		return fmt.Sprintf("step-%d", i+1), p.ladder[i].pause
	}
	return "", nil
}

// until says what becomes of a pause that nobody answers.
func until(pause *v1alpha1.Pause) string {
	switch {
	case pause.Timeout == nil:
		return ""
	case pause.OnTimeout == v1alpha1.OnTimeoutAbort:
		return fmt.Sprintf(" (it is taken back after %s)", pause.Timeout.Duration)
	}
	return fmt.Sprintf(" (it goes on after %s)", pause.Timeout.Duration)
}

// pauseTimedOut takes a candidate back that nobody came for, where its owner wants that.
func (p *pass) pauseTimedOut() *v1alpha1.Failure {
	name, pause := p.pause()
	if pause == nil || pause.Timeout == nil || pause.OnTimeout != v1alpha1.OnTimeoutAbort || p.spec.Paused || p.ordered() ||
		slices.Contains(p.next.Approved, name) || !p.passed(p.next.AwaitingSince, pause.Timeout.Duration) {
		return nil
	}
	return failure(v1alpha1.ReasonPauseTimedOut, "nobody approved %s at %s within %s", p.next.Candidate, p.place(), pause.Timeout.Duration)
}

// forgetAnswers drops what a person has said of the rung that the candidate leaves. An answer to a gate of the whole way stands.
func (p *pass) forgetAnswers() {
	p.next.Awaiting, p.next.AwaitingSince = nil, nil
	p.next.Approved = slices.DeleteFunc(p.next.Approved, func(name string) bool { return p.gateNamed(name) == nil || p.named(name) })
}
