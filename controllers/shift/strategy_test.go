package shift_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
	"github.com/sluice-dev/sluice/metrics/analysis"
)

var testers = []apiextensionsv1.JSON{{Raw: []byte(`{"headers":{"x-tester":{"exact":"yes"}}}`)}}

func weight(percent int) v1alpha1.Step {
	return v1alpha1.Step{Weight: new(intstr.FromInt(percent))}
}

func mirror(share v1alpha1.Percent) v1alpha1.Step { return v1alpha1.Step{Mirror: share} }

func match() v1alpha1.Step { return v1alpha1.Step{Match: testers} }

// beside is a weight with a match beside it, matching a mirror of the requests that match.
func beside(percent int) v1alpha1.Step {
	return v1alpha1.Step{Weight: new(intstr.FromInt(percent)), Match: testers}
}

func matching(share v1alpha1.Percent) v1alpha1.Step {
	return v1alpha1.Step{Mirror: share, Match: testers}
}

// others are testers told by another header.
func others(s v1alpha1.Step) v1alpha1.Step {
	s.Match = []apiextensionsv1.JSON{{Raw: []byte(`{"headers":{"x-other":{"exact":"yes"}}}`)}}
	return s
}

// few says how many pods a step takes.
func few(s v1alpha1.Step) v1alpha1.Step {
	s.Replicas = new(int32(1))
	return s
}

// strategy changes a world to one.
type strategy func(w *world)

func blueGreen(steps ...v1alpha1.Step) strategy {
	return func(w *world) {
		w.spec.Strategy, w.spec.Steps = v1alpha1.StrategyBlueGreen, slices.Concat(steps, []v1alpha1.Step{weight(100)})
		w.spec.Default()
	}
}

func abTest(conclude v1alpha1.Conclude) strategy {
	return func(w *world) {
		w.spec.Strategy, w.spec.Steps = v1alpha1.StrategyABTest, nil
		w.spec.ABTest = &v1alpha1.ABTest{Match: testers, Duration: seconds(8), Conclude: conclude}
		w.spec.Session = &v1alpha1.Session{}
		w.spec.Default()
	}
}

func canary(steps ...v1alpha1.Step) strategy {
	return func(w *world) { w.spec.Steps = steps }
}

func sticky(w *world) { w.spec.Session = &v1alpha1.Session{} }

func skipping(w *world) { w.spec.SkipAnalysis = true }

func both(a, b strategy) strategy {
	return func(w *world) { a(w); b(w) }
}

// strategies are what random lives are made of.
var strategies = map[string]strategy{
	"canary":               canary(weight(5), weight(50), weight(100)),
	"auto":                 auto,
	"sticky canary":        sticky,
	"sticky auto":          both(auto, sticky),
	"matched canary":       canary(match(), weight(50), weight(100)),
	"mirrored canary":      canary(mirror("20%"), weight(100)),
	"all of it":            canary(match(), mirror("20"), match(), weight(1), weight(60), weight(100)),
	"blue-green":           blueGreen(),
	"mirrored blue-green":  blueGreen(mirror("50%")),
	"grouped canary":       canary(beside(5), beside(50), weight(100)),
	"grouped for a while":  canary(weight(5), few(beside(20)), others(beside(50)), weight(70), beside(90), weight(100)),
	"sticky and grouped":   both(sticky, canary(matching("50%"), match(), beside(5), beside(50), weight(100))),
	"matching blue-green":  blueGreen(matching("50%")),
	"ab-test":              abTest(v1alpha1.ConcludePromote),
	"skipping":             skipping,
	"skipping blue-green":  both(blueGreen(), skipping),
	"canary in steps":      canary(weight(100)),
	"blue-green by canary": canary(mirror("10%"), mirror("100"), weight(100)),
}

// stations are where a candidate was, in order: its step, its weight and what the routes say of it.
func (w *world) stations(limit int, done func() bool) []string {
	w.t.Helper()
	var seen []string
	w.run(limit, func() bool {
		s := fmt.Sprintf("%s at %s", shift.StepText(w.spec, w.state), w.state.Weight)
		if m := w.matched["hosts"]; m != "" {
			s += ", matched"
		}
		if m := w.mirrored["hosts"]; m.Version != "" {
			s += ", mirrored " + m.Weight.String()
			if m.Matching {
				s += " of what matches"
			}
		}
		if w.state.Candidate != "" && (len(seen) == 0 || seen[len(seen)-1] != s) {
			seen = append(seen, s)
		}
		return done()
	})
	return seen
}

