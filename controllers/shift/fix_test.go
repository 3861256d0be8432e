package shift_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// The stable version alone is broken, and the candidate may be the fix. README: "Stable alone fails, and you have the fix: The candidate stays
// at its weight, or goes back to the first one where stable began to fail right after a raise", and "`promote: v2/all` sends it to 100".

// loseStable has v1 lose all its pods: what the routes send there finds no host.
func (w *world) loseStable() {
	w.broken[1], w.versions["v1"].ready = true, 0
	w.noHost = func(share v1alpha1.Permille) float64 {
		if w.versions["v1"].ready > 0 {
			return 0
		}
		return 1 - float64(share)/float64(v1alpha1.Whole)
	}
	w.measured = func(share v1alpha1.Permille) v1alpha1.Permille {
		if w.versions["v1"].ready > 0 {
			return share
		}
		return min(share, 1) * v1alpha1.Whole // nobody else answers
	}
}

// heldForAPerson asserts that a candidate stays where it is and says how it is sent on.
func (w *world) heldForAPerson(weight v1alpha1.Permille, reason string) {
	w.t.Helper()
	if len(w.ended) > 0 || w.state.Phase != v1alpha1.PhaseProgressing || w.state.Weight != weight || w.last.Reason != reason ||
		!strings.Contains(w.last.Message, "if it is the fix, sluice.dev/promote=v2/all sends it to 100%") {
		w.t.Fatalf("outcomes %+v: %s; want v2 held at %s for %s, and how a person sends it on\n%s", w.ended, w.last, weight, reason, w.transcript.String())
	}
}

// sendOn is the person.
func (w *world) sendOn() {
	w.t.Helper()
	if a := w.asks(v1alpha1.ActionPromote, "v2/all"); a.Result != v1alpha1.ResultDone {
		w.t.Fatalf("v2/all was answered %+v", a)
	}
	w.after = func() {
		if w.state.Weight == v1alpha1.Whole && w.state.Candidate == "v2" {
			w.after = func() {
				if w.state.Candidate == "v2" && w.state.Weight < v1alpha1.Whole {
					w.t.Fatalf("v2 goes back although a person has sent it on: %s\n%s", w.last, w.transcript.String())
				}
			}
		}
	}
	w.run(60, w.stableIs("v2"))
}

func TestTheFixOfAStableVersionWithoutPodsWaitsForAPerson(t *testing.T) {
	for pacing, pace := range map[string]func(*world){"auto": auto, "ladder": func(*world) {}} {
		for when, lose := range map[string]struct{ before, during func(w *world) }{
			"BeforeTheRelease": {(*world).loseStable, func(*world) {}},
			"DuringIt":         {func(*world) {}, (*world).loseStable},
		} {
			t.Run(pacing+when, func(t *testing.T) {
				w := adopted(t)
				pace(w)
				lose.before(w)
				w.wait(5)
				w.release(2)
				w.run(100, func() bool { return w.state.Weight > 0 && w.state.RoutedSince != nil })
				lose.during(w)
				weight := w.state.Weight
				w.wait(120)
				w.heldForAPerson(weight, v1alpha1.ReasonStableUnavailable)
				w.sendOn()
			})
		}
	}
}

// What found no host while stable had no pod is held against nobody when it has them again.
func TestACandidateOutlivesTheLossOfAllStablePods(t *testing.T) {
	for name, pace := range map[string]func(*world){"auto": auto, "ladder": func(*world) {}} {
		t.Run(name, func(t *testing.T) {
			w := adopted(t)
			pace(w)
			w.release(2)
			w.run(100, func() bool { return w.state.Weight >= 50 && w.state.RoutedSince != nil })
			w.loseStable()
			w.wait(30)
			w.broken[1] = false
			w.run(400, w.stableIs("v2"))
			if len(w.ended) != 1 {
				t.Errorf("outcomes %+v; want v2 promoted at its first try\n%s", w.ended, w.transcript.String())
			}
		})
	}
}

