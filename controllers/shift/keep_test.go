package shift_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// rejected is a service whose candidate v2 was refused at a weight, and is kept for that long.
func rejected(t *testing.T, keep time.Duration) *world {
	w := adopted(t)
	w.spec.KeepRejected.Duration = keep
	w.release(2)
	w.run(100, w.atWeight(500))
	w.intents.Abort = "v2"
	w.run(60, func() bool { return w.state.Phase == v1alpha1.PhaseFailed })
	w.intents.Abort = ""
	w.wait(30) // settled, drained and out of the routes
	return w
}

// looked fails where the pods of v2 are not there, with the address that their subset brings, or where a route of any kind names them.
func (w *world) looked() {
	w.t.Helper()
	if v2 := w.versions["v2"]; v2.ready == 0 || v2.replicas < 2 || !slices.Contains(w.subsets, "v2") || w.addressed["v2"].IsZero() {
		w.t.Fatalf("v2 has %d of %d pods, subsets %v; want it kept\n%s", v2.ready, v2.replicas, w.subsets, w.transcript.String())
	}
	for name, routes := range w.tables {
		if len(routes) != 1 || routes[0].Version != "v1" || w.matched[name] != "" || w.mirrored[name].Version != "" {
			w.t.Fatalf("table %s is %v, matches %q; want v1 alone", name, routes, w.matched[name])
		}
	}
}

func (w *world) left() bool {
	return len(w.state.Retiring) == 0 && w.versions["v2"].replicas == 0 && !slices.Contains(w.subsets, "v2")
}

func TestARefusedCandidateIsKept(t *testing.T) {
	w := rejected(t, time.Hour)
	w.looked()
	if w.state.Phase != v1alpha1.PhaseFailed || !strings.Contains(w.last.Message, "v2 are kept to be looked at until 2026-11-01T13:0") {
		t.Errorf("while v2 is kept: %s", w.last)
	}
	until := w.state.Retiring[0].KeptSince.Add(time.Hour)
	if d := w.decide(w.observe()); w.now.Add(d.RequeueAfter) != until {
		t.Errorf("looks again after %s; want only when the hour is over", d.RequeueAfter)
	}
	w.now = until.Add(-2 * time.Second)
	w.wait(1)
	w.looked()
	w.run(20, w.left)
	if strings.Contains(w.last.Message, "kept") {
		t.Errorf("when v2 is gone: %s", w.last)
	}
}

// What ends the keeping ends it at once.
func TestKeepingEnds(t *testing.T) {
	tests := map[string]struct {
		do   func(w *world)
		then func(w *world) bool
	}{
		"WithTheNextCandidate": {func(w *world) { w.release(3) }, func(w *world) bool { return w.left() && w.state.Candidate == "v3" }},
		"WithARetry":           {func(w *world) { w.intents.Retry = "v2" }, func(w *world) bool { return w.state.Candidate == "v2" && w.versions["v2"].restarts == 0 }},
		"WithAShorterTime":     {func(w *world) { w.spec.KeepRejected.Duration = 10 * time.Second }, (*world).left},
		"WithNone":             {func(w *world) { w.spec.KeepRejected.Duration = 0 }, (*world).left},
		"WithAnOlderSpec":      {func(w *world) { w.spec.KeepRejected = nil }, (*world).left},
		"ByHand":               {func(w *world) { w.versions["v2"].replicas, w.versions["v2"].ready = 0, 0 }, (*world).left},
		"WhileHandedBackWaits": {func(w *world) { w.intents.Detach = true }, func(w *world) bool {
			return w.state.Stage == v1alpha1.StageReturning && w.left() && w.versions["v1"].ready == 3 // the template is v2's: it waits for somebody
		}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := rejected(t, time.Hour)
			w.looked()
			tc.do(w)
			w.pass(-1)
			w.pass(-1)
			if w.kept("v2") {
				t.Errorf("v2 is kept still: %s", w.last)
			}
			w.run(40, func() bool { return tc.then(w) })
		})
	}
}

// Nothing but a new candidate of whatever kind ends it before its time: not a policy's turn, a pause, or the stable version's template.
func TestKeepingGoesOn(t *testing.T) {
	for name, do := range map[string]func(w *world){
		"WhileTheNextOneWaits":    func(w *world) { w.spec.Paused = true; w.release(3) },
		"WithTheOldTemplateAgain": func(w *world) { w.release(1) },
		"WhileSuspended":          func(w *world) { w.spec.Suspend = true; w.release(3) },
	} {
		t.Run(name, func(t *testing.T) {
			w := rejected(t, time.Hour)
			do(w)
			w.wait(60)
			w.looked()
		})
	}
}

