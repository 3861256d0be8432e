package v1alpha1

import (
	"cmp"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Default fills what a spec leaves open with the values that the CRD's schema gives, so that a spec that never met an API
// server means the same as one that did.
func (s *TrafficShiftSpec) Default() {
	if s.Strategy == "" {
		s.Strategy = StrategyCanary
	}
	if s.Pacing == "" {
		s.Pacing = PacingAuto
		if len(s.Steps) > 0 || s.Strategy != StrategyCanary || s.Duration != nil {
			s.Pacing = PacingLadder
		}
	}
	s.defaultDuration()
	if len(s.Steps) == 0 && s.Strategy != StrategyCanary {
		s.Steps = []Step{{Weight: new(intstr.FromInt32(100))}}
	}
	if len(s.Steps) == 0 && s.Pacing == PacingLadder {
		for _, w := range []int{5, 20, 50, 100} {
			s.Steps = append(s.Steps, Step{Weight: new(intstr.FromInt32(int32(w)))})
		}
	}
	if s.Hold == nil {
		s.Hold = &metav1.Duration{Duration: time.Minute}
		if s.Pacing == PacingAuto {
			s.Hold.Duration = 30 * time.Second
		}
	}
	if s.MaxErrorRate == "" {
		s.MaxErrorRate = "1%"
	}
	if s.MaxIncrease == "" {
		s.MaxIncrease = "0.5%"
	}
	if s.MaxFailedRequests == nil {
		n := int32(50)
		s.MaxFailedRequests = &n
	}
	if s.Reporter == "" {
		s.Reporter = ReporterAuto
	}
	for i := range s.Gates {
		s.Gates[i].defaults()
	}
	s.defaultUsers()
	if s.MinRequests == nil {
		n := int32(50)
		s.MinRequests = &n
	}
	s.Capacity = cmp.Or(s.Capacity, CapacityFull)
	s.ReadyThreshold = cmp.Or(s.ReadyThreshold, "100%")
	s.Autoscaler = cmp.Or(s.Autoscaler, AutoscalerRefuse)
	if s.Deadline == nil {
		s.Deadline = &metav1.Duration{Duration: 10 * time.Minute}
	}
	orDefault(&s.MinReplicas, 1)
	orDefault(&s.KeepRejected, metav1.Duration{})
	if s.Bake == nil {
		s.Bake = &metav1.Duration{Duration: 10 * time.Minute}
	}
}

// defaults fills what a gate leaves open.
func (g *Gate) defaults() {
	g.At = cmp.Or(g.At, GateAtSteps)
	if q := g.Query; q != nil {
		orDefault(&q.Window, metav1.Duration{Duration: time.Minute})
		orDefault(&q.Failures, 2)
		q.NoData = cmp.Or(q.NoData, NoDataHold)
	}
	if w := g.Webhook; w != nil {
		orDefault(&w.Timeout, metav1.Duration{Duration: 5 * time.Second})
		orDefault(&w.Interval, metav1.Duration{Duration: 15 * time.Second})
		orDefault(&w.Retries, 2)
		w.OnError = cmp.Or(w.OnError, OnErrorHold)
	}
	if m := g.Manual; m != nil {
		m.Before = cmp.Or(m.Before, "100")
	}
}

// orDefault gives a field that is not set its default.
func orDefault[T any](field **T, def T) {
	if *field == nil {
		*field = &def
	}
}

// Permille returns the step's weight in thousandths; 0 where it is a match or a mirror.
func (s Step) Permille() (Permille, error) {
	if s.Weight == nil {
		return 0, nil
	}
	return Percent(s.Weight.String()).Permille()
}
