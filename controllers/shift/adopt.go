package shift

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// adopt takes the service over from its Deployment without losing a request: the first version comes up beside the Deployment's
// own pods, subset and routes pin the traffic to it, and only then is the Deployment scaled to 0 and held as a template.
func (p *pass) adopt() {
	switch p.next.Stage {
	case v1alpha1.StageStarting:
		p.startFirst()
	case v1alpha1.StagePinning:
		p.pin()
	case v1alpha1.StageHolding:
		p.holdTemplate()
	default:
		p.recordFirst()
	}
}

// recordFirst waits until the Deployment stands still and nothing is in the way, then gives its template the first number.
func (p *pass) recordFirst() {
	t := p.obs.Template
	switch {
	case p.lost():
		p.recoverStable()
	case p.blocked():
	case !t.Settled:
		p.say(v1alpha1.ReasonWaitingForRollout, "waiting for the Deployment's own rollout to end before taking the service over%s", p.resume())
	case len(p.next.Retiring) > 0:
		p.say(v1alpha1.ReasonAdopting, "waiting for %s to be removed before recording the Deployment's new template", p.next.Retiring[0].Version)
	default:
		p.next.Stable = p.nameTemplate()
		p.enter(v1alpha1.PhaseAdopting, v1alpha1.StageStarting)
		p.say(v1alpha1.ReasonAdopting, "starting %s from the Deployment's template, beside the Deployment's own pods", p.next.Stable)
	}
}

// lost reports whether the status was lost: the Deployment is held already, or routes lead to versions, and no state says by whom it is served.
func (p *pass) lost() bool { return p.next.Stable == "" && p.served() }

// served reports whether versions have the traffic, as far as the world tells. The mark alone is not asked: whoever replaces the
// Deployment's annotations takes it away.
func (p *pass) served() bool {
	return p.obs.Template.Held || slices.ContainsFunc(p.obs.Tables, func(t Table) bool { return len(t.Routes) > 0 })
}

// recoverStable finds its place again where the status was lost. Of the versions that the routes name, users are on one that was the
// stable version once; of several, on the one with the most weight, then the newest. One that was never stable is taken only where
// no other is routed at all. What else has weight was not earned any more: it is taken back. Where nothing can be told, nothing is touched.
func (p *pass) recoverStable() {
	if p.next.Phase == "" { // until it is told, nothing of the mesh is this one's to write
		p.enter(v1alpha1.PhaseAdopting, v1alpha1.StageRecording)
	}
	if unread := p.obs.unread(); len(unread) > 0 {
		p.say(v1alpha1.ReasonStableUnavailable, "the status was lost, and %s cannot be read: which version users are on is not told before that, and nothing is touched",
			strings.Join(unread, ", "))
		return
	}
	found, weight := Version{}, v1alpha1.Permille(0)
	for _, v := range p.obs.Versions {
		p.next.LastVersion = max(p.next.LastVersion, Number(v.Name))
		_, high, listed, _ := p.obs.weights(v.Name)
		better := v.Proven && !found.Proven || v.Proven == found.Proven && high >= weight
		if v.Recorded && listed && (found.Name == "" || better) {
			found, weight = v, high
		}
	}
	if found.Name == "" {
		p.say(v1alpha1.ReasonStableUnavailable,
			"the Deployment is held as a template, but no route tells which version users are on; scale it up and remove its annotation %s to start over", v1alpha1.AnnotationHeld)
		return
	}
	p.next.Stable = found.Name
	p.enter(v1alpha1.PhaseAdopting, v1alpha1.StageStarting)
	p.say(v1alpha1.ReasonAdopting, "the status was lost; the routes show that users are on %s", found.Name)
	p.takeBackOthers()
}

// takeBackOthers puts every other version that runs on its way out; one that has weight goes the way of a candidate.
func (p *pass) takeBackOthers() {
	for _, v := range p.obs.Versions {
		_, high, _, _ := p.obs.weights(v.Name)
		switch {
		case v.Name == p.next.Stable || !v.Exists || v.Replicas == 0:
		case (high > 0 || p.obs.reaches(v.Name)) && p.next.Candidate == "":
			p.next.Candidate, p.next.Weight, p.next.Peak = v.Name, high, high
			p.fail(v1alpha1.ReasonCancelled, fmt.Sprintf("the status was lost while %s was on its way, at %s", v.Name, high), false)
		default:
			p.retire(v.Name, false)
		}
	}
	if p.next.Phase == v1alpha1.PhaseRollingBack {
		p.rollBack()
	}
}

