package trafficshift

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/apply"
)

func objectMeta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

// What a user changes in the middle of a shift may stop it, but must never stop the way back: abort comes before everything.
func TestTheWayBackIsNeverBlocked(t *testing.T) {
	tests := map[string]struct {
		change func(c *cluster)
		reason string
	}{
		"ASecondServiceAppears": {func(c *cluster) {
			c.apply(strings.Replace(service[strings.Index(service, "---")+4:], "{name: micro-api}", "{name: second}", 1))
		}, v1alpha1.ReasonServiceAmbiguous},
		"TheNamedServiceIsNone": {func(c *cluster) {
			c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"spec": {"service": "nope"}}`)
		}, v1alpha1.ReasonServiceUnsupported},
		"TheLadderIsBroken": {func(c *cluster) {
			c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"spec": {"steps": [{"weight": 50}, {"weight": 20}, {"weight": 100}]}}`)
		}, v1alpha1.ReasonInvalidSpec},
		"ThePolicyIsBroken": {func(c *cluster) {
			c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"spec": {"trafficPolicy": {"loadBalancer": {"simple": "FASTEST"}}}}`)
		}, v1alpha1.ReasonInvalidSpec},
		"ARivalAppears": {func(c *cluster) {
			c.apply(rival(virtualService, "NAME", "theirs", "HOST", "micro-api"))
		}, v1alpha1.ReasonHostClaimed},
		"TheServiceIsNotHTTPAnyMore": {func(c *cluster) {
			c.patch(&corev1.Service{}, "micro-api", `{"spec": {"ports": [{"name": "tcp", "port": 80, "targetPort": "http"}]}}`)
		}, v1alpha1.ReasonPortUnsupported},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.adopt()
			c.setImage("micro-api:1.2")
			c.run("50%", 90, func(s *v1alpha1.TrafficShift) bool {
				return s.Status.Weight == "50%" && s.Status.State.VerifiedSince != nil
			})
			tc.change(c)
			c.pass()
			if got := condition(c.shift(), v1alpha1.ConditionAccepted); got != "False "+tc.reason {
				t.Errorf("Accepted is %q; want False %s", got, tc.reason)
			}
			c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"metadata": {"annotations": {"sluice.dev/abort": "v2"}}}`)
			if name == "TheServiceIsNotHTTPAnyMore" {
				for range 3 {
					c.pass() // there is no port to write a route for, and it must not crash over it
				}
				return
			}
			c.run("the way back", 30, func(*v1alpha1.TrafficShift) bool { return c.weights("micro-api")["v2"] == 0 })
			if diff := cmp.Diff(int32(100), c.weights("micro-api")["v1"]); diff != "" {
				t.Errorf("v1's weight (-want +got):\n%s", diff)
			}
		})
	}
}

// A ladder that is broken in the middle of a shift holds it: a weight is never raised by a spec that nobody accepted.
func TestABrokenSpecHoldsAtTheWeightItHas(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	c.setImage("micro-api:1.2")
	c.run("5%", 60, func(s *v1alpha1.TrafficShift) bool {
		return s.Status.Weight == "5%" && s.Status.State.VerifiedSince != nil
	})
	c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"spec": {"steps": [{"weight": 50}, {"weight": 20}, {"weight": 100}]}}`)
	for range 30 {
		c.clock = c.clock.Add(c.pass().RequeueAfter)
		c.kubelet()
	}
	if s := c.shift(); s.Status.Weight != "5%" || condition(s, v1alpha1.ConditionProgressing) != "True InvalidSpec" {
		t.Errorf("weight %s, Progressing %q; want a hold at 5%% that says why", s.Status.Weight, condition(s, v1alpha1.ConditionProgressing))
	}
	c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"spec": {"steps": [{"weight": 20}, {"weight": 100}]}}`)
	c.run("promotion", 120, promoted("v2"))
}

// A name that somebody else's Deployment has is skipped; numbers are never used twice.
func TestATakenNumberIsSkipped(t *testing.T) {
	c := newCluster(t)
	c.apply(strings.NewReplacer("name: micro-api\n", "name: micro-api-v1\n", "app: micro-api", "app: theirs").Replace(service[:strings.Index(service, "---")-1]))
	c.adopt()
	if got := c.shift().Status.Stable; got != "v2" {
		t.Errorf("stable is %q; want v2, because micro-api-v1 is somebody else's", got)
	}
	theirs := &appsv1.Deployment{}
	c.get("micro-api-v1", theirs)
	if len(theirs.OwnerReferences) > 0 || theirs.Labels[v1alpha1.LabelManagedBy] != "" {
		t.Errorf("somebody else's Deployment was touched: %v %v", theirs.OwnerReferences, theirs.Labels)
	}
}

// The record is what a version is. One of somebody else's under its name is met with an error that names it, not without a word.
func TestATakenRecordIsReported(t *testing.T) {
	c := newCluster(t)
	theirs := &appsv1.ControllerRevision{ObjectMeta: objectMeta(c.ns, "micro-api-v1"), Revision: 1}
	theirs.Data.Raw = []byte(`{}`)
	if err := c.Create(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	c.apply(service)
	c.apply(trafficShift)
	c.kubelet()
	var err error
	for range 3 {
		_, err = c.Reconcile(t.Context(), ctrl.Request{NamespacedName: c.key()})
	}
	if want := "ControllerRevision " + c.ns + "/micro-api-v1"; !errors.Is(err, apply.ErrForeign) || !strings.Contains(err.Error(), want) {
		t.Errorf("reconciling: %v; want ErrForeign that names %s", err, want)
	}
}

// Nothing was routed yet, so a TrafficShift that cannot be served must not be kept by its finalizer.
func TestAShiftThatWasNeverAdoptedCanBeDeleted(t *testing.T) {
	c := newCluster(t)
	c.apply(service)
	c.apply(trafficShift)
	for range 3 {
		c.pass() // the Deployment's own pods never become ready: no kubelet
	}
	if err := c.Delete(t.Context(), c.shift()); err != nil {
		t.Fatal(err)
	}
	for range 30 {
		c.clock = c.clock.Add(max(c.pass().RequeueAfter, 1))
	}
	if s := c.shift(); s.Name != "" {
		t.Errorf("it is still there: %s %s", s.Status.Phase, s.Status.Message)
	}
}

func TestTheTemplateScaledUpIsPutBackAndReported(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	c.told.take()
	for range 8 {
		c.patch(&appsv1.Deployment{}, "micro-api", `{"spec": {"replicas": 2}}`)
		c.pass()
		c.pass()
	}
	s := c.shift()
	if got := condition(s, v1alpha1.ConditionReplicasContested); got != "True ReplicasContested" {
		t.Errorf("ReplicasContested is %q", got)
	}
	if diff := cmp.Diff([]string{"Warning ReplicasContested"}, c.told.take()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int32{"v1": 100}, c.weights("micro-api")); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
}

// A Deployment that is deleted takes everything of its with it; the TrafficShift must be able to go, too.
func TestADeploymentThatIsGoneReleasesItsShift(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	if err := c.Delete(t.Context(), &appsv1.Deployment{ObjectMeta: objectMeta(c.ns, "micro-api")}); err != nil {
		t.Fatal(err)
	}
	c.pass()
	if got := condition(c.shift(), v1alpha1.ConditionAccepted); got != "False DeploymentNotFound" {
		t.Errorf("Accepted is %q", got)
	}
	if err := c.Delete(t.Context(), c.shift()); err != nil {
		t.Fatal(err)
	}
	c.pass()
	if c.shift().Name != "" {
		t.Error("the TrafficShift is still there")
	}
}
