package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/lab/load"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// README: "the candidate at full strength at its preview address", "100 in one write", "The old version stays at full strength for `bake`, and going
// back is one write". Looking at the preview is no traffic, at no time.
func TestBlueGreenSwitchesOnce(t *testing.T) {
	t.Parallel()
	s := stage(t)
	const name = "green"
	checked := watchOver(t, s, name)
	service(t, s, name, "strategy=blue-green", "steps=", "preview=green-preview.example.com", "hold=4s", "bake=5m", "keep-rejected=10m")
	users, visitors := through(t, s, name+".example.com", 60), through(t, s, "green-preview.example.com", 5)
	eventually(t, "the preview to show v1", last(visitors, "v1"))
	visitors.Mark("shown")

	follow(t, s, name, func(ts *v1alpha1.TrafficShift) {
		if w := ts.Status.State.Weight; w != 0 && w != v1alpha1.Whole {
			t.Errorf("a weight of %s, and blue-green has but one switch", w)
		}
	})
	release(t, s, name, "v2")
	await(t, s, name, "to be shown in its preview", shownBy(v1alpha1.ExposurePreview))
	checked.await(t, "Progressing Stepping")
	if got := pods(t, s, name+"-v2"); got != 2 {
		t.Errorf("v2 has %d ready pods in its preview; want its full strength, 2", got)
	}
	eventually(t, "the preview to show v2", last(visitors, "v2"))
	if got := count(users.Report(), "v2"); got > 0 && notSwitched(t, s, name) {
		t.Errorf("%d users met v2 in its preview", got)
	}
	inside := within(t, s, name, "http://green-v2.shop.svc.cluster.local/", 5)
	eventually(t, "v2's own Service to answer", last(inside, "v2"))

	await(t, s, name, "to have switched", proven(v1alpha1.Whole))
	eventually(t, "users to be on v2", last(users, "v2"))
	if got := pods(t, s, name+"-v1"); got != 2 {
		t.Errorf("v1 has %d ready pods behind the switch; want 2", got)
	}
	before := routesOf(t, s, name)
	tell(t, s, name, v1alpha1.AnnotationAbort, "v2")
	eventually(t, "all traffic to be back on v1", func(context.Context) error {
		vs := routesOf(t, s, name)
		if wrote := vs.Generation - before.Generation; wrote > 0 && wrote != 1 {
			t.Errorf("%d writes to come back; want one", wrote)
		}
		for _, d := range vs.Spec.GetHttp()[0].GetRoute() {
			if d.GetDestination().GetSubset() == "v1" && (d.GetWeight() == 100 || len(vs.Spec.GetHttp()[0].GetRoute()) == 1) {
				return nil
			}
		}
		return fmt.Errorf("%v", vs.Spec.GetHttp())
	})
	await(t, s, name, "to have refused v2", scene.Rejected("v2"))
	eventually(t, "users to be on v1 again", last(users, "v1"))
	eventually(t, "the preview to show v1 again", last(visitors, "v1"))
	lookAtRefused(t, s, name, users, inside)
	checked.await(t, "Failed")
	lossless(t, users, visitors)
	checked.end(t, []string{"Stable", "Progressing Stepping", "Progressing Baking 100%", "Failed"})
}