// startFirst waits for the first version's pods. A template that moves meanwhile is still the Deployment's own affair: the first
// version starts over from it.
func (p *pass) startFirst() {
	stable := p.obs.version(p.next.Stable)
	if stable.Recorded && p.obs.Template.Version != stable.Name && !p.served() {
		p.retire(stable.Name, true)
		p.next.Stable = ""
		p.enter(v1alpha1.PhaseAdopting, v1alpha1.StageRecording)
		p.say(v1alpha1.ReasonWaitingForRollout, "the template changed before %s was pinned; starting over from it", stable.Name)
		return
	}
	want := p.strength()
	if p.blocked() {
		return
	}
	if !stable.Recorded || stable.Available < want {
		p.say(v1alpha1.ReasonWaitingForPods, "waiting for the pods of %s: %d of %d available%s", stable.Name, stable.Available, want, because(stable))
		return
	}
	p.enter(v1alpha1.PhaseAdopting, v1alpha1.StagePinning)
	p.say(v1alpha1.ReasonSettling, "%s is available; pinning the traffic to it", stable.Name)
}

// pin writes the subset, lets it settle, then the routes, and lets those settle (rule R1 of the mesh, and R5: the pin stands
// before any second version exists).
func (p *pass) pin() {
	stable := p.next.Stable
	switch {
	case p.next.RoutedSince == nil && p.blocked():
	case !p.passed(p.next.SubsetSince, p.obs.Timing.Settle):
		p.say(v1alpha1.ReasonSettling, "the subset of %s is settling in the mesh", stable)
	case !p.passed(p.next.RoutedSince, p.obs.Timing.Settle):
		p.say(v1alpha1.ReasonSettling, "the routes that pin the traffic to %s are settling in the mesh", stable)
	default:
		p.next.ContestedGeneration = p.obs.Template.Generation // what it runs now is its own affair still
		p.enter(v1alpha1.PhaseAdopting, v1alpha1.StageHolding)
		p.say(v1alpha1.ReasonScalingDown, "the traffic is pinned to %s; scaling the Deployment to 0 and holding it as the template", stable)
	}
}

// holdTemplate waits until the Deployment is scaled down and marked. Where something keeps scaling it up, it does not wait for ever: the
// traffic is pinned, so the service is taken over all the same, and says what is fought over.
func (p *pass) holdTemplate() {
	if Contested(p.next) {
		p.enter(v1alpha1.PhaseStable, "")
		p.rest()
		return
	}
	if !p.obs.Template.Held || p.obs.Template.Replicas != 0 {
		p.say(v1alpha1.ReasonScalingDown, "the traffic is pinned to %s; scaling the Deployment to 0 and holding it as the template", p.next.Stable)
		return
	}
	p.enter(v1alpha1.PhaseStable, "")
	p.rest()
}

// blocked reports whether preflight found something in the way, and says what.
func (p *pass) blocked() bool {
	if len(p.obs.Problems) == 0 {
		return false
	}
	p.say(p.obs.Problems[0].Reason, "%s", p.obs.Problems[0].Message)
	return true
}

// unreadable reports whether the spec is not one that can be followed: a weight is not raised on its defaults, nor in routes of others who do
// not let it be any more.
func (p *pass) unreadable() bool {
	return slices.ContainsFunc(p.obs.Problems, func(problem Problem) bool {
		return problem.Reason == v1alpha1.ReasonInvalidSpec || problem.Reason == v1alpha1.ReasonVirtualServiceNotAllowed
	})
}

// nameTemplate returns the version that the live template is: the recorded one that it equals, or the next free name.
func (p *pass) nameTemplate() string {
	name := p.obs.Template.Version
	if name == "" {
		name = p.obs.NextVersion
	}
	p.next.LastVersion = max(p.next.LastVersion, Number(name))
	return name
}

// because explains pods that cannot start.
func because(v Version) string {
	if v.Waiting == "" {
		return ""
	}
	return " (" + v.Waiting + ")"
}
