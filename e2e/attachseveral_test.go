package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/lab/load"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// parcels is what a team has whose gateway's routes are kept by others, in a namespace of theirs, and the mesh's by itself: two VirtualServices,
// each with what is its own.
const parcels = `
apiVersion: v1
kind: Namespace
metadata: {name: edge}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: parcels, namespace: edge}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [parcels.example.com]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: parcels
  namespace: edge
  annotations: {sluice.dev/allowed-namespaces: shop}
spec:
  hosts: [parcels.example.com]
  gateways: [parcels]
  http:
  - {name: moved, match: [{uri: {exact: /old}}], redirect: {uri: /}}
  - {name: public, timeout: 3s, route: [{destination: {host: parcels.shop.svc.cluster.local, port: {number: 80}}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: parcels-internal, namespace: shop}
spec:
  hosts: [parcels.shop.svc.cluster.local]
  http:
  - {name: any, retries: {attempts: 0}, route: [{destination: {host: parcels.shop.svc.cluster.local, port: {number: 80}}, weight: 100}]}
---
apiVersion: v1
kind: Service
metadata: {name: parcels, namespace: shop}
spec:
  selector: {app: parcels}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: parcels
  namespace: shop
  annotations:
    sluice.dev/strategy: canary
    sluice.dev/virtual-service: parcels@edge/public; parcels-internal
    sluice.dev/steps: "10,50,100"
    sluice.dev/hold: 5s
    sluice.dev/min-requests: "20"
    sluice.dev/bake: 5s
spec:
  replicas: 2
  selector: {matchLabels: {app: parcels}}
  template:
    metadata: {labels: {app: parcels}}
    spec:
      containers:
      - name: parcels
        image: ` + registry + `kubia:v1
        ports: [{containerPort: 8080}]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
`

// Two VirtualServices of the user's, the gateway's in another namespace and the mesh's, carry the same weights under load on both; a bad release goes back on
// both; and both are in the end what their owner wrote.
func TestAttachSeveral(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "parcels"
	checked := watchOver(t, s, name)
	if err := s.ApplyYAML(t.Context(), []byte(parcels)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		remove(t, s, name+"-internal")
		if err := s.Client.Delete(context.Background(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "edge"}}); err != nil && s.Err() == nil {
			t.Errorf("removing Namespace edge: %v", err)
		}
	})
	t.Cleanup(func() { leave(t, s, name) })
	all := []types.NamespacedName{{Namespace: "edge", Name: name}, inShop(name + "-internal")}
	users := func() []any { return []any{specOfUsers(t, s, all[0]), specOfUsers(t, s, all[1])} }
	before := users()
	inside := within(t, s, name, "http://parcels.shop.svc.cluster.local/", 60)
	await(t, s, name, "to be adopted", scene.Stable("v1"))
	outside := through(t, s, "parcels.example.com", 60)

	set := func(tag string) {
		t.Helper()
		if err := s.SetImage(t.Context(), name, registry+"kubia:"+tag); err != nil {
			t.Fatal(err)
		}
	}
	set("v2")
	await(t, s, name, "to prove 50%", proven(500))
	checkShares(t, s, name, "v2", 500, 4*time.Second, map[string]*load.Source{"in the mesh": inside, "at the gateway": outside})
	if ts := await(t, s, name, "to be promoted", scene.Stable("v2")); ts.Status.History[0].Reason != v1alpha1.ReasonPromoted {
		t.Errorf("it ended as %+v", ts.Status.History[0])
	}
	lossless(t, inside, outside)

	set("v3-users")
	ts := await(t, s, name, "to take v3 back", scene.Rejected("v3"))
	putAway(t, s, name, "v3")
	for _, of := range all {
		eventually(t, "v3 to be out of "+of.String(), func(ctx context.Context) error {
			vs := &networkingv1.VirtualService{}
			if err := s.Client.Get(ctx, of, vs); err != nil {
				return err
			}
			to := vs.Spec.GetHttp()[len(vs.Spec.GetHttp())-1].GetRoute()
			if len(to) != 1 || to[0].GetDestination().GetSubset() != "v2" {
				return fmt.Errorf("it says %v", to)
			}
			return nil
		})
	}
	if got := ts.Status.History[0].Weight; got != "10%" {
		t.Errorf("v3-users got as far as %s; want the first step", got)
	}
	bad := slices.Concat(inside.Report().Failures, outside.Report().Failures)
	withinSeconds(t, len(bad), 2*60*0.1)
	for _, f := range bad {
		if f.Version != "v3-users" {
			t.Errorf("a client saw a failure that the bad image did not produce: %+v", f)
		}
	}
	set("v2") // users are on it, and handing back waits for the template to be it
	await(t, s, name, "to be at rest", scene.Stable("v2"))
	checked.await(t, "Stable")
	handBack(t, s, name)
	if diff := cmp.Diff(before, users()); diff != "" {
		t.Errorf("the user's VirtualServices (-before +after):\n%s", diff)
	}
	sent(t, 4_000, inside, outside)
	if now := slices.Concat(inside.Report().Failures, outside.Report().Failures); len(now) != len(bad) {
		t.Errorf("%d requests more failed after v3 was taken back", len(now)-len(bad))
	}
	checked.end(t, []string{
		"Progressing Exposing", "Progressing Stepping 10%", "Progressing Stepping 50%", "Progressing Baking 100%", "Failed, v3 retiring",
	})
}

