package shift_test

import (
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// grouped is a release that stands at 20% and its match.
func grouped(t *testing.T, steps ...v1alpha1.Step) *world {
	t.Helper()
	w := adopted(t)
	canary(slices.Concat([]v1alpha1.Step{beside(20)}, steps, []v1alpha1.Step{weight(100)})...)(w)
	w.release(2)
	w.run(100, func() bool { return w.state.VerifiedSince != nil && w.state.Weight == 200 })
	if w.matched["mesh"] != "v2" || w.matched["hosts"] != "v2" {
		t.Fatalf("its match is not there: %v\n%s", w.matched, w.transcript.String())
	}
	return w
}

// digestOfGroup is what status says of a group: another release finds it again by that.
func digestOfGroup(rules []apiextensionsv1.JSON) string {
	sum := fnv.New64a()
	_, _ = sum.Write([]byte("group"))
	for _, r := range rules {
		_, _ = sum.Write(append([]byte("\n"), r.Raw...))
	}
	return strconv.FormatUint(sum.Sum64(), 16)
}

func TestAGroupBesideAWeightIsSaidEverywhere(t *testing.T) {
	w := grouped(t)
	if got := w.state.Group; got != digestOfGroup(testers) {
		t.Errorf("status says %q; want %q", got, digestOfGroup(testers))
	}
	if got := shift.StepText(w.spec, w.state); got != "1/2 match" {
		t.Errorf("step %q; want 1/2 match", got)
	}
	if got := w.arrived[0].Place; got != "20% and its match" {
		t.Errorf("it arrived at %q; want both", got)
	}
	w.intents.Abort = "v2"
	w.run(100, w.at(v1alpha1.PhaseFailed))
	if got := w.ended[0].Message; !strings.Contains(got, "at 20% and its match by somebody") {
		t.Errorf("outcome %q; want it to say where", got)
	}
	if w.state.Group != "" {
		t.Errorf("a group without a candidate: %q", w.state.Group)
	}
}

// How much a group adds to a weight is not known: more than the weight is no news, and less is.
func TestAGroupAddsToTheShareAndTakesNothingFromIt(t *testing.T) {
	for _, group := range []v1alpha1.Permille{0, 3, 900, 1000} {
		w := adopted(t)
		w.group = group
		canary(beside(20), weight(100))(w)
		w.release(2)
		w.run(60, func() bool { return w.state.VerifiedSince != nil && w.state.Weight == 200 })
	}
	w := adopted(t)
	w.measured = func(share v1alpha1.Permille) v1alpha1.Permille { return share / 20 }
	canary(beside(20), weight(100))(w)
	w.release(2)
	w.run(60, w.atWeight(200))
	w.wait(60)
	if w.state.VerifiedSince != nil || !strings.Contains(w.last.Message, "or more proves the route") {
		t.Fatalf("a share far below the weight proves it: %s", w.last)
	}
	w.measured = func(v1alpha1.Permille) v1alpha1.Permille { return 0 }
	w.wait(60)
	if w.state.VerifiedSince != nil || w.last.Reason != v1alpha1.ReasonVerifyingRoute {
		t.Fatalf("no request at all proves the weight: %s", w.last)
	}
}

// The group is the first that goes back: how much it is is not known, and stable may be short of pods.
func TestAGroupGoesBackWithTheFirstWrite(t *testing.T) {
	w := adopted(t)
	ten := int32(10)
	w.spec.Replicas = &ten
	w.run(60, func() bool { return w.versions["v1"].ready == 10 })
	canary(beside(20), beside(60), weight(100))(w)
	w.group = 900
	w.release(2)
	w.run(200, w.atWeight(600))
	w.broken[1], w.versions["v1"].ready = true, 5
	w.intents.Abort = "v2"
	w.pass(-1)
	if len(w.matched) != 0 || w.weight("v2") != 250 {
		t.Fatalf("matched %v, weight %s; want nobody matched, and the 25%% kept that stable cannot bear\n%s", w.matched, w.weight("v2"), w.transcript.String())
	}
}

// Beside a group a slight weight is not slight: stable may carry far less than the rest.
func TestASlightWeightWaitsForItsGroupToBeGone(t *testing.T) {
	w := adopted(t)
	ten := int32(10)
	w.spec.Replicas = &ten
	w.run(60, func() bool { return w.versions["v1"].ready == 10 })
	canary(beside(20), weight(100))(w)
	w.group = 900
	w.release(2)
	w.run(100, w.atWeight(200))
	w.broken[1], w.versions["v1"].ready = true, 1
	w.intents.Abort = "v2"
	w.pass(-1)
	if len(w.matched) != 0 || w.weight("v2") != 200 {
		t.Fatalf("matched %v, weight %s; want the group gone and the weight kept for now\n%s", w.matched, w.weight("v2"), w.transcript.String())
	}
	w.pass(-1)
	if w.weight("v2") != 0 {
		t.Errorf("the group is gone, and v2 keeps %s", w.weight("v2"))
	}
}

// A group stays where nobody else could answer it, also where its weight was taken by hand.
func TestAGroupStaysWhileStableHasNoPod(t *testing.T) {
	w := grouped(t)
	w.broken[1], w.versions["v1"].ready = true, 0
	w.intents.Abort = "v2"
	for _, name := range tableNames {
		lower(w, name)
	}
	w.wait(5)
	if w.matched["mesh"] != "v2" || w.matched["hosts"] != "v2" || w.last.Reason != v1alpha1.ReasonStableUnavailable {
		t.Fatalf("matched %v: %s; want the group kept", w.matched, w.last)
	}
	w.versions["v1"].ready = 1
	w.pass(-1)
	if len(w.matched) != 0 {
		t.Errorf("stable has a pod; the group is still on v2: %s", w.last)
	}
	w.run(100, w.at(v1alpha1.PhaseFailed))
}

func TestAStepWithoutAMatchGivesTheGroupUp(t *testing.T) {
	w := grouped(t, weight(50))
	w.run(100, w.atWeight(500))
	if len(w.matched) != 0 || w.state.Group != "" {
		t.Errorf("at 50%%, which has no match: %v, %q", w.matched, w.state.Group)
	}
	w.run(100, w.stableIs("v2"))
}

// An edited ladder moves nobody to the candidate by itself, and keeps nobody there whom no step asks for.
func TestALadderEditedBesideAGroup(t *testing.T) {
	tests := map[string]struct {
		edit  func(w *world)
		group bool // comes back, earned anew
	}{
		"AnotherMatch":  {func(w *world) { w.spec.Steps[0] = others(w.spec.Steps[0]) }, true},
		"NoMatch":       {func(w *world) { w.spec.Steps[0].Match = nil }, false},
		"AnotherLadder": {canary(weight(10), beside(90), weight(100)), false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := grouped(t, weight(70))
			tc.edit(w)
			w.pass(-1)
			if len(w.matched) != 0 || w.weight("v2") != 200 || w.state.VerifiedSince != nil || w.state.Gate.Candidate.Requests != 0 {
				t.Fatalf("matched %v, weight %s, %d requests: %s; want the group gone, the weight kept and the evidence of both forgotten",
					w.matched, w.weight("v2"), w.state.Gate.Candidate.Requests, w.last)
			}
			edited := w.now
			w.run(200, func() bool { return w.state.Weight > 200 || w.state.Group != "" })
			if back := w.state.Group != ""; back != (tc.group || w.state.Weight == 900) {
				t.Errorf("at %s its group is there: %t\n%s", w.state.Weight, back, w.transcript.String())
			}
			if held := w.now.Sub(edited); held < w.spec.Hold.Duration {
				t.Errorf("it went on after %s; want a hold of %s", held, w.spec.Hold.Duration)
			}
			w.run(300, w.stableIs("v2"))
		})
	}
}

