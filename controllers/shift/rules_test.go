package shift_test

import (
	"slices"
	"testing"
	"time"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// The rules of the mesh that this package honours, one test for each. Those of the objects are in controllers/plan, those of rivals in
// controllers/trafficshift.

// milestones are when something was first true of the simulated mesh.
type milestones struct {
	w    *world
	seen map[string]time.Time
	when map[string]func() bool
}

// follow notes, after every single write, which of the conditions have come true.
func follow(w *world, when map[string]func() bool) *milestones {
	m := &milestones{w: w, seen: map[string]time.Time{}, when: when}
	w.after = func() {
		for name, is := range m.when {
			if _, ok := m.seen[name]; !ok && is() {
				m.seen[name] = w.now
			}
		}
	}
	return m
}

// apart asserts that later came at least gap after earlier.
func (m *milestones) apart(t *testing.T, earlier, later string, gap time.Duration) {
	t.Helper()
	a, ok := m.seen[earlier]
	b, ok2 := m.seen[later]
	if !ok || !ok2 {
		t.Fatalf("%q was seen %t and %q %t; want both\n%s", earlier, ok, later, ok2, m.w.transcript.String())
	}
	if got := b.Sub(a); got < gap {
		t.Errorf("%q came %s after %q; want at least %s\n%s", later, got, earlier, gap, m.w.transcript.String())
	}
}

func (w *world) lists(version string) bool {
	for _, routes := range w.tables {
		if slices.ContainsFunc(routes, func(r shift.Route) bool { return r.Version == version }) {
			return true
		}
	}
	return false
}

// weight is the highest weight that any table gives a version.
func (w *world) weight(version string) v1alpha1.Permille {
	highest := v1alpha1.Permille(0)
	for _, routes := range w.tables {
		for _, r := range routes {
			if r.Version == version {
				highest = max(highest, r.Weight)
			}
		}
	}
	return highest
}

func (w *world) release(template int) {
	w.template = template
	w.generation++
}

func (w *world) stableIs(version string) func() bool {
	return func() bool { return w.state.Stable == version && w.state.Candidate == "" && len(w.state.Retiring) == 0 }
}

// R1: add the subset, wait until it is propagated, only then route to it; take it out of the routes, wait, only then remove it.
func TestR1SubsetBeforeRouteAndAfterIt(t *testing.T) {
	w := adopted(t)
	has := func(v string) bool { return slices.Contains(w.subsets, v) }
	m := follow(w, map[string]func() bool{
		"subset of v2":    func() bool { return has("v2") },
		"route to v2":     func() bool { return w.lists("v2") },
		"v1 unrouted":     func() bool { return !w.lists("v1") },
		"v1 unsubset":     func() bool { return !has("v1") },
		"v1 without pods": func() bool { return w.versions["v1"].replicas == 0 },
	})
	w.release(2)
	w.run(200, w.stableIs("v2"))
	m.apart(t, "subset of v2", "route to v2", timing.Settle)
	m.apart(t, "v1 unrouted", "v1 unsubset", timing.Settle)
	m.apart(t, "v1 unsubset", "v1 without pods", timing.Settle)
}

// R2: nobody but us checks that a routed subset exists; a route whose subset somebody removed is not written until it is back.
func TestR2NoRouteIsWrittenToAMissingSubset(t *testing.T) {
	w := adopted(t)
	w.release(2)
	w.run(100, w.atWeight(50))
	w.subsets = []string{"v1"}
	obs := w.observe()
	d := w.decide(obs)
	if len(d.Desired.Routes) != 0 {
		t.Errorf("routes %v are written while the subset of v2 is missing", d.Desired.Routes)
	}
	if !slices.Contains(d.Desired.Subsets, "v2") {
		t.Errorf("subsets %v; want v2 put back first", d.Desired.Subsets)
	}
}

// R3: a subset without ready endpoints answers 503 UH: pods are ready before their weight, and stay until they have drained.
func TestR3PodsBeforeWeightAndUntilDrained(t *testing.T) {
	w := adopted(t)
	drained := false
	m := follow(w, map[string]func() bool{
		"v2 ready":        func() bool { d := w.versions["v2"]; return d != nil && d.ready > 0 },
		"v2 weighted":     func() bool { return w.weight("v2") > 0 },
		"v1 at zero":      func() bool { return w.weight("v1") == 0 },
		"v1 unrouted":     func() bool { drained = drained || !w.lists("v1"); return drained },
		"v1 without pods": func() bool { return w.versions["v1"].replicas == 0 },
	})
	w.release(2)
	w.run(200, w.stableIs("v2"))
	m.apart(t, "v2 ready", "v2 weighted", timing.Settle)
	m.apart(t, "v1 at zero", "v1 unrouted", timing.Drain)
	m.apart(t, "v1 unrouted", "v1 without pods", 2*timing.Settle)
}

// R4: publish the routes from the start, so that a later change is of weights only: from the first weight on to promotion, every
// table names the same two versions.
func TestR4OnlyWeightsChangeDuringAShift(t *testing.T) {
	w := adopted(t)
	w.release(2)
	w.run(100, w.atWeight(50))
	w.after = func() {
		if w.state.Candidate != "v2" {
			return
		}
		for name, routes := range w.tables {
			if len(routes) != 2 || routes[0].Version != "v1" || routes[1].Version != "v2" {
				t.Fatalf("table %s names %v in the middle of a shift; want v1 and v2 with other weights only", name, routes)
			}
		}
	}
	w.run(200, func() bool { return w.state.Stable == "v2" })
}

// R5: new pods get traffic from any route without a subset the moment they are ready: the pin must be propagated before they can be.
func TestR5ThePinIsOldBeforeASecondVersionExists(t *testing.T) {
	w := newWorld(t)
	pinned := func() bool {
		for _, name := range tableNames {
			if routes := w.tables[name]; len(routes) != 1 || routes[0] != (shift.Route{Version: "v1", Weight: v1alpha1.Whole}) {
				return false
			}
		}
		return true
	}
	m := follow(w, map[string]func() bool{
		"pinned":           pinned,
		"template at zero": func() bool { return w.templateRun.replicas == 0 },
		"v2 exists":        func() bool { return w.versions["v2"] != nil },
	})
	w.run(100, func() bool { return w.state.Stage == v1alpha1.StagePinning && pinned() })
	w.release(2) // as early as a template can change and not start the adoption over
	w.run(200, w.stableIs("v2"))
	m.apart(t, "pinned", "template at zero", timing.Settle)
	m.apart(t, "pinned", "v2 exists", timing.Settle)
}

// R6: a rollback is one write for each VirtualService and needs nothing else: stable has all its pods until promotion is final.
func TestR6RollbackNeedsNothingButTheWeights(t *testing.T) {
	for _, weight := range []v1alpha1.Permille{50, 500, 1000} {
		t.Run(weight.String(), func(t *testing.T) {
			w := adopted(t)
			w.release(2)
			w.run(200, func() bool {
				if got := w.versions["v1"].ready; got != 3 {
					t.Fatalf("stable has %d of 3 pods at %s", got, w.state.Weight)
				}
				return w.atWeight(weight)()
			})
			w.intents.Abort = "v2"
			pods := w.versions["v2"].replicas
			w.pass(1 + len(tableNames)) // the status, and the VirtualServices, and then the process dies
			if got := w.weight("v2"); got != 0 {
				t.Errorf("v2 keeps %s after one write for each VirtualService\n%s", got, w.transcript.String())
			}
			if got := w.versions["v2"].replicas; got != pods {
				t.Errorf("v2 was scaled from %d to %d with its requests still in flight", pods, got)
			}
		})
	}
}
