package e2e

import (
	"testing"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// README: "How far above the stable version's error rate it may lie, in points: that it lies below is proven before 100", and "Requests that a
// candidate may fail before it can be taken back". A candidate that is half a point worse than a stable version that fails 0.1% keeps to every
// absolute limit, and to its probes it is good. It is taken back all the same, because it is worse, and never has all the traffic.
func TestSlightlyWorseVersionIsTakenBack(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name, better, worse, budget = "slightly", "fails-0.1", "fails-0.6", 400
	deployImage(t, s, name, "registry.example.com/lab/till:"+better, "steps=auto", "hold=2s", "max-increase=", "max-failed-requests=400")
	await(t, s, name, "to be adopted", scene.Stable("v1"))
	users := through(t, s, name+".example.com", 500)
	follow(t, s, name, func(ts *v1alpha1.TrafficShift) {
		if st := ts.Status.State; st.Weight == v1alpha1.Whole || st.Stable == "v2" {
			t.Errorf("v2 has a weight of %s, %s is stable: %s", st.Weight, st.Stable, ts.Status.Message)
		}
	})
	if err := s.SetImage(t.Context(), name, "registry.example.com/lab/till:"+worse); err != nil {
		t.Fatal(err)
	}
	ts, err := s.Await(t.Context(), 3*patience, name, "to take the slightly worse version back", scene.Rejected("v2")) // it takes 30,000 requests
	if err != nil {
		t.Fatal(err)
	}
	got := ts.Status.History[0]
	if got.Reason != v1alpha1.ReasonErrorRateVsStable {
		t.Errorf("v2 ended as %s: %s; want %s", got.Reason, got.Message, v1alpha1.ReasonErrorRateVsStable)
	}
	r := users.Report()
	if failed := r.Answers[worse][500]; failed > budget {
		t.Errorf("%d requests met a failure of v2; its budget is %d", failed, budget)
	}
	t.Logf("v1 failed %d of %d, v2 %d of %d at up to %s", r.Answers[better][500], count(r, better), r.Answers[worse][500], count(r, worse), got.Weight)
}
