package shift_test

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
	"github.com/sluice-dev/sluice/metrics/analysis"
)

// Numbers and times that no honest world produces: clocks that go backwards, samples that end before they begin, negative counts,
// tables that are empty or disagree. None may raise a weight, convict a candidate that nobody saw fail, or break the machine.

func TestClockThatGoesBackwardsOnlyWaits(t *testing.T) {
	w := adopted(t)
	w.release(2)
	w.run(100, w.atWeight(50))
	before := w.state.Weight
	w.now = w.now.Add(-24 * time.Hour)
	obs := w.observe()
	d := w.decide(obs)
	if d.Next.Weight != before || d.Next.Candidate != "v2" || d.RequeueAfter <= 0 {
		t.Errorf("a day back in time: %s, again in %s; want the same weight, and to look again", d, d.RequeueAfter)
	}
	w.now = w.now.Add(24 * time.Hour)
	w.run(200, w.stableIs("v2"))
}

func TestClockThatGoesBackwardsNeverShortensTheDeadline(t *testing.T) {
	w := adopted(t)
	w.broken[2] = true
	w.spec.Deadline = seconds(30)
	w.release(2)
	w.wait(10)
	w.now = w.now.Add(-time.Hour)
	w.wait(10)
	if w.state.Phase != v1alpha1.PhaseProgressing {
		t.Errorf("20 seconds of a deadline of 30 have gone by: %s", w.last)
	}
}

func TestEvidenceThatMakesNoSenseOnlyHolds(t *testing.T) {
	tests := map[string]func(s *analysis.Sample){
		"NegativeRequests":       func(s *analysis.Sample) { s.Candidate.Requests = -100000 },
		"NegativeErrors":         func(s *analysis.Sample) { s.Candidate.Errors = -100000 },
		"MoreErrorsThanRequests": func(s *analysis.Sample) { s.Candidate.Errors = s.Candidate.Requests + 100000 },
		"NegativeStable":         func(s *analysis.Sample) { s.Stable.Requests = -100000 },
		"NegativeNoHost":         func(s *analysis.Sample) { s.NoHost = -100000 },
		"MoreNoHostThanAll": func(s *analysis.Sample) {
			s.NoHost, s.Candidate, s.Stable = 100000, analysis.Counts{Requests: -90000}, analysis.Counts{}
		},
		"EndsBeforeItBegins": func(s *analysis.Sample) { s.From, s.To = s.To, s.From },
		"NegativeCross":      func(s *analysis.Sample) { s.Cross.Requests = -100000 },
	}
	for name, spoil := range tests {
		for _, weight := range []v1alpha1.Permille{0, 50} {
			t.Run(fmt.Sprintf("%s at %s", name, weight), func(t *testing.T) {
				w := adopted(t)
				w.release(2)
				w.run(100, func() bool {
					return w.state.Stage == v1alpha1.StageExposing && w.state.Gate.Samples > 0 || w.atWeight(50)()
				})
				if weight > 0 {
					w.run(100, w.atWeight(weight))
				}
				w.now = w.now.Add(3 * time.Second)
				obs := w.observe()
				spoil(&obs.Evidence.Sample)
				d := w.decide(obs)
				if d.Next.Phase != v1alpha1.PhaseProgressing || d.Next.Weight != weight {
					t.Errorf("decided %s; want a hold at %s", d, weight)
				}
			})
		}
	}
}

