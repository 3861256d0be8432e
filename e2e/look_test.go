package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/lab/load"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// example applies a folder of examples and waits until its service is adopted.
func example(t *testing.T, s *scene.Scene, folder, name string) {
	t.Helper()
	if err := s.Apply(t.Context(), "examples/"+folder); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { leave(t, s, name) })
	await(t, s, name, "to be adopted", scene.Stable("v1"))
}

// image releases an image, as kubectl set image does.
func image(t *testing.T, s *scene.Scene, name, image string) {
	t.Helper()
	if err := s.SetImage(t.Context(), name, image); err != nil {
		t.Fatal(err)
	}
}

// waits is a condition: a person is asked.
func waits(ts *v1alpha1.TrafficShift) bool { return len(ts.Status.State.Awaiting) > 0 }

// TestNginx is scenario 3, from the files of examples/nginx. Its README: "One pod of the new version starts, and no user meets it", "Look at each
// version by addresses of its own, which no user's traffic comes to", "Then resume, or undo", and "the new version loses its addresses and its pod".
func TestNginx(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "nginx"
	checked := watchOver(t, s, name)
	example(t, s, name, name)
	users, stable := through(t, s, "nginx.example.com", 60), through(t, s, "v1.preview.nginx.example.com", 5)
	eventually(t, "v1's host to show it", last(stable, "1.28"))

	firstPod(t, s, name, "docker.io/library/nginx:1.29", "v2")
	candidate := through(t, s, "v2.preview.nginx.example.com", 5)
	inside := map[string]*load.Source{"1.28": toService(t, s, name+"-v1"), "1.29": toService(t, s, name+"-v2")}
	look := func(when string) {
		t.Helper()
		eventually(t, "v1's host to show it "+when, last(stable, "1.28"))
		eventually(t, "v2's host to show it "+when, last(candidate, "1.29"))
		for version, source := range inside {
			eventually(t, "the Service of "+version+" to answer "+when, last(source, version))
		}
	}
	look("in the pause")
	watchFor(t, s, name, 5*time.Second, "stay at 0% while it is paused", paused)
	if got := pods(t, s, name+"-v2"); got != 1 {
		t.Errorf("%d pods of v2; want its first", got)
	}
	if met := count(users.Report(), "1.29"); met > 0 {
		t.Errorf("%d requests of users were answered by v2 in the pause", met)
	}
	rollout(t, s, name, `{"spec": {"paused": null}}`)
	ts := await(t, s, name, "to wait at 20%", waits)
	if got := ts.Status.State.Weight; got != 200 {
		t.Errorf("it waits at %s", got)
	}
	look("at 20%")
	checked.await(t, "Progressing Stepping 20%")
	for _, source := range []*load.Source{stable, inside["1.28"]} { // whose version goes now
		lossless(t, source)
		source.Stop()
	}
	tell(t, s, name, v1alpha1.AnnotationApprove, "v2")
	await(t, s, name, "to be promoted", scene.Stable("v2"))
	await(t, s, name, "to take v1's addresses away", addressed("v2"))

	firstPod(t, s, name, "docker.io/library/nginx:1.30", "v3")
	eventually(t, "v3's host to show it", last(through(t, s, "v3.preview.nginx.example.com", 5), "1.30"))
	tell(t, s, name, v1alpha1.AnnotationUndo, "previous")
	await(t, s, name, "to be undone", func(ts *v1alpha1.TrafficShift) bool {
		return ts.Status.Phase == v1alpha1.PhaseStable && ts.Status.Candidate == "" && addressed("v2")(ts)
	})
	eventually(t, "v3's pod to go", func(context.Context) error {
		if got := pods(t, s, name+"-v3"); got != 0 {
			return fmt.Errorf("%d pods", got)
		}
		return nil
	})
	rollout(t, s, name, `{"spec": {"paused": null}}`)
	watchFor(t, s, name, 5*time.Second, "stay on v2", func(ts *v1alpha1.TrafficShift) bool { return ts.Status.Stable == "v2" && ts.Status.Candidate == "" })
	if met := count(users.Report(), "1.30"); met > 0 {
		t.Errorf("%d requests of users were answered by v3, which was undone at 0%%", met)
	}
	lossless(t, users, candidate, inside["1.29"])
	checked.end(t, []string{"Stable", "Progressing Exposing", "Progressing Stepping 20%", "Stable, v1 retiring", "Stable, v3 retiring"})
}

// firstPod releases an image, pauses the Deployment at once, and waits until the new version is at its addresses.
func firstPod(t *testing.T, s *scene.Scene, name, to, version string) {
	t.Helper()
	image(t, s, name, to)
	await(t, s, name, "to start "+version, func(ts *v1alpha1.TrafficShift) bool { return ts.Status.Candidate == version })
	rollout(t, s, name, `{"spec": {"paused": true}}`)
	ts := await(t, s, name, "to be paused, with "+version+" at its addresses", func(ts *v1alpha1.TrafficShift) bool {
		return paused(ts) && slices.ContainsFunc(ts.Status.Previews, func(a v1alpha1.PreviewAddress) bool {
			return a.Version == version && a.Host == version+".preview."+name+".example.com"
		})
	})
	if len(ts.Status.Previews) != 2 {
		t.Errorf("addresses %v; want those of two versions", ts.Status.Previews)
	}
}

