package shift_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// ask is a request as somebody writes it.
func ask(action v1alpha1.Action, value string) shift.Request {
	return shift.Request{Action: action, Source: v1alpha1.SourceAnnotation, Value: value, By: "kubectl-annotate"}
}

// asks puts a request to a world for one pass, as an annotation that is taken away once it is answered, and returns the answer.
func (w *world) asks(action v1alpha1.Action, value string) v1alpha1.ActionRecord {
	w.t.Helper()
	w.answers = nil
	w.requests = append(w.requests, ask(action, value))
	w.pass(-1)
	w.requests = w.requests[:len(w.requests)-1]
	if len(w.answers) != 1 {
		w.t.Fatalf("%s=%s was answered %d times: %+v\n%s", action, value, len(w.answers), w.answers, w.transcript.String())
	}
	return w.answers[0]
}

// second is a world whose users were on v1 once and are on v2 now.
func second(t *testing.T) *world {
	t.Helper()
	w := adopted(t)
	w.release(2)
	w.run(200, w.stableIs("v2"))
	return w
}

// places are the rows of the tables in docs/control.md: each is a place that a shift can be in, and how it comes there.
var places = map[string]func(t *testing.T) *world{
	"Adopting": func(t *testing.T) *world {
		w := newWorld(t)
		w.pass(-1)
		return w
	},
	"Stable": second,
	"Failed": func(t *testing.T) *world {
		w := second(t)
		w.errorRate[3] = 1
		w.release(3)
		w.run(200, w.at(v1alpha1.PhaseFailed))
		w.errorRate[3] = 0
		return w
	},
	"Progressing: Preparing": func(t *testing.T) *world {
		w := second(t)
		w.broken[3] = true
		w.release(3)
		w.wait(3)
		w.broken[3] = false
		return w
	},
	"Progressing: Exposing": func(t *testing.T) *world {
		w := second(t)
		w.evidence = false
		w.release(3)
		w.run(60, func() bool { return w.last.Reason == v1alpha1.ReasonNoEvidence })
		return w
	},
	"Progressing: Stepping": stepping,
	"Progressing: Stepping, paused": func(t *testing.T) *world {
		w := stepping(t)
		w.spec.Paused = true
		w.requests = []shift.Request{{Action: v1alpha1.ActionPause, Source: v1alpha1.SourceField, Value: "true", By: "git"}}
		w.wait(10)
		return w
	},
	"Progressing: Stepping, awaiting a person": func(t *testing.T) *world {
		w := second(t)
		w.spec.Gates = []v1alpha1.Gate{{Name: "look", Manual: &v1alpha1.ManualGate{Before: "50"}}}
		w.release(3)
		w.run(200, func() bool { return w.last.Reason == v1alpha1.ReasonWaitingForApproval })
		return w
	},
	"Progressing: Baking": func(t *testing.T) *world {
		w := second(t)
		w.release(3)
		w.run(200, w.atWeight(v1alpha1.Whole))
		return w
	},
	"RollingBack": func(t *testing.T) *world {
		w := stepping(t)
		w.run(100, w.atWeight(500))
		w.broken[2], w.versions["v2"].ready = true, 0 // nobody there to take the traffic back
		w.intents.Abort = "v3"
		w.pass(-1)
		w.broken[2] = false
		return w
	},
	"Suspended, wherever it stands": func(t *testing.T) *world {
		w := stepping(t)
		w.spec.Suspend = true
		return w
	},
	"Detaching": func(t *testing.T) *world {
		w := second(t)
		w.intents.Detach = true
		w.broken[w.template] = true
		w.wait(3)
		w.broken[w.template] = false
		return w
	},
}

// stepping is a world with v3 at 5%, and its route proven.
func stepping(t *testing.T) *world {
	t.Helper()
	w := second(t)
	w.release(3)
	w.run(100, func() bool { return w.state.Weight == 50 && w.state.VerifiedSince != nil })
	return w
}

// cell is one of docs/control.md: what comes of a request where a shift stands.
type cell struct{ place, request, result, message string }

// cells reads the tables of docs/control.md.
func cells(t *testing.T) []cell {
	t.Helper()
	raw, err := os.ReadFile("../../docs/control.md")
	if err != nil {
		t.Fatal(err)
	}
	var all []cell
	var header []string
	for line := range strings.SplitSeq(string(raw), "\n") {
		if !strings.HasPrefix(line, "|") {
			header = nil
			continue
		}
		columns := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range columns {
			columns[i] = strings.Trim(strings.TrimSpace(columns[i]), "`")
		}
		switch {
		case header == nil:
			header = columns
		case strings.HasPrefix(columns[0], "-"):
		case header[0] == "where it stands":
			for i, text := range columns[1:] {
				result, message, _ := strings.Cut(text, ": ")
				all = append(all, cell{columns[0], header[i+1], strings.Trim(result, "*"), message})
			}
		}
	}
	return all
}

