package e2e

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/lab/load"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// registry is where the examples' images are from.
const registry = "docker.io/sluice-dev/"

// TestMicroAPI is scenario 1, from the files that the README of examples/micro-api has a user apply. README: "its VirtualService weight
// rises from 0 to 100 in steps, each step earned", and "hands one service back without losing a request".
func TestMicroAPI(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name, v1, v2 = "micro-api", "1.1", "1.3"
	if err := s.Apply(t.Context(), "examples/micro-api"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { leave(t, s, name) })
	inside := within(t, s, name, "http://micro-api.shop.svc.cluster.local:19090/", 80)
	await(t, s, name, "to be adopted", scene.Stable("v1"))
	outside := through(t, s, "micro-api.example.com", 80)

	if err := s.SetImage(t.Context(), name, registry+"micro-api:"+v2); err != nil {
		t.Fatal(err)
	}
	for _, weight := range []v1alpha1.Permille{50, 300, 700} {
		await(t, s, name, "to prove "+weight.String(), proven(weight))
		checkShares(t, s, name, v2, weight, 6*time.Second, map[string]*load.Source{"in the mesh": inside, "at the gateway": outside})
	}
	await(t, s, name, "to be promoted", scene.Stable("v2"))
	checkShare(t, "at the gateway", outside, v2, v1alpha1.Whole, 2*time.Second)

	rule := &networkingv1.DestinationRule{}
	if err := s.Client.Get(t.Context(), inShop(name), rule); err != nil {
		t.Fatal(err)
	}
	if got := rule.Spec.GetTrafficPolicy().GetConnectionPool().GetTcp().GetMaxConnections(); got != 10 {
		t.Errorf("the user's trafficPolicy has maxConnections 10; the DestinationRule has %d", got)
	}
	sent(t, 10_000, inside, outside) // as a good shift is judged
	lossless(t, inside, outside)
}

// TestKubia is scenario 2. README: "`kubia` v3, which is refused before any user meets it", "good to its probes and bad to its users, and is
// rolled back under traffic", and "a bad version goes back to 0 within seconds". What users are on, image v2, keeps its pods through both.
func TestKubia(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "kubia-deploy-canary"
	if err := s.Apply(t.Context(), "examples/kubia"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { leave(t, s, name) })
	await(t, s, name, "to be adopted", scene.Stable("v1"))
	users := through(t, s, "kubia.example.com", 60)
	untouched := podsOf(t, s, name+"-v1")
	set := func(image string) {
		t.Helper()
		users.Mark(image)
		if err := s.SetImage(t.Context(), name, registry+image); err != nil {
			t.Fatal(err)
		}
	}

	set("kubia:v3")
	ts := await(t, s, name, "to refuse v3", scene.Rejected("v2"))
	if got := ts.Status.History[0]; got.Reason != v1alpha1.ReasonCandidateUnstable || got.Weight != "0%" {
		t.Errorf("v3 ended as %s at %s; want %s at 0%%", got.Reason, got.Weight, v1alpha1.ReasonCandidateUnstable)
	}
	if got := users.Report().Answers["v3"]; len(got) > 0 {
		t.Errorf("users met v3: %v", got)
	}

	set("kubia:v3-users")
	ts = await(t, s, name, "to roll v3-users back", scene.Rejected("v3"))
	if got := ts.Status.History[0].Reason; got != v1alpha1.ReasonErrorRate && got != v1alpha1.ReasonErrorRateVsStable {
		t.Errorf("v3-users ended as %s; want it convicted by its errors", got)
	}
	if got := ts.Status.History[0].Weight; got != "5%" {
		t.Errorf("v3-users got as far as %s; want the first step", got)
	}
	withinSeconds(t, users.Report().Answers["v3-users"][500], 60*0.05)
	if diff := cmp.Diff(untouched, podsOf(t, s, name+"-v1")); diff != "" || len(untouched) != 3 {
		t.Errorf("two refused images later, the pods of v2 (-before +after):\n%s", diff)
	}

	set("kubia:v4")
	await(t, s, name, "to promote v4", scene.Stable("v4"))

	// Undo to an earlier revision puts the recorded template back: it *is* that version, and it is gated.
	users.Mark("kubia:v2")
	if err := s.Annotate(t.Context(), shiftOf(name), map[string]string{v1alpha1.AnnotationUndo: "v1"}); err != nil {
		t.Fatal(err)
	}
	ts = await(t, s, name, "to go back to the first template, gated", scene.Stable("v1"))
	if got := ts.Status.History[0]; got.Reason != v1alpha1.ReasonPromoted || got.Version != "v1" {
		t.Errorf("the way back to the first template ended as %+v; want v1 promoted", got)
	}
	failedBy(t, "v3-users", users)
}

