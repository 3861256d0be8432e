package shift

import (
	"fmt"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/metrics/analysis"
)

const (
	// errorMargin and slowMargin are how far a candidate may lie above the stable version: half a point of errors, two points of
	// slow requests.
	errorMargin = 0.005
	slowMargin  = 0.02
	// shareWindow is how many samples a weight is measured over before the measurement starts anew, so that requests from before a
	// route arrived everywhere do not spoil it for ever.
	shareWindow = 10
)

// count adds the latest sample to the evidence. A sample that was counted before, or that makes no sense, counts for nothing.
func (p *pass) count() {
	e, g := p.obs.Evidence, &p.next.Gate
	if !e.Available || !plausible(e.Sample) || g.CountedTo != nil && !e.Sample.To.After(g.CountedTo.Time) {
		return
	}
	first := g.CountedTo == nil
	to := metav1.NewMicroTime(e.Sample.To)
	g.CountedTo = &to
	if first || !p.counts(e.Sample) {
		return
	}
	settled := p.beganAfter(e.Sample, p.next.RoutedSince)
	if g.Retreated && !settled {
		e.Sample.NoHost = 0 // what it retreated from must not convict it where it has retreated to
	}
	sum := stateOf(*g).Add(e.Sample)
	g.Samples, g.NoHost = int32(sum.Samples), sum.NoHost
	g.Candidate, g.Stable, g.Cross = countsOf(sum.Candidate), countsOf(sum.Stable), countsOf(sum.Cross)
	if settled {
		p.countShare(e.Sample)
	}
}

// plausible refuses what no counter can show: it would spoil the sums of the whole step, or pass for proof that nothing was seen.
func plausible(s analysis.Sample) bool {
	for _, c := range []analysis.Counts{s.Candidate, s.Stable, s.Cross} {
		if c.Errors < 0 || c.Errors > c.Requests || c.Slow < 0 || c.Slow > c.Timed {
			return false
		}
	}
	return s.NoHost >= 0 && !s.To.Before(s.From)
}

// counts reports whether a sample says something about the present stage. Errors count from the moment a weight is ordered, so
// that none is lost; isolation is proven only by samples that began after the subset had settled.
func (p *pass) counts(s analysis.Sample) bool {
	switch p.next.Stage {
	case v1alpha1.StageStepping, v1alpha1.StageBaking:
		return true
	case v1alpha1.StageExposing:
		return p.beganAfter(s, p.next.SubsetSince)
	default:
		return false
	}
}

// beganAfter reports whether a sample began after what was read back at since had settled.
func (p *pass) beganAfter(s analysis.Sample, since *metav1.MicroTime) bool {
	return p.settled(since) && !s.From.Before(since.Add(p.obs.Timing.Settle))
}

func (p *pass) countShare(s analysis.Sample) {
	share := &p.next.Share
	if p.next.VerifiedSince == nil && share.Samples >= shareWindow {
		*share = v1alpha1.ShareState{}
	}
	share.Samples++
	share.Candidate += s.Candidate.Requests
	share.Total += s.Candidate.Requests + s.Stable.Requests
}

// judge asks the gates about the evidence so far.
func (p *pass) judge() {
	if p.next.Weight > 0 {
		p.verdicts = p.gate.Judge(stateOf(p.next.Gate), p.limits())
	}
}

// limits are what the evidence is held against. At 100 there is no stable traffic: the limit is the larger of the owner's and what
// the stable version was seen to do, frozen at the switch.
func (p *pass) limits() analysis.Limits {
	maxErrors, _ := p.spec.MaxErrorRate.Ratio() // validated with the spec
	l := analysis.Limits{
		MaxErrorRate: maxErrors, Margin: errorMargin, MaxSlowRate: -1,
		MinRequests: int64(*p.spec.MinRequests), Alone: p.next.Stage == v1alpha1.StageBaking,
	}
	if p.spec.MaxLatency != nil {
		percentile, _ := strconv.ParseFloat(p.spec.MaxLatency.Percentile, 64) // validated with the spec
		l.MaxSlowRate = 1 - percentile/100
	}
	if l.Alone {
		l.MaxErrorRate = max(l.MaxErrorRate, float64(p.next.Gate.Ceiling)/1e6)
		if l.MaxSlowRate >= 0 {
			l.MaxSlowRate = max(l.MaxSlowRate, float64(p.next.Gate.SlowCeiling)/1e6)
		}
	}
	return l
}

// freezeCeiling keeps the stable version's upper bounds, because at 100 it has no traffic to compare with.
func (p *pass) freezeCeiling() {
	s := p.next.Gate.Stable
	p.next.Gate.Ceiling, p.next.Gate.SlowCeiling = 0, 0
	if s.Requests > 0 {
		p.next.Gate.Ceiling = ceiling(s.Errors, s.Requests, errorMargin)
	}
	if s.Timed > 0 {
		p.next.Gate.SlowCeiling = ceiling(s.Slow, s.Timed, slowMargin)
	}
}

// ceiling is the upper bound of a rate and a margin, in parts per million. A rate is never more than the whole: a stable version that
// fails every request must not make a limit that no gate can read.
func ceiling(k, n int64, margin float64) int64 {
	return int64(1e6 * min(1, analysis.UpperBound(k, n, 0.95)+margin))
}

// forgetRoute drops what was proven of the weight before: route, share and evidence. Where the counting stands is kept.
func (p *pass) forgetRoute() {
	g := p.next.Gate
	p.next.RoutedSince, p.next.VerifiedSince, p.next.Share = nil, nil, v1alpha1.ShareState{}
	p.next.Gate = v1alpha1.GateState{
		CountedTo: g.CountedTo, NoHostBaseline: g.NoHostBaseline, Retreated: g.Retreated, Ceiling: g.Ceiling, SlowCeiling: g.SlowCeiling,
	}
}

func (p *pass) evidenceSoFar() string {
	c, s := countsFrom(p.next.Gate.Candidate), countsFrom(p.next.Gate.Stable)
	text := fmt.Sprintf("%d of %d requests failed (%.2f%%)", c.Errors, c.Requests, 100*c.ErrorRate())
	if s.Requests > 0 {
		text += fmt.Sprintf(", stable %.2f%%", 100*s.ErrorRate())
	}
	return text
}

// total is every request of the service that was counted at this step.
func (p *pass) total() int64 {
	g := p.next.Gate
	return g.Candidate.Requests + g.Stable.Requests + g.NoHost
}

func partsPerMillion(k, n int64) int64 {
	if n == 0 {
		return 0
	}
	return k * 1_000_000 / n
}

func stateOf(g v1alpha1.GateState) analysis.State {
	return analysis.State{
		Samples: int(g.Samples), Candidate: countsFrom(g.Candidate), Stable: countsFrom(g.Stable), Cross: countsFrom(g.Cross), NoHost: g.NoHost,
	}
}

func countsFrom(c v1alpha1.Counts) analysis.Counts { return analysis.Counts(c) }

func countsOf(c analysis.Counts) v1alpha1.Counts { return v1alpha1.Counts(c) }
