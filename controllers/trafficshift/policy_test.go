package trafficshift

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/metrics/analysis"
	"github.com/sluice-dev/sluice/metrics/query"
	"github.com/sluice-dev/sluice/metrics/webhook"
)

// policy makes a ShiftPolicy that is the test's own, and returns its name.
func (c *cluster) policy(spec string) string {
	c.Helper()
	name := "policy-" + c.ns
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(fmt.Appendf(nil, "apiVersion: sluice.dev/v1alpha1\nkind: ShiftPolicy\nmetadata: {name: %s}\nspec: %s\n", name, spec), &u.Object); err != nil {
		c.Fatal(err)
	}
	if err := c.Create(c.Context(), u, client.FieldOwner("kubectl")); err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { c.dropPolicy() })
	return name
}

func (c *cluster) editPolicy(patch string) {
	c.Helper()
	p := &v1alpha1.ShiftPolicy{}
	p.Name = "policy-" + c.ns
	if err := c.Patch(c.Context(), p, client.RawPatch(types.MergePatchType, []byte(patch)), client.FieldOwner("kubectl")); err != nil {
		c.Fatal(err)
	}
}

func (c *cluster) dropPolicy() {
	p := &v1alpha1.ShiftPolicy{}
	p.Name = "policy-" + c.ns
	_ = c.Delete(c.Context(), p)
}

// under is a TrafficShift without settings of its own.
func (c *cluster) under(policy string) {
	c.Helper()
	c.apply(service)
	c.apply(fmt.Sprintf("apiVersion: sluice.dev/v1alpha1\nkind: TrafficShift\nmetadata: {name: micro-api}\nspec: {replicas: 3, policy: %s}\n", policy))
	c.kubelet()
}

func (c *cluster) effective() v1alpha1.ShiftDefaults {
	c.Helper()
	var d v1alpha1.ShiftDefaults
	s := c.shift()
	if s.Status.Effective == nil {
		c.Fatalf("no effective settings: %+v", s.Status)
	}
	if err := json.Unmarshal(s.Status.Effective.Raw, &d); err != nil {
		c.Fatal(err)
	}
	return d
}

const quick = `{defaults: {steps: [{weight: 10}, {weight: 100}], hold: 3s, bake: 3s, maxErrorRate: "0.5%",
  gates: [{name: few, dryRun: true, query: {promql: "vector(1) < 2", min: "0"}}]}}`

func TestAShiftIsUnderItsPolicy(t *testing.T) {
	c := newCluster(t)
	c.under(c.policy(quick))
	c.run("adoption", 60, resting)
	c.setImage("micro-api:1.2")
	c.run("the policy's first step", 60, func(s *v1alpha1.TrafficShift) bool { return s.Status.Weight == "10%" })
	s := c.shift()
	if s.Status.Step != "1/2" {
		t.Errorf("step %q, want that of the policy's ladder, 1/2", s.Status.Step)
	}
	want := []string{"steps", "hold", "maxErrorRate", "gates"} // of bake nothing tells that it was not written: the longer one rules
	if diff := cmp.Diff(want, s.Status.Policy.Fields); diff != "" {
		t.Errorf("fields from the policy (-want +got):\n%s", diff)
	}
	if e := c.effective(); e.Hold.Duration != 3*time.Second || e.MaxErrorRate != "0.5%" || e.Bake.Duration != 10*time.Minute || *e.MinRequests != 50 {
		t.Errorf("effective settings: %+v", e)
	}
	accepted := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionAccepted)
	if want := fmt.Sprintf("ShiftPolicy policy-%s (generation 1) sets steps, hold, maxErrorRate, gates", c.ns); accepted == nil || !strings.Contains(accepted.Message, want) {
		t.Errorf("condition Accepted %+v does not say %q", accepted, want)
	}
	c.pass()
	c.pass()
	c.writes = nil
	c.pass()
	if len(c.writes) > 0 {
		t.Errorf("a pass in which nothing happened wrote %q", c.writes)
	}
}