// gauge is a service of TCP alone whose route is its team's own.
const gauge = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: gauge, namespace: shop}
spec:
  hosts: [gauge.shop.svc.cluster.local]
  tcp:
  - match: [{port: 9000}]
    route: [{destination: {host: gauge.shop.svc.cluster.local, port: {number: 9000}}, weight: 100}]
---
apiVersion: v1
kind: Service
metadata: {name: gauge, namespace: shop}
spec:
  selector: {app: gauge}
  ports: [{name: tcp-echo, port: 9000, targetPort: 9000}]
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: gauge
  namespace: shop
  annotations:
    sluice.dev/strategy: canary
    sluice.dev/virtual-service: gauge
    sluice.dev/steps: "10,50,100"
    sluice.dev/hold: 5s
    sluice.dev/min-requests: "20"
    sluice.dev/bake: 5s
    sluice.dev/max-increase: "5%"
spec:
  replicas: 2
  selector: {matchLabels: {app: gauge}}
  template:
    metadata: {labels: {app: gauge}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: gauge
        image: ` + registry + `tcp-echo:1
        env: [{name: VERSION, value: v1}]
        ports: [{containerPort: 9000}, {containerPort: 8080}]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
`

// A TCP route of the user's carries the weights: a good release loses no connection, and a bad one is taken back by its connections.
func TestAttachToConnections(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "gauge"
	checked := watchOver(t, s, name)
	if err := s.ApplyYAML(t.Context(), []byte(gauge)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remove(t, s, name) })
	t.Cleanup(func() { leave(t, s, name) })
	before := routesOfUsers(t, s, name)
	await(t, s, name, "to be adopted", scene.Stable("v1"))
	users := connecting(t, callerOf(t, s, name), "gauge.shop.svc.cluster.local:9000", 60)

	release(t, s, name, "v2")
	await(t, s, name, "to prove 50%", proven(500))
	checkShares(t, s, name, "v2", 500, 3*time.Second, map[string]*load.Source{"connections": users})
	await(t, s, name, "to be promoted", scene.Stable("v2"))
	lossless(t, users)

	release(t, s, name, "v3", "REFUSE=true")
	ts := await(t, s, name, "to take v3 back", scene.Rejected("v3"))
	if got := ts.Status.History[0]; got.Reason != v1alpha1.ReasonErrorRateVsStable && got.Reason != v1alpha1.ReasonErrorRate {
		t.Errorf("it ended as %+v; want the evidence of connections", got)
	}
	release(t, s, name, "v2") // users are on it, and handing back waits for the template to be it
	await(t, s, name, "to be at rest", scene.Stable("v2"))
	handBack(t, s, name)
	if diff := cmp.Diff(before, routesOfUsers(t, s, name)); diff != "" {
		t.Errorf("the user's VirtualService (-before +after):\n%s", diff)
	}
	checked.end(t, []string{"Progressing Stepping 10%", "Progressing Stepping 50%", "Progressing Baking 100%"})
}
