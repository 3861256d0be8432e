package shift_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
)

func TestAdoptionPinsBeforeItHolds(t *testing.T) {
	w := adopted(t)
	want := []shift.Route{{Version: "v1", Weight: v1alpha1.Whole}}
	if diff := cmp.Diff(want, w.tables["mesh"]); diff != "" {
		t.Errorf("routes after adoption (-want +got):\n%s", diff)
	}
	if w.templateRun.replicas != 0 || !w.held {
		t.Errorf("the template runs %d replicas, held %t; want 0 and held", w.templateRun.replicas, w.held)
	}
	if w.versions["v1"].ready != 3 {
		t.Errorf("v1 has %d ready pods; want 3", w.versions["v1"].ready)
	}
}

func TestGoodReleaseIsPromoted(t *testing.T) {
	w := adopted(t)
	w.template = 2
	w.run(200, func() bool { return w.state.Stable == "v2" && len(w.state.Retiring) == 0 })
	if got := w.ended[0]; got.Reason != v1alpha1.ReasonPromoted || got.Version != "v2" || got.Weight != "100%" {
		t.Errorf("outcome %+v; want v2 promoted from 100%%", got)
	}
	if diff := cmp.Diff([]string{"v2"}, w.subsets); diff != "" {
		t.Errorf("subsets (-want +got):\n%s", diff)
	}
	if got := w.versions["v1"].replicas; got != 0 {
		t.Errorf("v1 keeps %d replicas; want 0, kept for a way back", got)
	}
}

func TestWaysBack(t *testing.T) {
	tests := map[string]struct {
		reason string
		bad    func(w *world)    // before the release
		during func(w *world)    // at 5%
		when   v1alpha1.Permille // -1: before any weight
		phase  v1alpha1.Phase
		want   string
	}{
		"ErrorsUnderTraffic":  {"a gate fails", func(w *world) { w.errorRate[2] = 0.5 }, nil, 0, v1alpha1.PhaseFailed, v1alpha1.ReasonErrorRateVsStable},
		"NeverReady":          {"the deadline passes", func(w *world) { w.broken[2] = true; w.spec.Deadline.Duration = 20 * time.Second }, nil, 0, v1alpha1.PhaseFailed, v1alpha1.ReasonNotReadyInTime},
		"RouteBypassed":       {"traffic at weight 0", func(w *world) { w.bypass = true }, nil, 0, v1alpha1.PhaseFailed, v1alpha1.ReasonRouteBypassed},
		"AbortedByPerson":     {"a person said so", nil, func(w *world) { w.intents.Abort = "v2" }, 50, v1alpha1.PhaseFailed, v1alpha1.ReasonAborted},
		"LoweredByHand":       {"somebody took the weight away", nil, func(w *world) { lower(w, "hosts") }, 50, v1alpha1.PhaseFailed, v1alpha1.ReasonWeightLowered},
		"CandidatePodsGone":   {"no ready pod under traffic", nil, func(w *world) { w.versions["v2"].ready = 0; w.broken[2] = true }, 50, v1alpha1.PhaseFailed, v1alpha1.ReasonCandidateUnstable},
		"CrashLoop":           {"restarts", nil, func(w *world) { w.versions["v2"].restarts = 2 }, 50, v1alpha1.PhaseFailed, v1alpha1.ReasonCandidateUnstable},
		"CancelByGoingBack":   {"the template is the stable one again", nil, func(w *world) { w.template = 1 }, 50, v1alpha1.PhaseStable, v1alpha1.ReasonCancelled},
		"AbortedWhilePaused":  {"abort comes before pause", nil, func(w *world) { w.spec.Paused = true; w.intents.Abort = "v2" }, 50, v1alpha1.PhaseFailed, v1alpha1.ReasonAborted},
		"AbortedWhileUnready": {"abort comes before every wait", nil, func(w *world) { w.versions["v2"].ready = 0; w.broken[2] = true; w.evidence = false }, 50, v1alpha1.PhaseFailed, v1alpha1.ReasonCandidateUnstable},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := adopted(t)
			if tc.bad != nil {
				tc.bad(w)
			}
			w.template = 2
			if tc.during != nil {
				w.run(100, w.atWeight(tc.when))
				tc.during(w)
			}
			w.run(200, func() bool { return len(w.ended) == 1 && w.at(tc.phase)() })
			if got := w.ended[0].Reason; got != tc.want {
				t.Errorf("%s: taken back for %q; want %q\n%s", tc.reason, got, tc.want, w.transcript.String())
			}
			if diff := cmp.Diff([]shift.Route{{Version: "v1", Weight: v1alpha1.Whole}}, w.tables["hosts"]); diff != "" {
				t.Errorf("routes after the way back (-want +got):\n%s", diff)
			}
			if got := w.versions["v1"].ready; got != 3 {
				t.Errorf("stable has %d ready pods; want all 3", got)
			}
		})
	}
}

