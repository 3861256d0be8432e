package v1alpha1

import "k8s.io/apimachinery/pkg/util/validation/field"

// validateRoutingAPI refuses an API that there is not, and what the Gateway API cannot say, where the spec asks for it by name.
func (s *TrafficShiftSpec) validateRoutingAPI(path *field.Path) field.ErrorList {
	switch {
	case s.Routing == nil || s.Routing.API == "" || s.Routing.API == RoutingIstio:
		return nil
	case s.Routing.API == RoutingGateway:
		return s.NotForGatewayAPI(path)
	}
	return field.ErrorList{field.NotSupported(path.Child("routing", "api"), s.Routing.API, []RoutingAPI{RoutingIstio, RoutingGateway})}
}

// NotForGatewayAPI lists what a spec asks for that routes of the Gateway API do not carry here.
func (s *TrafficShiftSpec) NotForGatewayAPI(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	not := func(asked bool, at *field.Path, what string) {
		if asked {
			errs = append(errs, field.Forbidden(at, what+"; leave it out, or write routing.api: istio"))
		}
	}
	if r := s.Routing; r != nil {
		not(len(r.Attached()) > 0, r.attachedAt(path.Child("routing")), "routes of the Gateway API are not VirtualServices")
		not(r.Delegate, path.Child("routing", "delegate"), "routes of the Gateway API have no delegates")
		not(r.HTTP != nil, path.Child("routing", "http"), "routes of the Gateway API do not take Istio's HTTPRoute")
	}
	not(s.Strategy == StrategyABTest, path.Child("strategy"), "ab-test is not written as routes of the Gateway API")
	not(s.Session != nil, path.Child("session"), "routes of the Gateway API give out no cookies")
	not(s.Preview != nil && s.Preview.Host != "", path.Child("preview", "host"), "with the Gateway API a version has its Service as its only address")
	not(s.GatewayTLS != nil, path.Child("gatewayTLS"), "with the Gateway API no Gateway is made: TLS ends at a listener of yours")
	for i, step := range s.Steps {
		not(len(step.Match) > 0, path.Child("steps").Index(i).Child("match"), "steps of the Gateway API carry weights alone")
		not(step.Mirror != "", path.Child("steps").Index(i).Child("mirror"), "steps of the Gateway API carry weights alone")
	}
	if len(s.Hosts) > 0 && len(s.Gateways) == 0 {
		errs = append(errs, field.Required(path.Child("gateways"), "with the Gateway API no Gateway is made: name those of gateway.networking.k8s.io that serve the hosts"))
	}
	return errs
}
