package v1alpha1_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

func everywhere(o v1alpha1.Origin) func(string) v1alpha1.Origin {
	return func(string) v1alpha1.Origin { return o }
}

func steps(weights ...int) []v1alpha1.Step {
	var all []v1alpha1.Step
	for _, w := range weights {
		all = append(all, v1alpha1.Step{Weight: new(intstr.FromInt(w))})
	}
	return all
}

func lasting(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }

// stored is a spec as the API server keeps it: what its author left out has the schema's default, where it has one.
func stored(spec v1alpha1.TrafficShiftSpec) v1alpha1.TrafficShiftSpec {
	pacing, steps, hold := spec.Pacing, spec.Steps, spec.Hold
	spec.Default()
	spec.Pacing, spec.Steps, spec.Hold = pacing, steps, hold
	return spec
}

func TestInherit(t *testing.T) {
	n := func(v int32) *int32 { return &v }
	gate := func(name, promql string) v1alpha1.Gate {
		q := &v1alpha1.QueryGate{PromQL: promql, Min: "1", Window: lasting(time.Minute), NoData: v1alpha1.NoDataHold, Failures: n(2)}
		return v1alpha1.Gate{Name: name, At: v1alpha1.GateAtSteps, Query: q}
	}
	type effect struct {
		Taken []string
		v1alpha1.ShiftDefaults
	}
	tests := map[string]struct {
		reason string
		spec   v1alpha1.TrafficShiftSpec
		policy v1alpha1.ShiftDefaults
		origin v1alpha1.Origin
		want   func(*effect)
	}{
		"Nothing": {
			reason: "a policy that says nothing changes nothing",
			want:   func(*effect) {},
		},
		"PolicyFillsWhatIsLeftOut": {
			reason: "what has no default in the schema and is not there was not written",
			policy: v1alpha1.ShiftDefaults{Steps: steps(10, 100), Hold: lasting(time.Minute), Prometheus: "team-a"},
			want: func(e *effect) {
				e.Taken = []string{"steps", "hold", "prometheus"}
				e.Steps, e.Hold, e.Prometheus = steps(10, 100), lasting(time.Minute), "team-a"
			},
		},
		"WrittenWins": {
			reason: "the owner of the service knows it best",
			spec:   v1alpha1.TrafficShiftSpec{Hold: lasting(time.Second), MaxErrorRate: "2%"},
			policy: v1alpha1.ShiftDefaults{Hold: lasting(time.Minute), MaxErrorRate: "0.1%"},
			want:   func(e *effect) { e.Hold, e.MaxErrorRate = lasting(time.Second), "2%" },
		},
		"DefaultGivesWay": {
			reason: "what the API server filled in was written by nobody",
			policy: v1alpha1.ShiftDefaults{MaxErrorRate: "5%", Bake: lasting(time.Minute), MinRequests: n(10)},
			origin: v1alpha1.OriginDefault,
			want: func(e *effect) {
				e.Taken = []string{"maxErrorRate", "minRequests", "bake"}
				e.MaxErrorRate, e.MinRequests, e.Bake = "5%", n(10), lasting(time.Minute)
			},
		},
		"WrittenDefaultWins": {
			reason: "who writes 1% means it",
			policy: v1alpha1.ShiftDefaults{MaxErrorRate: "5%"},
			origin: v1alpha1.OriginWritten,
			want:   func(*effect) {},
		},
		"DoubtIsNeverLooser": {
			reason: "a limit that somebody may have written is not loosened",
			policy: v1alpha1.ShiftDefaults{
				MaxErrorRate: "5%", MaxIncrease: "1%", MaxFailedRequests: n(51), MinRequests: n(49), Deadline: lasting(time.Hour), Bake: lasting(time.Minute),
			},
			want: func(*effect) {},
		},
		"DoubtMayBeStricter": {
			reason: "a limit that somebody may have written is tightened",
			policy: v1alpha1.ShiftDefaults{
				MaxErrorRate: "0.1%", MaxIncrease: "0.2%", MaxFailedRequests: n(5), MinRequests: n(500), Deadline: lasting(time.Minute), Bake: lasting(time.Hour),
				Reporter: v1alpha1.ReporterWaypoint,
			},
			want: func(e *effect) {
				e.Taken = []string{"maxErrorRate", "minRequests", "maxIncrease", "maxFailedRequests", "reporter", "deadline", "bake"}
				e.MaxErrorRate, e.MaxIncrease, e.MaxFailedRequests, e.MinRequests = "0.1%", "0.2%", n(5), n(500)
				e.Deadline, e.Bake, e.Reporter = lasting(time.Minute), lasting(time.Hour), v1alpha1.ReporterWaypoint
			},
		},
		"LadderAgainstAuto": {
			reason: "steps of the shift's own are a ladder, whatever pace the policy sets",
			spec:   v1alpha1.TrafficShiftSpec{Steps: steps(5, 100)},
			policy: v1alpha1.ShiftDefaults{Pacing: v1alpha1.PacingAuto},
			want:   func(e *effect) { e.Steps = steps(5, 100) },
		},
		"AutoAgainstLadder": {
			reason: "auto chooses the weights itself",
			spec:   v1alpha1.TrafficShiftSpec{Pacing: v1alpha1.PacingAuto},
			policy: v1alpha1.ShiftDefaults{Steps: steps(5, 100), Pacing: v1alpha1.PacingLadder},
			want:   func(e *effect) { e.Pacing = v1alpha1.PacingAuto },
		},
		"GatesComeTogether": {
			reason: "a gate that the policy asks for is replaced by name, and not lost because the shift has another",
			spec:   v1alpha1.TrafficShiftSpec{Gates: []v1alpha1.Gate{gate("own", "a"), gate("both", "mine")}},
			policy: v1alpha1.ShiftDefaults{Gates: []v1alpha1.Gate{gate("both", "theirs"), gate("theirs", "b")}},
			want: func(e *effect) {
				e.Taken, e.Gates = []string{"gates"}, []v1alpha1.Gate{gate("own", "a"), gate("both", "mine"), gate("theirs", "b")}
			},
		},
		"GatewaysNeedHosts": {
			reason: "an internal service is not exposed by a policy",
			policy: v1alpha1.ShiftDefaults{Gateways: []string{"istio-system/public"}},
			want:   func(*effect) {},
		},
		"GatewaysForHosts": {
			reason: "hosts are the service's, gateways the platform's",
			spec:   v1alpha1.TrafficShiftSpec{Hosts: []string{"a.example.com"}},
			policy: v1alpha1.ShiftDefaults{Gateways: []string{"istio-system/public"}},
			want: func(e *effect) {
				e.Taken, e.Gateways = []string{"gateways"}, []string{"istio-system/public"}
			},
		},
		"LadderIsForCanaries": {
			reason: "blue-green moves all the traffic at once",
			spec:   v1alpha1.TrafficShiftSpec{Strategy: v1alpha1.StrategyBlueGreen},
			policy: v1alpha1.ShiftDefaults{Steps: steps(5, 100)},
			want:   func(*effect) {},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			spec := stored(tc.spec)
			before := spec.DeepCopy()
			want := effect{ShiftDefaults: before.Settings()}
			tc.want(&want)
			taken := spec.Inherit(tc.policy, everywhere(tc.origin))
			if diff := cmp.Diff(want, effect{taken, spec.Settings()}); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
			if diff := cmp.Diff(before.Hosts, spec.Hosts); diff != "" || spec.Strategy != before.Strategy {
				t.Errorf("what is not shared has changed: %s", diff)
			}
		})
	}
}