// Who was never refused is not kept, nor is one that users may reach past the routes.
func TestWhatIsNotKept(t *testing.T) {
	tests := map[string]func(w *world){
		"Cancelled":  func(w *world) { w.release(1) },
		"Superseded": func(w *world) { w.release(3) },
		"HandedBack": func(w *world) { w.intents.Detach = true },
	}
	for name, do := range tests {
		t.Run(name, func(t *testing.T) {
			w := adopted(t)
			w.spec.KeepRejected.Duration = time.Hour
			w.release(2)
			w.run(100, w.atWeight(500))
			w.after = func() {
				if w.kept("v2") {
					t.Fatalf("v2 is kept: %s", w.last)
				}
			}
			do(w)
			w.run(60, func() bool { return w.state.Candidate != "v2" })
			w.wait(20)
		})
	}
	t.Run("Bypassed", func(t *testing.T) {
		w := adopted(t)
		w.spec.KeepRejected.Duration, w.bypass = time.Hour, true
		w.release(2)
		w.run(60, func() bool { return w.state.Phase == v1alpha1.PhaseFailed && w.left() })
		if got := w.ended[0].Reason; got != v1alpha1.ReasonRouteBypassed {
			t.Errorf("ended as %s", got)
		}
	})
}

// A version that is kept is no traffic on its way: an autoscaler's wish counts at once.
func TestKeepingHoldsNoWishBack(t *testing.T) {
	w := rejected(t, time.Hour)
	one := int32(1)
	w.spec.Replicas = &one
	w.wait(3)
	if got := w.versions["v1"].replicas; got != 1 {
		t.Errorf("v1 has %d pods; want 1", got)
	}
	w.looked()
}

// Pods that answer are kept only where nothing was seen to reach them past the routes: whatever it is would go on reaching a version that was
// refused.
func TestWhatIsKeptWasSeenAlone(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(w *world)
		when   func(w *world) bool
		kept   bool
	}{
		"Preparing":    {func(w *world) { w.room = 4 }, func(w *world) bool { return w.versions["v2"] != nil && w.versions["v2"].ready == 1 }, false},
		"Exposing":     {func(*world) {}, func(w *world) bool { return w.state.Stage == v1alpha1.StageExposing && w.state.Gate.Samples == 0 }, false},
		"SkipAnalysis": {func(w *world) { w.spec.SkipAnalysis, w.bypass = true, true }, func(w *world) bool { return w.state.Weight == v1alpha1.Whole }, false},
		"Ordered": {func(w *world) {
			w.requests = []shift.Request{ask(v1alpha1.ActionPromote, "v2/all")}
		}, func(w *world) bool { return w.state.Weight == v1alpha1.Whole }, false},
		"SeenAlone": {func(*world) {}, func(w *world) bool { return w.state.Stage == v1alpha1.StageExposing && w.state.Gate.Samples >= 2 }, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := adopted(t)
			w.spec.KeepRejected.Duration, w.spec.MinReplicas = time.Hour, new(int32(3))
			w.release(2)
			w.pass(-1)
			tc.change(w)
			w.spec.Paused = name == "SeenAlone"
			if w.spec.Paused {
				w.spec.Preview = &v1alpha1.Preview{} // with which a pause lets it come that far, and no farther
			}
			w.run(60, func() bool { return tc.when(w) })
			w.intents.Abort = "v2"
			kept := false
			w.after = func() { kept = kept || w.kept("v2") }
			w.run(60, func() bool { return w.state.Phase == v1alpha1.PhaseFailed })
			w.wait(20)
			if kept != tc.kept {
				t.Errorf("kept: %t; want %t\n%s", kept, tc.kept, w.transcript.String())
			}
		})
	}
}

// Pods that never answered are kept wherever they were refused, for as long as none of them answers.
func TestPodsThatAreNotReadyAreKept(t *testing.T) {
	w := adopted(t)
	w.spec.KeepRejected.Duration, w.spec.Deadline.Duration, w.broken[2] = time.Hour, 20*time.Second, true
	w.release(2)
	w.run(60, func() bool { return w.state.Phase == v1alpha1.PhaseFailed })
	w.wait(20)
	if !w.kept("v2") || w.versions["v2"].replicas == 0 {
		t.Fatalf("%s, with %+v; want the pods kept that did not come", w.last, *w.versions["v2"])
	}
	w.broken[2] = false
	w.run(60, w.left)
}
