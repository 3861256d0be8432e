package v1alpha1

import (
	"cmp"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// defaultUsers fills what steps, tests and sessions leave open. A test keeps its users: one who changed groups in the middle of it would
// say nothing about either.
func (s *TrafficShiftSpec) defaultUsers() {
	for _, step := range s.Steps {
		if step.Pause != nil {
			step.Pause.OnTimeout = cmp.Or(step.Pause.OnTimeout, OnTimeoutProceed)
		}
	}
	if s.ABTest != nil {
		s.ABTest.Conclude = cmp.Or(s.ABTest.Conclude, ConcludePromote)
	}
	if s.Session == nil && s.Strategy == StrategyABTest {
		s.Session = &Session{}
	}
	if s.Session != nil {
		orDefault(&s.Session.MaxAge, metav1.Duration{Duration: 24 * time.Hour})
	}
}
