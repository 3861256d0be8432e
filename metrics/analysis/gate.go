package analysis

import (
	"fmt"
	"math"
)

const (
	// suspicion is the evidence of harm from which nothing is raised, and retreat that from which the candidate goes back to a weight
	// that it may fail at: reversible, and so at the square root of what convicts.
	suspicion = 10
	// chance is what counts as no longer chance where one look is taken at a share.
	chance = 0.001
	// leastErrors is how many failures it takes to speak of more than chance.
	leastErrors = 2
	// displayed is the coverage of the intervals that people are shown.
	displayed = 0.95
)

var (
	logSuspicion = math.Log(suspicion)
	logRetreat   = logAlpha / 2
	logProof     = -math.Log(beta)
)

// part is one e-process among those that are averaged: an average of e-values is an e-value, so that all questions together share alpha.
type part struct {
	gate, reason string
	share        float64
	mixture      *mixture
	question     question
	relative     bool
}

// parts are the e-processes for harm. Their shares are fixed beforehand.
func (l Limits) parts(m *Memory) []part {
	limit := func(gate, reason string, share float64, q question) part {
		return part{gate, reason, share, &q.metric(m).Limit, q, false}
	}
	versus := func(gate, reason string, share float64, q question) part {
		return part{gate, reason, share, &q.metric(m).Harm, q, true}
	}
	var errors, slow question
	for q := range l.questions {
		if q.slow {
			slow = q
		} else {
			errors = q
		}
	}
	switch {
	case l.Alone && !slow.slow:
		return []part{limit(GateErrorRate, ReasonErrorRate, 1, errors)}
	case l.Alone:
		return []part{limit(GateErrorRate, ReasonErrorRate, .6, errors), limit(GateLatency, ReasonLatency, .4, slow)}
	case !slow.slow:
		return []part{
			limit(GateErrorRate, ReasonErrorRate, .1, errors), versus(GateErrorRateVsStable, ReasonErrorRateVsStable, .9, errors),
		}
	}
	return []part{
		limit(GateErrorRate, ReasonErrorRate, .05, errors), versus(GateErrorRateVsStable, ReasonErrorRateVsStable, .55, errors),
		limit(GateLatency, ReasonLatency, .05, slow), versus(GateLatencyVsStable, ReasonLatencyVsStable, .35, slow),
	}
}

// Evidence is what speaks against a candidate.
type Evidence struct {
	// LogHarm is the logarithm of the e-value of harm; LogBurst is it before the last block was capped.
	LogHarm, LogBurst float64
	// culprit is the part that contributes most.
	culprit part
}

// harm averages the evidence of all parts. Where stable breaks the absolute limit too, that part is left out: it must neither convict, nor
// speak for one that does. Less evidence is no less valid.
func (s State) harm(l Limits) Evidence {
	m := s.Memory
	e := Evidence{LogHarm: math.Inf(-1), LogBurst: math.Inf(-1)}
	most := math.Inf(-1)
	for _, p := range l.parts(&m) {
		if !p.relative && !l.Alone && p.total(s).stable.rate() > p.question.limit {
			continue
		}
		share := math.Log(p.share)
		e.LogHarm, e.LogBurst = logAdd(e.LogHarm, share+p.mixture.log()), logAdd(e.LogBurst, share+p.mixture.burst())
		if v := share + p.mixture.log(); v > most {
			most, e.culprit = v, p
		}
	}
	return e
}

// Judge returns one verdict for each gate that the limits ask for. A candidate fails only on an e-value of 1/alpha = 1000 against the
// hypothesis that it does no harm, whatever the number of looks. It passes where it was proven, at 1/beta = 20, to be worse than
// stable by less than may be promoted, and where its rate is within the absolute limit. Everything else is Inconclusive. Evidence or
// limits that make no sense leave every gate Inconclusive.
func Judge(s State, l Limits) []Verdict {
	s.Memory = s.Memory.Under(l)
	harm := s.harm(l)
	verdicts := []Verdict{requests(s, l)}
	m := s.Memory
	for _, p := range l.parts(&m) {
		v := p.judge(s, l, harm)
		v.Gate = p.gate
		verdicts = append(verdicts, v)
	}
	if reason, message := invalid(s, l); reason != "" {
		for i := range verdicts {
			verdicts[i] = Verdict{Gate: verdicts[i].Gate, Outcome: Inconclusive, Reason: reason, Message: message}
		}
	}
	return verdicts
}

