package trafficshift

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/metrics/analysis"
	"github.com/sluice-dev/sluice/metrics/query"
)

// addresses are the Services of the namespace.
func (c *cluster) addresses() []string {
	c.Helper()
	var all corev1.ServiceList
	if err := c.List(c.Context(), &all, client.InNamespace(c.ns)); err != nil {
		c.Fatal(err)
	}
	var names []string
	for _, s := range all.Items {
		names = append(names, s.Name)
	}
	slices.Sort(names)
	return names
}

// shows is where the preview's host goes; empty where there is none.
func (c *cluster) shows() string {
	c.Helper()
	vs := &networkingv1.VirtualService{}
	if !c.get("micro-api-preview", vs) {
		return ""
	}
	return vs.Spec.GetHttp()[0].GetRoute()[0].GetDestination().GetHost()
}

const blueGreen = `
apiVersion: sluice.dev/v1alpha1
kind: TrafficShift
metadata: {name: micro-api}
spec:
  strategy: blue-green
  replicas: 3
  hold: 3s
  bake: 3s
  hosts: [shop.example.com]
`

func previewing(s *v1alpha1.TrafficShift) bool {
	return s.Status.State.Exposure == v1alpha1.ExposurePreview
}

// A version's address is there while it has a subset, under its own name, and is no second candidate for the traffic. Without news
// nothing is written again.
func TestEveryLiveVersionHasAnAddress(t *testing.T) {
	c := newCluster(t)
	c.adoptWith(service, blueGreen)
	c.pass()
	c.writes = nil
	c.pass()
	if diff := cmp.Diff([]string{"micro-api", "micro-api-v1"}, c.addresses()); diff != "" || len(c.writes) > 0 {
		t.Errorf("at rest, wrote %v; Services (-want +got):\n%s", c.writes, diff)
	}
	c.Config.AllowedHosts = append(c.Config.AllowedHosts, "preview.example.com")
	c.edit(`{"spec": {"preview": {"host": "preview.example.com"}}}`)
	c.pass()
	host := func(version string) string { return "micro-api-" + version + "." + c.ns + ".svc.cluster.local" }
	if got := c.shows(); got != host("v1") {
		t.Errorf("at rest the preview shows %q", got)
	}
	gateway := &networkingv1.Gateway{}
	c.get("micro-api", gateway)
	if diff := cmp.Diff([]string{"shop.example.com", "preview.example.com"}, gateway.Spec.GetServers()[0].GetHosts()); diff != "" {
		t.Errorf("hosts of the Gateway (-want +got):\n%s", diff)
	}

	c.setImage("micro-api:1.2")
	c.run("the preview", 60, previewing)
	c.pass()
	if diff := cmp.Diff([]string{"micro-api", "micro-api-v1", "micro-api-v2"}, c.addresses()); diff != "" || c.shows() != host("v2") {
		t.Errorf("the preview shows %q; Services (-want +got):\n%s", c.shows(), diff)
	}
	if subject := c.counts.watched[query.Key{Namespace: c.ns, Name: "micro-api"}]; !subject.Previewing {
		t.Error("what comes to the preview is not counted in it")
	}
	c.abort()
	c.run("the way back", 60, ended)
	c.pass()
	if diff := cmp.Diff([]string{"micro-api", "micro-api-v1"}, c.addresses()); diff != "" || c.shows() != host("v1") {
		t.Errorf("after the abort the preview shows %q; Services (-want +got):\n%s", c.shows(), diff)
	}
	c.edit(`{"spec": {"strategy": "canary", "preview": null}}`)
	c.pass()
	if diff := cmp.Diff([]string{"micro-api"}, c.addresses()); diff != "" || c.shows() != "" {
		t.Errorf("nobody asks for it, and the preview shows %q; Services (-want +got):\n%s", c.shows(), diff)
	}
}

