package analysis

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// naiveTail sums the probabilities of k, k+1, ... n one by one, in logarithms.
func naiveTail(k, n int64, p float64) float64 {
	choose := func(n, k int64) float64 {
		a, _ := math.Lgamma(float64(n + 1))
		b, _ := math.Lgamma(float64(k + 1))
		c, _ := math.Lgamma(float64(n - k + 1))
		return a - b - c
	}
	sum := 0.0
	for i := k; i <= n; i++ {
		sum += math.Exp(choose(n, i) + float64(i)*math.Log(p) + float64(n-i)*math.Log1p(-p))
	}
	return sum
}

func TestTailAgreesWithNaiveSum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(1, 3000).Draw(t, "n")
		k := rapid.Int64Range(1, n).Draw(t, "k")
		p := rapid.Float64Range(1e-5, 0.99).Draw(t, "p")
		got, want := tail(k, n, p), naiveTail(k, n, p)
		if math.Abs(got-want) > 1e-9+1e-8*want {
			t.Fatalf("tail(%d, %d, %v) = %v, the sum is %v", k, n, p, got, want)
		}
	})
}

func TestTailAtTheEdges(t *testing.T) {
	cases := map[string]struct {
		k, n int64
		p    float64
		want float64
	}{
		"NoneOrMoreIsCertain":         {0, 10, 0.1, 1},
		"NoFailureAllowed":            {1, 10, 0, 0},
		"EveryFailureAllowed":         {10, 10, 1, 1},
		"MoreThanThereAre":            {11, 10, 0.5, 0},
		"AllOfThem":                   {3, 3, 0.5, 0.125},
		"NothingAsked":                {0, 0, 0.5, 1},
		"ManyRequestsStayWithinReach": {1 << 40, 1 << 50, 0, 0},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := tail(tc.k, tc.n, tc.p); math.Abs(got-tc.want) > 1e-12 {
				t.Errorf("tail(%d, %d, %v) = %v, want %v", tc.k, tc.n, tc.p, got, tc.want)
			}
		})
	}
}

func FuzzBinomialNeverPanics(f *testing.F) {
	f.Add(int64(3), int64(10), 0.5)
	f.Add(int64(-1), int64(-5), math.NaN())
	f.Add(int64(math.MaxInt64), int64(math.MaxInt64), math.Inf(1))
	f.Fuzz(func(t *testing.T, k, n int64, p float64) {
		if ok, lo, hi := ShareMatches(k, n, p); ok && !(lo <= hi && k >= 1) {
			t.Errorf("ShareMatches(%d, %d, %v) = %v, %v, %v", k, n, p, ok, lo, hi)
		}
		NoHostAbove(k, n, int64(p))
		Overall(Judge(State{Candidate: Counts{Requests: n, Errors: k, Timed: k, Slow: n}}, Limits{MaxErrorRate: p, MaxIncrease: p, MaxSlowRate: p}))
	})
}