// judge is the verdict of one part. The part that contributes most speaks for all where together they convict, or are suspicious.
func (p part) judge(s State, l Limits, harm Evidence) Verdict {
	c := p.compare(s, l)
	convicts := p.gate == harm.culprit.gate
	switch {
	case convicts && harm.LogHarm >= logAlpha:
		return p.convict(p.shown(s), harm)
	case convicts && harm.LogHarm >= logSuspicion:
		return c.verdict(p, Inconclusive, ReasonSuspicious, "%s; evidence %s:1 that %s: too much to go on, and too little to convict", p.shown(s).sentence(), odds(harm.LogHarm), p.claim())
	case StableAlone(s, l):
		return c.verdict(p, Inconclusive, ReasonStableFailing, "stable fails, and the candidate does not: %s", p.step(s).sentence())
	case s.Memory.Outage > 0 && !l.Alone:
		return c.verdict(p, Inconclusive, ReasonStableFailing, "stable is failing too: shared dependency? %s", p.step(s).sentence())
	case p.step(s).candidate.n == 0:
		return c.verdict(p, Inconclusive, ReasonNoTraffic, "no %s yet", c.candidate.noun)
	case p.relative:
		return p.prove(c, s, l)
	}
	return p.within(c, s, l)
}

// StableAlone reports whether stable fails out of all proportion, and evidently alone: the candidate may be the fix.
func StableAlone(s State, l Limits) bool {
	return s.Memory.Outage > 0 && !l.Alone && s.Memory.stableAlone(l)
}

// convict is the verdict that takes a candidate back. An e-value bounds false alarms; it says nothing of how sure one may be.
func (p part) convict(c comparison, harm Evidence) Verdict {
	return c.verdict(p, Fail, p.reason, "%s (always-valid 95%% intervals); evidence %s:1 that %s (a false alarm this strong has probability <= 1/%s)",
		c.withIntervals(), odds(harm.LogHarm), p.claim(), odds(harm.LogHarm))
}

// claim is what the evidence is for.
func (p part) claim() string {
	what := "it fails"
	if p.question.slow {
		what = "it is slow in"
	}
	if !p.relative {
		return fmt.Sprintf("%s more than %s", what, percent(p.question.limit))
	}
	worse := "it is worse than"
	if p.question.slow {
		worse = "it is slow more often than"
	}
	return fmt.Sprintf("%s %gx stable + %spp", worse, p.question.harm.slope, points(p.question.harm.delta))
}

// prove asks for the proof that the candidate is not worse than stable by more than may be promoted.
func (p part) prove(c comparison, s State, l Limits) Verdict {
	metric := p.question.metric(&s.Memory)
	if metric.proof() >= logProof {
		return c.verdict(p, Pass, ReasonNoWorse, "%s; proven to be worse by less than %spp", c.sentence(), points(p.question.increase))
	}
	v := c.verdict(p, Inconclusive, ReasonInsufficientData, "%s", s.forecast(p.question, l))
	if c.stable.n == 0 {
		v.Reason, v.Message = ReasonNoStableTraffic, fmt.Sprintf("%s, and stable has none to compare with", c.sentence())
	}
	v.Unproven = true
	return v
}

