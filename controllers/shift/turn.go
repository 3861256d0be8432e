package shift

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Turn is what the shift's ShiftPolicy says of this moment. None has nothing against anything.
type Turn struct {
	// Start is why no candidate may start now, Hold why one that is under way keeps its weight; nil where there is no reason.
	Start, Hold *Wait
}

// Wait is why something has to wait, and until when as far as that is known.
type Wait struct {
	Problem
	Until time.Time
}

// turnCheck is how soon a shift that waits for its turn is looked at, whatever wakes it before.
const turnCheck = 15 * time.Second

// leaveQueue forgets since when the shift has waited to start, and returns it: whatever else keeps it from starting, others need not
// wait for it.
func (p *pass) leaveQueue() *metav1.MicroTime {
	since := p.next.WaitingSince
	p.next.WaitingSince = nil
	return since
}

// queued keeps a new template waiting for its turn, or for the end of a freeze, at the place that it has in the queue already.
func (p *pass) queued(since *metav1.MicroTime, target string) bool {
	wait := p.obs.Turn.Start
	if wait == nil {
		return false
	}
	p.next.WaitingSince = since
	if since == nil {
		p.next.WaitingSince = p.stamp()
	}
	if wait.Until.IsZero() {
		p.wakeAt(p.obs.Now.Add(turnCheck))
	} else {
		p.until = wait.Until
		p.wakeAt(wait.Until)
	}
	p.say(wait.Reason, "the template has changed, and %s waits to start: %s", target, wait.Message)
	return true
}

// frozen keeps the weight of a candidate that is under way. One that must be taken back was taken back before.
func (p *pass) frozen() bool {
	wait := p.obs.Turn.Hold
	if wait == nil {
		return false
	}
	if !wait.Until.IsZero() {
		p.until = wait.Until
		p.wakeAt(wait.Until)
	}
	p.say(wait.Reason, "%s is held at %s: %s", p.next.Candidate, Share(p.next), wait.Message)
	return true
}