// podsOf are the pods of a version: how often the containers of each were restarted, by its UID.
func podsOf(t *testing.T, s *scene.Scene, version string) map[types.UID]int32 {
	t.Helper()
	var list corev1.PodList
	if err := s.Client.List(t.Context(), &list, client.InNamespace(scene.Shop), client.MatchingLabels{v1alpha1.LabelVersion: version}); err != nil {
		t.Fatal(err)
	}
	restarts := map[types.UID]int32{}
	for _, p := range list.Items {
		restarts[p.UID] = 0
		for _, c := range p.Status.ContainerStatuses {
			restarts[p.UID] += c.RestartCount
		}
	}
	return restarts
}

// through and within load a service from both sides, and stop with the test.
func through(t *testing.T, s *scene.Scene, host string, rate float64) *load.Source {
	t.Helper()
	source, err := s.Through(t.Context(), host, rate)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { source.Stop() })
	return source
}

func within(t *testing.T, s *scene.Scene, name, url string, rate float64) *load.Source {
	t.Helper()
	source, err := s.Within(t.Context(), name+"-client", url, rate)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { source.Stop() })
	return source
}

// proven is a condition: a weight whose share was measured to be right, so that the step's clock runs.
func proven(weight v1alpha1.Permille) func(*v1alpha1.TrafficShift) bool {
	return func(ts *v1alpha1.TrafficShift) bool {
		return ts.Status.State.Weight == weight && ts.Status.State.VerifiedSince != nil
	}
}

// lossless asserts that no client saw a failure.
func lossless(t *testing.T, sources ...*load.Source) {
	t.Helper()
	for _, source := range sources {
		r := source.Report()
		for i, f := range r.Failures {
			if i < 5 {
				t.Errorf("a client saw a failure: %+v", f)
			}
		}
		if r.Failed > 0 {
			t.Errorf("%d of %d requests failed; %v", r.Failed, r.Total, r.ByVersion)
		}
	}
}

// failedBy asserts that clients saw no failures but those of a version that is bad.
func failedBy(t *testing.T, version string, sources ...*load.Source) {
	t.Helper()
	for _, source := range sources {
		for _, f := range source.Report().Failures {
			if f.Version != version {
				t.Errorf("a client saw a failure that %s did not produce: %+v", version, f)
			}
		}
	}
}

// withinSeconds asserts what users met of a version that fails so many requests a second: something, or nothing was judged, and less than in half
// a minute. How few seconds it takes the demo prints; a machine that is busy with other tests is no measure of it.
func withinSeconds(t *testing.T, failures int, rate float64) {
	t.Helper()
	if failures == 0 || float64(failures) > 30*rate {
		t.Errorf("users met %d failures, at %.1f a second; want some, for seconds", failures, rate)
	}
	t.Logf("users met %d failures, at %.1f a second", failures, rate)
}

// checkShares is checkShare for several sources, at a step that is paused for as long as it takes.
func checkShares(t *testing.T, s *scene.Scene, name, version string, weight v1alpha1.Permille, during time.Duration, sources map[string]*load.Source) {
	t.Helper()
	halt(t, s, name, weight)
	for where, source := range sources {
		checkShare(t, where, source, version, weight, during)
	}
	require(t, s, name, v1alpha1.AnnotationPaused, "")
}

// halt keeps a shift at a step until it is no longer required to be paused.
func halt(t *testing.T, s *scene.Scene, name string, weight v1alpha1.Permille) *v1alpha1.TrafficShift {
	t.Helper()
	require(t, s, name, v1alpha1.AnnotationPaused, "true")
	return await(t, s, name, "to be paused at "+weight.String(), func(ts *v1alpha1.TrafficShift) bool {
		c := condition(ts, v1alpha1.ConditionProgressing)
		return ts.Status.State.Weight == weight && c != nil && c.Reason == v1alpha1.ReasonPaused
	})
}

// checkShare asserts that what clients saw in a while to come splits as the weight says, within binomial error (3.9 standard deviations:
// one false alarm in 10,000).
func checkShare(t *testing.T, where string, source *load.Source, version string, weight v1alpha1.Permille, during time.Duration) {
	t.Helper()
	before := source.Report()
	want := int(during.Seconds() * 60)
	err := source.WaitFor(t.Context(), func(r load.Report) bool { return r.Total >= before.Total+want })
	if err != nil {
		t.Fatal(err)
	}
	after := source.Report()
	n, k := 0, count(after, version)-count(before, version)
	for v := range after.ByVersion {
		n += count(after, v) - count(before, v)
	}
	p := float64(weight) / float64(v1alpha1.Whole)
	slack := 3.9*math.Sqrt(float64(n)*p*(1-p)) + 1
	if math.Abs(float64(k)-p*float64(n)) > slack {
		t.Errorf("%s: %d of %d requests reached %s at a weight of %s; want %s", where, k, n, version, weight, fmt.Sprintf("%.0f±%.0f", p*float64(n), slack))
	}
}

func count(r load.Report, version string) int { return r.ByVersion[version] }
