package simulation

import (
	"hash/fnv"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/stat/distuv"
)

// direct is the mean up to which a Poisson variate is drawn by multiplying uniform ones, which is faster there.
const direct = 10

// keyOf is what all draws of one replication of a scenario start from.
func keyOf(seed uint64, s Scenario, replication int) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s.String())) // a hash never fails
	return mix(mix(seed^h.Sum64()) + uint64(replication))
}

// mix spreads neighbouring numbers over all of them (the finalizer of splitmix64: Steele, Lea and Flood, OOPSLA 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// dice draws. Aimed at one thing, they fall the same way every time.
type dice struct {
	key uint64
	src *rand.PCG
	rng *rand.Rand
}

func newDice(key uint64) *dice {
	src := rand.NewPCG(0, 0)
	return &dice{key, src, rand.New(src)}
}

// What dice are aimed at.
const (
	atRequests = iota
	atBefore
	atHistory
	atCandidateBurst
	atStableBurst
	atOnset
	atPhase
)

func (d *dice) aim(what, index int) {
	seed := mix(d.key ^ mix(uint64(what)<<32|uint64(uint32(index))))
	d.src.Seed(seed, mix(seed))
}

func (d *dice) poisson(mean float64) int64 {
	if mean <= 0 {
		return 0
	}
	if mean >= direct {
		return int64(distuv.Poisson{Lambda: mean, Src: d.src}.Rand())
	}
	limit, n := math.Exp(-mean), int64(0)
	for product := d.rng.Float64(); product > limit; product *= d.rng.Float64() {
		n++
	}
	return n
}

// burst is the factor on a failure rate: exponential, of mean 1.
func (d *dice) burst() float64 { return d.rng.ExpFloat64() }
