package policy_test

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/policy"
)

func under(name, policy string, phase v1alpha1.Phase) v1alpha1.TrafficShift {
	ts := v1alpha1.TrafficShift{}
	ts.Namespace, ts.Name, ts.Spec.Policy, ts.Status.State.Phase = "shop", name, policy, phase
	return ts
}

func waiting(name string, since int64) v1alpha1.TrafficShift {
	ts := under(name, "standard", v1alpha1.PhaseStable)
	ts.Status.State.WaitingSince = &metav1.MicroTime{Time: time.Unix(since, 0)}
	return ts
}

func TestBlocksSaysForWhom(t *testing.T) {
	moving := under("cart", "standard", v1alpha1.PhaseProgressing)
	paused := under("pay", "standard", v1alpha1.PhaseProgressing)
	paused.Spec.Paused = true
	byAnnotation := under("held", "standard", v1alpha1.PhaseProgressing)
	byAnnotation.Annotations = map[string]string{v1alpha1.AnnotationPaused: "true"}
	resumed := under("on", "standard", v1alpha1.PhaseProgressing)
	resumed.Spec.Paused, resumed.Annotations = true, map[string]string{v1alpha1.AnnotationPaused: "false"}
	back := under("back", "standard", v1alpha1.PhaseRollingBack)
	elsewhere := under("elsewhere", "other", v1alpha1.PhaseProgressing)
	renamed := under("renamed", "other", v1alpha1.PhaseProgressing)
	renamed.Status.Policy = &v1alpha1.PolicyInForce{Name: "standard"}
	stale := under("stale", "standard", v1alpha1.PhaseDetaching)
	stale.Status.State.WaitingSince = &metav1.MicroTime{Time: time.Unix(1, 0)}
	tests := map[string]struct {
		shifts []v1alpha1.TrafficShift
		most   int32
		me     string
		want   string
	}{
		"Alone":                 {nil, 1, "me", ""},
		"OneMoves":              {[]v1alpha1.TrafficShift{moving}, 1, "me", "at most 1 may move at a time; moving: shop/cart"},
		"OneOfTwoMoves":         {[]v1alpha1.TrafficShift{moving}, 2, "me", ""},
		"PausedKeepsItsOwn":     {[]v1alpha1.TrafficShift{paused}, 1, "me", "at most 1 may move at a time; moving: shop/pay (paused)"},
		"PausedByAnAnnotation":  {[]v1alpha1.TrafficShift{byAnnotation}, 1, "me", "at most 1 may move at a time; moving: shop/held (paused)"},
		"ResumedByAnAnnotation": {[]v1alpha1.TrafficShift{resumed}, 1, "me", "at most 1 may move at a time; moving: shop/on"},
		"OneOnItsWayBack":       {[]v1alpha1.TrafficShift{back}, 1, "me", "at most 1 may move at a time; moving: shop/back"},
		"OtherPolicy":           {[]v1alpha1.TrafficShift{elsewhere}, 1, "me", ""},
		"StartedUnderIt":        {[]v1alpha1.TrafficShift{renamed}, 1, "me", "at most 1 may move at a time; moving: shop/renamed"},
		"FirstInLine":           {[]v1alpha1.TrafficShift{waiting("me", 1), waiting("you", 2)}, 1, "me", ""},
		"SecondInLine":          {[]v1alpha1.TrafficShift{waiting("me", 2), waiting("you", 1)}, 1, "me", "at most 1 may move at a time; waiting longer: shop/you"},
		"SameMoment":            {[]v1alpha1.TrafficShift{waiting("a", 1), waiting("b", 1)}, 1, "a", ""},
		"NewAfterAll":           {[]v1alpha1.TrafficShift{waiting("you", 1)}, 1, "me", "at most 1 may move at a time; waiting longer: shop/you"},
		"HandedBack":            {[]v1alpha1.TrafficShift{stale}, 1, "me", ""},
		"Many":                  {[]v1alpha1.TrafficShift{moving, paused, back, renamed, waiting("you", 1)}, 4, "me", "at most 4 may move at a time; moving: shop/back, shop/cart, shop/pay (paused) and 1 more; waiting longer: shop/you"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := policy.QueueOf("standard", tc.shifts).Blocks(tc.most, types.NamespacedName{Namespace: "shop", Name: tc.me})
			if got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

// Whoever looks for its turn, in whatever order: never more than so many move, and while one waits and may move, one is let through.
func TestNeverMoreThanSoManyAndNeverNone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.Int32Range(1, 3).Draw(t, "most")
		shifts := make([]v1alpha1.TrafficShift, rapid.IntRange(1, 7).Draw(t, "shifts"))
		for i := range shifts {
			shifts[i] = waiting(fmt.Sprintf("s%d", i), rapid.Int64Range(0, 3).Draw(t, "since"))
		}
		started := 0
		for round := 0; started < len(shifts); round++ {
			if round > len(shifts) {
				t.Fatalf("only %d of %d have started after %d rounds", started, len(shifts), round)
			}
			for _, i := range rapid.Permutation(indices(len(shifts))).Draw(t, "order") {
				ts := &shifts[i]
				q := policy.QueueOf("standard", shifts)
				if int32(len(q.Moving)) > most {
					t.Fatalf("%d move at once, %d may", len(q.Moving), most)
				}
				if policy.Waiting(ts) && q.Blocks(most, types.NamespacedName{Namespace: ts.Namespace, Name: ts.Name}) == "" {
					for _, other := range q.Waiting {
						if other.Status.State.WaitingSince.Time.Before(ts.Status.State.WaitingSince.Time) && int32(len(q.Moving)) == most-1 {
							t.Fatalf("%s starts before %s, which has waited longer", ts.Name, other.Name)
						}
					}
					ts.Status.State.Phase, ts.Status.State.WaitingSince = v1alpha1.PhaseProgressing, nil
					started++
				}
			}
			for i := range shifts { // those that move come to their end
				if policy.Moving(&shifts[i]) {
					shifts[i].Status.State.Phase = v1alpha1.PhaseStable
				}
			}
		}
	})
}

func indices(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}