// effects are what comes of a request that is done; each fails the test where it does not come.
var effects = map[string]func(w *world, before v1alpha1.State){
	"pause": func(w *world, _ v1alpha1.State) {
		weight := w.state.Weight
		w.spec.Paused = true
		w.wait(60)
		if w.state.Weight > weight || w.state.Phase == v1alpha1.PhaseAdopting {
			w.t.Fatalf("paused at %s, it is at %s", weight, w.last)
		}
	},
	"resume": func(w *world, before v1alpha1.State) {
		w.spec.Paused, w.spec.Suspend, w.requests, w.spec.Gates, w.evidence = false, false, nil, nil, true
		w.run(100, func() bool {
			resting := w.state.Candidate == "" && w.state.Phase != v1alpha1.PhaseAdopting
			return resting || w.state.Weight > before.Weight || w.state.Weight == v1alpha1.Whole
		})
	},
	"promote=v3": func(w *world, before v1alpha1.State) {
		w.run(8, func() bool { return w.state.Weight > before.Weight || w.state.Stable == "v3" })
		if w.spec.Paused && w.state.Stable != "v3" {
			weight := w.state.Weight
			w.wait(60)
			if w.state.Weight != weight {
				w.t.Fatalf("one step was ordered while it was paused; it went on to %s", w.last)
			}
		}
	},
	"promote=v3/all": func(w *world, _ v1alpha1.State) {
		w.evidence = true
		w.run(20, w.atWeight(v1alpha1.Whole))
		if w.ended[len(w.ended)-1].Version == "v3" {
			w.t.Fatalf("there was no bake: %+v", w.ended)
		}
	},
	"promote=v3/skip-gates": func(w *world, _ v1alpha1.State) {
		w.evidence, w.errorRate[3], w.spec.Paused = true, 1, false
		w.run(40, w.stableIs("v3"))
		if got := w.ended[len(w.ended)-1]; got.SkippedGatesBy != "kubectl-annotate" || got.Reason != v1alpha1.ReasonPromoted {
			w.t.Fatalf("it ended as %+v; want the promotion, and who skipped the gates", got)
		}
	},
	"abort=v3": func(w *world, _ v1alpha1.State) {
		w.run(60, func() bool { return w.state.Rejected == "v3" && w.state.Phase == v1alpha1.PhaseFailed })
	},
	"retry=v3": func(w *world, _ v1alpha1.State) { w.run(30, func() bool { return w.state.Candidate == "v3" }) },
	"approve=v3": func(w *world, _ v1alpha1.State) {
		w.run(30, func() bool { return w.state.Weight == 500 })
	},
	"undo=v1": func(w *world, _ v1alpha1.State) {
		w.evidence, w.spec.Paused, w.broken[2], w.spec.Gates = true, false, false, nil
		w.run(400, w.stableIs("v1"))
		if w.template != 1 {
			w.t.Fatalf("the template is %d; want that of v1", w.template)
		}
	},
	"undo=previous": func(w *world, _ v1alpha1.State) {
		if w.state.Stable == "v2" && w.records["v3"] == 0 {
			w.run(400, w.stableIs("v1"))
			return
		}
		w.run(100, func() bool { return w.template == 2 && w.at(v1alpha1.PhaseStable)() && w.state.Stable == "v2" })
	},
	"restart=v2": func(w *world, _ v1alpha1.State) {
		w.wait(2)
		if w.restarts["v2"] == "" || w.state.Restart != nil {
			w.t.Fatalf("v2 was restarted at %q; state %+v", w.restarts["v2"], w.state.Restart)
		}
	},
}

