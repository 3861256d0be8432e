package e2e

import (
	"testing"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// README: "`kubectl annotate deployment/micro-api sluice.dev/strategy-` hands one service back without losing a request: the Deployment's own
// pods come up first, then routes and subsets go, then the versions", and "Hosts that only Sluice served keep an un-owned Gateway and
// VirtualService."
func TestHandingBackLosesNothing(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "leaving"
	deploy(t, s, name)
	insiders := within(t, s, name, "http://leaving.shop.svc.cluster.local/", 170)
	await(t, s, name, "to be adopted", scene.Stable("v1"))
	users := through(t, s, name+".example.com", 170)
	release(t, s, name, "v2")
	await(t, s, name, "to be promoted", scene.Stable("v2"))

	if err := s.Annotate(t.Context(), deployment(name), map[string]string{v1alpha1.AnnotationStrategy: ""}); err != nil {
		t.Fatal(err)
	}
	if err := s.Gone(t.Context(), patience, shiftOf(name)); err != nil {
		t.Fatal(err)
	}

	d := deployment(name)
	if err := s.Client.Get(t.Context(), inShop(name), d); err != nil {
		t.Fatal(err)
	}
	if d.Status.AvailableReplicas != 2 || d.Annotations[v1alpha1.AnnotationHeld] != "" {
		t.Errorf("the Deployment has %d of 2 pods available, annotations %v", d.Status.AvailableReplicas, d.Annotations)
	}
	for _, o := range []client.Object{&networkingv1.VirtualService{}, &networkingv1.DestinationRule{}} {
		if err := s.Client.Get(t.Context(), inShop(name), o); !apierrors.IsNotFound(err) {
			t.Errorf("%T %s is left behind: %v", o, name, err)
		}
	}
	for kept, o := range map[string]client.Object{name + "-hosts": &networkingv1.VirtualService{}, name: &networkingv1.Gateway{}} {
		if err := s.Client.Get(t.Context(), inShop(kept), o); err != nil {
			t.Errorf("%T %s should be kept for its hosts: %v", o, kept, err)
		} else if metav1.GetControllerOf(o) != nil || o.GetLabels()[v1alpha1.LabelManagedBy] != "" {
			t.Errorf("%T %s is still owned: %v, %v", o, kept, o.GetOwnerReferences(), o.GetLabels())
		}
	}
	var versions appsv1.DeploymentList
	if err := s.Client.List(t.Context(), &versions, client.InNamespace(scene.Shop), client.MatchingLabels{v1alpha1.LabelShift: name}); err != nil || len(versions.Items) > 0 {
		t.Errorf("%d versions are left behind (%v)", len(versions.Items), err)
	}
	// And back again: what was left for the hosts is taken over, not refused as somebody else's.
	if err := s.Annotate(t.Context(), deployment(name), map[string]string{v1alpha1.AnnotationStrategy: "canary"}); err != nil {
		t.Fatal(err)
	}
	await(t, s, name, "to be adopted a second time", func(ts *v1alpha1.TrafficShift) bool { return ts.Status.Phase == v1alpha1.PhaseStable })
	sent(t, 10_000, insiders, users) // as adoption, a shift and handing back are judged
	lossless(t, insiders, users)
}
