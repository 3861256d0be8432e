package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/lab/load"
	"github.com/sluice-dev/sluice/e2e/lab/xds"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// TestGatewayAPI is a service whose routes are those of the Gateway API, from adoption to handing back, under load. docs/gateway-api.md:
// "clients with a sidecar follow it like a VirtualService", "a GRPCRoute for each port that is gRPC" and "Handing back loses no request".
func TestGatewayAPI(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "by-route"
	service(t, s, name, "routing=gateway", "hosts=", "steps=5,50@10s,100")
	users := within(t, s, name, "http://by-route.shop.svc.cluster.local/", 80)
	awaitAccepted(t, s, name+"-80", &gatewayv1.HTTPRoute{})
	awaitAccepted(t, s, name+"-7070", &gatewayv1.GRPCRoute{})
	watcher, err := s.Plane.Client(t.Context(), name+"-watcher", scene.Shop)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(watcher.Stop)

	release(t, s, name, "v2")
	await(t, s, name, "to prove 50%", proven(500))
	halt(t, s, name, 500)
	for _, port := range []uint32{80, 7070} {
		want := map[string]uint32{backend(name, "v1", port): 50, backend(name, "v2", port): 50}
		eventually(t, fmt.Sprintf("istiod to tell a sidecar of port %d", port), func(context.Context) error {
			if diff := cmp.Diff(want, weighted(watcher.Snapshot(), port, name)); diff != "" {
				return fmt.Errorf("(-want +got):\n%s", diff)
			}
			return nil
		})
	}
	checkShares(t, s, name, "v2", 500, 4*time.Second, map[string]*load.Source{"in the mesh": users})
	await(t, s, name, "to be promoted", scene.Stable("v2"))
	checkShare(t, "in the mesh", users, "v2", v1alpha1.Whole, 2*time.Second)
	if err := s.Gone(t.Context(), patience, &corev1.Service{ObjectMeta: deployment(name + "-v1").ObjectMeta}); err != nil {
		t.Error(err)
	}
	if err := s.Client.Get(t.Context(), inShop(name), &networkingv1.VirtualService{}); err == nil {
		t.Error("a VirtualService was made beside the HTTPRoute")
	}

	release(t, s, name, "v3", "ERROR_RATE=0.5")
	ts := await(t, s, name, "to refuse v3", scene.Rejected("v3"))
	if got := ts.Status.History[0]; got.Weight == "0%" {
		t.Errorf("v3 ended as %s at %s; want it convicted by its errors", got.Reason, got.Weight)
	}
	users.Mark("handing back")
	if err := s.Annotate(t.Context(), deployment(name), map[string]string{v1alpha1.AnnotationDetach: "", v1alpha1.AnnotationStrategy: ""}); err != nil {
		t.Fatal(err)
	}
	release(t, s, name, "v2") // the template of the version that users are on: handing back any other would release it ungated
	if err := s.Gone(t.Context(), patience, &v1alpha1.TrafficShift{ObjectMeta: deployment(name).ObjectMeta}); err != nil {
		t.Fatal(err)
	}
	if err := s.Gone(t.Context(), patience, &gatewayv1.HTTPRoute{ObjectMeta: deployment(name + "-80").ObjectMeta}); err != nil {
		t.Error(err)
	}
	for _, f := range users.Report().Failures {
		if f.Version != "v3" {
			t.Errorf("a client saw a failure that the bad version did not produce: %+v", f)
		}
	}
}

// awaitAccepted waits until istiod says that it has taken a route.
func awaitAccepted(t *testing.T, s *scene.Scene, name string, route client.Object) {
	t.Helper()
	eventually(t, name+" to be accepted", func(ctx context.Context) error {
		if err := s.Client.Get(ctx, inShop(name), route); err != nil {
			return err
		}
		var parents []gatewayv1.RouteParentStatus
		switch r := route.(type) {
		case *gatewayv1.HTTPRoute:
			parents = r.Status.Parents
		case *gatewayv1.GRPCRoute:
			parents = r.Status.Parents
		}
		for _, p := range parents {
			if meta.IsStatusConditionTrue(p.Conditions, "Accepted") && meta.IsStatusConditionTrue(p.Conditions, "ResolvedRefs") {
				return nil
			}
		}
		return fmt.Errorf("istiod says: %+v", parents)
	})
}

// backend is the cluster that istiod makes of a version's own Service.
func backend(name, version string, port uint32) string {
	return fmt.Sprintf("outbound|%d||%s-%s.%s.svc.cluster.local", port, name, version, scene.Shop)
}

// weighted are the clusters, with their weights, that a sidecar spreads the requests for a service over.
func weighted(snap *xds.Snapshot, port uint32, name string) map[string]uint32 {
	l, ok := snap.ListenerOn(port)
	if !ok {
		return nil
	}
	for _, vh := range snap.RoutesOf(l).GetVirtualHosts() {
		for _, domain := range vh.GetDomains() {
			if domain == name+"."+scene.Shop+".svc.cluster.local" {
				return clustersOf(vh.GetRoutes())
			}
		}
	}
	return nil
}

func clustersOf(routes []*routev3.Route) map[string]uint32 {
	all := map[string]uint32{}
	for _, r := range routes {
		if c := r.GetRoute().GetCluster(); c != "" {
			all[c] = 100
		}
		for _, c := range r.GetRoute().GetWeightedClusters().GetClusters() {
			all[c.GetName()] += c.GetWeight().GetValue()
		}
	}
	return all
}
