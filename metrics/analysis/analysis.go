// Package analysis turns evidence into verdicts. It is pure: values in, values out, no clock and no client.
//
// A verdict has three values. No data, too little data and contradicting data are Inconclusive: never Pass and never Fail.
package analysis

import (
	"fmt"
	"time"
)

// Counts are requests of one version, as differences of counters.
type Counts struct {
	// Requests is all of them; Errors are those the version failed: HTTP 5xx, and the gRPC statuses UNKNOWN (2),
	// DEADLINE_EXCEEDED (4), UNIMPLEMENTED (12), INTERNAL (13), UNAVAILABLE (14) and DATA_LOSS (15).
	Requests int64 `json:"n,omitempty"`
	Errors   int64 `json:"k,omitempty"`
	// Timed is how many have a response time; Slow are those above the latency bound.
	Timed int64 `json:"t,omitempty"`
	Slow  int64 `json:"s,omitempty"`
}

// Plausible refuses what no counter can show.
func (c Counts) Plausible() bool {
	return c.Errors >= 0 && c.Errors <= c.Requests && c.Slow >= 0 && c.Slow <= c.Timed
}

// Add returns the sum.
func (c Counts) Add(d Counts) Counts {
	return Counts{c.Requests + d.Requests, c.Errors + d.Errors, c.Timed + d.Timed, c.Slow + d.Slow}
}

// ErrorRate is Errors over Requests, and 0 where there is no request.
func (c Counts) ErrorRate() float64 { return ratio(c.Errors, c.Requests) }

// SlowRate is Slow over Timed, and 0 where nothing was timed.
func (c Counts) SlowRate() float64 { return ratio(c.Slow, c.Timed) }

func ratio(k, n int64) float64 {
	if n <= 0 {
		return 0
	}
	return float64(k) / float64(n)
}

// Reporter is whose telemetry is counted: Istio's label reporter.
type Reporter string

// The reporters. Source and Waypoint (ambient) are one record per user request, and see a version that cannot be reached;
// Destination is the fallback where no client of the service is in the mesh.
const (
	Source      Reporter = "source"
	Waypoint    Reporter = "waypoint"
	Destination Reporter = "destination"
)

// Sample is what was counted between two looks at Prometheus.
type Sample struct {
	// From and To are the evaluation times that the counters were read at. To of one sample is From of the next.
	From, To time.Time
	// Newest is the time of the youngest scrape behind the counters; zero where there is none.
	Newest time.Time
	// Reporter is the one that Candidate and Stable are taken from.
	Reporter Reporter
	// Candidate and Stable are the requests of each version.
	Candidate, Stable Counts
	// Cross is the candidate as the other reporter counted it; zero where that one is silent.
	Cross Counts
	// NoHost counts requests to the service that failed before a host was chosen (response flags UH, NC, NR, UO): they belong
	// to no version.
	NoHost int64
	// SlowAbove is the histogram bound that Slow was counted by: the one next to the limit asked for. 0 where nothing is timed.
	SlowAbove time.Duration
}

// State is the evidence so far: the sums since a step began, for people and for the least of requests; and the gate's memory.
type State struct {
	Samples           int
	Candidate, Stable Counts
	Cross             Counts
	NoHost            int64
	Memory            Memory
}

// Add counts one more sample of the step. The memory is left as it is: what a sample is evidence of depends on the weight.
func (s State) Add(x Sample) State {
	s.Samples++
	s.Candidate, s.Stable, s.Cross = s.Candidate.Add(x.Candidate), s.Stable.Add(x.Stable), s.Cross.Add(x.Cross)
	s.NoHost += x.NoHost
	return s
}

// Limits is what a gate holds evidence against. Rates are from 0 to 1.
type Limits struct {
	// MaxErrorRate is the absolute limit; MaxIncrease is how far the candidate's rate may lie above stable's and still be promoted.
	MaxErrorRate, MaxIncrease float64
	// MaxSlowRate is the share of requests that may be slow; negative where latency is not asked about.
	MaxSlowRate float64
	// SlowAbove is the histogram bound that slow requests are counted by; 0 where it is not known at present.
	SlowAbove time.Duration
	// MinRequests is how many requests of the candidate it takes to pass.
	MinRequests int64
	// Alone says that there is no stable traffic to compare with: only the absolute limits are asked about.
	Alone bool
	// Scrape is the least span of a block of evidence: a scrape interval.
	Scrape time.Duration
	// Weight is the candidate's share of the traffic where the proof for 100 is waited for: the highest rung of a ladder below that. Auto
	// says that evidence sets the pace, and that weight too.
	Weight float64
	Auto   bool
	// Budget is how many requests the candidate may fail before it can be taken back, and Reaction the time that this takes: to see,
	// and to act.
	Budget   int64
	Reaction time.Duration
}

// question is what is asked of one metric.
type question struct {
	margins
	slow bool
}

// questions are errors and, where it is asked about, latency.
func (l Limits) questions(yield func(question) bool) {
	errors := question{margins{null{1 + relativeMargin, errorMargin}, l.MaxIncrease, l.MaxErrorRate, usualErrors}, false}
	if !yield(errors) || l.MaxSlowRate < 0 {
		return
	}
	yield(question{margins{null{1 + relativeMargin, slowMargin}, slowIncrease, l.MaxSlowRate, usualSlow}, true})
}

func (q question) metric(m *Memory) *metric {
	if q.slow {
		return &m.Slow
	}
	return &m.Errors
}

func (q question) block(p pair) block {
	if q.slow {
		return block{float64(p.Stable.Slow), float64(p.Stable.Timed), float64(p.Candidate.Slow), float64(p.Candidate.Timed)}
	}
	return block{float64(p.Stable.Errors), float64(p.Stable.Requests), float64(p.Candidate.Errors), float64(p.Candidate.Requests)}
}

// Outcome is the value of a verdict.
type Outcome string

// The outcomes.
const (
	Pass         Outcome = "Pass"
	Fail         Outcome = "Fail"
	Inconclusive Outcome = "Inconclusive"
)

// Verdict is what one gate says.
type Verdict struct {
	// Gate names the question: "requests", "error-rate", "error-rate-vs-stable", "latency", "latency-vs-stable", or the owner's own.
	Gate    string
	Outcome Outcome
	// Reason is CamelCase and stable; Message is one sentence with the numbers.
	Reason, Message string
	// Value and Limit are the two numbers compared; of a gate of the owner's, NaN where there is none.
	Value, Limit float64
	// Unproven is set on an Inconclusive verdict against which nothing speaks: proof is lacking. It stands in the way of 100 alone.
	Unproven bool
	// DryRun is set where the verdict is reported and decides nothing.
	DryRun bool
}

// Overall is the verdict of all gates together: the first Fail, else the first that is not Pass, else Pass. What is a dry run is left
// out. No verdicts, and outcomes that are none, are Inconclusive.
func Overall(verdicts []Verdict) Verdict {
	first := Verdict{Outcome: Inconclusive, Reason: ReasonNoVerdict, Message: "no gate was asked"}
	asked := 0
	for _, v := range verdicts {
		if v.DryRun {
			continue
		}
		asked++
		switch {
		case v.Outcome == Fail:
			return v
		case asked == 1 || first.Outcome == Pass:
			first = v
		}
	}
	if asked > 0 && first.Outcome == Pass {
		return Verdict{Outcome: Pass, Reason: ReasonAllPass, Message: fmt.Sprintf("all %d gates pass", asked)}
	}
	first.Outcome = Inconclusive
	return first
}
