package trafficshift

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/plan"
)

// validated is everything that is wrong with a spec by itself.
func validated(spec *v1alpha1.TrafficShiftSpec) field.ErrorList {
	path := field.NewPath("spec")
	return append(spec.Validate(path), plan.CheckMatches(spec, path)...)
}

// mend puts defaults in the place of what cannot be read, so that a candidate can be taken back whatever its owner writes. Nothing is
// raised on them: InvalidSpec stands in the way at every weight. A gate that cannot be read is not asked.
func mend(spec *v1alpha1.TrafficShiftSpec, errs field.ErrorList) {
	gates := spec.Gates
	spec.Gates = nil
	for i, g := range gates {
		at := fmt.Sprintf("spec.gates[%d]", i)
		if !slices.ContainsFunc(errs, func(err *field.Error) bool { return err.Field == at || strings.HasPrefix(err.Field, at+".") }) {
			spec.Gates = append(spec.Gates, g)
		}
	}
	for _, err := range errs {
		switch name, _, _ := strings.Cut(strings.TrimPrefix(err.Field, "spec."), "."); {
		case strings.HasPrefix(name, "steps"):
			spec.Steps = nil
			if spec.Duration != nil {
				spec.Hold = nil // it was their even part
			}
		case name == "pacing":
			spec.Pacing = ""
		case name == "maxErrorRate":
			spec.MaxErrorRate = ""
		case name == "maxIncrease":
			spec.MaxIncrease = ""
		case name == "maxFailedRequests":
			spec.MaxFailedRequests = nil
		case name == "reporter":
			spec.Reporter = ""
		case name == "maxLatency":
			spec.MaxLatency = nil
		case name == "minRequests":
			spec.MinRequests = nil
		case name == "duration":
			spec.Duration = nil
		case name == "actions":
			spec.Actions = nil
		case name == "hold":
			spec.Hold = nil
		case name == "rollbackWindow":
			spec.RollbackWindow = nil
		case name == "bake":
			spec.Bake = nil
		case name == "capacity":
			spec.Capacity = ""
		case name == "autoscaler":
			spec.Autoscaler = ""
		case name == "drain":
			spec.Drain = nil
		case name == "deadline":
			spec.Deadline = nil
		case name == "gateways":
			spec.Gateways = nil
		case name == "hosts":
			spec.Hosts, spec.Gateways = nil, nil // those of a VirtualService of the user's stand in their place
		case name == "httpsRedirect":
			spec.HTTPSRedirect = nil
		case name == "routing":
			spec.Routing = mendRouting(spec.Routing, err.Field)
		case name == "strategy", name == "abTest", name == "session", name == "preview":
			mendUsers(spec, err)
		}
	}
	if spec.Preview != nil && len(spec.Hosts) == 0 {
		spec.Preview = &v1alpha1.Preview{}
	}
	spec.Default()
}

// mendRouting leaves out http where that is what cannot be read: what the routes carried last goes on. Whose routes they are is not
// changed by a mistake.
func mendRouting(routing *v1alpha1.Routing, at string) *v1alpha1.Routing {
	if routing == nil || !strings.HasPrefix(at, "spec.routing.http") {
		return routing
	}
	mended := routing.DeepCopy()
	mended.HTTP = nil
	return mended
}

// mendUsers puts right who a candidate is shown to, and how. A rule that cannot be read matches nobody (plan.ReadMatches).
func mendUsers(spec *v1alpha1.TrafficShiftSpec, err *field.Error) {
	switch name := strings.TrimPrefix(err.Field, "spec."); {
	case name == "strategy":
		spec.Strategy, spec.ABTest, spec.Session = "", nil, nil
	case name == "session" || strings.HasPrefix(name, "session."):
		spec.Session = nil
	case strings.HasPrefix(name, "preview"):
		spec.Preview = &v1alpha1.Preview{} // the versions keep their Services
	case spec.ABTest == nil:
		spec.Strategy = ""
	case name == "abTest":
		spec.ABTest = nil
	case name == "abTest.duration":
		spec.ABTest.Duration = nil
	case name == "abTest.conclude":
		spec.ABTest.Conclude = ""
	case strings.HasPrefix(name, "abTest.match"):
		spec.Strategy, spec.ABTest = "", nil
	}
}

// mendRoutingAPI leaves routing.api open where it cannot be read, or where the spec asks for what that API cannot do: the routes stay
// what they are. It returns what is wrong with the spec still.
func mendRoutingAPI(spec *v1alpha1.TrafficShiftSpec, errs field.ErrorList) field.ErrorList {
	if len(errs) == 0 || spec.Routing == nil || slices.Contains([]v1alpha1.RoutingAPI{"", v1alpha1.RoutingIstio}, spec.Routing.API) ||
		spec.Routing.API == v1alpha1.RoutingGateway && len(spec.NotForGatewayAPI(field.NewPath("spec"))) == 0 {
		return errs
	}
	mended := *spec.Routing
	mended.API = ""
	spec.Routing = &mended
	return validated(spec)
}
