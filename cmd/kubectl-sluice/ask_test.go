package main

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

func to(value string) *string { return &value }

func asked(action v1alpha1.Action, value string) v1alpha1.ActionRecord {
	return v1alpha1.ActionRecord{
		Action: action, Value: value, By: "kubectl-annotate", Result: v1alpha1.ResultDone, At: metav1.NewTime(time.Now().Truncate(time.Second)), Message: "of before",
	}
}

// Each verb writes the annotation that docs/control.md describes, with the version that the status shows, and tells the answer.
func TestAsking(t *testing.T) {
	going := releasing("v3", 200, v1alpha1.ReasonHolding)
	for name, tc := range map[string]struct {
		shift func(*v1alpha1.TrafficShift)
		args  []string
		key   string
		value string
	}{
		"pause":             {going, []string{"pause", "micro-api"}, v1alpha1.AnnotationPaused, "true"},
		"resume":            {going, []string{"resume", "micro-api"}, v1alpha1.AnnotationPaused, "false"},
		"promote":           {going, []string{"promote", "micro-api"}, v1alpha1.AnnotationPromote, "v3@20"},
		"promote half":      {releasing("v3", 5, v1alpha1.ReasonHolding), []string{"promote", "micro-api"}, v1alpha1.AnnotationPromote, "v3@0.5"},
		"promote v3":        {going, []string{"promote", "micro-api", "v3"}, v1alpha1.AnnotationPromote, "v3@20"},
		"promote another":   {going, []string{"promote", "micro-api", "v2"}, v1alpha1.AnnotationPromote, "v2"},
		"promote --all":     {going, []string{"promote", "micro-api", "--all"}, v1alpha1.AnnotationPromote, "v3/all"},
		"promote past":      {going, []string{"promote", "micro-api", "--skip-gates", "--yes"}, v1alpha1.AnnotationPromote, "v3/skip-gates"},
		"abort":             {going, []string{"abort", "tshift/micro-api"}, v1alpha1.AnnotationAbort, "v3"},
		"abort v2":          {going, []string{"abort", "micro-api", "v2"}, v1alpha1.AnnotationAbort, "v2"},
		"approve":           {going, []string{"approve", "micro-api"}, v1alpha1.AnnotationApprove, "v3"},
		"retry":             {refused("v3"), []string{"retry", "micro-api"}, v1alpha1.AnnotationRetry, "v3"},
		"undo":              {resting("v2"), []string{"undo", "micro-api"}, v1alpha1.AnnotationUndo, "previous"},
		"undo --to":         {resting("v2"), []string{"undo", "micro-api", "--to=v1"}, v1alpha1.AnnotationUndo, "v1"},
		"restart":           {resting("v2"), []string{"restart", "micro-api"}, v1alpha1.AnnotationRestart, "v2"},
		"asked before":      {all(going, answeredBefore(v1alpha1.ActionAbort, "v3")), []string{"abort", "micro-api"}, v1alpha1.AnnotationAbort, "v3#2"},
		"asked twice":       {all(going, answeredBefore(v1alpha1.ActionAbort, "v3"), annotated(v1alpha1.AnnotationAbort, "v3#2")), []string{"abort", "micro-api"}, v1alpha1.AnnotationAbort, "v3#3"},
		"paused by a field": {all(going, func(ts *v1alpha1.TrafficShift) { ts.Spec.Paused = true }), []string{"resume", "micro-api"}, v1alpha1.AnnotationPaused, "false"},
	} {
		for _, result := range []v1alpha1.Result{v1alpha1.ResultDone, v1alpha1.ResultRefused} {
			bubble(t, name+" "+string(result), func(t *testing.T) {
				var writes []written
				// What was answered before, in the same second and word for word, is not the answer.
				base := api(deployment(1), shift(tc.shift, func(ts *v1alpha1.TrafficShift) {
					ts.Status.Actions = []v1alpha1.ActionRecord{asked(v1alpha1.Action(tc.args[0]), tc.value), asked(v1alpha1.ActionRetry, "v1")}
				}))
				answers(t, base, result)
				code, out, failure := person{}.does(t, recording(t, base, &writes), tc.args...)
				want := []written{{Annotations: map[string]*string{tc.key: to(tc.value)}, Manager: "kubectl-sluice"}}
				if diff := cmp.Diff(want, writes); diff != "" {
					t.Errorf("written (-want +got):\n%s", diff)
				}
				says, exit := "TrafficShift shop/micro-api annotated: "+tc.key+"="+tc.value+"\n", exitEnded
				if result == v1alpha1.ResultDone {
					says, exit = says+"Done: as the controller says\n", 0
				} else if failure != "Refused: as the controller says" {
					t.Errorf("it fails with %q", failure)
				}
				if code != exit || out != says {
					t.Errorf("exit %d, want %d\n%s%s", code, exit, out, failure)
				}
				time.Sleep(time.Minute)
			})
		}
	}
}

