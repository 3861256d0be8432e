package e2e

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/lab/load"
	"github.com/sluice-dev/sluice/e2e/lab/mesh"
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

func pause(t *testing.T, s *scene.Scene, name, value string) {
	t.Helper()
	if err := s.Annotate(t.Context(), deployment(name), map[string]string{v1alpha1.AnnotationPaused: value}); err != nil {
		t.Fatal(err)
	}
}

func heldAt(weight v1alpha1.Permille) func(*v1alpha1.TrafficShift) bool {
	return func(ts *v1alpha1.TrafficShift) bool {
		return ts.Status.Phase == v1alpha1.PhaseProgressing && ts.Status.State.Weight == weight
	}
}

// paces are the two ways of choosing weights: what holds the one must hold the other.
var paces = map[string][]string{"ladder": nil, "auto": {"steps=auto", "hold=2s"}}

// README: "No traffic: The weight holds until there is something to judge by."
func TestNoTrafficHolds(t *testing.T) {
	t.Parallel()
	for pace, annotations := range paces {
		t.Run(pace, func(t *testing.T) {
			s := stage(t)
			t.Parallel()
			name := "quiet-" + pace
			service(t, s, name, annotations...)
			release(t, s, name, "v2")
			await(t, s, name, "to wait for evidence", func(ts *v1alpha1.TrafficShift) bool {
				return ts.Status.State.Stage == v1alpha1.StageExposing && meta.IsStatusConditionFalse(ts.Status.Conditions, v1alpha1.ConditionEvidenceAvailable)
			})
			watchFor(t, s, name, 5*time.Second, "hold without traffic", heldAt(0))
			users := through(t, s, name+".example.com", 40)
			await(t, s, name, "to go on once there is traffic", func(ts *v1alpha1.TrafficShift) bool {
				return ts.Status.State.Weight > 0
			})
			users.Stop()
			var weight v1alpha1.Permille
			watchFor(t, s, name, 10*time.Second, "hold when the traffic stops", func(ts *v1alpha1.TrafficShift) bool {
				weight = ts.Status.State.Weight // what was seen before may still raise it
				return ts.Status.Phase == v1alpha1.PhaseProgressing && weight <= 500
			})
			watchFor(t, s, name, 6*time.Second, "hold where the traffic stopped", heldAt(weight))
			again := through(t, s, name+".example.com", 80)
			await(t, s, name, "to be promoted when it is back", scene.Stable("v2"))
			lossless(t, users, again)
		})
	}
}

// README: "Prometheus is down, stale, or has no series: The weight holds; EvidenceAvailable says why. Nothing is promoted and nothing rolled
// back." Nor is anything when it comes back with what it had, or when a proxy counts from 0 again. Not parallel: it takes Prometheus away from
// everybody.
func TestPrometheusKilledMidShiftHolds(t *testing.T) {
	s := stage(t)
	users := map[string]*load.Source{}
	for pace, annotations := range paces {
		deploy(t, s, "blind-"+pace, annotations...)
	}
	for pace := range paces {
		name := "blind-" + pace
		await(t, s, name, "to be adopted", scene.Stable("v1"))
		users[name] = through(t, s, name+".example.com", 60)
		least := v1alpha1.Permille(0)
		follow(t, s, name, func(ts *v1alpha1.TrafficShift) {
			if st := ts.Status.State; st.Weight < least && st.Stable == "v1" || ts.Status.Rejected != "" || st.Gate.Retreats > 0 {
				t.Errorf("%s went back from %s: %s", name, least, ts.Status.Message)
			} else {
				least = st.Weight
			}
		})
		release(t, s, name, "v2")
		await(t, s, name, "to have a weight", func(ts *v1alpha1.TrafficShift) bool { return ts.Status.State.Weight > 0 })
		pause(t, s, name, "true") // so that neither is done before the other has begun
	}
	s.StopPrometheus()
	held := map[string]v1alpha1.Permille{}
	for name := range users {
		ts := await(t, s, name, "to say that evidence is missing", func(ts *v1alpha1.TrafficShift) bool {
			return meta.IsStatusConditionFalse(ts.Status.Conditions, v1alpha1.ConditionEvidenceAvailable)
		})
		if held[name] = ts.Status.State.Weight; held[name] == v1alpha1.Whole {
			t.Errorf("%s has all the traffic before Prometheus was killed", name)
		}
	}
	for name := range users {
		pause(t, s, name, "false")
	}
	watchFor(t, s, "blind-auto", 15*time.Second, "hold without Prometheus", heldAt(held["blind-auto"]))
	watchFor(t, s, "blind-ladder", time.Second, "hold without Prometheus", heldAt(held["blind-ladder"]))
	if err := s.StartPrometheus(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name := range users {
		await(t, s, name, "to count again", func(ts *v1alpha1.TrafficShift) bool {
			return meta.IsStatusConditionTrue(ts.Status.Conditions, v1alpha1.ConditionEvidenceAvailable)
		})
	}
	gateway := mesh.IngressGateway()
	s.Plane.Telemetry.Restart(gateway.Namespace, gateway.Pod)
	for name, source := range users {
		ts := await(t, s, name, "to be promoted once Prometheus is back", scene.Stable("v2"))
		if got := ts.Status.History[0]; got.Reason != v1alpha1.ReasonPromoted {
			t.Errorf("%s ended as %+v", name, got)
		}
		lossless(t, source)
	}
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
