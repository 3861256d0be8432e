package shift

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// ErrInvariant is what every broken invariant wraps: a bug of ours, never a user's mistake. Nothing is written on it.
var ErrInvariant = errors.New("invariant broken")

// checkState refuses a state that no run of the machine can produce, before it is acted on and before it is returned.
func checkState(s v1alpha1.State) error {
	switch {
	case s.Weight < 0 || s.Weight > v1alpha1.Whole:
		return fmt.Errorf("%w: weight %d is not within 0 and %d", ErrInvariant, s.Weight, v1alpha1.Whole)
	case s.Weight > 0 && s.Candidate == "":
		return fmt.Errorf("%w: weight %s without a candidate", ErrInvariant, s.Weight)
	case s.WithinRollbackWindow && s.Candidate == "":
		return fmt.Errorf("%w: within the rollback window without a candidate", ErrInvariant)
	case s.Exposure != "" && (s.Candidate == "" || s.Weight > 0):
		return fmt.Errorf("%w: exposure %s with candidate %q at %s", ErrInvariant, s.Exposure, s.Candidate, s.Weight)
	case s.Group != "" && (s.Candidate == "" || s.Exposure != "" || s.Weight == v1alpha1.Whole):
		return fmt.Errorf("%w: a group with candidate %q at %s and exposure %q", ErrInvariant, s.Candidate, s.Weight, s.Exposure)
	case s.Group != "" && s.Phase != v1alpha1.PhaseRollingBack && (s.Phase != v1alpha1.PhaseProgressing || s.Weight == 0):
		return fmt.Errorf("%w: a group at %s in phase %s", ErrInvariant, s.Weight, s.Phase)
	case s.Exposure != "" && s.Phase != v1alpha1.PhaseProgressing && s.Phase != v1alpha1.PhaseRollingBack:
		return fmt.Errorf("%w: exposure %s in phase %s", ErrInvariant, s.Exposure, s.Phase)
	case s.Candidate != "" && s.Candidate == s.Stable:
		return fmt.Errorf("%w: %s is candidate and stable at once", ErrInvariant, s.Stable)
	case s.Phase == v1alpha1.PhaseProgressing && (s.Stable == "" || s.Candidate == ""):
		return fmt.Errorf("%w: phase %s with stable %q and candidate %q", ErrInvariant, s.Phase, s.Stable, s.Candidate)
	case s.Phase == v1alpha1.PhaseRollingBack && s.Failure == nil:
		return fmt.Errorf("%w: phase %s without a reason", ErrInvariant, s.Phase)
	}
	for _, r := range s.Retiring {
		switch {
		case r.Version == s.Stable || r.Version == s.Candidate:
			return fmt.Errorf("%w: %s is on its way out and in use", ErrInvariant, r.Version)
		case r.KeptSince != nil && s.Phase != v1alpha1.PhaseFailed && s.Phase != v1alpha1.PhaseStable:
			return fmt.Errorf("%w: the pods of %s are kept in phase %s", ErrInvariant, r.Version, s.Phase)
		}
	}
	return nil
}

// checkDesired holds the promises of the design to what is about to be written.
func checkDesired(d Decision, state v1alpha1.State, obs Observation) error {
	if len(d.Desired.Routes) == 0 {
		return nil
	}
	sum := v1alpha1.Permille(0)
	for _, r := range d.Desired.Routes {
		sum += r.Weight
		before := obs.has(r.Version, state)
		switch {
		case !slices.Contains(d.Desired.Subsets, r.Version):
			return fmt.Errorf("%w: a route names %s, which has no subset", ErrInvariant, r.Version)
		case r.Weight > 0 && r.Version != d.Next.Stable && r.Version != d.Next.Candidate:
			return fmt.Errorf("%w: %s gets %s, and is neither stable nor the candidate", ErrInvariant, r.Version, r.Weight)
		case r.Weight > before && !slices.Contains(obs.Subsets, r.Version):
			return fmt.Errorf("%w: %s is raised to %s before its subset was read back", ErrInvariant, r.Version, r.Weight)
		case r.Weight > before && obs.version(r.Version).Ready == 0 && r.Version == d.Next.Candidate:
			return fmt.Errorf("%w: %s is raised to %s without a ready pod", ErrInvariant, r.Version, r.Weight)
		case r.Weight > before && r.Version == d.Next.Candidate && d.Next.Phase == v1alpha1.PhaseRollingBack:
			return fmt.Errorf("%w: %s is raised from %s to %s on its way back", ErrInvariant, r.Version, before, r.Weight)
		}
	}
	if sum != v1alpha1.Whole {
		return fmt.Errorf("%w: the weights sum to %s", ErrInvariant, sum)
	}
	return checkShown(d, obs)
}

// checkShown holds what shows a version without a weight to what holds for a weight: it is the candidate, whose subset was read back, and it
// has a pod that can answer.
func checkShown(d Decision, obs Observation) error {
	var shown []string
	if m := d.Desired.Match; m != nil {
		shown = append(shown, m.Version)
	}
	if m := d.Desired.Mirror; m != nil {
		shown = append(shown, m.Version)
	}
	for _, v := range shown {
		switch {
		case v != d.Next.Candidate:
			return fmt.Errorf("%w: %s is shown, and the candidate is %q", ErrInvariant, v, d.Next.Candidate)
		case !slices.Contains(d.Desired.Subsets, v) || !slices.Contains(obs.Subsets, v):
			return fmt.Errorf("%w: %s is shown before its subset was read back", ErrInvariant, v)
		case !obs.reaches(v) && obs.version(v).Ready == 0:
			return fmt.Errorf("%w: %s is shown without a ready pod", ErrInvariant, v)
		}
	}
	return nil
}

// Number is the number of a version name ("v12" is 12), or 0 where it is none.
func Number(version string) int32 {
	n, err := strconv.ParseInt(strings.TrimPrefix(version, "v"), 10, 32)
	if err != nil || n < 1 {
		return 0
	}
	return int32(n)
}