func answeredBefore(action v1alpha1.Action, value string) func(*v1alpha1.TrafficShift) {
	return func(ts *v1alpha1.TrafficShift) {
		ts.Status.State.Answered = append(ts.Status.State.Answered, v1alpha1.Answered{Action: action, Source: v1alpha1.SourceAnnotation, Value: value})
	}
}

func annotated(key, value string) func(*v1alpha1.TrafficShift) {
	return func(ts *v1alpha1.TrafficShift) { ts.Annotations = map[string]string{key: value} }
}

func TestNobodyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := api(shift(releasing("v3", 200, v1alpha1.ReasonHolding), func(ts *v1alpha1.TrafficShift) {
			ts.Status.Actions = []v1alpha1.ActionRecord{asked(v1alpha1.ActionAbort, "v3")}
		}))
		began := time.Now()
		code, _, failure := person{}.does(t, c, "abort", "micro-api", "--timeout=5s")
		if code != exitTimeout || time.Since(began) != 5*time.Second || !strings.Contains(failure, "was not answered within 5s") {
			t.Errorf("exit %d after %s: %s", code, time.Since(began), failure)
		}
		if code, out, _ := (person{}).does(t, c, "abort", "micro-api", "--no-wait"); code != 0 || strings.Contains(out, "Done") {
			t.Errorf("without waiting: exit %d: %s", code, out)
		}
	})
}

// An annotation holds one request. Who was written over is told so at once, and not that his request stands.
func TestAnotherRequestOverwritesIt(t *testing.T) {
	going := releasing("v3", 200, v1alpha1.ReasonHolding)
	bubble(t, "NotAnswered", func(t *testing.T) {
		c, began := api(shift(going)), time.Now()
		go func() {
			time.Sleep(2 * time.Second)
			if code, _, failure := (person{}).does(t, c, "promote", "micro-api", "--no-wait"); code != 0 {
				t.Errorf("the second: exit %d: %s", code, failure)
			}
		}()
		code, _, failure := person{}.does(t, c, "promote", "micro-api")
		want := "sluice.dev/promote=v3@20 was overwritten by another request (v3@20#2) before it was answered"
		if code != exitEnded || time.Since(began) != 2*time.Second || !strings.Contains(failure, want) || strings.Contains(failure, "stands") {
			t.Errorf("exit %d after %s: %s", code, time.Since(began), failure)
		}
	})
	bubble(t, "APauseIsEnded", func(t *testing.T) {
		c := api(shift(going))
		go func() {
			time.Sleep(time.Second)
			_, _, _ = person{}.does(t, c, "resume", "micro-api", "--no-wait")
		}()
		if code, _, failure := (person{}).does(t, c, "pause", "micro-api"); code != exitEnded || !strings.Contains(failure, "sluice.dev/paused=true was overwritten by another request (false)") {
			t.Errorf("exit %d: %s", code, failure)
		}
	})
	bubble(t, "AnsweredBefore", func(t *testing.T) { // the answer is written before the annotation goes, and both may be seen at once
		c := api(shift(going))
		dropped := shaky(c, 0)
		go func() {
			time.Sleep(500 * time.Millisecond)
			update(t, c, func(ts *v1alpha1.TrafficShift) {
				ts.Status.Actions = []v1alpha1.ActionRecord{asked(v1alpha1.ActionPromote, "v3@20")}
			})
			_, _, _ = person{}.does(t, c, "promote", "micro-api", "--no-wait")
		}()
		if code, out, failure := (person{}).does(t, dropped, "promote", "micro-api"); code != 0 || !strings.Contains(out, "Done") {
			t.Errorf("exit %d: %s%s", code, out, failure)
		}
	})
}