// A match that is added to the step that a candidate stands on comes when the step is earned, and after its pause.
func TestAMatchThatIsAddedIsEarned(t *testing.T) {
	w := adopted(t)
	twenty := weight(20)
	twenty.Pause = &v1alpha1.Pause{}
	canary(twenty, weight(100))(w)
	w.release(2)
	w.run(100, func() bool { return len(w.state.Awaiting) > 0 })
	w.spec.Steps[0].Match = testers
	w.wait(30)
	if len(w.matched) != 0 {
		t.Fatalf("an edit moved a group past the pause of its step: %s", w.last)
	}
	w.intents.Approve = "v2"
	w.pass(-1)
	w.intents.Approve = ""
	w.run(60, func() bool { return w.matched["hosts"] == "v2" })
	if w.weight("v2") != 200 {
		t.Errorf("the weight became %s", w.weight("v2"))
	}
	want := []shift.Arrival{{From: 0, Place: "20%"}, {From: 200, Place: "20% and its match"}}
	w.run(60, func() bool { return len(w.arrived) == 2 })
	if diff := cmp.Diff(want, w.arrived); diff != "" {
		t.Errorf("steps told (-want +got):\n%s", diff)
	}
}

// What goes back on suspicion, or for want of a host, goes without its group, and earns it again.
func TestARetreatGivesTheGroupUp(t *testing.T) {
	w := grouped(t, beside(50))
	w.run(100, w.atWeight(500))
	w.noHost = from(500)
	w.run(60, func() bool { return w.state.Weight == 200 })
	if w.state.Group != "" {
		t.Fatalf("it went back with its group: %s", w.last)
	}
	w.noHost = from(2000)
	w.run(60, func() bool { return w.matched["mesh"] == "v2" && w.state.Weight == 200 })
	w.run(300, w.stableIs("v2"))
}

