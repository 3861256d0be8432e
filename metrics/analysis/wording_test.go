package analysis

import (
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"
)

// noPosterior is what an e-value must not be called: it bounds false alarms, and says nothing of how sure one may be.
var noPosterior = regexp.MustCompile(`(?i)\bsure\b|certain|confiden|99(\.9)?% ?(sure|likely|probab)|NaN|Inf|%!|-[0-9]`)

func TestWhatAnEngineerReads(t *testing.T) {
	scarce := func(l Limits) Memory { // 0.5 requests a second
		m := Memory{}
		for range hour {
			m = m.Watch(tick(Counts{}, failed(0, 8)), l)
		}
		for range 41 {
			m = count(m, l, tick(failed(0, 3), failed(0, 5)))
		}
		return m
	}
	rare := defaults()
	rare.Weight, rare.Auto = 0.375, false
	small := defaults()
	small.Weight = 0.05
	alone, slowAlone := defaults(), timed()
	alone.Alone, slowAlone.Alone = true, true
	usually := func(l Limits) Memory { return Memory{}.Learn(steady(4, 1900), l) }
	slowly := func(l Limits) Memory { return Memory{}.Learn([]Sample{tick(Counts{}, slowed(10, 1000))}, l) }
	many := make([]Sample, 40)
	for i := range many {
		many[i] = tick(failed(0, 100), failed(4, 1900))
	}

	for name, tc := range map[string]struct {
		memory  Memory
		limits  Limits
		gate    string
		outcome Outcome
		want    string
	}{
		"Convicted": {
			count(usually(small), small, tick(failed(3, 100), failed(4, 1900)), tick(failed(5, 100), failed(3, 1900))), small,
			GateErrorRateVsStable, Fail,
			`^candidate failed 8 of 200 requests, 4\.0% \[0\.9, 10\.6\] vs stable 0\.2% \[0\.03, 0\.59\] \(always-valid 95% intervals\); ` +
				`evidence ([0-9],[0-9]00):1 that it is worse than 1\.25x stable \+ 0\.1pp \(a false alarm this strong has probability <= 1/([0-9],[0-9]00)\)$`,
		},
		"Suspected": {
			count(usually(small), small, tick(failed(6, 100), failed(4, 1900))), small, GateErrorRateVsStable, Inconclusive,
			`^candidate failed 6 of 100 requests \(6\.0%\), stable 4 of 1900 requests \(0\.2%\); evidence [0-9]+:1 that it is worse than 1\.25x stable \+ 0\.1pp: ` +
				`too much to go on, and too little to convict$`,
		},
		"TooLittle": {
			scarce(rare), rare, GateErrorRateVsStable, Inconclusive,
			`^insufficient data: 123 of ~[0-9,]+ candidate requests; at this traffic ~[0-9]+m more, or raise maxIncrease to [0-9]\.[0-9]pp$`,
		},
		"NoTraffic": {Memory{}, rare, GateErrorRateVsStable, Inconclusive, `^no requests yet$`},
		"NoStableTraffic": {
			count(Memory{}, rare, tick(failed(0, 100), Counts{})), rare, GateErrorRateVsStable, Inconclusive,
			`^candidate failed 0 of 100 requests \(0\.0%\), and stable has none to compare with$`,
		},
		"Proven": {
			count(usually(small), small, many...), small, GateErrorRateVsStable, Pass,
			`^candidate failed 0 of 4000 requests \(0\.0%\), stable 160 of 76000 requests \(0\.2%\); proven to be worse by less than 0\.5pp$`,
		},
		"Outage": {
			healthy(small).Count(outage(), small), small, GateErrorRateVsStable, Inconclusive,
			`^stable is failing too: shared dependency\? candidate failed 0 of 2400 requests \(0\.0%\), stable 8 of 9600 requests \(0\.083%\)$`, // without the block that shows it,
		},
		"LimitExceededAlone": {
			count(Memory{}, alone, tick(failed(9, 100), Counts{}), tick(failed(9, 100), Counts{})), alone, GateErrorRate, Fail,
			`^candidate failed 18 of 200 requests, 9\.0% \[3\.6, 17\.5\] \(always-valid 95% intervals\); evidence [0-9]{2,3},000:1 that it fails more than 1\.0% ` +
				`\(a false alarm this strong has probability <= 1/[0-9]{2,3},000\)$`,
		},
		"Slower": {
			count(slowly(timed()), timed(), tick(slowed(30, 100), slowed(10, 1000)), tick(slowed(30, 100), slowed(10, 1000))), timed(), GateLatencyVsStable, Fail,
			`^candidate was slow in 60 of 200 timed requests, 30\.0% \[19\.8, 41\.7\] vs stable 1\.0% \[0\.4, 2\.1\] \(always-valid 95% intervals\); ` +
				`evidence [0-9]{2,3},000:1 that it is slow more often than 1\.25x stable \+ 0\.5pp \(a false alarm this strong has probability <= 1/[0-9]{2,3},000\)$`,
		},
		"SlowAlone": {
			count(Memory{}, slowAlone, tick(slowed(30, 100), Counts{}), tick(slowed(30, 100), Counts{})), slowAlone, GateLatency, Fail,
			`^candidate was slow in 60 of 200 timed requests, 30\.0% \[.*\] \(always-valid 95% intervals\); evidence .*:1 that it is slow in more than 5\.0% \(`,
		},
		"TooLittleTimed": {
			count(slowly(timed()), timed(), tick(slowed(1, 100), slowed(10, 1000))), timed(), GateLatencyVsStable, Inconclusive,
			`^insufficient data: 100 of ~[0-9]+ timed candidate requests; at this traffic ~[0-9]+s more$`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := stateOf(tc.memory)
			verdicts := Judge(s, tc.limits)
			v := verdictOf(verdicts, tc.gate)
			t.Log(v.Message)
			if v.Outcome != tc.outcome || !regexp.MustCompile(tc.want).MatchString(v.Message) {
				t.Errorf("%s: %q, want %s: %s", v.Outcome, v.Message, tc.outcome, tc.want)
			}
			if m := regexp.MustCompile(`evidence ([0-9,]+):1 .* 1/([0-9,]+)\)`).FindStringSubmatch(v.Message); m != nil && m[1] != m[2] {
				t.Errorf("the evidence is %s:1 and the bound 1/%s", m[1], m[2])
			}
			for _, v := range verdicts {
				if found := noPosterior.FindString(v.Message); found != "" {
					t.Errorf("%q says %q", v.Message, found)
				}
			}
			if p := PaceOf(s, tc.limits, time.Minute); noPosterior.MatchString(p.Why) {
				t.Errorf("%q", p.Why)
			}
		})
	}
}

