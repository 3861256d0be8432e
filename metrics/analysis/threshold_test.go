package analysis

import (
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// usual are the limits of a TrafficShift that says nothing about them, with p99 asked about.
var usual = Limits{MaxErrorRate: 0.01, Margin: DefaultMargin, MaxSlowRate: 0.01, MinRequests: 50}

// seen is a state with these requests and errors, all of them fast.
func seen(candidate, candidateErrors, stable, stableErrors int64) State {
	return State{Samples: 1,
		Candidate: Counts{candidate, candidateErrors, candidate, 0},
		Stable:    Counts{stable, stableErrors, stable, 0}}
}

func find(t *testing.T, verdicts []Verdict, gate string) Verdict {
	t.Helper()
	for _, v := range verdicts {
		if v.Gate == gate {
			return v
		}
	}
	t.Fatalf("no verdict of %q among %v", gate, verdicts)
	return Verdict{}
}

func TestErrorRate(t *testing.T) {
	type want struct {
		outcome         Outcome
		reason, message string
	}
	cases := map[string]struct {
		reason string
		state  State
		limits Limits
		want   want
	}{
		"NoRequests": {
			"no data is no verdict", seen(0, 0, 1000, 0), usual,
			want{Inconclusive, ReasonNoTraffic, "no requests yet"},
		},
		"Clean": {
			"enough requests within the limit", seen(200, 1, 1000, 1), usual,
			want{Pass, ReasonWithinLimit, "candidate failed 1 of 200 requests (0.5%), limit 1.0%"},
		},
		"TooFew": {
			"a clean candidate needs its least requests", seen(32, 0, 1000, 0), usual,
			want{Inconclusive, ReasonTooFewRequests, "candidate failed 0 of 32 requests (0.0%), limit 1.0%, after 32 of 50 requests"},
		},
		"PlainlyBadWithinAHandful": {
			"2 of 2 at 1% happen once in 10000", seen(2, 2, 10, 0), usual,
			want{Fail, ReasonErrorRate, "candidate failed 2 of 2 requests (100.0%), limit 1.0%"},
		},
		"OneErrorConvictsNobody": {
			"even under a limit of 0", seen(1000, 1, 1000, 0), Limits{MaxErrorRate: 0, MinRequests: 50, MaxSlowRate: -1},
			want{Inconclusive, ReasonAboveLimit, "candidate failed 1 of 1000 requests (0.1%), limit 0.0%: above it, but that may be chance"},
		},
		"TwoErrorsUnderALimitOfZero": {
			"cannot be chance", seen(1000, 2, 1000, 0), Limits{MaxErrorRate: 0, MinRequests: 50, MaxSlowRate: -1},
			want{Fail, ReasonErrorRate, "candidate failed 2 of 1000 requests (0.2%), limit 0.0%"},
		},
		"FourPercent": {
			"the sentence an SRE reads", seen(200, 8, 3800, 7), usual,
			want{Inconclusive, ReasonAboveLimit, "candidate failed 8 of 200 requests (4.0%), limit 1.0%: above it, but that may be chance"},
		},
		"FourAndAHalfPercent": {
			"P(X >= 9 | 200, 1%) is 0.0003", seen(200, 9, 3800, 7), usual,
			want{Fail, ReasonErrorRate, "candidate failed 9 of 200 requests (4.5%), limit 1.0%"},
		},
		"StableBreaksItToo": {
			"a shared fault is not the candidate's", seen(200, 60, 1000, 250), usual,
			want{Inconclusive, ReasonStableBreaksLimit,
				"candidate failed 60 of 200 requests (30.0%), limit 1.0%; stable breaks it too: 250 of 1000 requests (25.0%)"},
		},
		"AloneStableIsNotAsked": {
			"there is no stable traffic to excuse it", seen(200, 60, 1000, 250),
			Limits{MaxErrorRate: 0.01, MaxSlowRate: -1, MinRequests: 50, Alone: true},
			want{Fail, ReasonErrorRate, "candidate failed 60 of 200 requests (30.0%), limit 1.0%"},
		},
		"ReportersDisagree": {
			"the client sees successes, the server failures",
			State{Candidate: Counts{200, 0, 200, 0}, Stable: Counts{1000, 0, 1000, 0}, Cross: Counts{200, 40, 0, 0}}, usual,
			want{Inconclusive, ReasonReportersDisagree,
				"the reporters disagree: candidate failed 0 of 200 requests (0.0%), but the other reporter counts 40 of 200 requests (20.0%), limit 1.0%"},
		},
		"CrossWithinLimit": {
			"agreeing reporters pass",
			State{Candidate: Counts{200, 0, 200, 0}, Stable: Counts{1000, 0, 1000, 0}, Cross: Counts{200, 1, 0, 0}}, usual,
			want{Pass, ReasonWithinLimit, "candidate failed 0 of 200 requests (0.0%), limit 1.0%"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			v := find(t, Threshold{}.Judge(tc.state, tc.limits), GateErrorRate)
			if diff := cmp.Diff(tc.want, want{v.Outcome, v.Reason, v.Message}, cmp.AllowUnexported(want{})); diff != "" {
				t.Errorf("%s: -want, +got:\n%s", tc.reason, diff)
			}
		})
	}
}

func TestErrorRateVsStable(t *testing.T) {
	cases := map[string]struct {
		reason string
		state  State
		want   Verdict
	}{
		"NoStableTraffic": {
			"nothing to compare with", seen(200, 0, 0, 0),
			Verdict{GateErrorRateVsStable, Inconclusive, ReasonNoStableTraffic,
				"candidate failed 0 of 200 requests (0.0%), and stable has none to compare with", 0, 0.005},
		},
		"Equal": {
			"as good as stable", seen(200, 1, 10000, 50),
			Verdict{GateErrorRateVsStable, Pass, ReasonWithinLimit,
				"candidate failed 1 of 200 requests (0.5%), stable 50 of 10000 requests (0.5%), limit 1.0%", 0.005, 0.01},
		},
		"Worse": {
			"40 of 1000 against 0.1%", seen(1000, 40, 10000, 10),
			Verdict{GateErrorRateVsStable, Fail, ReasonErrorRateVsStable,
				"candidate failed 40 of 1000 requests (4.0%), stable 10 of 10000 requests (0.1%), limit 0.6%", 0.04, 0.006},
		},
		"LittleStableTrafficConvictsNobody": {
			"stable's 0 of 5 may be 45%", seen(10, 4, 5, 0),
			Verdict{GateErrorRateVsStable, Inconclusive, ReasonTooFewRequests,
				"candidate failed 4 of 10 requests (40.0%), stable 0 of 5 requests (0.0%), limit 0.5%, after 10 of 50 requests", 0.4, 0.005},
		},
		"MuchWorseThanAFailingStable": {
			"a shared fault does not hide a worse one", seen(1000, 900, 1000, 200),
			Verdict{GateErrorRateVsStable, Fail, ReasonErrorRateVsStable,
				"candidate failed 900 of 1000 requests (90.0%), stable 200 of 1000 requests (20.0%), limit 20.5%", 0.9, 0.205},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := find(t, Threshold{}.Judge(tc.state, usual), GateErrorRateVsStable)
			if diff := cmp.Diff(tc.want, got, approx); diff != "" {
				t.Errorf("%s: -want, +got:\n%s", tc.reason, diff)
			}
		})
	}
}

