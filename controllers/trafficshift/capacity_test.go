package trafficshift

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/internal/testenv"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// How many pods there are: what the types' own rules refuse, the API server refuses as well, and what it accepts they accept.
func TestTheAPIServerRefusesMistakesInCapacity(t *testing.T) {
	api, ns := testenv.Namespace(t)
	tests := map[string]struct{ spec, want string }{
		"ReadyThreshold":       {`readyThreshold: "80%"`, ""},
		"ReadyThresholdBare":   {`readyThreshold: "99.5"`, ""},
		"ReadyThresholdOfNone": {`readyThreshold: "0.0%"`, "must be above 0%"},
		"ReadyThresholdOfMore": {`readyThreshold: "101%"`, "readyThreshold"},
		"ReadyThresholdWords":  {`readyThreshold: most`, "readyThreshold"},
		"MinReplicas":          {"minReplicas: 3\nreplicas: 2", ""},
		"MinReplicasNone":      {"minReplicas: 0", "minReplicas"},
		"KeepRejected":         {"keepRejected: 1h30m", ""},
		"KeepRejectedNegative": {"keepRejected: -1s", "keepRejected"},
		"KeepRejectedWords":    {"keepRejected: long", "keepRejected"},
		"PreviewReplicas":      {"strategy: blue-green\npreview: {replicas: 1}", ""},
		"PreviewReplicasNone":  {"strategy: blue-green\npreview: {replicas: 0}", "preview.replicas"},
		"PreviewOfACanary":     {"preview: {replicas: 1}", "write replicas in a step"},
		"PreviewOfATest":       {"strategy: ab-test\nabTest: {match: [{uri: {prefix: /b}}]}\npreview: {replicas: 1}", "write replicas in a step"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			bothJudge(t, api, shiftOf(t, ns, "capacity-"+strings.ToLower(name), tc.spec), tc.want)
		})
	}
}

// The pods of a refused version stay, with the address that it had, and count for nobody: not for the scale subresource, not as a release that
// is under way, and not against the room of the next one, which they make way for.
func TestARefusedVersionIsKept(t *testing.T) {
	c := newCluster(t)
	c.adoptWith(service, blueGreen+"  keepRejected: 1h\n")
	c.setImage("micro-api:1.2")
	c.run("the preview", 60, previewing)
	c.abort()
	c.run("v2 to be out of the routes", 60, func(s *v1alpha1.TrafficShift) bool {
		return s.Status.Phase == v1alpha1.PhaseFailed && shift.Kept(s.Status.State.Retiring[0])
	})
	for range 10 { // whatever settles
		c.clock = c.clock.Add(time.Second)
		c.pass()
	}
	status := c.shift().Status
	if diff := cmp.Diff([]string{"micro-api 0", "micro-api-v1 3", "micro-api-v2 3"}, c.deploymentSizes()); diff != "" {
		t.Errorf("Deployments (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"micro-api", "micro-api-v1", "micro-api-v2"}, c.addresses()); diff != "" {
		t.Errorf("Services (-want +got):\n%s", diff)
	}
	for _, name := range []string{"micro-api", "micro-api-hosts"} {
		if diff := cmp.Diff(map[string]int32{"v1": 100}, c.weights(name)); diff != "" {
			t.Errorf("VirtualService %s (-want +got):\n%s", name, diff)
		}
	}
	if status.Replicas != 3 || !strings.HasSuffix(status.Selector, " in (micro-api-v1)") {
		t.Errorf("scale says %d of %q", status.Replicas, status.Selector)
	}
	if got := condition(c.shift(), v1alpha1.ConditionStalled); got != "True Rejected" || condition(c.shift(), v1alpha1.ConditionReconciling) != "" {
		t.Errorf("Stalled is %q; want what is refused to be so at once", got)
	}
	if again := c.pass().RequeueAfter; again < time.Minute*50 {
		t.Errorf("looks again in %s; want when the hour is over", again)
	}
	c.writes = nil
	c.clock = c.clock.Add(time.Minute)
	if c.pass(); len(c.writes) > 0 {
		t.Errorf("without news, wrote %v", c.writes)
	}

	c.apply(quota)
	c.counted("6") // of 5: those of v1, and those of v2, which go
	c.setImage("micro-api:1.3")
	c.pass()
	c.refused(v1alpha1.ReasonQuotaExceeded, "has 6 of 5 used") // 3 and 3 more are too many all the same
	if status = c.shift().Status; status.State.Retiring[0].KeptSince == nil {
		t.Error("v2 is gone before the next candidate starts")
	}
	c.counted("5")
	c.run("v3 to start, and v2 to go", 60, func(s *v1alpha1.TrafficShift) bool {
		return s.Status.Candidate == "v3" && slices.Contains(c.deploymentSizes(), "micro-api-v2 0") && !slices.Contains(c.addresses(), "micro-api-v2")
	})
}

func TestAPreviewOfFewPods(t *testing.T) {
	c := newCluster(t)
	c.adoptWith(service, blueGreen+"  preview: {replicas: 1}\n")
	c.setImage("micro-api:1.2")
	c.run("the preview", 60, previewing)
	c.pass()
	if diff := cmp.Diff([]string{"micro-api 0", "micro-api-v1 3", "micro-api-v2 1"}, c.deploymentSizes()); diff != "" {
		t.Errorf("in the preview (-want +got):\n%s", diff)
	}
	c.run("the switch", 60, func(s *v1alpha1.TrafficShift) bool {
		sizes := c.deploymentSizes()
		if slices.Contains(sizes, "micro-api-v2 1") != (s.Status.State.Pods.WaitingSince == nil && s.Status.Weight == "0%") {
			t.Errorf("at %s: %v", s.Status.Message, sizes)
		}
		return s.Status.Weight == "100%"
	})
	c.run("the promotion", 60, func(s *v1alpha1.TrafficShift) bool { return s.Status.Stable == "v2" })
}
