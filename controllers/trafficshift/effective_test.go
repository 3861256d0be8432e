package trafficshift

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

const plain = "apiVersion: sluice.dev/v1alpha1\nkind: TrafficShift\nmetadata: {name: micro-api}\nspec: {replicas: 3}\n"

// ruling is status.effective, as its reader sees it.
func (c *cluster) ruling() map[string]any {
	c.Helper()
	s := c.shift()
	if s.Status.Effective == nil {
		c.Fatal("status.effective is empty")
	}
	var out map[string]any
	if err := json.Unmarshal(s.Status.Effective.Raw, &out); err != nil {
		c.Fatal(err)
	}
	return out
}

// The README: "`kubectl get tshift NAME -o jsonpath={.status.effective}` shows the spec that rules, with every default filled in". That holds
// without a policy, and what has not changed is not written again.
func TestTheSpecThatRulesIsShown(t *testing.T) {
	c := newCluster(t)
	c.apply(service)
	c.apply(plain)
	c.kubelet()
	c.run("adoption", 60, resting)
	want := map[string]any{
		"strategy": "canary", "pacing": "auto", "hold": "30s", "drain": c.Config.Timing.Drain.String(), "maxErrorRate": "1%", "maxIncrease": "0.5%",
		"minRequests": 50.0, "maxFailedRequests": 50.0, "reporter": "auto", "capacity": "full", "autoscaler": "refuse", "deadline": "10m0s", "bake": "10m0s",
		"readyThreshold": "100%", "minReplicas": 1.0, "keepRejected": "0s",
	}
	if diff := cmp.Diff(want, c.ruling()); diff != "" {
		t.Errorf("of a spec that says nothing (-want +got):\n%s", diff)
	}
	c.silent()

	c.edit(`{"spec": {"pacing": "ladder", "drain": "5s"}}`)
	c.pass()
	c.pass()
	delete(want, "pacing")
	want["pacing"], want["hold"], want["drain"] = "ladder", "1m0s", "5s"
	want["steps"] = []any{map[string]any{"weight": 5.0}, map[string]any{"weight": 20.0}, map[string]any{"weight": 50.0}, map[string]any{"weight": 100.0}}
	if diff := cmp.Diff(want, c.ruling()); diff != "" {
		t.Errorf("of a ladder (-want +got):\n%s", diff)
	}
	c.silent()

	c.edit(`{"spec": {"pacing": null, "drain": null, "strategy": "ab-test", "abTest": {"match": [{"headers": {"x": {"exact": "y"}}}]}}}`)
	c.pass()
	c.pass()
	got := c.ruling()
	if diff := cmp.Diff(map[string]any{"maxAge": "24h0m0s"}, got["session"]); diff != "" {
		t.Errorf("the session of an ab-test (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]any{map[string]any{"weight": 100.0}}, got["steps"]); diff != "" {
		t.Errorf("the steps of an ab-test (-want +got):\n%s", diff)
	}
	c.silent()

	// What cannot be followed is not shown as if it ruled.
	c.edit(`{"spec": {"abTest": null, "strategy": "canary", "routing": {"http": {"timeouts": "5s"}}}}`)
	c.pass()
	c.pass()
	if routing, _ := c.ruling()["routing"].(map[string]any); routing["http"] != nil {
		t.Errorf("a field that is refused rules: %v", routing)
	}
	c.silent()
}

// silent holds that a pass without news writes nothing.
func (c *cluster) silent() {
	c.Helper()
	c.pass()
	c.writes = nil
	c.pass()
	if len(c.writes) > 0 {
		c.Errorf("a pass without news wrote %q", c.writes)
	}
}

// A scale is no news of the settings.
func TestReplicasAndActionsAreNoSettings(t *testing.T) {
	n := int32(7)
	w := &world{spec: v1alpha1.TrafficShiftSpec{Replicas: &n, Actions: &v1alpha1.Actions{Abort: "v2"}}}
	w.spec.Default()
	var got map[string]any
	if err := json.Unmarshal(w.effective().Raw, &got); err != nil {
		t.Fatal(err)
	}
	if got["replicas"] != nil || got["actions"] != nil || got["pacing"] != "auto" || w.spec.Replicas == nil || w.spec.Actions == nil {
		t.Errorf("shown: %v; the spec: %+v", got, w.spec)
	}
}
