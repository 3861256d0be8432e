package shift_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
	"github.com/sluice-dev/sluice/metrics/analysis"
)

// needs is how many pods a weight needs, of the most that were asked for since the candidate started.
func (w *world) needs(weight v1alpha1.Permille) int32 {
	need := (w.asked*int32(weight) + int32(v1alpha1.Whole) - 1) / int32(v1alpha1.Whole)
	if weight > 0 {
		need = max(need, min(*w.spec.MinReplicas, w.asked))
	}
	return need
}

// suffices is how many of the pods that are needed must be there before a weight is given.
func (w *world) suffices(need int32) int32 {
	share, err := w.spec.ReadyThreshold.Ratio()
	if err != nil {
		w.t.Fatalf("%v", err)
	}
	return max(1, int32(math.Ceil(float64(need)*share-1e-9)))
}

// needsGroup is how many pods a weight takes with a group of unknown size beside it: what its step says, or those for all of the traffic.
func (w *world) needsGroup(weight v1alpha1.Permille) int32 {
	for _, s := range w.spec.Steps {
		if p, err := s.Permille(); err == nil && p == weight && s.Replicas != nil {
			return max(*s.Replicas, w.needs(weight))
		}
	}
	return w.needs(v1alpha1.Whole)
}

// spared reports whether a version that is routed may lose pods: with proportional capacity, down to what its weight needs, when that
// weight has settled and drained. What is taken away is never ready while what is left is not.
func (w *world) spared(s shift.Scale, weight v1alpha1.Permille) bool {
	drain := timing.Drain
	if d := w.spec.Drain; d != nil {
		drain = d.Duration
	}
	enough := s.Replicas >= max(1, w.needs(weight))
	quiet := w.now.Sub(w.weighted) >= timing.Settle+drain
	spare := s.Version == w.state.Candidate
	if c := w.versions[w.state.Candidate]; !spare && c != nil {
		spare = w.versions[s.Version].ready >= s.Replicas && c.ready >= w.needs(w.state.Weight) // whatever the threshold
	}
	return w.spec.Capacity == v1alpha1.CapacityProportional && w.state.Candidate != "" && enough && quiet && spare
}

func (w *world) weights(table string) string { return weightsOf(w.tables[table]) }

// weightsOf are the weights of a table, without the destinations that have none.
func weightsOf(routes []shift.Route) string {
	var text strings.Builder
	for _, r := range routes {
		if r.Weight > 0 {
			fmt.Fprintf(&text, "%s=%s ", r.Version, r.Weight)
		}
	}
	return text.String()
}

// lockStep is scenario 5: four pods, quarter by quarter.
func lockStep(t *testing.T) *world {
	w := newWorld(t)
	four := int32(4)
	w.spec.Replicas, w.spec.Capacity, w.spec.Steps = &four, v1alpha1.CapacityProportional, nil
	w.templateRun = deployment{replicas: 4, ready: 4, template: 1}
	for _, s := range []int{25, 50, 75, 100} {
		w.spec.Steps = append(w.spec.Steps, v1alpha1.Step{Weight: new(intstr.FromInt(s))})
	}
	w.spec.Hold = &metav1.Duration{Duration: 10 * time.Second}
	w.run(60, w.at(v1alpha1.PhaseStable))
	return w
}

// sizes records every change of the two versions' sizes, with the weight at which it came.
func (w *world) sizes() *[]string {
	seen := &[]string{}
	w.after = func() {
		size := func(version string) int32 {
			if d, ok := w.versions[version]; ok {
				return d.replicas
			}
			return 0
		}
		now := fmt.Sprintf("%s: %d/%d", w.state.Weight, size("v1"), size("v2"))
		if len(*seen) == 0 || (*seen)[len(*seen)-1] != now {
			*seen = append(*seen, now)
		}
	}
	return seen
}

func TestLockStep(t *testing.T) {
	w := lockStep(t)
	sizes := w.sizes()
	w.release(2)
	w.run(300, w.stableIs("v2"))
	want := []string{
		"0%: 4/0", "0%: 4/1",
		"25%: 4/1", "25%: 3/1", "25%: 3/2",
		"50%: 3/2", "50%: 2/2", "50%: 2/3",
		"75%: 2/3", "75%: 1/3", "75%: 1/4",
		"100%: 1/4", // v1 waits through the bake as its last weight left it
		"0%: 1/4", "0%: 0/4",
	}
	if diff := cmp.Diff(want, *sizes); diff != "" {
		t.Errorf("sizes of v1/v2 by v2's weight (-want +got):\n%s\n%s", diff, w.transcript.String())
	}
}

