package trafficshift

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

const autoscaler = `
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: micro-api}
spec:
  minReplicas: 2
  maxReplicas: 6
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: micro-api}
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 60}}}]
`

var following = strings.Replace(trafficShift, "spec:", "spec:\n  autoscaler: follow", 1)

func TestAnAutoscalerOfTheDeploymentIsFollowed(t *testing.T) {
	c := newCluster(t)
	c.apply(service)
	c.apply(autoscaler)
	c.apply(following)
	c.kubelet()
	c.run("the first version to start", 60, func(s *v1alpha1.TrafficShift) bool { return s.Status.State.Stage == v1alpha1.StageStarting })
	c.patch(&appsv1.Deployment{}, "micro-api", `{"spec":{"replicas":5}}`) // the autoscaler still scales it
	if c.get("micro-api-sluice", &autoscalingv2.HorizontalPodAutoscaler{}) {
		t.Error("there is an autoscaler of ours before the Deployment is held: it would see pods without traffic")
	}
	c.kubelet()
	c.run("adoption", 60, resting)
	if diff := cmp.Diff([]string{"micro-api 0", "micro-api-v1 5"}, c.deploymentSizes()); diff != "" {
		t.Errorf("sizes; what the autoscaler found out is kept (-want +got):\n%s", diff)
	}

	ours := c.ourAutoscaler()
	want := autoscalingv2.CrossVersionObjectReference{APIVersion: "sluice.dev/v1alpha1", Kind: "TrafficShift", Name: "micro-api"}
	if diff := cmp.Diff(want, ours.Spec.ScaleTargetRef); diff != "" {
		t.Errorf("its target (-want +got):\n%s", diff)
	}
	if ours.Spec.MaxReplicas != 6 || *ours.Spec.MinReplicas != 2 || *ours.Spec.Metrics[0].Resource.Target.AverageUtilization != 60 {
		t.Errorf("its settings are %+v; want the user's", ours.Spec)
	}
	before := len(c.writes)
	c.pass()
	if n := len(c.writes); n != before {
		t.Errorf("the same again writes %v", c.writes[before:])
	}

	c.patch(&autoscalingv2.HorizontalPodAutoscaler{}, "micro-api", `{"spec":{"maxReplicas":8}}`)
	c.pass()
	if got := c.ourAutoscaler().Spec.MaxReplicas; got != 8 {
		t.Errorf("maxReplicas is %d; want the user's new 8", got)
	}
	slowly := `{"spec":{"behavior":{"scaleDown":{"stabilizationWindowSeconds":60}}}}`
	c.patch(&autoscalingv2.HorizontalPodAutoscaler{}, "micro-api", slowly)
	c.pass()
	if c.ourAutoscaler().Spec.Behavior == nil {
		t.Error("the user's new behavior is not mirrored")
	}
	c.patch(&autoscalingv2.HorizontalPodAutoscaler{}, "micro-api", `{"spec":{"behavior":null}}`)
	c.pass()
	if got := c.ourAutoscaler().Spec.Behavior; got != nil {
		t.Errorf("behavior is still %+v after the user has taken theirs out", got)
	}
	c.patch(&autoscalingv2.HorizontalPodAutoscaler{}, "micro-api-sluice", slowly)
	c.pass()
	if got := c.ourAutoscaler().Spec.Behavior; got != nil {
		t.Errorf("behavior is %+v, which somebody wrote into ours", got)
	}
	before = len(c.writes)
	c.pass()
	if n := len(c.writes); n != before {
		t.Errorf("the same again writes %v", c.writes[before:])
	}
	c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"metadata":{"annotations":{"sluice.dev/detach":"true"}}}`)
	c.pass()
	if c.get("micro-api-sluice", &autoscalingv2.HorizontalPodAutoscaler{}) {
		t.Error("there is an autoscaler of ours while the service is handed back")
	}
	c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"metadata":{"annotations":{"sluice.dev/detach":null}}}`)
	c.run("to be held again", 60, resting)
	c.ourAutoscaler()
	if err := c.Delete(t.Context(), &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Namespace: c.ns, Name: "micro-api"}}); err != nil {
		t.Fatal(err)
	}
	c.pass()
	if c.get("micro-api-sluice", &autoscalingv2.HorizontalPodAutoscaler{}) {
		t.Error("there is an autoscaler of ours, and none of the user's that it follows")
	}
}

func (c *cluster) ourAutoscaler() *autoscalingv2.HorizontalPodAutoscaler {
	c.Helper()
	hpa, template := &autoscalingv2.HorizontalPodAutoscaler{}, &appsv1.Deployment{}
	if !c.get("micro-api-sluice", hpa) || !c.get("micro-api", template) || !metav1.IsControlledBy(hpa, template) {
		c.Fatalf("no HorizontalPodAutoscaler micro-api-sluice that the Deployment owns: %+v", hpa.ObjectMeta)
	}
	return hpa
}