func TestTablesThatDisagreeArePutRight(t *testing.T) {
	tests := map[string]func(w *world){
		"OneIsGone":  func(w *world) { delete(w.tables, "hosts") },
		"AllAreGone": func(w *world) { clear(w.tables) },
		"OneIsEmpty": func(w *world) { w.tables["hosts"] = nil },
		"OneIsBare":  func(w *world) { delete(w.tables, "mesh"); w.bare["mesh"] = true },
		"OneIsHigher": func(w *world) {
			w.tables["hosts"] = []shift.Route{{Version: "v1", Weight: 100}, {Version: "v2", Weight: 900}}
		},
		"OneNamesNobody": func(w *world) {
			w.tables["hosts"] = []shift.Route{{Version: "v1", Weight: 950}, {Version: "v2", Weight: 50}, {Version: "v7"}}
		},
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			w := adopted(t)
			w.release(2)
			w.run(100, w.atWeight(50))
			w.run(20, func() bool { return w.state.VerifiedSince != nil })
			w.state.RoutedSince = nil // a table that somebody took away while it was being written is nobody's wish
			spoil(w)
			d := w.decide(w.observe())
			want := []shift.Route{{Version: "v1", Weight: 950}, {Version: "v2", Weight: 50}}
			if diff := cmp.Diff(want, d.Desired.Routes); diff != "" {
				t.Errorf("routes to be written (-want +got):\n%s\n%s", diff, d)
			}
		})
	}
}

var conditionReason = regexp.MustCompile(`^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$`) // of metav1.Condition

// TestNothingThatCanBeReadBreaksTheMachine feeds Decide with any state and any observation at all. It must not panic, and where it
// decides, the decision must keep what every decision promises.
func TestNothingThatCanBeReadBreaksTheMachine(t *testing.T) {
	w := newWorld(t)
	rapid.Check(t, func(t *rapid.T) {
		anyStrategy(t)(w)
		w.spec.Suspend = rapid.IntRange(0, 9).Draw(t, "suspend") == 0
		w.spec.RollbackWindow = rapid.SampledFrom([]*v1alpha1.RollbackWindow{nil, {Revisions: 1}}).Draw(t, "window")
		state, obs := anyState(t), anyObservation(t)
		d, err := shift.Decide(w.spec, state, obs)
		if err != nil {
			if !errors.Is(err, shift.ErrInvariant) && state.Phase != "Nonsense" {
				t.Fatalf("Decide: %v; want nothing but a broken invariant", err)
			}
			return
		}
		if !conditionReason.MatchString(d.Reason) || d.Message == "" {
			t.Fatalf("reason %q, message %q: neither may be empty, and the reason must fit a condition", d.Reason, d.Message)
		}
		if d.RequeueAfter < 0 {
			t.Fatalf("look again in %s", d.RequeueAfter)
		}
		ordered := state.Order != nil || len(obs.Requests) > 0
		unseen := !obs.Evidence.Available && !w.spec.SkipAnalysis && !shift.Previewing(state)
		if d.Next.Weight > state.Weight && !ordered && (unseen || d.Next.Phase != v1alpha1.PhaseProgressing) {
			t.Fatalf("raised from %s to %s in phase %s, evidence available: %t", state.Weight, d.Next.Weight, d.Next.Phase, obs.Evidence.Available)
		}
		for _, s := range d.Desired.Scales {
			if s.Replicas < 0 {
				t.Fatalf("%s is scaled to %d", s.Version, s.Replicas)
			}
		}
	})
}

func anyVersion(t *rapid.T, what string) string {
	return rapid.SampledFrom([]string{"", "v1", "v2", "v3", "micro", "v0", "v-1", "v99999999999"}).Draw(t, what)
}

func anyTime(t *rapid.T, what string) *metav1.MicroTime {
	n := rapid.SampledFrom([]int{-100000, -10, -2, 0, 2, 100000, 1 << 30}).Draw(t, what)
	if n == 0 {
		return nil
	}
	at := metav1.NewMicroTime(epoch.Add(time.Duration(n) * time.Second))
	return &at
}

var epoch = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func anyCount(t *rapid.T, what string) int64 {
	return rapid.SampledFrom([]int64{0, 1, 3, 50, 1000, -1, -1000, 1 << 40, -1 << 40}).Draw(t, what)
}