func drawn(t *rapid.T, label string) v1alpha1.ShiftDefaults {
	count := func(name string, least int32) *int32 {
		if !rapid.Bool().Draw(t, label+name+"?") {
			return nil
		}
		n := rapid.Int32Range(least, 100).Draw(t, label+name)
		return &n
	}
	span := func(name string) *metav1.Duration {
		if n := count(name, 1); n != nil {
			return lasting(time.Duration(*n) * time.Second)
		}
		return nil
	}
	percent := func(name string) v1alpha1.Percent {
		return rapid.SampledFrom([]v1alpha1.Percent{"", "0.5%", "1%", "2"}).Draw(t, label+name)
	}
	d := v1alpha1.ShiftDefaults{
		Hold: span("hold"), MaxErrorRate: percent("maxErrorRate"), MinRequests: count("minRequests", 1), MaxIncrease: percent("maxIncrease"),
		MaxFailedRequests: count("maxFailedRequests", 1), Deadline: span("deadline"), Bake: span("bake"),
		Reporter:   rapid.SampledFrom([]v1alpha1.Reporter{"", v1alpha1.ReporterAuto, v1alpha1.ReporterSource}).Draw(t, label+"reporter"),
		Prometheus: rapid.SampledFrom([]string{"", "team-a"}).Draw(t, label+"prometheus"),
	}
	switch rapid.IntRange(0, 3).Draw(t, label+"ladder") {
	case 1:
		d.Pacing = v1alpha1.PacingAuto
	case 2:
		d.Steps = steps(rapid.IntRange(1, 99).Draw(t, label+"weight"), 100)
	case 3:
		d.Pacing = v1alpha1.PacingLadder
	}
	for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 3, rapid.ID).Draw(t, label+"gates") {
		d.Gates = append(d.Gates, v1alpha1.Gate{Name: name, Query: &v1alpha1.QueryGate{PromQL: label + name, Min: "1"}})
	}
	return d
}