// paused is a condition: kubectl rollout pause holds a candidate that no user meets.
func paused(ts *v1alpha1.TrafficShift) bool {
	return ts.Status.State.Weight == 0 && strings.Contains(ts.Status.Message, "kubectl rollout resume deployment/"+ts.Name+" goes on")
}

// addressed is a condition: one version alone has addresses.
func addressed(version string) func(*v1alpha1.TrafficShift) bool {
	return func(ts *v1alpha1.TrafficShift) bool {
		return len(ts.Status.Previews) == 1 && ts.Status.Previews[0].Version == version && ts.Status.Previews[0].Host != ""
	}
}

// toService asks a Service from inside the mesh.
func toService(t *testing.T, s *scene.Scene, service string) *load.Source {
	t.Helper()
	return within(t, s, service, "http://"+service+".shop.svc.cluster.local/", 5)
}

// rollout patches a Deployment as kubectl rollout pause and resume do.
func rollout(t *testing.T, s *scene.Scene, name, patch string) {
	t.Helper()
	if err := s.Client.Patch(t.Context(), deployment(name), client.RawPatch(types.StrategicMergePatchType, []byte(patch)), client.FieldOwner("kubectl-rollout")); err != nil {
		t.Fatal(err)
	}
}

// TestStorefront is scenario 4, from the files of examples/blue-green. Its README: "no user meets it", "Then everybody moves at once", "Blue stays
// warm, at full strength", and "puts everybody back with one write".
func TestStorefront(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "storefront"
	example(t, s, "blue-green", name)
	users, visitors := through(t, s, "storefront.example.com", 60), through(t, s, "green.storefront.example.com", 5)
	image(t, s, name, registry+"kubia:v4")
	await(t, s, name, "to wait for a person", waits)
	eventually(t, "the preview to show green", last(visitors, "v4"))
	if met := users.Report().ByVersion["v4"]; met > 0 {
		t.Errorf("%d users met green before the switch", met)
	}
	tell(t, s, name, v1alpha1.AnnotationApprove, "v2")
	await(t, s, name, "to switch", proven(v1alpha1.Whole))
	eventually(t, "users to be on green", last(users, "v4"))
	if got := pods(t, s, name+"-v1"); got != 3 {
		t.Errorf("blue has %d ready pods behind the switch; want 3", got)
	}
	tell(t, s, name, v1alpha1.AnnotationAbort, "v2")
	await(t, s, name, "to be back on blue", scene.Rejected("v2"))
	eventually(t, "users to be on blue", last(users, "v2"))
	lossless(t, users, visitors)
}

// TestCheckout is scenario 7, from the files of examples/ab-test. Its README: "Requests with the header x-group: b, the cookie group=b, or ?beta=1 go to the
// new version, all others stay", and "After test-duration the test goes on until somebody decides".
func TestCheckout(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "checkout"
	example(t, s, "ab-test", name)
	others := through(t, s, "checkout.example.com", 60)
	group := map[string]*load.Source{
		"header": asking(t, s, "/", "X-Group", "b"), "cookie": asking(t, s, "/", "Cookie", "theme=dark; group=b"), "query": asking(t, s, "/?beta=1", "X-Nothing", "1"),
	}
	image(t, s, name, registry+"kubia:v4")
	await(t, s, name, "to wait for a decision", waits)
	for by, source := range group {
		eventually(t, "group B by "+by+" to be on the new version", last(source, "v4"))
	}
	eventually(t, "all others to stay", last(others, "v2"))
	if met := others.Report().ByVersion["v4"]; met > 0 {
		t.Errorf("%d requests of others met the new version", met)
	}
	tell(t, s, name, v1alpha1.AnnotationApprove, "v2")
	await(t, s, name, "to be promoted", scene.Stable("v2"))
	eventually(t, "everyone to be on the new version", last(others, "v4"))
	lossless(t, others, group["header"], group["cookie"], group["query"])
}

// asking loads the checkout through the gateway with a header of its own.
func asking(t *testing.T, s *scene.Scene, path, key, value string) *load.Source {
	t.Helper()
	addr, err := s.Plane.Gateway.WaitAddr(t.Context(), 80)
	if err != nil {
		t.Fatal(err)
	}
	source, err := load.Start(t.Context(), load.Config{
		URL: "http://" + addr + path, Host: "checkout.example.com", Rate: 10, Prepare: func(_ int, r *http.Request) { r.Header.Set(key, value) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { source.Stop() })
	return source
}