// What is in force already is not asked for again: no answer would come.
func TestAPauseThatStandsIsLeftAlone(t *testing.T) {
	for _, tc := range []struct {
		verb, value string
		action      v1alpha1.Action
	}{{"pause", "true", v1alpha1.ActionPause}, {"resume", "false", v1alpha1.ActionResume}} {
		var writes []written
		c := recording(t, api(shift(annotated(v1alpha1.AnnotationPaused, tc.value), answeredBefore(tc.action, tc.value))), &writes)
		if code, out, _ := (person{}).does(t, c, tc.verb, "micro-api"); code != 0 || len(writes) > 0 || !strings.HasPrefix(out, "Done") {
			t.Errorf("%s: exit %d, %d writes: %s", tc.verb, code, len(writes), out)
		}
	}
}

// Where the status shows no version that could be meant, nothing is written.
func TestNothingToAskFor(t *testing.T) {
	for verb, says := range map[string]string{"promote": "no candidate", "abort": "no candidate", "approve": "no candidate", "retry": "no refused version"} {
		var writes []written
		c := recording(t, api(shift(resting("v2"))), &writes)
		code, _, failure := person{}.does(t, c, verb, "micro-api")
		if code != exitEnded || len(writes) > 0 || failure != "micro-api has "+says+": it is Stable, and v2 has all the traffic" {
			t.Errorf("%s: exit %d, %d writes: %s", verb, code, len(writes), failure)
		}
	}
	for _, args := range [][]string{{"abort", "micro-api", "3"}, {"undo", "micro-api", "--to=first"}, {"promote", "micro-api", "v3/all", "--all"}} {
		if code, _, failure := (person{}).does(t, api(shift()), args...); code != exitError || !strings.Contains(failure, "v") {
			t.Errorf("%v: exit %d: %s", args, code, failure)
		}
	}
}

func TestSkippingGatesAsksBack(t *testing.T) {
	for name, tc := range map[string]struct {
		who   person
		args  []string
		write bool
	}{
		"nobody there":  {person{}, nil, false},
		"said yes":      {person{}, []string{"--yes"}, true},
		"typed it":      {person{typed: "v3\n", asksBack: true}, nil, true},
		"typed another": {person{typed: "y\n", asksBack: true}, nil, false},
		"typed nothing": {person{asksBack: true}, nil, false},
	} {
		bubble(t, name, func(t *testing.T) {
			var writes []written
			c := recording(t, api(shift(releasing("v3", 200, v1alpha1.ReasonHolding))), &writes)
			code, out, failure := tc.who.does(t, c, append([]string{"promote", "micro-api", "--skip-gates", "--no-wait"}, tc.args...)...)
			if (len(writes) == 1) != tc.write || (code == 0) != tc.write {
				t.Errorf("exit %d, %d writes; want it written: %v\n%s%s", code, len(writes), tc.write, out, failure)
			}
			if said := strings.Contains(out+failure, "whatever the gates say"); said == slices.Contains(tc.args, "--yes") {
				t.Errorf("told what that means: %v\n%s%s", said, out, failure)
			}
		})
	}
}

