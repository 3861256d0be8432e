package simulation

import (
	"fmt"
	"math"
	"testing"

	"github.com/sluice-dev/sluice/metrics/analysis"
)

// near fails where a count is more than five standard deviations of a Poisson variate from its mean.
func near(t *testing.T, what string, got int64, mean float64) {
	t.Helper()
	if math.Abs(float64(got)-mean) > 5*math.Sqrt(mean) {
		t.Errorf("%s: %d, expected about %.0f", what, got, mean)
	}
}

func TestAPoissonVariateHasItsMeanAndVariance(t *testing.T) {
	for _, mean := range []float64{0.02, 0.5, 3, 9.9, 10, 250, 1000} {
		d := newDice(1)
		const n = 20000
		sum, squares := 0.0, 0.0
		for i := range n {
			d.aim(atRequests, i)
			x := float64(d.poisson(mean))
			sum, squares = sum+x, squares+x*x
		}
		got := sum / n
		variance := squares/n - got*got
		if math.Abs(got-mean) > 5*math.Sqrt(mean/n) || math.Abs(variance/mean-1) > 5*math.Sqrt((2+1/mean)/n) {
			t.Errorf("mean %g: mean %.4f and variance %.4f", mean, got, variance)
		}
	}
}

func TestRequestsFollowTheWeightAndFailAtTheirRates(t *testing.T) {
	for _, rps := range []float64{1, 10, 100, 1000} {
		t.Run(fmt.Sprintf("%g rps", rps), func(t *testing.T) {
			w := newWorld(Scenario{Name: "half a percent", RPS: rps, Candidate: 0.005}, 7, true)
			w.route(0.2)
			w.runTo(Horizon)
			near(t, "candidate requests", w.count.candidate.Requests, 0.2*rps*Horizon)
			near(t, "candidate errors", w.count.candidate.Errors, 0.2*rps*Horizon*0.005)
			near(t, "stable requests", w.count.stable.Requests, 0.8*rps*Horizon)
			near(t, "stable errors", w.count.stable.Errors, 0.8*rps*Horizon*usual)
			if want := 0.004 * float64(w.count.candidate.Requests); math.Abs(w.leaked-want) > 1e-6*want {
				t.Errorf("leaked %f, expected %f", w.leaked, want)
			}
		})
	}
}

func TestAnOutageHitsBothVersions(t *testing.T) {
	w := newWorld(Scenario{RPS: 1000, Candidate: usual, Outage: Outage{0.2, 0.24, 90, 390}}, 3, true)
	w.route(0.5)
	w.runTo(90)
	before := w.count
	if before.candidate.ErrorRate() > 0.01 || before.stable.ErrorRate() > 0.01 || w.leaked != 0 {
		t.Errorf("before the outage: candidate %.4f, stable %.4f, leaked %f", before.candidate.ErrorRate(), before.stable.ErrorRate(), w.leaked)
	}
	w.runTo(390)
	during := w.count.minus(before)
	near(t, "candidate errors", during.candidate.Errors, 0.24*float64(during.candidate.Requests))
	near(t, "stable errors", during.stable.Errors, 0.2*float64(during.stable.Requests))
	leaked := w.leaked
	if want := 0.04 * float64(during.candidate.Requests); math.Abs(leaked-want) > 1 {
		t.Errorf("leaked %f in the outage, expected %f: only what the candidate fails more than stable", leaked, want)
	}
	w.runTo(800)
	if w.leaked != leaked {
		t.Errorf("leaked %f after the outage", w.leaked-leaked)
	}
}

func TestFailuresLastFromOnsetToEnd(t *testing.T) {
	w := newWorld(Scenario{RPS: 1, Candidate: 0.3, From: 45, To: 60}, 1, false)
	for second, want := range map[int]float64{0: usual, 44: usual, 45: 0.3, 59: 0.3, 60: usual, 3599: usual} {
		if stable, got := w.rates(second); got != want || stable != usual {
			t.Errorf("second %d: candidate %g and stable %g, want %g and %g", second, got, stable, want, usual)
		}
	}
	least, most := Horizon, 0
	for key := range uint64(500) {
		onset := newWorld(Scenario{RPS: 1, Candidate: 0.25, Anywhere: true}, mix(key), false).onset
		least, most = min(least, onset), max(most, onset)
	}
	if least > 20 || most < 580 || most >= 600 {
		t.Errorf("random onsets lie from %d to %d, expected 0 to 600", least, most)
	}
}

func TestAPodSparesItsFirstRequests(t *testing.T) {
	for _, rps := range []float64{10, 1000} {
		w := newWorld(Scenario{RPS: rps, Candidate: 1, Spared: 5}, 5, false)
		w.route(1)
		w.runTo(60)
		c := w.count.candidate
		if spared := c.Requests - c.Errors; spared != 5*pods || math.Abs(w.leaked-float64(c.Errors)*(1-usual)) > 1e-6*w.leaked {
			t.Errorf("%g rps: %d requests were spared, %d failed, %f leaked", rps, spared, c.Errors, w.leaked)
		}
	}
}

