package analysis

import (
	"math"

	"gonum.org/v1/gonum/mathext"
)

// tail is P(X >= k) for X ~ Binomial(n, p): how likely k failures or more are by chance where each of n requests fails with
// probability p. It is exact: P(X >= k) = I_p(k, n-k+1), the regularized incomplete beta function (NIST DLMF 8.17.5).
func tail(k, n int64, p float64) float64 {
	switch {
	case k <= 0:
		return 1
	case k > n || p <= 0:
		return 0
	case p >= 1:
		return 1
	}
	return mathext.RegIncBeta(float64(k), float64(n-k+1), p)
}

// quantile is the smallest k with P(X <= k) >= q for X ~ Binomial(n, p).
func quantile(q float64, n int64, p float64) int64 {
	lo, hi := int64(0), n
	for lo < hi {
		mid := lo + (hi-lo)/2
		if 1-tail(mid+1, n, p) >= q {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}

// isRate says whether v is a number from 0 to 1.
func isRate(v float64) bool { return !math.IsNaN(v) && v >= 0 && v <= 1 }
