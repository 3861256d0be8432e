package trafficshift

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// kubectlUndo is kubectl rollout undo of the Deployment to a ReplicaSet from before Sluice: that one's template, and that one's annotations
// in the place of all of the Deployment's but a few of Kubernetes' own (kubectl's pkg/polymorphichelpers/rollback.go).
func (c *cluster) kubectlUndo(image string) {
	c.Helper()
	d := &appsv1.Deployment{}
	c.get("micro-api", d)
	template := d.Spec.Template.DeepCopy()
	template.Spec.Containers[0].Image = image
	patch, err := json.Marshal([]any{
		map[string]any{"op": "replace", "path": "/spec/template", "value": template},
		map[string]any{"op": "replace", "path": "/metadata/annotations", "value": map[string]string{"kubernetes.io/change-cause": "first release"}},
	})
	if err != nil {
		c.Fatal(err)
	}
	if err := c.Patch(c.Context(), d, client.RawPatch(types.JSONPatchType, patch), client.FieldOwner("kubectl-rollout")); err != nil {
		c.Fatal(err)
	}
}

func (c *cluster) held() bool {
	c.Helper()
	d := &appsv1.Deployment{}
	c.get("micro-api", d)
	return d.Annotations[v1alpha1.AnnotationHeld] == "true"
}

// A TrafficShift that its owner wrote stays: the old template is a release like any other, and the mark is put back.
func TestKubectlUndoIsAGatedRelease(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	c.setImage("micro-api:1.2")
	c.run("promotion", 120, promoted("v2"))
	c.kubectlUndo("micro-api:1.1")
	c.run("5% of v1", 60, func(s *v1alpha1.TrafficShift) bool { return s.Status.Candidate == "v1" && reached("5%")(s) })
	c.run("promotion of v1", 120, promoted("v1"))
	if !c.held() {
		t.Error("the Deployment is not marked as held")
	}
	if diff := cmp.Diff([]string{"micro-api 0", "micro-api-v1 3", "micro-api-v2 0"}, c.deploymentSizes()); diff != "" {
		t.Errorf("Deployments (-want +got):\n%s", diff)
	}
}

// Within a rollback window it takes no steps, and the event, the history and its message say so. The room for all of its pods is asked for.
func TestARollbackWindowIsTold(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	c.edit(`{"spec": {"rollbackWindow": {"revisions": 1}}}`)
	c.setImage("micro-api:1.2")
	c.run("promotion", 120, promoted("v2"))
	c.run("rest", 60, func(s *v1alpha1.TrafficShift) bool { return len(s.Status.State.Retiring) == 0 })
	c.setImage("micro-api:1.1")
	c.run("promotion of v1", 120, func(s *v1alpha1.TrafficShift) bool {
		if w := s.Status.State.Weight; w != 0 && w != v1alpha1.Whole {
			t.Fatalf("v1 has a weight of %s", w)
		}
		if text := s.Status.Step; s.Status.Candidate != "" && text != "0/1" && text != "1/1" {
			t.Fatalf("v1 is on step %q", text)
		}
		return promoted("v1")(s)
	})
	if !strings.Contains(c.told.String(), v1alpha1.ReasonWithinRollbackWindow) {
		t.Errorf("no event tells of it:\n%s", c.told)
	}
	s := c.shift().Status
	if got := s.History[0]; !got.WithinRollbackWindow || !strings.Contains(got.Message, "within the rollback window") || s.History[1].WithinRollbackWindow {
		t.Errorf("history %+v", s.History)
	}
	if len(s.State.Former) > 0 || s.State.Previous != "v2" {
		t.Errorf("back on v1, former is %v and previous %s; want v2 to be no version to go back to, and its undo to be known", s.State.Former, s.State.Previous)
	}
}

// One that annotations made goes with them, and the mark is gone as well: users stay where they are until the template is theirs again, and
// the service is handed back to pods that are there.
func TestKubectlUndoToBeforeSluiceMovesNobody(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	c.setImage("micro-api:1.2")
	c.run("promotion", 120, promoted("v2"))
	c.kubectlUndo("micro-api:1.1")
	if err := c.Delete(c.Context(), c.shift()); err != nil { // as controllers/shim does where the strategy is gone
		t.Fatal(err)
	}
	c.run("a refusal to hand back", 10, func(s *v1alpha1.TrafficShift) bool {
		return condition(s, v1alpha1.ConditionProgressing) == "True TemplateNotStable"
	})
	for range 30 {
		c.run("a pass", 1, func(*v1alpha1.TrafficShift) bool { return true })
		c.clock = c.clock.Add(c.Config.Timing.Settle)
	}
	if diff := cmp.Diff([]string{"micro-api 0", "micro-api-v1 0", "micro-api-v2 3"}, c.deploymentSizes()); diff != "" {
		t.Errorf("Deployments (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int32{"v2": 100}, c.weights("micro-api")); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	c.annotate("undo", "v2")
	gone := false
	c.run("handing back", 60, func(s *v1alpha1.TrafficShift) bool {
		d := &appsv1.Deployment{}
		c.get("micro-api", d)
		routed := len(c.weights("micro-api")) > 0 && c.weights("micro-api")["v2"] == 100
		if !routed && d.Status.AvailableReplicas < 3 {
			t.Fatalf("the routes let go with %d of the Deployment's own pods", d.Status.AvailableReplicas)
		}
		gone = s.Name == ""
		return gone
	})
	if diff := cmp.Diff([]string{"micro-api 3"}, c.deploymentSizes()); diff != "" || c.image() != "micro-api:1.2" {
		t.Errorf("handed back with the image %s; Deployments (-want +got):\n%s", c.image(), diff)
	}
}
