package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/lab/load"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// README: "`kubectl apply` of a held Deployment with `replicas: 3` starts no pod, and says how many pods the service is to have." It is applied so
// at every release, as GitOps tools do, with another number at the last.
func TestReplicasAppliedAtEveryRelease(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "applied"
	deploy(t, s, name)
	await(t, s, name, "to be adopted", scene.Stable("v1"))
	users := through(t, s, name+".example.com", 60)
	started := watchTemplate(t, s, name)
	for i, replicas := range []int32{2, 3} {
		version := fmt.Sprintf("v%d", i+2)
		text := strings.NewReplacer("NAME", name, "SHOP", scene.Shop, "IMAGE", "registry.example.com/lab/app:1",
			"value: v1", "value: "+version, "replicas: 2", fmt.Sprintf("replicas: %d", replicas)).Replace(manifest)
		if err := s.ApplyYAML(t.Context(), []byte(text)); err != nil {
			t.Fatal(err)
		}
		await(t, s, name, "to promote what was applied", scene.Stable(version))
		await(t, s, name, "to have what was applied", func(ts *v1alpha1.TrafficShift) bool { return *ts.Spec.Replicas == replicas })
		eventually(t, "the pods that were asked for", func(ctx context.Context) error { return sized(ctx, s, name+"-"+version, replicas) })
	}
	if n := started.Load(); n > 0 {
		t.Errorf("the held Deployment was seen with replicas %d times; want never", n)
	}
	lossless(t, users)
}

// watchTemplate counts the states of a held Deployment in which it asks for pods, from now until the test ends.
func watchTemplate(t *testing.T, s *scene.Scene, name string) *atomic.Int32 {
	t.Helper()
	seen := &atomic.Int32{}
	w, err := s.Client.Watch(t.Context(), &appsv1.DeploymentList{}, client.InNamespace(scene.Shop), client.MatchingFields{"metadata.name": name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	go func() {
		for e := range w.ResultChan() {
			if d, ok := e.Object.(*appsv1.Deployment); ok && d.DeletionTimestamp.IsZero() && d.Spec.Replicas != nil && *d.Spec.Replicas > 0 {
				seen.Add(1)
			}
		}
	}()
	return seen
}

// README: "If something keeps scaling it up, Sluice stops and `ReplicasContested` says so: those pods get no traffic." `kubectl scale` goes past
// every admission policy for Deployments.
func TestTheDeploymentScaledFromOutside(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "contested"
	service(t, s, name)
	users := through(t, s, name+".example.com", 60)
	contested := func(ctx context.Context) error {
		ts, err := s.Shift(ctx, name)
		if err != nil {
			return err
		}
		if c := meta.FindStatusCondition(ts.Status.Conditions, v1alpha1.ConditionReplicasContested); c == nil || !strings.Contains(c.Message, `"scaler"`) {
			return fmt.Errorf("condition %+v", c)
		}
		return nil
	}
	eventually(t, "Sluice to stop and say who it is", func(ctx context.Context) error {
		scale := &autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: 3}}
		err := s.Client.SubResource("scale").Update(ctx, deployment(name), client.WithSubResourceBody(scale), client.FieldOwner("scaler"))
		return errors.Join(err, contested(ctx))
	})
	ts := await(t, s, name, "to say so", func(ts *v1alpha1.TrafficShift) bool {
		return strings.Contains(ts.Status.Message, "keeps scaling the Deployment up")
	})
	if ts.Status.Stable != "v1" || ts.Status.Phase != v1alpha1.PhaseStable {
		t.Errorf("%s on %s; want it at rest on v1", ts.Status.Phase, ts.Status.Stable)
	}
	release(t, s, name, "v2")
	await(t, s, name, "to release all the same", scene.Stable("v2"))
	eventually(t, "the Deployment to be held again", func(ctx context.Context) error { return sized(ctx, s, name, 0) })
	lossless(t, users)
}

// README: "Deleting the TrafficShift hands the service back in the same way; while the annotations ask for one, it is taken over again." Over
// 10,000 requests. Then the Deployment is deleted: what is Sluice's goes with it.
func TestDeletingTheTrafficShiftLosesNothing(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "deleted"
	service(t, s, name)
	insiders := within(t, s, name, "http://deleted.shop.svc.cluster.local/", 170)
	users := through(t, s, name+".example.com", 170)
	was, err := s.Shift(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Client.Delete(t.Context(), shiftOf(name)); err != nil {
		t.Fatal(err)
	}
	await(t, s, name, "to be handed back and taken over again", func(ts *v1alpha1.TrafficShift) bool {
		return ts.UID != was.UID && ts.Status.Phase == v1alpha1.PhaseStable
	})
	reached(t, 10_000, insiders, users)
	lossless(t, insiders, users)
	insiders.Stop()
	users.Stop()

	if err := s.Client.Delete(t.Context(), deployment(name)); err != nil {
		t.Fatal(err)
	}
	for left, o := range map[string]client.Object{
		name: &networkingv1.VirtualService{}, name + "-hosts": &networkingv1.VirtualService{}, name + "-v1": &appsv1.ControllerRevision{},
	} {
		o.SetNamespace(scene.Shop)
		o.SetName(left)
		if err := s.Gone(t.Context(), patience, o); err != nil {
			t.Error(err)
		}
	}
	if err := s.Gone(t.Context(), patience, shiftOf(name)); err != nil {
		t.Error(err)
	}
	eventually(t, "the versions to go", func(ctx context.Context) error {
		var versions appsv1.DeploymentList
		if err := s.Client.List(ctx, &versions, client.InNamespace(scene.Shop), client.MatchingLabels{v1alpha1.LabelShift: name}); err != nil {
			return err
		}
		if n := len(versions.Items); n > 0 {
			return fmt.Errorf("%d are left", n)
		}
		return nil
	})
}

// reached waits until clients have sent so many requests in all.
func reached(t *testing.T, total int, sources ...*load.Source) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d requests", total), func(context.Context) error {
		sent := 0
		for _, source := range sources {
			sent += source.Report().Total
		}
		if sent < total {
			return fmt.Errorf("%d are sent", sent)
		}
		return nil
	})
}
