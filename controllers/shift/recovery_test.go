package shift_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// What others take away or put back while Sluice is not looking: Deployments, rules, the status, pods, the mark.

// passUnchecked is a pass that does not hold the mesh to its rules: somebody else has just broken them.
func (w *world) passUnchecked() {
	w.t.Helper()
	d := w.decide(w.observe())
	w.persist(d)
	for _, write := range w.writes(d.Desired) {
		write()
	}
	w.note(d)
	w.last = d
}

func TestADeploymentCreatedAgainUnderItsNameStartsOver(t *testing.T) {
	w := adopted(t)
	clear(w.records)
	clear(w.versions)
	clear(w.proven)
	clear(w.tables)
	w.subsets, w.rule, w.held, w.preview = nil, false, false, ""
	clear(w.hosts)
	w.uid, w.templateRun = "second", deployment{replicas: 3, template: 1}
	w.after = func() {
		stable := w.versions[w.state.Stable]
		if w.templateRun.replicas == 0 && (stable == nil || stable.ready < 3) {
			t.Fatalf("the Deployment is scaled to 0 while %q is %+v: nobody answers\n%s", w.state.Stable, stable, w.transcript.String())
		}
	}
	w.pass(-1)
	if w.state.Phase != v1alpha1.PhaseAdopting || w.state.TemplateUID != "second" {
		t.Fatalf("phase %s for the Deployment %s; want %s for the second", w.state.Phase, w.state.TemplateUID, v1alpha1.PhaseAdopting)
	}
	w.run(60, w.at(v1alpha1.PhaseStable))
	if w.state.Stable != "v2" { // a number is never used twice
		t.Errorf("stable is %s; want v2", w.state.Stable)
	}
	if diff := cmp.Diff([]shift.Route{{Version: "v2", Weight: v1alpha1.Whole}}, w.tables["mesh"]); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
}

func TestADestinationRuleDeletedDuringRollingBackDoesNotStopTheWayBack(t *testing.T) {
	w := adopted(t)
	w.release(2)
	w.run(100, w.atWeight(500))
	w.broken[1], w.versions["v1"].ready = true, 1 // stable cannot bear all of it at once: the way back takes more than one pass
	w.intents.Abort = "v2"
	w.pass(-1)
	if w.state.Phase != v1alpha1.PhaseRollingBack || w.state.Weight == 0 {
		t.Fatalf("%s; want a way back that is under way", w.last)
	}
	w.subsets, w.rule, w.robbed = nil, false, true
	for range 4 {
		w.passUnchecked()
		w.tick()
	}
	want := []shift.Route{{Version: "v1", Weight: v1alpha1.Whole}}
	for _, name := range tableNames {
		if diff := cmp.Diff(want, w.tables[name]); diff != "" {
			t.Errorf("table %s after a few passes (-want +got):\n%s\n%s", name, diff, w.last)
		}
	}
	w.run(60, w.at(v1alpha1.PhaseFailed))
	if got := w.versions["v2"].replicas; got != 0 {
		t.Errorf("v2 still has %d pods", got)
	}
}

// The deadline is for pods that do not come. These came.
func TestTheDeadlineEndsWithTheWaitingForPods(t *testing.T) {
	tests := map[string]func(w *world){
		"PodsCameAndThenEvidenceWentForLongerThanTheDeadline": func(w *world) {
			w.run(100, w.atWeight(50))
			w.broken[2] = true
			w.run(100, func() bool { return w.last.Reason == v1alpha1.ReasonCandidateCapacity })
			w.broken[2], w.evidence = false, false
			w.wait(200)
			if w.last.Reason != v1alpha1.ReasonNoEvidence {
				w.t.Fatalf("reason %s; want %s", w.last.Reason, v1alpha1.ReasonNoEvidence)
			}
			w.evidence = true
		},
		"PodsCameWhileTheControllerWasAway": func(w *world) {
			w.broken[2] = true
			w.run(100, func() bool { return w.state.Pods.WaitingSince != nil && w.versions["v2"] != nil })
			w.now = w.now.Add(time.Hour)
			w.broken[2] = false
			for range 5 {
				w.tick()
			}
			w.pass(-1)
		},
	}
	for name, away := range tests {
		t.Run(name, func(t *testing.T) {
			w := adopted(t)
			w.spec.Deadline.Duration = time.Minute
			w.release(2)
			away(w)
			if len(w.ended) > 0 {
				t.Fatalf("ended with %+v; want v2 still in the running", w.ended)
			}
			w.run(300, w.stableIs("v2"))
		})
	}
}