// TestEveryActionInEveryPhase asks for everything everywhere, and holds the answers to the tables of docs/control.md: what is done, and
// comes of it, and what is refused, with the reason, and changes nothing.
func TestEveryActionInEveryPhase(t *testing.T) {
	all := cells(t)
	if want := len(places) * len(effects); len(all) != want {
		t.Errorf("docs/control.md has %d cells; want %d, one for each of %d places and %d requests", len(all), want, len(places), len(effects))
	}
	for _, c := range all {
		t.Run(c.place+" "+c.request, func(t *testing.T) {
			place, known := places[c.place]
			if !known {
				t.Fatalf("no such place")
			}
			w := place(t)
			before := w.state
			action, value, _ := strings.Cut(c.request, "=")
			switch v1alpha1.Action(action) {
			case v1alpha1.ActionPause:
				value = "true"
			case v1alpha1.ActionResume:
				value = "false"
			}
			unasked := w.decide(w.observe())
			w.requests = append(w.requests, ask(v1alpha1.Action(action), value))
			asked := w.decide(w.observe())
			w.requests = w.requests[:len(w.requests)-1]
			got := w.asks(v1alpha1.Action(action), value)
			if string(got.Result) != c.result || !strings.Contains(got.Message, c.message) || c.message == "" {
				t.Fatalf("%s: %s\n%s", got.Result, got.Message, w.transcript.String())
			}
			if got.Result == v1alpha1.ResultDone {
				effects[c.request](w, before)
				return
			}
			if diff := cmp.Diff(unasked, asked, cmpopts.IgnoreFields(shift.Decision{}, "Actions"), cmpopts.IgnoreFields(v1alpha1.State{}, "Answered"), cmpopts.EquateNaNs()); diff != "" {
				t.Errorf("it is refused, and changes something (-unasked +asked):\n%s", diff)
			}
		})
	}
}

// Who asks something of a suspended shift is told at once, wherever it stands, and nothing of it is kept for later. Handing back is not
// suspended.
func TestASuspendedShiftRefusesWhatIsAsked(t *testing.T) {
	requests := map[v1alpha1.Action]string{
		v1alpha1.ActionAbort: "v3", v1alpha1.ActionRetry: "v3", v1alpha1.ActionApprove: "v3", v1alpha1.ActionPromote: "v3/skip-gates", v1alpha1.ActionUndo: "v1", v1alpha1.ActionRestart: "v2",
	}
	for name, place := range places {
		if name == "Detaching" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			w := place(t)
			w.spec.Suspend = true
			w.pass(-1)
			before := w.state
			for action, value := range requests {
				if got := w.asks(action, value); got.Result != v1alpha1.ResultRefused || !strings.Contains(got.Message, "unset spec.suspend") {
					t.Errorf("%s=%s: %+v", action, value, got)
				}
			}
			if diff := cmp.Diff(before, w.state, cmpopts.IgnoreFields(v1alpha1.State{}, "Answered")); diff != "" {
				t.Errorf("what is refused changes something (-before +after):\n%s", diff)
			}
		})
	}
}

// A field that stood there while a shift was suspended was answered, and does not come true later; asked anew it does.
func TestWhatWasRefusedWhileSuspendedIsNotKept(t *testing.T) {
	w := stepping(t)
	w.spec.Suspend, w.intents.Abort = true, "v3"
	w.pass(-1)
	w.spec.Suspend = false
	w.run(60, w.atWeight(500))
	w.intents.Abort = "v3#again"
	w.run(60, w.at(v1alpha1.PhaseFailed))
}

// A pause that comes while a shift is suspended holds it when that ends, whatever was ordered before.
func TestAPauseOfASuspendedShiftHoldsItAfterwards(t *testing.T) {
	w := stepping(t)
	w.broken[3] = true
	w.asks(v1alpha1.ActionPromote, "v3/all")
	if w.state.Order == nil {
		t.Fatalf("the order is carried out: %s", w.last)
	}
	w.spec.Suspend, w.spec.Paused = true, true
	pause := ask(v1alpha1.ActionPause, "true")
	w.requests = append(w.requests, pause)
	w.pass(-1)
	w.broken[3], w.spec.Suspend = false, false
	w.wait(60)
	if w.state.Weight != 50 || w.last.Reason != v1alpha1.ReasonPaused {
		t.Errorf("paused while it was suspended, it is at %s: %s", w.state.Weight, w.last)
	}
	w.spec.Suspend = true
	w.requests, w.answers = nil, nil
	if got := w.asks(v1alpha1.ActionResume, "false"); got.Result != v1alpha1.ResultDone || !strings.Contains(got.Message, "until spec.suspend is unset") {
		t.Errorf("%+v", got)
	}
}

