package analysis

import "math"

const (
	// alpha bounds the probability that a candidate that does no harm is taken back; beta that one is promoted that was worse by
	// maxIncrease all along.
	alpha = 0.001
	beta  = 0.05
	// relativeMargin and errorMargin are the harm that is none: a quarter more than stable and 0.1 points; slowMargin is the latter for
	// slow requests. slowIncrease is how many more slow requests may be promoted: two points.
	relativeMargin = 0.25
	errorMargin    = 0.001
	slowMargin     = 0.005
	slowIncrease   = 0.02
	// usualErrors and usualSlow are assumed of a service that was never seen.
	usualErrors = 0.001
	usualSlow   = 0.01
)

// logAlpha is log(1/alpha): the evidence that convicts. It caps every block, so that no single scrape can.
var logAlpha = -math.Log(alpha)

// margins are the questions put to one metric.
type margins struct {
	// harm is the null of no harm, increase the largest increase that may be promoted, limit the owner's absolute one.
	harm     null
	increase float64
	limit    float64
	prior    float64
}

// advance is the null of too large an increase, which the proof for promotion rejects. An increase that no rate is left for is not one.
func (m margins) advance() null {
	const most = 0.99
	return null{1, min(m.increase, most)}
}

// metric is the memory of one metric: the share of requests that failed, or that were slow.
type metric struct {
	// Harm is the evidence that the candidate is worse than stable; Limit that it breaks the absolute limit.
	Harm  mixture `json:"h,omitzero"`
	Limit mixture `json:"l,omitzero"`
	// Advance are the logs of the evidence that it is not worse by more than may be promoted, for two alternatives: as good as stable,
	// and worse by a quarter of that.
	Advance [2]float64 `json:"a,omitzero"`
	// Usual is what stable usually does.
	Usual usual `json:"u,omitzero"`
	// Rate is the candidate's rate in the last block.
	Rate float64 `json:"r,omitempty"`
}

// bet takes one block of both versions as evidence.
func (m *metric) bet(d block, q margins) {
	a := m.Usual.rate(q.prior)
	m.Harm.add(harmOf(a, d, q.harm), m.Usual.tempering(a, d, q.harm), logAlpha)
	h := q.advance()
	phi := m.Usual.tempering(a, d, h)
	for i, b := range [2]float64{a, a + h.delta/4} {
		m.Advance[i] += insured(logE(a, b, d, h) / phi)
	}
}

// harmOf are the log e-values of a block for each alternative for harm. An alternative must lie beyond the null's line, and where stable
// fails so often that none does, nothing is bet.
func harmOf(a float64, d block, h null) (logL [alternatives]float64) {
	const most = 0.999
	line := h.boundary(a)
	for g, x := range excesses {
		if b := min(max(a+x, line+x/2), most); b > line {
			logL[g] = logE(a, b, d, h)
		}
	}
	return logL
}

// betAlone takes one block of the candidate as evidence that its rate is above the limit, whatever stable does: the one-sample
// likelihood ratio (p/p0)^k ((1-p)/(1-p0))^(n-k), p above p0.
func (m *metric) betAlone(k, n float64, q margins) {
	const least, most = 1e-5, 0.999
	p0 := max(q.limit, least)
	var logL [alternatives]float64
	for g, x := range excesses {
		if p := min(p0+x, most); p > p0 {
			logL[g] = k*math.Log(p/p0) + (n-k)*(math.Log1p(-p)-math.Log1p(-p0))
		}
	}
	m.Limit.add(logL, m.Usual.tempering(p0, block{nc: n}, null{1, 0}), logAlpha)
}

// proof is log E of the proof for promotion.
func (m *metric) proof() float64 {
	return logAdd(m.Advance[0], m.Advance[1]) - math.Ln2
}
