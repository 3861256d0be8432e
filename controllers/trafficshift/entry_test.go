package trafficshift

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// How requests enter: Service, ports, hosts and gateways. What is edited there moves no traffic past the gates.

const hostsTable = "micro-api-hosts"

// mesh is one revision of every object that routes; an object that is not there has none.
func (c *cluster) mesh() map[string]string {
	c.Helper()
	seen := map[string]string{}
	for name, o := range map[string]client.Object{
		"routes": &networkingv1.VirtualService{}, "rule": &networkingv1.DestinationRule{}, "gateway": &networkingv1.Gateway{},
	} {
		if c.get("micro-api", o) {
			seen[name] = o.GetResourceVersion()
		}
	}
	if vs := (&networkingv1.VirtualService{}); c.get(hostsTable, vs) {
		seen["hosts"] = vs.ResourceVersion
	}
	return seen
}

// unmoved reconciles a few times and asserts that nothing that routes was written.
func (c *cluster) unmoved(before map[string]string) {
	c.Helper()
	for range 3 {
		c.pass()
	}
	if diff := cmp.Diff(before, c.mesh()); diff != "" {
		c.Errorf("what routes has changed (-before +after):\n%s", diff)
	}
}

// refused asserts that the condition Accepted says why, and names all of words.
func (c *cluster) refused(reason string, words ...string) {
	c.Helper()
	s := c.shift()
	if got := condition(s, v1alpha1.ConditionAccepted); got != "False "+reason {
		c.Errorf("Accepted is %q; want False %s", got, reason)
		return
	}
	message := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionAccepted).Message
	for _, word := range words {
		if !strings.Contains(message, word) {
			c.Errorf("Accepted says %q; want it to name %s", message, word)
		}
	}
}

// adoptWith adopts a manifest, reached from outside as shop.example.com where hosts are asked for.
func (c *cluster) adoptWith(manifest, shift string) {
	c.Helper()
	c.Config.AllowedHosts = []string{"shop.example.com"}
	c.apply(manifest)
	c.apply(shift)
	c.kubelet()
	c.run("adoption", 60, resting)
}

const withHosts = trafficShift + "  hosts: [shop.example.com]\n"

func atFivePercent(s *v1alpha1.TrafficShift) bool {
	return s.Status.Weight == "5%" && s.Status.State.VerifiedSince != nil
}

func ended(s *v1alpha1.TrafficShift) bool {
	return s.Status.Phase == v1alpha1.PhaseFailed && len(s.Status.State.Retiring) == 0
}

func (c *cluster) edit(patch string) {
	c.Helper()
	c.patch(&v1alpha1.TrafficShift{}, "micro-api", patch)
}

func (c *cluster) abort() { c.edit(`{"metadata": {"annotations": {"sluice.dev/abort": "v2"}}}`) }

func TestAHostThatIsNotGrantedIsNeverWritten(t *testing.T) {
	tests := map[string]struct {
		shift string
		first func(c *cluster)
		hosts string
	}{
		"AtRest": {trafficShift, func(*cluster) {}, `["bank.example.com"]`},
		"InTheMiddleOfAShift": {trafficShift, func(c *cluster) {
			c.setImage("micro-api:1.2")
			c.run("5%", 60, atFivePercent)
		}, `["bank.example.com"]`},
		"BesideOneThatIs": {withHosts, func(*cluster) {}, `["shop.example.com", "bank.example.com"]`},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.adoptWith(service, tc.shift)
			tc.first(c)
			before := c.mesh()
			c.edit(`{"spec": {"hosts": ` + tc.hosts + `}}`)
			c.unmoved(before)
			c.refused(v1alpha1.ReasonHostNotAllowed, "bank.example.com")
		})
	}
}

func TestRoutesDoNotFollowALabelOutOfTheService(t *testing.T) {
	c := newCluster(t)
	c.adoptWith(strings.NewReplacer(
		"labels: {app: micro-api, version: blue}", "labels: {app: micro-api, tier: web}",
		"selector: {app: micro-api}\n  ports", "selector: {app: micro-api, tier: web}\n  ports",
	).Replace(service), trafficShift)
	before := c.mesh()
	c.patch(&appsv1.Deployment{}, "micro-api", `{"spec": {"template": {"metadata": {"labels": {"tier": "web2"}}}}}`)
	c.unmoved(before)
	c.refused(v1alpha1.ReasonServiceUnsupported, "tier=web", `"web2"`)
	if got := c.shift().Status; got.Candidate != "" || got.Phase != v1alpha1.PhaseStable {
		t.Errorf("phase %s with candidate %q; want no shift to start", got.Phase, got.Candidate)
	}
}