func TestTheWholeLifeOfEachStrategy(t *testing.T) {
	tests := map[string]struct {
		strategy strategy
		want     []string
	}{
		"Canary":            {canary(weight(5), weight(50), weight(100)), []string{"0/3 at 0%", "1/3 at 5%", "2/3 at 50%", "3/3 at 100%"}},
		"BlueGreen":         {blueGreen(), []string{"0/2 at 0%", "1/2 preview at 0%", "2/2 at 100%"}},
		"MirroredBlueGreen": {blueGreen(mirror("50%")), []string{"0/3 at 0%", "1/3 preview at 0%", "2/3 mirror at 0%, mirrored 50%", "3/3 at 100%"}},
		"ABTest":            {abTest(v1alpha1.ConcludePromote), []string{"0/2 at 0%", "1/2 match at 0%, matched", "2/2 at 100%"}},
		"MatchThenWeights":  {canary(match(), weight(50), weight(100)), []string{"0/3 at 0%", "1/3 match at 0%, matched", "2/3 at 50%", "3/3 at 100%"}},
		"TwoMatches": {canary(match(), mirror("5"), match(), weight(100)), []string{
			"0/4 at 0%", "1/4 match at 0%, matched", "2/4 mirror at 0%, mirrored 5%", "3/4 match at 0%, matched", "4/4 at 100%",
		}},
		"Skipping": {skipping, []string{"0/1 at 0%", "1/1 at 100%"}},
		"MatchBesideWeights": {canary(match(), beside(5), weight(20), others(beside(50)), weight(100)), []string{
			"0/5 at 0%", "1/5 match at 0%, matched", "2/5 match at 5%, matched", "3/5 at 20%", "4/5 match at 50%, matched", "5/5 at 100%",
		}},
		"MatchBeside100": {canary(beside(50), beside(100)), []string{"0/2 at 0%", "1/2 match at 50%, matched", "2/2 at 100%"}}, // which no valid spec has
		"MatchingMirror": {canary(matching("20%"), mirror("20%"), weight(100)), []string{
			"0/3 at 0%", "1/3 mirror at 0%, mirrored 20% of what matches", "2/3 mirror at 0%, mirrored 20%", "3/3 at 100%",
		}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := adopted(t)
			tc.strategy(w)
			w.release(2)
			got := w.stations(400, func() bool { return w.state.Stable == "v2" && len(w.state.Retiring) == 0 })
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("stations (-want +got):\n%s\n%s", diff, w.transcript.String())
			}
			if got := w.ended[0]; got.Reason != v1alpha1.ReasonPromoted || got.Weight != "100%" {
				t.Errorf("outcome %+v; want it promoted from 100%%", got)
			}
			if len(w.matched)+len(w.mirrored) > 0 || w.sessions != nil {
				t.Errorf("left behind: matched %v, mirrored %v, cookies %v", w.matched, w.mirrored, w.sessions)
			}
		})
	}
}

// at is where a way back begins.
type station struct {
	name     string
	strategy strategy
	there    func(w *world) bool
}

var stations = []station{
	{"preview", blueGreen(), func(w *world) bool { return w.state.Exposure == v1alpha1.ExposurePreview }},
	{"mirror", blueGreen(mirror("50%")), func(w *world) bool { return w.mirrored["hosts"].Version == "v2" }},
	{"match", abTest(v1alpha1.ConcludePromote), func(w *world) bool { return w.matched["hosts"] == "v2" }},
	{"decide", abTest(v1alpha1.ConcludeDecide), func(w *world) bool { return len(w.state.Awaiting) > 0 }},
	{"weight after match", canary(match(), weight(50), weight(100)), func(w *world) bool { return w.state.Weight == 500 }},
	{"match beside a weight", canary(beside(50), weight(100)), func(w *world) bool { return w.state.Weight == 500 && w.matched["hosts"] == "v2" }},
	{"matching mirror", canary(matching("50%"), weight(100)), func(w *world) bool { return w.mirrored["hosts"].Matching }},
	{"bake", blueGreen(), func(w *world) bool { return w.state.Stage == v1alpha1.StageBaking && w.weight("v2") == v1alpha1.Whole }},
}

func TestEveryStationHasEveryWayBack(t *testing.T) {
	ways := map[string]struct {
		take  func(w *world)
		phase v1alpha1.Phase
		want  string
	}{
		"Abort":      {func(w *world) { w.intents.Abort = "v2" }, v1alpha1.PhaseFailed, v1alpha1.ReasonAborted},
		"AbortPause": {func(w *world) { w.spec.Paused, w.intents.Abort = true, "v2" }, v1alpha1.PhaseFailed, v1alpha1.ReasonAborted},
		"Cancel":     {func(w *world) { w.release(1) }, v1alpha1.PhaseStable, v1alpha1.ReasonCancelled},
		"PodsGone":   {func(w *world) { w.broken[2] = true; w.versions["v2"].ready = 0 }, v1alpha1.PhaseFailed, v1alpha1.ReasonCandidateUnstable},
		"CrashLoop":  {func(w *world) { w.versions["v2"].restarts = 2 }, v1alpha1.PhaseFailed, v1alpha1.ReasonCandidateUnstable},
		"Detach":     {func(w *world) { w.release(1); w.intents.Detach = true }, v1alpha1.PhaseDetaching, v1alpha1.ReasonDetaching},
	}
	for _, at := range stations {
		for name, way := range ways {
			t.Run(at.name+"/"+name, func(t *testing.T) {
				w := adopted(t)
				at.strategy(w)
				w.release(2)
				w.run(200, func() bool { return at.there(w) })
				way.take(w)
				w.pass(-1)
				if w.weight("v2") != 0 || len(w.matched)+len(w.mirrored) > 0 {
					t.Fatalf("one pass later users are still on v2: weight %s, matched %v, mirrored %v\n%s", w.weight("v2"), w.matched, w.mirrored, w.transcript.String())
				}
				if w.sessions != nil {
					t.Errorf("cookies still keep users: %+v", w.sessions)
				}
				w.run(200, func() bool { return len(w.ended) == 1 && w.state.Phase == way.phase && len(w.state.Retiring) == 0 })
				if got := w.ended[0].Reason; got != way.want {
					t.Errorf("taken back for %q; want %q\n%s", got, way.want, w.transcript.String())
				}
			})
		}
	}
}