var approx = cmp.Comparer(func(a, b float64) bool {
	return math.Abs(a-b) < 1e-9 || (math.IsNaN(a) && math.IsNaN(b))
})

func TestLatency(t *testing.T) {
	slow := func(n, k, stableN, stableK int64) State {
		return State{Candidate: Counts{n, 0, n, k}, Stable: Counts{stableN, 0, stableN, stableK}}
	}
	cases := map[string]struct {
		reason           string
		state            State
		absolute, versus Outcome
		message          string
	}{
		"Fast":       {"within both", slow(500, 4, 5000, 40), Pass, Pass, "candidate was slow in 4 of 500 timed requests (0.8%), limit 1.0%"},
		"Slow":       {"above both", slow(500, 100, 5000, 40), Fail, Fail, "candidate was slow in 100 of 500 timed requests (20.0%), limit 1.0%"},
		"NoTimes":    {"counted but never timed", State{Candidate: Counts{Requests: 500}, Stable: Counts{Requests: 500}}, Inconclusive, Inconclusive, "no timed requests yet"},
		"SharedSlow": {"stable is as slow", slow(500, 100, 5000, 1000), Inconclusive, Pass, "candidate was slow in 100 of 500 timed requests (20.0%), limit 1.0%; stable breaks it too: 1000 of 5000 timed requests (20.0%)"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := Threshold{}.Judge(tc.state, usual)
			a, b := find(t, got, GateLatency), find(t, got, GateLatencyVsStable)
			if a.Outcome != tc.absolute || b.Outcome != tc.versus || a.Message != tc.message {
				t.Errorf("%s: got %v and %v", tc.reason, a, b)
			}
		})
	}
}