func TestLockStepWalksBack(t *testing.T) {
	for name, from := range map[string]v1alpha1.Permille{"from 75%": 750, "from the bake": v1alpha1.Whole} {
		t.Run(name, func(t *testing.T) {
			w := lockStep(t)
			w.spec.Bake.Duration = time.Minute
			w.release(2)
			w.run(300, func() bool { return w.state.Weight == from && w.versions["v1"].replicas == 1 })
			least := w.versions["v1"].ready
			w.after = func() {
				v1 := w.versions["v1"]
				if v1.replicas < least {
					t.Errorf("v1 goes from %d to %d pods on the way back", least, v1.replicas)
				}
				least = v1.replicas
				for _, r := range w.tables["mesh"] {
					if r.Version == "v1" && int32(r.Weight)*4 > v1.ready*1500 && w.state.Weight > 200 {
						t.Errorf("v1 gets %s with %d of 4 pods ready\n%s", r.Weight, v1.ready, w.transcript.String())
					}
				}
			}
			w.intents.Abort = "v2"
			w.pass(-1)
			if got := w.versions["v1"].replicas; got != 4 {
				t.Errorf("v1 is scaled to %d in the pass that takes the first traffic back; want 4 at once", got)
			}
			if w.state.Weight >= from || w.state.Weight == 0 {
				t.Errorf("v2 has %s after the first pass; want as much taken back as one pod bears", w.state.Weight)
			}
			w.run(100, w.at(v1alpha1.PhaseFailed))
			if got := w.versions["v1"].ready; got != 4 {
				t.Errorf("v1 has %d ready pods in the end; want 4", got)
			}
		})
	}
}

// With no room for more than a pod above the strength, the candidate makes room for the stable version.
func TestLockStepGoesBackInLittleRoom(t *testing.T) {
	w := lockStep(t)
	w.spec.Drain = &metav1.Duration{Duration: time.Second}
	w.release(2)
	w.run(300, func() bool { return w.state.Weight == 750 && w.versions["v1"].replicas == 1 })
	w.room = 5
	w.intents.Abort = "v2"
	w.run(100, w.at(v1alpha1.PhaseFailed))
	if got := w.versions["v1"].ready; got != 4 {
		t.Errorf("v1 has %d ready pods in the end; want 4\n%s", got, w.transcript.String())
	}
}

// A candidate that has gone back may go back further: the stable version has all its pods again, until the candidate is where it was.
func TestLockStepRestoresStableOnARetreat(t *testing.T) {
	w := lockStep(t)
	w.release(2)
	w.run(300, func() bool { return w.state.Weight == 500 && w.versions["v1"].replicas == 2 })
	w.noHost = from(500)
	w.run(60, func() bool { return w.state.Weight < 500 })
	w.noHost = from(2000)
	w.pass(-1)
	if got := w.versions["v1"].replicas; got != 4 {
		t.Errorf("v1 has %d pods after a retreat to %s; want all 4", got, w.state.Weight)
	}
	w.run(300, w.stableIs("v2"))
}

// An autoscaler that sees a candidate fail fast wants fewer pods, when the stable version is about to need them all.
func TestNoWishLowersCapacityWhileTrafficMoves(t *testing.T) {
	for _, capacity := range []v1alpha1.Capacity{v1alpha1.CapacityFull, v1alpha1.CapacityProportional} {
		t.Run(string(capacity), func(t *testing.T) {
			w := lockStep(t)
			w.spec.Capacity = capacity
			w.release(2)
			w.run(300, w.atWeight(500))
			one := int32(1)
			w.spec.Replicas = &one
			w.wait(20)
			if got := w.versions["v2"].replicas; got < 2 {
				t.Errorf("v2 has %d pods at %s; want what 4 in all make", got, w.state.Weight)
			}
			w.intents.Abort = "v2"
			w.run(100, func() bool {
				return w.state.Phase == v1alpha1.PhaseRollingBack || w.state.Phase == v1alpha1.PhaseFailed
			})
			for w.state.Phase == v1alpha1.PhaseRollingBack {
				if got := w.versions["v1"].replicas; got != 4 {
					t.Fatalf("v1 has %d pods on the way back; want all 4", got)
				}
				w.pass(-1)
				w.tick()
			}
			w.run(60, func() bool { return w.versions["v1"].replicas == 1 }) // now the wish counts
		})
	}
}

