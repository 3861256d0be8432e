package exporter

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// Every metric of Sluice: its name, its labels and its help text. Metrics of a shift carry namespace and name first, and go
// with their shift.

var (
	shiftLabels   = []string{"namespace", "name"}
	versionLabels = []string{"namespace", "name", "version", "role"}
	gateLabels    = []string{"namespace", "name", "gate"}
)

// endings are the reasons that a release ends for. Every shift shows a count of each from the beginning: where a series begins with
// its first 1, Prometheus sees no increase.
var endings = []string{
	v1alpha1.ReasonPromoted, v1alpha1.ReasonCancelled, v1alpha1.ReasonSuperseded, v1alpha1.ReasonDetaching,
	v1alpha1.ReasonErrorRate, v1alpha1.ReasonErrorRateVsStable, v1alpha1.ReasonLatency, v1alpha1.ReasonLatencyVsStable,
	v1alpha1.ReasonCandidateUnstable, v1alpha1.ReasonNotReadyInTime, v1alpha1.ReasonRouteBypassed, v1alpha1.ReasonNoHealthyUpstream,
	v1alpha1.ReasonWeightLowered, v1alpha1.ReasonAborted, v1alpha1.ReasonSuspicionOfHarm, v1alpha1.ReasonGateFailed, v1alpha1.ReasonPauseTimedOut,
}

// gauges are the gauges of a shift.
type gauges struct {
	weight, share, errors, slow *prometheus.GaugeVec
	phase, step, steps, info    *prometheus.GaugeVec
	value, limit, verdict       *prometheus.GaugeVec
	evidenceAge                 *prometheus.GaugeVec
}

func newGauges() gauges {
	return gauges{
		weight: gauge("sluice_shift_weight_ratio",
			"Share of the traffic that the version is meant to get, from 0 to 1.", versionLabels),
		share: gauge("sluice_shift_observed_share_ratio",
			"Share of the traffic that Prometheus saw the version get, from 0 to 1.", versionLabels),
		errors: gauge("sluice_shift_error_ratio",
			"Share of the version's requests that it failed at the present step, from 0 to 1.", versionLabels),
		slow: gauge("sluice_shift_slow_ratio",
			"Share of the version's requests that were slow at the present step, from 0 to 1.", versionLabels),
		phase: gauge("sluice_shift_phase", "Phase of the shift: 1 for the present one, 0 for the others.",
			[]string{"namespace", "name", "phase"}),
		step:  gauge("sluice_shift_step", "Rung of the ladder that the candidate is on, from 1; 0 without a candidate.", shiftLabels),
		steps: gauge("sluice_shift_steps", "Number of rungs of the ladder.", shiftLabels),
		info: gauge("sluice_shift_info", "Versions of the shift and why it is where it is; always 1.",
			[]string{"namespace", "name", "stable", "candidate", "reason"}),
		value:       gauge("sluice_shift_gate_value", "What the gate measured, in the gate's own unit.", gateLabels),
		limit:       gauge("sluice_shift_gate_limit", "What the gate holds its value against.", gateLabels),
		verdict:     gauge("sluice_shift_gate_verdict", "What the gate says: 1 pass, 0 inconclusive, -1 fail.", gateLabels),
		evidenceAge: gauge("sluice_evidence_age_seconds", "Age of the newest sample that the shift is judged by.", shiftLabels),
	}
}

// all lists the gauges for registration.
func (g gauges) all() []prometheus.Collector {
	return []prometheus.Collector{
		g.weight, g.share, g.errors, g.slow, g.phase, g.step, g.steps, g.info, g.value, g.limit, g.verdict, g.evidenceAge,
	}
}

func gauge(name, help string, labels []string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
}

// events are the counters and histograms, which move on transitions.
type events struct {
	outcomes         *prometheus.CounterVec
	actions          *prometheus.CounterVec
	duration         *prometheus.HistogramVec
	rollback         prometheus.Histogram
	queryDuration    *prometheus.HistogramVec
	queryErrors      *prometheus.CounterVec
	skippedValues    *prometheus.CounterVec
	webhookDuration  *prometheus.HistogramVec
	buildInformation *prometheus.GaugeVec
}

func newEvents() events {
	return events{
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_shift_outcomes_total", Help: "Releases that ended, by what became of them.",
		}, []string{"namespace", "name", "reason"}),
		actions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_shift_actions_total", Help: "Requests of people, by what was asked for and whether it was Done or Refused.",
		}, []string{"namespace", "name", "action", "result"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sluice_shift_duration_seconds", Help: "Time from the appearance of a candidate to its end.",
			Buckets: []float64{30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 43200, 86400}, // 30 seconds to a day
		}, []string{"outcome"}),
		rollback: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "sluice_shift_rollback_duration_seconds",
			Help:    "Time from the decision to take a candidate back to its weight of 0 read back from every route.",
			Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300},
		}),
		queryDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sluice_prometheus_query_duration_seconds", Help: "Time that queries to Prometheus took, by what they ask for.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"query"}),
		queryErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_prometheus_query_errors_total", Help: "Queries to Prometheus that failed, by what they ask for.",
		}, []string{"query"}),
		skippedValues: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_prometheus_skipped_values_total", Help: "Values from Prometheus that no counter can have, and that were left out.",
		}, []string{"query"}),
		webhookDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sluice_webhook_request_duration_seconds", Help: "Time that requests to the webhooks of gates took, by what came of them: pass, wait or error.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"result"}),
		buildInformation: gauge("sluice_build_info", "Version of Sluice that is running; always 1.",
			[]string{"version", "revision", "goversion"}),
	}
}

func (e events) all() []prometheus.Collector {
	return []prometheus.Collector{e.outcomes, e.actions, e.duration, e.rollback, e.queryDuration, e.queryErrors, e.skippedValues, e.webhookDuration, e.buildInformation}
}