// Who wrote a field can be told where it was applied: on the server, or by kubectl's own apply.
func TestAnAppliedDefaultIsTold(t *testing.T) {
	for name, tc := range map[string]struct {
		spec string
		how  string
		want v1alpha1.Percent
	}{
		"ServerSideLeftOut":  {`{"policy": %q, "replicas": 3}`, "server", "5%"},
		"ServerSideWritten":  {`{"policy": %q, "replicas": 3, "maxErrorRate": "1%%"}`, "server", "1%"},
		"LastAppliedLeftOut": {`{"policy": %q, "replicas": 3}`, "kubectl", "5%"},
		"LastAppliedWritten": {`{"policy": %q, "replicas": 3, "maxErrorRate": "1%%"}`, "kubectl", "1%"},
		"CreatedLeftOut":     {`{"policy": %q, "replicas": 3}`, "create", "1%"}, // nothing tells: the stricter one rules
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			policy := c.policy(`{defaults: {maxErrorRate: "5%"}}`)
			c.apply(service)
			raw := fmt.Sprintf(`{"apiVersion": "sluice.dev/v1alpha1", "kind": "TrafficShift", "metadata": {"name": "micro-api", "namespace": %q}, "spec": %s}`,
				c.ns, fmt.Sprintf(tc.spec, policy))
			u := &unstructured.Unstructured{}
			if err := json.Unmarshal([]byte(raw), &u.Object); err != nil {
				t.Fatal(err)
			}
			var err error
			switch tc.how {
			case "server":
				err = c.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(u), client.FieldOwner("kubectl"))
			case "kubectl":
				u.SetAnnotations(map[string]string{lastApplied: raw})
				err = c.Create(t.Context(), u, client.FieldOwner("kubectl-client-side-apply"))
			default:
				err = c.Create(t.Context(), u, client.FieldOwner("kubectl-create"))
			}
			if err != nil {
				t.Fatal(err)
			}
			c.kubelet()
			c.run("adoption", 60, resting)
			if got := c.effective().MaxErrorRate; got != tc.want {
				t.Errorf("maxErrorRate %s, want %s", got, tc.want)
			}
		})
	}
}

func TestAPolicyThatCannotBeUsedStartsNoShift(t *testing.T) {
	for name, tc := range map[string]struct{ spec, edit, reason, says string }{
		"Missing":    {"{}", "", v1alpha1.ReasonPolicyNotFound, "there is no ShiftPolicy"},
		"NotGranted": {"{}", `{"spec": {"namespaces": {"matchLabels": {"team": "nobody"}}}}`, v1alpha1.ReasonPolicyNotGranted, "team=nobody"},
		"Invalid":    {"{}", `{"spec": {"freezes": [{"name": "f", "schedule": "61 * * * *", "duration": "1h"}]}}`, v1alpha1.ReasonPolicyInvalid, "61 * * * *"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.under(c.policy(tc.spec))
			c.run("adoption", 60, resting)
			if tc.edit == "" {
				c.dropPolicy()
			} else {
				c.editPolicy(tc.edit)
			}
			c.setImage("micro-api:1.2")
			for range 5 {
				c.pass()
				c.clock = c.clock.Add(time.Second)
			}
			s := c.shift()
			if s.Status.Phase != v1alpha1.PhaseStable || s.Status.Candidate != "" {
				t.Errorf("%s with candidate %q; want nothing to start", s.Status.Phase, s.Status.Candidate)
			}
			accepted := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionAccepted)
			if condition(s, v1alpha1.ConditionAccepted) != "False "+tc.reason || !strings.Contains(accepted.Message, tc.says) {
				t.Errorf("condition Accepted %+v; want False %s that says %q", accepted, tc.reason, tc.says)
			}
			if diff := cmp.Diff([]string{"micro-api 0", "micro-api-v1 3"}, c.deploymentSizes()); diff != "" {
				t.Errorf("Deployments (-want +got):\n%s", diff)
			}
		})
	}
}