func TestEvidenceAtAMatchAndAMirrorConvicts(t *testing.T) {
	for name, s := range map[string]strategy{"match": abTest(v1alpha1.ConcludePromote), "mirror": blueGreen(mirror("50%")), "preview": func(w *world) { blueGreen()(w); w.tests = 50 }} {
		t.Run(name, func(t *testing.T) {
			w := adopted(t)
			s(w)
			w.errorRate[2] = 0.5
			w.release(2)
			w.run(200, w.at(v1alpha1.PhaseFailed))
			if got := w.ended[0]; got.Weight != "0%" || !strings.Contains(got.Message, "its "+name) && !strings.Contains(got.Message, "a "+name) {
				t.Errorf("outcome %+v; want it convicted at the %s, before it had a weight", got, name)
			}
		})
	}
}

func TestAMatchNeedsNoShareAndOneRequest(t *testing.T) {
	w := adopted(t)
	abTest(v1alpha1.ConcludePromote)(w)
	w.group = 0
	w.release(2)
	w.run(100, func() bool { return w.matched["hosts"] == "v2" })
	w.wait(60)
	if w.state.VerifiedSince != nil || w.last.Reason != v1alpha1.ReasonVerifyingRoute {
		t.Fatalf("nobody matches: %s; want it to wait for the first", w.last)
	}
	w.group = 7
	w.rps = 1000
	w.run(20, func() bool { return w.state.VerifiedSince != nil })
}

func TestAPreviewNeedsNoEvidenceAndTheBakeDoes(t *testing.T) {
	w := adopted(t)
	blueGreen()(w)
	w.release(2)
	w.run(100, func() bool { return shift.Previewing(w.state) })
	if got := w.versions["v2"].ready; got != 3 {
		t.Errorf("%d pods at the preview; want full strength", got)
	}
	w.evidence = false
	w.wait(100)
	if !shift.Previewing(w.state) || w.last.Reason != v1alpha1.ReasonNoEvidence {
		t.Errorf("a switch without Prometheus: %s; want it to hold", w.last)
	}
	w.evidence = true
	w.run(100, w.atWeight(v1alpha1.Whole))
	w.evidence = false
	w.wait(100)
	if w.state.Stable != "v1" || w.last.Reason != v1alpha1.ReasonNoEvidence {
		t.Errorf("a bake without Prometheus: %s; want it to hold", w.last)
	}
	if got := w.versions["v1"].replicas; got != 3 {
		t.Errorf("v1 is warm with %d pods; want 3", got)
	}
}

func TestACustomGateHoldsAndEndsAPreview(t *testing.T) {
	w := adopted(t)
	blueGreen()(w)
	query(w)
	w.release(2)
	w.run(100, func() bool { return shift.Previewing(w.state) })
	w.wait(60)
	if !shift.Previewing(w.state) || w.last.Reason != v1alpha1.ReasonGateNotAsked {
		t.Fatalf("a gate that was not asked lets it go on: %s", w.last)
	}
	for range 3 {
		w.read(analysis.Fail, "0.9, below the least of 0.95")
		w.pass(-1)
		w.tick()
	}
	if got := w.ended; len(got) != 1 || got[0].Reason != v1alpha1.ReasonGateFailed {
		t.Errorf("outcomes %+v; want the gate to end it\n%s", got, w.transcript.String())
	}
}

func TestATestThatIsToBeDecidedWaitsForAPerson(t *testing.T) {
	w := adopted(t)
	abTest(v1alpha1.ConcludeDecide)(w)
	w.release(2)
	w.run(100, func() bool { return len(w.state.Awaiting) > 0 })
	w.wait(600)
	if w.state.Weight != 0 || w.last.Reason != v1alpha1.ReasonWaitingForApproval {
		t.Fatalf("nobody has decided: %s", w.last)
	}
	if diff := cmp.Diff(&shift.Sessions{Stable: "v1", Candidate: "v2", Epoch: 1, Given: []v1alpha1.Permille{0}}, w.sessions); diff != "" {
		t.Errorf("cookies of the test (-want +got):\n%s", diff)
	}
	w.intents.Approve = "v2"
	w.run(100, w.stableIs("v2"))
}

