package e2e

import (
	"context"
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// TestHPA is the example examples/hpa, with Kubernetes' own autoscaler. Its README: "`reviews-sluice` has the settings of `reviews`, scales the
// TrafficShift, follows every change of `reviews`, and goes with it", "More pods are made at once, of both versions. Fewer are not, until the
// release is over", and "The PodDisruptionBudget needs nothing".
func TestHPA(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "reviews"
	if err := s.Apply(t.Context(), "examples/hpa"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		leave(t, s, name)
		for _, o := range []client.Object{&autoscalingv2.HorizontalPodAutoscaler{}, &policyv1.PodDisruptionBudget{}} {
			o.SetNamespace(scene.Shop)
			o.SetName(name)
			_ = s.Client.Delete(context.Background(), o)
		}
	})
	await(t, s, name, "to be adopted", scene.Stable("v1"))
	users := through(t, s, "reviews.example.com", 60)
	eventually(t, "the user's autoscaler to be idle", func(ctx context.Context) error { return scaling(ctx, s, name, "ScalingDisabled") })
	eventually(t, "the autoscaler's least of pods", func(ctx context.Context) error { return sized(ctx, s, name+"-v1", 3) })
	checkBudget(t, s, name, 3)

	if err := s.SetImage(t.Context(), name, registry+"my-web:1.1"); err != nil {
		t.Fatal(err)
	}
	await(t, s, name, "to prove 20%", proven(200))
	halt(t, s, name, 200)
	bound(t, s, name, 4, 6)
	eventually(t, "more pods in the middle of the release", func(ctx context.Context) error { return sized(ctx, s, name+"-v1", 4) })
	checkBudget(t, s, name, 5)
	require(t, s, name, v1alpha1.AnnotationPaused, "")
	await(t, s, name, "to prove 50%", proven(500))
	halt(t, s, name, 500)
	bound(t, s, name, 1, 2)
	await(t, s, name, "to be told to have 2 pods", func(ts *v1alpha1.TrafficShift) bool { return *ts.Spec.Replicas == 2 })
	least := int32(4)
	back := sizes(t, s, name, "v1", "v2")
	if err := s.Annotate(t.Context(), shiftOf(name), map[string]string{v1alpha1.AnnotationAbort: "v2"}); err != nil {
		t.Fatal(err)
	}
	await(t, s, name, "to be rolled back", scene.Rejected("v2"))
	require(t, s, name, v1alpha1.AnnotationPaused, "")
	eventually(t, "fewer pods now that the release is over", func(ctx context.Context) error { return sized(ctx, s, name+"-v1", 2) })
	for i, pair := range back() {
		var stable, candidate int32
		if _, err := fmt.Sscanf(pair, "%d/%d", &stable, &candidate); err != nil || stable < least && i == 0 {
			t.Errorf("v1/v2 had %s pods when the way back began; want %d of v1", pair, least)
		}
	}
	lossless(t, users)

	if err := s.Annotate(t.Context(), deployment(name), map[string]string{v1alpha1.AnnotationStrategy: ""}); err != nil {
		t.Fatal(err)
	}
	if err := s.SetImage(t.Context(), name, registry+"my-web:1.0"); err != nil { // or the refused template would be handed back ungated
		t.Fatal(err)
	}
	if err := s.Gone(t.Context(), patience, shiftOf(name)); err != nil {
		t.Fatal(err)
	}
	ours := &autoscalingv2.HorizontalPodAutoscaler{}
	ours.SetNamespace(scene.Shop)
	ours.SetName(name + "-sluice")
	if err := s.Gone(t.Context(), patience, ours); err != nil {
		t.Error(err)
	}
	bound(t, s, name, 5, 6)
	eventually(t, "the user's own autoscaler to scale the Deployment again", func(ctx context.Context) error { return sized(ctx, s, name, 5) })
	lossless(t, users)
}

// bound sets how many pods the user's autoscaler allows.
func bound(t *testing.T, s *scene.Scene, name string, least, most int32) {
	t.Helper()
	hpa := &autoscalingv2.HorizontalPodAutoscaler{}
	hpa.SetNamespace(scene.Shop)
	hpa.SetName(name)
	patch := fmt.Sprintf(`{"spec":{"minReplicas":%d,"maxReplicas":%d}}`, least, most)
	if err := s.Client.Patch(t.Context(), hpa, client.RawPatch(types.MergePatchType, []byte(patch)), client.FieldOwner("kubectl")); err != nil {
		t.Fatal(err)
	}
}

// scaling says why an autoscaler's ScalingActive is not false for that reason.
func scaling(ctx context.Context, s *scene.Scene, name, reason string) error {
	hpa := &autoscalingv2.HorizontalPodAutoscaler{}
	if err := s.Client.Get(ctx, inShop(name), hpa); err != nil {
		return err
	}
	for _, c := range hpa.Status.Conditions {
		if c.Type == autoscalingv2.ScalingActive && c.Status == corev1.ConditionFalse && c.Reason == reason {
			return nil
		}
	}
	return fmt.Errorf("conditions %+v", hpa.Status.Conditions)
}

func sized(ctx context.Context, s *scene.Scene, name string, want int32) error {
	d := &appsv1.Deployment{}
	if err := s.Client.Get(ctx, inShop(name), d); err != nil {
		return err
	}
	if *d.Spec.Replicas != want {
		return fmt.Errorf("%s has %d replicas", name, *d.Spec.Replicas)
	}
	return nil
}

// checkBudget asserts that a disruption budget counts the pods of all versions: at least as many as are expected.
func checkBudget(t *testing.T, s *scene.Scene, name string, least int32) {
	t.Helper()
	eventually(t, "the disruption budget to count the pods of versions", func(ctx context.Context) error {
		budget := &policyv1.PodDisruptionBudget{}
		if err := s.Client.Get(ctx, inShop(name), budget); err != nil {
			return err
		}
		if got := budget.Status.CurrentHealthy; got < least || budget.Status.DisruptionsAllowed == 0 {
			return fmt.Errorf("%d healthy, %d may go, of at least %d", got, budget.Status.DisruptionsAllowed, least)
		}
		return nil
	})
}
