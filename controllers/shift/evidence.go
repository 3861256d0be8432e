package shift

import (
	"fmt"
	"strconv"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/metrics/analysis"
)

const (
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
	first, began := g.CountedTo == nil, g.SeenTo
	to := metav1.NewMicroTime(e.Sample.To)
	g.CountedTo = &to
	news := g.SeenTo == nil || e.Sample.Newest.After(g.SeenTo.Time)
	if seen := metav1.NewMicroTime(e.Sample.Newest); news && !e.Sample.Newest.IsZero() {
		g.SeenTo = &seen
	}
	p.remember(e)
	if first || !p.counts(began) {
		return
	}
	settled := p.beganAfter(began, p.next.RoutedSince)
	if g.Retreated && !settled || p.stableWasDown(began) && (p.next.Weight < v1alpha1.Whole || !settled) {
		e.Sample.NoHost = 0 // what it retreated from must not convict it where it has retreated to, nor what was on its way to stable alone
	}
	sum := p.evidence().Add(e.Sample)
	if news {
		g.Samples++ // a look that finds no new scrape proves nothing
	}
	g.NoHost = sum.NoHost
	g.Candidate, g.Stable, g.Cross = countsOf(sum.Candidate), countsOf(sum.Stable), countsOf(sum.Cross)
	if settled && news {
		p.countShare(e.Sample)
	}
}

// stableDown reports whether the stable version is to have pods, and none is ready.
func (p *pass) stableDown() bool {
	return p.strength() > 0 && p.obs.version(p.next.Stable).Ready == 0
}

// noteStable notes when the stable version was last seen without a ready pod, a scrape apart: it is written to the status.
func (p *pass) noteStable() {
	since := p.next.Gate.StableDownAt
	if p.stableDown() && (since == nil || p.obs.Now.Sub(since.Time) >= p.obs.Timing.Scrape) {
		p.next.Gate.StableDownAt = p.stamp()
	}
}

// stableWasDown reports whether counts that begin at a scrape may reach back to when the stable version had no ready pod: the stamp may be a
// scrape old, and some proxies were scraped as long before the others.
func (p *pass) stableWasDown(began *metav1.MicroTime) bool {
	since := p.next.Gate.StableDownAt
	if since == nil {
		return false
	}
	latest := metav1.NewMicroTime(since.Add(2 * p.obs.Timing.Scrape))
	return p.stableDown() || !p.beganAfter(began, &latest)
}

// lately is for how many looks after a raise an outage of the stable version may be the raise's doing: what both use is exhausted soon.
const lately = 8

// stableAlone reports whether the stable version fails alone, and not because of the candidate, as far as can be told: the outage began when the
// weight had stood for a while.
func (p *pass) stableAlone() bool {
	s := p.evidence()
	before := int(p.next.Gate.Samples) - s.Memory.Failing
	return before > lately && analysis.StableAlone(s, p.limits())
}

// plausible refuses what no counter can show: it would spoil the sums of the whole step, or pass for proof that nothing was seen.
func plausible(s analysis.Sample) bool {
	return s.Candidate.Plausible() && s.Stable.Plausible() && s.Cross.Plausible() && s.NoHost >= 0 && !s.To.Before(s.From)
}

// counts reports whether a sample says something about the present stage. Errors count from the moment a weight is ordered, so
// that none is lost; isolation is proven only by samples that began after the subset had settled.
func (p *pass) counts(began *metav1.MicroTime) bool {
	switch p.next.Stage {
	case v1alpha1.StageStepping, v1alpha1.StageBaking:
		return true
	case v1alpha1.StageExposing:
		return p.beganAfter(began, p.next.SubsetSince)
	default:
		return false
	}
}

// beganAfter reports whether the scrape that a sample's counts begin at came after what was read back at since had settled: what is
// counted reaches back to that scrape, whenever one looked.
func (p *pass) beganAfter(began, since *metav1.MicroTime) bool {
	return p.settled(since) && began != nil && !began.Time.Before(since.Add(p.obs.Timing.Settle))
}

func (p *pass) countShare(s analysis.Sample) {
	share := &p.next.Share
	if p.next.VerifiedSince == nil && share.Samples >= shareWindow {
		*share = v1alpha1.ShareState{}
	}
	p.latest = v1alpha1.ShareState{Samples: 1, Candidate: s.Candidate.Requests, Total: s.Candidate.Requests + s.Stable.Requests}
	share.Samples++
	share.Candidate += p.latest.Candidate
	share.Total += p.latest.Total
}

// recall reads the gate's memory. One that cannot be read is begun anew: what it had proven must be proven again.
func (p *pass) recall() {
	raw := p.next.Gate.Memory
	if raw == nil {
		return
	}
	m, err := analysis.DecodeMemory(raw.Raw)
	if err != nil {
		p.next.Gate.Memory = nil // what stable usually does is learned anew, too
		return
	}
	p.memory = m
}

