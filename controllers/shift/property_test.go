package shift_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
	"github.com/sluice-dev/sluice/metrics/analysis"
)

// TestInvariantsHoldUnderAnything runs random lives: releases, crashes between any two writes, evidence that comes and goes, pods that
// fail, ladders that are edited, people who pause, suspend, abort and hand back, with every strategy. The world asserts the design's invariants after every single write; at the end, when
// everything is well again, the shift must find its way to rest.
func TestInvariantsHoldUnderAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.spec.Capacity = rapid.SampledFrom([]v1alpha1.Capacity{v1alpha1.CapacityFull, v1alpha1.CapacityProportional}).Draw(t, "capacity")
		w.spec.ReadyThreshold = rapid.SampledFrom([]v1alpha1.Percent{"100%", "100%", "70%", "1%"}).Draw(t, "ready threshold")
		w.spec.MinReplicas = new(int32(rapid.IntRange(1, 4).Draw(t, "least")))
		w.spec.KeepRejected.Duration = rapid.SampledFrom([]time.Duration{0, 10 * time.Second, time.Hour}).Draw(t, "kept at first")
		w.attached = rapid.Bool().Draw(t, "attached")
		anyStrategy(t)(w)
		liveOn(t, w)
	})
}

// liveOn lets a life go on in any way at all, and then has it come to rest.
func liveOn(t *rapid.T, w *world) {
	for range rapid.IntRange(20, 150).Draw(t, "seconds") {
		disturb(t, w)
		crash := -1
		if rapid.IntRange(0, 3).Draw(t, "crashes") == 0 {
			crash = rapid.IntRange(0, 8).Draw(t, "crash after")
		}
		w.pass(crash)
		w.idle()
		w.tick()
	}
	comeToRest(w)
}

// comeToRest has everything be well again, and waits for the shift to find its way. A candidate beside a stable version that failed a while ago is held
// until that is past, which takes a quarter of an hour and more.
func comeToRest(w *world) {
	heal(w)
	w.run(7200, func() bool {
		w.intents.Approve = w.state.Candidate
		rest := w.state.Phase == v1alpha1.PhaseStable || w.state.Phase == v1alpha1.PhaseFailed
		return rest && len(w.state.Retiring) == 0 && w.templateRun.replicas == 0
	})
}

// TestInvariantsHoldWithinARollbackWindow runs such lives from where two versions came before the stable one, and the template goes back.
func TestInvariantsHoldWithinARollbackWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.run(60, w.at(v1alpha1.PhaseStable))
		w.spec.SkipAnalysis = true // gets there soon
		for template := 2; template <= 3; template++ {
			w.release(template)
			w.run(300, func() bool { return w.records[w.state.Stable] == template && len(w.state.Retiring) == 0 })
		}
		w.spec.Capacity = rapid.SampledFrom([]v1alpha1.Capacity{v1alpha1.CapacityFull, v1alpha1.CapacityProportional}).Draw(t, "capacity")
		anyStrategy(t)(w)
		w.spec.RollbackWindow = &v1alpha1.RollbackWindow{Revisions: int32(rapid.IntRange(1, 3).Draw(t, "revisions"))}
		w.release(rapid.IntRange(1, 2).Draw(t, "back to"))
		liveOn(t, w)
	})
}

// TestInvariantsHoldWhereTheStatusIsLost has such lives lose their status while one of the tables cannot be read: nothing is written until it can
// be, and then the shift finds its place.
func TestInvariantsHoldWhereTheStatusIsLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.run(60, w.at(v1alpha1.PhaseStable))
		w.attached = true
		anyStrategy(t)(w)
		w.release(2)
		for range rapid.IntRange(0, 60).Draw(t, "seconds before") {
			disturb(t, w)
			w.pass(-1)
			w.tick()
		}
		if len(w.tables) < len(tableNames) || w.spec.Suspend || w.templateRun.replicas > 0 {
			return // which version users are on is for a person to say, or nothing is done anyway
		}
		w.state, w.unread[rapid.SampledFrom(tableNames).Draw(t, "unread")] = v1alpha1.State{}, true
		stood, subsets := maps.Clone(w.tables), slices.Clone(w.subsets)
		for range rapid.IntRange(1, 10).Draw(t, "seconds lost") {
			crashPods(t, w)
			w.pass(-1)
			w.tick()
			if diff := cmp.Diff(stood, w.tables) + cmp.Diff(subsets, w.subsets); diff != "" {
				t.Fatalf("written although nobody knows who serves (-before +after):\n%s\n%s", diff, w.transcript.String())
			}
		}
		comeToRest(w)
	})
}