// What becomes of a policy while a candidate is at a weight acts at the next weight, and moves no traffic by itself.
func TestAPolicyEditedInTheMiddleWaitsForTheNextStep(t *testing.T) {
	for name, change := range map[string]func(*cluster){
		"Loosened": func(c *cluster) {
			c.editPolicy(`{"spec": {"defaults": {"hold": "1s", "steps": [{"weight": 100}]}}}`)
		},
		"Deleted": func(c *cluster) { c.dropPolicy() },
		"Tightened": func(c *cluster) {
			c.editPolicy(`{"spec": {"defaults": {"steps": [{"weight": 10}, {"weight": 11}, {"weight": 100}]}}}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.under(c.policy(`{defaults: {steps: [{weight: 10}, {weight: 50}, {weight: 100}], hold: 30s}}`))
			c.run("adoption", 60, resting)
			c.setImage("micro-api:1.2")
			c.run("the first weight", 60, func(s *v1alpha1.TrafficShift) bool { return s.Status.Weight == "10%" })
			began := c.clock
			change(c)
			c.run("the next weight", 90, func(s *v1alpha1.TrafficShift) bool { return s.Status.Weight != "10%" })
			if held := c.clock.Sub(began); held < 25*time.Second || c.shift().Status.Weight != "50%" {
				t.Errorf("raised to %s after %s; want 50%% after the 30s that the policy asked for when the step began", c.shift().Status.Weight, held)
			}
		})
	}
}

// second is another service in the namespace, with a shift of its own.
func (c *cluster) second(name, policy string) {
	c.Helper()
	c.apply(strings.ReplaceAll(service, "micro-api", name))
	c.apply(fmt.Sprintf("apiVersion: sluice.dev/v1alpha1\nkind: TrafficShift\nmetadata: {name: %s}\nspec: {replicas: 3, policy: %s}\n", name, policy))
	c.kubelet()
}

func (c *cluster) named(name string) *v1alpha1.TrafficShift {
	c.Helper()
	s := &v1alpha1.TrafficShift{}
	if !c.get(name, s) {
		c.Fatalf("there is no TrafficShift %s", name)
	}
	return s
}

// all lets passes over several shifts, pods and seconds alternate until done says so.
func (c *cluster) all(what string, limit int, names []string, done func() bool) {
	c.Helper()
	for range limit {
		for _, name := range names {
			if _, err := c.Reconcile(c.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Namespace: c.ns, Name: name}}); err != nil {
				c.Fatal(err)
			}
		}
		c.kubelet()
		if done() {
			return
		}
		c.clock = c.clock.Add(time.Second)
	}
	for _, name := range names {
		c.Logf("%s: %+v", name, c.named(name).Status)
	}
	c.Fatalf("waiting for %s", what)
}

func (c *cluster) release(name, image string) {
	c.Helper()
	c.patch(&appsv1.Deployment{}, name, fmt.Sprintf(`{"spec": {"template": {"spec": {"containers": [{"name": "app", "image": %q}]}}}}`, image))
}

func TestOneGoesAfterTheOther(t *testing.T) {
	c := newCluster(t)
	policy := c.policy(`{maxConcurrent: 1, defaults: {steps: [{weight: 100}], hold: 2s, bake: 2s}}`)
	names := []string{"micro-api", "cart"}
	c.under(policy)
	c.second("cart", policy)
	at := func(phase v1alpha1.Phase) func() bool {
		return func() bool {
			return !slices.ContainsFunc(names, func(n string) bool { return c.named(n).Status.Phase != phase })
		}
	}
	c.all("adoption", 90, names, at(v1alpha1.PhaseStable))
	for _, name := range names {
		c.release(name, name+":2")
	}
	moving := func() (n int) {
		for _, name := range names {
			if s := c.named(name).Status; s.Phase == v1alpha1.PhaseProgressing {
				n++
			}
		}
		return n
	}
	c.all("the first to move", 10, names, func() bool { return moving() > 0 })
	c.all("the other to wait", 3, names, func() bool { return c.named("cart").Status.State.WaitingSince != nil })
	s := c.named("cart")
	if want := fmt.Sprintf("moving: %s/micro-api", c.ns); !strings.Contains(s.Status.Message, want) || condition(s, v1alpha1.ConditionReady) != "False "+v1alpha1.ReasonWaitingForTurn {
		t.Errorf("%q, Ready %s; want it to say %q", s.Status.Message, condition(s, v1alpha1.ConditionReady), want)
	}
	c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"spec": {"paused": true, "bake": "2s"}}`)
	c.all("the message to say that it is paused", 20, names, func() bool { return strings.Contains(c.named("cart").Status.Message, "(paused)") })
	c.patch(&v1alpha1.TrafficShift{}, "cart", `{"spec": {"bake": "2s"}}`)
	c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"spec": {"paused": false}}`)
	c.all("both to be released", 200, names, func() bool {
		if n := moving(); n > 1 {
			t.Fatalf("%d move at once", n)
		}
		return c.named("micro-api").Status.Stable == "v2" && c.named("cart").Status.Stable == "v2"
	})
}

// Two workers that look for the last turn at once: one gets it.
func TestTwoWorkersDoNotShareATurn(t *testing.T) {
	c := newCluster(t)
	policy := c.policy(`{maxConcurrent: 1}`)
	names := []string{"micro-api", "cart", "pay", "search"}
	c.under(policy)
	for _, name := range names[1:] {
		c.second(name, policy)
	}
	c.all("adoption", 120, names, func() bool {
		return !slices.ContainsFunc(names, func(n string) bool { return !resting(c.named(n)) })
	})
	for _, name := range names {
		c.release(name, name+":2")
	}
	quiet := &Reconciler{ // the cluster's own recorder and evidence are for one goroutine
		Client: c.Client, Live: c.Live, Recorder: deaf{}, Exporter: c.Exporter, Evidence: blind{}, Webhooks: mute{}, Config: c.Config, Now: c.Now, GatewayAPI: c.GatewayAPI, KEDA: c.KEDA,
	}
	var workers sync.WaitGroup
	for _, name := range names {
		workers.Go(func() {
			for range 3 {
				if _, err := quiet.Reconcile(t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Namespace: c.ns, Name: name}}); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	workers.Wait()
	moving := 0
	for _, name := range names {
		if c.named(name).Status.Phase == v1alpha1.PhaseProgressing {
			moving++
		}
	}
	if moving != 1 {
		t.Errorf("%d shifts move, want 1", moving)
	}
}

func TestAFreezeKeepsACandidateFromStarting(t *testing.T) {
	c := newCluster(t) // at noon on a Sunday
	c.under(c.policy(`{freezes: [{name: sunday, schedule: "5 12 * * SUN", duration: 10m}]}`))
	c.run("adoption", 60, resting)
	c.clock = time.Date(2026, 11, 1, 12, 6, 0, 0, time.UTC)
	c.setImage("micro-api:1.2")
	after := c.pass().RequeueAfter
	s := c.shift()
	if s.Status.Phase != v1alpha1.PhaseStable || condition(s, v1alpha1.ConditionReady) != "False "+v1alpha1.ReasonFrozen || !strings.Contains(s.Status.Message, "(sunday) until 2026-11-01T12:15:00Z") {
		t.Errorf("%s, Ready %s: %q", s.Status.Phase, condition(s, v1alpha1.ConditionReady), s.Status.Message)
	}
	if got := c.told.take(); !slices.Contains(got, "Normal "+v1alpha1.ReasonFrozen) {
		t.Errorf("events %q; want one that says that it is frozen", got)
	}
	if after != 9*time.Minute {
		t.Errorf("looked at again in %s, want 9m: at the end of the freeze", after)
	}
	c.clock = c.clock.Add(after)
	c.pass()
	if s := c.shift(); s.Status.Phase != v1alpha1.PhaseProgressing || s.Status.State.WaitingSince != nil {
		t.Errorf("%s after the freeze, want Progressing: %s", s.Status.Phase, s.Status.Message)
	}
}

func TestAFreezeHoldsWhatIsUnderWayAndNotTheWayBack(t *testing.T) {
	c := newCluster(t)
	c.under(c.policy(`{defaults: {steps: [{weight: 10}, {weight: 100}], hold: 2s}, freezes: [{name: incident, schedule: "5 12 * * SUN", duration: 10m, onRunning: hold}]}`))
	c.run("adoption", 60, resting)
	c.setImage("micro-api:1.2")
	c.run("the first weight", 60, func(s *v1alpha1.TrafficShift) bool { return s.Status.Weight == "10%" })
	c.clock = time.Date(2026, 11, 1, 12, 5, 0, 0, time.UTC)
	for range 20 {
		c.pass()
		c.kubelet()
		c.clock = c.clock.Add(time.Second)
	}
	if s := c.shift(); s.Status.Weight != "10%" || !strings.Contains(s.Status.Message, "held at 10%") {
		t.Fatalf("%s: %q; want it held at 10%%", s.Status.Weight, s.Status.Message)
	}
	c.patch(&v1alpha1.TrafficShift{}, "micro-api", `{"metadata": {"annotations": {"sluice.dev/abort": "v2"}}}`)
	c.run("the way back", 10, func(s *v1alpha1.TrafficShift) bool { return s.Status.Phase == v1alpha1.PhaseFailed })
	if w := c.weights("micro-api")["v2"]; w != 0 {
		t.Errorf("v2 still has %d", w)
	}
}

// A namespace may lose a policy by its labels alone.
func TestAPolicyIsForTheNamespacesThatItSelects(t *testing.T) {
	c := newCluster(t)
	c.under(c.policy(`{namespaces: {matchLabels: {team: payments}}}`))
	c.pass()
	c.pass()
	if got := condition(c.shift(), v1alpha1.ConditionAccepted); got != "False "+v1alpha1.ReasonPolicyNotGranted {
		t.Fatalf("Accepted %s, want that the policy is not granted", got)
	}
	ns := &corev1.Namespace{}
	ns.Name = c.ns
	if err := c.Patch(t.Context(), ns, client.RawPatch(types.MergePatchType, []byte(`{"metadata": {"labels": {"team": "payments"}}}`))); err != nil {
		t.Fatal(err)
	}
	c.pass()
	if got := condition(c.shift(), v1alpha1.ConditionAccepted); got != "True "+v1alpha1.ReasonAccepted {
		t.Errorf("Accepted %s once the namespace is selected", got)
	}
}

// deaf, blind and mute are for tests with several workers: nothing is told, seen or asked.
type (
	deaf  struct{}
	blind struct{}
	mute  struct{}
)

func (deaf) Eventf(_, _ runtime.Object, _, _, _, _ string, _ ...any) {}

func (blind) Check(_, _ string) error                      { return nil }
func (blind) Watch(query.Key, string, query.Subject) error { return nil }
func (blind) Unwatch(query.Key)                            {}
func (blind) Updates() <-chan query.Key                    { return nil }
func (blind) Readings(query.Key) []query.Reading           { return nil }

func (blind) Since(context.Context, query.Key, time.Time) (analysis.Sample, error) {
	return analysis.Sample{}, errors.New("nothing is seen")
}

func (blind) History(context.Context, query.Key, time.Time) ([]analysis.Sample, error) {
	return nil, errors.New("nothing is seen")
}

func (mute) Watch(webhook.Key, []webhook.Question) {}
func (mute) Unwatch(webhook.Key)                   {}
func (mute) Updates() <-chan webhook.Key           { return nil }
func (mute) Answers(webhook.Key) []webhook.Answer  { return nil }