// What the API server and its webhooks answer, and what stands in status and in records, was written by others.
func TestNothingThatIsQuotedSteersATerminal(t *testing.T) {
	const bad = "\x1b[2J\u202egone\u200b\a"
	quoting := interceptor.NewClient(api(shift(releasing("v3", 200, v1alpha1.ReasonHolding))), interceptor.Funcs{
		Patch: func(context.Context, client.WithWatch, client.Object, client.Patch, ...client.PatchOption) error {
			return errors.New("admission webhook denied it:\n  " + bad + "\nask them")
		},
	})
	named := api(shift(releasing("v3", 200, v1alpha1.ReasonHolding), func(ts *v1alpha1.TrafficShift) { ts.Status.Candidate, ts.Status.Phase = "v3", v1alpha1.Phase(bad) }))
	objects := append(versionOf("v1", "micro-api:"+bad, "kubectl-create", v1alpha1.ReasonPromoted, 3), shift())
	for _, tc := range []struct {
		c    client.WithWatch
		args []string
		says string
	}{
		{quoting, []string{"abort", "micro-api"}, "admission webhook denied it:\n[2Jgone\nask them"},
		{named, []string{"get", "micro-api"}, "[2Jgone"},
		{named, []string{"__complete", "get", ""}, "[2Jgone"},
		{api(objects...), []string{"__complete", "undo", "micro-api", "--to", ""}, "v1\tmicro-api: [2Jgone"},
	} {
		_, out, failure := person{}.does(t, tc.c, tc.args...)
		if said := out + failure; strings.ContainsAny(said, bad[:1]+"\u202e\u200b\a") || !strings.Contains(said, tc.says) {
			t.Errorf("%v: %q, want %q in it", tc.args, said, tc.says)
		}
	}
	var typed bytes.Buffer
	p := newPlugin(genericiooptions.IOStreams{In: strings.NewReader("v3\n"), Out: &typed})
	p.asksBack = true
	if err := p.asksFor("v3", "v3 "+bad); err != nil || typed.String() != "v3 [2Jgone Type v3 to go on: " {
		t.Errorf("it asks %q (%v)", typed.String(), err)
	}
}

func TestDryRun(t *testing.T) {
	for _, tc := range []struct {
		flag, says string
		writes     int
	}{
		{"--dry-run", "annotated: sluice.dev/abort=v3 (dry run)\n", 0},
		{"--dry-run=client", "annotated: sluice.dev/abort=v3 (dry run)\n", 0},
		{"--dry-run=server", "annotated: sluice.dev/abort=v3 (server dry run)\n", 1},
	} {
		var writes []written
		c := recording(t, api(shift(releasing("v3", 200, v1alpha1.ReasonHolding))), &writes)
		code, out, failure := person{}.does(t, c, "abort", "micro-api", tc.flag)
		if code != 0 || !strings.HasSuffix(out, tc.says) || len(writes) != tc.writes || tc.writes == 1 && !writes[0].DryRun {
			t.Errorf("%s: exit %d, writes %+v\n%s%s", tc.flag, code, writes, out, failure)
		}
	}
	if code, _, failure := (person{}).does(t, api(shift()), "pause", "micro-api", "--dry-run=maybe"); code != exitError || !strings.Contains(failure, "none, client or server") {
		t.Errorf("exit %d: %s", code, failure)
	}
}

