package trafficshift

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/apply"
)

// users is a VirtualService that somebody keeps in git: two routes to the service, one of them without a weight, and one to another.
const users = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: shop
  labels: {team: checkout}
  annotations: {note: ours}
spec:
  hosts: [shop.example.com, micro-api]
  gateways: [mesh, public]
  http:
  - name: admin
    match: [{uri: {prefix: /admin}}]
    route: [{destination: {host: admin}}]
  - name: api
    match: [{uri: {prefix: /api}}]
    timeout: 5s
    retries: {attempts: 2}
    route: [{destination: {host: micro-api, port: {number: 80}}, weight: 100, headers: {request: {set: {x-a: b}}}}]
  - name: main
    route: [{destination: {host: micro-api}}]
`

// attached is a TrafficShift that writes the weights of users.
var attached = strings.Replace(trafficShift, "spec:", "spec:\n  routing: {virtualService: {name: shop}}", 1)

// read returns the VirtualService as the API server has it.
func (c *cluster) read() *unstructured.Unstructured {
	c.Helper()
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(virtualServiceKind)
	if err := c.Get(c.Context(), types.NamespacedName{Namespace: c.ns, Name: "shop"}, u); err != nil {
		c.Fatal(err)
	}
	return u
}

// spec is what somebody would see as a diff of git.
func specOf(u *unstructured.Unstructured) any {
	return map[string]any{"spec": u.Object["spec"], "labels": u.GetLabels(), "annotations": u.GetAnnotations(), "owners": u.GetOwnerReferences()}
}

// splits are the destinations of each route to the service, as "subset weight".
func (c *cluster) splits() map[string]map[string]int32 {
	c.Helper()
	vs := &networkingv1.VirtualService{}
	c.get("shop", vs)
	all := map[string]map[string]int32{}
	for _, http := range vs.Spec.GetHttp() {
		all[http.GetName()] = map[string]int32{}
		for _, d := range http.GetRoute() {
			all[http.GetName()][d.GetDestination().GetSubset()] = d.GetWeight()
		}
	}
	return all
}

func (c *cluster) attach() {
	c.Helper()
	c.counts.read = func() map[string]int32 { return c.splits()["api"] }
	c.apply(users)
	c.apply(service)
	c.apply(attached)
	c.kubelet()
	c.run("adoption", 60, resting)
}

// From adoption to handing back, Sluice writes subset and weight of the destinations of the routes to the service; the rest, to the last
// byte, is as its owner wrote it, and in the end so is all of it.
func TestAttachWritesWeightsAndNothingElse(t *testing.T) {
	c := newCluster(t)
	c.apply(users)
	before := c.read()
	if err := c.Delete(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	c.attach()
	if diff := cmp.Diff(map[string]map[string]int32{"admin": {"": 0}, "api": {"v1": 100}, "main": {"v1": 0}}, c.splits()); diff != "" {
		t.Errorf("at rest (-want +got):\n%s", diff)
	}
	own := &networkingv1.VirtualService{}
	if c.get("micro-api", own) || c.get("micro-api-hosts", own) {
		t.Error("Sluice made a VirtualService of its own as well")
	}

	c.setImage("micro-api:1.2")
	c.run("50%", 90, func(s *v1alpha1.TrafficShift) bool {
		return s.Status.Weight == "50%" && s.Status.State.VerifiedSince != nil
	})
	if diff := cmp.Diff(map[string]map[string]int32{"admin": {"": 0}, "api": {"v1": 50, "v2": 50}, "main": {"v1": 50, "v2": 50}}, c.splits()); diff != "" {
		t.Errorf("at 50%% (-want +got):\n%s", diff)
	}
	// What a person changes elsewhere in it stays.
	c.patchJSON("shop", `[{"op": "replace", "path": "/spec/http/1/timeout", "value": "9s"}, {"op": "add", "path": "/metadata/labels/more", "value": "yes"}]`)
	c.run("promotion", 90, promoted("v2"))
	if diff := cmp.Diff(map[string]map[string]int32{"admin": {"": 0}, "api": {"v2": 100}, "main": {"v2": 0}}, c.splits()); diff != "" {
		t.Errorf("promoted (-want +got):\n%s", diff)
	}

	c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"metadata": {"annotations": {"sluice.dev/detach": "true"}}}`)
	c.run("handing back", 90, func(s *v1alpha1.TrafficShift) bool { return s.Status.State.Stage == v1alpha1.StageReleased })
	after := c.read()
	want, _ := specOf(before).(map[string]any)
	http, _, _ := unstructured.NestedSlice(before.Object, "spec", "http")
	api, _ := http[1].(map[string]any)
	api["timeout"] = "9s"
	spec, _ := want["spec"].(map[string]any)
	spec["http"] = http
	labels, _ := want["labels"].(map[string]string)
	labels["more"] = "yes"
	if diff := cmp.Diff(want, specOf(after)); diff != "" {
		t.Errorf("after handing back (-before +after):\n%s", diff)
	}
	if apply.Managed(after, v1alpha1.FieldManager) {
		t.Errorf("managedFields still name us: %v", after.GetManagedFields())
	}
	if c.subsets() != nil {
		t.Errorf("subsets %v are left", c.subsets())
	}
}