func TestAStatusLostWhileBakingTakesTheUnprovenVersionBack(t *testing.T) {
	w := adopted(t)
	w.spec.Bake.Duration = time.Hour
	w.release(2)
	w.run(300, w.atWeight(v1alpha1.Whole))
	w.state = v1alpha1.State{}
	w.after = func() {
		if w.proven["v2"] {
			t.Fatalf("v2 is marked as promoted, and nothing has promoted it\n%s", w.transcript.String())
		}
	}
	w.pass(-1)
	if s := w.state; s.Stable != "v1" || s.Candidate != "v2" || s.Phase != v1alpha1.PhaseRollingBack {
		t.Fatalf("stable %s, candidate %s, phase %s; want v2 taken back to v1", s.Stable, s.Candidate, s.Phase)
	}
	w.run(60, func() bool { return len(w.ended) > 0 })
	if got := w.weight("v1"); got != v1alpha1.Whole || w.ended[0].Reason != v1alpha1.ReasonCancelled {
		t.Errorf("v1 has %s, outcome %+v; want everything on v1, and v2 cancelled", got, w.ended[0])
	}
	// Nobody has refused v2: it comes again, from the first weight.
	w.run(60, w.atWeight(50))
}

func TestAStatusLostFindsStableByWhatItsRoutesAndRecordsSay(t *testing.T) {
	tests := map[string]struct {
		proven []string
		routes []shift.Route
		want   string
	}{
		"OfSeveralProvenTheOneWithMostWeight":       {[]string{"v1", "v2", "v3"}, []shift.Route{{Version: "v1", Weight: 300}, {Version: "v2", Weight: 700}, {Version: "v3", Weight: 0}}, "v2"},
		"OfSeveralProvenTheOlderWhereItHasMore":     {[]string{"v1", "v2"}, []shift.Route{{Version: "v1", Weight: 700}, {Version: "v2", Weight: 300}}, "v1"},
		"OfSeveralProvenWithTheSameWeightTheNewest": {[]string{"v1", "v2"}, []shift.Route{{Version: "v1", Weight: 500}, {Version: "v2", Weight: 500}}, "v2"},
		"AProvenOneWhateverAnUnprovenOneHas":        {[]string{"v1"}, []shift.Route{{Version: "v1", Weight: 0}, {Version: "v3", Weight: 1000}}, "v1"},
		"AnUnprovenOneWhereNoOtherIsRouted":         {[]string{"v1"}, []shift.Route{{Version: "v3", Weight: 1000}}, "v3"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := adopted(t)
			for i := 1; i <= 3; i++ {
				v := fmt.Sprintf("v%d", i)
				w.records[v], w.versions[v], w.proven[v] = i, &deployment{replicas: 3, ready: 3, template: i}, false
			}
			for _, v := range tc.proven {
				w.proven[v] = true
			}
			w.subsets, w.state = []string{"v1", "v2", "v3"}, v1alpha1.State{}
			w.tables["mesh"], w.tables["hosts"] = tc.routes, tc.routes
			if got := w.decide(w.observe()).Next.Stable; got != tc.want {
				t.Errorf("stable is %q; want %s", got, tc.want)
			}
		})
	}
}