func TestRemovingAMatchByHandIsAnAbort(t *testing.T) {
	for name, at := range map[string]station{"match": stations[2], "mirror": stations[1]} {
		t.Run(name, func(t *testing.T) {
			w := adopted(t)
			at.strategy(w)
			w.release(2)
			w.run(100, func() bool { return at.there(w) && w.state.RoutedSince != nil })
			delete(w.matched, "hosts")
			delete(w.mirrored, "hosts")
			w.run(100, w.at(v1alpha1.PhaseFailed))
			if got := w.ended[0].Reason; got != v1alpha1.ReasonWeightLowered {
				t.Errorf("taken back for %q; want %q", got, v1alpha1.ReasonWeightLowered)
			}
		})
	}
}

func TestAMatchIsTakenAwayOnlyWhereStableCanAnswer(t *testing.T) {
	w := adopted(t)
	abTest(v1alpha1.ConcludePromote)(w)
	w.release(2)
	w.run(100, func() bool { return w.matched["hosts"] == "v2" })
	w.broken[1], w.versions["v1"].ready = true, 0
	w.intents.Abort = "v2"
	w.wait(5)
	if w.matched["hosts"] != "v2" || w.last.Reason != v1alpha1.ReasonStableUnavailable {
		t.Fatalf("the group was sent to a version without a pod: %s", w.last)
	}
	w.versions["v1"].ready = 1
	w.pass(-1)
	if len(w.matched) != 0 {
		t.Errorf("stable has a pod; the group is still on v2: %s", w.last)
	}
	w.run(100, w.at(v1alpha1.PhaseFailed))
}

func TestTheIsolationOfAMatchIsNotProvenAgain(t *testing.T) {
	w := adopted(t)
	canary(match(), weight(50), weight(100))(w)
	w.release(2)
	w.run(100, func() bool { return w.state.VerifiedSince != nil })
	w.spec.Steps = w.spec.Steps[1:] // the match is edited away
	w.pass(-1)
	if len(w.matched) != 0 || w.state.Weight != 0 {
		t.Fatalf("a match that no step asks for: %v, %s", w.matched, w.last)
	}
	w.run(100, w.stableIs("v2"))
	if len(w.ended) != 1 {
		t.Errorf("outcomes %+v", w.ended)
	}
}

func TestALadderEditedMidMatchFindsItsRungAgain(t *testing.T) {
	w := adopted(t)
	canary(match(), weight(50), weight(100))(w)
	w.release(2)
	w.run(100, func() bool { return w.state.VerifiedSince != nil })
	w.spec.Steps = append([]v1alpha1.Step{mirror("10%")}, w.spec.Steps...)
	w.pass(-1)
	if got := shift.StepText(w.spec, w.state); got != "2/4 match" || len(w.mirrored) != 0 || w.matched["mesh"] != "v2" {
		t.Errorf("with a mirror put before its match: %s, mirrored %v, matched %v", got, w.mirrored, w.matched)
	}
	w.run(200, w.stableIs("v2"))
}

func TestAnEditedMatchIsEarnedAnew(t *testing.T) {
	w := adopted(t)
	canary(match(), weight(50), weight(100))(w)
	w.release(2)
	w.run(100, func() bool { return w.state.VerifiedSince != nil })
	w.spec.Steps[0].Match = []apiextensionsv1.JSON{{Raw: []byte(`{"uri":{"prefix":"/"}}`)}}
	w.pass(-1)
	if len(w.matched) != 0 || w.state.VerifiedSince != nil || w.state.Gate.Candidate.Requests != 0 {
		t.Fatalf("what was proven of one group counts for another: matched %v, %s", w.matched, w.last)
	}
	w.run(100, func() bool { return w.matched["mesh"] == "v2" })
	shown := w.now
	w.run(200, w.atWeight(500))
	if held := w.now.Sub(shown); held < w.spec.Hold.Duration {
		t.Errorf("the new group was held for %s; want %s", held, w.spec.Hold.Duration)
	}
}

func TestCookiesFollowTheWeights(t *testing.T) {
	w := adopted(t)
	sticky(w)
	w.measured = func(share v1alpha1.Permille) v1alpha1.Permille { return min(share*4, 600) } // who comes back is not drawn anew: no share to prove
	w.release(2)
	w.run(100, w.atWeight(500))
	if diff := cmp.Diff(&shift.Sessions{Stable: "v1", Candidate: "v2", Epoch: 1, Given: []v1alpha1.Permille{50, 500}}, w.sessions); diff != "" {
		t.Fatalf("cookies at 50%% (-want +got):\n%s", diff)
	}
	w.noHost = from(500)
	w.run(20, w.atWeight(50))
	if diff := cmp.Diff(&shift.Sessions{Stable: "v1", Candidate: "v2", Epoch: 2, Given: []v1alpha1.Permille{50}}, w.sessions); diff != "" {
		t.Errorf("cookies after a retreat (-want +got):\n%s", diff)
	}
	w.noHost = from(2000)
	w.run(300, w.stableIs("v2"))
	w.wait(2)
	if w.sessions != nil {
		t.Errorf("cookies after the shift: %+v", w.sessions)
	}
	w.release(3)
	w.run(100, w.atWeight(50))
	if w.sessions.Epoch != 3 {
		t.Errorf("the next release has epoch %d; want 3: cookies of the last are still about", w.sessions.Epoch)
	}
}

