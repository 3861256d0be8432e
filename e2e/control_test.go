package e2e

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// require puts a request to a shift, as kubectl annotate does.
func require(t *testing.T, s *scene.Scene, name, key, value string) {
	t.Helper()
	if err := s.Annotate(t.Context(), shiftOf(name), map[string]string{key: value}); err != nil {
		t.Fatal(err)
	}
}

// answer is the newest answer of a shift.
func answer(ts *v1alpha1.TrafficShift) v1alpha1.ActionRecord {
	if len(ts.Status.Actions) == 0 {
		return v1alpha1.ActionRecord{}
	}
	return ts.Status.Actions[0]
}

// README: "`promote: v2` takes it on by one step, `v2/all` to 100", past a hold and a pause, and with the bake behind it.
func TestPromoteByOneStepAndToTheEnd(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "hurried"
	service(t, s, name, "hold=10m", "bake=5s", "steps=5,20,50,100")
	users := through(t, s, name+".example.com", 40)
	release(t, s, name, "v2")
	await(t, s, name, "to prove 5%", proven(50))
	require(t, s, name, v1alpha1.AnnotationPaused, "true")
	await(t, s, name, "to be paused", func(ts *v1alpha1.TrafficShift) bool { return answer(ts).Action == v1alpha1.ActionPause })
	require(t, s, name, v1alpha1.AnnotationPromote, "v2@5")
	await(t, s, name, "to take one step", heldAt(200))
	watchFor(t, s, name, 3*time.Second, "take one step alone", heldAt(200))
	require(t, s, name, v1alpha1.AnnotationPromote, "v2@5")
	await(t, s, name, "to refuse a step that was taken", func(ts *v1alpha1.TrafficShift) bool {
		return answer(ts).Result == v1alpha1.ResultRefused && heldAt(200)(ts)
	})
	require(t, s, name, v1alpha1.AnnotationPaused, "false")
	require(t, s, name, v1alpha1.AnnotationPromote, "v2/all")
	await(t, s, name, "to have all the traffic", proven(v1alpha1.Whole))
	ts := await(t, s, name, "to be promoted after its bake", scene.Stable("v2"))
	if got := ts.Status.History[0]; got.Reason != v1alpha1.ReasonPromoted || got.SkippedGatesBy != "" {
		t.Errorf("it ended as %+v", got)
	}
	lossless(t, users)
}

// README: "with `v2/skip-gates` no gate takes it back", though every request fails, and everybody can read who did it.
func TestSkipGatesOverAFailingGate(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "emergency"
	service(t, s, name, "bake=4s")
	through(t, s, name+".example.com", 40)
	release(t, s, name, "v2", "ERROR_RATE=0.9")
	await(t, s, name, "to refuse v2", scene.Rejected("v2"))
	require(t, s, name, v1alpha1.AnnotationRetry, "v2")
	await(t, s, name, "to try v2 again", func(ts *v1alpha1.TrafficShift) bool { return ts.Status.Candidate == "v2" })
	require(t, s, name, v1alpha1.AnnotationPromote, "v2/skip-gates")
	ts := await(t, s, name, "to be promoted whatever the gates say", scene.Stable("v2"))
	if got := ts.Status.History[0]; got.Reason != v1alpha1.ReasonPromoted || got.SkippedGatesBy == "" || got.SkippedGatesBy == "unknown" {
		t.Errorf("it ended as %+v; want who skipped the gates", got)
	}
}

// README: "`undo: v1` writes the template of that version into the Deployment again: a release, gated as any other".
func TestUndoToAnEarlierVersionIsGated(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "undone"
	service(t, s, name)
	users := through(t, s, name+".example.com", 60)
	release(t, s, name, "v2")
	await(t, s, name, "to promote v2", scene.Stable("v2"))
	require(t, s, name, v1alpha1.AnnotationUndo, "v1")
	await(t, s, name, "to climb with v1", func(ts *v1alpha1.TrafficShift) bool {
		return ts.Status.Candidate == "v1" && proven(50)(ts)
	})
	ts := await(t, s, name, "to promote v1", scene.Stable("v1"))
	if got := ts.Status.History[0]; got.Reason != v1alpha1.ReasonPromoted || got.Version != "v1" {
		t.Errorf("it ended as %+v; want v1 promoted, gated", got)
	}
	lossless(t, users)
}

// README: "`restart: v2` replaces the pods of the stable version", and no request is lost over it.
func TestRestartUnderLoadLosesNothing(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "restarted"
	service(t, s, name)
	outside, inside := through(t, s, name+".example.com", 80), within(t, s, name, "http://"+name+".shop.svc.cluster.local/", 80)
	version := func() *appsv1.Deployment {
		d := &appsv1.Deployment{}
		if err := s.Client.Get(t.Context(), inShop(name+"-v1"), d); err != nil {
			t.Fatal(err)
		}
		return d
	}
	was := version()
	require(t, s, name, v1alpha1.AnnotationRestart, "v1")
	deadline := time.Now().Add(patience)
	for d := version(); ; d = version() {
		st := d.Status
		if d.Generation > was.Generation && st.ObservedGeneration >= d.Generation && st.UpdatedReplicas == *d.Spec.Replicas && st.Replicas == st.UpdatedReplicas && st.AvailableReplicas == st.Replicas {
			break
		}
		if st.AvailableReplicas < *d.Spec.Replicas {
			t.Errorf("%d of %d pods are available during the restart", st.AvailableReplicas, *d.Spec.Replicas)
		}
		if time.Now().After(deadline) {
			t.Fatalf("the pods were not replaced: %+v", st)
		}
		time.Sleep(50 * time.Millisecond) // often enough to see a pod missing, which lasts for as long as one takes to start
	}
	ts := await(t, s, name, "to be at rest", scene.Stable("v1"))
	if got := answer(ts); got.Action != v1alpha1.ActionRestart || got.Result != v1alpha1.ResultDone || ts.Status.State.LastVersion != 1 {
		t.Errorf("answer %+v with %d versions; want it done, and no version more", got, ts.Status.State.LastVersion)
	}
	time.Sleep(3 * time.Second) // what the old pods still had in hand is counted when it ends, and nothing tells when all of it has
	lossless(t, outside, inside)
}
