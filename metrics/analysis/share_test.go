package analysis

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestShareMatches(t *testing.T) {
	cases := map[string]struct {
		reason           string
		candidate, total int64
		weight           float64
		want             bool
	}{
		"OnTheWeight":            {"exactly as many as expected", 50, 1000, 0.05, true},
		"AFewOff":                {"within the interval", 60, 1000, 0.05, true},
		"FarBelow":               {"traffic that is not split", 5, 1000, 0.05, false},
		"FarAbove":               {"a weight that is not in force any more", 200, 1000, 0.05, false},
		"NoneSeen":               {"0 of 20 at 5% is likely, but proves nothing", 0, 20, 0.05, false},
		"OneSeen":                {"1 of 20 at 5%", 1, 20, 0.05, true},
		"NoTraffic":              {"nothing seen", 0, 0, 0.05, false},
		"All":                    {"weight 1, all of it", 1000, 1000, 1, true},
		"Straggler":              {"5 of 1000 still elsewhere", 995, 1000, 1, true},
		"TooManyStragglers":      {"6 of 1000 elsewhere", 994, 1000, 1, false},
		"AtRest":                 {"weight 0 is not to be proven", 0, 1000, 0, false},
		"WeightNaN":              {"no number", 5, 10, math.NaN(), false},
		"MoreThanTotal":          {"no count", 11, 10, 0.5, false},
		"Negative":               {"no count", -1, 10, 0.5, false},
		"HalfPercentNeedsItsOne": {"one request of 200 at 0.5%", 1, 200, 0.005, true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got, lo, hi := ShareMatches(tc.candidate, tc.total, tc.weight); got != tc.want {
				t.Errorf("%s: got %v, interval %v to %v", tc.reason, got, lo, hi)
			}
		})
	}
}

func TestShareReaches(t *testing.T) {
	for name, tc := range map[string]struct {
		candidate, total int64
		weight           float64
		want             bool
	}{
		"OnTheWeight":   {50, 1000, 0.05, true},
		"FarBelow":      {5, 1000, 0.05, false},
		"FarAbove":      {900, 1000, 0.05, true},
		"All":           {1000, 1000, 0.05, true},
		"OneOfFew":      {1, 20, 0.05, true},
		"AllOfFew":      {20, 20, 0.05, true},
		"NoneOfFew":     {0, 20, 0.05, false},
		"NoTraffic":     {0, 0, 0.05, false},
		"MoreThanTotal": {11, 10, 0.05, false},
		"Negative":      {-1, 10, 0.05, false},
		"WeightNaN":     {5, 10, math.NaN(), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got, lo := ShareReaches(tc.candidate, tc.total, tc.weight); got != tc.want {
				t.Errorf("%d of %d at %v: %t, from %v on; want %t", tc.candidate, tc.total, tc.weight, got, lo, tc.want)
			}
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(1, 5000).Draw(t, "n")
		k, w := rapid.Int64Range(0, n).Draw(t, "k"), float64(rapid.Int64Range(1, 999).Draw(t, "permille"))/1000
		matches, lo, _ := ShareMatches(k, n, w)
		reaches, _ := ShareReaches(k, n, w)
		if want := matches || k > 0 && ratio(k, n) >= lo; reaches != want {
			t.Fatalf("%d of %d at %v: %t, from %v on", k, n, w, reaches, lo)
		}
	})
}

func TestShareIntervalHolds99Point9Percent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(1, 5000).Draw(t, "n")
		w := float64(rapid.Int64Range(1, 999).Draw(t, "permille")) / 1000
		_, lo, hi := ShareMatches(1, n, w)
		least, most := int64(math.Round(lo*float64(n))), int64(math.Round(hi*float64(n)))
		if below := 1 - tail(least, n, w); below >= shareTail+1e-9 {
			t.Fatalf("P(X < %d) = %v", least, below)
		}
		if above := tail(most+1, n, w); above > shareTail+1e-9 {
			t.Fatalf("P(X > %d) = %v", most, above)
		}
		if float64(least) > w*float64(n)+1 || float64(most) < w*float64(n)-1 {
			t.Fatalf("%d to %d does not hold the mean of %d at %v", least, most, n, w)
		}
	})
}

func TestNoHostAbove(t *testing.T) {
	cases := map[string]struct {
		noHost, total, baseline int64
		want                    bool
	}{
		"None":               {0, 1000, 0, false},
		"TwoAreNotARise":     {2, 2, 0, false},
		"ThreeOfThree":       {3, 3, 0, true},
		"WithinTheMargin":    {5, 1000, 0, false},
		"Above":              {20, 1000, 0, true},
		"ServiceAlwaysFails": {20, 1000, 20000, false},
		"MoreThanTotal":      {5, 3, 0, false},
		"NegativeBaseline":   {5, 5, -1, false},
		"BaselineOfAll":      {5, 5, 1000000, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := NoHostAbove(tc.noHost, tc.total, tc.baseline); got != tc.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
