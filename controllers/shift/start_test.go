package shift_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
	"github.com/sluice-dev/sluice/metrics/analysis"
)

// unmet reports whether nobody meets the candidate: no weight, no match, no mirror, and no step that shows it.
func (w *world) unmet() bool {
	for _, name := range tableNames {
		if w.mirrored[name].Version == w.state.Candidate || w.matched[name] == w.state.Candidate {
			return false
		}
	}
	return !shift.Exposed(w.state) && w.state.Candidate != ""
}

// Whatever shows a candidate first, a gate at the start keeps it from that for as long as it says wait, and no longer; the time costs no
// deadline.
func TestAGateAtTheStartKeepsACandidateBack(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(strategies)) {
		t.Run(name, func(t *testing.T) {
			w := adopted(t)
			strategies[name](w)
			w.deskAtStart()
			w.spec.Deadline = &metav1.Duration{Duration: 10 * time.Second}
			if w.spec.SkipAnalysis {
				t.Skip("no gate is asked")
			}
			w.desk = analysis.Inconclusive
			w.release(2)
			w.wait(60)
			if !w.unmet() || w.last.Reason != v1alpha1.ReasonGateInconclusive || !strings.Contains(w.last.Message, "before anybody meets v2: gate desk: said the desk") {
				t.Fatalf("told to wait: %s; want it kept back\n%s", w.last, w.transcript.String())
			}
			w.desk = analysis.Pass
			w.run(10, func() bool { return shift.Exposed(w.state) })
			w.desk = analysis.Fail // it is not asked any more
			w.wait(20)
			refused := slices.ContainsFunc(w.ended, func(o v1alpha1.Outcome) bool { return o.Reason != v1alpha1.ReasonPromoted })
			if refused || len(w.state.Checks) > 0 {
				t.Errorf("after the start: %s, checks %v; want the gate asked no more\n%s", w.last, w.state.Checks, w.transcript.String())
			}
		})
	}
}

func TestAGateAtTheStart(t *testing.T) {
	tests := map[string]struct {
		gate func(*v1alpha1.Gate)
		says analysis.Outcome
		want string // reason
		met  bool
	}{
		"Fails":         {func(*v1alpha1.Gate) {}, analysis.Fail, v1alpha1.ReasonGateFailed, false},
		"IsADryRun":     {func(g *v1alpha1.Gate) { g.DryRun = true }, analysis.Fail, v1alpha1.ReasonPromoted, true},
		"Passes":        {func(*v1alpha1.Gate) {}, analysis.Pass, v1alpha1.ReasonPromoted, true},
		"OfAQueryFails": {func(g *v1alpha1.Gate) { asQuery(g, 3) }, analysis.Fail, v1alpha1.ReasonGateFailed, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := adopted(t)
			tc.gate(w.deskAtStart())
			w.desk = tc.says
			met := false
			w.after = func() { met = met || w.state.Candidate != "" && !w.unmet() }
			w.release(2)
			w.run(200, func() bool { return len(w.ended) > 0 })
			if got := w.ended[0]; got.Reason != tc.want || met != tc.met {
				t.Errorf("ended as %s (%s), met %t; want %s, %t\n%s", got.Reason, got.Message, met, tc.want, tc.met, w.transcript.String())
			}
		})
	}
}

// asQuery makes a gate one that takes so many readings in a row to convict.
func asQuery(g *v1alpha1.Gate, failures int32) {
	g.Webhook, g.Query = nil, &v1alpha1.QueryGate{PromQL: "up", Min: "1", Failures: &failures, Window: &metav1.Duration{Duration: time.Second}}
}

// A reading counts from the time on that the pods are ready: what was said of the candidate before says nothing, and a query convicts no sooner
// than its owner wants.
func TestAReadingAtTheStartCountsFromThen(t *testing.T) {
	w := adopted(t)
	asQuery(w.deskAtStart(), 3)
	w.desk = analysis.Inconclusive
	w.release(2)
	w.run(60, func() bool { return w.state.Stage == v1alpha1.StageExposing })
	obs := w.observe()
	obs.Checks = []shift.Check{{Gate: "desk", ReadAt: w.state.StageSince.Add(-time.Second), Outcome: analysis.Fail}}
	if d := w.decide(obs); d.Next.Phase != v1alpha1.PhaseProgressing || d.Verdicts[0].Reason != v1alpha1.ReasonGateNotAsked {
		t.Errorf("a reading from before: %s, %+v; want it not to count", d, d.Verdicts)
	}
	w.desk = analysis.Fail
	w.wait(3)
	if w.state.Phase != v1alpha1.PhaseProgressing || w.last.Reason != v1alpha1.ReasonProvingIsolation && w.last.Reason != v1alpha1.ReasonGateFailing {
		t.Errorf("after two readings of three: %s; want a hold", w.last)
	}
}

// Who sends a candidate on goes past a gate that says wait, and not past one that fails.
func TestAnOrderAtTheStart(t *testing.T) {
	for says, want := range map[analysis.Outcome]bool{analysis.Inconclusive: true, analysis.Fail: false} {
		w := adopted(t)
		w.deskAtStart()
		w.desk = analysis.Inconclusive
		w.release(2)
		w.wait(30)
		w.desk = says
		w.requests = []shift.Request{{Action: v1alpha1.ActionPromote, Source: v1alpha1.SourceField, Value: "v2"}}
		w.wait(2)
		if got := shift.Exposed(w.state); got != want {
			t.Errorf("an order past a gate that says %s: %s", says, w.last)
		}
	}
}
