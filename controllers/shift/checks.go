package shift

import (
	"fmt"
	"math"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/metrics/analysis"
)

// noteChecks counts the readings of the owner's own gates that were out of bounds one after the other. A reading counts once, and
// only one from the time on that the gate is asked.
func (p *pass) noteChecks() {
	p.next.Checks = slices.DeleteFunc(p.next.Checks, func(c v1alpha1.CheckState) bool { return !p.asked(c.Name) })
	for _, c := range p.obs.Checks {
		s := p.checkState(c.Gate)
		if s == nil || !p.sinceWeight(c) || s.ReadAt != nil && c.ReadAt.Before(s.ReadAt.Add(p.spacing(c.Gate))) {
			continue
		}
		at := metav1.NewMicroTime(c.ReadAt)
		s.ReadAt = &at
		switch c.Outcome {
		case analysis.Fail:
			s.Failures++
		case analysis.Pass:
			s.Failures = 0
		}
	}
}

// sinceWeight reports whether a reading speaks of the candidate: an answer since it was first shown, or a value whose window began then.
// For a gate of certain steps that is the step, and for one at the start the time since its pods were ready.
func (p *pass) sinceWeight(c Check) bool {
	since := p.next.WeightedAt
	if p.named(c.Gate) || p.starting() {
		since = p.next.StageSince
	}
	if since == nil || c.ReadAt.IsZero() {
		return false
	}
	begins := since.Time
	if g := p.gateNamed(c.Gate); g != nil && g.Query != nil && g.Query.Window != nil {
		begins = begins.Add(g.Query.Window.Duration)
	}
	return !c.ReadAt.Before(begins)
}

// spacing is the least time between two readings that count. A value comes anew with each scrape, however often it is looked at.
func (p *pass) spacing(gate string) time.Duration {
	if g := p.gateNamed(gate); g != nil && g.Query != nil {
		return p.obs.Timing.Scrape
	}
	return time.Nanosecond
}

// checkState is the state of a gate that is asked outside, which it begins where there is none; nil for any other.
func (p *pass) checkState(name string) *v1alpha1.CheckState {
	if g := p.gateNamed(name); g == nil || g.Manual != nil || !p.asked(name) {
		return nil
	}
	i := slices.IndexFunc(p.next.Checks, func(c v1alpha1.CheckState) bool { return c.Name == name })
	if i < 0 {
		p.next.Checks = append(p.next.Checks, v1alpha1.CheckState{Name: name})
		i = len(p.next.Checks) - 1
	}
	return &p.next.Checks[i]
}

// named reports whether a gate belongs to certain steps.
func (p *pass) named(gate string) bool {
	return slices.ContainsFunc(p.spec.Steps, func(s v1alpha1.Step) bool { return slices.Contains(s.Gates, gate) })
}

// asked reports whether there is such a gate, and it is asked where the candidate stands: one at the start before anybody meets it, any other
// that is no person's once it is shown, and one that steps name on those alone.
func (p *pass) asked(gate string) bool {
	g := p.gateNamed(gate)
	switch {
	case g == nil:
		return false
	case g.At == v1alpha1.GateAtStart:
		return p.starting()
	case g.Manual == nil && !p.shown():
		return false
	}
	return !p.named(gate) || slices.Contains(p.standing().gates, gate)
}

// starting reports whether the candidate has its pods, and nobody has met it yet: a candidate that was shown, and is no more, starts no
// second time.
func (p *pass) starting() bool {
	return p.next.Phase == v1alpha1.PhaseProgressing && p.next.Stage == v1alpha1.StageExposing && p.next.WeightedAt == nil
}

// Asked are the gates that are asked in a state. Before the candidate is shown they are those of its next step, so that their answers are
// there in time.
func Asked(spec v1alpha1.TrafficShiftSpec, s v1alpha1.State) []v1alpha1.Gate {
	spec, l, err := ruling(spec, s)
	judged := s.Phase == v1alpha1.PhaseProgressing && s.Candidate != "" && (Exposed(s) || s.Stage == v1alpha1.StageExposing)
	if err != nil || !judged || spec.SkipAnalysis {
		return nil
	}
	p := &pass{spec: spec, ladder: l, next: s}
	stands := p.standing()
	if !p.shown() && !p.auto() {
		stands = l.above(s)
	}
	return slices.DeleteFunc(slices.Clone(spec.Gates), func(g v1alpha1.Gate) bool {
		if g.At == v1alpha1.GateAtStart {
			return !p.starting()
		}
		return p.named(g.Name) && !slices.Contains(stands.gates, g.Name)
	})
}

func (p *pass) gateNamed(name string) *v1alpha1.Gate {
	i := slices.IndexFunc(p.spec.Gates, func(g v1alpha1.Gate) bool { return g.Name == name })
	if i < 0 {
		return nil
	}
	return &p.spec.Gates[i]
}

// checked are the verdicts of the owner's own gates, as they were read last.
func (p *pass) checked() []analysis.Verdict {
	var verdicts []analysis.Verdict
	for _, g := range p.spec.Gates {
		if g.Manual != nil || !p.asked(g.Name) {
			continue // a person is asked when everything else passes
		}
		v := p.verdictOf(g)
		v.Gate, v.DryRun = g.Name, g.DryRun
		verdicts = append(verdicts, v)
	}
	return verdicts
}

func (p *pass) verdictOf(g v1alpha1.Gate) analysis.Verdict {
	i := slices.IndexFunc(p.obs.Checks, func(c Check) bool { return c.Gate == g.Name })
	if i < 0 || !p.sinceWeight(p.obs.Checks[i]) {
		return analysis.Verdict{
			Outcome: analysis.Inconclusive, Reason: v1alpha1.ReasonGateNotAsked, Value: math.NaN(), Limit: math.NaN(), Message: fmt.Sprintf("gate %s was not asked yet", g.Name),
		}
	}
	c, limit := p.obs.Checks[i], failureLimit(g)
	v := analysis.Verdict{
		Outcome: c.Outcome, Reason: v1alpha1.ReasonGatePassed, Value: c.Value, Limit: c.Limit, Message: fmt.Sprintf("gate %s: %s", g.Name, c.Message),
	}
	failures := int32(0)
	if s := p.checkState(g.Name); s != nil {
		failures = s.Failures
	}
	switch {
	case c.Outcome == analysis.Fail && failures >= limit:
		v.Reason = v1alpha1.ReasonGateFailed
	case c.Outcome == analysis.Fail:
		v.Outcome, v.Reason = analysis.Inconclusive, v1alpha1.ReasonGateFailing
		v.Message += fmt.Sprintf(" (%d of %d readings in a row that take it back)", failures, limit)
	case c.Outcome != analysis.Pass:
		v.Reason = v1alpha1.ReasonGateInconclusive
	}
	return v
}

// failureLimit is how many readings in a row take a candidate back. A webhook means what it says.
func failureLimit(g v1alpha1.Gate) int32 {
	if g.Query != nil && g.Query.Failures != nil {
		return *g.Query.Failures
	}
	return 1
}
