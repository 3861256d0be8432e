package e2e

import (
	"net/http"
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

// TestNginx is scenario 3, from the files of examples/nginx. Its README: "At 20 it waits for as long as it takes", "Look at each version by
// an address of its own, which no user's traffic comes to", "Then go on, or do not", and "kubectl -n shop rollout pause deployment/nginx".
func TestNginx(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "nginx"
	example(t, s, name, name)
	users, visitors := through(t, s, "nginx.example.com", 60), through(t, s, "preview.nginx.example.com", 5)
	eventually(t, "the preview to show the stable version", last(visitors, "1.28"))
	image(t, s, name, "docker.io/library/nginx:1.29")
	ts := await(t, s, name, "to wait at 20%", waits)
	if got := ts.Status.State.Weight; got != 200 {
		t.Errorf("it waits at %s", got)
	}
	eventually(t, "the preview to show the candidate", last(visitors, "1.29"))
	for service, version := range map[string]string{"nginx-v1": "1.28", "nginx-v2": "1.29"} {
		eventually(t, service+" to answer", last(within(t, s, service, "http://"+service+".shop.svc.cluster.local/", 5), version))
	}
	tell(t, s, name, v1alpha1.AnnotationApprove, "v2")
	await(t, s, name, "to be promoted", scene.Stable("v2"))

	rollout(t, s, name, `{"spec": {"paused": true}}`)
	image(t, s, name, "docker.io/library/nginx:1.30")
	paused := func(ts *v1alpha1.TrafficShift) bool {
		return ts.Status.Candidate == "" && strings.Contains(ts.Status.Message, "kubectl rollout resume deployment/nginx goes on")
	}
	await(t, s, name, "to be paused by kubectl rollout pause", paused)
	watchFor(t, s, name, 5*time.Second, "start nothing while its Deployment is paused", paused)
	rollout(t, s, name, `{"spec": {"paused": null}}`)
	await(t, s, name, "to wait again", waits)
	tell(t, s, name, v1alpha1.AnnotationAbort, "v3")
	await(t, s, name, "to be taken back", scene.Rejected("v3"))
	lossless(t, users, visitors)
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
