package e2e

import (
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
