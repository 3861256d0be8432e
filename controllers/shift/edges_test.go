package shift_test

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
)

func seconds(n int) *metav1.Duration {
	return &metav1.Duration{Duration: time.Duration(n) * time.Second}
}

func TestStableThatBreaksTheLimitTooHolds(t *testing.T) {
	w := adopted(t)
	w.errorRate[1], w.errorRate[2] = 0.4, 0.4
	w.release(2)
	w.wait(300)
	if w.state.Weight != 50 || w.last.Reason != v1alpha1.ReasonInconclusive || len(w.ended) != 0 {
		t.Errorf("both versions fail alike: %s, outcomes %+v; want a hold at 5%%", w.last, w.ended)
	}
}

// At 100 there is no stable traffic to compare with: the limit is the larger of the owner's and what stable was seen to do.
func TestBakeIsHeldAgainstWhatStableWasSeenToDo(t *testing.T) {
	tests := map[string]struct {
		stable, baking float64
		want           string
	}{
		"NoWorseThanStableWas":      {0.04, 0.04, v1alpha1.ReasonPromoted},
		"MuchWorseThanStableWas":    {0.04, 0.2, v1alpha1.ReasonErrorRateVsStable}, // it went back to where stable shows the difference
		"WorseThanTheLimitAlone":    {0, 0.05, v1alpha1.ReasonErrorRateVsStable},
		"TheFixOfAStableThatFailed": {1, 0, v1alpha1.ReasonPromoted},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := adopted(t)
			w.rps = 1000
			w.errorRate[1] = tc.stable
			w.release(2)
			w.run(200, w.atWeight(v1alpha1.Whole))
			w.errorRate[2] = tc.baking
			w.run(200, func() bool { return len(w.ended) == 1 && len(w.state.Retiring) == 0 })
			if got := w.ended[0]; got.Reason != tc.want {
				t.Errorf("outcome %+v; want %s\n%s", got, tc.want, w.transcript.String())
			}
		})
	}
}

func TestBakeWithoutTrafficHolds(t *testing.T) {
	w := adopted(t)
	w.release(2)
	w.run(200, w.atWeight(v1alpha1.Whole))
	w.rps = 0
	w.wait(600)
	if w.state.Stage != v1alpha1.StageBaking || w.state.Stable != "v1" {
		t.Fatalf("promoted on a bake that saw nothing: %s", w.last)
	}
	w.rps = 100
	w.run(100, w.stableIs("v2"))
}

func TestShareThatDoesNotMatchHoldsAndRecovers(t *testing.T) {
	w := adopted(t)
	w.measured = func(share v1alpha1.Permille) v1alpha1.Permille { return share * 6 } // a second VirtualService for the host, say
	w.release(2)
	w.run(100, w.atWeight(50))
	w.wait(300)
	if w.state.Weight != 50 || w.last.Reason != v1alpha1.ReasonVerifyingRoute {
		t.Fatalf("30%% measured at a weight of 5%%: %s; want a hold that says so", w.last)
	}
	if w.state.VerifiedSince != nil {
		t.Errorf("the step's clock runs on a route that is not proven")
	}
	w.measured = func(share v1alpha1.Permille) v1alpha1.Permille { return share }
	w.run(200, w.stableIs("v2"))
}

func TestOneStepLadderGoesStraightToTheBake(t *testing.T) {
	w := adopted(t)
	w.spec.Steps = []v1alpha1.Step{{Weight: new(intstr.FromString("100%"))}}
	w.release(2)
	w.run(100, w.atWeight(v1alpha1.Whole))
	if w.state.Stage != v1alpha1.StageBaking || w.versions["v2"].ready < 3 {
		t.Errorf("at 100%%: stage %s with %d ready pods; want Baking with all 3", w.state.Stage, w.versions["v2"].ready)
	}
	w.run(100, w.stableIs("v2"))
}

