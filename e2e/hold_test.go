package e2e

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// watchFor asserts that something stays true of a shift for a while.
func watchFor(t *testing.T, s *scene.Scene, name string, while time.Duration, what string, holds func(*v1alpha1.TrafficShift) bool) {
	t.Helper()
	ticker := time.NewTicker(250 * time.Millisecond)
	defer ticker.Stop()
	for end := time.Now().Add(while); time.Now().Before(end); <-ticker.C {
		ts, err := s.Shift(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if !holds(ts) {
			t.Fatalf("%s did not %s: %s weight %q: %s", name, what, ts.Status.Phase, ts.Status.Weight, ts.Status.Message)
		}
	}
}

func heldAt(weight v1alpha1.Permille) func(*v1alpha1.TrafficShift) bool {
	return func(ts *v1alpha1.TrafficShift) bool {
		return ts.Status.Phase == v1alpha1.PhaseProgressing && ts.Status.State.Weight == weight
	}
}

// README: "No traffic: The weight holds until there is something to judge by."
func TestNoTrafficHolds(t *testing.T) {
	s := stage(t)
	t.Parallel()
	service(t, s, "quiet")
	release(t, s, "quiet", "v2")
	await(t, s, "quiet", "to wait for evidence", func(ts *v1alpha1.TrafficShift) bool {
		return ts.Status.State.Stage == v1alpha1.StageExposing && meta.IsStatusConditionFalse(ts.Status.Conditions, v1alpha1.ConditionEvidenceAvailable)
	})
	watchFor(t, s, "quiet", 10*time.Second, "hold without traffic", heldAt(0))
	users := through(t, s, "quiet.example.com", 40)
	await(t, s, "quiet", "to go on once there is traffic", proven(50))
	users.Stop()
	watchFor(t, s, "quiet", 10*time.Second, "hold when the traffic stops", func(ts *v1alpha1.TrafficShift) bool {
		return ts.Status.Phase == v1alpha1.PhaseProgressing && ts.Status.State.Weight <= 500
	})
	lossless(t, users)
}

// README: "Prometheus is down, stale, or has no series: The weight holds; EvidenceAvailable says why. Nothing is promoted and nothing rolled
// back." Not parallel: it takes Prometheus away from everybody.
func TestPrometheusKilledMidShiftHolds(t *testing.T) {
	s := stage(t)
	service(t, s, "blind")
	users := through(t, s, "blind.example.com", 40)
	release(t, s, "blind", "v2")
	await(t, s, "blind", "to prove 5%", proven(50))
	s.StopPrometheus()
	ts := await(t, s, "blind", "to say that evidence is missing", func(ts *v1alpha1.TrafficShift) bool {
		return meta.IsStatusConditionFalse(ts.Status.Conditions, v1alpha1.ConditionEvidenceAvailable)
	})
	weight := ts.Status.State.Weight
	watchFor(t, s, "blind", 15*time.Second, "hold without Prometheus", heldAt(weight))
	if err := s.StartPrometheus(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, s, "blind", "to be promoted once Prometheus is back", scene.Stable("v2"))
	lossless(t, users)
}

// README: "sluice.dev/paused: Keep the weights where they are. A bad candidate is still taken back."
func TestPauseHoldsAndAbortStillActs(t *testing.T) {
	s := stage(t)
	t.Parallel()
	service(t, s, "paused")
	users := through(t, s, "paused.example.com", 40)
	release(t, s, "paused", "v2")
	await(t, s, "paused", "to prove 5%", proven(50))
	if err := s.Annotate(t.Context(), deployment("paused"), map[string]string{v1alpha1.AnnotationPaused: "true"}); err != nil {
		t.Fatal(err)
	}
	await(t, s, "paused", "to pause", func(ts *v1alpha1.TrafficShift) bool { return ts.Spec.Paused })
	weight := await(t, s, "paused", "to say so", func(ts *v1alpha1.TrafficShift) bool {
		c := meta.FindStatusCondition(ts.Status.Conditions, v1alpha1.ConditionProgressing)
		return c != nil && c.Reason == v1alpha1.ReasonPaused
	}).Status.State.Weight
	watchFor(t, s, "paused", 10*time.Second, "stay where it was paused", heldAt(weight))
	if err := s.Annotate(t.Context(), shiftOf("paused"), map[string]string{v1alpha1.AnnotationAbort: "v2"}); err != nil {
		t.Fatal(err)
	}
	ts := await(t, s, "paused", "to be aborted while paused", scene.Rejected("v2"))
	if got := ts.Status.History[0].Reason; got != v1alpha1.ReasonAborted {
		t.Errorf("the aborted candidate ended as %s", got)
	}
	if err := s.Annotate(t.Context(), deployment("paused"), map[string]string{v1alpha1.AnnotationPaused: ""}); err != nil {
		t.Fatal(err)
	}
	if err := s.Annotate(t.Context(), shiftOf("paused"), map[string]string{v1alpha1.AnnotationRetry: "v2"}); err != nil {
		t.Fatal(err)
	}
	await(t, s, "paused", "to be promoted when it is tried again", scene.Stable("v2"))
	lossless(t, users)
}