// What an attached VirtualService that cannot be read may lead to is no weight that anybody has: none is written on it, and no subset goes.
func TestAStatusLostWhileATableCannotBeReadTouchesNothing(t *testing.T) {
	tests := map[string]func(w *world){
		"StableBearsAThird":      func(w *world) { w.versions["v1"].ready = 1 },
		"StableHasNoReadyPod":    func(w *world) { w.versions["v1"].ready = 0 },
		"TheMarkIsLostToo":       func(w *world) { w.held = false },
		"TheServiceIsHandedBack": func(w *world) { w.intents.Detach = true },
		"ManyWereProven":         func(w *world) { w.proven["v2"], w.verdicts["v2"] = true, v1alpha1.ReasonPromoted },
	}
	for name, prepare := range tests {
		t.Run(name, func(t *testing.T) {
			w := adopted(t)
			w.attached = true
			w.records["v2"], w.versions["v2"], w.verdicts["v2"] = 2, &deployment{replicas: 3, ready: 3, template: 2}, v1alpha1.ReasonErrorRate
			w.subsets, w.broken[1] = []string{"v1", "v2"}, true
			prepare(w)
			w.unread["hosts"], w.state = true, v1alpha1.State{}
			w.wait(60)
			if diff := cmp.Diff([]shift.Route{{Version: "v1", Weight: v1alpha1.Whole}}, w.tables["mesh"]); diff != "" {
				t.Errorf("the table that was read (-want +got):\n%s\n%s", diff, w.transcript.String())
			}
			if diff := cmp.Diff([]string{"v1", "v2"}, w.subsets); diff != "" {
				t.Errorf("subsets (-want +got):\n%s", diff)
			}
			if w.last.Reason != v1alpha1.ReasonStableUnavailable || !strings.Contains(w.last.Message, "hosts cannot be read") || w.versions["v2"].replicas != 3 {
				t.Errorf("v2 has %d pods: %s; want nothing touched, and the table named", w.versions["v2"].replicas, w.last)
			}
		})
	}
}

// What is read again is followed again.
func TestAStatusLostIsFoundOnceTheTableIsReadAgain(t *testing.T) {
	w := adopted(t)
	w.attached = true
	w.release(2)
	w.run(100, w.atWeight(500))
	w.unread["hosts"], w.state = true, v1alpha1.State{}
	w.wait(10)
	if got := w.weight("v2"); got != 500 {
		t.Fatalf("v2 has %s; want it as it was: %s", got, w.last)
	}
	clear(w.unread)
	w.run(60, func() bool { return len(w.ended) > 0 })
	if got := w.weight("v1"); got != v1alpha1.Whole || w.ended[0].Reason != v1alpha1.ReasonCancelled {
		t.Errorf("v1 has %s, outcome %+v; want everything on v1, and v2 cancelled", got, w.ended[0])
	}
}

// Whoever asks to detach does not thereby ask to release what the template has become.
func TestAStatusLostAndDetachReleasesNoOtherTemplate(t *testing.T) {
	tests := map[string]func(w *world){
		"AnUnrecordedTemplate": func(*world) {},
		"AnotherVersions":      func(w *world) { w.records["v2"] = 2 },
	}
	for name, prepare := range tests {
		t.Run(name, func(t *testing.T) {
			w := adopted(t)
			prepare(w)
			w.template, w.state, w.intents.Detach = 2, v1alpha1.State{}, true
			w.wait(60)
			if w.templateRun.replicas != 0 || w.last.Reason != v1alpha1.ReasonTemplateNotStable {
				t.Errorf("the Deployment runs %d pods of template 2: %s; want none, and %s", w.templateRun.replicas, w.last, v1alpha1.ReasonTemplateNotStable)
			}
			if got := w.weight("v1"); got != v1alpha1.Whole {
				t.Errorf("v1 has %s; want everything", got)
			}
			w.template = 1 // put back: now it is v1's own
			w.run(90, func() bool { return w.state.Stage == v1alpha1.StageReleased })
		})
	}
}

// Subsets go no sooner than every route was seen without them for as long as that takes to settle: a route that could not be read, or a stray
// one, still names a version.
func TestHandingBackWaitsForATableThatWasNotSeenBare(t *testing.T) {
	v1 := []shift.Route{{Version: "v1", Weight: v1alpha1.Whole - 1}}
	for name, table := range map[string]shift.Table{
		"Unread": {Name: "hosts", Unread: true, Routes: v1},
		"Stray":  {Name: "hosts", Routes: v1},
	} {
		t.Run(name, func(t *testing.T) {
			w := adopted(t)
			w.intents.Detach = true
			w.run(200, func() bool { return w.state.Stage == v1alpha1.StageUnpinning })
			w.state.RoutedSince = nil
			for _, after := range []time.Duration{0, time.Minute} {
				obs := w.observe()
				obs.Now = obs.Now.Add(after)
				obs.Tables = []shift.Table{{Name: "mesh", Bare: true}, table}
				d := w.decide(obs)
				if d.Desired.Unroute || d.Next.RoutedSince != nil {
					t.Fatalf("%s after it: %s, settled since %v; want it to wait", after, d, d.Next.RoutedSince)
				}
				if table.Unread && !strings.Contains(d.Message, "hosts cannot be read") {
					t.Errorf("it says %q", d.Message)
				}
				w.state = d.Next
			}
		})
	}
}

