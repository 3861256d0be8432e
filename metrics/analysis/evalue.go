package analysis

import "math"

// null is a half-plane of pairs of rates that a test may reject: p_candidate <= slope*p_stable + delta where harm is asked about, and
// p_candidate >= slope*p_stable + delta where the absence of harm is. A relative and an absolute margin in one line.
type null struct{ slope, delta float64 }

// boundary is the candidate's rate on the line.
func (h null) boundary(stable float64) float64 { return h.slope*stable + h.delta }

// block is what both versions did at the same time: k of n failed (or were slow).
type block struct{ ks, ns, kc, nc float64 }

// LogE is the logarithm of an e-value of one block against the null on the far side of slope*p_stable + delta, for the alternative that
// the stable version fails with rate a and the candidate with rate b, both chosen before the block is seen:
//
//	L = (a/x)^ks ((1-a)/(1-x))^(ns-ks) (b/y)^kc ((1-b)/(1-y))^(nc-kc),  y = slope*x + delta,
//	x = argmin ns*KL(a||x) + nc*KL(b||y)
//
// E[L] <= 1 on the whole null, whatever the stable rate is: log E[L] is concave in the two rates, 0 at (x, y), flat along the line there,
// and falls into the null on whose other side the alternative lies. That needs nothing but outcomes that are independent given the past;
// rates may jump from block to block, and the weights may depend on everything seen before. ns and nc must be above 0.
func LogE(a, b float64, ks, ns, kc, nc int64, slope, delta float64) float64 {
	return logE(a, b, block{float64(ks), float64(ns), float64(kc), float64(nc)}, null{slope, delta})
}

func logE(a, b float64, d block, h null) float64 {
	x := h.nearest(a, b, d.ns, d.nc)
	y := h.boundary(x)
	return d.ks*math.Log(a/x) + (d.ns-d.ks)*(math.Log1p(-a)-math.Log1p(-x)) +
		d.kc*math.Log(b/y) + (d.nc-d.kc)*(math.Log1p(-b)-math.Log1p(-y))
}

// nearest is the stable rate x of the point on the null's line that is hardest to tell from (a, b): it minimises
// ns*KL(a||x) + nc*KL(b||slope*x+delta), which is convex in x. The minimum lies between the two rates that either term alone would
// choose; Newton's method finds it there, and bisection takes over where a step would leave the bracket.
func (h null) nearest(a, b, ns, nc float64) float64 {
	const tiny, steps, precision = 1e-12, 60, 1e-13
	alone := (b - h.delta) / h.slope // where the candidate's term is 0
	lo := max(min(a, alone), tiny)
	hi := min(max(a, alone), (1-tiny-h.delta)/h.slope, 1-tiny)
	x := min(max((ns*a+nc*alone)/(ns+nc), lo), hi)
	for range steps {
		y := h.boundary(x)
		vx, vy := x*(1-x), y*(1-y)
		slope := ns*(x-a)/vx + nc*h.slope*(y-b)/vy
		if slope > 0 {
			hi = x
		} else {
			lo = x
		}
		curvature := ns*(a/(x*x)+(1-a)/((1-x)*(1-x))) + nc*h.slope*h.slope*(b/(y*y)+(1-b)/((1-y)*(1-y)))
		next := x - slope/curvature
		if !(next > lo && next < hi) {
			next = lo + (hi-lo)/2
		}
		if math.Abs(next-x) <= precision*x {
			return next
		}
		x = next
	}
	return x
}

// divergence is what a block of ns and nc requests is worth on average against the null where the rates truly are (a, b): the mean of
// logE, in nats.
func (h null) divergence(a, b, ns, nc float64) float64 {
	return logE(a, b, block{ns * a, ns, nc * b, nc}, h)
}

// logAdd is log(exp(a) + exp(b)).
func logAdd(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	if math.IsInf(b, -1) {
		return a
	}
	return a + math.Log1p(math.Exp(b-a))
}
