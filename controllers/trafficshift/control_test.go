package trafficshift

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/internal/testenv"
)

// annotate is kubectl annotate.
func (c *cluster) annotate(key, value string) {
	c.Helper()
	c.patch(&v1alpha1.TrafficShift{}, "micro-api", fmt.Sprintf(`{"metadata": {"annotations": {%q: %q}}}`, v1alpha1.Prefix+key, value))
}

// act is kubectl patch of a field of spec.actions.
func (c *cluster) act(action, value string) {
	c.Helper()
	c.patch(&v1alpha1.TrafficShift{}, "micro-api", fmt.Sprintf(`{"spec": {"actions": {%q: %q}}}`, action, value))
}

func (c *cluster) image() string {
	c.Helper()
	d := &appsv1.Deployment{}
	c.get("micro-api", d)
	return d.Spec.Template.Spec.Containers[0].Image
}

func reached(weight string) func(*v1alpha1.TrafficShift) bool {
	return func(s *v1alpha1.TrafficShift) bool {
		return s.Status.Weight == weight && s.Status.State.RoutedSince != nil
	}
}

func promoted(version string) func(*v1alpha1.TrafficShift) bool {
	return func(s *v1alpha1.TrafficShift) bool { return s.Status.Stable == version && resting(s) }
}

