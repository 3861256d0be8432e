package simulation

import "github.com/sluice-dev/sluice/metrics/analysis"

// flagger is Flagger's analysis loop (pkg/controller/scheduler.go, advanceCanary) with its builtin metric request-success-rate over
// one minute: at least 99% must succeed.
type flagger struct {
	// interval is the seconds between two ticks; threshold is how many checks may fail; step is what the weight rises by.
	interval, threshold int
	step                float64
}

const (
	flaggerWindow = 60
	flaggerLeast  = 0.99
	flaggerMax    = 0.5
)

// release ticks. Failed checks add up and are never forgiven; a window without requests is a failed check; the canary is rolled back
// on the tick after the one that reached the threshold, and promoted once a check passes at the maximum weight.
func (f flagger) release(w *world) (Result, error) {
	steps, failed := 1, 0
	w.route(f.step)
	for w.runTo(f.interval); w.now <= Horizon; w.runTo(w.now + f.interval) {
		switch weight := float64(steps) * f.step; {
		case failed >= f.threshold:
			return rollBack(w), nil
		case !succeeds(w.window(flaggerWindow), flaggerLeast):
			failed++
		case weight >= flaggerMax-f.step/2: // the last of the steps, whatever their sum rounds to
			return promote(w), nil
		default:
			steps++
			w.route(float64(steps) * f.step)
		}
	}
	return undecided(w), nil
}

// succeeds reports whether at least a share of some requests succeeded. Where there is none, it cannot be told, and did not.
func succeeds(c analysis.Counts, least float64) bool {
	return c.Requests > 0 && float64(c.Requests-c.Errors) >= least*float64(c.Requests)
}