func disturb(t *rapid.T, w *world) {
	switch rapid.IntRange(0, 35).Draw(t, "event") {
	case 0, 1:
		w.template = rapid.IntRange(1, 4).Draw(t, "template")
		w.generation++
	case 2:
		w.evidence = !w.evidence
	case 3:
		w.errorRate[rapid.IntRange(1, 4).Draw(t, "bad")] = rapid.SampledFrom([]float64{0, 0, 0.02, 0.5, 1}).Draw(t, "rate")
	case 4:
		w.spec.Paused = !w.spec.Paused
	case 5:
		w.intents.Abort = w.state.Candidate
	case 6:
		w.intents.Abort = ""
	case 7:
		crashPods(t, w)
	case 8:
		w.rps = rapid.SampledFrom([]int64{0, 1, 100, 1000}).Draw(t, "rps")
	case 9:
		n := int32(rapid.IntRange(0, 6).Draw(t, "replicas"))
		w.spec.Replicas = &n
	case 10:
		w.intents.Detach = rapid.Bool().Draw(t, "detach")
		w.intents.Force = rapid.Bool().Draw(t, "force")
		w.held = w.held && !(w.intents.Detach && rapid.Bool().Draw(t, "unmarked"))
	case 11:
		w.state.Gate.CountedTo = nil // the collector has to start over
	case 12:
		w.noHost = from(rapid.SampledFrom([]v1alpha1.Permille{0, 1, 500, 1000, 2000}).Draw(t, "no host from"))
	case 13:
		skew := rapid.SampledFrom([]v1alpha1.Permille{0, 1, 1, 3}).Draw(t, "skew")
		w.measured = func(share v1alpha1.Permille) v1alpha1.Permille { return min(share*skew, v1alpha1.Whole) }
	case 14:
		w.problems = nil
		if rapid.Bool().Draw(t, "blocked") {
			w.problems = []shift.Problem{{Reason: v1alpha1.ReasonHostClaimed, Message: "claimed"}}
		}
	case 15:
		w.historyLimit = rapid.IntRange(0, 2).Draw(t, "history")
	case 25:
		version := rapid.SampledFrom([]string{w.state.Candidate, w.state.Stable, "v1", "v2"}).Draw(t, "version")
		action := rapid.SampledFrom([]v1alpha1.Action{v1alpha1.ActionPromote, v1alpha1.ActionPromote, v1alpha1.ActionUndo, v1alpha1.ActionRestart}).Draw(t, "action")
		how := ""
		if action == v1alpha1.ActionPromote {
			how = rapid.SampledFrom([]string{"", "/all", "/skip-gates", "@5"}).Draw(t, "how far")
		}
		w.requests = []shift.Request{{Action: action, Source: v1alpha1.SourceField, Value: version + how}}
	case 26:
		w.requests = nil
	case 27:
		w.spec.Gates = nil
		if rapid.Bool().Draw(t, "desk at the start") {
			w.deskAtStart().DryRun = rapid.Bool().Draw(t, "dry run")
		}
	case 30:
		w.stopped = !w.stopped
	case 28, 29:
		w.desk = rapid.SampledFrom([]analysis.Outcome{analysis.Pass, analysis.Inconclusive, analysis.Fail}).Draw(t, "desk says")
	case 31:
		w.spec.KeepRejected = &metav1.Duration{Duration: rapid.SampledFrom([]time.Duration{0, 10 * time.Second, time.Hour}).Draw(t, "keep")}
	case 16:
		w.intents.Retry = w.state.Rejected
	case 17:
		w.spec.Suspend = !w.spec.Suspend
	case 18:
		w.spec.SkipAnalysis = !w.spec.SkipAnalysis
	case 19:
		anyStrategy(t)(w)
	case 20:
		w.spec.Session, w.spec.Preview, w.spec.RollbackWindow = nil, nil, nil
		if rapid.Bool().Draw(t, "rollback window") {
			w.spec.RollbackWindow = &v1alpha1.RollbackWindow{Revisions: int32(rapid.IntRange(1, 3).Draw(t, "revisions"))}
		}
		if rapid.Bool().Draw(t, "preview") {
			w.spec.Preview = &v1alpha1.Preview{}
		}
		if rapid.Bool().Draw(t, "sticky") {
			w.spec.Session = &v1alpha1.Session{}
		}
	case 21:
		w.group, w.tests = rapid.SampledFrom([]v1alpha1.Permille{0, 1, 500, 1000}).Draw(t, "group"), rapid.SampledFrom([]int64{0, 50}).Draw(t, "tests")
	case 22:
		w.intents.Approve = w.state.Candidate
	case 23:
		delete(w.matched, "hosts") // by hand
		delete(w.mirrored, "hosts")
	case 33, 34:
		disturbTables(t, w)
	case 24:
		w.matched["mesh"] = w.state.Candidate // by hand, with no more right to it than a weight has
		if !slices.Contains(w.subsets, w.state.Candidate) {
			delete(w.matched, "mesh")
		}
	}
}

