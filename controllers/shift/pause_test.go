package shift_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

const resumes = "kubectl rollout resume deployment/micro-api goes on"

// pausedByDeployment fails the test unless the shift is paused and says what ends that.
func (w *world) pausedByDeployment() {
	w.t.Helper()
	if w.last.Reason != v1alpha1.ReasonPaused || !strings.Contains(w.last.Message, resumes) {
		w.t.Fatalf("%s; want it paused, and how it goes on\n%s", w.last, w.transcript.String())
	}
}

// kubectl rollout pause is a pause like any other: of a weight, and of what waits to start; never of a way back.
func TestAPausedDeploymentPausesTheShift(t *testing.T) {
	w := stepping(t)
	w.stopped = true
	w.wait(60)
	w.pausedByDeployment()
	if w.state.Weight != 50 {
		t.Errorf("paused at 5%%, it is at %s", w.state.Weight)
	}
	w.stopped = false
	w.run(60, w.atWeight(500))
	w.stopped, w.errorRate[3] = true, 1
	w.run(60, w.at(v1alpha1.PhaseFailed))
	w.errorRate[3] = 0
	w.release(4)
	w.wait(30)
	w.pausedByDeployment()
	if w.state.Candidate != "" {
		t.Errorf("%s started while its Deployment was paused", w.state.Candidate)
	}
	w.stopped = false
	w.run(200, w.stableIs("v4"))
}

// Who has paused and resumed is told, and a pause that stands beside another is not over with it.
func TestThePauseOfADeploymentIsAnswered(t *testing.T) {
	w := stepping(t)
	w.answers = nil
	w.stopped = true
	w.wait(2)
	if got := w.asks(v1alpha1.ActionResume, "false"); got.Result != v1alpha1.ResultRefused || !strings.Contains(got.Message, resumes) {
		t.Errorf("resumed beside the Deployment's pause: %+v; want how it goes on", got)
	}
	w.answers = nil
	w.spec.Paused, w.stopped = true, false
	w.wait(2)
	w.spec.Paused = false
	w.stopped = true
	w.wait(2)
	w.stopped = false
	w.wait(2)
	want := []v1alpha1.ActionRecord{
		{Action: v1alpha1.ActionResume, By: "kubectl-rollout", Result: v1alpha1.ResultRefused, Message: `it stays paused; the TrafficShift is paused: sluice.dev/paused: "false" on it goes on`},
		{Action: v1alpha1.ActionPause, Value: "true", By: "kubectl-rollout", Result: v1alpha1.ResultDone, Message: "v3 stays at 5%; it is still taken back if it is bad"},
		{Action: v1alpha1.ActionResume, By: "kubectl-rollout", Result: v1alpha1.ResultDone, Message: "v3 goes on from 5%"},
	}
	if diff := cmp.Diff(want, w.answers, cmpopts.IgnoreFields(v1alpha1.ActionRecord{}, "At")); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
}

// A paused Deployment that runs what it says is taken over; one in the middle of its own rollout is when that has ended.
func TestAdoptingAPausedDeployment(t *testing.T) {
	w := newWorld(t)
	w.stopped = true
	w.run(60, w.at(v1alpha1.PhaseStable))

	w = newWorld(t)
	w.stopped, w.templateRun.ready, w.broken[1] = true, 0, true
	w.wait(10)
	if w.state.Stable != "" || w.last.Reason != v1alpha1.ReasonWaitingForRollout || !strings.Contains(w.last.Message, resumes) {
		t.Errorf("%s; want it to wait, and say for what", w.last)
	}
	w.stopped, w.broken[1] = false, false
	w.run(60, w.at(v1alpha1.PhaseStable))
}

// A paused Deployment would start pods of the template that it had before: none are started, and the routes stand.
func TestHandingBackToAPausedDeploymentWaits(t *testing.T) {
	w := second(t)
	w.stopped, w.intents.Detach = true, true
	w.wait(60)
	w.pausedByDeployment()
	if w.templateRun.replicas != 0 || len(w.tables) != len(tableNames) {
		t.Errorf("%d pods of the Deployment's own, %d tables; want nothing done", w.templateRun.replicas, len(w.tables))
	}
	w.stopped = false
	w.run(100, func() bool { return w.state.Stage == v1alpha1.StageReleased })
}

// A pause at the start holds the weights, and a candidate that has its pods still comes to the address of its own: to be looked at is what the
// pause is for. Without previews, or without the pods, it waits where it is.
func TestAPausedCandidateComesToItsAddress(t *testing.T) {
	for name, tc := range map[string]struct {
		preview *v1alpha1.Preview
		broken  bool
		want    v1alpha1.Stage
	}{
		"Previews":   {&v1alpha1.Preview{}, false, v1alpha1.StageExposing},
		"NoPreviews": {nil, false, v1alpha1.StagePreparing},
		"NoPods":     {&v1alpha1.Preview{}, true, v1alpha1.StagePreparing},
	} {
		t.Run(name, func(t *testing.T) {
			w := adopted(t)
			w.spec.Preview, w.broken[2] = tc.preview, tc.broken
			w.release(2)
			w.run(10, func() bool { return w.state.Stage == v1alpha1.StagePreparing })
			w.stopped = true
			for range 60 {
				w.pass(-1)
				w.tick()
			}
			if w.state.Stage != tc.want || w.state.Weight != 0 || w.last.Reason != v1alpha1.ReasonPaused {
				t.Errorf("%s; want it paused in %s, at 0%%", w.last, tc.want)
			}
			if got := w.hosts["v2"]; got != (tc.want == v1alpha1.StageExposing) {
				t.Errorf("a preview's host leads to v2: %t, in stage %s", got, w.state.Stage)
			}
			w.stopped = false
			if !tc.broken {
				w.run(300, func() bool { return w.state.Stable == "v2" })
			}
		})
	}
}
