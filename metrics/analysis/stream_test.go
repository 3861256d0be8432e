package analysis

import (
	"math/rand/v2"
	"time"

	"gonum.org/v1/gonum/stat/distuv"
)

// scrape is the span of a block in these tests, and hour how many of them an hour has.
const (
	scrape = 15 * time.Second
	hour   = 240
)

var epoch = time.Unix(1_700_000_000, 0)

// defaults are the limits of a release that sets none, at a weight of 20%.
func defaults() Limits {
	return Limits{
		MaxErrorRate: 0.01, MaxIncrease: 0.005, MaxSlowRate: -1, MinRequests: 50,
		Scrape: scrape, Weight: 0.2, Auto: true, Budget: 50, Reaction: 2 * scrape,
	}
}

// timed are the defaults and a limit on latency.
func timed() Limits {
	l := defaults()
	l.MaxSlowRate = 0.05
	return l
}

// failed is one version's requests: k of n failed. None of them was slow.
func failed(k, n int64) Counts { return Counts{Requests: n, Errors: k, Timed: n} }

// slowed is one version's requests: k of n were slow. None of them failed.
func slowed(k, n int64) Counts { return Counts{Requests: n, Timed: n, Slow: k} }

// lasting is a sample of so long.
func lasting(d time.Duration, candidate, stable Counts) Sample {
	return Sample{From: epoch, To: epoch.Add(d), Newest: epoch.Add(d), Candidate: candidate, Stable: stable}
}

// tick is a sample that is a block.
func tick(candidate, stable Counts) Sample { return lasting(scrape, candidate, stable) }

// steady is an hour of a stable version that fails k of n in each block, but for a wobble that chance gives it.
func steady(k, n int64) []Sample {
	past := make([]Sample, hour)
	for i := range past {
		past[i] = tick(Counts{}, failed(min(max(k+int64(i%3)-1, 0), n), n))
	}
	return past
}

// count counts samples.
func count(m Memory, l Limits, samples ...Sample) Memory {
	for _, x := range samples {
		m = m.Count(x, l)
	}
	return m
}

// stateOf is the evidence with that memory, all of it from the present step.
func stateOf(m Memory) State {
	return State{Samples: 1, Candidate: m.Total.Candidate, Stable: m.Total.Stable, Memory: m}
}

func verdictOf(verdicts []Verdict, gate string) Verdict {
	for _, v := range verdicts {
		if v.Gate == gate {
			return v
		}
	}
	return Verdict{}
}

// dice draw from one seed.
type dice struct{ rand.Source }

func newDice(seed, run int) dice { return dice{rand.NewPCG(uint64(seed), uint64(run))} }

func (d dice) poisson(mean float64) int64 {
	if mean <= 0 {
		return 0
	}
	return int64(distuv.Poisson{Lambda: mean, Src: d}.Rand())
}

func (d dice) binomial(n int64, p float64) int64 {
	if n <= 0 || p <= 0 {
		return 0
	}
	if p >= 1 {
		return n
	}
	return int64(distuv.Binomial{N: float64(n), P: p, Src: d}.Rand())
}

// gamma has mean 1 and the squared coefficient of variation cv2.
func (d dice) gamma(cv2 float64) float64 {
	return distuv.Gamma{Alpha: 1 / cv2, Beta: 1 / cv2, Src: d}.Rand()
}

func (d dice) uniform() float64 { return distuv.Uniform{Min: 0, Max: 1, Src: d}.Rand() }

// requests are as many as come on average, of which each fails with probability p and is slow with probability slow.
func (d dice) requests(mean, p, slow float64) Counts {
	n := d.poisson(mean)
	return Counts{Requests: n, Errors: d.binomial(n, p), Timed: n, Slow: d.binomial(n, slow)}
}