func TestDrainOfTheSpecIsHonoured(t *testing.T) {
	w := adopted(t)
	w.spec.Drain = &metav1.Duration{Duration: 40 * time.Second}
	w.release(2)
	w.run(200, func() bool { return w.state.Stable == "v2" })
	w.wait(35)
	if len(w.tables["mesh"]) != 2 || w.versions["v1"].replicas == 0 {
		t.Errorf("35 s into a drain of 40 s, routes %v, v1 has %d pods", w.tables["mesh"], w.versions["v1"].replicas)
	}
	w.run(30, func() bool { return w.versions["v1"].replicas == 0 })
}

// An autoscaler that scales to nothing (KEDA's minReplicaCount of 0) is followed at rest alone: while a release is under way nobody loses a pod.
func TestAServiceThatScalesToNothing(t *testing.T) {
	w := adopted(t)
	nothing, three := int32(0), int32(3)
	w.spec.Bake.Duration = time.Minute
	w.release(2)
	w.run(200, w.atWeight(500))
	w.spec.Replicas = &nothing // the triggers of an idle service
	w.after = func() {
		if got := w.versions["v1"].replicas; got != 3 && (w.state.Candidate != "" || len(w.state.Retiring) > 0) {
			t.Errorf("%s, v2 at %s: v1 has %d pods; want all 3 for the way back", w.state.Phase, w.state.Weight, got)
		}
	}
	w.wait(5)
	w.errorRate[2] = 1
	w.run(60, func() bool { return w.state.Phase == v1alpha1.PhaseFailed && w.versions["v1"].replicas == 0 })
	if w.last.Reason != v1alpha1.ReasonRejected {
		t.Errorf("at rest without a pod, the reason is %s: %s; want %s", w.last.Reason, w.last.Message, v1alpha1.ReasonRejected)
	}

	w.after = func() {}
	w.rps = 0 // nobody asks, which is why it sleeps
	w.release(3)
	w.run(60, w.atWeight(50))
	w.wait(30)
	if got, pods := w.state.Weight, w.versions["v3"].replicas; got != 50 || pods != 1 || w.last.Reason != v1alpha1.ReasonNoTraffic {
		t.Errorf("released without traffic, v3 is at %s with %d pods: %s; want it to hold at its first weight with one pod", got, pods, w.last.Message)
	}
	w.rps, w.spec.Replicas = 100, &three // it is woken
	w.run(300, w.stableIs("v3"))
	if got := w.versions["v3"].replicas; got != 3 {
		t.Errorf("v3 has %d pods; want 3", got)
	}
}

// A wish that is lowered right after a release has begun comes too late for it, also where nobody looks until later.
func TestAWishThatIsLoweredRightAfterTheStartWaits(t *testing.T) {
	w := adopted(t)
	nothing := int32(0)
	w.release(2)
	for w.state.Candidate == "" {
		w.pass(-1)
	}
	w.spec.Suspend = true
	w.spec.Replicas = &nothing
	w.wait(5)
	w.spec.Suspend = false
	w.run(200, w.atWeight(v1alpha1.Whole))
	if got := w.versions["v2"].replicas; got != 3 {
		t.Errorf("v2 has all the traffic on %d pods; want the 3 that were asked for when it started", got)
	}
}