func TestADetachedShiftWithoutItsDeploymentRests(t *testing.T) {
	w := newWorld(t)
	for _, stage := range []v1alpha1.Stage{v1alpha1.StageReturning, v1alpha1.StageReleased} {
		w.state = v1alpha1.State{Phase: v1alpha1.PhaseDetaching, Stage: stage, LastVersion: 2}
		gone := shift.Observation{Now: w.now, Timing: timing, Intents: shift.Intents{Detach: true}}
		first := w.decide(gone)
		w.state, gone.Now = first.Next, w.now.Add(time.Second)
		second := w.decide(gone)
		if diff := cmp.Diff(first.Next, second.Next); diff != "" || second.RequeueAfter != 0 {
			t.Errorf("from %s a second pass comes back in %s and writes (-first +second):\n%s", stage, second.RequeueAfter, diff)
		}
	}
}

func TestSluiceStopsFightingWhoeverScalesTheDeploymentUp(t *testing.T) {
	tests := map[string]struct {
		until func(w *world) func() bool
		write func(w *world)
	}{
		"AtRestAWriterThatDropsTheMarkToo": {
			func(w *world) func() bool { return w.at(v1alpha1.PhaseStable) },
			func(w *world) { w.templateRun.replicas, w.held = 3, false },
		},
		"WhileAdoptionHoldsTheTemplate": {
			func(w *world) func() bool { return func() bool { return w.state.Stage == v1alpha1.StagePinning } },
			func(w *world) { w.templateRun.replicas = 3 },
		},
		"WhileAdoptionHoldsAWriterThatDropsTheMarkToo": {
			func(w *world) func() bool { return func() bool { return w.state.Stage == v1alpha1.StagePinning } },
			func(w *world) { w.templateRun.replicas, w.held = 3, false },
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.run(60, tc.until(w))
			fights := 0
			for range 30 {
				tc.write(w)
				w.generation++
				w.pass(-1)
				if w.templateRun.replicas == 0 {
					fights++
				}
				w.tick()
			}
			if !shift.Contested(w.state) || w.templateRun.replicas != 3 || fights > 4 {
				t.Errorf("contested %d, %d replicas, put back %d of 30 times; want it to have stopped", w.state.Contested, w.templateRun.replicas, fights)
			}
			if got := w.weight("v1"); got != v1alpha1.Whole {
				t.Errorf("v1 has %s; want everything", got)
			}
			if w.state.Phase != v1alpha1.PhaseStable || w.last.Reason != v1alpha1.ReasonReplicasContested || !strings.Contains(w.last.Message, "keeps scaling the Deployment up") {
				t.Errorf("it says %s; want it to be taken over, and to say what is fought over", w.last)
			}
			w.release(2) // and when the template changes, Sluice tries again
			w.run(200, w.stableIs("v2"))
			if w.templateRun.replicas != 0 || !w.held {
				t.Errorf("the template has %d replicas, held %t, after a release in peace; want it held at 0", w.templateRun.replicas, w.held)
			}
		})
	}
}

func TestFailuresFromBeforeTheLowerWeightSettledDoNotConvict(t *testing.T) {
	w := adopted(t)
	late := func() bool { // a sample lasts a second, and must have begun after the lower weight had settled
		since := w.state.RoutedSince
		return since != nil && w.now.Sub(since.Time) >= timing.Settle+time.Second
	}
	w.noHost = func(share v1alpha1.Permille) float64 {
		if w.state.Gate.Retreated && !late() || !w.state.Gate.Retreated && share >= 500 {
			return 0.2
		}
		return 0
	}
	w.release(2)
	w.run(100, w.atWeight(500))
	w.run(20, w.atWeight(50))
	if !w.state.Gate.Retreated {
		t.Fatalf("%s; want a retreat", w.last)
	}
	w.wait(6)
	if len(w.ended) > 0 || w.state.Weight != 50 {
		t.Fatalf("at %s, outcomes %+v; want v2 still in the running at 5%%\n%s", w.state.Weight, w.ended, w.transcript.String())
	}
	w.run(200, w.stableIs("v2"))
}
