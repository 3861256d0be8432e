package exporter

import (
	"errors"
	"maps"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// progressing is a shift with everything that can be shown.
func progressing() Shift {
	return Shift{
		Namespace: "shop", Name: "micro-api", Phase: v1alpha1.PhaseProgressing, Reason: v1alpha1.ReasonHolding,
		Step: 2, Steps: 4, Stable: "v1", Candidate: "v2", EvidenceAge: 3 * time.Second,
		Versions: []Version{
			{"v1", Stable, 0.8, 0.79, 0.001, Unknown},
			{"v2", Candidate, 0.2, 0.21, 0.04, Unknown},
		},
		Verdicts: []Verdict{{"error-rate", 0.04, 0.01, "Fail"}, {"requests", 32, 50, "Inconclusive"}, {"latency", 0, 0.01, "Pass"}},
	}
}

func newExporter(t *testing.T) (*Exporter, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	e, err := New(reg, Build{"v0.1.0", "abc", "go1.26"})
	if err != nil {
		t.Fatal(err)
	}
	return e, reg
}

// gather returns every series as name{labels} with its value, but for those of the build and for endings that never came.
func gather(t *testing.T, reg prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			if f.GetName() == "sluice_shift_outcomes_total" && m.GetCounter().GetValue() == 0 {
				continue
			}
			v := m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			all[strings.TrimPrefix(f.GetName(), "sluice_")+"{"+strings.Join(labels, ",")+"}"] = v
		}
	}
	delete(all, "build_info{go1.26,abc,v0.1.0}")
	delete(all, "shift_rollback_duration_seconds{}")
	return all
}

func TestObserveShowsEverything(t *testing.T) {
	e, reg := newExporter(t)
	e.Observe(progressing())
	e.Observe(progressing())
	want := map[string]float64{ // labels in the order of their names
		"shift_weight_ratio{micro-api,shop,stable,v1}":            0.8,
		"shift_weight_ratio{micro-api,shop,candidate,v2}":         0.2,
		"shift_observed_share_ratio{micro-api,shop,stable,v1}":    0.79,
		"shift_observed_share_ratio{micro-api,shop,candidate,v2}": 0.21,
		"shift_error_ratio{micro-api,shop,stable,v1}":             0.001,
		"shift_error_ratio{micro-api,shop,candidate,v2}":          0.04,
		"shift_phase{micro-api,shop,Adopting}":                    0,
		"shift_phase{micro-api,shop,Stable}":                      0,
		"shift_phase{micro-api,shop,Progressing}":                 1,
		"shift_phase{micro-api,shop,RollingBack}":                 0,
		"shift_phase{micro-api,shop,Failed}":                      0,
		"shift_phase{micro-api,shop,Detaching}":                   0,
		"shift_step{micro-api,shop}":                              2,
		"shift_steps{micro-api,shop}":                             4,
		"shift_info{v2,micro-api,shop,Holding,v1}":                1,
		"shift_gate_value{error-rate,micro-api,shop}":             0.04,
		"shift_gate_limit{error-rate,micro-api,shop}":             0.01,
		"shift_gate_verdict{error-rate,micro-api,shop}":           -1,
		"shift_gate_value{requests,micro-api,shop}":               32,
		"shift_gate_limit{requests,micro-api,shop}":               50,
		"shift_gate_verdict{requests,micro-api,shop}":             0,
		"shift_gate_value{latency,micro-api,shop}":                0,
		"shift_gate_limit{latency,micro-api,shop}":                0.01,
		"shift_gate_verdict{latency,micro-api,shop}":              1,
		"evidence_age_seconds{micro-api,shop}":                    3,
	}
	if diff := cmp.Diff(want, gather(t, reg)); diff != "" {
		t.Errorf("-want, +got:\n%s", diff)
	}
}

