package shift_test

import (
	"testing"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// from fails a fifth of all requests without a host as soon as the candidate has that much.
func from(weight v1alpha1.Permille) func(v1alpha1.Permille) float64 {
	return func(share v1alpha1.Permille) float64 {
		if share >= weight {
			return 0.2
		}
		return 0
	}
}

// Failures without a host (UH, NC, NR, UO) belong to no version: the design lets them send the candidate back to its last good weight,
// and convict it only where they go on there.

func TestFailuresWithoutAHostAtTheFirstWeightAbort(t *testing.T) {
	w := adopted(t)
	w.noHost = from(1)
	w.release(2)
	w.run(100, w.at(v1alpha1.PhaseFailed))
	if got := w.ended[0]; got.Reason != v1alpha1.ReasonNoHealthyUpstream || got.Weight != "5%" {
		t.Errorf("outcome %+v; want %s at 5%%", got, v1alpha1.ReasonNoHealthyUpstream)
	}
}

func TestFailuresWithoutAHostGoBackToTheLastGoodWeight(t *testing.T) {
	w := adopted(t)
	w.noHost = from(500)
	w.release(2)
	w.run(100, w.atWeight(500))
	w.run(20, w.atWeight(50))
	if w.state.Phase != v1alpha1.PhaseProgressing || len(w.ended) != 0 {
		t.Fatalf("after the first failures: %s, outcomes %+v; want v2 still in the running", w.last, w.ended)
	}
	w.noHost = from(2000)
	w.run(200, w.stableIs("v2"))
}

func TestFailuresWithoutAHostThatPersistAbort(t *testing.T) {
	w := adopted(t)
	w.noHost = from(500)
	w.release(2)
	w.run(100, w.atWeight(500))
	w.noHost = from(1)
	w.run(100, w.at(v1alpha1.PhaseFailed))
	if got := w.ended[0]; got.Reason != v1alpha1.ReasonNoHealthyUpstream || got.Weight != "50%" {
		t.Errorf("outcome %+v; want %s, with 50%% as the most it had", got, v1alpha1.ReasonNoHealthyUpstream)
	}
}

func TestFailuresWithoutAHostFromBeforeTheShiftAreTheServicesOwn(t *testing.T) {
	w := adopted(t)
	w.noHost = from(0)
	w.release(2)
	w.run(300, w.stableIs("v2"))
}

// A candidate at 50% whose stable version has lost all its pods must not hand traffic to nobody: the failures are stable's.
func TestFailuresWithoutAHostNeverSendTrafficToAVersionWithoutPods(t *testing.T) {
	w := adopted(t)
	w.release(2)
	w.run(100, w.atWeight(500))
	w.broken[1], w.versions["v1"].ready = true, 0
	w.noHost = from(1)
	w.wait(20)
	if got := w.weight("v2"); got < 500 {
		t.Errorf("v2 went down to %s while v1 has no ready pod: %s", got, w.last)
	}
	if w.last.Reason != v1alpha1.ReasonStableUnavailable {
		t.Errorf("reason %s; want %s", w.last.Reason, v1alpha1.ReasonStableUnavailable)
	}
}