func TestAnEpochNamesAtMost64Weights(t *testing.T) {
	w := adopted(t)
	sticky(w)
	w.release(2)
	w.run(100, w.atWeight(50))
	for i := range 64 {
		w.state.Sessions.Given = append(w.state.Sessions.Given[:i:i], v1alpha1.Permille(i+1))
	}
	w.state.Sessions.Given[63] = 49
	w.pass(-1)
	if got := w.state.Sessions; got.Epoch != 2 || len(got.Given) != 1 || got.Given[0] != 50 {
		t.Errorf("a 65th weight: epoch %d, %v; want a new epoch", got.Epoch, got.Given)
	}
}

func TestEachStepHasItsOwnTerms(t *testing.T) {
	w := adopted(t)
	five, two := weight(5), int32(2)
	five.Hold, five.Replicas = seconds(40), &two
	canary(five, weight(50), weight(100))(w)
	w.release(2)
	w.run(100, w.atWeight(50))
	if got := w.versions["v2"].ready; got < 2 {
		t.Errorf("%d pods at 5%%; want the step's 2", got)
	}
	start := w.now
	w.run(100, w.atWeight(500))
	if got := w.now.Sub(start); got < 40*time.Second {
		t.Errorf("5%% took %s; want the step's own hold of 40s", got)
	}
	start = w.now
	w.run(100, w.atWeight(v1alpha1.Whole))
	if got := w.now.Sub(start); got > 30*time.Second {
		t.Errorf("50%% took %s; want the ladder's hold of 5s", got)
	}
}

func TestAStepWaitsForItsReplicas(t *testing.T) {
	w := adopted(t)
	fifty, five := weight(50), int32(5)
	fifty.Replicas = &five
	canary(weight(5), fifty, weight(100))(w)
	w.release(2)
	w.run(100, w.atWeight(500))
	if got := w.versions["v2"].ready; got != 5 {
		t.Errorf("the step began with %d of its 5 pods", got)
	}
}

func TestAPauseWaitsAtTheEndOfItsStep(t *testing.T) {
	tests := map[string]struct {
		pause v1alpha1.Pause
		come  bool
		want  string // reason of the outcome; empty while it waits
	}{
		"Approved":        {v1alpha1.Pause{}, true, v1alpha1.ReasonPromoted},
		"NobodyComes":     {v1alpha1.Pause{}, false, ""},
		"ItGoesOn":        {v1alpha1.Pause{Timeout: seconds(60)}, false, v1alpha1.ReasonPromoted},
		"ItIsTakenBack":   {v1alpha1.Pause{Timeout: seconds(60), OnTimeout: v1alpha1.OnTimeoutAbort}, false, v1alpha1.ReasonPauseTimedOut},
		"ApprovedInTime":  {v1alpha1.Pause{Timeout: seconds(60), OnTimeout: v1alpha1.OnTimeoutAbort}, true, v1alpha1.ReasonPromoted},
		"ApprovedEarlier": {v1alpha1.Pause{Timeout: seconds(6000)}, true, v1alpha1.ReasonPromoted},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := adopted(t)
			five := weight(5)
			five.Pause = &tc.pause
			canary(five, weight(50), weight(100))(w)
			w.release(2)
			w.run(100, func() bool { return len(w.state.Awaiting) > 0 })
			if got := w.state.Awaiting[0]; got != "step-1" || w.last.Reason != v1alpha1.ReasonWaitingForApproval {
				t.Fatalf("awaiting %q: %s", got, w.last)
			}
			w.wait(30)
			if w.state.Weight != 50 {
				t.Fatalf("it did not wait: %s", w.last)
			}
			if tc.come {
				w.intents.Approve = "v2"
			}
			w.wait(300)
			got := ""
			if len(w.ended) > 0 {
				got = w.ended[0].Reason
			}
			if got != tc.want {
				t.Errorf("ended as %q; want %q\n%s", got, tc.want, w.transcript.String())
			}
		})
	}
}

func TestAPauseOfTheLastStepComesAfterTheBake(t *testing.T) {
	w := adopted(t)
	last := weight(100)
	last.Pause = &v1alpha1.Pause{}
	canary(weight(50), last)(w)
	w.release(2)
	w.run(200, func() bool { return len(w.state.Awaiting) > 0 })
	w.wait(60)
	if w.state.Stable != "v1" || w.state.Awaiting[0] != "step-2" {
		t.Fatalf("it did not wait at 100%%: %s", w.last)
	}
	w.intents.Approve = "v2"
	w.run(100, w.stableIs("v2"))
}

