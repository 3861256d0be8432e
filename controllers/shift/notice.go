package shift

import (
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// notice starts the clocks of what was read back since the last pass. A clock starts when an effect is seen, never when it is
// ordered: a write that was lost in a crash is ordered again, and settles in full.
func (p *pass) notice() {
	p.contest()
	p.noticeSubset()
	p.noticeRoutes()
	p.next.Retiring = slices.DeleteFunc(p.next.Retiring, p.gone)
	for i := range p.next.Retiring {
		p.noticeKept(&p.next.Retiring[i])
		p.noticeExit(&p.next.Retiring[i])
	}
}

// noticeSubset notes when the subset was read back, and with it the version's own Service where it is to have one: both must reach the
// proxies before anything leads there.
func (p *pass) noticeSubset() {
	version := p.next.Candidate
	switch p.next.Stage {
	case v1alpha1.StagePinning:
		version = p.next.Stable
	case v1alpha1.StageExposing:
	default:
		return
	}
	if p.next.SubsetSince == nil && slices.Contains(p.obs.Subsets, version) && !p.obs.version(version).Unaddressed {
		p.next.SubsetSince = p.stamp()
	}
}

func (p *pass) noticeRoutes() {
	if p.next.RoutedSince != nil {
		return
	}
	asWritten := p.obs.carries(p.next.Stable, p.next.Candidate, p.next.Weight) && p.obs.shows(p.matched(), p.mirrored())
	seen := p.next.Phase == v1alpha1.PhaseRollingBack && asWritten
	switch p.next.Stage {
	case v1alpha1.StagePinning, v1alpha1.StageStepping, v1alpha1.StageBaking:
		seen = asWritten
	case v1alpha1.StageUnpinning:
		seen = p.obs.noTables() || p.obs.bare()
	case v1alpha1.StageRemoving:
		seen = p.obs.noTables() && !p.obs.Rule
	}
	if seen {
		p.next.RoutedSince = p.stamp()
		p.noticeArrival()
	}
}

// noticeArrival tells of a step up once it is seen to be in place: a write may be refused, or be lost in a crash and be made again.
func (p *pass) noticeArrival() {
	if from := p.next.RaisedFrom; from != nil {
		p.arrived, p.next.RaisedFrom = &Arrival{From: *from, Place: p.place()}, nil
	}
}

// retire puts a version on its way out.
func (p *pass) retire(version string, drained bool) {
	p.next.Retiring = append(p.next.Retiring, v1alpha1.Retiring{Version: version, Drained: drained})
	p.noticeExit(&p.next.Retiring[len(p.next.Retiring)-1])
}

// noticeExit follows a version along the one way out (rules R1 and R3 of the mesh): weight 0 everywhere, drained, out of the
// routes, a preview's host of its own among them, out of the subsets. Each clock starts when the one before has run and its effect was read back.
func (p *pass) noticeExit(r *v1alpha1.Retiring) {
	_, high, listed, _ := p.obs.weights(r.Version)
	reached := high > 0 || p.obs.reaches(r.Version)
	if reached { // read too early, or raised by hand: the way out starts over
		r.ZeroSince, r.UnroutedSince, r.UnsubsetSince = nil, nil, nil
	}
	if r.ZeroSince == nil && !reached {
		r.ZeroSince = p.stamp()
	}
	if r.UnroutedSince == nil && r.ZeroSince != nil && !listed && !p.obs.version(r.Version).Previewed {
		r.UnroutedSince = p.stamp()
	}
	if r.UnsubsetSince == nil && p.settled(r.UnroutedSince) && !slices.Contains(p.obs.Subsets, r.Version) {
		r.UnsubsetSince = p.stamp()
	}
}

// drained reports whether a retiring version may leave the routes.
func (p *pass) drained(r v1alpha1.Retiring) bool {
	if r.Drained {
		return r.ZeroSince != nil
	}
	return p.passed(r.ZeroSince, p.drain())
}

// gone reports whether a retiring version has left the mesh and its Deployment is at 0.
func (p *pass) gone(r v1alpha1.Retiring) bool {
	v := p.obs.version(r.Version)
	return p.settled(r.UnsubsetSince) && (!v.Exists || v.Replicas == 0)
}

func (p *pass) settled(since *metav1.MicroTime) bool {
	return p.passed(since, p.obs.Timing.Settle)
}

// truncate drops what a history entry need not show.
func truncate(t metav1.MicroTime) metav1.Time {
	return metav1.NewTime(t.Truncate(time.Second))
}