func TestAServiceDeletedForAMomentMovesNothing(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	before := c.mesh()
	if err := c.Delete(t.Context(), &corev1.Service{ObjectMeta: objectMeta(c.ns, "micro-api")}); err != nil {
		t.Fatal(err)
	}
	c.unmoved(before)
	c.refused(v1alpha1.ReasonServiceUnsupported, "micro-api", "create it again")
	if c.get("micro-api", &corev1.Service{}) {
		t.Error("Sluice has made a Service in the place of its owner's")
	}
	c.apply(service[strings.Index(service, "---")+4:])
	c.unmoved(before)
	if got := condition(c.shift(), v1alpha1.ConditionAccepted); got != "True Accepted" {
		t.Errorf("Accepted is %q after the Service came back", got)
	}
}

func TestHostsRemovedAtRestGo(t *testing.T) {
	c := newCluster(t)
	c.adoptWith(service, withHosts)
	c.edit(`{"spec": {"hosts": null}}`)
	c.pass()
	if c.get(hostsTable, &networkingv1.VirtualService{}) || c.get("micro-api", &networkingv1.Gateway{}) {
		t.Error("the VirtualService for the hosts, or their Gateway, is still there")
	}
	if diff := cmp.Diff(map[string]int32{"v1": 100}, c.weights("micro-api")); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
}

func TestHostsRemovedInTheMiddleOfAShiftAreTakenBackToo(t *testing.T) {
	c := newCluster(t)
	c.adoptWith(service, withHosts)
	c.setImage("micro-api:1.2")
	c.run("5%", 60, atFivePercent)
	c.edit(`{"spec": {"hosts": null}}`)
	c.pass()
	if diff := cmp.Diff(map[string]int32{"v1": 95, "v2": 5}, c.weights(hostsTable)); diff != "" {
		t.Errorf("the hosts' routes before the abort (-want +got):\n%s", diff)
	}
	c.abort()
	last := c.weights(hostsTable)
	c.run("the way back", 60, func(s *v1alpha1.TrafficShift) bool {
		if now := c.weights(hostsTable); now != nil {
			last = now
		}
		return ended(s)
	})
	if last["v2"] != 0 {
		t.Errorf("the hosts' routes went with %v; want v2 at 0 before", last)
	}
	c.pass()
	if c.get(hostsTable, &networkingv1.VirtualService{}) || c.get("micro-api", &networkingv1.Gateway{}) {
		t.Error("the VirtualService for the hosts, or their Gateway, is still there")
	}
}

// What stands in the way of routes must not stand in the way of pods.
func TestATakenNameDoesNotStopScaling(t *testing.T) {
	c := newCluster(t)
	c.adoptWith(service, trafficShift)
	c.apply(rival(virtualService, "NAME", hostsTable, "HOST", "other"))
	before := c.mesh()
	c.edit(`{"spec": {"hosts": ["shop.example.com"], "replicas": 9}}`)
	c.unmoved(before)
	c.refused(v1alpha1.ReasonNameTaken, hostsTable)
	if diff := cmp.Diff([]string{"micro-api 0", "micro-api-v1 9"}, c.deploymentSizes()); diff != "" {
		t.Errorf("Deployments (-want +got):\n%s", diff)
	}
}

func TestAShiftWithoutReplicasGetsTheTemplates(t *testing.T) {
	c := newCluster(t)
	c.adoptWith(service, strings.Replace(trafficShift, "  replicas: 3\n", "", 1))
	if got := c.shift().Spec.Replicas; got == nil || *got != 3 {
		t.Errorf("spec.replicas is %v; want the Deployment's 3", got)
	}
	if diff := cmp.Diff([]string{"micro-api 0", "micro-api-v1 3"}, c.deploymentSizes()); diff != "" {
		t.Errorf("Deployments (-want +got):\n%s", diff)
	}
}

