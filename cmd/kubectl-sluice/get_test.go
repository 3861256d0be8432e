package main

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/yaml"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// shop is a shift in the middle of a release, with what belongs to it.
func shop() []client.Object {
	objects := []client.Object{deployment(3), shift(at(2), releasing("v2", 200, v1alpha1.ReasonHolding), func(ts *v1alpha1.TrafficShift) {
		ts.Status.Stable = "v1"
		ts.Status.Gates = []v1alpha1.GateStatus{{Name: "error-rate", Verdict: v1alpha1.VerdictPass, Value: "0.2%", Limit: "1.0%", Message: "fine"}}
		ts.Status.History = []v1alpha1.Outcome{{Version: "v1", Reason: v1alpha1.ReasonPromoted, Message: "v1 replaced v0"}}
		ts.Status.Actions = []v1alpha1.ActionRecord{{Action: v1alpha1.ActionAbort, Value: "v0", By: "argocd-controller", Result: v1alpha1.ResultRefused, Message: "v0 is not a candidate"}}
	})}
	objects = append(objects, versionOf("v1", "micro-api:1.1", "kubectl-create", v1alpha1.ReasonPromoted, 3)...)
	return append(objects, versionOf("v2", "micro-api:1.3", "kubectl-set", "", 1)...)
}

// has fails the test unless every text is there, in this order.
func has(t *testing.T, got string, texts ...string) {
	t.Helper()
	rest := got
	for _, text := range texts {
		i := strings.Index(rest, text)
		if i < 0 {
			t.Fatalf("no %q, after what comes before it, in\n%s", text, got)
		}
		rest = rest[i+len(text):]
	}
}

func TestGetOne(t *testing.T) {
	code, out, failure := person{}.does(t, api(shop()...), "get", "micro-api")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, failure)
	}
	has(t, out, "Name:       micro-api", "Progressing", "v2 at 20%", "generation 3", "v1   ", "stable", "80%", "3/3", "micro-api:1.1", "v2   ", "candidate", "20%", "1/1", "micro-api:1.3",
		"error-rate", "0.2%", "1.0%", "Pass", "v1   ", "Promoted", "kubectl-create")
	if strings.Contains(out, "\x1b") {
		t.Errorf("colours where there is no terminal:\n%q", out)
	}
	_, out, _ = person{terminal: true}.does(t, api(shop()...), "get", "micro-api")
	if !strings.Contains(out, "\x1b[3") {
		t.Errorf("no colours on a terminal:\n%q", out)
	}
	if _, out, _ = (person{terminal: true}).does(t, api(shop()...), "get", "micro-api", "--no-color"); strings.Contains(out, "\x1b") {
		t.Errorf("colours with --no-color:\n%q", out)
	}
}

// Who may read TrafficShifts alone still sees those.
func TestGetWithoutRights(t *testing.T) {
	c := interceptor.NewClient(api(shop()...), interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
			if _, ok := o.(*v1alpha1.TrafficShift); !ok {
				return errors.NewForbidden(schema.GroupResource{Group: "apps", Resource: "deployments"}, key.Name, nil)
			}
			return c.Get(ctx, key, o, options...)
		},
		List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
			return errors.NewForbidden(schema.GroupResource{Group: "apps", Resource: "deployments"}, "", nil)
		},
	})
	code, out, failure := person{}.does(t, c, "get", "micro-api")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, failure)
	}
	has(t, out, "v2 at 20%", "v1", "stable", "80%", "error-rate")
}