// What preflight asks room for is what a release has at its most, and no more.
func TestOverlapIsTheMostThatAReleaseHas(t *testing.T) {
	tests := map[string]struct {
		replicas int32
		capacity v1alpha1.Capacity
		change   func(w *world)
		want     int32
	}{
		"Full":                   {3, v1alpha1.CapacityFull, func(*world) {}, 3},
		"FullWithMoreForAStep":   {3, v1alpha1.CapacityFull, func(w *world) { w.spec.Steps[1].Replicas = new(int32(5)) }, 5},
		"Proportional":           {3, v1alpha1.CapacityProportional, func(*world) {}, 2},
		"ProportionalInQuarters": {4, v1alpha1.CapacityProportional, steps(25, 50, 75, 100), 1},
		"ProportionalInOneLeap":  {4, v1alpha1.CapacityProportional, steps(100), 4},
		"ProportionalTenths":     {10, v1alpha1.CapacityProportional, steps(10, 20, 30, 40, 50, 60, 70, 80, 90, 100), 1},
		"ProportionalOnePod":     {1, v1alpha1.CapacityProportional, func(*world) {}, 1},
		"ProportionalBlueGreen":  {4, v1alpha1.CapacityProportional, func(w *world) { strategies["blue-green"](w) }, 4},
		"FewInThePreview":        {4, v1alpha1.CapacityFull, func(w *world) { strategies["blue-green"](w); w.preview1() }, 4},
		"FewProportional":        {4, v1alpha1.CapacityProportional, func(w *world) { strategies["mirrored blue-green"](w); w.preview1() }, 4},
		"LeastOfTwo":             {4, v1alpha1.CapacityFull, func(w *world) { w.spec.MinReplicas = new(int32(2)) }, 4},
		"ProportionalLeastOfTwo": {4, v1alpha1.CapacityProportional, func(w *world) { w.spec.MinReplicas = new(int32(2)); steps(25, 50, 75, 100)(w) }, 2},
		"ProportionalLeastOfAll": {4, v1alpha1.CapacityProportional, func(w *world) { w.spec.MinReplicas = new(int32(9)); steps(25, 50, 75, 100)(w) }, 4},
		"ProportionalOnEvidence": {4, v1alpha1.CapacityProportional, func(w *world) { w.spec.Pacing, w.spec.Steps = v1alpha1.PacingAuto, nil }, 3},
		"NoPods":                 {0, v1alpha1.CapacityFull, func(*world) {}, 0},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.spec.Replicas, w.spec.Capacity = &tc.replicas, tc.capacity
			tc.change(w)
			w.spec.Default()
			if got := shift.Overlap(w.spec, tc.replicas); got != tc.want {
				t.Errorf("overlap is %d; want %d", got, tc.want)
			}
			if tc.replicas == 0 {
				return
			}
			w.tests = 50
			w.run(60, w.at(v1alpha1.PhaseStable))
			w.release(2)
			most := int32(0)
			w.after = func() {
				pods := int32(0)
				for _, d := range w.versions {
					pods += d.replicas
				}
				most = max(most, pods)
			}
			w.run(900, w.stableIs("v2"))
			if over := most - tc.replicas; over > tc.want || over < tc.want && w.spec.Pacing != v1alpha1.PacingAuto {
				t.Errorf("a release has had %d pods more at its most; preflight asks room for %d", over, tc.want)
			}
		})
	}
}

func steps(weights ...int) func(*world) {
	return func(w *world) {
		w.spec.Steps = nil
		for _, s := range weights {
			w.spec.Steps = append(w.spec.Steps, weight(s))
		}
	}
}

// A weight is given when the share of its pods that the owner asks for is available, rounded up, and never without one; the rest are started
// all the same.
func TestReadyThreshold(t *testing.T) {
	tests := map[string]struct {
		threshold v1alpha1.Percent
		replicas  int32
		enough    int32 // for 100%
		says      string
	}{
		"All":            {"100%", 10, 10, "9 of 10 available"},
		"Share":          {"80%", 10, 8, "7 of 10 available, 8 are enough"},
		"RoundedUp":      {"66.7%", 10, 7, "6 of 10 available, 7 are enough"},
		"NoMoreThanThat": {"7%", 100, 7, "6 of 100 available, 7 are enough"},
		"OneAtLeast":     {"1%", 5, 1, ""},
		"OfOne":          {"50%", 1, 1, ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.spec.Replicas, w.spec.ReadyThreshold = &tc.replicas, tc.threshold
			w.templateRun = deployment{replicas: tc.replicas, ready: tc.replicas, template: 1}
			steps(50, 100)(w)
			w.run(200, w.at(v1alpha1.PhaseStable))
			w.room = tc.replicas + tc.enough - 1
			w.release(2)
			if tc.says != "" {
				w.run(100, func() bool { return strings.Contains(w.last.Message, tc.says) })
				w.wait(20)
				if w.state.Weight != 500 || w.last.Reason != v1alpha1.ReasonCandidateCapacity {
					t.Fatalf("with a pod too few, v2 is at %s: %s", w.state.Weight, w.last)
				}
			}
			w.room++
			w.run(100, w.atWeight(v1alpha1.Whole))
			if v2 := w.versions["v2"]; v2.ready != tc.enough || v2.replicas != tc.replicas {
				t.Errorf("v2 has all the traffic with %d of %d pods; want %d of %d\n%s", v2.ready, v2.replicas, tc.enough, tc.replicas, w.transcript.String())
			}
		})
	}
}