func TestTheFirstWeightActsAtOnceAndEveryOtherAfterTheLag(t *testing.T) {
	w := newWorld(Scenario{RPS: 1000, Candidate: 1}, 2, false)
	w.runTo(7)
	w.route(0.1)
	w.runTo(17)
	near(t, "at 10%", w.count.candidate.Requests, 10*100)
	w.route(0.5)
	w.runTo(17 + lag)
	near(t, "on the way to 50%", w.count.candidate.Requests, 18*100)
	before := w.count.candidate.Requests
	w.runTo(30)
	near(t, "at 50%", w.count.candidate.Requests-before, (30-17-lag)*500)
	r := rollBack(w)
	if r.Seconds != 23 || r.Decision != RolledBack {
		t.Errorf("rolled back: %+v, expected second 23", r)
	}
	after := w.count.candidate.Requests
	near(t, "until the rollback had reached the mesh", after-before, 13*500)
	w.runTo(100)
	if w.count.candidate.Requests != after {
		t.Errorf("%d requests after the rollback", w.count.candidate.Requests-after)
	}
}

// The rivals are given windows that begin and end with a scrape; Sluice has to live with any phase.
func TestScrapesBeginWithTheFirstWeight(t *testing.T) {
	w := newWorld(Scenario{RPS: 100, Candidate: 1}, 2, false)
	w.runTo(25)
	if at := w.seen(25).at; at != 15 {
		t.Errorf("the latest scrape is of second %d, want 15", at)
	}
	w.route(0.1)
	w.runTo(70)
	for at, want := range map[int]int{0: 0, 24: 15, 25: 25, 39: 25, 40: 40, 69: 55, 70: 70} {
		if got := w.seen(at).at; got != want {
			t.Errorf("second %d sees the scrape of %d, want %d", at, got, want)
		}
	}
	if got, want := w.window(15), w.count.minus(w.seen(55).count).candidate; got != want || got == (analysis.Counts{}) {
		t.Errorf("the last scrape's window is %+v, want %+v", got, want)
	}
}

func TestBurstsHaveMeanOne(t *testing.T) {
	for _, kind := range []Bursts{SharedBursts, OwnBursts} {
		w := newWorld(Scenario{RPS: 1, Candidate: usual, Bursts: kind}, 4, true)
		sum, equal := 0.0, 0
		const n = 20000
		for block := range n {
			stable, candidate := w.bursts(block)
			sum += candidate
			if stable == candidate {
				equal++
			}
		}
		if math.Abs(sum/n-1) > 5/math.Sqrt(n) {
			t.Errorf("bursts of kind %d have mean %.3f", kind, sum/n)
		}
		if want := map[Bursts]int{SharedBursts: n, OwnBursts: 0}[kind]; equal != want {
			t.Errorf("bursts of kind %d are equal in %d of %d scrapes, want %d", kind, equal, n, want)
		}
	}
}

func TestThePastIsThatOfTheStableVersion(t *testing.T) {
	sum := analysis.Counts{}
	for _, c := range newWorld(Scenario{RPS: 100, Candidate: 1}, 6, true).history(pastScrapes) {
		sum = sum.Add(c)
	}
	near(t, "requests", sum.Requests, 100*3600)
	near(t, "errors", sum.Errors, 100*3600*usual)
}

// TestTheSameWeightsMeetTheSameRequests: whatever a policy looks at, the same weights meet the same requests.
func TestTheSameWeightsMeetTheSameRequests(t *testing.T) {
	s := Scenario{RPS: 50, Candidate: 0.05, Bursts: OwnBursts}
	looks, blind := newWorld(s, 9, true), newWorld(s, 9, false)
	looks.history(10)
	looks.runTo(45)
	for _, w := range []*world{looks, blind} {
		w.route(0.2)
		w.runTo(w.now + 300)
	}
	if looks.count.candidate != blind.count.candidate {
		t.Errorf("%+v and %+v", looks.count.candidate, blind.count.candidate)
	}
}

func TestScrapesOfSluiceComeAtAnyPhase(t *testing.T) {
	phases := map[int]bool{}
	for key := range uint64(100) {
		w := newWorld(Scenario{RPS: 1, Candidate: 0.3, From: 45, To: 60}, key, true)
		w.runTo(20)
		w.route(0.1)
		w.runTo(100)
		if at := w.seen(100).at; (at-20)%scrape != w.phase {
			t.Errorf("the latest scrape is of second %d after the first weight, at a phase of %d", at-20, w.phase)
		}
		if _, during := w.rates(45 + w.phase); during != 0.3 {
			t.Errorf("at a phase of %d the blip does not begin with a scrape", w.phase)
		}
		phases[w.phase] = true
	}
	if len(phases) < scrape/2 {
		t.Errorf("the phases are %v; want about all of them", phases)
	}
}
