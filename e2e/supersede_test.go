package e2e

import (
	"slices"
	"testing"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// README: "A new template in the middle of a shift: The candidate goes to 0 first; then the newer one starts. Going back to the stable
// template is a cancel."
func TestNewTemplateInTheMiddle(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "hasty"
	service(t, s, name)
	users, insiders := through(t, s, name+".example.com", 40), within(t, s, name, "http://hasty.shop.svc.cluster.local/", 40)

	release(t, s, name, "v2")
	await(t, s, name, "to be at 50%", proven(500))
	release(t, s, name, "v3")
	ts := await(t, s, name, "to promote v3", scene.Stable("v3"))
	if got := ts.Status.History[1]; got.Version != "v2" || got.Reason != v1alpha1.ReasonSuperseded {
		t.Errorf("v2 ended as %+v; want it superseded", got)
	}

	release(t, s, name, "v4")
	await(t, s, name, "to be at 50%", proven(500))
	release(t, s, name, "v3") // what users are on
	ts = await(t, s, name, "to cancel v4", func(ts *v1alpha1.TrafficShift) bool {
		return scene.Stable("v3")(ts) && ts.Status.History[0].Version == "v4"
	})
	if got := ts.Status.History[0].Reason; got != v1alpha1.ReasonCancelled {
		t.Errorf("v4 ended as %s; want it cancelled, which is no failure", got)
	}
	lossless(t, users, insiders)
}

// README: "A new template in the middle of a shift", of a candidate that is bad: whether the newer one is bad too or good, it is judged by what it
// does itself.
func TestNewTemplateAfterABadOne(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "mended"
	service(t, s, name)
	users := through(t, s, name+".example.com", 60)
	never := func(candidate, tag string) {
		t.Helper()
		image(t, s, name, "registry.example.com/lab/never-ready:"+tag)
		await(t, s, name, "to wait for pods of "+candidate, func(ts *v1alpha1.TrafficShift) bool {
			return ts.Status.State.Candidate == candidate && ts.Status.State.Stage == v1alpha1.StagePreparing
		})
	}
	ended := func(ts *v1alpha1.TrafficShift, version string, reasons ...string) {
		t.Helper()
		i := slices.IndexFunc(ts.Status.History, func(r v1alpha1.Outcome) bool { return r.Version == version })
		if i < 0 || !slices.Contains(reasons, ts.Status.History[i].Reason) {
			t.Errorf("the history says %+v; want %s to have ended as one of %v", ts.Status.History, version, reasons)
		}
	}

	never("v2", "1")
	image(t, s, name, registry+"kubia:v3-users")
	ts := await(t, s, name, "to refuse the second bad one in a row", scene.Rejected("v3"))
	ended(ts, "v2", v1alpha1.ReasonSuperseded)
	ended(ts, "v3", v1alpha1.ReasonErrorRate, v1alpha1.ReasonErrorRateVsStable)
	eventually(t, "users to be on v1", last(users, "v1"))

	never("v4", "2")
	image(t, s, name, registry+"kubia:v4")
	ts = await(t, s, name, "to promote the good one", scene.Stable("v5"))
	ended(ts, "v4", v1alpha1.ReasonSuperseded)
	eventually(t, "users to be on it", last(users, "v4"))
	failedBy(t, "v3-users", users)
}
