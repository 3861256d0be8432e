package v1alpha1

import (
	"strconv"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Validate returns what the CRD's schema cannot say, and what it says, for specs that never met an API server. It expects a
// spec with its defaults.
func (s *TrafficShiftSpec) Validate(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.Strategy != StrategyCanary {
		errs = append(errs, field.NotSupported(path.Child("strategy"), s.Strategy, []Strategy{StrategyCanary}))
	}
	errs = append(errs, validateSteps(s.Steps, path.Child("steps"))...)
	if _, err := s.MaxErrorRate.Ratio(); err != nil {
		errs = append(errs, field.Invalid(path.Child("maxErrorRate"), s.MaxErrorRate, "must be a percentage such as 1% or 0.5%"))
	}
	if s.MaxLatency != nil {
		errs = append(errs, s.MaxLatency.validate(path.Child("maxLatency"))...)
	}
	if s.MinRequests != nil && *s.MinRequests < 1 {
		errs = append(errs, field.Invalid(path.Child("minRequests"), *s.MinRequests, "must be at least 1: a step without a request proves nothing"))
	}
	if len(s.Gateways) > 0 && len(s.Hosts) == 0 {
		errs = append(errs, field.Required(path.Child("hosts"), "gateways need hosts: a gateway is bound only for the hosts it serves"))
	}
	if s.Hold.Duration < 0 {
		errs = append(errs, field.Invalid(path.Child("hold"), s.Hold.Duration.String(), "must not be negative"))
	}
	if s.Bake.Duration < 0 {
		errs = append(errs, field.Invalid(path.Child("bake"), s.Bake.Duration.String(), "must not be negative"))
	}
	if s.Deadline.Duration <= 0 {
		errs = append(errs, field.Invalid(path.Child("deadline"), s.Deadline.Duration.String(), "must be more than 0s"))
	}
	return errs
}

func validateSteps(steps []Step, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	last := Permille(0)
	for i, step := range steps {
		p := path.Index(i).Child("weight")
		w, err := step.Permille()
		switch {
		case err != nil:
			errs = append(errs, field.Invalid(p, step.Weight.String(), err.Error()))
			continue
		case w <= last:
			errs = append(errs, field.Invalid(p, step.Weight.String(), "weights must rise from step to step, the first above 0"))
		}
		last = w
	}
	if len(errs) == 0 && last != Whole {
		errs = append(errs, field.Invalid(path, last.String(), "the last step must be 100: that is where the candidate becomes stable"))
	}
	return errs
}

func (l *LatencyLimit) validate(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if q, err := strconv.ParseFloat(l.Percentile, 64); err != nil || !(q >= 1 && q < 100) {
		errs = append(errs, field.Invalid(path.Child("percentile"), l.Percentile, "must be a percentile from 1 to 99.99, such as 99"))
	}
	if l.Below.Duration <= 0 {
		errs = append(errs, field.Invalid(path.Child("below"), l.Below.Duration.String(), "must be more than 0s"))
	}
	return errs
}