func anyCounts(t *rapid.T, what string) v1alpha1.Counts {
	return v1alpha1.Counts{
		Requests: anyCount(t, what+" requests"), Errors: anyCount(t, what+" errors"), Timed: anyCount(t, what+" timed"), Slow: anyCount(t, what+" slow"),
	}
}

func anyState(t *rapid.T) v1alpha1.State {
	s := v1alpha1.State{
		Phase: rapid.SampledFrom([]v1alpha1.Phase{"", v1alpha1.PhaseAdopting, v1alpha1.PhaseStable, v1alpha1.PhaseProgressing, v1alpha1.PhaseRollingBack,
			v1alpha1.PhaseFailed, v1alpha1.PhaseDetaching, "Nonsense"}).Draw(t, "phase"),
		Stage: rapid.SampledFrom([]v1alpha1.Stage{"", v1alpha1.StagePreparing, v1alpha1.StageExposing, v1alpha1.StageStepping, v1alpha1.StageBaking,
			v1alpha1.StageRecording, v1alpha1.StageStarting, v1alpha1.StagePinning, v1alpha1.StageHolding, v1alpha1.StageReturning, v1alpha1.StageUnpinning,
			v1alpha1.StageRemoving, v1alpha1.StageReleasing, v1alpha1.StageReleased, "Nonsense"}).Draw(t, "stage"),
		Stable: anyVersion(t, "stable"), Candidate: anyVersion(t, "candidate"), Rejected: anyVersion(t, "rejected"),
		LastVersion: int32(rapid.IntRange(-1, 5).Draw(t, "last version")),
		Weight:      rapid.SampledFrom([]v1alpha1.Permille{0, 0, 50, 333, 500, 1000, -1, 1001}).Draw(t, "weight"),
		Rung:        int32(rapid.SampledFrom([]int{0, 1, 2, 99, -5}).Draw(t, "rung")),
		Exposure:    rapid.SampledFrom([]v1alpha1.Exposure{"", "", v1alpha1.ExposurePreview, v1alpha1.ExposureMatch, v1alpha1.ExposureMirror, "Nonsense"}).Draw(t, "exposure"),
		Group:       rapid.SampledFrom([]string{"", "", "", digestOfGroup(testers), "nonsense"}).Draw(t, "group"),
		WeightedAt:  anyTime(t, "weighted"), AwaitingSince: anyTime(t, "awaiting"),
		StartedAt: anyTime(t, "started"), StageSince: anyTime(t, "stage since"), RoutedSince: anyTime(t, "routed"),
		SubsetSince: anyTime(t, "subset"), VerifiedSince: anyTime(t, "verified"),
		Share: v1alpha1.ShareState{Candidate: anyCount(t, "share"), Total: anyCount(t, "share of"), Samples: int32(anyCount(t, "share samples"))},
		Pods: v1alpha1.PodsState{
			Waited: metav1.Duration{Duration: time.Duration(anyCount(t, "waited"))}, WaitingSince: anyTime(t, "waiting"), Ready: int32(anyCount(t, "were ready")),
		},
		Gate: v1alpha1.GateState{
			CountedTo: anyTime(t, "counted to"), Samples: int32(anyCount(t, "samples")), Candidate: anyCounts(t, "candidate"), Stable: anyCounts(t, "stable"),
			Cross: anyCounts(t, "cross"), NoHost: anyCount(t, "no host"), NoHostBaseline: anyCount(t, "baseline"), Ceiling: anyCount(t, "ceiling"),
			Retreated: rapid.Bool().Draw(t, "retreated"),
		},
		WithinRollbackWindow: rapid.IntRange(0, 4).Draw(t, "within the window") == 0, Former: []string{anyVersion(t, "former"), anyVersion(t, "former before")},
	}
	if rapid.Bool().Draw(t, "failing") {
		s.Failure = &v1alpha1.Failure{Reason: v1alpha1.ReasonAborted, Message: "so", Reject: rapid.Bool().Draw(t, "reject")}
	}
	if rapid.IntRange(0, 2).Draw(t, "has an order") == 0 {
		s.Order = &v1alpha1.Order{To: rapid.SampledFrom([]v1alpha1.Extent{v1alpha1.ExtentStep, v1alpha1.ExtentAll, v1alpha1.ExtentSkipGates, "Nonsense"}).Draw(t, "order")}
	}
	if rapid.IntRange(0, 2).Draw(t, "undoes") == 0 {
		s.Undo = &v1alpha1.UndoState{Version: anyVersion(t, "undo"), Generation: int64(rapid.IntRange(0, 3).Draw(t, "undo at"))}
	}
	if rapid.IntRange(0, 2).Draw(t, "restarts") == 0 {
		s.Restart = &v1alpha1.RestartState{Version: anyVersion(t, "restart"), At: "then"}
	}
	for range rapid.IntRange(0, 2).Draw(t, "retiring") {
		s.Retiring = append(s.Retiring, v1alpha1.Retiring{Version: anyVersion(t, "retiring version"), ZeroSince: anyTime(t, "zero"), UnroutedSince: anyTime(t, "unrouted"), KeptUnready: rapid.Bool().Draw(t, "kept unready")})
	}
	return s
}

