package analysis

const (
	// shareTail is what lies beyond each end of the central 99.9% of a binomial distribution.
	shareTail = 0.0005
	// stragglers is the share of requests that may still reach another version at weight 1: those that were under way, and
	// connections of clients that have not read their new routes.
	stragglers = 0.005
	// noHostMargin is how far failures without a host may rise above the service's own share of them: half a point.
	noHostMargin = 0.005
	// noHostLeast is how many of them it takes to speak of a rise.
	noHostLeast = 3
)

// ShareMatches says whether the candidate's requests are as many as its weight (from 0 to 1) lets expect, and the least and
// the largest share that are: the central 99.9% interval of Binomial(total, weight), because the mesh draws the version of each
// request independently (Envoy's weighted clusters). At least one request must have reached the candidate. The counts should
// be of a short and recent time: requests from before the weight was written shift the share for as long as they are counted.
func ShareMatches(candidate, total int64, weight float64) (ok bool, lo, hi float64) {
	if candidate < 0 || total <= 0 || candidate > total || !isRate(weight) {
		return false, 0, 0
	}
	if weight == 1 {
		lo, hi = 1-stragglers, 1
		return ratio(candidate, total) >= lo, lo, hi
	}
	least, most := quantile(shareTail, total, weight), quantile(1-shareTail, total, weight)
	lo, hi = ratio(least, total), ratio(most, total)
	return candidate >= max(least, 1) && candidate <= most, lo, hi
}

// ShareReaches says whether a version that has more than its weight got at least the requests that the weight alone explains, and which
// share of them that is.
func ShareReaches(candidate, total int64, weight float64) (ok bool, lo float64) {
	if ok, lo, _ = ShareMatches(candidate, total, weight); lo == 0 && !ok {
		return candidate > 0 && candidate <= total && isRate(weight), lo
	}
	return ok || ratio(candidate, total) >= lo, lo
}

// NoHostAbove says whether more of the total requests failed without a host than the service's own share of such failures
// (in parts per million) plus half a point explains. The total includes them.
func NoHostAbove(noHost, total int64, baselinePPM int64) bool {
	if noHost < noHostLeast || noHost > total || baselinePPM < 0 {
		return false
	}
	return tail(noHost, total, float64(baselinePPM)/1e6+noHostMargin) < chance
}