// What is asked is answered once, told, counted and taken away; who asked, and what came of it, is kept.
func TestRequestsAreAnsweredAndAudited(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	c.setImage("micro-api:1.2")
	c.run("5%", 60, reached("5%"))
	c.told.take()
	c.annotate("promote", "v2@5")
	c.annotate("retry", "v2")
	c.run("50%", 10, reached("50%"))
	if s := c.shift(); s.Annotations[v1alpha1.AnnotationPromote] != "" || s.Annotations[v1alpha1.AnnotationRetry] != "" {
		t.Errorf("annotations %v; want what was answered taken away", s.Annotations)
	}
	want := []v1alpha1.ActionRecord{
		{Action: v1alpha1.ActionPromote, Value: "v2@5", Version: "v2", By: "kubectl", Result: v1alpha1.ResultDone, Message: "v2 goes on from 5% to 50% as soon as it has the pods"},
		{Action: v1alpha1.ActionRetry, Value: "v2", Version: "v2", By: "kubectl", Result: v1alpha1.ResultRefused, Message: "v2 is being tried"},
	}
	if diff := cmp.Diff(want, c.shift().Status.Actions, cmpopts.IgnoreFields(v1alpha1.ActionRecord{}, "At")); diff != "" {
		t.Errorf("status.actions (-want +got):\n%s", diff)
	}
	if at := c.shift().Status.Actions[0].At; at.IsZero() || at.After(c.clock) {
		t.Errorf("it was answered at %s", at)
	}
	if diff := cmp.Diff([]string{"Warning ActionRefused", "Normal ActionTaken", "Normal WeightRaised"}, c.told.take()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	c.act("abort", "v2")
	c.run("the abort", 60, ended)
	c.annotate("retry", "v2")
	c.run("5% again", 60, reached("5%")) // the field stands there still, and aborts nothing any more
	if got := c.shift(); got.Spec.Actions.Abort != "v2" || len(got.Status.Actions) != 4 {
		t.Errorf("spec.actions %+v, status.actions %+v; want the field left as it is, and asked once", got.Spec.Actions, got.Status.Actions)
	}
	for range 12 {
		c.annotate("restart", "v2")
		c.pass()
		c.pass()
	}
	if got := len(c.shift().Status.Actions); got != 10 {
		t.Errorf("%d answers are kept; want the last 10", got)
	}
}

func TestSkippedGatesAreLoudAndAudited(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	c.setImage("micro-api:1.2")
	c.run("5%", 60, reached("5%"))
	c.counts.errors["v2"], c.counts.err = 1, fmt.Errorf("no route to Prometheus")
	c.told.take()
	c.act("promote", "v2/skip-gates")
	c.run("100%", 30, reached("100%"))
	c.counts.err = nil
	c.run("promotion", 60, promoted("v2"))
	if got := c.told.take(); got[0] != "Warning GatesSkipped" {
		t.Errorf("events %v; want a warning first", got)
	}
	if got := c.shift().Status.History[0]; got.Reason != v1alpha1.ReasonPromoted || got.SkippedGatesBy != "kubectl" {
		t.Errorf("history %+v; want who skipped the gates", got)
	}
}

// Undo changes the pod template of the Deployment, and nothing else of it; the version that it is climbs the same steps again.
func TestUndoPutsTheTemplateBackAndIsGated(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	c.setImage("micro-api:1.2")
	c.run("promotion", 120, promoted("v2"))
	was := &appsv1.Deployment{}
	c.get("micro-api", was)
	c.annotate("undo", "previous")
	c.run("5% of v1", 60, func(s *v1alpha1.TrafficShift) bool { return s.Status.Candidate == "v1" && reached("5%")(s) })
	is := &appsv1.Deployment{}
	c.get("micro-api", is)
	was.Spec.Template.Spec.Containers[0].Image = "micro-api:1.1"
	if diff := cmp.Diff(was.Spec, is.Spec); diff != "" {
		t.Errorf("the Deployment (-want +got):\n%s", diff)
	}
	for _, e := range is.ManagedFields {
		if strings.Contains(e.Manager, "undo") {
			t.Errorf("%s keeps fields: %s", e.Manager, e.FieldsV1)
		}
	}
	c.run("promotion of v1", 120, promoted("v1"))
	if diff := cmp.Diff([]string{"micro-api 0", "micro-api-v1 3", "micro-api-v2 0"}, c.deploymentSizes()); diff != "" {
		t.Errorf("Deployments (-want +got):\n%s", diff)
	}
	c.counts.errors["v2"] = 0.5
	c.act("undo", "v2")
	c.run("the refusal of v2", 120, ended)
	if s := c.shift(); s.Status.Rejected != "v2" || c.image() != "micro-api:1.2" {
		t.Errorf("rejected %q with the image %s; want v2 refused", s.Status.Rejected, c.image())
	}
}

// A restart is no release: the stable version's pods are replaced, its record stays, and what is applied later leaves the new pods alone.
func TestRestartReplacesThePodsAndIsNoRelease(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	restarted := func() string {
		d := &appsv1.Deployment{}
		c.get("micro-api-v1", d)
		return d.Spec.Template.Annotations[v1alpha1.AnnotationRestartedAt]
	}
	c.annotate("restart", "v1")
	c.run("the restart", 10, func(s *v1alpha1.TrafficShift) bool { return restarted() != "" && s.Status.State.Restart == nil })
	at := restarted()
	if _, err := time.Parse(time.RFC3339Nano, at); err != nil {
		t.Errorf("restarted at %q: %v", at, err)
	}
	d := &appsv1.Deployment{}
	c.get("micro-api-v1", d)
	if s := d.Spec.Strategy.RollingUpdate; s == nil || s.MaxUnavailable.String() != "0" {
		t.Errorf("strategy %+v; want no pod unavailable", d.Spec.Strategy)
	}
	c.setImage("micro-api:1.2")
	c.run("promotion", 120, promoted("v2"))
	c.setImage("micro-api:1.1")
	c.run("promotion of v1", 120, promoted("v1")) // whose template the restart did not change: it is no v3
	if got := restarted(); got != at {
		t.Errorf("later writes restarted v1 again: %q, then %q", at, got)
	}
	c.pass()
	before := len(c.writes)
	c.pass()
	if got := c.writes[before:]; len(got) > 0 {
		t.Errorf("at rest it writes %v", got)
	}
}

// The annotation on the TrafficShift is a person's, and wins over the field, which is git's. What it says is taken away once it means
// nothing.
func TestThePauseOfAPersonWins(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	c.setImage("micro-api:1.2")
	c.run("5%", 60, reached("5%"))
	paused := func() string { return c.shift().Annotations[v1alpha1.AnnotationPaused] }
	c.annotate("paused", "true")
	c.run("the pause", 5, func(s *v1alpha1.TrafficShift) bool {
		return condition(s, v1alpha1.ConditionProgressing) == "True Paused"
	})
	c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"spec": {"paused": false}}`)
	for range 20 {
		c.pass()
		c.clock = c.clock.Add(time.Second)
	}
	if s := c.shift(); s.Status.Weight != "5%" || paused() != "true" {
		t.Fatalf("%s: %s; want it paused still", s.Status.Weight, s.Status.Message)
	}
	c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"spec": {"paused": true}}`)
	c.annotate("paused", "false")
	c.run("50%", 60, reached("50%"))
	if paused() != "false" {
		t.Error("the resume is gone while git says paused")
	}
	c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"spec": {"paused": null}}`)
	if c.pass(); paused() != "" {
		t.Error("the resume stays, although nothing pauses")
	}
	c.annotate("paused", "yes")
	if c.pass(); paused() != "" || !strings.Contains(c.shift().Status.Actions[0].Message, `write "true" or "false"`) {
		t.Errorf("paused %q, answers %+v; want it refused and taken away", paused(), c.shift().Status.Actions)
	}
}

func TestTheAPIServerRefusesMistakesInActions(t *testing.T) {
	api, ns := testenv.Namespace(t)
	const version, promote, undo = "must be a version, such as v2", "must be a version, and how far", "must be a version, such as v1, or previous"
	for i, tc := range []struct{ actions, want string }{
		{`{}`, ""},
		{`{abort: v2, retry: v1, approve: "v3#again", promote: v2, undo: previous, restart: v12}`, ""},
		{`{promote: "v2@20"}`, ""}, {`{promote: "v2@0.5%"}`, ""}, {`{promote: "v2@100"}`, ""}, {`{promote: v2/all#a.b-c_1}`, ""}, {`{promote: v2/skip-gates}`, ""},
		{`{promote: ""}`, ""}, {`{undo: v1}`, ""},
		{`{abort: "2"}`, version}, {`{abort: v0}`, version}, {`{retry: V2}`, version}, {`{approve: "v2#"}`, version}, {`{restart: all}`, version}, {`{abort: v2/all}`, version},
		{`{promote: v2/everything}`, promote}, {`{promote: "v2@101"}`, promote}, {`{promote: "v2@5/all"}`, promote}, {`{promote: "v2 "}`, promote}, {`{promote: "v2@0.55"}`, promote},
		{`{undo: "true"}`, undo}, {`{undo: last}`, undo}, {`{abort: v99999999999}`, version}, {`{abort: "v2#` + strings.Repeat("x", 33) + `"}`, version},
	} {
		t.Run(tc.actions, func(t *testing.T) {
			u := shiftOf(t, ns, fmt.Sprintf("actions-%d", i), "actions: "+tc.actions)
			err := api.Create(t.Context(), u)
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("error %v; want a refusal that says %q", err, tc.want)
			}
			if err == nil {
				var read v1alpha1.TrafficShift
				if err := api.Get(t.Context(), client.ObjectKeyFromObject(u), &read); err != nil {
					t.Fatal(err)
				}
				read.Spec.Default()
				if errs := read.Spec.Validate(nil); len(errs) > 0 {
					t.Errorf("what the API server accepts is refused later: %v", errs)
				}
			}
		})
	}
}

