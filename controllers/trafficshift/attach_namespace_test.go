package trafficshift

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/apply"
)

// edge is the VirtualService of those who run the gateway, in a namespace of theirs. There the short name is another service.
const edge = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: front
  namespace: EDGE
  annotations: {sluice.dev/allowed-namespaces: "someone, NS"}
spec:
  hosts: [shop.example.com]
  gateways: [public]
  http:
  - {name: theirs, match: [{uri: {prefix: /theirs}}], route: [{destination: {host: micro-api}}]}
  - {name: main, route: [{destination: {host: micro-api.NS.svc.cluster.local, port: {number: 80}}, weight: 100}]}
`

// elsewhere is a namespace, and its VirtualService, beside the shift's.
type elsewhere struct {
	*cluster
	ns string
}

func newElsewhere(t *testing.T, grant string) elsewhere {
	t.Helper()
	c := newCluster(t)
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "edge-"}}
	if err := c.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	e := elsewhere{c, ns.Name}
	e.apply(e.fill(strings.Replace(edge, `"someone, NS"`, `"`+grant+`"`, 1)))
	e.apply(service)
	e.apply(shiftRouted(e.fill("virtualServices: [{name: front, namespace: EDGE, routes: [main]}, {name: internal}]")))
	e.apply(internalOf(several)[len("\n"):])
	e.counts.read = func() map[string]int32 { return e.carried("internal") }
	e.kubelet()
	return e
}

func (e elsewhere) fill(text string) string {
	return strings.NewReplacer("NS", e.cluster.ns, "EDGE", e.ns).Replace(text)
}

func (e elsewhere) front() *unstructured.Unstructured {
	e.Helper()
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(virtualServiceKind)
	if err := e.Get(e.Context(), client.ObjectKey{Namespace: e.ns, Name: "front"}, u); err != nil {
		e.Fatal(err)
	}
	return u
}

// split is what each of its routes gives each subset.
func (e elsewhere) split() map[string]map[string]int32 {
	e.Helper()
	vs := &networkingv1.VirtualService{}
	if err := e.Get(e.Context(), client.ObjectKey{Namespace: e.ns, Name: "front"}, vs); err != nil {
		e.Fatal(err)
	}
	all := map[string]map[string]int32{}
	for _, http := range vs.Spec.GetHttp() {
		all[http.GetName()] = map[string]int32{}
		for _, d := range http.GetRoute() {
			all[http.GetName()][d.GetDestination().GetSubset()] = d.GetWeight()
		}
	}
	return all
}

func (e elsewhere) wantSplit(when string, main map[string]int32) {
	e.Helper()
	if diff := cmp.Diff(map[string]map[string]int32{"theirs": {"": 0}, "main": main}, e.split()); diff != "" {
		e.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

// grant changes who is let.
func (e elsewhere) grant(to string) {
	e.Helper()
	vs := &networkingv1.VirtualService{ObjectMeta: objectMeta(e.ns, "front")}
	patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata": {"annotations": {"sluice.dev/allowed-namespaces": `+to+`}}}`))
	if err := e.Patch(e.Context(), vs, patch, client.FieldOwner("kubectl")); err != nil {
		e.Fatal(err)
	}
}

func (e elsewhere) halfway() {
	e.Helper()
	e.run("adoption", 60, resting)
	e.setImage("micro-api:1.2")
	e.run("50%", 90, halfway)
	e.wantSplit("at 50%", fifty)
}

func (e elsewhere) refusal() string {
	return e.fill(v1alpha1.ReasonVirtualServiceNotAllowed + `: routing.virtualServices: "EDGE/front" does not let shifts of namespace NS write its weights, or does not exist; its owner lets them with kubectl -n EDGE annotate virtualservice front sluice.dev/allowed-namespaces=NS`)
}

// What another namespace grants carries the weights by its full name, and is in the end what its owner wrote. A short name there is a service of
// that namespace's.
func TestAttachToAnotherNamespace(t *testing.T) {
	e := newElsewhere(t, "someone, NS")
	e.grant(`"someone, ` + e.cluster.ns + `"`)
	before := specOf(e.front())
	e.halfway()
	e.run("promotion", 90, promoted("v2"))
	e.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"metadata": {"annotations": {"sluice.dev/detach": "true"}}}`)
	e.run("handing back", 90, func(s *v1alpha1.TrafficShift) bool { return s.Status.State.Stage == v1alpha1.StageReleased })
	after := e.front()
	if diff := cmp.Diff(before, specOf(after)); diff != "" {
		t.Errorf("after handing back (-before +after):\n%s", diff)
	}
	if apply.Managed(after, v1alpha1.FieldManager) {
		t.Errorf("managedFields still name us: %v", after.GetManagedFields())
	}
}

// Who may edit a TrafficShift may not thereby edit the routes of another namespace: nothing is written there, not even once somebody claims in
// a DestinationRule that we had. What is not there is told in the same words.
func TestAnotherNamespaceMustGrant(t *testing.T) {
	e := newElsewhere(t, "someone")
	untouched := e.front().GetResourceVersion()
	e.pass()
	e.pass()
	if says := accepted(e.shift()); says != e.refusal() {
		t.Errorf("Accepted says %q\nwant %q", says, e.refusal())
	}
	e.apply(e.fill(`
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: micro-api
  labels: {sluice.dev/shift: micro-api}
  annotations: {sluice.dev/attached: '[{"virtualService":"front","namespace":"EDGE","was":{"main":{"subset":"theirs"}}},{"virtualService":"internal"}]'}
