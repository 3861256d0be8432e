package query

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"

	"github.com/sluice-dev/sluice/metrics/analysis"
)

// reads is one look: the value of each pod's counter of the candidate's successes.
type reads map[string]float64

func (r reads) look(settled bool) look {
	var v model.Vector
	for pod, value := range r {
		v = append(v, &model.Sample{Metric: labels("pod", pod), Value: model.SampleValue(value)})
	}
	p, _ := points(v)
	return look{requests: p[ownerOf(labels())], settled: settled}
}

func TestLedgerCounts(t *testing.T) {
	cases := map[string]struct {
		reason  string
		settled bool
		looks   []reads
		want    int64
	}{
		"FirstLookIsABaseline":  {"what was before does not count", true, []reads{{"a": 1000}}, 0},
		"Rise":                  {"the difference", true, []reads{{"a": 10}, {"a": 14}, {"a": 15}}, 5},
		"Reset":                 {"after a reset the value itself", true, []reads{{"a": 10}, {"a": 14}, {"a": 3}, {"a": 4}}, 8},
		"ResetToZero":           {"nothing since", true, []reads{{"a": 10}, {"a": 0}}, 0},
		"Birth":                 {"the first value counts", true, []reads{{"a": 10}, {"a": 10, "b": 7}}, 7},
		"BirthAfterAnEmptyLook": {"an idle service's first requests count", true, []reads{{}, {"a": 7}}, 7},
		"Gap":                   {"the last known value stays the baseline", true, []reads{{"a": 10}, {}, {}, {"a": 12}}, 2},
		"GapOfOneTarget":        {"also beside others", true, []reads{{"a": 10, "b": 5}, {"b": 6}, {"a": 12, "b": 6}}, 3},
		"ResetInAGap":           {"lower than known: counted anew", true, []reads{{"a": 10}, {}, {"a": 4}}, 4},
		"Death":                 {"a series that goes takes nothing away", true, []reads{{"a": 10, "b": 5}, {"a": 11}}, 1},
		"UnsettledBirths": {"a Prometheus that has only just started has not seen every target: their counters are old",
			false, []reads{{"a": 10}, {"a": 11, "b": 5000}, {"a": 12, "b": 5003}}, 5},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			l := newLedger(shop, 0)
			for _, r := range tc.looks {
				l.take(r.look(tc.settled))
			}
			if got := sample(totals{}, l.sum, source).Candidate; got != (analysis.Counts{Requests: tc.want}) {
				t.Errorf("%s: got %+v, want %d requests", tc.reason, got, tc.want)
			}
		})
	}
}

// hist is a histogram of the candidate's at one look: all requests, and those within 500 ms.
func hist(all, within float64, le string) look {
	p, _ := points(model.Vector{
		{Metric: labels("le", "+Inf"), Value: model.SampleValue(all)},
		{Metric: labels("le", le), Value: model.SampleValue(within)},
	})
	return look{durations: p[ownerOf(labels())], settled: true}
}

func TestLedgerTimesRequests(t *testing.T) {
	cases := map[string]struct {
		reason string
		looks  []look
		want   analysis.Counts
	}{
		"SlowAndFast":    {"10 more, 7 of them within the bound", []look{hist(100, 90, "500"), hist(110, 97, "500")}, analysis.Counts{Timed: 10, Slow: 3}},
		"OtherSpelling":  {"Prometheus 3 spells bounds anew", []look{hist(100, 90, "500"), hist(110, 97, "500.0")}, analysis.Counts{Timed: 10, Slow: 3}},
		"WholeReset":     {"one bucket fell, so both began anew", []look{hist(10, 2, "500"), hist(12, 1, "500")}, analysis.Counts{Timed: 12, Slow: 11}},
		"NoSuchBucket":   {"without the bucket nobody was timed", []look{hist(100, 90, "250"), hist(110, 97, "250")}, analysis.Counts{}},
		"BucketsNotEven": {"a torn scrape never makes less than nothing slow", []look{hist(100, 90, "500"), hist(101, 95, "500")}, analysis.Counts{Timed: 1}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			l := newLedger(shop, 500)
			for _, x := range tc.looks {
				l.take(x)
			}
			if diff := cmp.Diff(tc.want, sample(totals{}, l.sum, source).Candidate); diff != "" {
				t.Errorf("%s: -want, +got:\n%s", tc.reason, diff)
			}
		})
	}
}

func TestLedgerForgetsWhatIsLongGone(t *testing.T) {
	l := newLedger(shop, 0)
	l.take(reads{"gone": 5, "a": 0}.look(true))
	for i := range forgetAfter + forgetEvery {
		l.take(reads{"a": float64(i)}.look(true))
		l.take(reads{}.look(true)) // while Prometheus shows nothing, nothing is forgotten
	}
	if len(l.requests) != 1 {
		t.Errorf("%d series known, want 1", len(l.requests))
	}
}

func TestReporterStaysOnceSeen(t *testing.T) {
	l := newLedger(shop, 0)
	if l.reporter() != destination {
		t.Error("without any client in the mesh the server's word counts")
	}
	l.take(reads{"a": 1}.look(true))
	l.take(reads{}.look(true))
	if l.reporter() != source {
		t.Error("one failed scrape of the gateway switched the reporter")
	}
}