// kubectl rollout pause and resume of the Deployment pause and resume the shift; its versions' Deployments are not paused.
func TestAPausedDeploymentPausesItsShift(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	c.rollout(`{"spec": {"paused": true}}`)
	c.setImage("micro-api:1.2")
	c.run("a pause", 10, func(s *v1alpha1.TrafficShift) bool {
		return condition(s, v1alpha1.ConditionProgressing) == "False Paused"
	})
	if s := c.shift(); s.Status.Candidate != "" || !strings.HasSuffix(s.Status.Message, "the Deployment is paused: kubectl rollout resume deployment/micro-api goes on") {
		t.Errorf("candidate %q, message %q", s.Status.Candidate, s.Status.Message)
	}
	c.rollout(`{"spec": {"paused": null}}`)
	c.run("5%", 60, reached("5%"))
	c.rollout(`{"spec": {"paused": true}}`)
	for range 20 {
		c.run("a pass", 1, func(*v1alpha1.TrafficShift) bool { return true })
		c.clock = c.clock.Add(time.Second)
	}
	if s := c.shift(); s.Status.Weight != "5%" || condition(s, v1alpha1.ConditionProgressing) != "True Paused" {
		t.Errorf("paused at 5%%, it is at %s: %s", s.Status.Weight, s.Status.Message)
	}
	for _, name := range []string{"micro-api-v1", "micro-api-v2"} {
		d := &appsv1.Deployment{}
		if !c.get(name, d) || d.Spec.Paused {
			t.Errorf("Deployment %s: paused %t", name, d.Spec.Paused)
		}
	}
	c.rollout(`{"spec": {"paused": null}}`)
	c.run("promotion", 120, promoted("v2"))
	want := []v1alpha1.ActionRecord{
		{Action: v1alpha1.ActionResume, By: "unknown", Result: v1alpha1.ResultDone, Message: "v2 goes on from 5%"},
		{Action: v1alpha1.ActionPause, Value: "true", By: "kubectl-rollout", Result: v1alpha1.ResultDone, Message: "v2 stays at 5%; it is still taken back if it is bad"},
		{Action: v1alpha1.ActionResume, By: "unknown", Result: v1alpha1.ResultDone, Message: "a new template may start"},
		{Action: v1alpha1.ActionPause, Value: "true", By: "kubectl-rollout", Result: v1alpha1.ResultDone, Message: "a new template waits to start"},
	}
	if diff := cmp.Diff(want, c.shift().Status.Actions, cmpopts.IgnoreFields(v1alpha1.ActionRecord{}, "At")); diff != "" {
		t.Errorf("status.actions (-want +got):\n%s", diff)
	}
}

// rollout patches the Deployment as kubectl rollout pause and resume do.
func (c *cluster) rollout(patch string) {
	c.Helper()
	d := &appsv1.Deployment{}
	d.SetNamespace(c.ns)
	d.SetName("micro-api")
	if err := c.Patch(c.Context(), d, client.RawPatch(types.StrategicMergePatchType, []byte(patch)), client.FieldOwner("kubectl-rollout")); err != nil {
		c.Fatal(err)
	}
}