// A field stands where it is. It asks once for each value, also where the process dies between the answer and what follows from it.
func TestAFieldAsksOnceForEachValue(t *testing.T) {
	w := stepping(t)
	w.spec.Paused = true
	field := shift.Request{Action: v1alpha1.ActionPromote, Source: v1alpha1.SourceField, Value: "v3", By: "argocd"}
	w.requests = []shift.Request{field}
	w.run(8, w.atWeight(500))
	w.wait(60)
	if w.state.Weight != 500 {
		t.Fatalf("one field took it on twice: %s", w.last)
	}
	w.requests[0].Value = "v3@50#again"
	w.run(8, w.atWeight(v1alpha1.Whole))
	w.requests = nil
	w.pass(-1)
	if len(w.state.Answered) != 0 {
		t.Errorf("a field that is gone is remembered: %+v", w.state.Answered)
	}
	w.requests = []shift.Request{field}
	w.run(40, w.stableIs("v3"))
}

func TestAStepFromAWeightThatIsLeftIsRefused(t *testing.T) {
	w := stepping(t)
	w.spec.Paused = true
	if got := w.asks(v1alpha1.ActionPromote, "v3@5%"); got.Result != v1alpha1.ResultDone {
		t.Fatalf("%+v", got)
	}
	w.run(8, w.atWeight(500))
	if got := w.asks(v1alpha1.ActionPromote, "v3@5%"); got.Result != v1alpha1.ResultRefused || got.Message != "v3 stands at 50%, and not at 5%" {
		t.Errorf("%+v", got)
	}
}

func TestWhatCannotBeReadIsRefusedWithWhatIsAccepted(t *testing.T) {
	w := stepping(t)
	for value, action := range map[string]v1alpha1.Action{
		"": v1alpha1.ActionAbort, "true": v1alpha1.ActionAbort, "v0": v1alpha1.ActionRetry, "v3/every": v1alpha1.ActionPromote, "v3@101": v1alpha1.ActionPromote,
		"v3#": v1alpha1.ActionApprove, "last": v1alpha1.ActionUndo, "yes": v1alpha1.ActionPause,
	} {
		got := w.asks(action, value)
		if says := strings.Contains(got.Message, "accept") || strings.Contains(got.Message, "must be"); got.Result != v1alpha1.ResultRefused || !says {
			t.Errorf("%s=%q: %+v", action, value, got)
		}
	}
}

// A gate that fails takes a candidate back whatever was ordered, short of skipping it.
func TestAnOrderTo100IsNoWayAroundAGateThatFails(t *testing.T) {
	for value, want := range map[string]string{"v3/all": v1alpha1.ReasonErrorRateVsStable, "v3": v1alpha1.ReasonErrorRateVsStable} {
		t.Run(value, func(t *testing.T) {
			w := stepping(t)
			w.errorRate[3] = 0.5
			w.asks(v1alpha1.ActionPromote, value)
			w.run(60, w.at(v1alpha1.PhaseFailed))
			if got := w.ended[len(w.ended)-1]; got.Reason != want || got.SkippedGatesBy != "" {
				t.Errorf("it ended as %+v; want %s", got, want)
			}
		})
	}
}

// The emergency: Prometheus is gone, the release is urgent, and the candidate fails everything that can be measured.
func TestSkippingTheGatesNeedsNoEvidenceAndLeavesAWayBack(t *testing.T) {
	w := stepping(t)
	w.evidence, w.noHost = false, from(1)
	w.asks(v1alpha1.ActionPromote, "v3/skip-gates")
	w.run(20, w.atWeight(v1alpha1.Whole))
	w.evidence, w.errorRate[3] = true, 1
	w.wait(4)
	if w.state.Weight != v1alpha1.Whole || w.last.Reason != v1alpha1.ReasonBaking {
		t.Fatalf("%s; want it to bake with its gates skipped", w.last)
	}
	w.asks(v1alpha1.ActionAbort, "v3")
	w.run(60, w.at(v1alpha1.PhaseFailed))
	if got := w.ended[len(w.ended)-1]; got.Reason != v1alpha1.ReasonAborted || got.SkippedGatesBy != "kubectl-annotate" {
		t.Errorf("it ended as %+v; want the abort, and who had skipped the gates", got)
	}
}

func TestSkippingTheGatesStillAnswersPodsThatCrash(t *testing.T) {
	w := stepping(t)
	w.asks(v1alpha1.ActionPromote, "v3/skip-gates")
	w.run(20, w.atWeight(v1alpha1.Whole))
	w.versions["v3"].restarts = 2
	w.run(60, w.at(v1alpha1.PhaseFailed))
}

