package simulation

import (
	"math"
	"testing"
)

// TestTheRivalsDoAsAnIndependentSimulationSays holds a few cells against those of another implementation of the same assumptions, made
// before this one: 300 replications of each cell (150 for argo-95-10m), results rounded as they are here.
func TestTheRivalsDoAsAnIndependentSimulationSays(t *testing.T) {
	const reps, theirs = 300, 150
	for _, want := range []struct {
		scenario, policy     string
		rolledBack, promoted float64 // percent
		seconds              int     // 0 where the median lies between two ticks that are about as likely
		leaked, hour         float64
	}{
		{"good candidate (0.1%, as stable) @ 1 rps", "flagger-99", 0, 100, 300, 0, 0},
		{"good candidate (0.1%, as stable) @ 1 rps", "flagger-fast", 26, 74, 150, 0, 0},
		{"good candidate (0.1%, as stable) @ 10 rps", "flagger-fast", 8, 92, 150, 0, 0},
		{"good candidate (0.1%, as stable) @ 100 rps", "argo-95-10m", 0, 100, 2400, 0, 0},
		{"candidate fails 0.5% @ 100 rps", "flagger-99", 0, 100, 300, 35, 1353},
		{"candidate fails 0.5% @ 100 rps", "flagger-fast", 20, 80, 150, 12.9, 1120},
		{"candidate fails 0.5% @ 1000 rps", "flagger-99", 0, 100, 300, 348, 13548},
		{"candidate fails 0.5% @ 1000 rps", "argo-95-10m", 0, 100, 2400, 4787, 9587},
		{"candidate fails 0.5% @ 1000 rps", "argo-99-2m", 0, 100, 480, 942, 13422},
		{"candidate fails 1% @ 10 rps", "flagger-99", 37, 63, 420, 12.1, 192},
		{"candidate fails 1% @ 1000 rps", "flagger-99", 50, 50, 0, 1204, 15373},
		{"candidate fails 1% @ 1000 rps", "flagger-fast", 92, 8, 60, 134, 2717},
		{"candidate fails 1% @ 1000 rps", "argo-99-2m", 63, 37, 360, 1705, 12188},
		{"candidate fails 2% @ 100 rps", "flagger-99", 100, 0, 360, 79, 79},
		{"candidate fails 5% @ 1 rps", "flagger-99", 75, 25, 540, 8.2, 47},
		{"candidate fails 5% @ 100 rps", "argo-95-10m", 100, 0, 0, 528, 528},
		{"candidate fails 25% @ 1000 rps", "flagger-99", 100, 0, 360, 9158, 9158},
		{"candidate fails 25% @ 1000 rps", "argo-95-10m", 100, 0, 240, 12333, 12333},
		{"candidate fails 100% @ 1 rps", "flagger-99", 100, 0, 360, 36, 36},
		{"candidate fails 100% @ 1000 rps", "flagger-fast", 100, 0, 45, 2648, 2648},
		{"candidate fails 100% @ 1000 rps", "argo-99-2m", 100, 0, 240, 73517, 73517},
		{"fails after the 5th request of each pod @ 10 rps", "flagger-99", 100, 0, 360, 353, 353},
		{"fails after the 5th request of each pod @ 10 rps", "flagger-fast", 100, 0, 60, 51, 51},
		{"shared outage of 5 min, candidate 1.2x @ 100 rps", "flagger-99", 100, 0, 420, 241, 241},
		{"shared outage of 5 min, candidate 1.2x @ 100 rps", "argo-99-2m", 100, 0, 300, 370, 370},
		{"late onset: 25% after 120 s @ 1000 rps", "flagger-fast", 100, 0, 165, 5829, 5829},
		{"one scrape of 30%, else good @ 100 rps", "flagger-99", 0, 100, 360, 45, 45},
	} {
		t.Run(want.scenario+" "+want.policy, func(t *testing.T) {
			c, err := Measure(find(t, want.scenario), policy(t, want.policy), PinnedSeed, reps)
			if err != nil {
				t.Fatal(err)
			}
			for _, share := range []struct{ got, want float64 }{{c.RolledBack, want.rolledBack / 100}, {c.Promoted, want.promoted / 100}} {
				deviation := math.Sqrt(share.want * (1 - share.want) * (1.0/reps + 1.0/theirs))
				if math.Abs(share.got-share.want) > 3*deviation+0.011 { // a point is what rounding hides
					t.Errorf("%s: a share of %.3f, expected %.3f", &c, share.got, share.want)
				}
			}
			if want.seconds != 0 && c.Seconds != want.seconds {
				t.Errorf("%s: expected %d s", &c, want.seconds)
			}
			if math.Abs(c.Leaked-want.leaked) > 0.06*want.leaked+0.6 {
				t.Errorf("%s: expected to leak %g", &c, want.leaked)
			}
			// Where few are promoted, these make up most of the hour's damage.
			few := 3 * math.Sqrt(want.promoted/100*(1-want.promoted/100)*(1.0/reps+1.0/theirs)) * want.hour / max(want.promoted/100, 0.01)
			if math.Abs(c.Hour-want.hour) > 0.06*want.hour+few+0.6 {
				t.Errorf("%s: expected to leak %g within the hour", &c, want.hour)
			}
		})
	}
}

func find(t *testing.T, name string) Scenario {
	t.Helper()
	for _, s := range Scenarios() {
		if s.String() == name {
			return s
		}
	}
	t.Fatalf("there is no scenario %q", name)
	return Scenario{}
}

func policy(t *testing.T, name string) Policy {
	t.Helper()
	for _, p := range Policies() {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("there is no policy %q", name)
	return Policy{}
}
