package v1alpha1

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// carriedFields are the fields of Istio's HTTPRoute that spec.routing.http may have.
var carriedFields = []string{"corsPolicy", "fault", "headers", "retries", "rewrite", "timeout"}

// validateRouting says what of the routing cannot go with the rest of the spec, and what is wrong with it by itself.
func (s *TrafficShiftSpec) validateRouting(path *field.Path) field.ErrorList {
	errs := s.Routing.validate(path.Child("routing"))
	if len(s.Routing.Attached()) > 0 && len(s.Hosts) > 0 {
		errs = append(errs, field.Forbidden(path.Child("hosts"), "the hosts and gateways are those of routing.virtualService: leave out hosts"))
	}
	if len(s.validateAttached(path)) > 0 {
		errs = append(errs, field.Forbidden(s.Routing.attachedAt(path.Child("routing")),
			"match, mirror, session and strategy ab-test take rules of their own, and of yours Sluice writes weights alone: leave those out, or let Sluice make the VirtualService"))
	}
	return errs
}

// validate says what can be said without knowing Istio's types: those are for whoever carries the fields over.
func (r *Routing) validate(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if vs := r.VirtualService; vs != nil {
		errs = append(errs, vs.validate(path.Child("virtualService"))...)
	}
	errs = append(errs, r.validateSeveral(path.Child("virtualServices"))...)
	if len(r.Attached()) > 0 {
		if r.Delegate {
			errs = append(errs, field.Forbidden(path.Child("delegate"), "virtualService attaches to routes that stand already, delegate makes some for a root of yours: choose one"))
		}
		if r.HTTP != nil {
			errs = append(errs, field.Forbidden(path.Child("http"), "the routes are those of your own virtualService: write timeout, retries and the like there"))
		}
	}
	if r.HTTP != nil {
		errs = append(errs, validateHTTP(r.HTTP.Raw, path.Child("http"))...)
	}
	return errs
}

// mostAttached is how many VirtualServices of the user's may carry the weights: each is read anew at every pass.
const mostAttached = 8

func (r *Routing) validateSeveral(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(r.VirtualServices) > 0 && r.VirtualService != nil {
		errs = append(errs, field.Forbidden(path, "virtualServices are several, virtualService is one: write all of them in virtualServices, and leave out virtualService"))
	}
	if len(r.VirtualServices) > mostAttached {
		errs = append(errs, field.TooMany(path, len(r.VirtualServices), mostAttached))
	}
	for i := range r.VirtualServices {
		vs, at := &r.VirtualServices[i], path.Index(i)
		errs = append(errs, vs.validate(at)...)
		if slices.ContainsFunc(r.VirtualServices[:i], func(other AttachedVirtualService) bool {
			return other.Name == vs.Name && other.Namespace == vs.Namespace
		}) {
			errs = append(errs, field.Duplicate(at, vs.Name))
		}
	}
	return errs
}

// attachedAt is the field that says what the routes are attached to.
func (r *Routing) attachedAt(path *field.Path) *field.Path {
	if r.VirtualService == nil {
		return path.Child("virtualServices")
	}
	return path.Child("virtualService")
}

func (v *AttachedVirtualService) validate(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if bad := validation.IsDNS1123Subdomain(v.Name); bad != nil {
		errs = append(errs, field.Invalid(path.Child("name"), v.Name, "must be the name of a VirtualService"))
	}
	if v.Namespace != "" && validation.IsDNS1123Label(v.Namespace) != nil {
		errs = append(errs, field.Invalid(path.Child("namespace"), v.Namespace, "must be the name of a namespace, or nothing for the shift's own"))
	}
	for i, name := range v.Routes {
		if name == "" || slices.Contains(v.Routes[:i], name) {
			errs = append(errs, field.Invalid(path.Child("routes").Index(i), name, "must be the name of a route, and each be there once"))
		}
	}
	for i, route := range v.TCP {
		if outOfRange(route.Port) || slices.Contains(v.TCP[:i], route) {
			errs = append(errs, field.Invalid(path.Child("tcp").Index(i).Child("port"), route.Port, "must be a port from 1 to 65535, and each be there once"))
		}
	}
	for i, route := range v.TLS {
		errs = append(errs, route.validate(path.Child("tls").Index(i))...)
	}
	return errs
}

func (r AttachedTLSRoute) validate(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if r.Port == 0 && len(r.SNIHosts) == 0 {
		errs = append(errs, field.Required(path, "a TLS route is told by what it matches: write its port, its sniHosts, or both"))
	}
	if r.Port != 0 && outOfRange(r.Port) {
		errs = append(errs, field.Invalid(path.Child("port"), r.Port, "must be a port from 1 to 65535"))
	}
	for i, name := range r.SNIHosts {
		if name == "" || slices.Contains(r.SNIHosts[:i], name) {
			errs = append(errs, field.Invalid(path.Child("sniHosts").Index(i), name, "must be a name that clients ask for, and each be there once"))
		}
	}
	return errs
}

func outOfRange(port int32) bool { return port < 1 || port > 65535 }

// validateHTTP refuses the fields that are Sluice's own, and those that Istio does not have.
func validateHTTP(raw []byte, path *field.Path) field.ErrorList {
	var written map[string]json.RawMessage
	if err := json.Unmarshal(raw, &written); err != nil {
		return field.ErrorList{field.Invalid(path, string(raw), "must be an object with fields of Istio's HTTPRoute, such as {timeout: 5s}")}
	}
	var errs field.ErrorList
	for _, name := range slices.Sorted(maps.Keys(written)) {
		switch {
		case slices.Contains(carriedFields, name):
		case ownField(name):
			errs = append(errs, field.Forbidden(path.Child(name), "is what Sluice itself writes; accepted: "+strings.Join(carriedFields, ", ")))
		default:
			errs = append(errs, field.NotSupported(path.Child(name), name, carriedFields))
		}
	}
	return errs
}

// ownField reports whether a field of Istio's HTTPRoute is Sluice's to write, in either of the ways that Istio reads it.
func ownField(name string) bool {
	switch strings.ToLower(strings.ReplaceAll(name, "_", "")) {
	case "name", "match", "route", "redirect", "directresponse", "delegate", "mirror", "mirrors", "mirrorpercent", "mirrorpercentage":
		return true
	}
	return false
}