// lookAtRefused looks at v2 after it was refused. README: "How long the pods of a refused candidate stay to be looked at, without traffic: until
// then, the next candidate, a retry, or `kubectl scale --replicas=0` of its Deployment."
func lookAtRefused(t *testing.T, s *scene.Scene, name string, users, inside *load.Source) {
	t.Helper()
	ts := await(t, s, name, "to have v2 out of its routes", func(ts *v1alpha1.TrafficShift) bool {
		r := ts.Status.State.Retiring
		return len(r) == 1 && r[0].KeptSince != nil && r[0].UnroutedSince != nil
	})
	if ts.Status.Phase != v1alpha1.PhaseFailed || ts.Status.Replicas != 2 {
		t.Errorf("while v2 is kept the phase is %s with %d replicas; want Failed with 2", ts.Status.Phase, ts.Status.Replicas)
	}
	before := count(users.Report(), "v2")
	eventually(t, "v2's own Service to answer after the drain", last(inside, "v2"))
	if got := pods(t, s, name+"-v2"); got != 2 {
		t.Errorf("v2 has %d ready pods to be looked at; want 2", got)
	}
	if got := count(users.Report(), "v2"); got != before {
		t.Errorf("users met v2 %d times while it is kept", got-before)
	}
	d := &appsv1.Deployment{}
	d.Namespace, d.Name = inShop(name+"-v2").Namespace, name+"-v2"
	if err := s.Client.Patch(t.Context(), d, client.RawPatch(types.MergePatchType, []byte(`{"spec": {"replicas": 0}}`))); err != nil {
		t.Fatal(err)
	}
	await(t, s, name, "to have let v2 go", func(ts *v1alpha1.TrafficShift) bool { return len(ts.Status.State.Retiring) == 0 })
}

// README: "The old version stays at full strength for `bake`, and going back is one write", "and a bad version goes back to 0 within seconds". Nobody
// looks at the preview, so that what is wrong with green shows after the switch. Its preview has one pod: "or so many pods as `preview.replicas` says,
// and the others when the gates have passed, before the switch".
func TestABadGreenIsConvictedAfterTheSwitch(t *testing.T) {
	t.Parallel()
	s := stage(t)
	const name, rate = "bad-green", 60
	service(t, s, name, "strategy=blue-green", "steps=", "hold=4s", "bake=1m", "spec=preview: {replicas: 1}")
	users := through(t, s, name+".example.com", rate)
	release(t, s, name, "v2", "ERROR_RATE=0.5")
	await(t, s, name, "to be shown in its preview", shownBy(v1alpha1.ExposurePreview))
	if got := pods(t, s, name+"-v2"); got != 1 {
		t.Errorf("v2 has %d ready pods in its preview; want 1", got)
	}
	await(t, s, name, "to have switched", func(ts *v1alpha1.TrafficShift) bool { return ts.Status.State.Weight == v1alpha1.Whole })
	if got := pods(t, s, name+"-v2"); got != 2 {
		t.Errorf("v2 has %d ready pods at the switch; want all 2", got)
	}
	before := routesOf(t, s, name)
	ts := await(t, s, name, "to refuse v2", scene.Rejected("v2"))
	if got := ts.Status.History[0]; got.Weight != "100%" || !slices.Contains([]string{v1alpha1.ReasonErrorRate, v1alpha1.ReasonErrorRateVsStable}, got.Reason) {
		t.Errorf("v2 ended as %s at %s: %s; want it convicted by its errors, of all users", got.Reason, got.Weight, got.Message)
	}
	eventually(t, "users to be on v1 again", last(users, "v1"))
	if got := pods(t, s, name+"-v1"); got != 2 {
		t.Errorf("v1 has %d ready pods; want 2, all the time", got)
	}
	r := users.Report()
	withinSeconds(t, r.Answers["v2"][500], 0.5*rate)
	for _, f := range r.Failures {
		if f.Version != "v2" {
			t.Errorf("a client saw a failure that v2 did not produce: %+v", f)
		}
	}
	t.Logf("the routes went from generation %d to %d", before.Generation, routesOf(t, s, name).Generation)
}

