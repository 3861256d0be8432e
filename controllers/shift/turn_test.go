package shift_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
)

func waitFor(reason string, until time.Time) *shift.Wait {
	return &shift.Wait{Problem: shift.Problem{Reason: reason, Message: "the policy says so"}, Until: until}
}

func TestACandidateWaitsForItsTurn(t *testing.T) {
	w := adopted(t)
	w.template = 2
	obs := w.observe()
	obs.Turn.Start = waitFor(v1alpha1.ReasonWaitingForTurn, time.Time{})
	d := w.decide(obs)
	if d.Next.Phase != v1alpha1.PhaseStable || d.Next.Candidate != "" || d.Reason != v1alpha1.ReasonWaitingForTurn || d.RequeueAfter != 15*time.Second {
		t.Fatalf("%s, again in %s; want it to wait for its turn, and to look again in 15s", d, d.RequeueAfter)
	}
	since := d.Next.WaitingSince
	if since == nil || !since.Time.Equal(w.now) {
		t.Fatalf("waiting since %v, want %s", since, w.now)
	}
	w.state = d.Next
	w.tick()
	obs = w.observe()
	obs.Turn.Start = waitFor(v1alpha1.ReasonFrozen, w.now.Add(time.Hour))
	if d = w.decide(obs); !d.Next.WaitingSince.Equal(since) || d.RequeueAfter != time.Hour || !d.Until.Equal(w.now.Add(time.Hour)) {
		t.Errorf("waiting since %s until %s, again in %s; want the place in the queue to be kept, and the end of the freeze to wake it", d.Next.WaitingSince, d.Until, d.RequeueAfter)
	}
	w.state = d.Next
	if d = w.decide(w.observe()); d.Next.Phase != v1alpha1.PhaseProgressing || d.Next.WaitingSince != nil {
		t.Errorf("%s, waiting since %v; want it to start and to leave the queue", d, d.Next.WaitingSince)
	}
}

// A shift that waits and could not start any more keeps nobody waiting behind it.
func TestWhoCannotStartLeavesTheQueue(t *testing.T) {
	for name, change := range map[string]func(*world){
		"Paused":    func(w *world) { w.spec.Paused = true },
		"Blocked":   func(w *world) { w.problems = []shift.Problem{{Reason: v1alpha1.ReasonHostClaimed, Message: "claimed"}} },
		"Cancelled": func(w *world) { w.template = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			w := adopted(t)
			w.template = 2
			obs := w.observe()
			obs.Turn.Start = waitFor(v1alpha1.ReasonWaitingForTurn, time.Time{})
			w.state = w.decide(obs).Next
			change(w)
			obs = w.observe()
			obs.Turn.Start = waitFor(v1alpha1.ReasonWaitingForTurn, time.Time{})
			if d := w.decide(obs); d.Next.WaitingSince != nil || d.Next.Candidate != "" {
				t.Errorf("%s: waiting since %v, candidate %q; want it out of the queue and at rest", d, d.Next.WaitingSince, d.Next.Candidate)
			}
		})
	}
}

// Whatever a policy says at whatever moment: no candidate starts in its way, no weight rises while it holds, and nothing keeps a bad
// candidate from going back.
func TestAPolicyOnlyEverHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.run(60, w.at(v1alpha1.PhaseStable))
		w.template = 2
		bad := rapid.IntRange(0, 60).Draw(t, "bad from")
		for second := range 90 {
			if second == bad {
				w.errorRate[2] = 1
			}
			obs := w.observe()
			if rapid.IntRange(0, 3).Draw(t, "start") == 0 {
				obs.Turn.Start = waitFor(v1alpha1.ReasonFrozen, w.now.Add(time.Minute))
			}
			if rapid.IntRange(0, 3).Draw(t, "hold") == 0 {
				obs.Turn.Hold = waitFor(v1alpha1.ReasonFrozen, w.now.Add(time.Minute))
			}
			d, free := w.decide(obs), obs
			free.Turn = shift.Turn{}
			f := w.decide(free)
			switch {
			case obs.Turn.Start != nil && w.state.Candidate == "" && d.Next.Candidate != "":
				t.Fatalf("%s started although its policy said to wait\n%s", d.Next.Candidate, w.transcript.String())
			case obs.Turn.Hold != nil && d.Next.Weight > w.state.Weight:
				t.Fatalf("raised from %s to %s although its policy holds it\n%s", w.state.Weight, d.Next.Weight, w.transcript.String())
			case f.Next.Weight < w.state.Weight && f.Next.Stable == w.state.Stable && d.Next.Weight != f.Next.Weight: // and is not promoted
				t.Fatalf("%s with the policy, %s without: it must not keep a candidate from going back\n%s", d.Next.Weight, f.Next.Weight, w.transcript.String())
			}
			w.persist(d)
			for _, write := range w.writes(d.Desired) {
				write()
				w.checkMesh()
			}
			w.last = d
			w.tick()
		}
	})
}
