package trafficshift

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/apply"
)

// several are two VirtualServices that somebody keeps in git: one for the gateway, with a route beside that goes elsewhere, and one for the
// mesh.
const several = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: front, annotations: {note: ours}}
spec:
  hosts: [shop.example.com]
  gateways: [public]
  http:
  - {name: admin, match: [{uri: {prefix: /admin}}], route: [{destination: {host: admin}}]}
  - {name: main, timeout: 5s, route: [{destination: {host: micro-api, port: {number: 80}}, weight: 100}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: internal}
spec:
  hosts: [micro-api]
  http:
  - {name: any, route: [{destination: {host: micro-api}}]}
`

const toSeveral = "virtualServices: [{name: front, routes: [main]}, {name: internal}]"

func shiftRouted(routing string) string {
	return strings.Replace(trafficShift, "spec:", "spec:\n  routing: {"+routing+"}", 1)
}

// attachSeveral takes the service over, with its weights in both.
func (c *cluster) attachSeveral() {
	c.Helper()
	c.counts.read = func() map[string]int32 { return c.carried("internal") }
	c.apply(several)
	c.apply(service)
	c.apply(shiftRouted(toSeveral))
	c.kubelet()
	c.run("adoption", 60, resting)
}

// carried is what the last route of a VirtualService of the user's gives each subset; nothing where it is gone.
func (c *cluster) carried(name string) map[string]int32 {
	c.Helper()
	vs, weights := &networkingv1.VirtualService{}, map[string]int32{}
	if !c.get(name, vs) {
		return nil
	}
	http := vs.Spec.GetHttp()
	for _, d := range http[len(http)-1].GetRoute() {
		weights[d.GetDestination().GetSubset()] = d.GetWeight()
	}
	return weights
}

func (c *cluster) wantCarried(when string, front, internal map[string]int32) {
	c.Helper()
	if diff := cmp.Diff(map[string]map[string]int32{"front": front, "internal": internal}, map[string]map[string]int32{"front": c.carried("front"), "internal": c.carried("internal")}); diff != "" {
		c.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

// stored reads a VirtualService as the API server has it.
func (c *cluster) stored(name string) *unstructured.Unstructured {
	c.Helper()
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(virtualServiceKind)
	if err := c.Get(c.Context(), client.ObjectKey{Namespace: c.ns, Name: name}, u); err != nil {
		c.Fatal(err)
	}
	return u
}

func (c *cluster) takeAway(name string) {
	c.Helper()
	if err := c.Delete(c.Context(), &networkingv1.VirtualService{ObjectMeta: objectMeta(c.ns, name)}); err != nil {
		c.Fatal(err)
	}
}

func halfway(s *v1alpha1.TrafficShift) bool {
	return s.Status.Weight == "50%" && s.Status.State.VerifiedSince != nil
}

// refusedAndGone is at rest after v2 was taken back.
func refusedAndGone(s *v1alpha1.TrafficShift) bool {
	return s.Status.Rejected == "v2" && s.Status.Phase == v1alpha1.PhaseFailed && len(s.Status.State.Retiring) == 0
}

var fifty = map[string]int32{"v1": 50, "v2": 50}

// accepted is what the condition Accepted says, with its reason.
func accepted(s *v1alpha1.TrafficShift) string {
	for _, c := range s.Status.Conditions {
		if c.Type == v1alpha1.ConditionAccepted {
			return c.Reason + ": " + c.Message
		}
	}
	return ""
}

// Both carry every weight from adoption on, and both are in the end what their owner wrote.
func TestSeveralCarryTheSameWeights(t *testing.T) {
	c := newCluster(t)
	c.apply(several)
	before := []any{specOf(c.stored("front")), specOf(c.stored("internal"))}
	c.takeAway("front")
	c.takeAway("internal")
	c.attachSeveral()
	c.wantCarried("at rest", map[string]int32{"v1": 100}, map[string]int32{"v1": 0})
	c.setImage("micro-api:1.2")
	c.run("50%", 90, halfway)
	c.wantCarried("at 50%", fifty, fifty)
	c.run("promotion", 90, promoted("v2"))
	c.wantCarried("promoted", map[string]int32{"v2": 100}, map[string]int32{"v2": 0})
	c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"metadata": {"annotations": {"sluice.dev/detach": "true"}}}`)
	c.run("handing back", 90, func(s *v1alpha1.TrafficShift) bool { return s.Status.State.Stage == v1alpha1.StageReleased })
	if diff := cmp.Diff(before, []any{specOf(c.stored("front")), specOf(c.stored("internal"))}); diff != "" {
		t.Errorf("after handing back (-before +after):\n%s", diff)
	}
	for _, name := range []string{"front", "internal"} {
		if u := c.stored(name); apply.Managed(u, v1alpha1.FieldManager) {
			t.Errorf("managedFields of %s still name us: %v", name, u.GetManagedFields())
		}
	}
}