// Whoever applies the version of git in the middle of a shift names the bare host, and so every version: the weights are written again at
// once, and that is no abort.
func TestTheVersionOfGitIsWrittenOver(t *testing.T) {
	c := newCluster(t)
	c.attach()
	c.setImage("micro-api:1.2")
	c.run("50%", 90, func(s *v1alpha1.TrafficShift) bool {
		return s.Status.Weight == "50%" && s.Status.State.VerifiedSince != nil
	})
	git := map[string]any{}
	if err := yaml.Unmarshal([]byte(users), &git); err != nil {
		t.Fatal(err)
	}
	spec, _ := json.Marshal(map[string]any{"spec": git["spec"]})
	c.patch(&networkingv1.VirtualService{}, "shop", string(spec))
	if diff := cmp.Diff(map[string]int32{"": 100}, c.splits()["api"]); diff != "" {
		t.Fatalf("the test did not write the version of git (-want +got):\n%s", diff)
	}
	c.pass()
	if diff := cmp.Diff(map[string]map[string]int32{"admin": {"": 0}, "api": {"v1": 50, "v2": 50}, "main": {"v1": 50, "v2": 50}}, c.splits()); diff != "" {
		t.Errorf("one pass later (-want +got):\n%s", diff)
	}
	c.run("promotion", 90, promoted("v2"))
}

// One route alone is written over in the same way; a weight that somebody lowers on a version of ours still counts as an abort.
func TestALoweredWeightOfAnAttachedRouteAborts(t *testing.T) {
	c := newCluster(t)
	c.attach()
	c.setImage("micro-api:1.2")
	c.run("50%", 90, func(s *v1alpha1.TrafficShift) bool {
		return s.Status.Weight == "50%" && s.Status.State.VerifiedSince != nil
	})
	c.patchJSON("shop", `[{"op": "replace", "path": "/spec/http/2/route", "value": [{"destination": {"host": "micro-api"}}]}]`)
	c.pass()
	if diff := cmp.Diff(map[string]int32{"v1": 50, "v2": 50}, c.splits()["main"]); diff != "" {
		t.Errorf("one route of git's (-want +got):\n%s", diff)
	}
	c.patchJSON("shop", `[{"op": "replace", "path": "/spec/http/2/route/0/weight", "value": 90}, {"op": "replace", "path": "/spec/http/2/route/1/weight", "value": 10}]`)
	c.run("the abort", 30, func(s *v1alpha1.TrafficShift) bool {
		return s.Status.Rejected == "v2" && resting(s) || s.Status.Phase == v1alpha1.PhaseFailed
	})
	if got := c.shift().Status.History[0].Reason; got != v1alpha1.ReasonWeightLowered {
		t.Errorf("it ended as %s; want %s", got, v1alpha1.ReasonWeightLowered)
	}
}