func TestGetAll(t *testing.T) {
	elsewhere := shift(func(ts *v1alpha1.TrafficShift) {
		ts.Namespace, ts.Name, ts.Labels = "bank", "ledger", map[string]string{"tier": "core"}
	})
	c := api(append(shop(), elsewhere)...)
	_, out, _ := person{}.does(t, c, "list")
	has(t, out, "NAME", "PHASE", "WHY", "micro-api", "Progressing", "20%", "v1", "v2")
	if strings.Contains(out, "ledger") {
		t.Errorf("another namespace's:\n%s", out)
	}
	_, out, _ = person{}.does(t, c, "get", "-A")
	has(t, out, "NAMESPACE", "bank", "ledger", "shop", "micro-api")
	_, out, _ = person{}.does(t, c, "get", "-n", "bank", "--no-headers")
	if !strings.HasPrefix(out, "ledger") {
		t.Errorf("headers:\n%s", out)
	}
	if _, out, _ = (person{}).does(t, c, "get", "-A", "-l", "tier=core"); strings.Contains(out, "micro-api") || !strings.Contains(out, "ledger") {
		t.Errorf("those with a label:\n%s", out)
	}
	code, out, failure := person{}.does(t, c, "get", "-n", "empty")
	if code != 0 || out != "" || !strings.Contains(failure, "sluice.dev/strategy=canary") {
		t.Errorf("none: exit %d\n%s%s", code, out, failure)
	}
}

func TestGetPrintsObjects(t *testing.T) {
	c := api(shop()...)
	_, out, _ := person{}.does(t, c, "get", "micro-api", "-o", "yaml")
	var ts v1alpha1.TrafficShift
	if err := yaml.UnmarshalStrict([]byte(out), &ts); err != nil || ts.Kind != "TrafficShift" || ts.APIVersion != "sluice.dev/v1alpha1" || ts.Status.Candidate != "v2" {
		t.Errorf("%v:\n%s", err, out)
	}
	_, out, _ = person{}.does(t, c, "get", "-o", "json")
	var list v1alpha1.TrafficShiftList
	if err := yaml.UnmarshalStrict([]byte(out), &list); err != nil || list.Kind != "TrafficShiftList" || len(list.Items) != 1 || list.Items[0].Kind != "TrafficShift" {
		t.Errorf("%v:\n%s", err, out)
	}
	for _, args := range [][]string{{"get", "-o", "name"}, {"get", "micro-api", "-o", "name"}} {
		if _, out, _ = (person{}).does(t, c, args...); out != "trafficshift.sluice.dev/micro-api\n" {
			t.Errorf("%v: %q", args, out)
		}
	}
	if _, out, _ = (person{}).does(t, c, "get", "micro-api", "-o", "jsonpath={.status.message}"); out != "v2 at 20%" {
		t.Errorf("jsonpath: %q", out)
	}
	for _, args := range [][]string{{"-o", "xml"}, {"micro-api", "-A"}, {"a", "b", "-w"}, {"-w", "-o", "json"}, {"-l", "a in"}} {
		if code, out, failure := (person{}).does(t, c, append([]string{"get"}, args...)...); code != exitError || failure == "" {
			t.Errorf("%v: exit %d\n%s%s", args, code, out, failure)
		}
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	for _, args := range [][]string{
		{"get", "nope"}, {"get", "nope", "-w"}, {"history", "nope"}, {"wait", "nope"}, {"pause", "nope"}, {"detach", "nope"}, {"undo", "nope"},
	} {
		if code, _, failure := (person{}).does(t, api(shop()...), args...); code != exitError || failure != `there is no TrafficShift "nope" in namespace "shop"; there are micro-api` {
			t.Errorf("%v: exit %d: %s", args, code, failure)
		}
		if code, _, failure := (person{}).does(t, api(), args...); code != exitError || !strings.Contains(failure, "kubectl annotate deployment/nope sluice.dev/strategy=canary") {
			t.Errorf("%v where there is none: exit %d: %s", args, code, failure)
		}
	}
	for _, args := range [][]string{
		{"get"}, {"get", "-w"}, {"get", "micro-api"}, {"get", "micro-api", "-w"}, {"history", "micro-api"}, {"wait", "micro-api"}, {"pause", "micro-api"}, {"detach", "micro-api"},
	} {
		if code, _, failure := (person{}).does(t, without(), args...); code != exitError || !strings.Contains(failure, "helm install sluice") {
			t.Errorf("%v without the CRD: exit %d: %s", args, code, failure)
		}
	}
}

// -w draws with every change. On a terminal it draws in place, and with every second, because times pass.
func TestGetWatches(t *testing.T) {
	for name, tc := range map[string]struct {
		who      person
		args     []string
		screens  int
		starting string
	}{
		"OnePiped":   {person{}, []string{"get", "micro-api", "-w"}, 3, "Name:"},
		"AllPiped":   {person{}, []string{"get", "-w"}, 3, "NAME "},
		"OnTerminal": {person{terminal: true}, []string{"get", "micro-api", "--watch", "--no-color"}, 6, "\x1b[H\x1b[2JName:"},
	} {
		bubble(t, name, func(t *testing.T) {
			c := api(shop()...)
			ctx, cancel := context.WithTimeout(t.Context(), 3500*time.Millisecond)
			defer cancel()
			lives(t, c, releasing("v2", 500, v1alpha1.ReasonHolding), releasing("v2", 500, v1alpha1.ReasonRaising))
			code, out, failure := tc.who.doesUntil(t, ctx, c, tc.args...)
			if code != 0 || failure != "" {
				t.Errorf("exit %d: %s", code, failure)
			}
			if got := strings.Count(out, tc.starting); got != tc.screens {
				t.Errorf("%d screens, want %d:\n%q", got, tc.screens, out)
			}
			has(t, out, "20%", "v2 at 50%")
		})
	}
}

func TestWatchOutlivesAnAPIServerThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := api(shop()...)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		lives(t, base, nothing, nothing, nothing, releasing("v2", 500, v1alpha1.ReasonHolding))
		if code, out, failure := (person{}).doesUntil(t, ctx, shaky(base, 2), "get", "-w"); code != 0 || !strings.Contains(out, "v2 at 50%") {
			t.Errorf("exit %d\n%s%s", code, out, failure)
		}
	})
}

