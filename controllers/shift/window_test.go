package shift_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
	"github.com/sluice-dev/sluice/metrics/analysis"
)

// thirdOf is a world whose users are on v3, and were on v2 and on v1 before.
func thirdOf(t *testing.T) *world {
	t.Helper()
	w := adopted(t)
	w.release(2)
	w.run(300, w.stableIs("v2"))
	w.release(3)
	w.run(300, w.stableIs("v3"))
	return w
}

// climbed are the weights that a candidate was given until done.
func (w *world) climbed(done func() bool) []v1alpha1.Permille {
	w.t.Helper()
	var weights []v1alpha1.Permille
	w.after = func() {
		if n := len(weights); w.state.Weight > 0 && (n == 0 || weights[n-1] != w.state.Weight) {
			weights = append(weights, w.state.Weight)
		}
	}
	w.run(300, done)
	w.after = func() {}
	return weights
}

// API: "A template that equals one of them goes to 100 as soon as it has its pods, once nothing is seen to reach it before: without steps, holds and
// proof. Every gate is asked all the same".
func TestARollbackWindowSparesTheSteps(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*world)
		to     int
		spared bool
	}{
		"TheOneBefore":    {func(*world) {}, 2, true},
		"TheLastOfTwo":    {func(*world) {}, 1, true},
		"BeyondTheWindow": {func(w *world) { w.spec.RollbackWindow.Revisions = 1 }, 1, false},
		"NoWindow":        {func(w *world) { w.spec.RollbackWindow = nil }, 2, false},
		"NeverPromoted":   {func(*world) {}, 4, false},
		"RefusedSince":    {func(w *world) { w.proven["v2"], w.verdicts["v2"] = false, v1alpha1.ReasonErrorRate }, 2, false},
		"OlderStatus":     {func(w *world) { w.state.Former = nil }, 2, false},
		"Auto":            {func(w *world) { w.spec.Pacing, w.spec.Steps = v1alpha1.PacingAuto, nil }, 2, true},
		"BlueGreen":       {blueGreen(), 2, true},
		"Proportional":    {func(w *world) { w.spec.Capacity = v1alpha1.CapacityProportional }, 2, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := thirdOf(t)
			w.spec.RollbackWindow = &v1alpha1.RollbackWindow{Revisions: 2}
			tc.change(w)
			w.release(tc.to)
			version := "v" + string(rune('0'+tc.to))
			baked := w.now
			got := w.climbed(func() bool {
				if w.state.Stage == v1alpha1.StageStepping || w.state.Stage == v1alpha1.StageExposing {
					baked = w.now
				}
				return w.state.Stable == version
			})
			if spared := slices.Equal(got, []v1alpha1.Permille{v1alpha1.Whole}); spared != tc.spared {
				t.Errorf("weights %v; spared the steps: want %t\n%s", got, tc.spared, w.transcript.String())
			}
			if o := w.ended[len(w.ended)-1]; o.WithinRollbackWindow != tc.spared || strings.Contains(o.Message, "rollback window") != tc.spared {
				t.Errorf("the history says %+v", o)
			}
			if text := w.transcript.String(); strings.Contains(text, v1alpha1.ReasonWithinRollbackWindow) != tc.spared || strings.Count(text, v1alpha1.ReasonProvingIsolation) != 3 {
				t.Errorf("want the isolation to be proven each time, and the reason to be told: %t\n%s", tc.spared, text)
			}
			if bake := w.now.Sub(baked); bake < w.spec.Bake.Duration {
				t.Errorf("it baked for %s", bake)
			}
			if w.state.WithinRollbackWindow {
				t.Error("the next release would be spared its steps, too")
			}
		})
	}
}

