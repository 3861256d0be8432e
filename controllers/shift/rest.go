package shift

import (
	"strings"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// contestLimit is how often a held template is scaled back to 0 within one version before Sluice stops fighting whatever scales
// it up, and says so.
const contestLimit = 3

// rest is the life at rest: one version has all the traffic, and the only question is whether the template has become another.
func (p *pass) rest() {
	target, since := p.target(), p.leaveQueue()
	switch {
	case target == p.next.Stable:
		p.forgive()
		p.next.Phase = v1alpha1.PhaseStable
		p.sayStable()
	case p.isRejected(target):
		if p.next.RejectedGeneration == byUndo { // written again after an undo: whoever goes back from here does it himself
			p.next.RejectedGeneration = p.obs.Template.Generation
		}
		p.next.Phase = v1alpha1.PhaseFailed
		p.sayRejected()
	case p.next.Undo != nil:
		p.say(v1alpha1.ReasonUndoing, "writing the template of %s into the Deployment again", target)
	case p.blocked():
	case p.isRetiring(target):
		p.endKeeping()
		p.say(v1alpha1.ReasonScalingDown, "%s is still on its way out; it starts again when it is gone", target)
	case p.spec.Paused:
		p.say(v1alpha1.ReasonPaused, "the template has changed, and the shift is paused: %s waits to start%s", target, p.resume())
	case p.queued(since, target):
	default:
		p.start()
	}
}

// target names the version that the template asks for.
func (p *pass) target() string {
	if !p.obs.Template.Exists {
		return p.next.Stable
	}
	if u := p.next.Undo; u != nil {
		return u.Version
	}
	if v := p.obs.Template.Version; v != "" {
		return v
	}
	if c := p.next.Candidate; c != "" && !p.obs.version(c).Recorded {
		return c // named and persisted by a pass that died before it could record the template
	}
	return p.obs.NextVersion
}

// isRejected reports whether the template is one that was refused: who asks to try it again has that forgotten.
func (p *pass) isRejected(target string) bool {
	return target == p.next.Rejected
}

// byUndo stands for a generation that no write has: the stable version's template is there because an undo put it there.
const byUndo int64 = 1<<63 - 1

// forgive forgets a refusal once somebody has gone back to the stable version's template: the same one written again is asked for anew. A
// template that an undo is still to set back, or that has come from one, is nobody's wish: what manages the Deployment would have the
// refused one tried again by itself.
func (p *pass) forgive() {
	t := p.obs.Template
	if p.next.Undo == nil && t.Version == p.next.Stable && t.Generation >= p.next.RejectedGeneration {
		p.next.Rejected, p.next.RejectedGeneration = "", 0
	}
}

func (p *pass) start() {
	rollsBack, name := RollsBack(p.spec, p.next, p.obs), p.nameTemplate()
	p.next.WithinRollbackWindow = rollsBack
	p.endKeeping()
	p.next.Candidate, p.next.Rejected, p.next.RejectedGeneration, p.next.Failure = name, "", 0, nil
	p.next.Weight, p.next.Peak, p.next.Rung, p.next.Exposure, p.next.Group, p.next.Contested = 0, 0, 0, "", "", 0
	p.next.StartedAt = p.stamp()
	p.keepStrength() // what is asked for now counts, whatever is asked for by the next pass
	p.next.Pods = v1alpha1.PodsState{}
	p.forgetRoute()
	p.next.SubsetSince = nil
	p.enter(v1alpha1.PhaseProgressing, v1alpha1.StagePreparing)
	if !rollsBack {
		p.say(v1alpha1.ReasonWaitingForPods, "%s: starting %s beside %s", p.cause(), name, p.next.Stable)
		return
	}
	p.say(v1alpha1.ReasonWithinRollbackWindow, "%s: starting %s beside %s, to 100%% as soon as it has its pods: users were on it within the last %d versions (spec.rollbackWindow)",
		p.cause(), name, p.next.Stable, p.spec.RollbackWindow.Revisions)
	p.spec, p.ladder = spared(p.spec, p.ladder)
}

// cause is what has become new.
func (p *pass) cause() string {
	if changed := p.obs.Template.Changed; len(changed) > 0 {
		return "new contents of " + strings.Join(changed, ", ")
	}
	return "new template"
}

// contest counts how often somebody else scales the held template up. The same write seen twice counts once, and one of ours, made
// to hand the service back, not at all.
func (p *pass) contest() {
	t := p.obs.Template
	if !(t.Held || p.heldOnce()) || t.Replicas == 0 || t.Generation == p.next.ContestedGeneration {
		return
	}
	p.next.ContestedGeneration = t.Generation
	if p.next.Phase != v1alpha1.PhaseDetaching && !Contested(p.next) {
		p.next.Contested++
	}
}

// heldOnce reports whether Sluice has taken the template over, whatever mark it bears now: who replaces the whole object drops that too.
func (p *pass) heldOnce() bool {
	switch p.next.Phase {
	case v1alpha1.PhaseStable, v1alpha1.PhaseFailed, v1alpha1.PhaseProgressing, v1alpha1.PhaseRollingBack:
		return true
	}
	return p.next.Stage == v1alpha1.StageHolding
}

// Contested reports whether Sluice has stopped fighting over the template's replicas.
func Contested(s v1alpha1.State) bool { return s.Contested > contestLimit }

func (p *pass) sayStable() {
	stable := p.obs.version(p.next.Stable)
	switch {
	case Contested(p.next):
		p.say(v1alpha1.ReasonReplicasContested,
			"something keeps scaling the Deployment up although Sluice holds it as a template; scale the TrafficShift instead: those pods get no traffic")
	case p.stableDown():
		p.say(v1alpha1.ReasonStableUnavailable, "%s has all the traffic and no ready pod%s", stable.Name, because(stable))
	default:
		p.say(v1alpha1.ReasonStable, "%s has all the traffic%s", p.next.Stable, p.looked())
	}
}

func (p *pass) sayRejected() {
	why := ""
	if f := p.next.Failure; f != nil {
		why = ": " + f.Message
	}
	p.say(v1alpha1.ReasonRejected, "%s was refused%s; %s has all the traffic until the template changes or someone retries%s", p.next.Rejected, why, p.next.Stable, p.looked())
}

func (p *pass) isRetiring(version string) bool { return p.retiring(version) != nil }

// retiring is a version's way out; nil where it is on none.
func (p *pass) retiring(version string) *v1alpha1.Retiring {
	for i := range p.next.Retiring {
		if r := &p.next.Retiring[i]; r.Version == version {
			return r
		}
	}
	return nil
}
