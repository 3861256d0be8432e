package e2e

import (
	"slices"
	"testing"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/lab/load"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// TestDemoDP is scenario 6, from the files of examples/demo-dp. Its README: "the loop sees v1, for a moment both, then v2, and no failure", and "should
// v2 fail its users, they are back on v1 within seconds": the next image fails them, after it was good to its probes.
func TestDemoDP(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "demo-dp"
	if err := s.Apply(t.Context(), "examples/demo-dp"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { leave(t, s, name) })
	await(t, s, name, "to be adopted", scene.Stable("v1"))
	addr, err := s.Plane.Gateway.WaitAddr(t.Context(), 80)
	if err != nil {
		t.Fatal(err)
	}
	loop, err := load.Start(t.Context(), load.Config{URL: "http://" + addr + "/", Host: name + ".example.com", Rate: 60, Fresh: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { loop.Stop() })

	var weights []v1alpha1.Permille
	follow(t, s, name, func(ts *v1alpha1.TrafficShift) {
		if w := ts.Status.State.Weight; !slices.Contains(weights, w) {
			weights = append(weights, w)
		}
	})
	if err := s.SetImage(t.Context(), name, registry+"demo-dp:v2"); err != nil {
		t.Fatal(err)
	}
	ts := await(t, s, name, "to be promoted", scene.Stable("v2"))
	if got := ts.Status.History[0]; got.Reason != v1alpha1.ReasonPromoted {
		t.Errorf("v2 ended as %+v", got)
	}
	before := loop.Report().Total
	if err := loop.WaitFor(t.Context(), func(r load.Report) bool { return r.Total >= before+100 }); err != nil {
		t.Fatal(err)
	}
	lossless(t, loop)
	if r := loop.Report(); r.ByVersion["v1"] == 0 || r.ByVersion["v2"] < 100 {
		t.Errorf("the loop saw %v; want v1, then v2", r.ByVersion)
	}

	if err := s.SetImage(t.Context(), name, registry+"kubia:v3-users"); err != nil {
		t.Fatal(err)
	}
	ts = await(t, s, name, "to be back on v2", scene.Rejected("v3"))
	if got := ts.Status.History[0]; got.Weight != "100%" || !slices.Contains([]string{v1alpha1.ReasonErrorRate, v1alpha1.ReasonErrorRateVsStable}, got.Reason) {
		t.Errorf("v3 ended as %s at %s: %s; want it convicted by its errors, of all users", got.Reason, got.Weight, got.Message)
	}
	eventually(t, "the loop to see v2 again", last(loop, "v2"))
	loop.Stop()
	withinSeconds(t, loop.Report().Answers["v3-users"][500], 60)
	failedBy(t, "v3-users", loop)
	for _, w := range weights {
		if w != 0 && w != v1alpha1.Whole {
			t.Errorf("a ladder of one step stood at %s", w)
		}
	}
}
