package shift_test

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
	"github.com/sluice-dev/sluice/metrics/analysis"
)

func auto(w *world) {
	w.spec.Pacing, w.spec.Steps = v1alpha1.PacingAuto, nil
}

// query adds a gate of the owner's own that takes a candidate back at its second reading in a row out of bounds.
func query(w *world) *v1alpha1.Gate {
	w.spec.Gates = append(w.spec.Gates, v1alpha1.Gate{Name: "checkout", Query: &v1alpha1.QueryGate{PromQL: "up", Min: "0.95", Window: &metav1.Duration{Duration: time.Second}}})
	w.spec.Default()
	return &w.spec.Gates[len(w.spec.Gates)-1]
}

// read has the gate read once, now.
func (w *world) read(o analysis.Outcome, message string) {
	w.checks = []shift.Check{{Gate: "checkout", ReadAt: w.now, Outcome: o, Value: math.NaN(), Limit: math.NaN(), Message: message}}
}

func TestAutoRaisesByEvidenceAndPromotes(t *testing.T) {
	w := adopted(t)
	auto(w)
	w.release(2)
	var weights []string
	for range 300 {
		w.pass(-1)
		if s := w.state.Weight.String(); w.state.Candidate != "" && (len(weights) == 0 || weights[len(weights)-1] != s) {
			weights = append(weights, s)
		}
		w.tick()
	}
	if w.state.Stable != "v2" || w.state.Phase != v1alpha1.PhaseStable {
		t.Fatalf("a good candidate is %s after the weights %v\n%s", w.last, weights, w.transcript.String())
	}
	if len(weights) < 4 || weights[len(weights)-1] != "100%" {
		t.Errorf("it went through %v; want several weights of its own choice", weights)
	}
}

// With a budget of few failures and much traffic, the first weights are finer than a percent.
func TestAutoIsFinerThanAPercentWhereTrafficJustifiesIt(t *testing.T) {
	w := adopted(t)
	auto(w)
	w.rps = 10000
	w.release(2)
	w.run(60, func() bool { return w.state.Weight > 0 })
	if w.state.Weight >= 10 {
		t.Errorf("the first weight at %d requests a second is %s; want less than 1%%", w.rps, w.state.Weight)
	}
}

func TestAutoHoldsBackWhatItCannotKnow(t *testing.T) {
	w := adopted(t)
	auto(w)
	w.rps = 20 // one request of the candidate's a second, at the first weight
	w.release(2)
	w.run(120, func() bool { return strings.Contains(w.last.Message, "insufficient data") })
	if w.state.Weight > 250 || !strings.Contains(w.last.Message, "at this traffic ~") {
		t.Errorf("with little traffic: %s; want little weight, and how long the proof takes", w.last)
	}
}

func TestASharedOutageHoldsAndIsSurvived(t *testing.T) {
	for name, pace := range map[string]func(*world){"auto": auto, "ladder": func(*world) {}} {
		t.Run(name, func(t *testing.T) {
			w := adopted(t)
			pace(w)
			w.rps = 1000
			w.release(2)
			w.run(60, func() bool { return w.state.Weight >= 50 })
			w.errorRate[1], w.errorRate[2] = 0.2, 0.24
			w.wait(60)
			if w.state.Candidate != "v2" || w.state.Weight > 50 || w.last.Reason != v1alpha1.ReasonStableFailing {
				t.Fatalf("in an outage: %s; want a hold at the first weight\n%s", w.last, w.transcript.String())
			}
			clear(w.errorRate)
			w.run(600, w.at(v1alpha1.PhaseStable))
			if w.state.Stable != "v2" {
				t.Errorf("after the outage: %s; want v2 promoted\n%s", w.last, w.transcript.String())
			}
		})
	}
}

