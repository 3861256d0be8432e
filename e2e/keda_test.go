package e2e

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// scaledObjects is the kind of KEDA's that Sluice looks for when it starts. Nothing in the lab acts on one but the stand-in below.
const scaledObjects = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: scaledobjects.keda.sh}
spec:
  group: keda.sh
  scope: Namespaced
  names: {plural: scaledobjects, singular: scaledobject, kind: ScaledObject, listKind: ScaledObjectList}
  versions:
  - name: v1alpha1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

func scaledObject(name string) *unstructured.Unstructured {
	o := &unstructured.Unstructured{}
	o.SetAPIVersion("keda.sh/v1alpha1")
	o.SetKind("ScaledObject")
	o.SetNamespace(scene.Shop)
	o.SetName(name)
	return o
}

// TestKEDA is the example examples/keda, with a stand-in for KEDA that wakes what stands at 0 and keeps minReplicaCount. Its README:
// "`orders-sluice` has the settings of the ScaledObject `orders`, scales the TrafficShift, follows every change of `orders`, and goes with it",
// "`orders` itself is paused meanwhile", and "handed back it is as it was". What it shows beyond the tests of the reconciler: the chart's role
// and the watch of an object whose types nobody knows are enough, and no client sees any of it.
func TestKEDA(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "orders"
	if err := s.Apply(t.Context(), "examples/keda"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		leave(t, s, name)
		_ = s.Client.Delete(context.Background(), scaledObject(name))
	})
	woken := keda(t, s, name)
	await(t, s, name, "to be adopted", scene.Stable("v1"))
	woken.Store(0) // it may have looked just before it was paused
	users := through(t, s, name+".example.com", 60)
	eventually(t, "the least of pods", func(ctx context.Context) error { return sized(ctx, s, name+"-v1", 2) })
	least(t, s, name, 3)
	eventually(t, "the user's new least of pods", func(ctx context.Context) error { return sized(ctx, s, name+"-v1", 3) })

	if err := s.SetImage(t.Context(), name, registry+"my-web:1.1"); err != nil {
		t.Fatal(err)
	}
	await(t, s, name, "to prove 20%", proven(200))
	least(t, s, name, 4)
	eventually(t, "more pods in the middle of the release", func(ctx context.Context) error { return sized(ctx, s, name+"-v1", 4) })
	await(t, s, name, "to be released", scene.Stable("v2"))
	if n := woken.Load(); n > 0 {
		t.Errorf("the held Deployment was woken %d times", n)
	}

	if err := s.Annotate(t.Context(), deployment(name), map[string]string{v1alpha1.AnnotationStrategy: ""}); err != nil {
		t.Fatal(err)
	}
	for _, o := range []client.Object{shiftOf(name), scaledObject(name + "-sluice")} {
		if err := s.Gone(t.Context(), patience, o); err != nil {
			t.Fatal(err)
		}
	}
	theirs := scaledObject(name)
	if err := s.Client.Get(t.Context(), inShop(name), theirs); err != nil {
		t.Fatal(err)
	}
	for key := range theirs.GetAnnotations() {
		if key == "autoscaling.keda.sh/paused" || key == "sluice.dev/paused-for" {
			t.Errorf("handed back, it has the annotation %s: %q", key, theirs.GetAnnotations()[key])
		}
	}
	for _, e := range theirs.GetManagedFields() {
		if e.Manager == v1alpha1.FieldManager {
			t.Errorf("handed back, it has fields of Sluice's: %s", e.FieldsV1)
		}
	}
	least(t, s, name, 5)
	eventually(t, "KEDA to scale the Deployment again", func(ctx context.Context) error { return sized(ctx, s, name, 5) })
	lossless(t, users)
}

// least sets minReplicaCount of the user's ScaledObject.
func least(t *testing.T, s *scene.Scene, name string, n int) {
	t.Helper()
	patch := fmt.Sprintf(`{"spec":{"minReplicaCount":%d}}`, n)
	if err := s.Client.Patch(t.Context(), scaledObject(name), client.RawPatch(types.MergePatchType, []byte(patch)), client.FieldOwner("kubectl")); err != nil {
		t.Fatal(err)
	}
}

// keda stands in for KEDA until the test ends: whatever a ScaledObject targets has minReplicaCount pods at least, unless that is paused. It
// counts how often it finds a Deployment that is held as a template, and wakes it.
func keda(t *testing.T, s *scene.Scene, name string) *atomic.Int32 {
	t.Helper()
	woken := &atomic.Int32{}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	t.Cleanup(func() { stop(); <-done })
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			for _, o := range []string{name, name + "-sluice"} {
				held, err := scaleBy(ctx, s, o)
				if held {
					woken.Add(1)
				}
				if err != nil && ctx.Err() == nil && client.IgnoreNotFound(err) != nil {
					t.Logf("the stand-in for KEDA: %v", err) // a conflict, which the next look settles
				}
			}
			select {
			case <-ctx.Done():
			case <-time.After(200 * time.Millisecond): // far more often than KEDA looks
			}
		}
	}()
	return woken
}

// scaleBy does what one ScaledObject asks for. It reports whether that woke a held Deployment.
func scaleBy(ctx context.Context, s *scene.Scene, name string) (held bool, err error) {
	o := scaledObject(name)
	if err := s.Client.Get(ctx, inShop(name), o); err != nil {
		return false, err
	}
	if _, paused := o.GetAnnotations()["autoscaling.keda.sh/paused"]; paused || o.GetDeletionTimestamp() != nil {
		return false, nil
	}
	want, _, err := unstructured.NestedInt64(o.Object, "spec", "minReplicaCount")
	kind, _, _ := unstructured.NestedString(o.Object, "spec", "scaleTargetRef", "kind")
	target, _, _ := unstructured.NestedString(o.Object, "spec", "scaleTargetRef", "name")
	if err != nil || target == "" {
		return false, errors.Join(err, fmt.Errorf("ScaledObject %s has the target %q", name, target))
	}
	var scaled client.Object = deployment(target)
	if kind == "TrafficShift" {
		scaled = shiftOf(target)
	}
	if err := s.Client.Get(ctx, inShop(target), scaled); err != nil {
		return false, err
	}
	scale := &autoscalingv1.Scale{}
	if err := s.Client.SubResource("scale").Get(ctx, scaled, scale); err != nil || scale.Spec.Replicas >= int32(want) {
		return false, err
	}
	scale.Spec.Replicas = int32(want)
	if err := s.Client.SubResource("scale").Update(ctx, scaled, client.WithSubResourceBody(scale)); err != nil {
		return false, err
	}
	return scaled.GetAnnotations()[v1alpha1.AnnotationHeld] == "true", nil
}