func TestObserveTakesAwayWhatIsGone(t *testing.T) {
	e, reg := newExporter(t)
	e.Observe(progressing())
	s := progressing()
	s.Phase, s.Reason, s.Step, s.Stable, s.Candidate = v1alpha1.PhaseStable, v1alpha1.ReasonPromoted, 0, "v2", ""
	s.Versions = []Version{{"v2", Stable, 1, Unknown, Unknown, Unknown}}
	s.Verdicts, s.EvidenceAge = nil, -1
	e.Observe(s)
	want := map[string]float64{
		"shift_weight_ratio{micro-api,shop,stable,v2}": 1,
		"shift_phase{micro-api,shop,Adopting}":         0,
		"shift_phase{micro-api,shop,Stable}":           1,
		"shift_phase{micro-api,shop,Progressing}":      0,
		"shift_phase{micro-api,shop,RollingBack}":      0,
		"shift_phase{micro-api,shop,Failed}":           0,
		"shift_phase{micro-api,shop,Detaching}":        0,
		"shift_step{micro-api,shop}":                   0,
		"shift_steps{micro-api,shop}":                  4,
		"shift_info{,micro-api,shop,Promoted,v2}":      1,
	}
	if diff := cmp.Diff(want, gather(t, reg)); diff != "" {
		t.Errorf("-want, +got:\n%s", diff)
	}
}

// The first ending of a kind must be an increase: its series is there before it, once, and goes with the shift.
func TestEndingsAreShownBeforeTheFirst(t *testing.T) {
	e, reg := newExporter(t)
	e.Observe(progressing())
	e.Outcome("shop", "micro-api", v1alpha1.ReasonPromoted, time.Minute)
	e.Observe(progressing())
	shown := shownEndings(t, reg)
	if shown[v1alpha1.ReasonPromoted] != 1 || len(shown) != len(endings) {
		t.Errorf("%d reasons of %d, of which Promoted %v times: %v", len(shown), len(endings), shown[v1alpha1.ReasonPromoted], shown)
	}
	e.Forget("shop", "micro-api")
	if left := shownEndings(t, reg); len(left) != 0 {
		t.Errorf("left of a shift that is gone: %v", left)
	}
}

// shownEndings returns the count of each reason that is shown.
func shownEndings(t *testing.T, reg prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]float64{}
	for _, f := range families {
		if f.GetName() != "sluice_shift_outcomes_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "reason" {
					shown[l.GetValue()] = m.GetCounter().GetValue()
				}
			}
		}
	}
	return shown
}

func TestForgetTakesOnlyItsShift(t *testing.T) {
	e, reg := newExporter(t)
	other := progressing()
	other.Name = "other"
	e.Observe(other)
	e.Outcome("shop", "other", v1alpha1.ReasonPromoted, time.Minute)
	before := gather(t, reg)
	e.Observe(progressing())
	e.Outcome("shop", "micro-api", v1alpha1.ReasonPromoted, time.Minute)
	e.Action("shop", "micro-api", "abort", "Done")
	e.Forget("shop", "micro-api")
	e.Forget("shop", "never-seen")
	after := gather(t, reg)
	// The histogram is of all shifts: what it counted stays.
	before["shift_duration_seconds{Promoted}"]++
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("-want, +got:\n%s", diff)
	}
}

