package e2e

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// README: "Pods that do not start, crash, or lose readiness before their first weight: Refused before a user meets them."
func TestImagesThatNeverRun(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ name, image, reason, says string }{
		"CannotBePulled": {"unpulled", "registry.example.com/nobody/knows:1", v1alpha1.ReasonNotReadyInTime, "Pull"},
		"NeverReady":     {"unready", "registry.example.com/lab/never-ready:1", v1alpha1.ReasonNotReadyInTime, "0 of 1 available"},
		"CrashLoops":     {"crashing", "registry.example.com/lab/crash-loop:1", v1alpha1.ReasonCandidateUnstable, "a pod of v2"},
	}
	for title, tc := range tests {
		t.Run(title, func(t *testing.T) {
			s := stage(t)
			t.Parallel()
			service(t, s, tc.name, "deadline=40s")
			users := through(t, s, tc.name+".example.com", 20)
			if err := s.SetImage(t.Context(), tc.name, tc.image); err != nil {
				t.Fatal(err)
			}
			ts := await(t, s, tc.name, "to be refused", scene.Rejected("v2"))
			got := ts.Status.History[0]
			if got.Reason != tc.reason || got.Weight != "0%" || !strings.Contains(got.Message, tc.says) {
				t.Errorf("ended as %s at %s: %q; want %s at 0%%, saying %q", got.Reason, got.Weight, got.Message, tc.reason, tc.says)
			}
			lossless(t, users)
		})
	}
}

// README: "`sluice.dev/max-latency`: Limit on a percentile, counted at the histogram bound that is not below it." The status says which that is.
func TestSlowVersionIsTakenBack(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "sluggish"
	service(t, s, name, "max-latency=p99<120ms")
	users := through(t, s, name+".example.com", 40)
	var bound atomic.Bool
	follow(t, s, name, func(ts *v1alpha1.TrafficShift) {
		if c := condition(ts, v1alpha1.ConditionEvidenceAvailable); c != nil && strings.Contains(c.Message, "slow is above 250ms, the histogram's bound next to 120ms") {
			bound.Store(true)
		}
	})
	release(t, s, name, "v2", "LATENCY=300ms")
	ts := await(t, s, name, "to take the slow version back", scene.Rejected("v2"))
	if got := ts.Status.History[0]; got.Reason != v1alpha1.ReasonLatency && got.Reason != v1alpha1.ReasonLatencyVsStable {
		t.Errorf("the slow version ended as %s: %s", got.Reason, got.Message)
	}
	if !bound.Load() {
		t.Error("no condition says at which bound of the histogram requests are counted as slow")
	}
	lossless(t, users)
}