spec: {host: micro-api.NS.svc.cluster.local}
`))
	e.pass()
	if err := e.Delete(t.Context(), &appsv1.Deployment{ObjectMeta: objectMeta(e.cluster.ns, "micro-api")}); err != nil {
		t.Fatal(err)
	}
	e.pass() // gives routes back, as that says
	if got := e.front().GetResourceVersion(); got != untouched {
		t.Error("it was written")
	}
	e.grantedToTheBank()
	if err := e.Delete(t.Context(), &networkingv1.VirtualService{ObjectMeta: objectMeta(e.ns, "front")}); err != nil {
		t.Fatal(err)
	}
	e.apply(strings.Split(service, "\n---\n")[0])
	e.kubelet()
	e.pass()
	e.pass()
	if says := accepted(e.shift()); says != e.refusal() {
		t.Errorf("with nothing there, Accepted says %q\nwant %q", says, e.refusal())
	}
}

// grantedToTheBank lets a bank's release be in front: neither a DestinationRule of somebody else's that is for the bank's service, nor a
// spec that names it, gives a shift of another namespace what was granted to the bank.
func (e elsewhere) grantedToTheBank() {
	e.Helper()
	const host = "pay.bank.svc.cluster.local"
	route := `[{"destination": {"host": "HOST", "subset": "v2"}, "weight": 99}, {"destination": {"host": "HOST", "subset": "v3"}, "weight": 1}]`
	patch := strings.ReplaceAll(`[{"op": "replace", "path": "/spec/http/1/route", "value": `+route+`}]`, "HOST", host)
	vs := &networkingv1.VirtualService{ObjectMeta: objectMeta(e.ns, "front")}
	if err := e.Patch(e.Context(), vs, client.RawPatch(types.JSONPatchType, []byte(patch)), client.FieldOwner("bank")); err != nil {
		e.Fatal(err)
	}
	e.grant(`"bank"`)
	e.patch(&networkingv1.DestinationRule{}, "micro-api", e.fill(
		`{"metadata": {"annotations": {"sluice.dev/attached": "{\"virtualService\":\"front\",\"namespace\":\"EDGE\",\"was\":{\"main\":{\"subset\":\"v3\"}}}"}}, "spec": {"host": "`+host+`"}}`))
	for range 4 {
		e.pass()
	}
	e.wantSplit("claimed by a DestinationRule", map[string]int32{"v2": 99, "v3": 1})
	if err := e.Delete(e.Context(), &networkingv1.DestinationRule{ObjectMeta: objectMeta(e.cluster.ns, "micro-api")}); err != nil {
		e.Fatal(err)
	}
	stored := e.shift() // before the schema knew what a Service is called
	stored.Spec.Service, stored.Status.State.LastVersion = host, 3
	if err := e.giveRoutesBack(e.Context(), stored); err != nil {
		e.Error(err)
	}
	e.wantSplit("claimed by a spec", map[string]int32{"v2": 99, "v3": 1})
}

// A grant that is given while the shift waits lets it go on; the VirtualService wakes the shift, whichever namespace it is in.
func TestAGrantIsNoticed(t *testing.T) {
	e := newElsewhere(t, "someone")
	e.pass()
	e.pass()
	e.grant(`"*"`)
	want := []ctrl.Request{{NamespacedName: e.key()}}
	got := e.byAttachment(t.Context(), e.front())
	if diff := cmp.Diff(want, got[:min(len(got), 1)]); diff != "" || len(got) != 1 {
		t.Errorf("it wakes %v; want %v", got, want)
	}
	e.halfway()
}

// Every VirtualService of a cluster asks for all of its shifts, so that they are not copied each time.
func TestAVirtualServiceCopiesNoShifts(t *testing.T) {
	c := newCluster(t)
	c.apply(trafficShift)
	var asked client.ListOptions
	watching := Reconciler{Client: interceptor.NewClient(c.Client.(client.WithWatch), interceptor.Funcs{
		List: func(ctx context.Context, api client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			asked.ApplyOptions(opts)
			return api.List(ctx, list, opts...)
		},
	})}
	watching.byAttachment(t.Context(), &networkingv1.VirtualService{ObjectMeta: objectMeta(c.ns, "front")})
	if asked.UnsafeDisableDeepCopy == nil || !*asked.UnsafeDisableDeepCopy {
		t.Error("each shift of the cluster is copied")
	}
}

// A grant that is withdrawn in the middle of a release holds it, whatever a person orders; what stands there of ours goes back with the rest,
// and is handed back as it was.
func TestAGrantThatIsWithdrawn(t *testing.T) {
	e := newElsewhere(t, "*")
	before, _ := specOf(e.front()).(map[string]any)
	e.halfway()
	e.grant("null")
	e.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"metadata": {"annotations": {"sluice.dev/promote": "v2/all"}}}`)
	for range 20 {
		e.pass()
		e.clock = e.clock.Add(time.Second)
	}
	e.wantSplit("20 s after the grant was withdrawn", fifty)
	if says := accepted(e.shift()); says != e.refusal() {
		t.Errorf("Accepted says %q\nwant %q", says, e.refusal())
	}
	e.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"metadata": {"annotations": {"sluice.dev/abort": "v2"}}}`)
	e.run("the way back", 60, refusedAndGone)
	e.wantSplit("taken back", map[string]int32{"v1": 100})
	e.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"metadata": {"annotations": {"sluice.dev/detach": "true", "sluice.dev/force": "true"}}}`)
	e.run("handing back", 90, func(s *v1alpha1.TrafficShift) bool { return s.Status.State.Stage == v1alpha1.StageReleased })
	after, _ := specOf(e.front()).(map[string]any)
	if diff := cmp.Diff(before["spec"], after["spec"]); diff != "" {
		t.Errorf("after handing back (-before +after):\n%s", diff)
	}
	if apply.Managed(e.front(), v1alpha1.FieldManager) {
		t.Error("managedFields still name us")
	}
}

