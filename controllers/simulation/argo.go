package simulation

// argo is Argo Rollouts with the steps of its documentation, a pause after each, and a background analysis of the success rate over
// one minute.
type argo struct {
	// pause is the seconds at each step; least is the share of requests that must succeed.
	pause int
	least float64
}

const (
	argoInterval = 60
	argoWindow   = 60
	// argoFailures is the failureLimit: one more fails the analysis.
	argoFailures = 3
)

// release measures once a minute and goes up a step after each pause. A window without requests is not held against the canary.
func (a argo) release(w *world) (Result, error) {
	weights, failed := []float64{0.2, 0.4, 0.6, 0.8}, 0
	w.route(weights[0])
	for w.runTo(argoInterval); w.now <= Horizon; w.runTo(w.now + argoInterval) {
		if c := w.window(argoWindow); c.Requests > 0 && !succeeds(c, a.least) {
			failed++
		}
		if failed > argoFailures {
			return rollBack(w), nil
		}
		if w.now%a.pause != 0 {
			continue
		}
		step := w.now / a.pause
		if step == len(weights) {
			return promote(w), nil
		}
		w.route(weights[step])
	}
	return undecided(w), nil
}
