package analysis

import "math"

// alternatives is how many alternatives a mixture bets on.
const alternatives = 7

// excesses are the alternatives for harm: how far above the null's line the candidate's rate may lie, from a small regression to a
// version that answers nothing.
var excesses = [alternatives]float64{.004, .012, .04, .12, .35, .75, .99}

const (
	// insurance is the part of the stake that is kept out of each bet, so that no single block can erase more than 3 nats.
	insurance = 0.05
	// logAlternatives spreads the stake evenly over the alternatives.
	logAlternatives = 1.9459101490553132 // log 7
)

// mixture is an e-process for "went bad at some time": at each block t it spends the mass 1/(t(t+1)) on harm that begins there
// (Shiryaev's mixture), spread evenly over the alternatives. A candidate that was healthy for long therefore costs log t(t+1) nats and
// not the sum of all its good evidence. E[E_t] <= 1 on the null: each S_g grows by the mass that the reserve loses.
//
//	S_g <- (S_g + w_t) L'_g,  w_t = 1/(t(t+1)),  E_t = mean_g S_g + 1/(t+1)
//
// By Ville's inequality P(sup_t E_t >= 1/alpha) <= alpha: one may look at it after every block. The zero mixture has seen nothing.
type mixture struct {
	// T counts the blocks; S are the log S_g, which have no meaning while T is 0.
	T int                   `json:"t,omitempty"`
	S [alternatives]float64 `json:"s,omitzero"`
	// Burst is what log E would be had the last block not been capped.
	Burst float64 `json:"b,omitempty"`
}

// add bets on one block, whose log e-values are logL. They are tempered by phi >= 1 (for bursts: an e-value to a power below 1 is one,
// by Jensen), capped at limit (so that no single block decides), and insured.
func (m *mixture) add(logL [alternatives]float64, phi, limit float64) {
	started := m.T > 0
	m.T++
	onset := -math.Log(float64(m.T) * float64(m.T+1))
	uncapped := math.Inf(-1)
	for g, l := range logL {
		stake := onset
		if started {
			stake = logAdd(m.S[g], onset)
		}
		l /= phi
		uncapped = logAdd(uncapped, stake+insured(l))
		m.S[g] = stake + insured(min(l, limit))
	}
	m.Burst = logAdd(uncapped-logAlternatives, m.reserve())
}

// insured is log(insurance + (1-insurance) exp(l)).
func insured(l float64) float64 {
	return logAdd(math.Log(insurance), math.Log1p(-insurance)+l)
}

// reserve is the log of the mass that is kept for harm that begins later.
func (m *mixture) reserve() float64 { return -math.Log(float64(m.T + 1)) }

// log is log E.
func (m *mixture) log() float64 {
	if m.T == 0 {
		return 0
	}
	sum := m.S[0]
	for _, s := range m.S[1:] {
		sum = logAdd(sum, s)
	}
	return logAdd(sum-logAlternatives, m.reserve())
}

// burst is log E without the cap on the last block.
func (m *mixture) burst() float64 { return max(m.Burst, m.log()) }

// slack is what sums of logarithms may be off by.
const slack = 1e-6

// sane reports whether so many blocks can give these numbers: no block weighs more than the cap, nor takes more than the insurance leaves.
func (m *mixture) sane() bool {
	const mostBlocks, mostBurst = 1 << 40, 1e18
	if m.T < 0 || m.T > mostBlocks || !(math.Abs(m.Burst) <= mostBurst) {
		return false
	}
	t := float64(m.T)
	for _, s := range m.S {
		if m.T > 0 && !(s <= t*logAlpha+slack && s >= math.Log(insurance)-math.Log(t*(t+1))-slack) {
			return false
		}
	}
	return true
}