func TestHistory(t *testing.T) {
	_, out, _ := person{}.does(t, api(shop()...), "history", "micro-api")
	has(t, out, "RELEASE", "v1   ", "Promoted", "kubectl-create", "micro-api:1.1", "v1 replaced v0", "ASKED", "abort v0", "Refused", "argocd-controller", "v0 is not a candidate")
}

func TestCompletion(t *testing.T) {
	c := api(append(shop(), shift(func(ts *v1alpha1.TrafficShift) { ts.Name = "kubia" }))...)
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"get", ""}, "kubia\tStable\nmicro-api\tProgressing\n:4\n"},
		{[]string{"get", "kubia", ""}, "micro-api\tProgressing\n:4\n"},
		{[]string{"abort", "kubia", ""}, ":4\n"},
		{[]string{"-n", "bank", "get", ""}, ":4\n"},
		{[]string{"wait", "kubia", "--for", ""}, "promoted\nstable\npaused\nrejected\n:4\n"},
		{[]string{"undo", "micro-api", "--to", ""}, "previous\nv1\tmicro-api:1.1\n:4\n"},
	} {
		if _, out, failure := (person{}).does(t, c, append([]string{"__complete"}, tc.args...)...); out != tc.want {
			t.Errorf("%v:\n%q, want\n%q\n%s", tc.args, out, tc.want, failure)
		}
	}
	for shell := range shells {
		code, out, failure := person{}.does(t, c, "completion", shell)
		if code != 0 || !strings.Contains(out, "kubectl-sluice") || !strings.Contains(out, "__complete") {
			t.Errorf("%s: exit %d: %s\n%.200s", shell, code, failure, out)
		}
	}
	if code, _, failure := (person{}).does(t, c, "completion", "tcsh"); code != exitError || !strings.Contains(failure, "tcsh") {
		t.Errorf("exit %d: %s", code, failure)
	}
}
