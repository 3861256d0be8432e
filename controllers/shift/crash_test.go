package shift_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// outcome is all that is left of a release: what a crash in the middle of it must not change.
type outcome struct {
	Phase            v1alpha1.Phase
	Stable, Rejected string
	LastVersion      int32
	Tables           map[string][]shift.Route
	Subsets          []string
	Replicas         map[string]int32
	Records          map[string]int
	Proven           map[string]bool
	Matched          map[string]string
	Mirrored         map[string]shift.Copies
	Held             bool
	TemplateReplicas int32
	Ended            []string
}

func (w *world) outcome() outcome {
	o := outcome{
		Phase: w.state.Phase, Stable: w.state.Stable, Rejected: w.state.Rejected, LastVersion: w.state.LastVersion,
		Matched: maps.Clone(w.matched), Mirrored: maps.Clone(w.mirrored), Tables: maps.Clone(w.tables), Subsets: slices.Clone(w.subsets), Records: maps.Clone(w.records), Proven: maps.Clone(w.proven),
		Replicas: map[string]int32{}, Held: w.held, TemplateReplicas: w.templateRun.replicas,
	}
	for name, d := range w.versions {
		o.Replicas[name] = d.replicas
	}
	for _, e := range w.ended {
		o.Ended = append(o.Ended, fmt.Sprintf("%s %s at %s, within the rollback window: %t", e.Version, e.Reason, e.Weight, e.WithinRollbackWindow))
	}
	return o
}