func TestNewerAnswers(t *testing.T) {
	a, b, c := asked(v1alpha1.ActionAbort, "v2"), asked(v1alpha1.ActionRetry, "v2"), asked(v1alpha1.ActionPause, "true")
	utc := a
	utc.At = metav1.NewTime(a.At.UTC())
	full := slices.Repeat([]v1alpha1.ActionRecord{b, c}, 5)
	for name, tc := range map[string]struct{ before, now, want []v1alpha1.ActionRecord }{
		"none":                  {nil, nil, nil},
		"nothing new":           {[]v1alpha1.ActionRecord{a}, []v1alpha1.ActionRecord{utc}, nil},
		"the first":             {nil, []v1alpha1.ActionRecord{a}, []v1alpha1.ActionRecord{a}},
		"the same once more":    {[]v1alpha1.ActionRecord{a}, []v1alpha1.ActionRecord{a, a}, []v1alpha1.ActionRecord{a}},
		"two":                   {[]v1alpha1.ActionRecord{a}, []v1alpha1.ActionRecord{c, b, a}, []v1alpha1.ActionRecord{c, b}},
		"the oldest forgotten":  {full, append([]v1alpha1.ActionRecord{a}, full[:9]...), []v1alpha1.ActionRecord{a}},
		"the status was lost":   {[]v1alpha1.ActionRecord{a, b}, []v1alpha1.ActionRecord{c}, []v1alpha1.ActionRecord{c}},
		"all of them forgotten": {[]v1alpha1.ActionRecord{a}, []v1alpha1.ActionRecord{c, b}, []v1alpha1.ActionRecord{c, b}},
	} {
		if diff := cmp.Diff(tc.want, newer(tc.before, tc.now)); diff != "" && len(tc.want)+len(newer(tc.before, tc.now)) > 0 {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestDetach(t *testing.T) {
	released := func(ts *v1alpha1.TrafficShift) { ts.Status.State.Stage = v1alpha1.StageReleased }
	bubble(t, "HandedBack", func(t *testing.T) {
		var writes []written
		base := api(shift())
		lives(t, base, detaching, released)
		code, out, failure := person{}.does(t, recording(t, base, &writes), "detach", "micro-api")
		if code != 0 || !strings.HasSuffix(out, "micro-api: the routes let go\nmicro-api is handed back\n") {
			t.Errorf("exit %d\n%s%s", code, out, failure)
		}
		if diff := cmp.Diff([]written{{Annotations: map[string]*string{v1alpha1.AnnotationDetach: to("true"), v1alpha1.AnnotationForce: nil}, Manager: "kubectl-sluice"}}, writes); diff != "" {
			t.Errorf("written (-want +got):\n%s", diff)
		}
	})
	bubble(t, "TakesTooLong", func(t *testing.T) {
		base := api(shift())
		lives(t, base, detaching)
		code, _, failure := person{}.does(t, base, "detach", "micro-api", "--timeout=1m")
		if code != exitTimeout || !strings.HasSuffix(failure, "after 1m0s: the routes let go") {
			t.Errorf("exit %d: %s", code, failure)
		}
	})
	for name, tc := range map[string]struct {
		args []string
		who  person
		want map[string]*string
	}{
		"forced":           {[]string{"--force", "--yes"}, person{}, map[string]*string{v1alpha1.AnnotationDetach: to("true"), v1alpha1.AnnotationForce: to("true")}},
		"forced, typed":    {[]string{"--force"}, person{typed: "micro-api\n", asksBack: true}, map[string]*string{v1alpha1.AnnotationDetach: to("true"), v1alpha1.AnnotationForce: to("true")}},
		"forced by nobody": {[]string{"--force"}, person{}, nil},
		"forced before":    {nil, person{}, map[string]*string{v1alpha1.AnnotationDetach: to("true"), v1alpha1.AnnotationForce: nil}}, // what somebody dared once is not dared again
		"cancelled":        {[]string{"--cancel"}, person{}, map[string]*string{v1alpha1.AnnotationDetach: nil, v1alpha1.AnnotationForce: nil}},
	} {
		var writes []written
		c := recording(t, api(shift(func(ts *v1alpha1.TrafficShift) {
			switch name {
			case "cancelled":
				ts.Annotations = map[string]string{v1alpha1.AnnotationDetach: "true", v1alpha1.AnnotationForce: "true"}
			case "forced before":
				ts.Annotations = map[string]string{v1alpha1.AnnotationForce: "true"}
			}
		})), &writes)
		code, out, failure := tc.who.does(t, c, append([]string{"detach", "micro-api", "--no-wait"}, tc.args...)...)
		if (code == 0) != (tc.want != nil) || len(writes) > 1 || len(writes) == 1 && !cmp.Equal(tc.want, writes[0].Annotations) || len(writes) == 0 && tc.want != nil {
			t.Errorf("%s: exit %d, written %+v\n%s%s", name, code, writes, out, failure)
		}
		ts := &v1alpha1.TrafficShift{}
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(shift()), ts); err != nil {
			t.Fatal(err)
		}
		if _, forced := ts.Annotations[v1alpha1.AnnotationForce]; forced != (tc.want[v1alpha1.AnnotationForce] != nil) {
			t.Errorf("%s: it is left with %v", name, ts.Annotations)
		}
	}
}