// The share that is enough for a weight is not enough to take pods from the stable version.
func TestReadyThresholdSparesTheStableVersion(t *testing.T) {
	w := lockStep(t)
	w.spec.ReadyThreshold = "50%"
	w.release(2)
	w.run(300, func() bool { return w.state.Weight == 250 && w.versions["v1"].replicas == 3 })
	w.room = 4 // none for v2's second pod
	w.run(60, w.atWeight(500))
	w.wait(9)
	if v1, v2 := w.versions["v1"], w.versions["v2"]; v2.ready != 1 || v2.replicas != 2 || v1.replicas != 3 {
		t.Errorf("at 50%%, v1 has %d pods, and v2 %d of %d ready; want v1 to keep its 3 until v2 has 2", v1.replicas, v2.ready, v2.replicas)
	}
	w.room = 6
	w.run(60, func() bool { return w.versions["v1"].replicas == 2 })
}

// fewPods is a world in which v2 has all the traffic, its bake is over, and 1 of its 10 pods is ready: enough for any weight.
func fewPods(t *testing.T) *world {
	w := newWorld(t)
	ten := int32(10)
	w.spec.Replicas, w.spec.ReadyThreshold = &ten, "10%"
	w.templateRun = deployment{replicas: 10, ready: 10, template: 1}
	steps(50, 100)(w)
	w.run(200, w.at(v1alpha1.PhaseStable))
	w.room = 11
	w.release(2)
	w.run(100, w.atWeight(v1alpha1.Whole))
	w.wait(60)
	return w
}

// What is enough for a weight is not enough to give the stable version up: the candidate bakes on, watched and told, until all of its pods are
// ready, or somebody ends that.
func TestAPromotionWaitsForEveryPod(t *testing.T) {
	for name, tc := range map[string]struct {
		do  func(*world)
		end func(*world) bool
	}{
		"TheyCome":   {func(w *world) { w.room = 20 }, func(w *world) bool { return w.state.Stable == "v2" && w.versions["v2"].ready == 10 }},
		"FewerAreIt": {func(w *world) { w.spec.ReadyThreshold = "100%" }, func(w *world) bool { return w.state.Stable == "v2" }},
		"Promoted":   {func(w *world) { w.asks(v1alpha1.ActionPromote, "v2") }, func(w *world) bool { return w.state.Stable == "v2" }},
		"SkipGates":  {func(w *world) { w.asks(v1alpha1.ActionPromote, "v2/skip-gates") }, func(w *world) bool { return w.state.Stable == "v2" }},
		"Superseded": {func(w *world) { w.release(3) }, func(w *world) bool { return w.state.Candidate == "v3" }},
		"Bad": {func(w *world) { w.errorRate[2] = 1 }, func(w *world) bool {
			return w.state.Phase == v1alpha1.PhaseFailed && w.versions["v1"].ready == 10
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := fewPods(t)
			if w.state.Stable != "v1" || w.state.Stage != v1alpha1.StageBaking || w.versions["v1"].ready != 10 ||
				w.last.Reason != v1alpha1.ReasonCandidateCapacity || !strings.Contains(w.last.Message, "1 of 10 ready") || w.state.Pods.WaitingSince != nil {
				t.Fatalf("%s, with %d pods of v1; want it to wait with v1 behind it, and no deadline", w.last, w.versions["v1"].ready)
			}
			tc.do(w)
			w.run(60, func() bool { return tc.end(w) })
		})
	}
	t.Run("AllAreAskedFor", func(t *testing.T) { // a pod that is lost in the bake holds nothing: all were there for the weight
		w := adopted(t)
		w.release(2)
		w.run(200, w.atWeight(v1alpha1.Whole))
		w.versions["v2"].ready, w.room = 2, 5
		w.run(30, w.stableIs("v2"))
	})
}

// What takes the service over is no weight: it waits for every pod.
func TestReadyThresholdDoesNotCountAtAdoption(t *testing.T) {
	w := newWorld(t)
	w.spec.ReadyThreshold, w.room = "10%", 2
	w.wait(30)
	if w.state.Stage != v1alpha1.StageStarting || w.held {
		t.Errorf("with 2 of 3 pods, the service is at %s; want it to wait", w.last)
	}
	w.room = 3
	w.run(60, w.at(v1alpha1.PhaseStable))
}

