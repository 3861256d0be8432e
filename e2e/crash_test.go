package e2e

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// README: "The controller is killed: The mesh goes on as it is. The next controller reads its state and resumes at the same step." It is killed
// with SIGKILL once in every phase of a good release and of a bad one. Not parallel: it takes the controller away from everybody.
func TestControllerKilledInEveryPhase(t *testing.T) {
	s := stage(t)
	const name = "mortal"
	unannotated(t, s, name, app)
	users := within(t, s, name, "http://mortal.shop.svc.cluster.local/", 60)
	annotate(t, s, name)
	stageIs := func(want v1alpha1.Stage) func(*v1alpha1.TrafficShift) bool {
		return func(ts *v1alpha1.TrafficShift) bool { return ts.Status.State.Stage == want }
	}
	killAt := func(what string, when func(*v1alpha1.TrafficShift) bool) {
		t.Helper()
		at := await(t, s, name, what, when)
		kill(t, s)
		t.Logf("killed at %s %s, weight %s", at.Status.Phase, at.Status.State.Stage, at.Status.State.Weight)
	}
	killAt("to be adopted half-way", func(ts *v1alpha1.TrafficShift) bool { return ts.Status.Phase == v1alpha1.PhaseAdopting })
	await(t, s, name, "to be adopted all the same", scene.Stable("v1"))

	release(t, s, name, "v2")
	killAt("to prepare", stageIs(v1alpha1.StagePreparing))
	killAt("to be exposed", stageIs(v1alpha1.StageExposing))
	killAt("to prove 5%", proven(50))
	killAt("to be raised to 50%", heldAt(500))
	killAt("to bake", stageIs(v1alpha1.StageBaking))
	killAt("to be promoted", func(ts *v1alpha1.TrafficShift) bool { return ts.Status.Stable == "v2" })
	await(t, s, name, "to put the old version away", scene.Stable("v2"))
	lossless(t, users)

	release(t, s, name, "v3", "ERROR_RATE=1")
	killAt("to be raised to 5%", heldAt(50))
	ts := await(t, s, name, "to be rolled back", func(ts *v1alpha1.TrafficShift) bool {
		return scene.Rejected("v3")(ts) || ts.Status.Phase == v1alpha1.PhaseRollingBack
	})
	kill(t, s)
	t.Logf("killed at %s", ts.Status.Phase)
	putAway(t, s, name, "v3")
	for _, f := range users.Report().Failures {
		if f.Version != "v3" {
			t.Errorf("a client saw a failure that the bad version did not produce: %+v", f)
		}
	}
}

// kill sends SIGKILL to the controller; the node agent restarts it as a kubelet does.
func kill(t *testing.T, s *scene.Scene) {
	t.Helper()
	var pods corev1.PodList
	if err := s.Client.List(t.Context(), &pods, client.InNamespace(scene.Namespace)); err != nil {
		t.Fatal(err)
	}
	for _, p := range pods.Items {
		if err := s.Agent.Kill(types.NamespacedName{Namespace: p.Namespace, Name: p.Name}); err != nil {
			t.Fatal(err)
		}
	}
}
