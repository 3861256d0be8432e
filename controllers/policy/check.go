package policy

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// longest is how long a freeze may last: a year.
const longest = 8784 * time.Hour

// Check returns what of a policy cannot be followed: what the CRD's schema cannot say, and what it says, for one that never met an API
// server.
func Check(spec *v1alpha1.ShiftPolicySpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if _, err := metav1.LabelSelectorAsSelector(spec.Namespaces); err != nil {
		errs = append(errs, field.Invalid(path.Child("namespaces"), metav1.FormatLabelSelector(spec.Namespaces), err.Error()))
	}
	if n := spec.MaxConcurrent; n != nil && *n < 1 {
		errs = append(errs, field.Invalid(path.Child("maxConcurrent"), *n, "must be at least 1; to let no shift start, use a freeze"))
	}
	seen := map[string]bool{}
	for i, f := range spec.Freezes {
		errs = append(errs, checkFreeze(f, path.Child("freezes").Index(i))...)
		if seen[f.Name] {
			errs = append(errs, field.Duplicate(path.Child("freezes").Index(i).Child("name"), f.Name))
		}
		seen[f.Name] = true
	}
	return append(errs, checkDefaults(spec.Defaults, path.Child("defaults"))...)
}

func checkFreeze(f v1alpha1.Freeze, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	schedule, err := scheduleOf(f.Schedule)
	switch {
	case err != nil:
		errs = append(errs, field.Invalid(path.Child("schedule"), f.Schedule, err.Error()))
	case schedule.Next(time.Unix(0, 0)).IsZero():
		errs = append(errs, field.Invalid(path.Child("schedule"), f.Schedule, "names no day that there is"))
	}
	if _, err := zoneOf(f.TimeZone); err != nil {
		errs = append(errs, field.Invalid(path.Child("timeZone"), f.TimeZone, err.Error()))
	}
	if d := f.Duration.Duration; d <= 0 || d > longest {
		errs = append(errs, field.Invalid(path.Child("duration"), d.String(), fmt.Sprintf("must be more than 0s and at most %dh", longest/time.Hour)))
	}
	if r := f.OnRunning; r != "" && r != v1alpha1.OnRunningHold && r != v1alpha1.OnRunningFinish {
		errs = append(errs, field.NotSupported(path.Child("onRunning"), r, []v1alpha1.OnRunning{v1alpha1.OnRunningHold, v1alpha1.OnRunningFinish}))
	}
	return errs
}

// checkDefaults asks the rules of a TrafficShift's spec about one that has nothing else.
func checkDefaults(d v1alpha1.ShiftDefaults, path *field.Path) field.ErrorList {
	spec := v1alpha1.TrafficShiftSpec{Hosts: []string{"*"}} // gateways need some
	spec.Inherit(d, func(string) v1alpha1.Origin { return v1alpha1.OriginDefault })
	spec.Default()
	return spec.Validate(path)
}

// Grants reports whether a policy is for a namespace with these labels.
func Grants(spec *v1alpha1.ShiftPolicySpec, namespace map[string]string) bool {
	selector, err := metav1.LabelSelectorAsSelector(spec.Namespaces)
	if spec.Namespaces == nil {
		selector = labels.Everything()
	}
	return err == nil && selector.Matches(labels.Set(namespace))
}