// At 100 nothing goes to stable any more: what finds no host there is the candidate's.
func TestFailuresWithoutAHostAt100AreSeenThoughStableHasNoPods(t *testing.T) {
	w := adopted(t)
	w.spec.Bake.Duration *= 20
	w.loseStable()
	w.release(2)
	w.run(100, w.atWeight(50))
	w.asks(v1alpha1.ActionPromote, "v2/all")
	w.run(60, w.atWeight(v1alpha1.Whole))
	w.noHost = from(1000)
	w.wait(20)
	if w.last.Reason != v1alpha1.ReasonStableUnavailable || !strings.Contains(w.last.Message, "found no healthy host") || w.state.Weight != v1alpha1.Whole {
		t.Errorf("%s; want it held at 100%%, since stable can take nothing back, and what happens", w.last)
	}
}

// At a weight that has stood for a while nobody goes back to it.
func TestAStableVersionThatAloneFailsGetsNobodyBack(t *testing.T) {
	w := adopted(t)
	w.rps, w.spec.Hold.Duration = 400, time.Minute
	w.release(2)
	w.run(200, w.atWeight(500))
	w.wait(20)
	w.errorRate[1] = 0.5
	w.wait(45)
	w.heldForAPerson(500, v1alpha1.ReasonStableFailing)
	w.sendOn()
}

// Right after a raise the candidate may have caused it, by exhausting what both use: it goes back, and shows by that whether it has.
func TestAStableVersionThatFailsByARaiseIsRelieved(t *testing.T) {
	w := adopted(t)
	w.rps, w.spec.Hold.Duration = 400, time.Minute
	w.release(2)
	w.run(200, w.atWeight(500))
	w.errorRate[1] = 0.5
	w.run(10, w.atWeight(50))
	if said := w.transcript.String(); !strings.Contains(said, "v2 goes back from 50% to 5%: stable is failing too") {
		t.Errorf("it does not say why it goes back:\n%s", said)
	}
	w.wait(65)
	w.heldForAPerson(50, v1alpha1.ReasonStableFailing)
	w.errorRate[1] = 0
	w.run(600, w.stableIs("v2"))
}

// One that has failed half of its requests for long is what a candidate is compared with, and a fix is promoted as any other.
func TestAStableVersionThatHasLongFailedIsReplacedAsAnyOther(t *testing.T) {
	w := adopted(t)
	w.errorRate[1] = 0.5
	w.wait(5)
	w.release(2)
	w.run(120, w.stableIs("v2"))
}

// Where neither has a ready pod, whoever has one first is to answer; but a new template is not kept waiting for that.
func TestTheNextVersionStartsThoughNeitherBeforeItHasPods(t *testing.T) {
	w := adopted(t)
	w.release(2)
	w.run(100, w.atWeight(500))
	w.loseStable()
	w.broken[2], w.versions["v2"].ready = true, 0
	w.noHost = func(v1alpha1.Permille) float64 { return 1 }
	w.wait(30)
	if w.state.Weight != 500 || w.last.Reason != v1alpha1.ReasonStableUnavailable {
		t.Fatalf("%s; want v2 to keep its weight: v1 has no pod either", w.last)
	}
	w.release(3)
	w.loseStable()
	w.run(60, w.atWeight(50))
	if w.state.Candidate != "v3" {
		t.Errorf("the candidate is %s; want v3", w.state.Candidate)
	}
}

// What found no host while stable was losing its pods does not keep a person from sending the fix on once it has none.
func TestTheFixIsSentOnThoughStableLostItsPodsOneByOne(t *testing.T) {
	w := adopted(t)
	w.spec.Hold.Duration = time.Minute
	w.release(2)
	w.run(200, w.atWeight(500))
	w.broken[1], w.versions["v1"].ready = true, 1
	w.noHost = func(v1alpha1.Permille) float64 { return 0.3 }
	w.wait(10)
	if w.state.Weight != 500 || w.last.Reason != v1alpha1.ReasonStableUnavailable {
		t.Fatalf("%s; want v2 to keep what v1 cannot bear", w.last)
	}
	w.loseStable()
	w.wait(10)
	w.heldForAPerson(500, v1alpha1.ReasonStableUnavailable)
	w.sendOn()
}