// Whichever of the two the API server does not let us write, the other one goes back at once, and the release is over when both have.
func TestOneThatCannotBeWrittenStopsNoWayBack(t *testing.T) {
	for _, broken := range []string{"front", "internal"} {
		t.Run(broken, func(t *testing.T) {
			c := newCluster(t)
			c.attachSeveral()
			c.setImage("micro-api:1.2")
			c.run("50%", 90, halfway)
			other := map[string]string{"front": "internal", "internal": "front"}[broken]
			c.refuse = func(o any) error {
				if u, ok := o.(*unstructured.Unstructured); ok && u.GetName() == broken {
					return errors.New("denied by a webhook")
				}
				return nil
			}
			c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"metadata": {"annotations": {"sluice.dev/abort": "v2"}}}`)
			c.tryFor(20)
			s := c.shift()
			if got := c.carried(other)["v2"]; got != 0 || s.Status.Phase != v1alpha1.PhaseRollingBack {
				t.Errorf("%s gives v2 %d in phase %s; want nothing, on the way back", other, got, s.Status.Phase)
			}
			if diff := cmp.Diff(fifty, c.carried(broken)); diff != "" {
				t.Errorf("%s was written (-want +got):\n%s", broken, diff)
			}
			if r := s.Status.RefusedWrite; r == nil || !strings.Contains(r.Write, broken) || !strings.Contains(s.Status.Message, "denied by a webhook") {
				t.Errorf("nobody is told of %s: %+v, %q", broken, r, s.Status.Message)
			}
			if got := c.deploymentSizes(); !slices.Contains(got, "micro-api-v2 3") {
				t.Errorf("pods of v2 were taken from under a route: %v", got)
			}
			c.refuse = nil
			c.run("the end of the release", 60, refusedAndGone)
			if c.carried("front")["v2"]+c.carried("internal")["v2"] != 0 {
				t.Errorf("v2 still has traffic: %v %v", c.carried("front"), c.carried("internal"))
			}
		})
	}
}

// tryFor lets passes fail for some seconds.
func (c *cluster) tryFor(seconds int) {
	c.Helper()
	for range seconds {
		_, _ = c.Reconcile(c.Context(), ctrl.Request{NamespacedName: c.key()})
		c.kubelet()
		c.clock = c.clock.Add(time.Second)
	}
}

// One that cannot be read is not taken for one that is gone: the other one goes back, and nothing is taken from under it.
func TestOneThatCannotBeReadStopsNoWayBack(t *testing.T) {
	c := newCluster(t)
	c.attachSeveral()
	c.setImage("micro-api:1.2")
	c.run("50%", 90, halfway)
	live := c.Live
	api, ok := live.(client.WithWatch)
	if !ok {
		t.Fatalf("%T watches nothing", live)
	}
	c.Live = interceptor.NewClient(api, interceptor.Funcs{
		Get: func(ctx context.Context, under client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if _, ok := o.(*unstructured.Unstructured); ok && key.Name == "front" {
				return errors.New("forbidden")
			}
			return under.Get(ctx, key, o, opts...)
		},
	})
	c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"metadata": {"annotations": {"sluice.dev/abort": "v2"}}}`)
	c.tryFor(20)
	s := c.shift()
	if got := c.carried("internal")["v2"]; got != 0 || s.Status.Phase != v1alpha1.PhaseRollingBack {
		t.Errorf("internal gives v2 %d in phase %s; want nothing, on the way back", got, s.Status.Phase)
	}
	if got := c.subsets(); !slices.Contains(got, "v2") {
		t.Errorf("subset v2 was taken from under a route that nobody knows: %v", got)
	}
	if says := accepted(s); !strings.Contains(says, `"front" cannot be read`) {
		t.Errorf("Accepted says %q", says)
	}
	c.Live = live
	c.run("the end of the release", 60, refusedAndGone)
}

// A VirtualService that is deleted in the middle of a release holds it where it stands, by name; made again as git has it, it gets the
// weight that the other one has, and the release goes on.
func TestOneThatIsDeletedHolds(t *testing.T) {
	c := newCluster(t)
	c.attachSeveral()
	c.setImage("micro-api:1.2")
	c.run("50%", 90, halfway)
	c.takeAway("front")
	for range 20 {
		c.pass()
		c.clock = c.clock.Add(time.Second)
	}
	s := c.shift()
	c.wantCarried("with front gone", nil, fifty)
	if says := accepted(s); s.Status.Weight != "50%" || !strings.Contains(s.Status.Message, "front does not say any more that v2 is at 50%") || !strings.Contains(says, `"front" does not exist`) {
		t.Errorf("at %s: %q; Accepted says %q", s.Status.Weight, s.Status.Message, says)
	}
	front, _, _ := strings.Cut(several, "\n---\n")
	c.apply(front)
	c.pass()
	c.wantCarried("made again", fifty, fifty)
	c.run("promotion", 90, promoted("v2"))
}

// One that is gone has nothing that could go back: the other one does, and the release is over.
func TestOneThatIsDeletedStopsNoWayBack(t *testing.T) {
	c := newCluster(t)
	c.attachSeveral()
	c.setImage("micro-api:1.2")
	c.run("50%", 90, halfway)
	c.takeAway("front")
	c.counts.errors["v2"] = 0.9
	c.run("the way back", 60, refusedAndGone)
	c.wantCarried("taken back", nil, map[string]int32{"v1": 0})
	if got := c.shift().Status.History[0].Reason; got != v1alpha1.ReasonErrorRateVsStable && got != v1alpha1.ReasonErrorRate {
		t.Errorf("it ended as %s; want the failures of v2", got)
	}
	front, _, _ := strings.Cut(several, "\n---\n")
	c.apply(front)
	c.pass()
	c.wantCarried("made again", map[string]int32{"v1": 100}, map[string]int32{"v1": 0})
}

// The version of git in one of them is written over; a weight that somebody lowers in one of them takes the release back in both.
func TestOneThatIsEdited(t *testing.T) {
	c := newCluster(t)
	c.attachSeveral()
	c.setImage("micro-api:1.2")
	c.run("50%", 90, halfway)
	c.patchJSON("front", `[{"op": "replace", "path": "/spec/http/1/route", "value": [{"destination": {"host": "micro-api", "port": {"number": 80}}, "weight": 100}]}]`)
	c.pass()
	c.wantCarried("one pass after the version of git", fifty, fifty)
	c.patchJSON("internal", `[{"op": "replace", "path": "/spec/http/0/route/0/weight", "value": 90}, {"op": "replace", "path": "/spec/http/0/route/1/weight", "value": 10}]`)
	c.pass()
	c.wantCarried("one pass after a weight was lowered", map[string]int32{"v1": 100, "v2": 0}, map[string]int32{"v1": 100, "v2": 0})
	c.run("the abort", 30, refusedAndGone)
	if got := c.shift().Status.History[0].Reason; got != v1alpha1.ReasonWeightLowered {
		t.Errorf("it ended as %s; want %s", got, v1alpha1.ReasonWeightLowered)
	}
}

// Who takes one out of the list, or adds one, changes nothing before the service is handed back: the weights would stay behind in it, or come
// to it past the gates. It says so, holds, and both go back all the same.
func TestOneThatIsTakenOutOfTheListStillCarries(t *testing.T) {
	c := newCluster(t)
	c.attachSeveral()
	c.setImage("micro-api:1.2")
	c.run("50%", 90, halfway)
	c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"spec": {"routing": {"virtualServices": [{"name": "internal"}]}}}`)
	for range 20 {
		c.pass()
		c.clock = c.clock.Add(time.Second)
	}
	c.wantCarried("front taken out of the list", fifty, fifty)
	says := accepted(c.shift())
	for _, part := range []string{v1alpha1.ReasonInvalidSpec, "route main of VirtualService front and VirtualService internal", "hand the service back first"} {
		if !strings.Contains(says, part) {
			t.Errorf("Accepted says %q; want %q in it", says, part)
		}
	}
	c.counts.errors["v2"] = 0.9
	c.run("the way back", 60, refusedAndGone)
	c.wantCarried("taken back", map[string]int32{"v1": 100}, map[string]int32{"v1": 0})
}

// One in the list is one by itself: who goes from one field to the other moves nothing.
func TestOneOfAListIsTheSameAsOne(t *testing.T) {
	c := newCluster(t)
	c.attach()
	c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"spec": {"routing": {"virtualService": null, "virtualServices": [{"name": "shop"}]}}}`)
	c.pass()
	if got := condition(c.shift(), v1alpha1.ConditionAccepted); !strings.HasPrefix(got, "True") {
		t.Errorf("Accepted is %s: %s", got, accepted(c.shift()))
	}
}