func TestRequests(t *testing.T) {
	cases := map[string]struct {
		n    int64
		want Verdict
	}{
		"None":   {0, Verdict{GateRequests, Inconclusive, ReasonNoTraffic, "no requests yet, 50 needed", 0, 50}},
		"Few":    {32, Verdict{GateRequests, Inconclusive, ReasonTooFewRequests, "32 of 50 requests", 32, 50}},
		"Enough": {50, Verdict{GateRequests, Pass, ReasonEnoughRequests, "50 of 50 requests", 50, 50}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := find(t, Threshold{}.Judge(seen(tc.n, 0, 100, 0), usual), GateRequests)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want, +got:\n%s", diff)
			}
		})
	}
}

func TestJudgeAsksOnlyWhatLimitsAskFor(t *testing.T) {
	cases := map[string]struct {
		limits Limits
		want   []string
	}{
		"Everything":     {usual, []string{GateRequests, GateErrorRate, GateErrorRateVsStable, GateLatency, GateLatencyVsStable}},
		"NoLatency":      {Limits{MaxSlowRate: -1}, []string{GateRequests, GateErrorRate, GateErrorRateVsStable}},
		"Alone":          {Limits{Alone: true}, []string{GateRequests, GateErrorRate, GateLatency}},
		"AloneNoLatency": {Limits{Alone: true, MaxSlowRate: -1}, []string{GateRequests, GateErrorRate}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, v := range (Threshold{}).Judge(seen(100, 0, 100, 0), tc.limits) {
				got = append(got, v.Gate)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want, +got:\n%s", diff)
			}
		})
	}
}

func TestHostileInputIsInconclusive(t *testing.T) {
	good := seen(1000, 0, 1000, 0)
	with := func(change func(*State)) State { s := good; change(&s); return s }
	limits := func(change func(*Limits)) Limits { l := usual; change(&l); return l }
	cases := map[string]struct {
		state  State
		limits Limits
	}{
		"NegativeRequests":      {with(func(s *State) { s.Candidate.Requests = -1 }), usual},
		"NegativeErrors":        {with(func(s *State) { s.Candidate.Errors = -1 }), usual},
		"MoreErrorsThanAsked":   {with(func(s *State) { s.Candidate.Errors = 1001 }), usual},
		"MoreSlowThanTimed":     {with(func(s *State) { s.Candidate.Slow = 1001 }), usual},
		"NegativeStable":        {with(func(s *State) { s.Stable.Requests = math.MinInt64 }), usual},
		"NegativeCross":         {with(func(s *State) { s.Cross.Errors = -1 }), usual},
		"NegativeNoHost":        {with(func(s *State) { s.NoHost = -1 }), usual},
		"ErrorLimitNaN":         {good, limits(func(l *Limits) { l.MaxErrorRate = math.NaN() })},
		"ErrorLimitInfinite":    {good, limits(func(l *Limits) { l.MaxErrorRate = math.Inf(1) })},
		"ErrorLimitNegative":    {good, limits(func(l *Limits) { l.MaxErrorRate = -0.1 })},
		"MarginNaN":             {good, limits(func(l *Limits) { l.Margin = math.NaN() })},
		"SlowLimitNaN":          {good, limits(func(l *Limits) { l.MaxSlowRate = math.NaN() })},
		"SlowLimitAboveOne":     {good, limits(func(l *Limits) { l.MaxSlowRate = 1.5 })},
		"NegativeLeastRequests": {good, limits(func(l *Limits) { l.MinRequests = -1 })},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			for _, v := range (Threshold{}).Judge(tc.state, tc.limits) {
				if v.Outcome != Inconclusive || v.Message == "" {
					t.Errorf("%+v", v)
				}
			}
		})
	}
}