// docs/gates.md: "all must pass before a weight is raised", of which blue-green has one, the switch. README: "The old version stays at full strength
// for `bake`", and not for longer.
func TestAGateKeepsGreenFromSwitching(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "gated-green"
	d := openDesk(t)
	d.answer(http.StatusConflict)
	service(t, s, name, "strategy=blue-green", "steps=", "hold=2s", "bake=5s")
	gates(t, s, name, d.gate("retries: 0", "onError: fail"))
	users := through(t, s, name+".example.com", 40)
	shown := func(ts *v1alpha1.TrafficShift) bool {
		return shownBy(v1alpha1.ExposurePreview)(ts) && ts.Status.State.Weight == 0 && strings.Contains(ts.Status.Message, "the desk is closed")
	}
	release(t, s, name, "v2")
	await(t, s, name, "to be told to wait in its preview", shown)
	watchFor(t, s, name, 5*time.Second, "wait while it is told to", shown)
	unmet(t, users, "v2")
	d.answer(http.StatusNoContent)
	await(t, s, name, "to have switched", proven(v1alpha1.Whole))
	if got := pods(t, s, name+"-v1"); got != 2 {
		t.Errorf("blue has %d ready pods behind the switch; want 2", got)
	}
	await(t, s, name, "to promote green", scene.Stable("v2"))
	eventually(t, "blue to have no pods", func(context.Context) error {
		if left := podsOf(t, s, name+"-v1"); len(left) > 0 {
			return fmt.Errorf("%d are left", len(left))
		}
		return nil
	})
	d.check(t, name, "v2", "0%", "100%")

	d.refuse(t, s, name, users)
	lossless(t, users)
}

// last is a check: what a source is answered by now, and by nothing else.
func last(source *load.Source, version string) func(context.Context) error {
	return func(ctx context.Context) error {
		before := source.Report()
		if err := source.WaitFor(ctx, func(r load.Report) bool { return r.Total >= before.Total+10 }); err != nil {
			return err
		}
		after := source.Report()
		if n := count(after, version) - count(before, version); n < after.Total-before.Total {
			return fmt.Errorf("%d of %d by %s", n, after.Total-before.Total, version)
		}
		return nil
	}
}

func notSwitched(t *testing.T, s *scene.Scene, name string) bool {
	t.Helper()
	ts, err := s.Shift(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return ts.Status.State.Weight == 0
}

func pods(t *testing.T, s *scene.Scene, name string) int32 {
	t.Helper()
	d := &appsv1.Deployment{}
	if err := s.Client.Get(t.Context(), inShop(name), d); err != nil {
		t.Fatal(err)
	}
	return d.Status.ReadyReplicas
}

func routesOf(t *testing.T, s *scene.Scene, name string) *networkingv1.VirtualService {
	t.Helper()
	vs := &networkingv1.VirtualService{}
	if err := s.Client.Get(t.Context(), inShop(name), vs); err != nil {
		t.Fatal(err)
	}
	return vs
}

// README: "A mirror's copies write as the requests themselves do, and nobody sees its answers". A candidate that fails every other copy is refused before it has a user; a good one goes on.
func TestAMirrorConvictsWithoutUsers(t *testing.T) {
	t.Parallel()
	s := stage(t)
	const name = "mirrored"
	checked := watchOver(t, s, name)
	service(t, s, name, "steps=mirror:50%@4s,50,100")
	users := through(t, s, name+".example.com", 60)
	release(t, s, name, "v2", "ERROR_RATE=0.5")
	ts := await(t, s, name, "to refuse v2", scene.Rejected("v2"))
	if got := ts.Status.History[0]; got.Weight != "0%" || !slices.Contains([]string{v1alpha1.ReasonErrorRate, v1alpha1.ReasonErrorRateVsStable}, got.Reason) {
		t.Errorf("v2 ended as %s at %s: %s; want it convicted by its copies", got.Reason, got.Weight, got.Message)
	}
	if got := count(users.Report(), "v2"); got > 0 {
		t.Errorf("users met v2 %d times", got)
	}
	checked.await(t, "Failed")
	release(t, s, name, "v3")
	await(t, s, name, "to get copies", shownBy(v1alpha1.ExposureMirror))
	checked.await(t, "Progressing Stepping")
	await(t, s, name, "to promote v3", scene.Stable("v3"))
	lossless(t, users)
	checked.end(t, []string{"Progressing Stepping", "Failed", "Stable"})
}