func TestHoldAndBakeOfZeroStillNeedProof(t *testing.T) {
	w := adopted(t)
	w.spec.Hold, w.spec.Bake = seconds(0), seconds(0)
	w.release(2)
	w.run(100, w.atWeight(50))
	w.rps = 0
	w.wait(100)
	if w.state.Weight != 50 {
		t.Fatalf("raised to %s with nothing seen at 5%%", w.state.Weight)
	}
	w.rps = 100
	w.run(100, w.stableIs("v2"))
}

// The deadline adds up every wait for pods of one candidate: two waits that keep within it each may break it together.
func TestDeadlineIsForAllWaitsTogether(t *testing.T) {
	w := adopted(t)
	w.spec.Deadline = seconds(20)
	w.broken[2] = true
	w.release(2)
	w.wait(14)
	w.broken[2] = false
	w.run(100, func() bool { w.broken[2] = w.versions["v2"].ready > 0; return w.atWeight(50)() }) // one pod is enough for 5%
	started := w.now
	w.run(100, w.at(v1alpha1.PhaseFailed))
	if got := w.ended[0]; got.Reason != v1alpha1.ReasonNotReadyInTime || got.Weight != "5%" {
		t.Errorf("outcome %+v; want %s at 5%%\n%s", got, v1alpha1.ReasonNotReadyInTime, w.transcript.String())
	}
	if got := w.now.Sub(started); got > 40*time.Second {
		t.Errorf("the second wait took %s; the first one did not count", got)
	}
}

func TestHistoryIsPrunedButWhatTheTemplateEquals(t *testing.T) {
	w := adopted(t)
	w.historyLimit = 2
	for template := 2; template <= 6; template++ {
		w.release(template)
		w.run(200, w.stableIs(fmt.Sprintf("v%d", template)))
	}
	w.wait(3)
	for name, kept := range map[string]bool{"v1": false, "v2": false, "v3": false, "v4": true, "v5": true, "v6": true} {
		if _, ok := w.records[name]; ok != kept {
			t.Errorf("the record of %s is kept: %t; want %t", name, ok, kept)
		}
		if _, ok := w.versions[name]; ok != kept {
			t.Errorf("the Deployment of %s is kept: %t; want %t", name, ok, kept)
		}
	}
	w.release(4) // kept, so it is v4 again and not v7
	w.run(200, w.stableIs("v4"))
	w.release(1) // pruned, so it is new; its number is not used again
	w.run(200, w.stableIs("v7"))
}

func TestAServiceScaledToNothingMovesNothing(t *testing.T) {
	w := adopted(t)
	zero := int32(0)
	w.spec.Replicas = &zero
	w.rps = 0
	w.wait(5)
	if got := w.versions["v1"].replicas; got != 0 {
		t.Fatalf("v1 keeps %d replicas; want 0, as was wished", got)
	}
	w.release(2)
	w.wait(120)
	if w.weight("v2") > 50 || w.state.Stable != "v1" {
		t.Errorf("v2 was raised on no evidence: %s", w.last)
	}
	three := int32(3)
	w.spec.Replicas, w.rps = &three, 100
	w.run(200, w.stableIs("v2"))
	if got := w.versions["v2"].ready; got != 3 {
		t.Errorf("v2 has %d ready pods; want 3", got)
	}
}

func TestAnAutoscalerThatRaisesIsFollowedDuringAShift(t *testing.T) {
	w := adopted(t)
	w.release(2)
	w.run(100, w.atWeight(50))
	six := int32(6)
	w.spec.Replicas = &six
	w.wait(1)
	if got := w.versions["v1"].replicas; got != 6 {
		t.Errorf("stable has %d replicas; want 6 at once", got)
	}
	if got := w.versions["v2"].replicas; got != 3 {
		t.Errorf("the candidate has %d replicas; want 3, half of 6, for its next weight", got)
	}
	w.run(200, w.atWeight(v1alpha1.Whole))
	if got := w.versions["v2"].ready; got != 6 {
		t.Errorf("the candidate took all the traffic with %d of 6 pods ready", got)
	}
}