// A version that fails only where it has much traffic comes under suspicion each time it gets it.
func TestOneThatRelapsesIsTakenBack(t *testing.T) {
	w := adopted(t)
	w.release(2)
	for range 3000 {
		w.errorRate[2] = 0
		if w.state.Weight >= 500 && w.state.Gate.Candidate.Requests < 60 {
			w.errorRate[2] = 0.2 // for a moment each time
		}
		w.pass(-1)
		w.tick()
		if len(w.ended) > 0 {
			break
		}
	}
	if len(w.ended) != 1 || w.ended[0].Reason == v1alpha1.ReasonPromoted {
		t.Errorf("outcomes %+v, %s; want it taken back\n%s", w.ended, w.last, w.transcript.String())
	}
}

func TestAQueryGateTakesTwoReadingsInARow(t *testing.T) {
	w := adopted(t)
	query(w)
	w.release(2)
	w.run(60, func() bool { return w.state.Weight > 0 })
	w.wait(3)
	w.read(analysis.Fail, "0.9, below the least of 0.95")
	w.pass(-1)
	w.pass(-1) // the same reading, seen twice
	if w.state.Candidate != "v2" || w.state.Checks[0].Failures != 1 {
		t.Fatalf("after one reading: %s, %+v; want a hold", w.last, w.state.Checks)
	}
	w.tick()
	w.read(analysis.Pass, "0.97, at least 0.95")
	w.pass(-1)
	w.tick()
	w.read(analysis.Fail, "0.9, below the least of 0.95")
	w.pass(-1)
	if w.state.Candidate != "v2" {
		t.Fatalf("one reading after one that passed: %s; want a hold", w.last)
	}
	w.tick()
	w.read(analysis.Fail, "0.8, below the least of 0.95")
	w.pass(-1)
	if w.state.Phase != v1alpha1.PhaseRollingBack && w.state.Phase != v1alpha1.PhaseFailed || !strings.Contains(w.last.Message, "gate checkout: 0.8, below the least of 0.95") {
		t.Errorf("after two readings in a row: %s; want it taken back, with the reading", w.last)
	}
}

func TestAGateThatWasNotReadSinceTheFirstWeightHolds(t *testing.T) {
	w := adopted(t)
	query(w)
	w.release(2)
	w.read(analysis.Fail, "of the version before")
	w.run(60, func() bool { return w.state.Weight > 0 })
	w.wait(60)
	if w.state.Weight != 50 || w.last.Reason != v1alpha1.ReasonGateNotAsked {
		t.Errorf("%s; want a hold at the first weight until the gate is asked", w.last)
	}
}

func TestADryRunOnlyReports(t *testing.T) {
	w := adopted(t)
	query(w).DryRun = true
	w.release(2)
	reported := false
	for range 200 {
		w.read(analysis.Fail, "0.5, below the least of 0.95")
		w.pass(-1)
		for _, v := range w.decide(w.observe()).Verdicts {
			reported = reported || v.Gate == "checkout" && v.Outcome == analysis.Fail && v.DryRun
		}
		w.tick()
	}
	if !reported || w.state.Stable != "v2" {
		t.Errorf("a dry run that fails: reported %t, %s; want it reported and v2 promoted", reported, w.last)
	}
}

func TestAManualGateWaitsForAPerson(t *testing.T) {
	w := adopted(t)
	w.spec.Gates = []v1alpha1.Gate{{Name: "look", Manual: &v1alpha1.ManualGate{Before: "50"}}, {Name: "go", Manual: &v1alpha1.ManualGate{}}}
	w.spec.Default()
	w.release(2)
	w.wait(120)
	if w.state.Weight != 50 || w.last.Reason != v1alpha1.ReasonWaitingForApproval || !strings.Contains(w.last.Message, "gate look") {
		t.Fatalf("%s; want it to wait below 50%%", w.last)
	}
	w.intents.Approve = "v7"
	w.wait(5)
	if w.state.Weight != 50 {
		t.Fatalf("an approval of v7 raised %s", w.last)
	}
	w.intents.Approve = "v2"
	w.pass(-1)
	w.intents.Approve = ""
	w.wait(120)
	if w.state.Weight != 500 || w.last.Reason != v1alpha1.ReasonWaitingForApproval || !strings.Contains(w.last.Message, "gate go") {
		t.Fatalf("%s; want it to wait before 100%%", w.last)
	}
	w.intents.Approve = "v2"
	w.wait(60)
	if w.state.Stable != "v2" {
		t.Errorf("%s; want v2 promoted", w.last)
	}
}