// TestADeathAfterAnyWriteChangesNothing lives a whole life, and lives it again as often as it has writes: each time the process dies
// after another one of them, the status included, and a new process goes on.
func TestADeathAfterAnyWriteChangesNothing(t *testing.T) {
	lives := map[string]func(w *world){
		"Adoption": func(w *world) { w.run(100, w.at(v1alpha1.PhaseStable)) },
		"Release": func(w *world) {
			w.run(100, w.at(v1alpha1.PhaseStable))
			w.release(2)
			w.run(300, w.stableIs("v2"))
		},
		"Rollback": func(w *world) {
			w.errorRate[2] = 0.5
			w.run(100, w.at(v1alpha1.PhaseStable))
			w.release(2)
			w.run(300, w.at(v1alpha1.PhaseFailed))
		},
		"Abort at 50%": func(w *world) {
			w.run(100, w.at(v1alpha1.PhaseStable))
			w.release(2)
			w.run(300, w.atWeight(500))
			w.intents.Abort = "v2"
			w.run(300, w.at(v1alpha1.PhaseFailed))
		},
		"Promote all": func(w *world) {
			w.run(100, w.at(v1alpha1.PhaseStable))
			w.release(2)
			w.run(300, w.atWeight(50))
			w.requests = []shift.Request{{Action: v1alpha1.ActionPromote, Source: v1alpha1.SourceField, Value: "v2/all"}}
			w.run(300, w.stableIs("v2"))
		},
		"Promote by one step, paused": func(w *world) {
			w.run(100, w.at(v1alpha1.PhaseStable))
			w.release(2)
			w.run(300, w.atWeight(50))
			w.spec.Paused = true
			w.requests = []shift.Request{{Action: v1alpha1.ActionPromote, Source: v1alpha1.SourceField, Value: "v2"}}
			w.run(300, w.atWeight(500))
			w.wait(20)
		},
		"Undo and restart": func(w *world) {
			w.spec.Steps, w.spec.Hold.Duration, w.spec.Bake.Duration, w.rps = w.spec.Steps[2:], 0, 0, 1000
			w.run(100, w.at(v1alpha1.PhaseStable))
			w.release(2)
			w.run(300, w.stableIs("v2"))
			w.requests = []shift.Request{{Action: v1alpha1.ActionUndo, Source: v1alpha1.SourceField, Value: "previous"}}
			w.run(300, w.stableIs("v1"))
			w.requests = append(w.requests, shift.Request{Action: v1alpha1.ActionRestart, Source: v1alpha1.SourceField, Value: "v1"})
			w.run(300, func() bool { return w.restarts["v1"] != "" && w.state.Restart == nil })
		},
		"Back within a rollback window": func(w *world) {
			w.spec.Steps, w.spec.RollbackWindow = w.spec.Steps[1:], &v1alpha1.RollbackWindow{Revisions: 1}
			w.run(100, w.at(v1alpha1.PhaseStable))
			w.release(2)
			w.run(300, w.stableIs("v2"))
			w.release(1)
			w.run(300, w.stableIs("v1"))
		},
		"Supersede": func(w *world) {
			w.run(100, w.at(v1alpha1.PhaseStable))
			w.release(2)
			w.run(300, w.atWeight(500))
			w.release(3)
			w.run(300, w.stableIs("v3"))
		},
		"Proportional release": func(w *world) {
			w.spec.Capacity = v1alpha1.CapacityProportional
			w.run(100, w.at(v1alpha1.PhaseStable))
			w.release(2)
			w.run(300, w.stableIs("v2"))
		},
		"Proportional abort at 50%": func(w *world) {
			w.spec.Capacity = v1alpha1.CapacityProportional
			w.run(100, w.at(v1alpha1.PhaseStable))
			w.release(2)
			w.run(300, w.atWeight(500))
			w.wait(10) // v1 has given pods up
			w.intents.Abort = "v2"
			w.run(300, w.at(v1alpha1.PhaseFailed))
		},
		"Detach": func(w *world) {
			w.run(100, w.at(v1alpha1.PhaseStable))
			w.intents.Detach = true
			w.run(300, func() bool { return w.state.Stage == v1alpha1.StageReleased })
		},
	}
	for _, name := range []string{"all of it", "grouped for a while", "mirrored blue-green", "ab-test", "skipping"} { // every rung there is
		lives["Release of "+name] = func(w *world) {
			w.run(100, w.at(v1alpha1.PhaseStable))
			strategies[name](w)
			w.release(2)
			w.run(400, w.stableIs("v2"))
		}
	}
	for _, at := range stations {
		adoptAndGo := func(w *world) {
			w.run(100, w.at(v1alpha1.PhaseStable))
			at.strategy(w)
			w.release(2)
			w.run(300, func() bool { return at.there(w) })
		}
		lives["Abort at "+at.name] = func(w *world) {
			adoptAndGo(w)
			w.intents.Abort = "v2"
			w.run(300, w.at(v1alpha1.PhaseFailed))
		}
		lives["Supersede at "+at.name] = func(w *world) {
			adoptAndGo(w)
			w.release(3)
			w.run(400, func() bool { return w.stableIs("v3")() || w.state.Candidate == "v3" && len(w.state.Awaiting) > 0 })
			w.intents.Approve = "v3"
			w.run(400, w.stableIs("v3"))
		}
	}
	for name, live := range lives {
		t.Run(name, func(t *testing.T) {
			whole := newWorld(t)
			live(whole)
			whole.wait(3)
			want := whole.outcome()
			for _, k := range whole.turns { // to die where nothing changes changes nothing
				w := newWorld(t)
				w.dieIn = k
				live(w)
				w.wait(3) // what the last pass may have left undone
				if diff := cmp.Diff(want, w.outcome()); diff != "" {
					t.Fatalf("dying after write %d of %d ends elsewhere (-want +got):\n%s\n%s", k, whole.wrote, diff, w.transcript.String())
				}
			}
		})
	}
}

// A step up is told when it is read back, once, however often the controller dies between deciding and writing it.
func TestAStepIsToldOnceItIsReadBack(t *testing.T) {
	for _, dies := range []bool{false, true} {
		t.Run(fmt.Sprintf("Dies=%v", dies), func(t *testing.T) {
			w := adopted(t)
			w.template, w.generation = 2, w.generation+1
			for range 120 {
				told, writes := len(w.arrived), -1
				if raises := w.decide(w.observe()).Next.Weight > w.state.Weight; raises && dies {
					writes = 1 // the status alone
				}
				w.pass(writes)
				if writes == 1 && len(w.arrived) != told {
					t.Fatalf("%v is told before it is written", w.arrived[told:])
				}
				w.tick()
			}
			want := []shift.Arrival{{From: 0, Place: "5%"}, {From: 50, Place: "50%"}, {From: 500, Place: "100%"}}
			if diff := cmp.Diff(want, w.arrived); diff != "" || w.state.Stable != "v2" {
				t.Errorf("stable is %s; steps told (-want +got):\n%s", w.state.Stable, diff)
			}
		})
	}
}
