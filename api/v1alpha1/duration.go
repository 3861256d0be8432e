package v1alpha1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// defaultDuration turns duration into even steps and the hold of each.
func (s *TrafficShiftSpec) defaultDuration() {
	if s.Duration == nil || s.Pacing != PacingLadder || s.Strategy != StrategyCanary {
		return
	}
	if len(s.Steps) == 0 {
		for w := int32(10); w <= 100; w += 10 {
			s.Steps = append(s.Steps, Step{Weight: new(intstr.FromInt32(w))})
		}
	}
	orDefault(&s.Hold, metav1.Duration{Duration: s.evenHold()})
}

// evenHold is the part of the duration that each step takes.
func (s *TrafficShiftSpec) evenHold() time.Duration {
	return s.Duration.Duration / time.Duration(max(1, len(s.Steps)))
}

// validateDuration expects a spec with its defaults: a hold that is not the duration's own part was written beside it.
func (s *TrafficShiftSpec) validateDuration(path *field.Path) field.ErrorList {
	if s.Duration == nil {
		return nil
	}
	given := s.Duration.Duration.String()
	switch {
	case s.Duration.Duration <= 0:
		return field.ErrorList{field.Invalid(path, given, "a duration must be more than 0s, such as 30m")}
	case s.Strategy != StrategyCanary:
		return field.ErrorList{field.Invalid(path, given, "duration is a canary's: for blue-green write hold, and for ab-test abTest.duration")}
	case s.Pacing == PacingAuto:
		return field.ErrorList{field.Invalid(path, given, "pacing auto takes as long as the evidence takes: leave out duration, or write pacing: ladder")}
	case s.Hold.Duration != s.evenHold():
		return field.ErrorList{field.Invalid(path, given, "duration and hold exclude each other: duration is the whole way, and hold a part of it")}
	}
	return nil
}
