package simulation

import "fmt"

const (
	// Horizon is how long a release is watched, in seconds.
	Horizon = 3600
	// scrape is the time between two scrapes, look the time between two looks of Sluice at the world, and lag the time that a weight
	// takes to reach the mesh; in seconds.
	scrape = 15
	look   = 5
	lag    = 8
	// usual is the share of requests that the stable version fails.
	usual = 0.001
	// pods is how many the candidate has.
	pods = 3
)

// Scenario is one kind of release at one rate of traffic.
type Scenario struct {
	// Name says what is wrong with the candidate; RPS is the traffic of the whole service, in requests per second.
	Name string
	RPS  float64
	// Candidate is the share of requests that the candidate fails from second From until second To (0 is for ever); outside of that
	// it fails as many as stable.
	Candidate float64
	From, To  int
	// Anywhere has From drawn from the first ten minutes instead.
	Anywhere bool
	// Spared is how many requests each pod of a candidate that fails all of them answers first.
	Spared int
	// Outage is a time in which both versions fail many requests.
	Outage Outage
	// Bursts makes failures come in bursts.
	Bursts Bursts
}

// Outage has stable fail the share Stable of its requests, and the candidate the share Candidate, from second From until second To.
type Outage struct {
	Stable, Candidate float64
	From, To          int
}

// Bursts says how failures vary from scrape to scrape, beyond chance: the failure rate is multiplied by a draw from an exponential
// distribution of mean 1, a new one for each scrape.
type Bursts int

// The kinds of bursts.
const (
	// NoBursts is failures by chance alone.
	NoBursts Bursts = iota
	// SharedBursts are the same for both versions: those of a dependency.
	SharedBursts
	// OwnBursts are each version's own.
	OwnBursts
)

// String names a row.
func (s Scenario) String() string { return fmt.Sprintf("%s @ %g rps", s.Name, s.RPS) }

// Scenarios are the rows of the table.
func Scenarios() []Scenario {
	steady := func(rate float64) Scenario {
		return Scenario{Name: fmt.Sprintf("candidate fails %g%%", 100*rate), Candidate: rate}
	}
	good := Scenario{Name: "good candidate (0.1%, as stable)", Candidate: usual}
	spared := Scenario{Name: "fails after the 5th request of each pod", Candidate: 1, Spared: 5}
	outage := Scenario{Name: "shared outage of 5 min, candidate 1.2x", Candidate: usual, Outage: Outage{0.2, 0.24, 90, 390}}
	baked := Scenario{Name: "shared outage of 5 min at 100%, candidate 1.2x", Candidate: usual, Outage: Outage{0.2, 0.24, 300, 600}}
	late := Scenario{Name: "late onset: 25% after 120 s", Candidate: 0.25, From: 120}
	later := Scenario{Name: "late onset: 25% from somewhere in the first 10 min", Candidate: 0.25, Anywhere: true}
	blip := Scenario{Name: "one scrape of 30%, else good", Candidate: 0.3, From: 45, To: 60}
	burstsOwn := Scenario{Name: "good candidate, bursts of each version's own", Candidate: usual, Bursts: OwnBursts}
	burstsShared := Scenario{Name: "good candidate, bursts of both at once", Candidate: usual, Bursts: SharedBursts}
	var all []Scenario
	for _, row := range []struct {
		Scenario
		rps []float64
	}{
		{good, []float64{1, 10, 100, 1000, 10000}},
		{steady(0.002), []float64{1000, 10000}}, // no harm, as far as harm counts
		{steady(0.005), []float64{100, 1000}},
		{steady(0.006), []float64{10, 100, 1000}}, // exactly where maxIncrease says that nothing may be promoted
		{steady(0.01), []float64{10, 1000}},
		{steady(0.02), []float64{100}},
		{steady(0.05), []float64{1, 100, 1000}},
		{steady(0.25), []float64{10, 100, 1000}},
		{steady(1), []float64{1, 10, 100, 1000}},
		{spared, []float64{10, 100, 1000}},
		{outage, []float64{1, 10, 100, 1000}},
		{baked, []float64{100, 1000}},
		{late, []float64{100, 1000}},
		{later, []float64{100, 1000}},
		{blip, []float64{100}},
		{burstsOwn, []float64{10, 1000}},
		{burstsShared, []float64{1000}},
	} {
		for _, rps := range row.rps {
			s := row.Scenario
			s.RPS = rps
			all = append(all, s)
		}
	}
	return all
}