// A version that somebody has gone back from leads forward: whoever puts its template there again, as git does, has every step, and the way
// back from it none.
func TestARollbackWindowSparesNoWayForward(t *testing.T) {
	for name, tc := range map[string]struct {
		before func(*world)
		back   int
	}{
		"FromTheWindow": {func(*world) {}, 2},
		"FromFarther":   {func(*world) {}, 1},
		"WithoutWindow": {func(w *world) { w.spec.RollbackWindow = nil }, 2},
		"OlderStatus":   {func(w *world) { w.state.Former = nil }, 2},
	} {
		t.Run(name, func(t *testing.T) {
			w := thirdOf(t)
			w.spec.RollbackWindow = &v1alpha1.RollbackWindow{Revisions: 2}
			tc.before(w)
			back := fmt.Sprintf("v%d", tc.back)
			w.release(tc.back)
			w.run(300, func() bool { return w.state.Stable == back && len(w.state.Retiring) == 0 })
			w.spec.RollbackWindow = &v1alpha1.RollbackWindow{Revisions: 2}
			w.release(3)
			if got, want := w.climbed(w.stableIs("v3")), []v1alpha1.Permille{50, 500, v1alpha1.Whole}; !slices.Equal(got, want) {
				t.Errorf("v3 came again with weights %v; want %v", got, want)
			}
			w.release(tc.back)
			if got := w.climbed(w.stableIs(back)); !slices.Equal(got, []v1alpha1.Permille{v1alpha1.Whole}) {
				t.Errorf("back from v3 again with weights %v; want no step", got)
			}
		})
	}
}

// What users were on is remembered in the order in which they were on it, each version once, and nothing that somebody has gone back from.
func TestFormerVersions(t *testing.T) {
	w := thirdOf(t)
	w.release(2)
	w.run(300, w.stableIs("v2"))
	if diff := cmp.Diff([]string{"v1"}, w.state.Former); diff != "" || w.state.Previous != "v3" {
		t.Errorf("back on v2, previous is %s; former (-want +got):\n%s", w.state.Previous, diff)
	}
	w.release(1)
	w.run(300, w.stableIs("v1"))
	if len(w.state.Former) > 0 {
		t.Errorf("back on v1, where all began, former is %v", w.state.Former)
	}
	for template := 4; template < 16; template++ {
		w.release(template)
		w.run(300, func() bool { return w.records[w.state.Stable] == template && len(w.state.Retiring) == 0 })
	}
	if n := len(w.state.Former); n != v1alpha1.MostRevisions || w.state.Former[0] != w.state.Previous {
		t.Errorf("%d former versions, %v; want the last %d", n, w.state.Former, v1alpha1.MostRevisions)
	}
}