func TestAGateOfAStepIsAskedThereAlone(t *testing.T) {
	w := adopted(t)
	gate := query(w)
	fifty := weight(50)
	fifty.Gates = []string{gate.Name}
	canary(weight(5), fifty, weight(100))(w)
	w.release(2)
	w.run(200, w.atWeight(50))
	for range 3 {
		w.read(analysis.Fail, "not asked here")
		w.pass(-1)
		w.tick()
	}
	if len(shift.Asked(w.spec, w.state)) != 0 {
		t.Errorf("asked at 5%%: %v", shift.Asked(w.spec, w.state))
	}
	w.checks = nil
	w.run(200, w.atWeight(500))
	if len(shift.Asked(w.spec, w.state)) != 1 {
		t.Errorf("asked at 50%%: %v; want the gate", shift.Asked(w.spec, w.state))
	}
	w.wait(60)
	if w.state.Weight != 500 || w.last.Reason != v1alpha1.ReasonGateNotAsked {
		t.Fatalf("it did not wait for the gate: %s", w.last)
	}
	w.read(analysis.Pass, "0.99")
	w.run(20, w.atWeight(v1alpha1.Whole))
	w.checks = nil
	w.run(100, w.stableIs("v2"))
}

func TestAManualGateOfAStepIsAskedAtItsEnd(t *testing.T) {
	w := adopted(t)
	w.spec.Gates = []v1alpha1.Gate{{Name: "qa", Manual: &v1alpha1.ManualGate{}}}
	w.spec.Default()
	five := weight(5)
	five.Gates = []string{"qa"}
	canary(five, weight(50), weight(100))(w)
	w.release(2)
	w.run(100, func() bool { return len(w.state.Awaiting) > 0 })
	if w.state.Weight != 50 {
		t.Errorf("asked at %s; want 5%%", w.state.Weight)
	}
	w.intents.Approve = "v2"
	w.run(200, w.stableIs("v2"))
}

func TestSkippingAnalysisAsksNoGate(t *testing.T) {
	w := adopted(t)
	skipping(w)
	query(w)
	w.spec.Gates = append(w.spec.Gates, v1alpha1.Gate{Name: "qa", Manual: &v1alpha1.ManualGate{Before: "1"}})
	w.evidence, w.errorRate[2] = false, 1
	w.noHost = from(1)
	w.release(2)
	w.run(60, w.atWeight(v1alpha1.Whole))
	if got := w.versions["v2"].ready; got != 3 {
		t.Errorf("switched with %d of 3 pods", got)
	}
	w.evidence = true
	w.pass(-1)
	if !strings.Contains(w.last.Message, "ANALYSIS IS SKIPPED") {
		t.Errorf("nothing says that no gate was asked: %s", w.last)
	}
	w.run(60, w.stableIs("v2"))
	if got := w.ended[0].Message; !strings.Contains(got, "analysis was skipped") {
		t.Errorf("the outcome does not say so: %q", got)
	}
}

// Whoever sets it in the middle of a shift waits for nothing any more either.
func TestSkippingAnalysisInTheMiddleGoesOnAtOnce(t *testing.T) {
	for _, at := range stations {
		t.Run(at.name, func(t *testing.T) {
			w := adopted(t)
			at.strategy(w)
			w.release(2)
			w.run(200, func() bool { return at.there(w) })
			w.evidence, w.spec.Hold = false, seconds(10000)
			skipping(w)
			w.run(60, w.stableIs("v2"))
		})
	}
}

func TestAMatchOutlivesALostStatusOnlyUntilItIsSeen(t *testing.T) {
	w := adopted(t)
	abTest(v1alpha1.ConcludeDecide)(w)
	w.release(2)
	w.run(100, func() bool { return len(w.state.Awaiting) > 0 })
	w.state = v1alpha1.State{}
	w.run(20, func() bool { return len(w.matched) == 0 && w.state.Stable == "v1" })
	if got := w.weight("v1"); got != v1alpha1.Whole {
		t.Errorf("v1 has %s; want all of it", got)
	}
	w.run(100, func() bool { return w.matched["mesh"] == "v2" || w.matched["mesh"] == "v3" }) // the template is still the new one
}

// One VirtualService that cannot be written still sends users to the candidate: it is not out before they are.
func TestAVersionIsNotOutWhileAnyTableShowsIt(t *testing.T) {
	for name, show := range map[string]func(w *world){
		"match":  func(w *world) { w.matched["hosts"] = "v2" },
		"mirror": func(w *world) { w.mirrored["hosts"] = shift.Copies{Route: shift.Route{Version: "v2", Weight: 100}} },
	} {
		t.Run(name, func(t *testing.T) {
			w := adopted(t)
			canary(match(), weight(50), weight(100))(w)
			w.release(2)
			w.run(100, func() bool { return w.state.VerifiedSince != nil })
			w.intents.Abort = "v2"
			for range 60 {
				w.pass(-1)
				show(w)
				w.tick()
			}
			if w.state.Phase != v1alpha1.PhaseRollingBack {
				t.Errorf("the way back is over: %s", w.last)
			}
			w.run(60, func() bool { return w.state.Phase == v1alpha1.PhaseFailed })
			for range 60 {
				w.pass(-1)
				show(w)
				w.tick()
			}
			if got := w.versions["v2"].replicas; got == 0 || len(w.subsets) != 2 {
				t.Errorf("v2 has %d pods, the subsets are %v; want both kept while it is shown", got, w.subsets)
			}
			w.run(100, w.at(v1alpha1.PhaseFailed))
		})
	}
}

