package analysis

import "math"

const (
	// forgetting is what a past block counts for beside the one after it: an hour of 15 s blocks weighs like its last 50 minutes.
	forgetting = 0.995
	// priorWeight is how many requests the rate that is assumed of an unknown service counts for.
	priorWeight = 100
	// maxTempering bounds how far bursts weaken evidence.
	maxTempering = 50
)

// usual is what the stable version usually does: its rate, and by how much its blocks vary more than independent requests would.
type usual struct {
	// K of N requests failed, older ones forgotten.
	K float64 `json:"k,omitempty"`
	N float64 `json:"n,omitempty"`
	// Excess is the sum of (k-m)^2 - m(1-a) over the blocks, m = n*a being what was expected of each, and Square that of m^2. Their
	// ratio is the squared coefficient of variation of the rate itself: 0 where requests fail independently.
	Excess float64 `json:"x,omitempty"`
	Square float64 `json:"q,omitempty"`
}

// rate is the rate as known before the next block; prior is what is assumed of a service that was never seen.
func (u usual) rate(prior float64) float64 {
	return min(max((u.K+prior*priorWeight)/(u.N+priorWeight), 1e-5), 0.5)
}

// learn takes one more block of the stable version.
func (u usual) learn(k, n, prior float64) usual {
	if n <= 0 {
		return u
	}
	a := u.rate(prior)
	m := n * a
	return usual{
		K: forgetting*u.K + k, N: forgetting*u.N + n,
		Excess: forgetting*u.Excess + (k-m)*(k-m) - m*(1-a), Square: forgetting*u.Square + m*m,
	}
}

// tempering is the power 1/phi that evidence of a block is taken to where failures come in bursts: the variance of a count, as a
// multiple of what independence gives it, at the larger of the two versions' expected counts.
func (u usual) tempering(a float64, d block, h null) float64 {
	noise := math.Sqrt(2*u.Square + u.K) // what Excess is off by where requests are independent and so no burst is meant
	if u.Square <= 0 || u.Excess <= noise {
		return 1
	}
	most := max(d.ns*a, d.nc*h.boundary(a))
	return min(1+(u.Excess-noise)/u.Square*most, maxTempering)
}

// fails reports whether a block of the stable version is out of all proportion to what is usual: the sign of a dependency that both
// versions share. While nothing is known, nothing is unusual.
func (u usual) fails(k, n, prior float64) bool {
	const least, sigmas, floor = 3, 4, 0.002
	m := n * (2*u.rate(prior) + floor)
	return u.N >= priorWeight && k >= least && k > m+sigmas*math.Sqrt(m)
}

// sane reports whether these are sums over blocks.
func (u usual) sane() bool {
	const least, most = 1e-12, 1e40 // m^2 of a block of one request, and that of all requests there are
	return finite(u.N) && finite(u.K) && u.K <= u.N*(1+1e-9) && u.N <= most && math.Abs(u.Excess) <= most &&
		(u.Square == 0 || u.Square >= least && u.Square <= most)
}