func anyObservation(t *rapid.T) shift.Observation {
	n := func(what string) int32 { return int32(rapid.SampledFrom([]int{0, 1, 3, -1, 7}).Draw(t, what)) }
	o := shift.Observation{
		Now: epoch, Timing: timing, NextVersion: "v4", Replicas: n("strength"),
		Template: shift.Template{
			Exists: rapid.Bool().Draw(t, "exists"), Replicas: n("template replicas"), Available: n("template available"), Settled: rapid.Bool().Draw(t, "settled"),
			Held: rapid.Bool().Draw(t, "held"), Generation: int64(n("generation")), HistoryLimit: int(max(0, n("history"))), Version: anyVersion(t, "template version"),
		},
		Rule: rapid.Bool().Draw(t, "rule"),
		Intents: shift.Intents{
			Detach: rapid.IntRange(0, 3).Draw(t, "detach") == 0, Force: rapid.Bool().Draw(t, "force"),
		},
	}
	for _, action := range []v1alpha1.Action{
		v1alpha1.ActionPause, v1alpha1.ActionAbort, v1alpha1.ActionUndo, v1alpha1.ActionRetry, v1alpha1.ActionApprove, v1alpha1.ActionPromote, v1alpha1.ActionRestart, "nonsense",
	} {
		if rapid.IntRange(0, 3).Draw(t, "asked for "+string(action)) == 0 {
			value := anyVersion(t, "of") + rapid.SampledFrom([]string{"", "@5", "@x", "/all", "/skip-gates", "#again", "true"}).Draw(t, "how")
			o.Requests = append(o.Requests, shift.Request{Action: action, Source: v1alpha1.SourceField, Value: value})
		}
	}
	if rapid.IntRange(0, 4).Draw(t, "blocked") == 0 {
		o.Problems = []shift.Problem{{Reason: v1alpha1.ReasonHostClaimed, Message: "claimed"}}
	}
	for _, name := range []string{"v1", "v2", "v3"} {
		if rapid.Bool().Draw(t, "subset "+name) {
			o.Subsets = append(o.Subsets, name)
		}
		if rapid.Bool().Draw(t, "version "+name) {
			o.Versions = append(o.Versions, shift.Version{
				Name: name, Recorded: rapid.Bool().Draw(t, "recorded"), Proven: rapid.Bool().Draw(t, "proven"), Exists: rapid.Bool().Draw(t, "runs"),
				Replicas: max(0, n("replicas")), Ready: n("ready"), Available: n("available"), Restarts: n("restarts"),
				Unaddressed: rapid.Bool().Draw(t, "unaddressed"), Previewed: rapid.Bool().Draw(t, "previewed"),
			})
		}
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "tables") {
		table := shift.Table{
			Name: fmt.Sprint(i), Exists: rapid.Bool().Draw(t, "table exists"), Bare: rapid.Bool().Draw(t, "bare"),
			Matched: anyVersion(t, "matched"), Mirrored: shift.Copies{Route: shift.Route{Version: anyVersion(t, "mirrored"), Weight: 100}},
		}
		for range rapid.IntRange(0, 3).Draw(t, "routes") {
			table.Routes = append(table.Routes, shift.Route{
				Version: anyVersion(t, "route"), Weight: rapid.SampledFrom([]v1alpha1.Permille{0, 50, 333, 1000, -1, 5000}).Draw(t, "route weight"),
			})
		}
		o.Tables = append(o.Tables, table)
	}
	if rapid.Bool().Draw(t, "evidence") {
		s := analysis.Sample{Candidate: analysis.Counts(anyCounts(t, "sample candidate")), Stable: analysis.Counts(anyCounts(t, "sample stable")), NoHost: anyCount(t, "sample no host")}
		if at := anyTime(t, "from"); at != nil {
			s.From = at.Time
		}
		if at := anyTime(t, "to"); at != nil {
			s.To = at.Time
		}
		o.Evidence = shift.Evidence{Available: true, Sample: s}
	} else {
		o.Evidence.Missing = "nothing answers"
	}
	return o
}