// A Deployment that is deleted gives every one of them back, whatever becomes of the others.
func TestADeletedDeploymentGivesSeveralBack(t *testing.T) {
	c := newCluster(t)
	c.attachSeveral()
	c.refuse = func(o any) error {
		if u, ok := o.(*unstructured.Unstructured); ok && u.GetName() == "front" {
			return errors.New("denied by a webhook")
		}
		return nil
	}
	if err := c.Delete(t.Context(), &appsv1.Deployment{ObjectMeta: objectMeta(c.ns, "micro-api")}); err != nil {
		t.Fatal(err)
	}
	c.tryFor(2)
	c.wantCarried("front refused", map[string]int32{"v1": 100}, map[string]int32{"": 0})
	c.refuse = nil
	c.pass()
	c.wantCarried("all given back", map[string]int32{"": 100}, map[string]int32{"": 0})
}

// What stands in the way of each is told by its name.
func TestEachOfSeveralIsReported(t *testing.T) {
	for name, tc := range map[string]struct{ also, routing, want string }{
		"Missing":       {several, "virtualServices: [{name: front}, {name: internal}, {name: third}]", `routing.virtualServices: "third" does not exist in this namespace; create it`},
		"RouteNotFound": {several, "virtualServices: [{name: front, routes: [spare]}, {name: internal}]", `routing.virtualServices: "front" has no route named spare; its routes: admin, main`},
		"NoRouteToIt":   {several + "---" + strings.NewReplacer("internal", "third", "host: micro-api", "host: other", "hosts: [micro-api]", "hosts: [other]").Replace(internalOf(several)), "virtualServices: [{name: front}, {name: third}]", `routing.virtualServices: "third" has no route to micro-api`},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.apply(tc.also)
			c.apply(service)
			c.apply(shiftRouted(tc.routing))
			c.kubelet()
			c.pass()
			c.pass()
			if says := accepted(c.shift()); !strings.Contains(says, tc.want) || !strings.HasPrefix(says, v1alpha1.ReasonVirtualServiceUnfit) {
				t.Errorf("Accepted says %q; want %q", says, tc.want)
			}
		})
	}
}

