package shift

import (
	"strings"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// detach hands the service back to its Deployment without losing a request: the Deployment's own pods come up first, then the
// routes let go of the subsets, then routes and subsets go, and the versions last.
func (p *pass) detach() {
	if !p.obs.Template.Exists && p.next.Stage != v1alpha1.StageReleased {
		p.enter(v1alpha1.PhaseDetaching, v1alpha1.StageReleased)
	}
	switch p.next.Stage {
	case v1alpha1.StageUnpinning:
		p.unpin()
	case v1alpha1.StageRemoving:
		p.unroute()
	case v1alpha1.StageReleasing:
		p.release()
	case v1alpha1.StageReleased:
		p.say(v1alpha1.ReasonDetached, "the service is the Deployment's own again")
	default:
		p.giveBack()
	}
}

// giveBack starts the Deployment's own pods, if they are those of the version that users are on. While routes of ours stand, nobody
// is on those pods: whatever became of the mark (kubectl rollout undo takes every annotation away, kubectl replace may), they must be
// there before the routes let go.
func (p *pass) giveBack() {
	t := p.obs.Template
	want := t.Replicas
	if p.pinned() {
		want = p.strength()
	}
	switch {
	case p.pinned() && !p.returnable():
		p.say(v1alpha1.ReasonTemplateNotStable,
			"the Deployment's template is not that of %s, which users are on: handing back would release it ungated; put the template back, or set the annotation %s: \"true\" on the TrafficShift",
			p.next.Stable, v1alpha1.AnnotationForce)
	case p.pinned() && t.Paused:
		p.say(v1alpha1.ReasonPaused, "while it is paused the Deployment starts pods of the template that it had before: handing back waits%s", p.resume())
	case !p.pinned():
		p.enter(v1alpha1.PhaseDetaching, v1alpha1.StageUnpinning)
		p.next.RoutedSince = nil
		p.say(v1alpha1.ReasonDetaching, "no route of Sluice's carries the service yet: there is nothing to hand back")
	case t.Replicas < want || t.Available < want:
		p.say(v1alpha1.ReasonDetaching, "starting the Deployment's own pods: %d of %d available", t.Available, want)
	default:
		p.enter(v1alpha1.PhaseDetaching, v1alpha1.StageUnpinning)
		p.next.RoutedSince = nil
		p.say(v1alpha1.ReasonDetaching, "the Deployment's own pods are available; letting the routes go")
	}
}

// pinned reports whether the traffic may be on versions alone: the Deployment is held, or routes of ours stand.
func (p *pass) pinned() bool { return p.obs.Template.Held || p.obs.Rule || !p.obs.noTables() }

// returnable reports whether the template may run ungated: it is the stable version, or somebody takes the risk.
func (p *pass) returnable() bool {
	return p.obs.Intents.Force || p.next.Stable != "" && p.obs.Template.Version == p.next.Stable
}

func (p *pass) unpin() {
	if unread := p.obs.unread(); p.next.RoutedSince == nil && len(unread) > 0 {
		p.say(v1alpha1.ReasonDetaching, "letting the routes go; %s cannot be read, and may name a subset still", strings.Join(unread, ", "))
		return
	}
	if !p.settled(p.next.RoutedSince) {
		p.say(v1alpha1.ReasonDetaching, "the routes name the service without subsets; settling in the mesh")
		return
	}
	p.enter(v1alpha1.PhaseDetaching, v1alpha1.StageRemoving)
	p.next.RoutedSince = nil
	p.say(v1alpha1.ReasonDetaching, "removing routes and subsets")
}

func (p *pass) unroute() {
	if !p.passed(p.next.RoutedSince, p.obs.Timing.Settle+p.drain()) {
		p.say(v1alpha1.ReasonDetaching, "routes and subsets are being removed; settling in the mesh and draining")
		return
	}
	p.enter(v1alpha1.PhaseDetaching, v1alpha1.StageReleasing)
	p.say(v1alpha1.ReasonDetaching, "removing the versions")
}

func (p *pass) release() {
	if p.obs.Template.Held || len(p.obs.Versions) > 0 {
		p.say(v1alpha1.ReasonDetaching, "removing the versions")
		return
	}
	p.next = v1alpha1.State{Phase: p.next.Phase, Stage: p.next.Stage, LastVersion: p.next.LastVersion, TemplateUID: p.next.TemplateUID}
	p.enter(v1alpha1.PhaseDetaching, v1alpha1.StageReleased)
	p.say(v1alpha1.ReasonDetached, "the service is the Deployment's own again")
}
