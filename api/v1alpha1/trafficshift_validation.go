package v1alpha1

import (
	"fmt"
	"slices"
	"strconv"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// harmMargin is the increase that the gates never take for harm, whatever the stable version's rate: 0.1 points.
const harmMargin = 0.001

// Validate returns what the CRD's schema cannot say, and what it says, for specs that never met an API server. It expects a
// spec with its defaults.
func (s *TrafficShiftSpec) Validate(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	errs = append(errs, s.validateStrategy(path)...)
	errs = append(errs, s.validateDuration(path.Child("duration"))...)
	switch {
	case s.Pacing != PacingAuto && s.Pacing != PacingLadder:
		errs = append(errs, field.NotSupported(path.Child("pacing"), s.Pacing, []Pacing{PacingAuto, PacingLadder}))
	case s.Pacing == PacingAuto && len(s.Steps) > 0:
		errs = append(errs, field.Forbidden(path.Child("steps"), "pacing auto chooses the weights itself: leave out steps, or write pacing: ladder"))
	case s.Pacing == PacingLadder:
		errs = append(errs, s.validateSteps(path.Child("steps"))...)
	}
	if _, err := s.MaxErrorRate.Ratio(); err != nil {
		errs = append(errs, field.Invalid(path.Child("maxErrorRate"), s.MaxErrorRate, "must be a percentage such as 1% or 0.5%"))
	}
	if r, err := s.MaxIncrease.Ratio(); err != nil || r <= harmMargin {
		errs = append(errs, field.Invalid(path.Child("maxIncrease"), s.MaxIncrease, "must be a percentage above 0.1%, such as 0.5%: less than that counts as no increase"))
	}
	if s.MaxFailedRequests != nil && *s.MaxFailedRequests < 1 {
		errs = append(errs, field.Invalid(path.Child("maxFailedRequests"), *s.MaxFailedRequests, "must be at least 1"))
	}
	if !slices.Contains([]Reporter{ReporterAuto, ReporterSource, ReporterDestination, ReporterWaypoint}, s.Reporter) {
		errs = append(errs, field.NotSupported(path.Child("reporter"), s.Reporter, []Reporter{ReporterAuto, ReporterSource, ReporterDestination, ReporterWaypoint}))
	}
	errs = append(errs, validateGates(s.Gates, path.Child("gates"))...)
	errs = append(errs, s.Actions.validate(path.Child("actions"))...)
	if s.Routing != nil {
		errs = append(errs, s.validateRouting(path)...)
	}
	errs = append(errs, s.validateRoutingAPI(path)...)
	if s.MaxLatency != nil {
		errs = append(errs, s.MaxLatency.validate(path.Child("maxLatency"))...)
	}
	if s.MinRequests != nil && *s.MinRequests < 1 {
		errs = append(errs, field.Invalid(path.Child("minRequests"), *s.MinRequests, "must be at least 1: a step without a request proves nothing"))
	}
	if len(s.Gateways) > 0 && len(s.Hosts) == 0 {
		errs = append(errs, field.Required(path.Child("hosts"), "gateways need hosts: a gateway is bound only for the hosts it serves"))
	}
	if s.GatewayTLS != nil && len(s.Hosts) == 0 {
		errs = append(errs, field.Required(path.Child("hosts"), "gatewayTLS is for the Gateway that Sluice makes: it needs hosts, and no gateways"))
	}
	if s.GatewayTLS != nil && len(s.Gateways) > 0 {
		errs = append(errs, field.Forbidden(path.Child("gateways"), "gatewayTLS is for the Gateway that Sluice makes: it needs hosts, and no gateways"))
	}
	if s.HTTPSRedirect != nil && s.GatewayTLS == nil {
		errs = append(errs, field.Forbidden(path.Child("httpsRedirect"), "httpsRedirect needs gatewayTLS: there is nothing to redirect to"))
	}
	if s.Service != "" && validation.IsDNS1035Label(s.Service) != nil {
		errs = append(errs, field.Invalid(path.Child("service"), s.Service, "must be the name of a Service in the Deployment's namespace, such as micro-api: no dots, no namespace"))
	}
	if s.Hold.Duration < 0 {
		errs = append(errs, field.Invalid(path.Child("hold"), s.Hold.Duration.String(), "must not be negative"))
	}
	if w := s.RollbackWindow; w != nil && (w.Revisions < 1 || w.Revisions > MostRevisions) {
		errs = append(errs, field.Invalid(path.Child("rollbackWindow", "revisions"), w.Revisions, fmt.Sprintf("must be from 1 to %d; leave out rollbackWindow for none", MostRevisions)))
	}
	if s.Bake.Duration < 0 {
		errs = append(errs, field.Invalid(path.Child("bake"), s.Bake.Duration.String(), "must not be negative"))
	}
	if s.MinReplicas != nil && *s.MinReplicas < 1 {
		errs = append(errs, field.Invalid(path.Child("minReplicas"), *s.MinReplicas, "must be at least 1: a version without a pod gets no traffic"))
	}
	if s.KeepRejected != nil && s.KeepRejected.Duration < 0 {
		errs = append(errs, field.Invalid(path.Child("keepRejected"), s.KeepRejected.Duration.String(), "must not be negative"))
	}
	if !slices.Contains([]Capacity{CapacityFull, CapacityProportional}, s.Capacity) {
		errs = append(errs, field.NotSupported(path.Child("capacity"), s.Capacity, []Capacity{CapacityFull, CapacityProportional}))
	}
	if r, err := s.ReadyThreshold.Ratio(); err != nil || r == 0 {
		errs = append(errs, field.Invalid(path.Child("readyThreshold"), s.ReadyThreshold, "must be a percentage above 0%, such as 80%"))
	}
	if !slices.Contains([]Autoscaler{AutoscalerRefuse, AutoscalerFollow}, s.Autoscaler) {
		errs = append(errs, field.NotSupported(path.Child("autoscaler"), s.Autoscaler, []Autoscaler{AutoscalerRefuse, AutoscalerFollow}))
	}
	if s.Drain != nil && s.Drain.Duration < 0 {
		errs = append(errs, field.Invalid(path.Child("drain"), s.Drain.Duration.String(), "must not be negative"))
	}
	if s.Deadline.Duration <= 0 {
		errs = append(errs, field.Invalid(path.Child("deadline"), s.Deadline.Duration.String(), "must be more than 0s"))
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