func lower(w *world, table string) {
	w.tables[table] = []shift.Route{{Version: "v1", Weight: v1alpha1.Whole}, {Version: "v2", Weight: 0}}
}

func TestRaisedByHandIsPutBack(t *testing.T) {
	w := adopted(t)
	w.template = 2
	w.run(100, w.atWeight(50))
	w.tables["mesh"] = []shift.Route{{Version: "v1", Weight: 200}, {Version: "v2", Weight: 800}}
	w.pass(-1)
	if got := w.tables["mesh"][1].Weight; got != 50 {
		t.Errorf("v2 stays at %s; want it put back to 5%%", got)
	}
}

func TestMissingEvidenceOnlyHolds(t *testing.T) {
	w := adopted(t)
	w.template = 2
	w.run(100, w.atWeight(50))
	w.evidence = false
	for range 3600 {
		w.pass(-1)
		w.tick()
	}
	if w.state.Weight != 50 || w.last.Reason != v1alpha1.ReasonNoEvidence {
		t.Fatalf("after an hour without Prometheus: %s; want a hold at 5%%", w.last)
	}
	w.evidence = true
	w.run(200, func() bool { return w.state.Stable == "v2" })
}

func TestNoTrafficHolds(t *testing.T) {
	w := adopted(t)
	w.rps = 0
	w.template = 2
	w.run(100, w.atWeight(50))
	for range 3600 {
		w.pass(-1)
		w.tick()
	}
	if w.state.Weight != 50 || w.last.Reason != v1alpha1.ReasonNoTraffic {
		t.Fatalf("after an hour without traffic: %s; want a hold at 5%%", w.last)
	}
}

func TestSupersedeNeverMixesThree(t *testing.T) {
	w := adopted(t)
	w.template = 2
	w.run(100, w.atWeight(500))
	w.template = 3
	w.run(300, func() bool {
		if len(w.tables["mesh"]) > 2 {
			weighted := slices.DeleteFunc(slices.Clone(w.tables["mesh"]), func(r shift.Route) bool { return r.Weight == 0 })
			if len(weighted) > 2 {
				t.Fatalf("three versions share the traffic: %v", w.tables["mesh"])
			}
		}
		return w.state.Stable == "v3"
	})
	if w.ended[0].Reason != v1alpha1.ReasonSuperseded || w.ended[0].Version != "v2" {
		t.Errorf("first outcome %+v; want v2 superseded", w.ended[0])
	}
}

func TestRejectedIsRememberedUntilRetried(t *testing.T) {
	w := adopted(t)
	w.errorRate[2] = 1
	w.template = 2
	w.run(200, w.at(v1alpha1.PhaseFailed))
	for range 100 {
		w.pass(-1)
		w.tick()
	}
	if len(w.ended) != 1 {
		t.Fatalf("the rejected template was tried again: %+v", w.ended)
	}
	w.errorRate[2] = 0
	w.intents.Retry = "v2"
	w.run(200, func() bool { return w.state.Stable == "v2" })
}

// refusedOnce is a world whose v2 was refused, and would be good now.
func refusedOnce(t *testing.T) *world {
	t.Helper()
	w := adopted(t)
	w.errorRate[2] = 1
	w.release(2)
	w.run(200, w.at(v1alpha1.PhaseFailed))
	clear(w.errorRate)
	return w
}

// Who goes back to the stable version's template and then to the refused one asks for it anew.
func TestGoingBackToStableForgetsTheRefusal(t *testing.T) {
	w := refusedOnce(t)
	w.release(1)
	w.run(5, w.at(v1alpha1.PhaseStable))
	w.wait(10)
	if w.state.Rejected != "" {
		t.Fatalf("with the stable version's template, %s is still refused", w.state.Rejected)
	}
	w.release(2)
	w.run(200, w.stableIs("v2"))
	if len(w.ended) != 2 || w.ended[1].Version != "v2" || w.ended[1].Reason != v1alpha1.ReasonPromoted {
		t.Errorf("outcomes %+v; want v2 refused, then promoted under its own number", w.ended)
	}
	if got := w.verdicts["v2"]; got != v1alpha1.ReasonPromoted {
		t.Errorf("the record of v2 says %s", got)
	}
}