// Whoever withdraws the grant by writing the version of git, which says nothing of ours, has it left alone from then on, when the service
// is handed back too.
func TestAGrantThatIsWithdrawnWithTheRoutes(t *testing.T) {
	e := newElsewhere(t, "*")
	e.halfway()
	vs := &networkingv1.VirtualService{ObjectMeta: objectMeta(e.ns, "front")}
	patch := e.fill(`[{"op": "remove", "path": "/metadata/annotations"}, {"op": "replace", "path": "/spec/http/1/route", "value": [{"destination": {"host": "micro-api.NS.svc.cluster.local"}}]}]`)
	if err := e.Patch(t.Context(), vs, client.RawPatch(types.JSONPatchType, []byte(patch)), client.FieldOwner("kubectl")); err != nil {
		t.Fatal(err)
	}
	other := client.RawPatch(types.JSONPatchType, []byte(`[{"op": "add", "path": "/spec/http/0/route/0/weight", "value": 100}]`)) // as a shift that is still let does
	if err := e.Patch(t.Context(), vs, other, client.FieldOwner(v1alpha1.FieldManager)); err != nil {
		t.Fatal(err)
	}
	if !apply.Managed(e.front(), v1alpha1.FieldManager) {
		t.Fatal("managedFields do not name us: nothing could be taken away")
	}
	version := e.front().GetResourceVersion()
	for range 5 {
		e.pass()
		e.clock = e.clock.Add(time.Second)
	}
	e.counts.errors["v2"] = 0.9
	e.run("the way back", 60, refusedAndGone)
	if got := e.carried("internal"); got["v2"] != 0 {
		t.Errorf("internal says %v", got)
	}
	e.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"metadata": {"annotations": {"sluice.dev/detach": "true", "sluice.dev/force": "true"}}}`)
	e.run("handing back", 90, func(s *v1alpha1.TrafficShift) bool { return s.Status.State.Stage == v1alpha1.StageReleased })
	if got := e.front().GetResourceVersion(); got != version {
		t.Error("it was written without a grant")
	}
}

// A namespace that is gone takes its VirtualService with it: there is nothing to give back, and handing back ends.
func TestHandingBackWithoutTheOtherNamespace(t *testing.T) {
	e := newElsewhere(t, "*")
	e.run("adoption", 60, resting)
	if err := e.Delete(t.Context(), &networkingv1.VirtualService{ObjectMeta: objectMeta(e.ns, "front")}); err != nil {
		t.Fatal(err)
	}
	e.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"metadata": {"annotations": {"sluice.dev/detach": "true"}}}`)
	e.run("handing back", 90, func(s *v1alpha1.TrafficShift) bool { return s.Status.State.Stage == v1alpha1.StageReleased })
	if got := e.carried("internal"); got[""] != 0 || len(got) != 1 {
		t.Errorf("internal says %v", got)
	}
}

// One VirtualService under two names is two authors of its routes.
func TestOneThatIsNamedTwice(t *testing.T) {
	c := newCluster(t)
	c.apply(several)
	c.apply(service)
	c.apply(shiftRouted("virtualServices: [{name: front}, {name: front, namespace: " + c.ns + "}]"))
	c.kubelet()
	c.pass()
	c.pass()
	if says := accepted(c.shift()); !strings.Contains(says, `routing.virtualServices: "front" is there twice`) {
		t.Errorf("Accepted says %q", says)
	}
}