// Whose routes carry the weights is settled when the service is taken over.
func TestRoutingDoesNotMoveUnderAShift(t *testing.T) {
	c := newCluster(t)
	c.attach()
	was := c.splits()
	c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"spec": {"routing": null}}`)
	c.run("the refusal", 5, func(s *v1alpha1.TrafficShift) bool {
		return condition(s, v1alpha1.ConditionAccepted) == "False "+v1alpha1.ReasonInvalidSpec
	})
	if diff := cmp.Diff(was, c.splits()); diff != "" {
		t.Errorf("the user's VirtualService (-was +is):\n%s", diff)
	}
	if c.get("micro-api", &networkingv1.VirtualService{}) {
		t.Error("a VirtualService of Sluice's own was made for a host that the user's serves")
	}
}

// A Deployment that is deleted takes our DestinationRule with it: a route that went on naming its subsets would answer 503 for ever.
func TestADeletedDeploymentGivesItsRoutesBack(t *testing.T) {
	c := newCluster(t)
	c.attach()
	if err := c.Delete(t.Context(), &appsv1.Deployment{ObjectMeta: objectMeta(c.ns, "micro-api")}); err != nil {
		t.Fatal(err)
	}
	c.pass()
	if diff := cmp.Diff(map[string]map[string]int32{"admin": {"": 0}, "api": {"": 100}, "main": {"": 0}}, c.splits()); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	if u := c.read(); apply.Managed(u, v1alpha1.FieldManager) {
		t.Errorf("managedFields still name us: %v", u.GetManagedFields())
	}
}

// A delegate is the root's: no hosts, no gateways, and left without an owner when the service is handed back, so that the root's route
// still leads somewhere.
func TestDelegate(t *testing.T) {
	c := newCluster(t)
	c.apply(service)
	c.apply(strings.NewReplacer("NS", c.ns).Replace(`
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: root}
spec:
  hosts: [micro-api]
  http: [{delegate: {name: micro-api, namespace: NS}}]
`))
	c.apply(strings.Replace(trafficShift, "spec:", "spec:\n  routing: {delegate: true, http: {timeout: 5s}}", 1))
	c.kubelet()
	c.run("adoption", 60, resting)
	vs := &networkingv1.VirtualService{}
	c.get("micro-api", vs)
	if len(vs.Spec.GetHosts())+len(vs.Spec.GetGateways()) > 0 || len(vs.Spec.GetHttp()) != 1 || len(vs.Spec.GetHttp()[0].GetMatch()) > 0 {
		t.Errorf("no delegate: %v", &vs.Spec)
	}
	if got := vs.Spec.GetHttp()[0].GetTimeout().GetSeconds(); got != 5 {
		t.Errorf("timeout %ds; want 5", got)
	}
	c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"spec": {"routing": {"delegate": false}}}`)
	c.pass()
	if c.get("micro-api", vs); len(vs.Spec.GetHosts()) > 0 {
		t.Error("an edit made it a VirtualService for the host, beside the root")
	}
	c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"metadata": {"annotations": {"sluice.dev/detach": "true"}}}`)
	c.run("handing back", 90, func(s *v1alpha1.TrafficShift) bool { return s.Status.State.Stage == v1alpha1.StageReleased })
	if !c.get("micro-api", vs) || len(vs.OwnerReferences) > 0 || vs.Spec.GetHttp()[0].GetRoute()[0].GetDestination().GetSubset() != "" {
		t.Errorf("the root's delegate should be left, without owner and subsets: %v %v", vs.OwnerReferences, &vs.Spec)
	}
}

// A DestinationRule of the user's keeps its trafficPolicy and its name; ours adds the versions beside it.
func TestARuleOfTheUsersIsJoined(t *testing.T) {
	for name, as := range map[string]string{"UnderItsOwnName": "theirs", "UnderOurs": "micro-api"} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.apply(rival(destinationRule, "NAME", as, "HOST", "micro-api"))
			c.adopt()
			ours, theirs := &networkingv1.DestinationRule{}, &networkingv1.DestinationRule{}
			c.get(as, theirs)
			if theirs.Spec.GetTrafficPolicy().GetConnectionPool().GetHttp().GetHttp2MaxRequests() != 7 || len(theirs.OwnerReferences) > 0 {
				t.Errorf("theirs was touched: %v", &theirs.Spec)
			}
			want := map[string]string{"theirs": "micro-api", "micro-api": "micro-api-versions"}[as]
			if !c.get(want, ours) || ours.Spec.GetTrafficPolicy() != nil || len(ours.Spec.GetSubsets()) != 1 {
				t.Errorf("ours is %v; want a subset and no trafficPolicy", &ours.Spec)
			}
			c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"metadata": {"annotations": {"sluice.dev/detach": "true"}}}`)
			c.run("handing back", 90, func(s *v1alpha1.TrafficShift) bool { return s.Status.State.Stage == v1alpha1.StageReleased })
			if c.get(want, ours) || !c.get(as, theirs) {
				t.Error("handing back left ours, or took theirs")
			}
		})
	}
}

// patchJSON changes a VirtualService as somebody else would.
func (c *cluster) patchJSON(name, patch string) {
	c.Helper()
	vs := &networkingv1.VirtualService{ObjectMeta: objectMeta(c.ns, name)}
	if err := c.Patch(c.Context(), vs, client.RawPatch(types.JSONPatchType, []byte(patch)), client.FieldOwner("kubectl")); err != nil {
		c.Fatal(err)
	}
}