// Pods that are not enough in time are told with how many would have been.
func TestReadyThresholdAndTheDeadline(t *testing.T) {
	w := adopted(t)
	ten := int32(10)
	w.spec.Replicas, w.spec.ReadyThreshold, w.spec.Deadline = &ten, "80%", &metav1.Duration{Duration: 30 * time.Second}
	w.run(60, func() bool { return w.versions["v1"].ready == 10 })
	w.room = 17
	w.release(2)
	w.run(200, w.at(v1alpha1.PhaseFailed))
	if got := w.ended[0]; got.Reason != v1alpha1.ReasonNotReadyInTime || !strings.Contains(got.Message, "7 of 10 available, 8 are enough") {
		t.Errorf("ended as %s: %s", got.Reason, got.Message)
	}
}

// preview1 has one pod while the preview alone shows a candidate.
func (w *world) preview1() { w.spec.Preview = &v1alpha1.Preview{Replicas: new(int32(1))} }

// A preview has the pods that its owner wants for it, until all that is asked of it has passed; the others are made then, and nobody is moved
// before they are there.
func TestAPreviewOfFewPods(t *testing.T) {
	for _, capacity := range []v1alpha1.Capacity{v1alpha1.CapacityFull, v1alpha1.CapacityProportional} {
		t.Run(string(capacity), func(t *testing.T) {
			w := lockStep(t)
			w.spec.Capacity = capacity
			blueGreen()(w)
			w.preview1()
			w.spec.Gates = []v1alpha1.Gate{{Name: "person", Manual: &v1alpha1.ManualGate{Before: "100"}}}
			w.spec.Default()
			seen := w.sizes()
			w.release(2)
			w.run(60, func() bool { return len(w.state.Awaiting) > 0 })
			w.wait(30)
			if got := w.versions["v2"]; got.replicas != 1 || w.state.Pods.Waited.Duration > 10*time.Second || w.state.Pods.WaitingSince != nil {
				t.Fatalf("waiting for a person, v2 has %d pods, and waited %s for them; want one, and no clock running\n%s", got.replicas, w.state.Pods.Waited, w.transcript.String())
			}
			w.room = 7
			w.intents.Approve = "v2"
			w.run(30, func() bool { return strings.Contains(w.last.Message, "3 of 4 available") })
			w.wait(10)
			if w.state.Weight != 0 || w.last.Reason != v1alpha1.ReasonCandidateCapacity || w.state.Pods.WaitingSince == nil {
				t.Fatalf("with 3 of 4 pods v2 is at %s: %s; want the switch to wait, at the cost of the deadline", w.state.Weight, w.last)
			}
			w.room = 8
			w.run(100, w.stableIs("v2"))
			want := []string{"0%: 4/0", "0%: 4/1", "0%: 4/4", "100%: 4/4", "0%: 4/4", "0%: 0/4"}
			if diff := cmp.Diff(want, *seen); diff != "" {
				t.Errorf("sizes of v1/v2 by v2's weight (-want +got):\n%s\n%s", diff, w.transcript.String())
			}
		})
	}
}

// The pods that do not come for the switch end the release, and no user was on it; so does a gate that fails while they come.
func TestAPreviewThatCannotGrow(t *testing.T) {
	for name, tc := range map[string]struct {
		say  analysis.Outcome
		want string
	}{
		"InTime":      {analysis.Pass, v1alpha1.ReasonNotReadyInTime},
		"AndIsJudged": {analysis.Fail, v1alpha1.ReasonGateFailed},
	} {
		t.Run(name, func(t *testing.T) {
			w := adopted(t)
			blueGreen()(w)
			w.preview1()
			w.spec.Gates = []v1alpha1.Gate{{Name: "desk", Webhook: &v1alpha1.WebhookGate{URL: "http://desk"}}}
			w.spec.Deadline, w.desk, w.room = &metav1.Duration{Duration: 30 * time.Second}, analysis.Pass, 5
			w.spec.Default()
			w.release(2)
			w.run(60, func() bool { return w.versions["v2"] != nil && w.versions["v2"].replicas == 3 })
			w.desk = tc.say
			w.run(60, w.at(v1alpha1.PhaseFailed))
			if got := w.ended[0]; got.Reason != tc.want || got.Weight != "0%" {
				t.Errorf("ended as %s at %s: %s; want %s, and no user on it", got.Reason, got.Weight, got.Message, tc.want)
			}
		})
	}
}