// A gate of the owner's own measures what it likes, and goes with the candidate that it judged.
func TestGatesOfTheOwnersOwn(t *testing.T) {
	e, reg := newExporter(t)
	s := progressing()
	s.Verdicts = []Verdict{{"queue-drift", -3, -5, "Pass"}, {"change-desk", math.NaN(), math.NaN(), "Inconclusive"}}
	gates := func() map[string]float64 {
		shown := gather(t, reg)
		maps.DeleteFunc(shown, func(name string, _ float64) bool { return !strings.HasPrefix(name, "shift_gate_") })
		return shown
	}
	e.Observe(s)
	want := map[string]float64{
		"shift_gate_value{queue-drift,micro-api,shop}": -3, "shift_gate_limit{queue-drift,micro-api,shop}": -5,
		"shift_gate_verdict{queue-drift,micro-api,shop}": 1, "shift_gate_verdict{change-desk,micro-api,shop}": 0,
	}
	if diff := cmp.Diff(want, gates()); diff != "" {
		t.Errorf("-want, +got:\n%s", diff)
	}
	s.Verdicts = s.Verdicts[1:]
	e.Observe(s)
	if diff := cmp.Diff(map[string]float64{"shift_gate_verdict{change-desk,micro-api,shop}": 0}, gates()); diff != "" {
		t.Errorf("a gate that was taken out of the spec (-want +got):\n%s", diff)
	}
	e.Forget("shop", "micro-api")
	if left := gates(); len(left) > 0 {
		t.Errorf("left of a shift that is gone: %v", left)
	}
}

func TestHostileNumbersAreNotShown(t *testing.T) {
	e, reg := newExporter(t)
	s := progressing()
	s.Versions = []Version{{"v2", Candidate, math.NaN(), math.Inf(1), -1, math.NaN()}}
	s.Verdicts = []Verdict{{"error-rate", math.NaN(), math.Inf(1), "Maybe"}}
	e.Observe(s)
	for name, v := range gather(t, reg) {
		if math.IsNaN(v) || math.IsInf(v, 0) || strings.Contains(name, "ratio") {
			t.Errorf("%s is %v", name, v)
		}
	}
}

func TestEvents(t *testing.T) {
	e, reg := newExporter(t)
	e.Outcome("shop", "micro-api", v1alpha1.ReasonErrorRate, time.Minute)
	e.Outcome("shop", "micro-api", v1alpha1.ReasonErrorRate, time.Minute)
	e.Action("shop", "micro-api", "promote", "Done")
	e.Action("shop", "micro-api", "promote", "Refused")
	e.RolledBack(time.Second)
	e.ObserveQuery("requests", time.Millisecond, nil)
	e.ObserveQuery("requests", time.Second, errors.New("refused"))
	e.ObserveSkipped("requests", 3)
	e.ObserveWebhook("pass", time.Second)
	e.ObserveWebhook("error", time.Second)
	e.ObserveWebhook("error", time.Second)
	want := map[string]float64{
		"shift_outcomes_total{micro-api,shop,ErrorRateExceeded}": 2,
		"shift_actions_total{promote,micro-api,shop,Done}":       1,
		"shift_actions_total{promote,micro-api,shop,Refused}":    1,
		"shift_duration_seconds{ErrorRateExceeded}":              2,
		"prometheus_query_duration_seconds{requests}":            2,
		"prometheus_query_errors_total{requests}":                1,
		"prometheus_skipped_values_total{requests}":              3,
		"webhook_request_duration_seconds{pass}":                 1,
		"webhook_request_duration_seconds{error}":                2,
	}
	if diff := cmp.Diff(want, gather(t, reg)); diff != "" {
		t.Errorf("-want, +got:\n%s", diff)
	}
}

func TestMetricsAreLintClean(t *testing.T) {
	e, reg := newExporter(t)
	s := progressing()
	s.Versions[0].SlowRate = 0.5
	e.Observe(s)
	e.Outcome("shop", "micro-api", v1alpha1.ReasonPromoted, time.Hour)
	e.Action("shop", "micro-api", "promote", "Done")
	e.ObserveQuery("requests", time.Millisecond, nil)
	e.ObserveSkipped("requests", 1)
	e.ObserveWebhook("pass", time.Second)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if want := len(newGauges().all()) + len(newEvents().all()); len(families) != want {
		t.Errorf("%d of %d metrics were there to be linted", len(families), want)
	}
	if problems, err := promlint.NewWithMetricFamilies(families).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", err, problems)
	}
}

func TestNewRefusesASecondRegistration(t *testing.T) {
	_, reg := newExporter(t)
	if _, err := New(reg, Build{}); err == nil {
		t.Error("registered twice")
	}
}