// A match stands when every VirtualService has it, and not before.
func TestAMatchIsRoutedWhenEveryTableHasIt(t *testing.T) {
	w := adopted(t)
	canary(match(), weight(50), weight(100))(w)
	w.release(2)
	for i := 0; w.state.Exposure != v1alpha1.ExposureMatch && i < 100; i++ {
		w.wait(1)
	}
	obs := w.observe()
	obs.Tables[0].Matched, obs.Tables[1].Matched = "v2", ""
	if d := w.decide(obs); d.Next.RoutedSince != nil || d.Next.Phase != v1alpha1.PhaseProgressing {
		t.Errorf("one table of two has the match, and it counts as routed: %s", d)
	}
	obs.Tables[1].Matched = "v2"
	if d := w.decide(obs); d.Next.RoutedSince == nil {
		t.Errorf("both tables have the match, and it does not count as routed: %s", d)
	}
}

func TestFailuresWithoutAHostAtAMatchAbort(t *testing.T) {
	w := adopted(t)
	abTest(v1alpha1.ConcludePromote)(w)
	w.noHost = from(1)
	w.release(2)
	w.run(100, w.at(v1alpha1.PhaseFailed))
	if got := w.ended[0]; got.Reason != v1alpha1.ReasonNoHealthyUpstream || got.Weight != "0%" {
		t.Errorf("outcome %+v; want %s at its match", got, v1alpha1.ReasonNoHealthyUpstream)
	}
}

func TestTheReplicasOfAStepArePutBack(t *testing.T) {
	w := adopted(t)
	five, many := weight(5), int32(7)
	five.Replicas, five.Hold = &many, seconds(1000)
	canary(five, weight(50), weight(100))(w)
	w.release(2)
	w.run(100, w.atWeight(50))
	w.versions["v2"].replicas, w.versions["v2"].ready = 2, 2 // by hand
	w.pass(-1)
	if got := w.versions["v2"].replicas; got != 7 {
		t.Errorf("v2 has %d pods; want the step's 7", got)
	}
}

// Each pause has its own answer and its own time.
func TestTwoPausesAreTwoQuestions(t *testing.T) {
	w := adopted(t)
	first, second := weight(5), weight(50)
	first.Pause = &v1alpha1.Pause{Timeout: seconds(1000)}
	second.Pause = &v1alpha1.Pause{Timeout: seconds(1000), OnTimeout: v1alpha1.OnTimeoutAbort}
	canary(first, second, weight(100))(w)
	w.release(2)
	w.run(100, func() bool { return len(w.state.Awaiting) > 0 })
	w.wait(900)
	w.intents.Approve = "v2"
	w.pass(-1)
	w.intents.Approve = "" // the reconciler takes an answer away
	w.run(100, func() bool { return w.state.Weight == 500 && len(w.state.Awaiting) > 0 })
	w.wait(900)
	if w.state.Weight != 500 || w.state.Awaiting[0] != "step-2" {
		t.Fatalf("the second pause has not its own time: awaiting %v, %s", w.state.Awaiting, w.last)
	}
	w.noHost = from(500)
	w.run(90, w.atWeight(50))
	w.noHost = from(2000)
	w.run(100, func() bool { return len(w.state.Awaiting) > 0 })
	if got := w.state.Awaiting[0]; got != "step-1" {
		t.Errorf("back at 5%% it awaits %q; want a new answer to step-1", got)
	}
}

// A reading from before its step says nothing of the step.
func TestAGateOfAStepCountsReadingsOfTheStep(t *testing.T) {
	w := adopted(t)
	w.spec.Gates = []v1alpha1.Gate{{Name: "checkout", Webhook: &v1alpha1.WebhookGate{URL: "http://ask"}}}
	w.spec.Default()
	fifty := weight(50)
	fifty.Gates = []string{"checkout"}
	canary(weight(5), fifty, weight(100))(w)
	w.release(2)
	w.run(100, w.atWeight(50))
	w.read(analysis.Pass, "asked at 5%")
	w.run(100, w.atWeight(500))
	w.wait(60)
	if w.state.Weight != 500 || w.last.Reason != v1alpha1.ReasonGateNotAsked {
		t.Fatalf("an answer of the step before let it go on: %s", w.last)
	}
	w.read(analysis.Fail, "no")
	w.run(20, w.at(v1alpha1.PhaseFailed))
}

