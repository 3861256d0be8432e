package shiftpolicy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func policyOf(name, spec string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(fmt.Appendf(nil, "apiVersion: sluice.dev/v1alpha1\nkind: ShiftPolicy\nmetadata: {name: %s}\nspec: %s\n", name, spec), &u.Object); err != nil {
		panic(err)
	}
	return u
}

func TestTheStatusSaysWhoFollowsAndWhetherItIsFrozen(t *testing.T) {
	api, ns := testenv.Namespace(t)
	if err := api.Create(t.Context(), policyOf(ns, `{maxConcurrent: 1, freezes: [{name: lunch, schedule: "0 12 * * *", duration: 1h}]}`)); err != nil {
		t.Fatal(err)
	}
	for name, state := range map[string]v1alpha1.State{
		"rests": {Phase: v1alpha1.PhaseStable}, "moves": {Phase: v1alpha1.PhaseProgressing, Candidate: "v2"},
		"waits": {Phase: v1alpha1.PhaseStable, WaitingSince: &metav1.MicroTime{Time: time.Unix(1, 0)}},
	} {
		ts := &v1alpha1.TrafficShift{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Spec: v1alpha1.TrafficShiftSpec{Policy: ns}}
		if err := api.Create(t.Context(), ts); err != nil {
			t.Fatal(err)
		}
		ts.Status.State = state
		if err := api.Status().Update(t.Context(), ts); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Date(2026, 11, 20, 12, 15, 0, 0, time.UTC)
	r := &Reconciler{Client: api, Now: func() time.Time { return now }}
	key := types.NamespacedName{Name: ns}
	res, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: key})
	if err != nil {
		t.Fatal(err)
	}
	if res.RequeueAfter != 45*time.Minute {
		t.Errorf("again in %s, want at the end of the freeze, in 45m", res.RequeueAfter)
	}
	p := &v1alpha1.ShiftPolicy{}
	if err := api.Get(t.Context(), key, p); err != nil {
		t.Fatal(err)
	}
	accepted := meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ConditionAccepted)
	p.Status.Conditions = nil
	want := v1alpha1.ShiftPolicyStatus{ObservedGeneration: 1, Shifts: 3, Moving: 1, Waiting: 1, Freeze: "lunch until 2026-11-20T13:00:00Z"}
	if diff := cmp.Diff(want, p.Status); diff != "" || !accepted {
		t.Errorf("accepted %t, status (-want +got):\n%s", accepted, diff)
	}
	now = now.Add(time.Hour)
	res, err = r.Reconcile(t.Context(), ctrl.Request{NamespacedName: key})
	if err != nil || res.RequeueAfter != 22*time.Hour+45*time.Minute {
		t.Errorf("again in %s (%v), want when the next freeze begins, in 22h45m", res.RequeueAfter, err)
	}
	version := p.ResourceVersion
	_, _ = r.Reconcile(t.Context(), ctrl.Request{NamespacedName: key})
	if err := api.Get(t.Context(), key, p); err != nil || p.Status.Freeze != "" || p.ResourceVersion == version {
		t.Errorf("freeze %q after its end (%v)", p.Status.Freeze, err)
	}
	version = p.ResourceVersion
	_, _ = r.Reconcile(t.Context(), ctrl.Request{NamespacedName: key})
	if err := api.Get(t.Context(), key, p); err != nil || p.ResourceVersion != version {
		t.Errorf("a status that has not changed was written again (%v)", err)
	}
}

func TestWhatCannotBeFollowedIsNamed(t *testing.T) {
	api, ns := testenv.Namespace(t)
	if err := api.Create(t.Context(), policyOf(ns, `{freezes: [{name: f, schedule: "61 * * * *", duration: 1h, timeZone: Mars/Olympus}]}`)); err != nil {
		t.Fatal(err)
	}
	r := &Reconciler{Client: api, Now: time.Now}
	if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Name: ns}}); err != nil {
		t.Fatal(err)
	}
	p := &v1alpha1.ShiftPolicy{}
	if err := api.Get(t.Context(), types.NamespacedName{Name: ns}, p); err != nil {
		t.Fatal(err)
	}
	c := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionAccepted)
	for _, part := range []string{"61 * * * *", "Mars/Olympus", "Europe/Berlin"} {
		if c == nil || c.Status != metav1.ConditionFalse || c.Reason != v1alpha1.ReasonPolicyInvalid || !strings.Contains(c.Message, part) {
			t.Errorf("condition %+v; want Accepted False, PolicyInvalid, with %q", c, part)
		}
	}
}

func TestTheAPIServerRefusesMistakesInPolicies(t *testing.T) {
	api, ns := testenv.Namespace(t)
	freeze := func(s string) string { return "{freezes: [{" + s + "}]}" }
	for name, tc := range map[string]struct{ spec, want string }{
		"nothing":    {"{}", ""},
		"all":        {`{namespaces: {matchLabels: {team: a}}, maxConcurrent: 2, defaults: {pacing: auto, maxErrorRate: "2%"}, freezes: [{name: f, schedule: "0 17 * * FRI", duration: 63h, timeZone: Europe/Berlin, onRunning: hold}]}`, ""},
		"none":       {"{maxConcurrent: 0}", "maxConcurrent"},
		"schedule":   {freeze(`name: f, schedule: "@daily", duration: 1h`), "schedule"},
		"no-length":  {freeze(`name: f, schedule: "0 0 * * *"`), "duration"},
		"zero":       {freeze(`name: f, schedule: "0 0 * * *", duration: 0s`), "a freeze must last more than 0s"},
		"long":       {freeze(`name: f, schedule: "0 0 * * *", duration: 9000h`), "at most 8784h"},
		"local":      {freeze(`name: f, schedule: "0 0 * * *", duration: 1h, timeZone: Local`), "Local is no zone"},
		"on-running": {freeze(`name: f, schedule: "0 0 * * *", duration: 1h, onRunning: abort`), "onRunning"},
		"twice":      {`{freezes: [{name: f, schedule: "0 0 * * *", duration: 1h}, {name: f, schedule: "0 0 * * *", duration: 1h}]}`, "Duplicate"},
		"both":       {`{defaults: {pacing: auto, steps: [{weight: 100}]}}`, "pacing auto chooses the weights itself"},
		"not-100":    {`{defaults: {steps: [{weight: 50}]}}`, "the last step must be 100"},
		"soon":       {`{defaults: {hold: soon}}`, "hold"},
	} {
		t.Run(name, func(t *testing.T) {
			u := policyOf(ns+"-"+name, tc.spec)
			err := api.Create(t.Context(), u)
			if (tc.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("error %v; want one that says %q", err, tc.want)
			}
			if err != nil {
				return
			}
			read := &v1alpha1.ShiftPolicy{}
			if err := api.Get(t.Context(), client.ObjectKeyFromObject(u), read); err != nil {
				t.Errorf("what is accepted does not decode: %v", err)
			}
			if read.Spec.Defaults.MinRequests != nil || read.Spec.Defaults.Bake != nil {
				t.Errorf("the schema filled in what the policy leaves out: %+v", read.Spec.Defaults)
			}
		})
	}
}