// What is bad still is refused again, with an entry of its own.
func TestARefusedTemplateIsJudgedAnewAfterStable(t *testing.T) {
	w := refusedOnce(t)
	w.errorRate[2] = 1
	w.release(1)
	w.wait(10)
	w.release(2)
	w.run(200, func() bool { return len(w.ended) == 2 && w.at(v1alpha1.PhaseFailed)() })
	if w.state.Rejected != "v2" || w.state.LastVersion != 2 {
		t.Errorf("rejected %s, last version %d; want v2 again, and no new number", w.state.Rejected, w.state.LastVersion)
	}
}

// Undo sets the template back itself. That is nobody's wish to try the refused one again: what manages the Deployment may well put it
// there again in a moment.
func TestUndoDoesNotForgetTheRefusal(t *testing.T) {
	w := refusedOnce(t)
	obs := w.observe()
	obs.Requests = []shift.Request{{Action: v1alpha1.ActionUndo, Source: v1alpha1.SourceField, Value: "v1", By: "somebody"}}
	if d := w.decide(obs); d.Next.Rejected != "v2" {
		t.Fatal("the refusal is forgotten before the template was set back")
	}
	w.asks(v1alpha1.ActionUndo, "v1")
	w.run(10, w.at(v1alpha1.PhaseStable))
	w.wait(10)
	w.generation++ // somebody scales the Deployment, or pauses it
	w.wait(2)
	if w.template != 1 || w.state.Rejected != "v2" {
		t.Fatalf("after the undo: template %d, rejected %q; want that of v1, and v2", w.template, w.state.Rejected)
	}
	w.release(2) // as git does
	w.wait(50)
	if w.state.Phase != v1alpha1.PhaseFailed || len(w.ended) != 1 {
		t.Fatalf("%s, outcomes %+v; want v2 refused as before", w.last, w.ended)
	}
	w.release(1)
	w.wait(10)
	w.release(2)
	w.run(200, w.stableIs("v2"))
}

// An undo in the middle of the way back is Sluice's own write as well.
func TestUndoOnTheWayBackDoesNotForgetTheRefusal(t *testing.T) {
	w := adopted(t)
	w.release(2)
	w.run(100, w.atWeight(500))
	w.versions["v1"].ready = 0
	w.intents.Abort = "v2"
	w.wait(1)
	w.asks(v1alpha1.ActionUndo, "v1")
	w.run(60, func() bool { return w.state.Candidate == "" && w.template == 1 })
	w.wait(10)
	if w.state.Rejected != "v2" {
		t.Errorf("rejected is %q; want v2", w.state.Rejected)
	}
}

// A cache that lags shows the template that was there before the refused one.
func TestAStaleTemplateForgetsNoRefusal(t *testing.T) {
	w := refusedOnce(t)
	stale := w.observe()
	stale.Template.Version, stale.Template.Generation = "v1", w.generation-1
	if d := w.decide(stale); d.Next.Rejected != "v2" {
		t.Errorf("rejected is %q; want v2", d.Next.Rejected)
	}
	gone := w.observe()
	gone.Template = shift.Template{}
	if d := w.decide(gone); d.Next.Rejected != "v2" {
		t.Errorf("without a Deployment, rejected is %q; want v2", d.Next.Rejected)
	}
}

func TestLoweringGoesAsFarAsStableBears(t *testing.T) {
	w := adopted(t)
	w.template = 2
	w.run(100, w.atWeight(500))
	w.broken[1] = true
	w.versions["v1"].ready = 0
	w.intents.Abort = "v2"
	w.pass(-1)
	if got := w.state.Weight; got != 500 || w.last.Reason != v1alpha1.ReasonStableUnavailable {
		t.Errorf("stable has no ready pod; v2 has %s (%s), want its 50%% kept", got, w.last.Reason)
	}
	six := int32(6)
	w.spec.Replicas = &six // one pod of six bears a quarter, with headroom: v2 keeps no more than it has
	w.versions["v1"].ready = 1
	w.pass(-1)
	if got := w.state.Weight; got != 500 {
		t.Errorf("one of six stable pods bears 25%%; v2 has %s, want its 50%% kept", got)
	}
	w.versions["v1"].ready = 3
	w.pass(-1)
	if got := w.state.Weight; got != 250 {
		t.Errorf("three of six stable pods bear 75%%; v2 has %s, want 25%%", got)
	}
	w.versions["v1"].ready = 4
	w.pass(-1)
	if got := w.state.Weight; got != 0 {
		t.Errorf("four of six stable pods bear it all; v2 has %s", got)
	}
}