// Of several VirtualServices of the user's one may be deleted, or be written over and refuse to be written again: nothing is raised on the
// evidence of the others, and the way back waits for none of them.
func TestAWeightThatOneTableHasLostIsNotRaised(t *testing.T) {
	for name, spoil := range map[string]func(w *world){
		"Deleted": func(w *world) { w.taken["hosts"] = true; w.unroute("hosts") },
		"Refused": func(w *world) { w.refused["hosts"] = true; w.unroute("hosts"); w.bare["hosts"] = true },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.attached = true
			w.run(60, w.at(v1alpha1.PhaseStable))
			w.release(2)
			w.run(100, func() bool { return w.state.Weight == 50 && w.state.VerifiedSince != nil })
			spoil(w)
			w.wait(60)
			if w.state.Weight != 50 || !strings.Contains(w.last.Message, "hosts does not say any more that v2 is at 5%") {
				t.Fatalf("came to %s: %s", w.state.Weight, w.last.Message)
			}
			w.errorRate[2] = 1
			w.run(60, func() bool { return w.state.Phase == v1alpha1.PhaseFailed })
			for _, r := range w.tables["mesh"] {
				if r.Version == "v2" && r.Weight > 0 {
					t.Errorf("v2 still has %s", r.Weight)
				}
			}
			clear(w.taken)
			clear(w.refused)
			w.run(60, w.at(v1alpha1.PhaseFailed))
			if diff := cmp.Diff(w.tables["mesh"], w.tables["hosts"]); diff != "" {
				t.Errorf("they do not say the same (-mesh +hosts):\n%s", diff)
			}
		})
	}
}

// Nor is a first weight given where a table has lost its subsets: what it leads to is both versions, by their pods. Nobody else would notice where
// no gate is asked.
func TestNoWeightIsGivenBesideATableWithoutSubsets(t *testing.T) {
	w := newWorld(t)
	w.attached, w.spec.SkipAnalysis = true, true
	w.run(60, w.at(v1alpha1.PhaseStable))
	w.release(2)
	w.run(60, func() bool { return w.state.Stage == v1alpha1.StageExposing })
	w.refused["hosts"] = true
	w.unroute("hosts")
	w.bare["hosts"] = true
	w.wait(60)
	if w.state.Weight != 0 || !strings.Contains(w.last.Message, "hosts does not lead to v1 alone any more") {
		t.Fatalf("came to %s: %s", w.state.Weight, w.last.Message)
	}
	clear(w.refused)
	w.run(60, func() bool { return w.state.Stable == "v2" })
}