func TestNoWishLowersCapacityDuringAShift(t *testing.T) {
	w := adopted(t)
	w.release(2)
	w.run(200, w.atWeight(500))
	one := int32(1)
	w.spec.Replicas = &one
	w.run(200, func() bool {
		if got := w.versions["v1"].replicas; got != 3 && w.state.Phase == v1alpha1.PhaseProgressing {
			t.Fatalf("stable was scaled to %d in the middle of a shift", got)
		}
		return w.stableIs("v2")()
	})
	if got := w.versions["v2"].replicas; got != 1 {
		t.Errorf("after the shift v2 has %d replicas; want the 1 that is wished", got)
	}
}

func TestRetryStartsTheSameVersionAgain(t *testing.T) {
	w := adopted(t)
	w.errorRate[2] = 1
	w.release(2)
	w.run(200, w.at(v1alpha1.PhaseFailed))
	w.intents.Retry = "v9"
	w.wait(20)
	if w.state.Candidate != "" {
		t.Fatalf("a retry of v9 started %s", w.state.Candidate)
	}
	w.intents.Retry = "v2"
	w.pass(-1)
	if w.state.Candidate != "v2" || w.state.Rejected != "" || w.state.Failure != nil {
		t.Fatalf("after the retry: candidate %q, rejected %q, failure %v; want v2 anew", w.state.Candidate, w.state.Rejected, w.state.Failure)
	}
	w.run(200, func() bool { return len(w.ended) == 2 }) // still bad: the retry must not be a way around the gates
	if w.ended[1].Reason != v1alpha1.ReasonErrorRateVsStable {
		t.Errorf("second outcome %+v; want %s again", w.ended[1], v1alpha1.ReasonErrorRateVsStable)
	}
}

// The record of a version is its template. One that somebody deleted must not be made again from a template that is another's.
func TestALostRecordIsNotMadeFromAnotherTemplate(t *testing.T) {
	tests := map[string]func(w *world){
		"Rejected": func(w *world) { w.errorRate[2] = 1; w.release(2); w.run(200, w.at(v1alpha1.PhaseFailed)) },
		"Paused":   func(w *world) { w.spec.Paused = true; w.release(2) },
		"Blocked": func(w *world) {
			w.problems = []shift.Problem{{Reason: v1alpha1.ReasonHostClaimed, Message: "claimed"}}
			w.release(2)
		},
	}
	for name, unproven := range tests {
		t.Run(name, func(t *testing.T) {
			w := adopted(t)
			unproven(w)
			delete(w.records, "v1")
			w.wait(5)
			if got, ok := w.records["v1"]; ok && got != 1 {
				t.Errorf("v1 is recorded anew from template %d: its pods would be replaced, ungated", got)
			}
		})
	}
}

// Nothing was taken over yet, so there is nothing to hand back, however the Deployment's own pods fare.
func TestHandingBackWhatWasNeverTakenOverDoesNotWait(t *testing.T) {
	w := newWorld(t)
	w.broken[1] = true
	w.templateRun.ready = 0
	w.wait(5)
	w.intents.Detach = true
	w.run(60, func() bool { return w.state.Stage == v1alpha1.StageReleased })
}

func TestARollbackNeverRaises(t *testing.T) {
	w := adopted(t)
	w.release(2)
	w.run(100, w.atWeight(50))
	for w.decide(w.observe()).Next.Weight < 500 {
		w.wait(1)
	}
	w.pass(1) // the raise to 50% is persisted, and the process dies before it writes a route
	w.versions["v1"].ready, w.versions["v2"].ready = 0, 0
	w.broken[1], w.broken[2] = true, true
	w.wait(3)
	if got := w.weight("v2"); got > 50 {
		t.Errorf("v2 was raised to %s on its way back", got)
	}
	w.broken[1] = false
	w.run(100, w.at(v1alpha1.PhaseFailed))
}