// Where there is no lower weight, and stable can answer, a group without a host takes its candidate back at once.
func TestFailuresWithoutAHostBesideTheFirstWeightAbort(t *testing.T) {
	w := adopted(t)
	canary(beside(20), weight(100))(w)
	w.noHost = from(1)
	w.release(2)
	w.run(100, w.at(v1alpha1.PhaseFailed))
	if got := w.ended[0]; got.Reason != v1alpha1.ReasonNoHealthyUpstream {
		t.Errorf("outcome %+v; want %s", got, v1alpha1.ReasonNoHealthyUpstream)
	}
}

func TestABadCandidateTakesItsGroupBackAtOnce(t *testing.T) {
	w := grouped(t, weight(50))
	w.errorRate[2] = 0.5
	for i := 0; w.state.Phase == v1alpha1.PhaseProgressing && i < 60; i++ {
		w.tick()
		w.pass(-1)
	}
	if w.state.Phase != v1alpha1.PhaseRollingBack || len(w.matched) != 0 || w.weight("v2") != 0 {
		t.Errorf("matched %v, weight %s in the pass that convicts it: %s", w.matched, w.weight("v2"), w.last)
	}
}

func TestRemovingTheMatchBesideAWeightByHandIsAnAbort(t *testing.T) {
	w := grouped(t)
	delete(w.matched, "hosts")
	w.run(100, w.at(v1alpha1.PhaseFailed))
	if got := w.ended[0]; got.Reason != v1alpha1.ReasonWeightLowered || !strings.Contains(got.Message, "20% and its match") {
		t.Errorf("outcome %+v; want %s", got, v1alpha1.ReasonWeightLowered)
	}
}

// How many requests match is not known: a step has the pods for all of them, unless it says how many it takes; never fewer than its weight.
func TestThePodsOfAGroup(t *testing.T) {
	many := few(beside(20))
	many.Replicas = new(int32(7))
	for name, tc := range map[string]struct {
		step v1alpha1.Step
		want int32
	}{"Unsaid": {beside(20), 10}, "Fewer": {few(beside(20)), 2}, "More": {many, 7}} {
		for _, capacity := range []v1alpha1.Capacity{v1alpha1.CapacityFull, v1alpha1.CapacityProportional} {
			t.Run(name+" "+string(capacity), func(t *testing.T) {
				w := newWorld(t)
				ten := int32(10)
				w.spec.Replicas, w.spec.Capacity, w.templateRun.replicas = &ten, capacity, 10
				w.run(100, w.at(v1alpha1.PhaseStable))
				hold := tc.step
				hold.Hold = seconds(1000)
				canary(hold, weight(30), weight(100))(w)
				w.release(2)
				w.run(100, w.atWeight(200))
				if got := w.versions["v2"].ready; got < tc.want || capacity == v1alpha1.CapacityProportional && got != tc.want {
					t.Errorf("%d pods at 20%% and its match; want %d", got, tc.want)
				}
				w.wait(60)
				if got := w.versions["v1"].replicas; capacity == v1alpha1.CapacityProportional && got != 8 {
					t.Errorf("v1 has %d pods; want the 8 that the rest takes if its group goes back", got)
				}
			})
		}
	}
}

func TestPeopleSendAGroupOn(t *testing.T) {
	for how, want := range map[string]struct {
		weight v1alpha1.Permille
		group  bool
	}{"v2": {500, true}, "v2@20": {500, true}, "v2/all": {v1alpha1.Whole, false}, "v2/skip-gates": {v1alpha1.Whole, false}} {
		t.Run(how, func(t *testing.T) {
			w := grouped(t, beside(50))
			w.spec.Paused = true
			w.requests = []shift.Request{{Action: v1alpha1.ActionPromote, Source: v1alpha1.SourceField, Value: how, By: "somebody"}}
			w.run(60, w.atWeight(want.weight))
			if got := w.matched["mesh"] == "v2"; got != want.group {
				t.Errorf("at %s its group is there: %t", w.state.Weight, got)
			}
			if got := w.answers[len(w.answers)-1].Message; !strings.Contains(got, "from 20% and its match to ") {
				t.Errorf("answered %q", got)
			}
		})
	}
}

// A status of an earlier release says of a weight what was shown before it, and nothing of a group.
func TestAStatusFromBeforeThereWereGroups(t *testing.T) {
	w := adopted(t)
	canary(match(), weight(20), weight(100))(w)
	w.release(2)
	w.run(100, func() bool { return w.state.Weight == 200 && w.state.VerifiedSince != nil })
	verified := w.state.VerifiedSince
	w.state.Shown, w.state.Group = digestOfGroup(testers), ""
	w.pass(-1)
	if w.state.VerifiedSince != verified && !w.state.VerifiedSince.Equal(verified) || len(w.matched) != 0 {
		t.Errorf("matched %v, verified %v: %s", w.matched, w.state.VerifiedSince, w.last)
	}
	w.run(100, w.stableIs("v2"))
}