func TestWhyACandidateGoesBack(t *testing.T) {
	l := defaults()
	for name, tc := range map[string]struct {
		block        Sample
		reason, want string
	}{
		"Outage": {outage(), ReasonStableFailing, `^stable is failing too: shared dependency\?$`},
		"Burst": {tick(failed(90, 300), failed(1, 1200)), ReasonSuspicious,
			`^candidate failed 90 of 2700 requests \(3\.3%\), stable 9 of 10800 requests \(0\.083%\); one scrape alone says that it is worse than 1\.25x stable \+ 0\.1pp$`},
		"Nothing": {quiet(), "", `^$`},
	} {
		t.Run(name, func(t *testing.T) {
			p := PaceOf(stateOf(healthy(l).Count(tc.block, l)), l, 0)
			if p.Reason != tc.reason || !regexp.MustCompile(tc.want).MatchString(p.Why) {
				t.Errorf("%s: %q", p.Reason, p.Why)
			}
		})
	}
}

func TestNumbersForPeople(t *testing.T) {
	for got, want := range map[string]string{
		odds(logAlpha):             "1,000",
		odds(math.Log(4567)):       "4,500",
		odds(math.Log(1999)):       "1,900",
		odds(math.Log(10)):         "10",
		odds(math.Log(99.9)):       "99",
		odds(math.Log(9.99)):       "9",
		odds(math.Log(1234567)):    "1,200,000",
		odds(-3):                   "1",
		odds(math.Inf(-1)) + " ":   "1 ",
		odds(1e300):                "1,000,000,000,000,000",
		thousands(0):               "0",
		thousands(999):             "999",
		thousands(1450):            "1,450",
		thousands(math.MaxInt64):   "9,223,372,036,854,775,807",
		points(0):                  "0.0",
		points(0.0012):             "0.1",
		points(0.00034):            "0.034",
		points(0.0000004):          "0.000040",
		points(1):                  "100.0",
		percent(0.005):             "0.5%",
		lasts(0):                   "0s",
		lasts(40 * time.Second):    "40s",
		lasts(40 * time.Minute):    "40m",
		lasts(150 * time.Minute):   "3h",
		lasts(72 * time.Hour):      "3 days",
		lasts(1e9 * time.Second):   "11575 days",
		interval(8, 200):           "4.0% [0.9, 10.6]",
		interval(7, 3800):          "0.2% [0.03, 0.59]",
		interval(0, 0):             "0.0% [0.0, 100.0]",
		interval(5, 5):             "100.0% [41.5, 100.0]",
		interval(0, 1_000_000_000): "0.0% [0.000000, 0.000001]",
	} {
		if strings.TrimSpace(got) != strings.TrimSpace(want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func interval(k, n int64) string { return evidence{k, n, "failed", "requests"}.interval() }

func TestOddsAreNeverMoreThanTheEvidence(t *testing.T) {
	for e := 0.5; e < 1e14; e *= 1.013 {
		text := strings.ReplaceAll(odds(math.Log(e)), ",", "")
		var n float64
		if _, err := fmt.Sscan(text, &n); err != nil {
			t.Fatal(err)
		}
		if n > max(e*(1+1e-8), 1) || n < 0.9*min(e-1, e) {
			t.Errorf("%v is written as %s", e, text)
		}
	}
}

func TestNumbersOfVerdicts(t *testing.T) {
	for name, tc := range map[string]struct {
		v    Verdict
		n    float64
		want string
	}{
		"a rate":              {Verdict{Gate: GateErrorRate}, .005, "0.5%"},
		"a slight rate":       {Verdict{Gate: GateLatencyVsStable}, .00012, "0.012%"},
		"requests":            {Verdict{Gate: GateRequests}, 1234567, "1234567"},
		"a query's":           {Verdict{Gate: "checkout"}, .9871, "0.9871"},
		"none":                {Verdict{Gate: "checkout"}, math.NaN(), ""},
		"no bound":            {Verdict{Gate: "checkout"}, math.Inf(1), ""},
		"nothing was counted": {Verdict{Gate: GateErrorRate, Reason: ReasonInvalidEvidence}, 0, ""},
	} {
		if got := tc.v.Number(tc.n); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}