// A subset that somebody removed is written first, and the match that names it stays as it is.
func TestAMatchWaitsForASubsetThatWasRemoved(t *testing.T) {
	w := adopted(t)
	canary(match(), weight(50), weight(100))(w)
	w.release(2)
	w.run(100, func() bool { return w.state.VerifiedSince != nil })
	obs := w.observe()
	obs.Subsets = []string{"v1"}
	d := w.decide(obs)
	if len(d.Desired.Routes) > 0 || len(d.Desired.Subsets) != 2 || d.Next.Exposure != v1alpha1.ExposureMatch {
		t.Errorf("routes %v, subsets %v: %s; want the subset alone written", d.Desired.Routes, d.Desired.Subsets, d)
	}
}

func TestCookiesKeepNobodyOnTheWayBack(t *testing.T) {
	w := adopted(t)
	sticky(w)
	six := int32(6)
	w.spec.Replicas = &six
	w.release(2)
	w.run(100, w.atWeight(500))
	w.broken[1], w.versions["v1"].ready = true, 3
	w.intents.Abort = "v2"
	w.pass(-1)
	if w.state.Weight != 250 || w.sessions != nil {
		t.Errorf("v2 keeps %s for want of stable pods, and cookies %+v; want 25%%, and none", w.state.Weight, w.sessions)
	}
}

func TestSkippingAnalysisStillTakesBack(t *testing.T) {
	for name, tc := range map[string]struct {
		bad  func(w *world)
		want string
	}{
		"NeverReady":    {func(w *world) { w.broken[2], w.spec.Deadline = true, seconds(20) }, v1alpha1.ReasonNotReadyInTime},
		"Abort":         {func(w *world) { w.run(60, w.atWeight(1000)); w.intents.Abort = "v2" }, v1alpha1.ReasonAborted},
		"CrashLoop":     {func(w *world) { w.run(60, w.atWeight(1000)); w.versions["v2"].restarts = 2 }, v1alpha1.ReasonCandidateUnstable},
		"LoweredByHand": {func(w *world) { w.run(60, w.atWeight(1000)); lower(w, "hosts") }, v1alpha1.ReasonWeightLowered},
	} {
		t.Run(name, func(t *testing.T) {
			w := adopted(t)
			skipping(w)
			w.release(2)
			tc.bad(w)
			w.run(100, w.at(v1alpha1.PhaseFailed))
			if got := w.ended[0].Reason; got != tc.want {
				t.Errorf("taken back for %q; want %q", got, tc.want)
			}
		})
	}
}

func TestSuspendedNothingIsWritten(t *testing.T) {
	for _, at := range stations {
		t.Run(at.name, func(t *testing.T) {
			w := adopted(t)
			at.strategy(w)
			w.release(2)
			w.run(200, func() bool { return at.there(w) })
			w.spec.Suspend = true
			w.errorRate[2], w.intents.Abort = 1, "v2"
			before := w.outcome()
			d := w.decide(w.observe())
			if diff := cmp.Diff(shift.Desired{}, d.Desired); diff != "" || d.Reason != v1alpha1.ReasonSuspended || d.RequeueAfter != 0 {
				t.Errorf("suspended it asks for (-want +got):\n%s\n%s", diff, d)
			}
			w.wait(100)
			if diff := cmp.Diff(before, w.outcome()); diff != "" {
				t.Errorf("suspended for 100 seconds (-before +after):\n%s", diff)
			}
			w.errorRate[2], w.intents.Abort, w.intents.Approve, w.spec.Suspend = 0, "", "v2", false
			w.run(300, w.stableIs("v2"))
		})
	}
}

func TestSuspendingStopsTheDeadline(t *testing.T) {
	w := adopted(t)
	w.broken[2], w.spec.Deadline = true, seconds(30)
	w.release(2)
	w.wait(10)
	w.spec.Suspend = true
	w.wait(100)
	w.spec.Suspend = false
	w.wait(5)
	if w.state.Phase != v1alpha1.PhaseProgressing {
		t.Fatalf("15 seconds of a deadline of 30 have gone by: %s", w.last)
	}
	w.run(60, w.at(v1alpha1.PhaseFailed))
}

func TestASuspendedShiftIsHandedBackAllTheSame(t *testing.T) {
	w := adopted(t)
	w.spec.Suspend = true
	w.intents.Detach = true
	w.run(100, func() bool { return w.state.Stage == v1alpha1.StageReleased })
}

func TestADurationIsTenEvenSteps(t *testing.T) {
	spec := v1alpha1.TrafficShiftSpec{Duration: &metav1.Duration{Duration: 30 * time.Minute}}
	spec.Default()
	if errs := spec.Validate(nil); len(errs) != 0 {
		t.Fatal(errs)
	}
	if spec.Hold.Duration != 3*time.Minute || spec.Pacing != v1alpha1.PacingLadder {
		t.Errorf("hold %s, pacing %s; want ten steps of 3m", spec.Hold.Duration, spec.Pacing)
	}
	for weight, want := range map[v1alpha1.Permille]string{0: "0/10", 100: "1/10", 900: "9/10", 1000: "10/10"} {
		if got := shift.StepText(spec, v1alpha1.State{Candidate: "v2", Weight: weight}); got != want {
			t.Errorf("at %s: %s; want %s", weight, got, want)
		}
	}
}