// A tester sees the candidate whatever cookie he has: his rule comes beside the cookies, which go on as without it.
func TestCookiesGoOnBesideAGroup(t *testing.T) {
	w := adopted(t)
	sticky(w)
	canary(beside(20), beside(50), weight(100))(w)
	w.release(2)
	w.run(100, w.atWeight(500))
	if diff := cmp.Diff(&shift.Sessions{Stable: "v1", Candidate: "v2", Epoch: 1, Given: []v1alpha1.Permille{200, 500}}, w.sessions); diff != "" || w.matched["mesh"] != "v2" {
		t.Errorf("matched %v, cookies (-want +got):\n%s", w.matched, diff)
	}
}

func TestAMatchingMirrorIsJudgedByItsCopies(t *testing.T) {
	w := adopted(t)
	canary(matching("50%"), weight(100))(w)
	w.errorRate[2] = 0.5
	w.release(2)
	w.run(200, w.at(v1alpha1.PhaseFailed))
	if got := w.ended[0]; got.Weight != "0%" || !strings.Contains(got.Message, "a mirror of 50% of its match") {
		t.Errorf("outcome %+v; want it convicted at its mirror", got)
	}
}

// A mirror of everything is not the one of those that match that a step asks for, nor the other way round.
func TestAMirrorIsRoutedWhenItCopiesWhatItShould(t *testing.T) {
	w := adopted(t)
	canary(matching("50%"), weight(100))(w)
	w.release(2)
	for i := 0; w.state.Exposure != v1alpha1.ExposureMirror && i < 100; i++ {
		w.wait(1)
	}
	obs := w.observe()
	for i := range obs.Tables {
		obs.Tables[i].Mirrored = shift.Copies{Route: shift.Route{Version: "v2", Weight: 500}}
	}
	if d := w.decide(obs); d.Next.RoutedSince != nil || d.Next.Phase != v1alpha1.PhaseProgressing {
		t.Errorf("every request is copied, and it counts as routed: %s", d)
	}
	for i := range obs.Tables {
		obs.Tables[i].Mirrored.Matching = true
	}
	if d := w.decide(obs); d.Next.RoutedSince == nil || len(d.Desired.Mirror.Rules) != 1 {
		t.Errorf("routed since %v with rules %v: %s", d.Next.RoutedSince, d.Desired.Mirror, d)
	}
}

// Where the stable version has no pod, a retreat would send the group to nobody.
func TestNoGroupRetreatsToAVersionWithoutPods(t *testing.T) {
	w := grouped(t, beside(50))
	w.run(100, w.atWeight(500))
	w.broken[1], w.versions["v1"].ready = true, 0
	w.noHost = from(500)
	w.wait(20)
	if w.matched["mesh"] != "v2" || w.matched["hosts"] != "v2" || w.last.Reason != v1alpha1.ReasonStableUnavailable {
		t.Errorf("matched %v: %s; want the group kept", w.matched, w.last)
	}
}

// proportionalGroup stands at 20% and its match, of ten pods, for as long as it takes.
func proportionalGroup(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.spec.Replicas, w.spec.Capacity, w.templateRun.replicas = new(int32(10)), v1alpha1.CapacityProportional, 10
	w.run(100, w.at(v1alpha1.PhaseStable))
	long := beside(20)
	long.Hold = seconds(1000)
	canary(long, weight(100))(w)
	w.release(2)
	w.run(100, func() bool { return w.state.Weight == 200 && w.matched["hosts"] == "v2" })
	return w
}

func TestStableGivesNothingUpWhileAGroupLacksPods(t *testing.T) {
	w := proportionalGroup(t)
	w.broken[2], w.versions["v2"].ready = true, 3 // enough for 20%
	w.wait(30)
	if got := w.versions["v1"].replicas; got != 10 {
		t.Errorf("v1 was scaled to %d while v2 has 3 of the 10 pods of its group", got)
	}
	w.broken[2] = false
	w.run(60, func() bool { return w.versions["v1"].replicas == 8 })
}

func TestAGroupThatStaysKeepsItsPods(t *testing.T) {
	w := proportionalGroup(t)
	w.broken[1], w.versions["v1"].ready = true, 0
	w.intents.Abort = "v2"
	w.wait(60)
	if got := w.versions["v2"].replicas; got != 10 || w.matched["mesh"] != "v2" {
		t.Errorf("v2 has %d pods and its group %v; want all 10 while stable has none", got, w.matched)
	}
}
