package analysis

import (
	"math"

	"gonum.org/v1/gonum/mathext"
)

// Interval is the always-valid confidence sequence of a rate of which k of n were seen: with probability 1-alpha it covers the true rate
// at every look at once, however often one looks. It is Robbins' mixture with the prior Beta(1/2, 1/2):
//
//	{ p : B(1/2+k, 1/2+n-k) / B(1/2, 1/2) < p^k (1-p)^(n-k) / alpha }
//
// (Robbins, Annals of Mathematical Statistics 41, 1970; Lindon and Malek, arXiv 2011.03567, with two categories). It is wider than an
// interval of one fixed sample, and is for people and for pacing; decisions take e-values. Where the numbers make no sense nothing is
// known: 0 and 1.
func Interval(k, n int64, alpha float64) (lower, upper float64) {
	if k < 0 || n <= 0 || k > n || !(alpha > 0 && alpha < 1) {
		return 0, 1
	}
	s, f := float64(k), float64(n-k)
	least := math.Log(alpha) + mathext.Lbeta(0.5+s, 0.5+f) - mathext.Lbeta(0.5, 0.5)
	inside := func(p float64) bool {
		l := 0.0
		if s > 0 {
			l += s * math.Log(p)
		}
		if f > 0 {
			l += f * math.Log1p(-p)
		}
		return l > least
	}
	rate := s / (s + f)
	if k > 0 {
		lower = bisect(0, rate, func(p float64) bool { return !inside(p) })
	}
	upper = 1
	if k < n {
		upper = bisect(rate, 1, inside)
	}
	return lower, upper
}

// bisect is where below turns from true to false between lo and hi.
func bisect(lo, hi float64, below func(float64) bool) float64 {
	for range 100 {
		mid := lo + (hi-lo)/2
		if mid == lo || mid == hi {
			break
		}
		if below(mid) {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo + (hi-lo)/2
}
