package shift

import (
	"fmt"
	"slices"
	"time"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// keepTime is how long the pods of a refused version stay for people to look at.
func (p *pass) keepTime() time.Duration {
	if d := p.spec.KeepRejected; d != nil {
		return d.Duration
	}
	return 0
}

// keepPods has the pods of a version that was just refused stay for a while. It leaves the routes as every version does, and halts there, with
// its subset and the address that goes with it. What something reaches past the routes would be kept for users as well, so that is not; nor is
// what something may reach, once it can answer.
func (p *pass) keepPods(version, reason string, isolated bool) {
	answers := p.obs.version(version).Ready > 0 && !isolated
	if p.keepTime() == 0 || reason == v1alpha1.ReasonRouteBypassed || answers || p.obs.Intents.Detach {
		return
	}
	for i := range p.next.Retiring {
		if r := &p.next.Retiring[i]; r.Version == version {
			r.KeptSince, r.KeptUnready = p.stamp(), !isolated
		}
	}
}

// endKeeping lets whatever is kept go on its way out.
func (p *pass) endKeeping() {
	for i := range p.next.Retiring {
		p.next.Retiring[i].KeptSince = nil
	}
}

// noticeKept ends the keeping when its time is over, where nothing is left to look at, since whoever is done scales the version to 0, and
// where a pod becomes ready that nobody has watched before.
func (p *pass) noticeKept(r *v1alpha1.Retiring) {
	v := p.obs.version(r.Version)
	if p.passed(r.KeptSince, p.keepTime()) || v.Replicas == 0 || r.KeptUnready && v.Ready > 0 {
		r.KeptSince = nil
	}
}

// Kept reports whether a version on its way out is out of every route, and its pods stay for people to look at.
func Kept(r v1alpha1.Retiring) bool { return r.KeptSince != nil && r.UnroutedSince != nil }

// leaving reports whether a version is on its way out of the mesh. One that is kept has left it, as far as any user is concerned.
func (p *pass) leaving() bool {
	return slices.ContainsFunc(p.next.Retiring, func(r v1alpha1.Retiring) bool { return !Kept(r) || !p.settled(r.UnroutedSince) })
}

// looked says what is kept, and until when.
func (p *pass) looked() string {
	for _, r := range p.next.Retiring {
		if r.KeptSince != nil {
			return fmt.Sprintf("; the pods of %s are kept to be looked at until %s", r.Version, r.KeptSince.Add(p.keepTime()).UTC().Format(time.RFC3339))
		}
	}
	return ""
}