// disturbTables has one of the tables deleted, made again as git has it, or refuse every write, or every read too, for a while.
func disturbTables(t *rapid.T, w *world) {
	name := rapid.SampledFrom(tableNames).Draw(t, "table")
	w.refused[name] = rapid.Bool().Draw(t, "refused")
	if w.attached && rapid.Bool().Draw(t, "deleted or made again") {
		w.taken[name] = !w.taken[name]
		w.unroute(name)
	}
	w.unread[name] = w.attached && rapid.Bool().Draw(t, "unread")
}

// anyStrategy is one with all that it takes; each drops what another has set.
func anyStrategy(t *rapid.T) strategy {
	s := strategies[rapid.SampledFrom(slices.Sorted(maps.Keys(strategies))).Draw(t, "strategy")]
	few := int32(rapid.IntRange(0, 4).Draw(t, "pods in the preview"))
	return func(w *world) {
		w.spec.Strategy, w.spec.Pacing, w.spec.SkipAnalysis, w.spec.ABTest = v1alpha1.StrategyCanary, v1alpha1.PacingLadder, false, nil
		w.spec.Steps = []v1alpha1.Step{weight(5), weight(50), weight(100)}
		s(w)
		if w.spec.Preview = nil; w.spec.Strategy == v1alpha1.StrategyBlueGreen && few > 0 {
			w.spec.Preview = &v1alpha1.Preview{Replicas: &few}
		}
	}
}

func crashPods(t *rapid.T, w *world) {
	for _, name := range w.names() {
		if d, ok := w.versions[name]; ok && rapid.Bool().Draw(t, "crash "+name) {
			d.ready = int32(rapid.IntRange(0, int(d.ready)).Draw(t, "left of "+name))
			d.age = 0
		}
	}
}

func heal(w *world) {
	w.evidence, w.rps, w.spec.Paused, w.problems = true, 100, false, nil
	w.noHost, w.measured = from(2000), func(share v1alpha1.Permille) v1alpha1.Permille { return share }
	w.intents.Abort, w.intents.Detach, w.desk = "", false, analysis.Pass
	w.spec.KeepRejected.Duration = 0
	w.stopped, w.spec.Suspend, w.group, w.tests = false, false, 200, 0
	clear(w.errorRate)
	clear(w.broken)
	clear(w.taken)
	clear(w.refused)
	clear(w.unread)
	for _, d := range w.versions {
		d.restarts = 0
	}
}

// TestWorseEvidenceNeverGivesMoreExposure asks at every second of a release what would come next had more requests failed since the last
// look, and all else been the same. (Two whole releases cannot be compared: the worse one is found out, and may recover, sooner.)
func TestWorseEvidenceNeverGivesMoreExposure(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		anyStrategy(t)(w)
		w.tests = rapid.SampledFrom([]int64{0, 50}).Draw(t, "tests")
		w.errorRate[2] = rapid.Float64Range(0, 0.1).Draw(t, "errors")
		w.run(60, w.at(v1alpha1.PhaseStable))
		w.template = 2
		for range 120 {
			w.pass(-1)
			w.tick()
			obs := w.observe()
			c := &obs.Evidence.Sample.Candidate
			before := w.decide(obs)
			c.Errors = rapid.Int64Range(c.Errors, c.Requests).Draw(t, "worse")
			if after := w.decide(obs); w.exposure(after, 2) > w.exposure(before, 2) {
				t.Fatalf("with %d of %d failures since the last look comes %s, with fewer only %s\n%s", c.Errors, c.Requests, after, before, w.transcript.String())
			}
		}
	})
}
