package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/lab/load"
	"github.com/sluice-dev/sluice/e2e/lab/xds"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// ambientShop is the namespace of examples/ambient.
const ambientShop = "ambient-shop"

// waypointPods is what Istio's own deployment controller makes of the example's Gateway. The lab has none: it has no image of a waypoint to
// run. What it runs here only has the address that istiod knows a waypoint by.
const waypointPods = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: waypoint, namespace: ambient-shop}
spec:
  selector: {matchLabels: {gateway.networking.k8s.io/gateway-name: waypoint}}
  template:
    metadata: {labels: {gateway.networking.k8s.io/gateway-name: waypoint, istio.io/dataplane-mode: none}}
    spec:
      containers: [{name: waypoint, image: "registry.example.com/lab/app:1", ports: [{containerPort: 15008}]}]
---
apiVersion: v1
kind: Service
metadata:
  name: waypoint
  namespace: ambient-shop
  labels: {gateway.networking.k8s.io/gateway-name: waypoint}
spec:
  selector: {gateway.networking.k8s.io/gateway-name: waypoint}
  ports: [{name: mesh, port: 15008, appProtocol: hbone}]
`

// TestAmbient applies the files of examples/ambient. README there: "Sluice writes HTTPRoutes", and "one Service for each live version". The
// lab has neither ztunnel nor waypoint: the traffic is that of a client with a sidecar, which follows the same routes, and what a waypoint
// would be told is read from istiod.
func TestAmbient(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "inventory"
	if err := s.Apply(t.Context(), "examples/ambient"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeNamespace(t, s, ambientShop) })
	if err := s.ApplyYAML(t.Context(), []byte(waypointPods)); err != nil {
		t.Fatal(err)
	}
	shift := awaitAmbient(t, s, name, "to be adopted", scene.Stable("v1"))
	if got := shift.Spec.Routing; got != nil {
		t.Errorf("the routing API is in the spec: %+v; want it found out", got)
	}
	route := &gatewayv1.HTTPRoute{}
	get(t, s, name+"-80", route)
	get(t, s, name+"-v1", &corev1.Service{})
	if err := s.Client.Get(t.Context(), types.NamespacedName{Namespace: ambientShop, Name: name}, &networkingv1.VirtualService{}); err == nil {
		t.Error("a VirtualService was made beside the HTTPRoute")
	}
	dump := startWaypoint(t, s)
	users := fromShop(t, s, name)

	d := &appsv1.Deployment{}
	get(t, s, name, d)
	was := d.DeepCopy()
	d.Spec.Template.Spec.Containers[0].Image = registry + "micro-api:1.3"
	if err := s.Client.Patch(t.Context(), d, client.MergeFrom(was), client.FieldOwner("kubectl")); err != nil {
		t.Fatal(err)
	}
	awaitAmbient(t, s, name, "to prove 50%", proven(500))
	pauseAmbient(t, s, name, true) // there is time to look
	eventually(t, "the waypoint to be told 50/50", func(ctx context.Context) error {
		got, err := dump(ctx)
		if err != nil {
			return err
		}
		want := map[string]float64{}
		for _, v := range []string{"v1", "v2"} {
			want[fmt.Sprintf("inbound-vip|80|http|%s-%s.%s.svc.cluster.local", name, v, ambientShop)] = 50
		}
		if diff := cmp.Diff(want, got); diff != "" {
			return errors.New(diff)
		}
		return nil
	})
	pauseAmbient(t, s, name, false)
	awaitAmbient(t, s, name, "to be promoted", scene.Stable("v2"))
	lossless(t, users)
}

func pauseAmbient(t *testing.T, s *scene.Scene, name string, paused bool) {
	t.Helper()
	ts := &v1alpha1.TrafficShift{ObjectMeta: metav1.ObjectMeta{Namespace: ambientShop, Name: name}}
	patch := fmt.Appendf(nil, `{"spec":{"paused":%t}}`, paused)
	if err := s.Client.Patch(t.Context(), ts, client.RawPatch(types.MergePatchType, patch), client.FieldOwner("kubectl")); err != nil {
		t.Fatal(err)
	}
}

// fromShop loads the service from a client with a sidecar.
func fromShop(t *testing.T, s *scene.Scene, name string) *load.Source {
	t.Helper()
	return within(t, s, name, "http://"+name+"."+ambientShop+".svc.cluster.local/", 60)
}

func get(t *testing.T, s *scene.Scene, name string, into client.Object) {
	t.Helper()
	if err := s.Client.Get(t.Context(), types.NamespacedName{Namespace: ambientShop, Name: name}, into); err != nil {
		t.Fatal(err)
	}
}

// awaitAmbient is await for a shift of the example's namespace.
func awaitAmbient(t *testing.T, s *scene.Scene, name, what string, cond func(*v1alpha1.TrafficShift) bool) *v1alpha1.TrafficShift {
	t.Helper()
	ts := &v1alpha1.TrafficShift{}
	eventually(t, name+" "+what, func(ctx context.Context) error {
		if err := s.Client.Get(ctx, types.NamespacedName{Namespace: ambientShop, Name: name}, ts); err != nil {
			return err
		}
		if !cond(ts) {
			return fmt.Errorf("%s %s weight %q: %s", ts.Status.Phase, ts.Status.State.Stage, ts.Status.Weight, ts.Status.Message)
		}
		return nil
	})
	return ts
}

// startWaypoint asks istiod for a waypoint's configuration, and returns what reads it: the clusters, with their weights, that the requests
// for a service are spread over.
func startWaypoint(t *testing.T, s *scene.Scene) func(context.Context) (map[string]float64, error) {
	t.Helper()
	var pod *corev1.Pod
	eventually(t, "the waypoint's pod to be ready", func(ctx context.Context) error {
		var pods corev1.PodList
		if err := s.Client.List(ctx, &pods, client.InNamespace(ambientShop), client.MatchingLabels{"gateway.networking.k8s.io/gateway-name": "waypoint"}); err != nil {
			return err
		}
		for i := range pods.Items {
			if slices.ContainsFunc(pods.Items[i].Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue }) {
				pod = &pods.Items[i]
				return nil
			}
		}
		return fmt.Errorf("%d pods", len(pods.Items))
	})
	node := xds.Node{Type: xds.Waypoint, IP: pod.Status.PodIP, Name: pod.Name, Namespace: ambientShop, Labels: pod.Labels, Workload: "waypoint"}
	waypoint, err := xds.Start(xds.Config{Server: s.XDSAddress, Node: node})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(waypoint.Stop)
	return func(ctx context.Context) (map[string]float64, error) {
		url := fmt.Sprintf("%s/debug/config_dump?proxyID=%s.%s", s.IstiodHTTP, pod.Name, ambientShop)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return nil, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%s: %w: %.300s", resp.Status, err, raw)
		}
		var dump any
		if err := json.Unmarshal(raw, &dump); err != nil {
			return nil, err
		}
		found := map[string]float64{}
		weightedClusters(dump, found)
		return found, nil
	}
}

// weightedClusters finds every weighted cluster of a configuration, wherever it stands in it.
func weightedClusters(in any, found map[string]float64) {
	switch v := in.(type) {
	case map[string]any:
		for key, value := range v {
			w, _ := value.(map[string]any)
			if clusters, ok := w["clusters"].([]any); ok && strings.EqualFold(strings.ReplaceAll(key, "_", ""), "weightedClusters") {
				for _, c := range clusters {
					c, _ := c.(map[string]any)
					name, _ := c["name"].(string)
					weight, _ := c["weight"].(float64)
					found[name] = weight
				}
			}
			weightedClusters(value, found)
		}
	case []any:
		for _, value := range v {
			weightedClusters(value, found)
		}
	}
}

// removeNamespace removes what an example has made.
func removeNamespace(t *testing.T, s *scene.Scene, name string) {
	ctx := context.Background() // the test's own has ended
	if t.Failed() {
		ts := &v1alpha1.TrafficShift{}
		if err := s.Client.Get(ctx, types.NamespacedName{Namespace: name, Name: "inventory"}, ts); err == nil {
			t.Logf("%s %s weight %q observed %q: %s", ts.Status.Phase, ts.Status.State.Stage, ts.Status.Weight, ts.Status.ObservedWeight, ts.Status.Message)
		}
	}
	for _, d := range []string{"inventory", "waypoint"} {
		o := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: d}}
		if err := client.IgnoreNotFound(s.Client.Delete(ctx, o)); err != nil && s.Err() == nil {
			t.Errorf("removing %s: %v", d, err)
		}
	}
}
