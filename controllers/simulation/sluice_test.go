package simulation

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-dev/sluice/controllers/shift"
)

// TestAStateThatWentThroughJSONDecidesTheSame holds Sluice to what a restart at every pass would do: nothing of what it decides by is
// kept anywhere but in the status.
func TestAStateThatWentThroughJSONDecidesTheSame(t *testing.T) {
	for _, ladder := range []bool{true, false} {
		for _, s := range Scenarios() {
			t.Run(fmt.Sprintf("%s ladder=%t", s, ladder), func(t *testing.T) {
				t.Parallel()
				for replication := range 3 {
					kept := decisions(t, s, replication, sluice{ladder: ladder})
					serialized := decisions(t, s, replication, sluice{ladder: ladder, serialized: true})
					if diff := cmp.Diff(kept, serialized); diff != "" {
						t.Fatalf("replication %d (-kept +serialized):\n%s", replication, diff)
					}
				}
			})
		}
	}
}

// decisions is everything that Sluice decides in one release, and what became of it.
func decisions(t *testing.T, s Scenario, replication int, policy sluice) []string {
	t.Helper()
	var all []string
	policy.watch = func(second int, d shift.Decision) {
		all = append(all, fmt.Sprintf("%d %s, again in %s, %v", second, d, d.RequeueAfter, d.Desired.Routes))
	}
	r, err := policy.release(newWorld(s, keyOf(PinnedSeed, s, replication), true))
	if err != nil {
		t.Fatalf("%v\n%s", err, all)
	}
	return append(all, fmt.Sprintf("%+v", r))
}

func TestAReleaseIsCountedFromItsFirstWeight(t *testing.T) {
	s := find(t, "candidate fails 100% @ 1000 rps")
	first, weights := math.MaxInt, []string{}
	policy := sluice{ladder: true, watch: func(second int, d shift.Decision) {
		if d.Next.Weight > 0 {
			first = min(first, second)
		}
		if w := d.Next.Weight.String(); !slices.Contains(weights, w) {
			weights = append(weights, w)
		}
	}}
	w := newWorld(s, keyOf(PinnedSeed, s, 0), true)
	r, err := policy.release(w)
	if err != nil {
		t.Fatal(err)
	}
	// The pass that decides the first weight is told the time before there was one; the mesh's clock starts with it.
	if r.Decision != RolledBack || r.Seconds < scrape || r.Seconds > 2*scrape+look || r.Leaked != r.Hour {
		t.Errorf("a candidate that fails everything: %+v after weights %v", r, weights)
	}
	if want := float64(r.Seconds+lag) * s.RPS * 0.05 * (1 - usual); math.Abs(r.Leaked-want) > 5*math.Sqrt(want) {
		t.Errorf("leaked %.0f in %d s and %d s of lag at 5%%, expected about %.0f", r.Leaked, r.Seconds, lag, want)
	}
}

// TestARollbackInTheBakeIsARollback: what a candidate does to everybody before it is taken back counts.
func TestARollbackInTheBakeIsARollback(t *testing.T) {
	s := Scenario{Name: "fails when it has everything", RPS: 100, Candidate: 1, From: 430}
	for replication := range 3 {
		promoted := -1
		policy := sluice{ladder: true, watch: func(second int, d shift.Decision) {
			if promoted < 0 && d.Next.Weight == 1000 {
				promoted = second
			}
		}}
		w := newWorld(s, keyOf(PinnedSeed, s, replication), true)
		r, err := policy.release(w)
		if err != nil {
			t.Fatal(err)
		}
		if promoted < 0 || promoted > s.From {
			t.Fatalf("the release was not at 100%% by second %d, but at %d: the test needs a later onset", s.From, promoted)
		}
		if r.Decision != RolledBack || r.Seconds <= s.From || r.Leaked != r.Hour || r.Hour <= 0 || r.Hour > 100*float64(r.Seconds+lag-s.From) {
			t.Errorf("at 100%% in second %d, bad from %d: %+v", promoted, s.From, r)
		}
	}
}