// within holds the candidate's rate against the absolute limit. Where the other reporter's counts break a limit that this one's keep, one
// of the two is wrong, and nothing passes on the word of either.
func (p part) within(c comparison, s State, l Limits) Verdict {
	limit := p.question.limit
	if now := p.step(s).candidate; c.candidate.rate() > limit && (now.rate() > limit || now.n < l.MinRequests) {
		if !l.Alone && c.stable.n > 0 && c.stable.rate() > limit {
			return c.verdict(p, Inconclusive, ReasonStableBreaksLimit, "%s, limit %s; stable breaks it too", c.sentence(), percent(limit))
		}
		v := c.verdict(p, Inconclusive, ReasonAboveLimit, "%s, limit %s: above it, but that may be chance", c.sentence(), percent(limit))
		v.Unproven = true
		return v
	}
	cross := failures(s.Cross, Counts{}).candidate
	if !p.question.slow && cross.cannotBe(limit) {
		return c.verdict(p, Inconclusive, ReasonReportersDisagree, "the reporters disagree: %s, but the other reporter counts %s, limit %s", c.sentence(), cross, percent(limit))
	}
	return c.verdict(p, Pass, ReasonWithinLimit, "%s, limit %s", c.sentence(), percent(limit))
}

// step is the evidence of the present weight, and total that since the first weight but for outages of stable.
func (p part) step(s State) comparison { return p.compared(s.Candidate, s.Stable) }

func (p part) total(s State) comparison {
	return p.compared(s.Memory.Total.Candidate, s.Memory.Total.Stable)
}

// compare is what a rate is read from: everything so far or, where the candidate has all the traffic, what it did with that.
func (p part) compare(s State, l Limits) comparison {
	if l.Alone {
		return p.step(s)
	}
	return p.total(s)
}

// shown is what people are told of a candidate under suspicion: what it did at the present weight where that is worse than all it did
// before, because it may have gone bad only then.
func (p part) shown(s State) comparison {
	now, all := p.step(s), p.total(s)
	if now.candidate.k >= leastErrors && now.candidate.rate() > all.candidate.rate() {
		return now
	}
	return all
}

func (p part) compared(candidate, stable Counts) comparison {
	if p.question.slow {
		return slowness(candidate, stable)
	}
	return failures(candidate, stable)
}

// requests asks whether the candidate was seen often enough at this step.
func requests(s State, l Limits) Verdict {
	n, least := s.Candidate.Requests, max(l.MinRequests, 1)
	v := Verdict{
		Gate: GateRequests, Outcome: Inconclusive, Reason: ReasonTooFewRequests, Value: float64(n), Limit: float64(least),
		Message: fmt.Sprintf("%d of %d requests", n, least),
	}
	switch {
	case n == 0:
		v.Reason, v.Message = ReasonNoTraffic, fmt.Sprintf("no requests yet, %d needed", least)
	case n >= least:
		v.Outcome, v.Reason = Pass, ReasonEnoughRequests
	}
	return v
}

// invalid says what about the evidence or the limits makes no sense; both are empty where all does.
func invalid(s State, l Limits) (reason, message string) {
	for _, c := range []struct {
		who string
		Counts
	}{{"candidate", s.Candidate}, {"stable", s.Stable}, {"the other reporter", s.Cross}} {
		if !c.Plausible() {
			return ReasonInvalidEvidence, fmt.Sprintf("the counts of %s make no sense: %d errors of %d requests, %d slow of %d timed",
				c.who, c.Errors, c.Requests, c.Slow, c.Timed)
		}
	}
	switch {
	case s.Samples < 0 || s.NoHost < 0 || !s.Memory.sane():
		return ReasonInvalidEvidence, fmt.Sprintf("the counts make no sense: %d samples, %d failures without a host", s.Samples, s.NoHost)
	case !isRate(l.MaxErrorRate) || !isRate(l.MaxIncrease) || l.MaxIncrease <= errorMargin || math.IsNaN(l.MaxSlowRate) || l.MaxSlowRate > 1 || l.MinRequests < 0:
		return ReasonInvalidLimits, fmt.Sprintf("the limits make no sense: error rate %v, increase %v, slow rate %v, %d requests",
			l.MaxErrorRate, l.MaxIncrease, l.MaxSlowRate, l.MinRequests)
	}
	return "", ""
}