// A manual gate before the very first weight keeps every user off the candidate.
func TestAManualGateBeforeAnyTraffic(t *testing.T) {
	w := adopted(t)
	w.spec.Gates = []v1alpha1.Gate{{Name: "look", Manual: &v1alpha1.ManualGate{Before: "0.1"}}}
	w.spec.Default()
	w.release(2)
	w.wait(60)
	if w.state.Weight != 0 || w.last.Reason != v1alpha1.ReasonWaitingForApproval {
		t.Errorf("%s; want it to wait at 0%%", w.last)
	}
}

// What stable usually does is learned before the first weight: an hour of bursts weakens what bursts of the candidate's say.
func TestHistoryIsLearnedOnce(t *testing.T) {
	w := adopted(t)
	for i := range 240 {
		at := w.now.Add(time.Duration(i-240) * 15 * time.Second)
		w.history = append(w.history, analysis.Sample{From: at, To: at.Add(15 * time.Second), Stable: analysis.Counts{Requests: 1500, Errors: 30}})
	}
	w.release(2)
	w.run(60, func() bool { return w.state.Gate.Memory != nil })
	m, err := analysis.DecodeMemory(w.state.Gate.Memory.Raw)
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Rate(15 * time.Second); got < 50 {
		t.Errorf("the traffic is known as %.1f requests a second; want about 100", got)
	}
	first := string(w.state.Gate.Memory.Raw)
	w.pass(-1)
	if string(w.state.Gate.Memory.Raw) != first {
		t.Error("the history was learned twice")
	}
}

// A memory that cannot be read is begun anew: what it had proven is not taken for granted.
func TestAMemoryThatCannotBeReadProvesNothing(t *testing.T) {
	w := adopted(t)
	w.release(2)
	w.run(120, func() bool { return w.state.Weight == 500 && w.state.VerifiedSince != nil })
	w.state.Gate.Memory.Raw = []byte(`{"v":99}`)
	d := w.decide(w.observe())
	if d.Next.Weight > 500 {
		t.Errorf("%s; want no more weight on a memory that is gone", d)
	}
}

// The API cannot import the gates: it keeps a list of their names and of the least increase that they can be asked about.
func TestTheAPIKnowsTheGates(t *testing.T) {
	refused := func(spec v1alpha1.TrafficShiftSpec, name string) bool {
		spec.Default()
		return slices.ContainsFunc(spec.Validate(field.NewPath("spec")), func(err *field.Error) bool { return err.Field == name })
	}
	for _, name := range []string{
		analysis.GateRequests, analysis.GateErrorRate, analysis.GateErrorRateVsStable, analysis.GateLatency, analysis.GateLatencyVsStable,
	} {
		if !refused(v1alpha1.TrafficShiftSpec{Gates: []v1alpha1.Gate{{Name: name, Manual: &v1alpha1.ManualGate{}}}}, "spec.gates[0].name") {
			t.Errorf("an owner's gate may be named %s, as one of the built-in gates is", name)
		}
	}
	for increase, ratio := range map[v1alpha1.Percent]float64{"0.1%": 0.001, "0.101%": 0.00101, "0.5%": 0.005} {
		verdicts := analysis.Judge(analysis.State{}, analysis.Limits{MaxIncrease: ratio, MaxSlowRate: -1})
		invalid := analysis.Overall(verdicts).Reason == analysis.ReasonInvalidLimits
		if got := refused(v1alpha1.TrafficShiftSpec{MaxIncrease: increase}, "spec.maxIncrease"); got != invalid {
			t.Errorf("an increase of %s: refused by the API %t, by the gates %t", increase, got, invalid)
		}
	}
}
