// Package analysis turns evidence into verdicts. It is pure: values in, values out, no clock and no client.
//
// A verdict has three values. No data, too little data and contradicting data are Inconclusive: never Pass and never Fail.
package analysis

import "time"

// Counts are requests of one version, as differences of counters.
type Counts struct {
	// Requests is all of them; Errors are those the version failed: HTTP 5xx, and the gRPC statuses UNKNOWN (2),
	// DEADLINE_EXCEEDED (4), UNIMPLEMENTED (12), INTERNAL (13), UNAVAILABLE (14) and DATA_LOSS (15).
	Requests, Errors int64
	// Timed is how many have a response time; Slow are those above the latency bound.
	Timed, Slow int64
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

// State is the evidence counted since a step began. It is small and is kept in the TrafficShift's status.
type State struct {
	Samples           int
	Candidate, Stable Counts
	Cross             Counts
	NoHost            int64
}

// Add counts one more sample.
func (s State) Add(x Sample) State {
	return State{s.Samples + 1, s.Candidate.Add(x.Candidate), s.Stable.Add(x.Stable), s.Cross.Add(x.Cross), s.NoHost + x.NoHost}
}

// Limits is what a gate holds evidence against. Rates are from 0 to 1.
type Limits struct {
	// MaxErrorRate is the absolute limit; Margin is how far the candidate may lie above the stable version.
	MaxErrorRate, Margin float64
	// MaxSlowRate is the share of requests that may be slow; negative where latency is not asked about.
	MaxSlowRate float64
	// MinRequests is how many requests of the candidate it takes to pass.
	MinRequests int64
	// Alone says that there is no stable traffic to compare with: only the absolute limits are asked about.
	Alone bool
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
	// Gate names the question: "error-rate", "error-rate-vs-stable", "latency", "latency-vs-stable", "requests".
	Gate    string
	Outcome Outcome
	// Reason is CamelCase and stable; Message is one sentence with the numbers.
	Reason, Message string
	// Value and Limit are the two numbers compared.
	Value, Limit float64
}

// Gate judges evidence. The statistical gate plugs in here: it, too, takes counts and returns verdicts, and keeps nothing that is
// not in State.
type Gate interface {
	Judge(State, Limits) []Verdict
}
