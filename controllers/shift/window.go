package shift

import (
	"slices"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// ruling is the spec that rules a release, and its ladder. One within the rollback window has but one step, to 100; what is asked before
// and after that, by gates and by people, is as the owner wrote it. It is decided when the candidate starts; the owner may take the window
// away, and the steps are there again.
func ruling(spec v1alpha1.TrafficShiftSpec, s v1alpha1.State) (v1alpha1.TrafficShiftSpec, ladder, error) {
	l, err := ladderOf(spec)
	if err != nil || !s.WithinRollbackWindow || spec.RollbackWindow == nil {
		return spec, l, err
	}
	spec, l = spared(spec, l)
	return spec, l, nil
}

func spared(spec v1alpha1.TrafficShiftSpec, l ladder) (v1alpha1.TrafficShiftSpec, ladder) {
	last := rung{weight: v1alpha1.Whole}
	if n := len(l); n > 0 {
		last.gates, last.replicas, last.pause = l[n-1].gates, l[n-1].replicas, l[n-1].pause
	}
	if decides(spec) {
		last.pause = &v1alpha1.Pause{} // of a test that is not made, the decision is left
	}
	spec.Pacing = v1alpha1.PacingLadder
	spec.Steps = spec.Steps[max(0, len(spec.Steps)-1):] // a gate that only others name is asked wherever there is one
	return spec, ladder{last}
}

// RollsBack reports whether the template is that of a version which the rollback window lets go to 100 without steps.
func RollsBack(spec v1alpha1.TrafficShiftSpec, s v1alpha1.State, obs Observation) bool {
	version := obs.version(obs.Template.Version)
	if spec.RollbackWindow == nil || !version.Recorded || !version.Proven || version.Name == s.Rejected {
		return false
	}
	i := slices.Index(s.Former, version.Name)
	return i >= 0 && i < int(spec.RollbackWindow.Revisions)
}

// follow makes the candidate the stable version, and keeps which ones there are to go back to. Whoever goes back to one of them does so from
// the old one and all that came since: the way to those leads forward.
func (p *pass) follow(old string) {
	former := p.next.Former
	i := slices.Index(former, p.next.Candidate)
	switch {
	case i >= 0:
		former = former[i+1:]
	case len(former) == 0 && Number(p.next.Candidate) < Number(old): // a status that was lost, or is of an earlier release: back, for all that is known
	default:
		former = slices.Insert(former, 0, old)
	}
	p.next.Stable, p.next.Previous, p.next.Former = p.next.Candidate, old, former[:min(len(former), v1alpha1.MostRevisions)]
}