// A window spares steps and nothing else: what holds any other candidate holds this one at 0%, and a bad one is taken back from 100.
func TestARollbackWindowSparesNothingElse(t *testing.T) {
	for name, tc := range map[string]struct {
		hold, release func(*world)
		reason        string
	}{
		"Paused":   {func(w *world) { w.spec.Paused = true }, func(w *world) { w.spec.Paused = false }, v1alpha1.ReasonPaused},
		"Evidence": {func(w *world) { w.evidence = false }, func(w *world) { w.evidence = true }, v1alpha1.ReasonNoEvidence},
		"Problems": {
			func(w *world) { w.problems = []shift.Problem{{Reason: v1alpha1.ReasonHostClaimed, Message: "claimed"}} },
			func(w *world) { w.problems = nil }, v1alpha1.ReasonHostClaimed,
		},
		"GateAtTheStart": {func(w *world) { w.deskAtStart() }, func(w *world) { w.desk = analysis.Pass }, v1alpha1.ReasonGateInconclusive},
		"Person": {
			func(w *world) {
				w.spec.Gates = []v1alpha1.Gate{{Name: "owner", Manual: &v1alpha1.ManualGate{}}}
				w.spec.Default()
			}, func(w *world) { w.intents.Approve = "v2" }, v1alpha1.ReasonWaitingForApproval,
		},
	} {
		for _, when := range []string{"AtRest", "UnderWay"} {
			t.Run(name+when, func(t *testing.T) {
				w := thirdOf(t)
				w.spec.RollbackWindow = &v1alpha1.RollbackWindow{Revisions: 2}
				w.desk = analysis.Inconclusive
				if when == "AtRest" {
					tc.hold(w)
				}
				w.release(2)
				if when == "UnderWay" {
					w.run(60, func() bool { return w.state.Stage == v1alpha1.StageExposing })
					tc.hold(w)
				}
				for range 30 {
					w.pass(-1)
					w.tick()
				}
				if w.state.Weight != 0 || w.last.Reason != tc.reason {
					t.Fatalf("%s; want it held at 0%% for %s", w.last, tc.reason)
				}
				tc.release(w)
				if got := w.climbed(func() bool { return w.state.Stable == "v2" }); !slices.Equal(got, []v1alpha1.Permille{v1alpha1.Whole}) {
					t.Errorf("weights %v", got)
				}
			})
		}
	}
	t.Run("Freeze", func(t *testing.T) {
		w := thirdOf(t)
		w.spec.RollbackWindow = &v1alpha1.RollbackWindow{Revisions: 2}
		w.release(2)
		obs := w.observe()
		obs.Turn.Start = waitFor(v1alpha1.ReasonFrozen, w.now.Add(time.Hour))
		if d := w.decide(obs); d.Next.Candidate != "" || d.Reason != v1alpha1.ReasonFrozen {
			t.Errorf("%s; want it to wait for the end of the freeze", d)
		}
	})
	t.Run("Bad", func(t *testing.T) {
		w := thirdOf(t)
		w.spec.RollbackWindow, w.errorRate[2] = &v1alpha1.RollbackWindow{Revisions: 2}, 0.5
		w.release(2)
		w.run(120, w.at(v1alpha1.PhaseFailed))
		if o := w.ended[len(w.ended)-1]; o.Weight != "100%" || !o.WithinRollbackWindow || w.state.Stable != "v3" {
			t.Errorf("%+v, with users on %s; want it convicted at 100%%", o, w.state.Stable)
		}
		w.intents.Retry = "v2"
		w.errorRate[2] = 0
		if got := w.climbed(func() bool { return w.state.Stable == "v2" }); len(got) < 2 {
			t.Errorf("tried again after it was refused, it was spared the steps: %v", got)
		}
	})
	t.Run("TakenAway", func(t *testing.T) {
		w := thirdOf(t)
		w.spec.RollbackWindow = &v1alpha1.RollbackWindow{Revisions: 2}
		w.release(2)
		w.run(60, func() bool { return w.state.Stage == v1alpha1.StageExposing })
		w.spec.RollbackWindow = nil
		if got := w.climbed(func() bool { return w.state.Stable == "v2" }); len(got) < 2 {
			t.Errorf("the window was taken away, and the steps were spared: %v", got)
		}
	})
}

// The step to 100 keeps its pause, and whoever ends an ab-test decides before a promotion: without a person there is none.
func TestARollbackWindowSparesNoPerson(t *testing.T) {
	for name, change := range map[string]func(*world){
		"PauseAt100": func(w *world) { w.spec.Steps[2].Pause = &v1alpha1.Pause{} },
		"Decide":     abTest(v1alpha1.ConcludeDecide),
	} {
		t.Run(name, func(t *testing.T) {
			w := thirdOf(t)
			w.spec.RollbackWindow = &v1alpha1.RollbackWindow{Revisions: 2}
			change(w)
			w.spec.Default()
			w.release(2)
			w.run(100, func() bool { return w.last.Reason == v1alpha1.ReasonWaitingForApproval })
			w.wait(60)
			if w.state.Stable != "v3" || w.state.Weight != v1alpha1.Whole || w.last.Reason != v1alpha1.ReasonWaitingForApproval {
				t.Fatalf("%s; want it to wait at 100%% for a person", w.last)
			}
			w.intents.Approve = "v2"
			w.run(30, w.stableIs("v2"))
		})
	}
}