// While the Deployment comes up again, its own autoscaler wakes with it: what that adds is not taken away.
func TestHandingBackDoesNotFightTheDeploymentsAutoscaler(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"metadata":{"annotations":{"sluice.dev/detach":"true"}}}`)
	c.run("the Deployment's own pods", 60, func(*v1alpha1.TrafficShift) bool {
		d := &appsv1.Deployment{}
		return c.get("micro-api", d) && *d.Spec.Replicas == 3
	})
	c.patch(&appsv1.Deployment{}, "micro-api", `{"spec":{"replicas":6}}`)
	c.run("to be handed back", 60, func(s *v1alpha1.TrafficShift) bool { return s.Status.State.Stage == v1alpha1.StageReleased })
	d := &appsv1.Deployment{}
	if c.get("micro-api", d); *d.Spec.Replicas != 6 {
		t.Errorf("the Deployment has %d replicas; want the 6 that its autoscaler asked for", *d.Spec.Replicas)
	}
}

// README: "no wish lowers capacity while traffic moves". The wish comes through the scale subresource, as an autoscaler's does.
func TestAScaleDownDuringARollbackWaits(t *testing.T) {
	c := newCluster(t)
	c.apply(strings.Replace(service, "replicas: 3", "replicas: 4", 1))
	c.apply(strings.Replace(trafficShift, "replicas: 3", "replicas: 4\n  capacity: proportional", 1))
	c.kubelet()
	c.run("adoption", 60, resting)
	c.setImage("micro-api:1.2")
	c.run("stable to give pods up at 50%", 200, func(s *v1alpha1.TrafficShift) bool {
		return s.Status.State.Weight == 500 && c.deploymentSizes()[1] == "micro-api-v1 2"
	})
	shift := c.shift()
	scale := &autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: 1}}
	if err := c.SubResource("scale").Update(t.Context(), shift, client.WithSubResourceBody(scale)); err != nil {
		t.Fatal(err)
	}
	c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"metadata":{"annotations":{"sluice.dev/abort":"v2"}}}`)
	c.pass()
	if got := c.shift().Status.Phase; got != v1alpha1.PhaseRollingBack {
		t.Fatalf("phase %s; want %s", got, v1alpha1.PhaseRollingBack)
	}
	if got := c.deploymentSizes()[1]; got != "micro-api-v1 4" {
		t.Errorf("%s while it takes its traffic back, after a wish for 1; want 4", got)
	}
	c.run("the rollback to end and the wish to count", 60, func(s *v1alpha1.TrafficShift) bool {
		return s.Status.Phase == v1alpha1.PhaseFailed && c.deploymentSizes()[1] == "micro-api-v1 1"
	})
}

func TestAutoscalersThatCannotBeFollowedAreRefused(t *testing.T) {
	rename := func(s, name string) string {
		return strings.Replace(s, "metadata: {name: micro-api}", "metadata: {name: "+name+"}", 1)
	}
	target := func(s string) string {
		return strings.Replace(s, "{apiVersion: apps/v1, kind: Deployment,", "{apiVersion: sluice.dev/v1alpha1, kind: TrafficShift,", 1)
	}
	retarget := "set its scaleTargetRef to apiVersion: sluice.dev/v1alpha1, kind: TrafficShift, name: micro-api"
	tests := map[string]struct {
		shift, also string
		reason      string
		remedy      []string
	}{
		"NotAsked": {trafficShift, autoscaler, v1alpha1.ReasonAutoscalerTargetsTemplate,
			[]string{"HorizontalPodAutoscaler NS/micro-api", retarget, "annotation sluice.dev/autoscaler: follow"}},
		"Two": {following, autoscaler + "---" + rename(autoscaler, "second"), v1alpha1.ReasonAutoscalerTargetsTemplate,
			[]string{"HorizontalPodAutoscaler NS/micro-api and HorizontalPodAutoscaler NS/second", "keep one"}},
		"OneOfTheTrafficShiftToo": {following, autoscaler + "---" + rename(target(autoscaler), "second"),
			v1alpha1.ReasonAutoscalerTargetsTemplate, []string{"NS/micro-api", "NS/second targets the TrafficShift already", "keep one"}},
		"NameTaken": {following, autoscaler + "---" + rename(strings.Replace(autoscaler, "name: micro-api}\n  m", "name: other}\n  m", 1), "micro-api-sluice"),
			v1alpha1.ReasonNameTaken, []string{"HorizontalPodAutoscaler NS/micro-api-sluice", "rename or delete it"}},
		"OfTheTrafficShift": {following, target(autoscaler), "", nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.apply(service)
			c.apply(strings.TrimSpace(strings.ReplaceAll(tc.also, "\n---\n\n", "\n---\n")))
			c.apply(tc.shift)
			c.judged(tc.reason, tc.remedy)
		})
	}
}

// judged asserts that the shift is refused for a reason, with these texts, or accepted where there is none.
func (c *cluster) judged(reason string, remedy []string) {
	c.Helper()
	c.kubelet()
	for range 5 {
		c.pass()
	}
	s := c.shift()
	if reason == "" {
		if got := condition(s, v1alpha1.ConditionAccepted); got != "True Accepted" {
			c.Errorf("Accepted is %q: %s; want it to stand in nobody's way", got, s.Status.Message)
		}
		return
	}
	if got := condition(s, v1alpha1.ConditionAccepted); got != "False "+reason {
		c.Errorf("Accepted is %q; want False %s", got, reason)
	}
	for _, text := range remedy {
		if text = strings.ReplaceAll(text, "NS", c.ns); !strings.Contains(s.Status.Message, text) {
			c.Errorf("the message does not say %q: %s", text, s.Status.Message)
		}
	}
}
