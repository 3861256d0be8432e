package shift

import (
	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/metrics/analysis"
)

// fail starts the way back. The caller goes on with rollBack in the same pass: the first lowering is not a pass late.
func (p *pass) fail(reason, message string, reject bool) {
	p.stopWaiting()
	p.next.Failure = &v1alpha1.Failure{Reason: reason, Message: message, Reject: reject}
	p.next.RoutedSince, p.next.VerifiedSince, p.next.RaisedFrom = nil, nil, nil
	p.enter(v1alpha1.PhaseRollingBack, "")
}

// rollBack takes the traffic back as far as the stable version's ready pods can bear, at once, and the rest as they arrive. It is
// over when every VirtualService was read back without weight for the candidate; what is left of the candidate then goes the
// one way out that every version goes.
func (p *pass) rollBack() {
	c, f := p.next.Candidate, p.next.Failure
	stable := p.obs.version(p.next.Stable)
	_, high, _, _ := p.obs.weights(c)
	least := min(p.next.Weight, high, p.leastWeight(stable)) // never more than it has: a raise that was not written yet is off
	p.conceal()
	if least < p.next.Weight {
		p.next.Weight, p.next.RoutedSince = least, nil
	}
	switch {
	case p.shown() && stable.Ready == 0:
		p.say(v1alpha1.ReasonStableUnavailable, "%s; %s cannot take the traffic back: it has no ready pod%s", f.Message, stable.Name, because(stable))
	case p.shown() || high > 0 || p.obs.reaches(c):
		p.say(f.Reason, "%s; going back to %s", f.Message, stable.Name)
	default:
		p.rolledBack()
	}
}

// conceal takes away what shows the candidate without a weight, or beside it, at once. Only a group of users waits until the stable version
// has a pod that could answer it, while the candidate has one.
func (p *pass) conceal() {
	nobodyElse := p.stableDown() && p.obs.version(p.next.Candidate).Ready > 0
	if p.matched() != "" && p.obs.reaches(p.next.Candidate) && nobodyElse {
		return
	}
	if p.next.Group != "" {
		p.next.Group, p.next.RoutedSince = "", nil
	}
	p.next.Exposure = ""
}

const (
	// headroom is how much of the traffic each ready stable pod can bear for a while, in thousandths of its even share: half as much
	// again, which is what is lost when a third of the pods is.
	headroom = 1500
	// slight is a weight whose loss stable bears whatever its state: it carries four times as much already.
	slight v1alpha1.Permille = 200
)

// leastWeight is what the candidate must keep for now because the stable version's ready pods could not bear it: nothing where enough
// of them are ready, or where it is slight beside what they carry anyway; everything where none is, because a version without a ready
// pod gets no traffic. Nothing either where the candidate has none: at once if another version waits for it to go, which may be the fix, and
// else once stable has one, because whoever has pods again first is to answer.
func (p *pass) leastWeight(stable Version) v1alpha1.Permille {
	want := int64(p.strength())
	switch {
	case want == 0:
		return 0
	case stable.Ready == 0 && p.obs.version(p.next.Candidate).Ready == 0 && p.target() != p.next.Candidate:
		return 0
	case stable.Ready == 0:
		return v1alpha1.Whole
	case p.obs.version(p.next.Candidate).Ready == 0 || !p.subsetted(p.next.Candidate):
		return 0 // its share fails as it is
	case p.next.Weight <= slight && p.next.Group == "" && !p.obs.reaches(p.next.Candidate):
		return 0 // beside a group, whose size nobody knows, stable need not carry the rest: that comes back first
	}
	return max(0, v1alpha1.Whole-v1alpha1.Permille(headroom*int64(stable.Ready)/want))
}

// rolledBack ends the release.
func (p *pass) rolledBack() {
	c, f, isolated := p.next.Candidate, *p.next.Failure, p.next.Isolated
	p.end(f.Reason, f.Message)
	p.clearCandidate()
	// Traffic that still comes at weight 0 does not come through our routes: waiting for it to drain would only serve it longer.
	p.retire(c, f.Reason == v1alpha1.ReasonRouteBypassed)
	if !f.Reject {
		p.enter(v1alpha1.PhaseStable, "")
		p.say(f.Reason, "%s; %s has all the traffic", f.Message, p.next.Stable)
		p.wakeAt(p.obs.Now)
		return
	}
	p.keepPods(c, f.Reason, isolated)
	p.next.Rejected, p.next.RejectedGeneration = c, max(p.next.RejectedGeneration, p.obs.Template.Generation)
	p.enter(v1alpha1.PhaseFailed, "")
	p.sayRejected()
}

// end records what became of the candidate.
func (p *pass) end(reason, message string) {
	ended := *p.stamp()
	by := ""
	if p.gatesSkipped() {
		by = p.next.Order.By
	}
	o := v1alpha1.Outcome{Version: p.next.Candidate, Reason: reason, Message: message, Weight: p.next.Peak.String(), SkippedGatesBy: by,
		WithinRollbackWindow: p.next.WithinRollbackWindow}
	if s := p.next.StartedAt; s != nil {
		started := truncate(*s)
		o.StartedAt = &started
	}
	at := truncate(ended)
	o.EndedAt = &at
	p.ended = &o
}

// clearCandidate forgets everything that belonged to the candidate alone.
func (p *pass) clearCandidate() {
	p.next.Candidate, p.next.Weight, p.next.Peak, p.next.WithinRollbackWindow = "", 0, 0, false
	p.next.Isolated = false
	p.next.StartedAt, p.next.WeightedAt, p.next.SubsetSince = nil, nil, nil
	p.next.Rung, p.next.Exposure, p.next.Shown, p.next.Group, p.next.Sessions.Given = 0, "", "", "", nil
	p.next.Checks, p.next.Approved, p.next.Awaiting, p.next.AwaitingSince, p.memory = nil, nil, nil, nil, analysis.Memory{}
	p.next.Order = nil
	p.next.Pods = v1alpha1.PodsState{}
	p.next.Gate = v1alpha1.GateState{}
	p.next.RoutedSince, p.next.VerifiedSince, p.next.Share = nil, nil, v1alpha1.ShareState{}
}