func TestAPauseCallsAnOrderOff(t *testing.T) {
	w := stepping(t)
	w.broken[3] = true // the pods for 100 do not come
	w.asks(v1alpha1.ActionPromote, "v3/all")
	w.wait(3)
	if w.state.Order == nil || w.versions["v3"].replicas != 3 {
		t.Fatalf("order %+v, %d pods; want it to wait for three pods", w.state.Order, w.versions["v3"].replicas)
	}
	w.spec.Paused = true
	if got := w.asks(v1alpha1.ActionPause, "true"); w.state.Order != nil || !strings.Contains(got.Message, "what kubectl-annotate had ordered is off") {
		t.Fatalf("%+v, order %+v", got, w.state.Order)
	}
	w.broken[3] = false
	w.wait(60)
	if w.state.Weight != 50 {
		t.Errorf("%s; want it to stay", w.last)
	}
}

func TestAFieldThatPausedAndIsGoneIsAResume(t *testing.T) {
	w := stepping(t)
	w.spec.Paused = true
	w.requests = []shift.Request{{Action: v1alpha1.ActionPause, Source: v1alpha1.SourceField, Value: "true", By: "git"}}
	w.wait(2)
	w.spec.Paused, w.requests, w.answers = false, nil, nil
	w.wait(2)
	if len(w.answers) != 1 || w.answers[0].Action != v1alpha1.ActionResume || w.answers[0].Message != "v3 goes on from 5%" {
		t.Errorf("answers %+v; want one resume", w.answers)
	}
}

// Undo is a release like any other: a version that was good once and is bad now is refused, and its template not tried again.
func TestUndoIsGated(t *testing.T) {
	w := second(t)
	w.errorRate[1] = 0.5
	w.asks(v1alpha1.ActionUndo, "v1")
	w.run(200, w.at(v1alpha1.PhaseFailed))
	if w.state.Stable != "v2" || w.state.Rejected != "v1" || w.template != 1 {
		t.Fatalf("stable %s, rejected %s, template %d; want v1 refused", w.state.Stable, w.state.Rejected, w.template)
	}
	w.asks(v1alpha1.ActionUndo, "previous") // of what was refused: the Deployment says again what users are on
	w.run(20, w.at(v1alpha1.PhaseStable))
	if w.template != 2 {
		t.Errorf("the template is %d; want that of v2", w.template)
	}
	if got := w.asks(v1alpha1.ActionUndo, "v1"); got.Result != v1alpha1.ResultRefused || !strings.Contains(got.Message, "v1 was refused when it was tried last (ErrorRate") {
		t.Errorf("%+v", got)
	}
}

func TestUndoIsRefusedWhereThereIsNothingToGoBackTo(t *testing.T) {
	w := second(t)
	w.release(3)
	w.run(100, w.atWeight(50))
	w.asks(v1alpha1.ActionUndo, "previous")
	w.run(100, func() bool { return w.at(v1alpha1.PhaseStable)() && w.state.Candidate == "" })
	for version, want := range map[string]string{
		"v2": "the Deployment's template is that of v2 already", "v3": "v3 was never promoted", "v9": "v9 is not known",
	} {
		if got := w.asks(v1alpha1.ActionUndo, version); got.Result != v1alpha1.ResultRefused || !strings.Contains(got.Message, want) {
			t.Errorf("%s: %+v; want %q", version, got, want)
		}
	}
	first := adopted(t)
	if got := first.asks(v1alpha1.ActionUndo, "previous"); got.Message != "no version was promoted before v1" {
		t.Errorf("%+v", got)
	}
}

// Undo and undo again goes there and back, as it does with kubectl; where the status was lost, the records tell as much as they can.
func TestPreviousIsWhatUsersWereOn(t *testing.T) {
	w := second(t)
	w.asks(v1alpha1.ActionUndo, "previous")
	w.run(200, w.stableIs("v1"))
	if got := w.asks(v1alpha1.ActionUndo, "previous"); got.Version != "v2" {
		t.Fatalf("%+v; want v2", got)
	}
	w.run(200, w.stableIs("v2"))
	w.state.Previous = ""
	if got := w.asks(v1alpha1.ActionUndo, ""); got.Version != "v1" {
		t.Errorf("%+v; want v1", got)
	}
}

// The way back from the bake is one write: the pass that is asked takes the traffic back.
func TestUndoInTheBakeIsInstant(t *testing.T) {
	w := places["Progressing: Baking"](t)
	w.asks(v1alpha1.ActionUndo, "previous")
	if got := w.weight("v3"); got != 0 {
		t.Errorf("v3 has %s; want nothing at once\n%s", got, w.transcript.String())
	}
}