func TestAPreviewHostMustBeGranted(t *testing.T) {
	c := newCluster(t)
	c.adoptWith(service, blueGreen)
	before := c.mesh()
	c.edit(`{"spec": {"preview": {"host": "bank.example.com"}}}`)
	c.unmoved(before)
	c.refused(v1alpha1.ReasonHostNotAllowed, "bank.example.com")
	if got := c.shows(); got != "" {
		t.Errorf("it is shown all the same, as %q", got)
	}
}

// A Service of somebody else's keeps its name: a version that would need it gets another number, and one that has it already is told of.
func TestAPreviewTakesNobodysName(t *testing.T) {
	c := newCluster(t)
	foreign := func(name string) {
		c.apply("apiVersion: v1\nkind: Service\nmetadata: {name: " + name + "}\nspec: {selector: {app: other}, ports: [{name: http, port: 80}]}\n")
	}
	foreign("micro-api-v2")
	c.adoptWith(service, blueGreen)
	c.setImage("micro-api:1.2")
	c.run("the preview", 60, previewing)
	if got := c.shift().Status.Candidate; got != "v3" {
		t.Errorf("the candidate is %s; want v3, because micro-api-v2 is somebody else's", got)
	}
	if err := c.Delete(t.Context(), &corev1.Service{ObjectMeta: objectMeta(c.ns, "micro-api-v1")}); err != nil {
		t.Fatal(err)
	}
	foreign("micro-api-v1")
	if _, err := c.Reconcile(t.Context(), ctrl.Request{NamespacedName: c.key()}); err == nil {
		t.Error("somebody else's Service is met without a word")
	}
	c.refused(v1alpha1.ReasonNameTaken, "Service", "micro-api-v1")
}

// Istio's own rules are held to Istio's own types: what would match more than it says, or what the mesh refuses, starts no shift.
func TestAMatchThatIstioWouldNotReadIsRefused(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	c.edit(`{"spec": {"steps": [{"match": [{"uri": {"prefix": "/"}}, {"header": {"x-tester": {"exact": "yes"}}}]}, {"weight": 100}]}}`)
	c.pass()
	c.refused(v1alpha1.ReasonInvalidSpec, "spec.steps[0].match[1]", `unknown field "header"`)
	c.edit(`{"spec": {"steps": [{"match": [{"headers": {"x-tester": {"exact": "yes"}}}]}, {"mirror": "50%"}, {"weight": 100}]}}`)
	c.setImage("micro-api:1.2")
	shown := func(e v1alpha1.Exposure) func(*v1alpha1.TrafficShift) bool {
		return func(s *v1alpha1.TrafficShift) bool {
			return s.Status.State.Exposure == e && s.Status.State.RoutedSince != nil
		}
	}
	c.run("the match", 60, shown(v1alpha1.ExposureMatch))
	vs := &networkingv1.VirtualService{}
	c.get("micro-api", vs)
	if got := vs.Spec.GetHttp()[0]; got.GetName() != "http.match" || got.GetRoute()[0].GetDestination().GetSubset() != "v2" {
		t.Errorf("the first rule is %v; want the match, for v2", got)
	}
	c.counts.shown = "micro-api-v2"
	c.run("the mirror", 60, shown(v1alpha1.ExposureMirror))
	c.pass()
	if got := c.counts.watched[query.Key{Namespace: c.ns, Name: "micro-api"}].Reporter; got != analysis.Destination {
		t.Errorf("copies are counted as %q reports them; want destination, which alone sees them", got)
	}
	c.get("micro-api", vs)
	if got := vs.Spec.GetHttp()[0].GetMirrors(); len(got) != 1 || got[0].GetPercentage().GetValue() != 50 {
		t.Errorf("mirrors: %v", got)
	}
	if diff := cmp.Diff(map[string]int32{"v1": 100}, c.weights("micro-api")); diff != "" {
		t.Errorf("the mirror's weights (-want +got):\n%s", diff)
	}
}