func TestSlightWeightGoesAtOnceThoughStableIsShort(t *testing.T) {
	w := adopted(t)
	w.errorRate[2] = 1
	w.template = 2
	w.run(100, w.atWeight(50))
	w.broken[1] = true
	w.versions["v1"].ready = 1
	w.run(5, func() bool { return w.state.Weight == 0 })
}

func TestARetreatHappensOnce(t *testing.T) {
	w := adopted(t)
	w.template = 2
	w.noHost = from(500)
	w.run(300, w.at(v1alpha1.PhaseFailed))
	if got := w.ended[0].Reason; got != v1alpha1.ReasonNoHealthyUpstream {
		t.Errorf("ended as %s; want %s after one retreat", got, v1alpha1.ReasonNoHealthyUpstream)
	}
}

func TestDeadlineStopsWhilePaused(t *testing.T) {
	w := adopted(t)
	w.broken[2] = true
	w.spec.Deadline.Duration = 20 * time.Second
	w.template = 2
	for range 10 {
		w.pass(-1)
		w.tick()
	}
	w.spec.Paused = true
	for range 100 {
		w.pass(-1)
		w.tick()
	}
	if w.state.Phase != v1alpha1.PhaseProgressing {
		t.Fatalf("the deadline ran while paused: %s", w.last)
	}
	w.spec.Paused = false
	w.run(40, w.at(v1alpha1.PhaseFailed))
}

// What is waited for is over when the decision has said: a hold, a bake, and, to the second, the time for pods.
func TestUntilIsWhenTheWaitEnds(t *testing.T) {
	w := adopted(t)
	w.spec.Deadline.Duration = time.Minute
	w.release(2)
	for _, reason := range []string{v1alpha1.ReasonHolding, v1alpha1.ReasonBaking} {
		w.run(300, func() bool { return w.last.Reason == reason })
		until := w.last.Until
		if until.IsZero() {
			t.Fatalf("%s: no clock says until when", w.last)
		}
		w.run(300, func() bool { return w.last.Reason != reason })
		if over := w.now.Sub(until); over < 0 || over > 2*time.Second {
			t.Errorf("%s was to be over at %s, and was at %s", reason, until.Format(time.TimeOnly), w.now.Format(time.TimeOnly))
		}
	}
	w.broken[3] = true
	w.release(3)
	w.run(60, func() bool { return w.last.Reason == v1alpha1.ReasonWaitingForPods && !w.last.Until.IsZero() })
	until := w.last.Until
	w.run(120, w.at(v1alpha1.PhaseFailed))
	if over := w.ended[len(w.ended)-1].EndedAt.Sub(until); over < -time.Second || over > 5*time.Second {
		t.Errorf("given up at %s; it was said to be at %s", w.ended[len(w.ended)-1].EndedAt.Format(time.TimeOnly), until.Format(time.TimeOnly))
	}
	if !w.last.Until.IsZero() {
		t.Errorf("%s: at rest it waits until %s", w.last, w.last.Until)
	}
}

func TestHandingBackBringsTheTemplateUpFirst(t *testing.T) {
	w := adopted(t)
	w.intents.Detach = true
	w.run(100, func() bool {
		if len(w.tables) == 0 && w.templateRun.ready < 3 {
			t.Fatalf("the routes let go with %d of 3 template pods ready", w.templateRun.ready)
		}
		return w.state.Stage == v1alpha1.StageReleased
	})
	if w.held || w.templateRun.replicas != 3 || len(w.versions) != 0 || w.rule {
		t.Errorf("left behind: held %t, replicas %d, versions %v, rule %t", w.held, w.templateRun.replicas, w.versions, w.rule)
	}
}

