package e2e

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// TestMyWeb is scenario 5, from the files that the README of examples/my-web has a user apply: "both versions have the pods that their weights
// need, rounded up", "the next one resumes at the same step", and "scales v1 back to 4 and, in the same moment, gives it as much of the traffic
// as its ready pods bear". Not parallel: it takes the controller away from everybody.
func TestMyWeb(t *testing.T) {
	s := stage(t)
	const name = "my-web"
	checked := watchOver(t, s, name)
	if err := s.Apply(t.Context(), "examples/my-web"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { leave(t, s, name) })
	await(t, s, name, "to be adopted", scene.Stable("v1"))
	inside := within(t, s, name, "http://my-web.shop.svc.cluster.local/", 60)
	outside := through(t, s, "my-web.example.com", 60)

	forth := sizes(t, s, name, "v1", "v2")
	if err := s.SetImage(t.Context(), name, registry+"my-web:1.1"); err != nil {
		t.Fatal(err)
	}
	await(t, s, name, "to prove 50%", proven(500))
	ts := halt(t, s, name, 500)
	kill(t, s)
	resumed := await(t, s, name, "to go on", func(now *v1alpha1.TrafficShift) bool {
		return now.Status.State.Weight != 500 || !now.Status.State.Gate.CountedTo.Equal(ts.Status.State.Gate.CountedTo)
	})
	if got := resumed.Status.State; got.Weight != 500 || !got.VerifiedSince.Equal(ts.Status.State.VerifiedSince) {
		t.Errorf("the next controller goes on at %s, proven at %s; want the same step: 50%%, %s", got.Weight, got.VerifiedSince, ts.Status.State.VerifiedSince)
	}
	require(t, s, name, v1alpha1.AnnotationPaused, "")
	await(t, s, name, "to be promoted", scene.Stable("v2"))
	want := []string{"4/1", "3/1", "3/2", "2/2", "2/3", "1/3", "1/4", "0/4"}
	if diff := cmp.Diff(want, forth()); diff != "" {
		t.Errorf("pods of v1/v2 (-want +got):\n%s", diff)
	}

	back := sizes(t, s, name, "v2", "v3")
	if err := s.SetImage(t.Context(), name, registry+"my-web:1.2"); err != nil {
		t.Fatal(err)
	}
	await(t, s, name, "to have given pods up at 75%", func(ts *v1alpha1.TrafficShift) bool {
		seen := back()
		return ts.Status.State.Weight == 750 && len(seen) > 0 && seen[len(seen)-1] == "1/3"
	})
	if err := s.Annotate(t.Context(), shiftOf(name), map[string]string{v1alpha1.AnnotationAbort: "v3"}); err != nil {
		t.Fatal(err)
	}
	await(t, s, name, "to be back on v2", func(ts *v1alpha1.TrafficShift) bool {
		return scene.Rejected("v3")(ts) && len(ts.Status.State.Retiring) == 0
	})
	seen := back()
	if i := slices.Index(seen, "1/3"); i < 0 || i+1 >= len(seen) || seen[i+1] != "4/3" || seen[len(seen)-1] != "4/0" {
		t.Errorf("pods of v2/v3 %v; want v2 back at 4 at once, and v3 away in the end", seen)
	}
	lossless(t, inside, outside)
	checked.await(t, "Failed")
	checked.end(t, []string{"Stable", "Progressing Stepping 25%", "Progressing Stepping 50%", "Progressing Stepping 75%", "Progressing Baking 100%", "Failed"})
}

// sizes records the sizes of two versions' Deployments, as "3/1", from when both exist until the test ends.
func sizes(t *testing.T, s *scene.Scene, name, older, newer string) func() []string {
	t.Helper()
	var lock sync.Mutex
	var seen []string
	now := map[string]int32{}
	ctx, stop := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	t.Cleanup(func() { stop(); watching.Wait() })
	watching.Go(func() {
		for ctx.Err() == nil {
			w, err := s.Client.Watch(ctx, &appsv1.DeploymentList{}, client.InNamespace(scene.Shop), client.MatchingLabels{v1alpha1.LabelShift: name})
			if err != nil {
				time.Sleep(time.Second) // the API server did not answer; to ask again at once would only be load
				continue
			}
			for e := range w.ResultChan() {
				d, ok := e.Object.(*appsv1.Deployment)
				if !ok || d.Spec.Replicas == nil {
					continue
				}
				lock.Lock()
				now[d.Name] = *d.Spec.Replicas
				_, first := now[name+"-"+older]
				_, second := now[name+"-"+newer]
				pair := fmt.Sprintf("%d/%d", now[name+"-"+older], now[name+"-"+newer])
				if first && second && (len(seen) == 0 || seen[len(seen)-1] != pair) {
					seen = append(seen, pair)
				}
				lock.Unlock()
			}
		}
	})
	return func() []string {
		lock.Lock()
		defer lock.Unlock()
		return slices.Clone(seen)
	}
}
