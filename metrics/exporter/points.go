package exporter

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// series is one gauge of one shift: comparable, so that two looks at a shift can be told apart.
type series struct {
	vec *prometheus.GaugeVec
	// labels are the values of at most five labels, in the order of the vector's names.
	labels [5]string
	n      int
}

func (s series) set(v float64) { s.vec.WithLabelValues(s.labels[:s.n]...).Set(v) }
func (s series) remove()       { s.vec.DeleteLabelValues(s.labels[:s.n]...) }

type point struct {
	series series
	value  float64
}

// phases are all phases, so that a dashboard sees the present one rise and the last one fall.
var phases = []v1alpha1.Phase{
	v1alpha1.PhaseAdopting, v1alpha1.PhaseStable, v1alpha1.PhaseProgressing,
	v1alpha1.PhaseRollingBack, v1alpha1.PhaseFailed, v1alpha1.PhaseDetaching,
}

// outcomes are the values of a gate's verdict; anything else is inconclusive.
var outcomes = map[string]float64{"Pass": 1, "Fail": -1}

// points are the gauges of a shift.
func (g gauges) points(s Shift) []point {
	var all []point
	add := func(vec *prometheus.GaugeVec, v float64, labels ...string) {
		x := series{vec: vec, n: 2 + len(labels)}
		copy(x.labels[:], append([]string{s.Namespace, s.Name}, labels...))
		all = append(all, point{x, v})
	}
	measured := func(vec *prometheus.GaugeVec, v float64, labels ...string) {
		if v >= 0 && !math.IsInf(v, 0) {
			add(vec, v, labels...)
		}
	}
	for _, p := range phases {
		present := 0.0
		if p == s.Phase {
			present = 1
		}
		add(g.phase, present, string(p))
	}
	add(g.step, float64(s.Step))
	add(g.steps, float64(s.Steps))
	add(g.info, 1, s.Stable, s.Candidate, s.Reason)
	measured(g.evidenceAge, s.EvidenceAge.Seconds())
	for _, v := range s.Versions {
		measured(g.weight, v.Weight, v.Name, string(v.Role))
		measured(g.share, v.Share, v.Name, string(v.Role))
		measured(g.errors, v.ErrorRate, v.Name, string(v.Role))
		measured(g.slow, v.SlowRate, v.Name, string(v.Role))
	}
	for _, v := range s.Verdicts {
		// A gate of the owner's own may measure anything, numbers below 0 included; NaN is what it has not measured.
		if !math.IsNaN(v.Value) && !math.IsInf(v.Value, 0) {
			add(g.value, v.Value, v.Gate)
		}
		if !math.IsNaN(v.Limit) && !math.IsInf(v.Limit, 0) {
			add(g.limit, v.Limit, v.Gate)
		}
		add(g.verdict, outcomes[v.Outcome], v.Gate)
	}
	return all
}