// A mirror gets copies of a share of the traffic, so it has the pods for that, and those for the switch come during it.
func TestAMirrorAfterAPreviewOfFewPods(t *testing.T) {
	w := lockStep(t)
	w.spec.Capacity = v1alpha1.CapacityFull
	strategies["mirrored blue-green"](w)
	w.preview1()
	w.release(2)
	w.after = func() {
		if w.mirrored["mesh"].Version == "v2" && w.versions["v2"].ready < 2 && w.state.Exposure == v1alpha1.ExposureMirror {
			t.Fatalf("v2 gets copies of half of the traffic on %d pods; want 2 of 4", w.versions["v2"].ready)
		}
	}
	w.run(300, w.stableIs("v2"))
}

// Who sends a preview on by hand goes past its gates, and not past the pods of the switch.
func TestAnOrderInAPreviewOfFewPods(t *testing.T) {
	w := adopted(t)
	blueGreen()(w)
	w.preview1()
	w.spec.Hold, w.room = &metav1.Duration{Duration: time.Hour}, 5
	w.release(2)
	w.run(60, func() bool { return w.state.Exposure == v1alpha1.ExposurePreview })
	w.requests = []shift.Request{{Action: v1alpha1.ActionPromote, Source: v1alpha1.SourceField, Value: "v2/skip-gates"}}
	w.wait(30)
	if got := w.versions["v2"]; got.replicas != 3 || w.state.Weight != 0 {
		t.Fatalf("v2 has %d pods and %s: %s; want all asked for, and awaited", got.replicas, w.state.Weight, w.last)
	}
	w.room = 6
	w.run(60, w.stableIs("v2"))
}

// However small its share, a version has the pods that its owner wants for every share, as far as there are so many in all: a budget for
// disruptions of one leaves one that answers.
func TestMinReplicas(t *testing.T) {
	tests := map[string]struct {
		least    int32
		capacity v1alpha1.Capacity
		want     []string
	}{
		"Proportional": {2, v1alpha1.CapacityProportional, []string{
			"0%: 4/0", "0%: 4/2", "25%: 4/2", "25%: 3/2", "50%: 3/2", "50%: 2/2", "50%: 2/3", "75%: 2/3", "75%: 2/4", "100%: 2/4", "0%: 2/4", "0%: 0/4",
		}},
		"Full":              {2, v1alpha1.CapacityFull, []string{"0%: 4/0", "0%: 4/2", "25%: 4/2", "50%: 4/2", "50%: 4/3", "75%: 4/3", "75%: 4/4", "100%: 4/4", "0%: 4/4", "0%: 0/4"}},
		"NoMoreThanThatAll": {9, v1alpha1.CapacityProportional, []string{"0%: 4/0", "0%: 4/4", "25%: 4/4", "50%: 4/4", "75%: 4/4", "100%: 4/4", "0%: 4/4", "0%: 0/4"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := lockStep(t)
			w.spec.MinReplicas, w.spec.Capacity = &tc.least, tc.capacity
			sizes := w.sizes()
			w.release(2)
			w.run(300, w.stableIs("v2"))
			if diff := cmp.Diff(tc.want, *sizes); diff != "" {
				t.Errorf("sizes of v1/v2 by v2's weight (-want +got):\n%s\n%s", diff, w.transcript.String())
			}
		})
	}
}

// On the way back the candidate makes room for the stable version, and keeps what it has weight for.
func TestMinReplicasOnTheWayBack(t *testing.T) {
	w := lockStep(t)
	w.spec.MinReplicas = new(int32(2))
	w.spec.Drain = &metav1.Duration{Duration: time.Second}
	w.release(2)
	w.run(300, func() bool { return w.state.Weight == 750 && w.versions["v1"].replicas == 2 })
	w.room = 5
	w.intents.Abort = "v2"
	w.after = func() {
		for _, r := range w.tables["mesh"] {
			if d := w.versions[r.Version]; r.Weight > 0 && d.replicas < 2 {
				t.Fatalf("%s has %s on %d pods", r.Version, r.Weight, d.replicas)
			}
		}
	}
	w.run(100, w.at(v1alpha1.PhaseFailed))
}