func TestANewPortListedFirstDoesNotMoveTheHosts(t *testing.T) {
	for _, port := range []string{"http", "http-web"} { // the second is not the one that a new entry would take
		t.Run(port, func(t *testing.T) {
			c := newCluster(t)
			c.adoptWith(strings.Replace(service, "{name: http, port: 80,", "{name: "+port+", port: 80,", 1), withHosts)
			before := c.mesh()["hosts"]
			c.patch(&corev1.Service{}, "micro-api", `{"spec": {"ports": [{"name": "http-admin", "port": 9000, "targetPort": 9000}, {"name": "`+port+`", "port": 80, "targetPort": "http"}]}}`)
			for range 3 {
				c.pass()
			}
			vs := &networkingv1.VirtualService{}
			if !c.get(hostsTable, vs) || vs.ResourceVersion != before {
				t.Errorf("the hosts' routes have changed: %v", vs.Spec.GetHttp())
			}
			mesh := &networkingv1.VirtualService{}
			if c.get("micro-api", mesh); len(mesh.Spec.GetHttp()) != 2 {
				t.Errorf("the mesh's routes are %v; want one for each port", mesh.Spec.GetHttp())
			}
		})
	}
}

func TestAnotherServiceAfterAdoptionIsRefused(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	c.apply(strings.Replace(service[strings.Index(service, "---")+4:], "{name: micro-api}", "{name: other}", 1))
	before := c.mesh()
	c.edit(`{"spec": {"service": "other"}}`)
	c.unmoved(before)
	c.refused(v1alpha1.ReasonInvalidSpec, `"other"`, "Service "+c.ns+"/micro-api", v1alpha1.AnnotationDetach)
}

func TestAnAbortGoesBackThoughTheServiceIsNotHTTPAnyMore(t *testing.T) {
	c := newCluster(t)
	c.adoptWith(service, withHosts)
	c.setImage("micro-api:1.2")
	c.run("50%", 90, func(s *v1alpha1.TrafficShift) bool {
		return s.Status.Weight == "50%" && s.Status.State.VerifiedSince != nil
	})
	c.patch(&corev1.Service{}, "micro-api", `{"spec": {"ports": [{"name": "tcp", "port": 80, "targetPort": "http"}]}}`)
	c.abort()
	c.pass()
	for _, table := range []string{"micro-api", hostsTable} {
		if got := c.weights(table); got["v1"] != 100 || got["v2"] != 0 {
			t.Errorf("%s gives %v; want everything on v1", table, got)
		}
	}
	c.run("the way back", 60, ended)
}

func TestAnAbortForAnotherVersionIsTakenAway(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	c.abort() // before there is a v2, so that it would meet the next release
	c.pass()
	if got := c.shift().Annotations[v1alpha1.AnnotationAbort]; got != "" {
		t.Errorf("the abort of %s is still there at rest", got)
	}
	c.setImage("micro-api:1.2")
	c.run("5%", 60, atFivePercent)
	c.edit(`{"metadata": {"annotations": {"sluice.dev/abort": "v1"}}}`)
	c.pass()
	if s := c.shift(); s.Annotations[v1alpha1.AnnotationAbort] != "" || s.Status.Candidate != "v2" || s.Status.Phase != v1alpha1.PhaseProgressing {
		t.Errorf("annotations %v, candidate %q, phase %s; want the abort of v1 gone and v2 going on", s.Annotations, s.Status.Candidate, s.Status.Phase)
	}
}

// liveReads notes what is read past the cache.
type liveReads struct {
	client.Reader
	names []string
}

func (l *liveReads) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	l.names = append(l.names, key.Name)
	return l.Reader.Get(ctx, key, o, opts...)
}

func TestADeploymentWithoutAShiftCostsNoLiveRead(t *testing.T) {
	c := newCluster(t)
	live := &liveReads{Reader: c.Live}
	c.Live = live
	c.apply(service)
	c.pass()
	if len(live.names) > 0 {
		t.Errorf("read past the cache: %q", live.names)
	}
	c.apply(trafficShift)
	c.pass()
	if !slices.Contains(live.names, "micro-api") {
		t.Error("a TrafficShift must be read past the cache")
	}
}
