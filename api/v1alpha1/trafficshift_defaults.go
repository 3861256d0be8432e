package v1alpha1

import (
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
	if len(s.Steps) == 0 {
		for _, w := range []int{5, 20, 50, 100} {
			s.Steps = append(s.Steps, Step{Weight: intstr.FromInt32(int32(w))})
		}
	}
	if s.Hold == nil {
		s.Hold = &metav1.Duration{Duration: time.Minute}
	}
	if s.MaxErrorRate == "" {
		s.MaxErrorRate = "1%"
	}
	if s.MinRequests == nil {
		n := int32(50)
		s.MinRequests = &n
	}
	if s.Deadline == nil {
		s.Deadline = &metav1.Duration{Duration: 10 * time.Minute}
	}
	if s.Bake == nil {
		s.Bake = &metav1.Duration{Duration: 5 * time.Minute}
	}
}

// Permille returns the step's weight in thousandths.
func (s Step) Permille() (Permille, error) {
	return Percent(s.Weight.String()).Permille()
}