// Somebody else's template is the newer wish, and is not fought over.
func TestUndoIsWrittenOnce(t *testing.T) {
	w := second(t)
	w.after = func() {
		if w.template == 1 && w.state.Undo != nil {
			w.release(3) // git puts its own back before it is even seen
		}
	}
	w.asks(v1alpha1.ActionUndo, "v1")
	w.after, w.answers = func() {}, nil
	w.run(200, w.stableIs("v3"))
	if len(w.answers) != 1 || w.answers[0].Result != v1alpha1.ResultRefused || !strings.Contains(w.answers[0].Message, "changed by somebody else") {
		t.Errorf("answers %+v; want it told that it was overtaken", w.answers)
	}
}

// A template that nobody may run ungated keeps the service from being handed back: undo is the way out that the message asks for.
func TestUndoLetsAServiceGoThatWaitsForItsTemplate(t *testing.T) {
	w := second(t)
	w.errorRate[3] = 1
	w.release(3)
	w.run(200, w.at(v1alpha1.PhaseFailed))
	w.intents.Detach = true
	w.wait(3)
	if w.last.Reason != v1alpha1.ReasonTemplateNotStable {
		t.Fatalf("%s", w.last)
	}
	w.asks(v1alpha1.ActionUndo, "previous")
	w.run(100, func() bool { return w.state.Stage == v1alpha1.StageReleased })
	if w.template != 2 {
		t.Errorf("the template is %d; want that of v2", w.template)
	}
}

// A status that was lost, or a TrafficShift that comes with a request from wherever it was copied, does nothing.
func TestWhatStandsThereFromTheBeginningIsRefused(t *testing.T) {
	w := second(t)
	w.requests = []shift.Request{
		{Action: v1alpha1.ActionUndo, Source: v1alpha1.SourceField, Value: "v1"}, {Action: v1alpha1.ActionRestart, Source: v1alpha1.SourceField, Value: "v2"},
	}
	w.state = v1alpha1.State{}
	w.run(60, w.at(v1alpha1.PhaseStable))
	w.wait(60)
	if w.template != 2 || w.state.Stable != "v2" || len(w.restarts) > 0 {
		t.Errorf("template %d, stable %s, restarts %v; want nothing done", w.template, w.state.Stable, w.restarts)
	}
}

// Whatever the strategy, one order is one rung, all is 100 at once, and neither asks for evidence, a hold or a person.
func TestAnOrderTakesEveryStrategyOn(t *testing.T) {
	for name, s := range strategies {
		for how, done := range map[string]func(w *world, from v1alpha1.State) bool{
			"": func(w *world, from v1alpha1.State) bool {
				return w.state.Rung > from.Rung || w.state.Weight > from.Weight || w.stableIs("v2")()
			},
			"/all":        func(w *world, _ v1alpha1.State) bool { return w.state.Weight == v1alpha1.Whole || w.stableIs("v2")() },
			"/skip-gates": func(w *world, _ v1alpha1.State) bool { return w.stableIs("v2")() },
		} {
			t.Run(name+how, func(t *testing.T) {
				w := adopted(t)
				s(w)
				w.release(2)
				w.run(60, func() bool { return shift.Exposed(w.state) && w.state.RoutedSince != nil })
				w.evidence = false
				if w.state.Stage == v1alpha1.StageBaking && how == "/all" {
					return // it is at 100 from the first
				}
				from := w.state
				if got := w.asks(v1alpha1.ActionPromote, "v2"+how); got.Result != v1alpha1.ResultDone {
					t.Fatalf("%+v", got)
				}
				w.run(30, func() bool { return done(w, from) })
			})
		}
	}
}

// What is ordered on in a pause waits for its pods until the deadline, as it would without the pause.
func TestAnOrderInAPauseHasADeadline(t *testing.T) {
	w := stepping(t)
	w.spec.Paused, w.spec.Deadline.Duration, w.room = true, 30*time.Second, 4
	w.wait(2)
	if got := w.asks(v1alpha1.ActionPromote, "v3/all"); got.Result != v1alpha1.ResultDone {
		t.Fatalf("%+v", got)
	}
	w.run(60, w.at(v1alpha1.PhaseFailed))
	if got := w.ended[len(w.ended)-1]; got.Reason != v1alpha1.ReasonNotReadyInTime {
		t.Errorf("ended as %s: %s", got.Reason, got.Message)
	}
}
