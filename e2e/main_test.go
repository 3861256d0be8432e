// Package e2e holds what Sluice promises to what it does: the built controller, installed from its chart, in a lab. One file per
// promise; all of them share one scene.
package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/lab"
	"github.com/sluice-dev/sluice/e2e/scene"
)

var keep = flag.Bool("keep", false, "leave the lab's files behind, for reading logs")

// shared is the one scene of this test binary. Its mirror holds what the shop has, a moment behind the API server, for those who look often.
var shared struct {
	once   sync.Once
	ctx    context.Context
	scene  *scene.Scene
	mirror cache.Cache
	still  context.CancelFunc // ends the mirror
	guard  *guard
	err    error
}

func TestMain(m *testing.M) {
	flag.Parse()
	lab.Quiet()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	shared.ctx = ctx
	code := m.Run()
	if shared.scene != nil {
		if shared.still != nil {
			shared.still()
		}
		shared.guard.stop()
		shared.scene.Stop()
	}
	stop()
	os.Exit(code)
}

// stage returns the scene that all tests share: a lab with the controller installed, and the namespace of the examples. The first
// test that asks for it opens it.
func stage(t *testing.T) *scene.Scene {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a lab, which -short leaves out")
	}
	shared.once.Do(func() {
		if shared.scene, shared.guard, shared.err = open(shared.ctx); shared.err == nil {
			shared.mirror, shared.still, shared.err = reflect(shared.ctx, shared.scene)
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	t.Cleanup(func() {
		if err := shared.scene.Err(); err != nil {
			t.Error(err)
		}
	})
	return shared.scene
}

// shop is where the tests' services live: in the mesh, and granted their hosts and the policies of a tier, as in every folder of examples.
const shop = `
apiVersion: v1
kind: Namespace
metadata:
  name: ` + scene.Shop + `
  labels: {istio-injection: enabled, tier: standard}
  annotations: {sluice.dev/allowed-hosts: "*.example.com"}
`

// secrets are what the administrator gives the controller: the key of webhooks, and the token of a Prometheus behind a proxy.
const secrets = `
apiVersion: v1
kind: Namespace
metadata: {name: ` + scene.Namespace + `}
---
apiVersion: v1
kind: Secret
metadata: {name: webhooks, namespace: ` + scene.Namespace + `}
stringData: {key: ` + signingKey + `}
---
apiVersion: v1
kind: Secret
metadata: {name: tenant, namespace: ` + scene.Namespace + `}
stringData: {token: ` + tenantToken + `}
`

func open(ctx context.Context) (*scene.Scene, *guard, error) {
	s, err := scene.Open(ctx, scene.Options{Keep: *keep, Progress: func(line string) { fmt.Fprintln(os.Stderr, line) }})
	if err != nil {
		return nil, nil, err
	}
	g, err := install(ctx, s)
	if err != nil {
		s.Stop()
		return nil, nil, err
	}
	return s, g, nil
}

func install(ctx context.Context, s *scene.Scene) (*guard, error) {
	for _, text := range []string{shop, secrets, scaledObjects} {
		if err := s.ApplyYAML(ctx, []byte(text)); err != nil {
			return nil, err
		}
	}
	g, err := startGuard(s.PrometheusURL)
	if err != nil {
		return nil, err
	}
	values := s.Values()
	values["webhooks"] = map[string]any{
		"allowedHosts": []any{"*", "127.0.0.1"}, // the tests' endpoints are on loopback
		"signingKey":   map[string]any{"secretName": "webhooks"},
	}
	values["configTracking"] = map[string]any{"enabled": true}
	values["prometheus"] = map[string]any{"connections": g.connections()}
	if err := s.Install(ctx, values); err != nil {
		g.stop()
		return nil, err
	}
	return g, nil
}

func reflect(ctx context.Context, s *scene.Scene) (cache.Cache, context.CancelFunc, error) {
	mirror, err := cache.New(s.REST, cache.Options{
		Scheme: s.Client.Scheme(), DefaultNamespaces: map[string]cache.Config{scene.Shop: {}},
	})
	if err != nil {
		return nil, nil, err
	}
	ctx, still := context.WithCancel(ctx)
	go func() { _ = mirror.Start(ctx) }() // it ends with ctx, and has no other way to
	mirror.WaitForCacheSync(ctx)
	return mirror, still, nil
}

// quick are a service's settings: a shift that takes seconds, with everything in it that one of an hour has. What a test says
// itself comes after, and wins.
var quick = []string{
	"strategy=canary", "steps=5,50,100", "hold=3s", "bake=3s", "min-requests=20", "deadline=1m", "max-increase=5%",
}

// manifest is what a user would write: a Deployment of the lab's own application and its Service.
const manifest = `
apiVersion: v1
kind: Service
metadata: {name: NAME, namespace: SHOP}
spec:
  selector: {app: NAME}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: grpc, port: 7070, targetPort: 7070}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME, namespace: SHOP}
spec:
  replicas: 2
  minReadySeconds: 1
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec:
      containers:
      - name: app
        image: IMAGE
        env: [{name: VERSION, value: v1}]
        ports: [{containerPort: 8080}, {containerPort: 7070}]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
`

// annotationsOf are annotations, from "key=value" without the prefix of their keys. The last of a key counts.
func annotationsOf(all ...string) map[string]string {
	annotations := map[string]string{}
	for _, setting := range all {
		key, value, _ := strings.Cut(setting, "=")
		annotations[v1alpha1.Prefix+key] = value
	}
	return annotations
}

// service deploys a service with two pods that answer as version "v1", at NAME.example.com through the gateway and at
// http://NAME.shop.svc.cluster.local and its port 7070 (gRPC) inside the mesh, and returns when Sluice has adopted it. Annotations
// are "key=value", without the prefix of their keys; no value leaves one of the quick settings out. The service goes with the test.
func service(t *testing.T, s *scene.Scene, name string, annotations ...string) {
	t.Helper()
	deploy(t, s, name, annotations...)
	await(t, s, name, "to be adopted", scene.Stable("v1"))
}

// deploy is service without the wait.
func deploy(t *testing.T, s *scene.Scene, name string, annotations ...string) {
	t.Helper()
	deployImage(t, s, name, app, annotations...)
}

// app is the image of the lab's own application.
const app = "registry.example.com/lab/app:1"

// deployImage is deploy with another image.
func deployImage(t *testing.T, s *scene.Scene, name, image string, annotations ...string) {
	t.Helper()
	unannotated(t, s, name, image)
	annotate(t, s, name, annotations...)
}

// unannotated is a service of which Sluice knows nothing yet.
func unannotated(t *testing.T, s *scene.Scene, name, image string) {
	t.Helper()
	text := strings.NewReplacer("NAME", name, "SHOP", scene.Shop, "IMAGE", image).Replace(manifest)
	if err := s.ApplyYAML(t.Context(), []byte(text)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { leave(t, s, name) })
}

// annotate has Sluice take a service over.
func annotate(t *testing.T, s *scene.Scene, name string, annotations ...string) {
	t.Helper()
	wanted := annotationsOf(slices.Concat(quick, []string{"hosts=" + name + ".example.com"}, annotations)...)
	if err := s.Annotate(t.Context(), deployment(name), wanted); err != nil {
		t.Fatal(err)
	}
}

// release changes the annotated Deployment's template as kubectl set env does: the application answers as version from then on,
// and otherwise behaves as env ("ERROR_RATE=0.3") says.
func release(t *testing.T, s *scene.Scene, name, version string, env ...string) {
	t.Helper()
	d := deployment(name)
	if err := s.Client.Get(t.Context(), client.ObjectKeyFromObject(d), d); err != nil {
		t.Fatal(err)
	}
	was := d.DeepCopy()
	app := &d.Spec.Template.Spec.Containers[0]
	app.Env = nil
	for _, e := range append([]string{"VERSION=" + version}, env...) {
		key, value, _ := strings.Cut(e, "=")
		app.Env = append(app.Env, corev1.EnvVar{Name: key, Value: value})
	}
	if err := s.Client.Patch(t.Context(), d, client.MergeFrom(was), client.FieldOwner("kubectl")); err != nil {
		t.Fatal(err)
	}
}

// patience is how long any one wait of a test may take: several quick shifts, on a machine that does other things too.
const patience = 3 * time.Minute

// await waits for a shift to be as cond wants it, and fails the test with what stood in the way.
func await(t *testing.T, s *scene.Scene, name, what string, cond func(*v1alpha1.TrafficShift) bool) *v1alpha1.TrafficShift {
	t.Helper()
	ts, err := s.Await(t.Context(), patience, name, what, cond)
	if err != nil {
		t.Fatal(err)
	}
	return ts
}

// putAway waits until a refused version has left, of which every client has heard by then.
func putAway(t *testing.T, s *scene.Scene, name, version string) {
	t.Helper()
	await(t, s, name, "to have put "+version+" away", func(ts *v1alpha1.TrafficShift) bool {
		return scene.Rejected(version)(ts) && len(ts.Status.State.Retiring) == 0
	})
}

// eventually polls until check is content, and fails the test with its last complaint.
func eventually(t *testing.T, what string, check func(context.Context) error) {
	t.Helper()
	var last error
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		last = check(ctx)
		return last == nil, nil
	})
	if err != nil {
		t.Fatalf("waiting for %s: %v: %v", what, err, last)
	}
}

// leave removes a service. Of one whose test failed it tells first where it stood.
func leave(t *testing.T, s *scene.Scene, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // the test's own context has ended
	defer cancel()
	if ts, err := s.Shift(ctx, name); t.Failed() && err == nil && ts != nil {
		t.Logf("%s: %s %s, weight %q, observed %q: %s (logs, with -keep: %s)",
			name, ts.Status.Phase, ts.Status.State.Stage, ts.Status.Weight, ts.Status.ObservedWeight, ts.Status.Message, s.LogDir)
	}
	gone := []client.Object{deployment(name), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: scene.Shop, Name: name}}}
	for _, o := range gone {
		if err := client.IgnoreNotFound(s.Client.Delete(ctx, o)); err != nil && s.Err() == nil {
			t.Errorf("removing %s: %v", name, err)
		}
	}
}

func deployment(name string) *appsv1.Deployment {
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: scene.Shop, Name: name}}
}

// inShop is the key of an object of the shop.
func inShop(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: scene.Shop, Name: name}
}