// Whoever takes the annotations away may take the mark with them: kubectl rollout undo puts those of an old ReplicaSet in their place.
func TestHandingBackWithoutTheMarkBringsTheTemplateUpFirst(t *testing.T) {
	for template, want := range map[int]string{1: v1alpha1.ReasonDetached, 2: v1alpha1.ReasonTemplateNotStable} {
		w := adopted(t)
		w.held, w.template, w.intents.Detach = false, template, true
		for range 100 {
			w.pass(-1)
			w.tick()
			if (len(w.tables) == 0 || w.bare["mesh"] || w.bare["hosts"]) && w.templateRun.ready < 3 {
				t.Fatalf("template %d: the routes let go with %d of 3 template pods ready\n%s", template, w.templateRun.ready, w.transcript.String())
			}
		}
		if w.last.Reason != want {
			t.Errorf("template %d: %s; want %s", template, w.last, want)
		}
		if template == 2 && (w.templateRun.replicas > 0 || len(w.tables) == 0) {
			t.Errorf("an unproven template runs %d pods", w.templateRun.replicas)
		}
	}
}

// A handing back that is withdrawn with the mark lost asks in its first pass for what it asks for in the next: the routes stand.
func TestAWithdrawnHandingBackWithoutTheMarkIsSeenAtOnce(t *testing.T) {
	w := adopted(t)
	w.held, w.template, w.intents.Detach = false, 2, true
	w.run(60, func() bool { return w.last.Reason == v1alpha1.ReasonTemplateNotStable })
	w.intents.Detach = false
	w.idle()
	w.pass(-1)
	if w.state.Stage != v1alpha1.StagePinning || w.state.RoutedSince == nil {
		t.Errorf("%s: stage %s, routes seen since %v; want the routes to be pinned, and to be seen", w.last, w.state.Stage, w.state.RoutedSince)
	}
}

// Status and mark are lost at once, and the template is one that was refused: users stay where they are, whether or not the service is handed back.
func TestStatusAndMarkAreLost(t *testing.T) {
	for name, detach := range map[string]bool{"Kept": false, "HandedBack": true} {
		t.Run(name, func(t *testing.T) {
			w := adopted(t)
			w.errorRate[2] = 1
			w.release(2)
			w.run(200, w.at(v1alpha1.PhaseFailed))
			w.state, w.held, w.intents.Detach = v1alpha1.State{}, false, detach
			w.after = func() {
				if got := w.weight("v1"); got < v1alpha1.Whole-50 { // that it was refused is lost as well: it may be tried again, gated
					t.Fatalf("v1 has %s; want all but a first step\n%s", got, w.transcript.String())
				}
			}
			w.wait(20)
			if w.state.Stable != "v1" || detach && w.last.Reason != v1alpha1.ReasonTemplateNotStable {
				t.Errorf("stable is %q: %s", w.state.Stable, w.last)
			}
		})
	}
}

func TestHandingBackRefusesAnUnprovenTemplate(t *testing.T) {
	w := adopted(t)
	w.errorRate[2] = 1
	w.template = 2
	w.run(200, w.at(v1alpha1.PhaseFailed))
	w.intents.Detach = true
	for range 60 {
		w.pass(-1)
		w.tick()
	}
	if w.templateRun.replicas != 0 || w.last.Reason != v1alpha1.ReasonTemplateNotStable {
		t.Fatalf("a rejected template was handed back: %s", w.last)
	}
	w.intents.Force = true
	w.run(100, func() bool { return w.state.Stage == v1alpha1.StageReleased })
}

func TestLostStatusIsFoundAgain(t *testing.T) {
	w := adopted(t)
	w.template = 2
	w.run(100, w.atWeight(500))
	w.state = v1alpha1.State{}
	w.pass(-1)
	if w.state.Stable != "v1" {
		t.Fatalf("with its status lost at 50%%, stable is %q; want v1, which was proven", w.state.Stable)
	}
	w.run(300, func() bool { return w.state.Stable == "v2" && len(w.state.Retiring) == 0 })
}

func TestContestedReplicasStopTheFight(t *testing.T) {
	w := adopted(t)
	for range 20 {
		w.templateRun.replicas = 3
		w.generation++
		w.pass(-1)
		w.tick()
	}
	if !shift.Contested(w.state) || w.templateRun.replicas != 3 {
		t.Errorf("contested %t, replicas %d; want Sluice to have stopped fighting", shift.Contested(w.state), w.templateRun.replicas)
	}
}

func TestEditedLadderMovesNothing(t *testing.T) {
	w := adopted(t)
	w.template = 2
	w.run(100, w.atWeight(50))
	w.spec.Steps = w.spec.Steps[2:]
	w.pass(-1)
	if w.state.Weight != 50 {
		t.Errorf("editing the ladder moved the weight to %s", w.state.Weight)
	}
}