func internalOf(all string) string {
	_, internal, _ := strings.Cut(all, "\n---")
	return internal
}

// Two shifts that write the same routes by turns would undo each other for ever: the second one is told who has them.
func TestOneThatAnotherShiftHas(t *testing.T) {
	c := newCluster(t)
	c.apply(fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: other
  labels: {sluice.dev/shift: other}
  annotations: {sluice.dev/attached: '[{"virtualService":"front"},{"virtualService":"third"}]'}
spec: {host: micro-api.%s.svc.cluster.local}
`, c.ns))
	c.apply(several)
	c.apply(service)
	c.apply(shiftRouted(toSeveral))
	c.kubelet()
	c.pass()
	c.pass()
	if says := accepted(c.shift()); !strings.Contains(says, `VirtualService "front" carries the weights of micro-api for TrafficShift other already`) {
		t.Errorf("Accepted says %q", says)
	}
}

// A shift that lost its Deployment leaves the routes alone that another one carries by now: the two would write them by turns for ever. Once that
// one is gone as well, they are its to give back.
func TestTheRoutesOfALivingShiftAreNotGivenBack(t *testing.T) {
	c := newCluster(t)
	c.attachSeveral()
	c.apply(strings.NewReplacer("name: micro-api}", "name: web}", "spec:", "spec:\n  service: micro-api").Replace(shiftRouted(toSeveral)))
	web := &v1alpha1.TrafficShift{ObjectMeta: objectMeta(c.ns, "web")}
	patch := client.RawPatch(types.MergePatchType, []byte(`{"status": {"state": {"lastVersion": 1}}}`))
	if err := c.Status().Patch(t.Context(), web, patch, client.FieldOwner("kubectl")); err != nil {
		t.Fatal(err)
	}
	before := c.stored("front").GetResourceVersion()
	for range 4 {
		if _, err := c.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(web)}); err != nil {
			t.Fatal(err)
		}
	}
	c.wantCarried("beside a shift without a Deployment", map[string]int32{"v1": 100}, map[string]int32{"v1": 0})
	if got := c.stored("front").GetResourceVersion(); got != before {
		t.Error("front was written")
	}
	if err := c.Delete(t.Context(), &networkingv1.DestinationRule{ObjectMeta: objectMeta(c.ns, "micro-api")}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(web)}); err != nil {
		t.Fatal(err)
	}
	c.wantCarried("once nobody else says that he carries them", map[string]int32{"": 0}, map[string]int32{"": 0})
}
