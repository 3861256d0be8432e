package e2e

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/lab/load"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// alone is all that its owner writes: no Service, no routes.
const alone = `
apiVersion: apps/v1
kind: Deployment
metadata:
  name: alone
  namespace: ` + scene.Shop + `
  annotations: {sluice.dev/strategy: canary, sluice.dev/steps: "5,50@10s,100", sluice.dev/hold: 3s, sluice.dev/bake: 3s, sluice.dev/min-requests: "20",
    sluice.dev/max-increase: "5%", sluice.dev/hosts: alone.example.com}
spec:
  replicas: 2
  minReadySeconds: 1
  selector: {matchLabels: {app: alone}}
  template:
    metadata: {labels: {app: alone}}
    spec:
      containers:
      - name: app
        image: ` + registry + `micro-api:1.1
        ports: [{name: http, containerPort: 9090}]
        readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
`

// Scenario 1, with the annotated Deployment alone. README: "a Service only where none selects the pods", "all of it owned by that Deployment",
// and "Deleting the Deployment deletes the service, with all that Sluice made for it".
func TestADeploymentWithoutAService(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "alone"
	checked := watchOver(t, s, name)
	if err := s.ApplyYAML(t.Context(), []byte(alone)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { leave(t, s, name) })
	await(t, s, name, "to be adopted", scene.Stable("v1"))
	made := &corev1.Service{}
	if err := s.Client.Get(t.Context(), inShop(name), made); err != nil {
		t.Fatal(err)
	}
	if owner := metav1.GetControllerOf(made); owner == nil || owner.Kind != "Deployment" || owner.Name != name {
		t.Errorf("the Service is owned by %v; want the Deployment", owner)
	}
	inside := within(t, s, name, "http://alone.shop.svc.cluster.local:9090/", 40)
	outside := through(t, s, "alone.example.com", 40)
	image(t, s, name, registry+"micro-api:1.3")
	await(t, s, name, "to prove 50%", proven(500))
	checkShares(t, s, name, "1.3", 500, 2*time.Second, map[string]*load.Source{"in the mesh": inside})
	await(t, s, name, "to be promoted", scene.Stable("v2"))
	after := &corev1.Service{}
	if err := s.Client.Get(t.Context(), inShop(name), after); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(made.Spec, after.Spec); diff != "" {
		t.Errorf("the release changed the Service (-before +after):\n%s", diff)
	}
	lossless(t, inside, outside)
	checked.end(t, []string{"Stable", "Progressing Stepping 50%", "Progressing Baking 100%"})

	inside.Stop()
	outside.Stop()
	if err := s.Client.Delete(t.Context(), deployment(name)); err != nil {
		t.Fatal(err)
	}
	if err := s.Gone(t.Context(), patience, made); err != nil {
		t.Error(err)
	}
}

// API: "skipAnalysis moves all the traffic to a candidate as soon as its pods are ready, and asks no gate", and "suspend has nothing at all written
// for this shift: no candidate starts". The candidate fails every other request, which no gate is there to see.
func TestSkippedAndSuspended(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "unasked"
	service(t, s, name, "skip-analysis=true", "hold=10m")
	users := through(t, s, name+".example.com", 40)
	if err := s.Annotate(t.Context(), deployment(name), map[string]string{v1alpha1.AnnotationSuspend: "true"}); err != nil {
		t.Fatal(err)
	}
	await(t, s, name, "to say that it is suspended", func(ts *v1alpha1.TrafficShift) bool {
		c := condition(ts, v1alpha1.ConditionProgressing)
		return c != nil && c.Reason == v1alpha1.ReasonSuspended
	})
	before := routesOf(t, s, name).ResourceVersion
	release(t, s, name, "v2", "ERROR_RATE=0.5")
	watchFor(t, s, name, 3*time.Second, "start nothing", func(ts *v1alpha1.TrafficShift) bool { return ts.Status.Candidate == "" })
	if now := routesOf(t, s, name).ResourceVersion; now != before {
		t.Errorf("its routes were written while it was suspended: %s, then %s", before, now)
	}
	lossless(t, users)

	follow(t, s, name, func(ts *v1alpha1.TrafficShift) {
		if w := ts.Status.State.Weight; w != 0 && w != v1alpha1.Whole {
			t.Errorf("a weight of %s, and without analysis there is one step", w)
		}
	})
	if err := s.Annotate(t.Context(), deployment(name), map[string]string{v1alpha1.AnnotationSuspend: ""}); err != nil {
		t.Fatal(err)
	}
	ts := await(t, s, name, "to be promoted unasked", scene.Stable("v2"))
	if got := ts.Status.History[0]; got.Version != "v2" || got.Reason != v1alpha1.ReasonPromoted {
		t.Errorf("it ended as %+v", got)
	}
	if failed := users.Report().Answers["v2"][500]; failed == 0 {
		t.Error("v2 failed nobody, so that no gate would have found anything")
	}
}