func TestOverall(t *testing.T) {
	pass, fail, open := Verdict{Gate: "p", Outcome: Pass}, Verdict{Gate: "f", Outcome: Fail}, Verdict{Gate: "i", Outcome: Inconclusive}
	cases := map[string]struct {
		in   []Verdict
		gate string
		want Outcome
	}{
		"Nothing":          {nil, "", Inconclusive},
		"AllPass":          {[]Verdict{pass, pass}, "", Pass},
		"FirstOpen":        {[]Verdict{pass, open, {Gate: "later", Outcome: Inconclusive}}, "i", Inconclusive},
		"FailBeatsOpen":    {[]Verdict{open, pass, fail}, "f", Fail},
		"UnknownIsNotPass": {[]Verdict{pass, {Gate: "z"}}, "z", Inconclusive},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := Overall(tc.in); got.Outcome != tc.want || got.Gate != tc.gate {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// kindness orders outcomes: Fail < Inconclusive < Pass.
func kindness(o Outcome) int { return slices.Index([]Outcome{Fail, Inconclusive, Pass}, o) }

func drawCounts(t *rapid.T, name string) Counts {
	n := rapid.OneOf(rapid.Int64Range(0, 30), rapid.Int64Range(0, 100000)).Draw(t, name+" requests")
	timed := rapid.Int64Range(0, n).Draw(t, name+" timed")
	some := func(n int64, what string) int64 {
		return rapid.OneOf(rapid.Int64Range(0, min(n, 10)), rapid.Int64Range(0, n)).Draw(t, name+what)
	}
	return Counts{n, some(n, " errors"), timed, some(timed, " slow")}
}

func drawState(t *rapid.T) State {
	return State{1, drawCounts(t, "candidate"), drawCounts(t, "stable"), drawCounts(t, "cross"), 0}
}

func drawLimits(t *rapid.T) Limits {
	rate := rapid.OneOf(rapid.SampledFrom([]float64{0, 0.001, 0.01, 0.05, 0.5, 1}), rapid.Float64Range(0, 1))
	return Limits{rate.Draw(t, "max error rate"), DefaultMargin,
		rapid.OneOf(rate, rapid.Just(-1.0)).Draw(t, "max slow rate"),
		rapid.Int64Range(0, 200).Draw(t, "min requests"), rapid.Bool().Draw(t, "alone")}
}

func TestWorseEvidenceIsNeverJudgedKinder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, l := drawState(t), drawLimits(t)
		worse := s
		grow := func(v *int64, limit int64, what string) { *v = rapid.Int64Range(*v, limit).Draw(t, what) }
		grow(&worse.Candidate.Errors, s.Candidate.Requests, "more errors")
		grow(&worse.Candidate.Slow, s.Candidate.Timed, "more slow")
		grow(&worse.Cross.Errors, s.Cross.Requests, "more cross errors")
		was, is := Threshold{}.Judge(s, l), Threshold{}.Judge(worse, l)
		for i := range was {
			if kindness(is[i].Outcome) > kindness(was[i].Outcome) {
				t.Fatalf("worse evidence, kinder verdict: %+v, then %+v", was[i], is[i])
			}
		}
		if kindness(Overall(is).Outcome) > kindness(Overall(was).Outcome) {
			t.Fatalf("worse evidence, kinder overall: %+v, then %+v", Overall(was), Overall(is))
		}
	})
}

func TestNoDataNeverPassesAndNeverFails(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLimits(t)
		for _, s := range []State{{}, {Stable: drawCounts(t, "stable")}, {Samples: 100}} {
			for _, v := range (Threshold{}).Judge(s, l) {
				if v.Outcome != Inconclusive {
					t.Fatalf("%+v judged %+v", s, v)
				}
			}
		}
	})
}

func TestTooFewRequestsNeverPass(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, l := drawState(t), drawLimits(t)
		if got := Overall(Threshold{}.Judge(s, l)); got.Outcome == Pass && (s.Candidate.Requests < l.MinRequests || s.Candidate.Requests == 0) {
			t.Fatalf("%+v passes %+v", s.Candidate, l)
		}
	})
}

// A candidate that is exactly as bad as allowed is failed by one look with a probability below 0.001: summed over every
// possible outcome of n requests.
func TestFailureIsNoChance(t *testing.T) {
	for _, n := range []int64{2, 10, 50, 200, 1000} {
		for _, p := range []float64{0.001, 0.01, 0.05, 0.3} {
			wrong := 0.0
			for k := n; k >= 0; k-- {
				l := Limits{MaxErrorRate: p, MaxSlowRate: -1, Alone: true}
				if find(t, Threshold{}.Judge(seen(n, k, 0, 0), l), GateErrorRate).Outcome != Fail {
					wrong = tail(k+1, n, p)
					break
				}
			}
			if wrong >= chance {
				t.Errorf("n=%d p=%v: failed by chance with probability %v", n, p, wrong)
			}
		}
	}
}

func TestPercent(t *testing.T) {
	for rate, want := range map[float64]string{0: "0.0%", 0.04: "4.0%", 0.005: "0.5%", 0.0005: "0.050%", 0.00012: "0.012%", 1: "100.0%", 1e-30: "0.0000000000%"} {
		if got := percent(rate); got != want {
			t.Errorf("percent(%v) = %q, want %q", rate, got, want)
		}
	}
}