// Layers of settings may be put together in any order of pairs; the layer above has the last word; nothing is invented.
func TestLayersAreAssociative(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := drawn(t, "a."), drawn(t, "b."), drawn(t, "c.")
		if diff := cmp.Diff(a.Over(b).Over(c), a.Over(b.Over(c))); diff != "" {
			t.Fatalf("(a over b) over c is not a over (b over c):\n%s", diff)
		}
		if diff := cmp.Diff(a, a.Over(v1alpha1.ShiftDefaults{})); diff != "" {
			t.Fatalf("nothing below changes something:\n%s", diff)
		}
		if diff := cmp.Diff(a, v1alpha1.ShiftDefaults{}.Over(a)); diff != "" {
			t.Fatalf("nothing above changes something:\n%s", diff)
		}
		if diff := cmp.Diff(a.Over(b), a.Over(a.Over(b))); diff != "" {
			t.Fatalf("once more is not the same:\n%s", diff)
		}
	})
}

// Whatever a policy says, what the spec's author wrote stays, and where nothing tells what they wrote, no limit becomes looser.
func TestAFieldWrittenWins(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		own, policy := drawn(t, "own."), drawn(t, "policy.")
		var spec v1alpha1.TrafficShiftSpec
		spec.Inherit(own, everywhere(v1alpha1.OriginDefault)) // as its author wrote it
		written := spec.Settings()
		spec = stored(spec)
		origin := rapid.SampledFrom([]v1alpha1.Origin{v1alpha1.OriginWritten, v1alpha1.OriginUnknown}).Draw(t, "origin")
		was := *spec.DeepCopy()
		taken := spec.Inherit(policy, everywhere(origin))
		is := spec.Settings()
		if written.MaxErrorRate == "2" && is.MaxErrorRate != "2" {
			t.Fatalf("maxErrorRate %q was written, and is %q", written.MaxErrorRate, is.MaxErrorRate)
		}
		if written.Hold != nil && *is.Hold != *written.Hold {
			t.Fatalf("hold %s was written, and is %s", written.Hold.Duration, is.Hold.Duration)
		}
		if written.Steps != nil && !cmp.Equal(is.Steps, written.Steps) || written.Pacing != "" && is.Pacing != written.Pacing {
			t.Fatalf("steps %v and pacing %q were written, and are %v and %q", written.Steps, written.Pacing, is.Steps, is.Pacing)
		}
		ratio := func(p v1alpha1.Percent) float64 { r, _ := p.Ratio(); return r }
		rates := ratio(is.MaxErrorRate) > ratio(was.MaxErrorRate) || ratio(is.MaxIncrease) > ratio(was.MaxIncrease)
		counts := *is.MaxFailedRequests > *was.MaxFailedRequests || *is.MinRequests < *was.MinRequests
		if rates || counts || is.Bake.Duration < was.Bake.Duration {
			t.Fatalf("a limit became looser: %+v, was %+v", is, was)
		}
		if origin == v1alpha1.OriginWritten && (slices.Contains(taken, "maxErrorRate") || slices.Contains(taken, "reporter")) {
			t.Fatalf("taken over what was written: %v", taken)
		}
		spec.Default()
		if errs := spec.Validate(nil); len(errs) > 0 {
			t.Fatalf("two valid halves make an invalid whole: %v", errs)
		}
	})
}