// remember has the gate learn from a sample: what the stable version usually does, before the candidate is shown, and from then on whether
// the candidate is worse.
func (p *pass) remember(e Evidence) {
	l := p.limits()
	if p.next.Gate.Memory == nil {
		p.memory = p.memory.Learn(e.History, l)
	}
	if p.shown() {
		p.memory = p.memory.Count(e.Sample, l)
	} else {
		p.memory = p.memory.Watch(e.Sample, l)
	}
	p.keep()
}

// keep writes the memory into the state.
func (p *pass) keep() {
	if raw, err := p.memory.Encode(); err == nil { // every number in it is finite
		p.next.Gate.Memory = &apiextensionsv1.JSON{Raw: raw}
	}
}

// evidence is what the gates judge.
func (p *pass) evidence() analysis.State {
	s := stateOf(p.next.Gate)
	s.Memory = p.memory
	return s
}

// judge asks the gates about the evidence so far, and before there can be any the owner's own at the start. At a preview there may be none: nobody has to test it with requests.
func (p *pass) judge() {
	if p.spec.SkipAnalysis {
		return
	}
	if p.shown() && (!Previewing(p.next) || p.next.Gate.Candidate.Requests > 0) {
		p.verdicts = p.judged(analysis.Judge(p.evidence(), p.limits()))
	}
	p.verdicts = append(p.verdicts, p.checked()...)
}

// reactionScrapes is how many scrapes it takes to see a failure and act on it.
const reactionScrapes = 2

// limits are what the evidence is held against. At 100 there is no stable traffic: the limit is the larger of the owner's and what
// the stable version was seen to do, frozen at the switch.
func (p *pass) limits() analysis.Limits {
	maxErrors, _ := p.spec.MaxErrorRate.Ratio() // validated with the spec
	maxIncrease, _ := p.spec.MaxIncrease.Ratio()
	l := analysis.Limits{
		SlowAbove:    p.obs.Evidence.Sample.SlowAbove,
		MaxErrorRate: maxErrors, MaxIncrease: maxIncrease, MaxSlowRate: -1,
		MinRequests: int64(*p.spec.MinRequests), Alone: p.next.Stage == v1alpha1.StageBaking,
		Scrape: p.obs.Timing.Scrape, Weight: p.provenAt(), Auto: p.auto(),
		Budget: int64(*p.spec.MaxFailedRequests), Reaction: reactionScrapes * p.obs.Timing.Scrape,
	}
	if p.spec.MaxLatency != nil && !p.obs.Connections {
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

// provenAt is the share of the requests that the candidate answers when it is to be proven: that of the last rung before 100, or what is
// seen to match or to be copied.
func (p *pass) provenAt() float64 {
	last := p.rungBelow(v1alpha1.Whole)
	if s := p.next.Share; last == 0 && p.next.Exposure != "" && s.Total > 0 {
		return float64(s.Candidate) / float64(s.Total)
	}
	return float64(last) / float64(v1alpha1.Whole)
}

// switchOver keeps the stable version's upper bounds, because at 100 it has no traffic to compare with, and begins to count against them.
func (p *pass) switchOver() {
	errors, slow := p.memory.StableLimits(p.limits())
	p.next.Gate.Ceiling, p.next.Gate.SlowCeiling = int64(1e6*errors), int64(1e6*slow)
	p.switched()
}

// switched begins to count against the absolute limit anew, on the way to 100 and back from there.
func (p *pass) switched() {
	p.memory = p.memory.Switched(p.limits())
	p.keep()
}

// forgetRoute drops what was proven of the weight before: route, share and evidence. Where the counting stands is kept.
func (p *pass) forgetRoute() {
	g := p.next.Gate
	p.next.RoutedSince, p.next.VerifiedSince, p.next.Share = nil, nil, v1alpha1.ShareState{}
	p.next.RaisedFrom = nil
	p.next.Gate = v1alpha1.GateState{
		CountedTo: g.CountedTo, SeenTo: g.SeenTo, Memory: g.Memory, NoHostBaseline: g.NoHostBaseline, Retreats: g.Retreats, Suspected: g.Suspected, Retreated: g.Retreated, StableDownAt: g.StableDownAt, Ceiling: g.Ceiling, SlowCeiling: g.SlowCeiling,
	}
}

func (p *pass) evidenceSoFar() string {
	c, s := countsFrom(p.next.Gate.Candidate), countsFrom(p.next.Gate.Stable)
	text := fmt.Sprintf("%d of %d %s failed (%.2f%%)", c.Errors, c.Requests, p.counted(), 100*c.ErrorRate())
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
