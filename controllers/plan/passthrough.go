package plan

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	networking "istio.io/api/networking/v1alpha3"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// HTTPFields reads spec.routing.http: Istio's own HTTPRoute, as Istio reads it, but for fields that do not exist, which Istio drops
// without a word. What Istio's own validation would refuse is refused here, because a route that cannot be written cannot be taken
// back either.
func HTTPFields(raw *apiextensionsv1.JSON, path *field.Path) (*networking.HTTPRoute, field.ErrorList) {
	if raw == nil {
		return nil, nil
	}
	route := &networking.HTTPRoute{}
	if errs := readMessage(raw, route, path); len(errs) > 0 {
		return nil, errs
	}
	if errs := checkHTTPFields(route, path); len(errs) > 0 {
		slices.SortStableFunc(errs, func(a, b *field.Error) int { return strings.Compare(a.Field, b.Field) })
		return nil, errs
	}
	return route, nil
}

// unknownFields walks what was written beside the message that it is to become.
func unknownFields(written any, message protoreflect.MessageDescriptor, path *field.Path) field.ErrorList {
	object, ok := written.(map[string]any)
	if !ok || strings.HasPrefix(string(message.FullName()), "google.protobuf.") {
		return nil // a wrong type is for Istio's own reader to say; Google's own messages are scalars in JSON
	}
	var errs field.ErrorList
	for _, key := range slices.Sorted(maps.Keys(object)) {
		f := message.Fields().ByJSONName(key)
		if f == nil {
			f = message.Fields().ByName(protoreflect.Name(key))
		}
		switch value := object[key]; {
		case f == nil:
			errs = append(errs, field.NotSupported(path.Child(key), key, jsonNames(message)))
		case f.Message() == nil:
		case f.IsMap():
			if f.MapValue().Message() == nil {
				continue
			}
			entries, _ := value.(map[string]any)
			for _, k := range slices.Sorted(maps.Keys(entries)) {
				errs = append(errs, unknownFields(entries[k], f.MapValue().Message(), path.Child(key).Key(k))...)
			}
		case f.IsList():
			items, _ := value.([]any)
			for i, item := range items {
				errs = append(errs, unknownFields(item, f.Message(), path.Child(key).Index(i))...)
			}
		default:
			errs = append(errs, unknownFields(value, f.Message(), path.Child(key))...)
		}
	}
	return errs
}

func jsonNames(message protoreflect.MessageDescriptor) []string {
	var names []string
	for i := range message.Fields().Len() {
		names = append(names, message.Fields().Get(i).JSONName())
	}
	slices.Sort(names)
	return names
}

// checkHTTPFields holds the fields to the rules of Istio's webhook (pkg/config/validation) and CRD.
func checkHTTPFields(route *networking.HTTPRoute, path *field.Path) field.ErrorList {
	errs := checkDuration(route.GetTimeout(), path.Child("timeout"))
	errs = append(errs, checkRetries(route.GetRetries(), path.Child("retries"))...)
	errs = append(errs, checkOperations(route.GetHeaders(), path.Child("headers"))...)
	errs = append(errs, checkCORS(route.GetCorsPolicy(), path.Child("corsPolicy"))...)
	errs = append(errs, checkFault(route.GetFault(), path.Child("fault"))...)
	return append(errs, checkRewrite(route, path.Child("rewrite"))...)
}

func checkDuration(d *durationpb.Duration, path *field.Path) field.ErrorList {
	switch {
	case d == nil:
		return nil
	case d.AsDuration() < time.Millisecond:
		return field.ErrorList{field.Invalid(path, d.AsDuration().String(), "must be at least 1ms")}
	case d.AsDuration()%time.Millisecond != 0:
		return field.ErrorList{field.Invalid(path, d.AsDuration().String(), "must be whole milliseconds: Istio keeps nothing finer")}
	}
	return nil
}

// retryPolicies are what Envoy retries on, besides HTTP status codes.
var retryPolicies = []string{
	"5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "envoy-ratelimited", "retriable-4xx", "refused-stream",
	"retriable-status-codes", "retriable-headers", "cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable",
}

func checkRetries(r *networking.HTTPRetry, path *field.Path) field.ErrorList {
	if r == nil {
		return nil
	}
	errs := checkDuration(r.GetPerTryTimeout(), path.Child("perTryTimeout"))
	errs = append(errs, checkDuration(r.GetBackoff(), path.Child("backoff"))...)
	switch {
	case r.GetAttempts() < 0:
		errs = append(errs, field.Invalid(path.Child("attempts"), r.GetAttempts(), "must not be negative; 0 turns retries off"))
	case r.GetAttempts() == 0 && (r.GetPerTryTimeout() != nil || r.GetRetryOn() != "" || r.GetRetryRemoteLocalities() != nil):
		errs = append(errs, field.Invalid(path.Child("attempts"), 0, "turns retries off, and what says how to retry means nothing: say how many, or leave that out"))
	}
	for on := range strings.SplitSeq(r.GetRetryOn(), ",") {
		code, err := strconv.Atoi(on)
		if status := err == nil && code >= 100 && code < 600; on != "" && !status && !slices.Contains(retryPolicies, on) {
			errs = append(errs, field.NotSupported(path.Child("retryOn"), on, append([]string{"an HTTP status code"}, retryPolicies...)))
		}
	}
	return errs
}

func checkOperations(h *networking.Headers, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, side := range []struct {
		name       string
		operations *networking.Headers_HeaderOperations
	}{{"request", h.GetRequest()}, {"response", h.GetResponse()}} {
		at := path.Child(side.name)
		for operation, names := range map[string][]string{
			"set": slices.Sorted(maps.Keys(side.operations.GetSet())), "add": slices.Sorted(maps.Keys(side.operations.GetAdd())), "remove": side.operations.GetRemove(),
		} {
			for _, name := range names {
				authority := side.name == "request" && operation != "remove" && isAuthority(name)
				if (!headerName.MatchString(name) || strings.EqualFold(name, "host")) && !authority {
					errs = append(errs, field.Invalid(at.Child(operation).Key(name), name, "is not the name of a header that a proxy can change"))
				}
			}
		}
	}
	return errs
}

func isAuthority(name string) bool {
	return strings.EqualFold(name, "host") || strings.EqualFold(name, ":authority")
}

func checkCORS(c *networking.CorsPolicy, path *field.Path) field.ErrorList {
	errs := checkDuration(c.GetMaxAge(), path.Child("maxAge"))
	if c.GetMaxAge().GetNanos() != 0 {
		errs = append(errs, field.Invalid(path.Child("maxAge"), c.GetMaxAge().AsDuration().String(), "must be whole seconds"))
	}
	methods := []string{"*", "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
	for i, m := range c.GetAllowMethods() {
		if !slices.Contains(methods, m) {
			errs = append(errs, field.NotSupported(path.Child("allowMethods").Index(i), m, methods))
		}
	}
	for name, headers := range map[string][]string{"allowHeaders": c.GetAllowHeaders(), "exposeHeaders": c.GetExposeHeaders()} {
		for i, h := range headers {
			if !headerName.MatchString(h) {
				errs = append(errs, field.Invalid(path.Child(name).Index(i), h, "is not the name of a header"))
			}
		}
	}
	for i, o := range c.GetAllowOrigins() {
		if err := checkMatch(o); err != nil {
			errs = append(errs, field.Invalid(path.Child("allowOrigins").Index(i), o.String(), err.Error()))
		}
	}
	return errs
}

// checkMatch refuses a match of nothing, and an expression that Envoy could not read either.
func checkMatch(m *networking.StringMatch) error {
	switch t := m.GetMatchType().(type) {
	case *networking.StringMatch_Exact:
		if t.Exact != "" {
			return nil
		}
	case *networking.StringMatch_Prefix:
		if t.Prefix != "" {
			return nil
		}
	case *networking.StringMatch_Regex:
		if t.Regex == "" || len(t.Regex) > 1024 {
			return fmt.Errorf("regex must be of 1 to 1024 characters")
		}
		_, err := regexp.Compile(t.Regex)
		return err
	}
	return fmt.Errorf("must be one of exact, prefix and regex, and not be empty")
}

func checkFault(f *networking.HTTPFaultInjection, path *field.Path) field.ErrorList {
	if f == nil {
		return nil
	}
	var errs field.ErrorList
	abort, delay := f.GetAbort(), f.GetDelay()
	if abort == nil && delay == nil {
		errs = append(errs, field.Required(path, "an abort or a delay"))
	}
	for name, p := range map[string]*networking.Percent{"abort": abort.GetPercentage(), "delay": delay.GetPercentage()} {
		if v := p.GetValue(); !(v >= 0 && v <= 100) {
			errs = append(errs, field.Invalid(path.Child(name, "percentage"), v, "must be from 0 to 100"))
		}
	}
	if abort != nil {
		errs = append(errs, checkAbort(abort, path.Child("abort"))...)
	}
	if delay != nil {
		if delay.GetFixedDelay() == nil {
			errs = append(errs, field.Required(path.Child("delay", "fixedDelay"), "how long to wait, such as 2s"))
		}
		errs = append(errs, checkDuration(delay.GetFixedDelay(), path.Child("delay", "fixedDelay"))...)
	}
	return errs
}

var grpcStatuses = []string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "UNAUTHENTICATED",
	"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
}

func checkAbort(abort *networking.HTTPFaultInjection_Abort, path *field.Path) field.ErrorList {
	switch e := abort.GetErrorType().(type) {
	case *networking.HTTPFaultInjection_Abort_HttpStatus:
		if e.HttpStatus < 200 || e.HttpStatus > 599 {
			return field.ErrorList{field.Invalid(path.Child("httpStatus"), e.HttpStatus, "must be from 200 to 599")}
		}
	case *networking.HTTPFaultInjection_Abort_GrpcStatus:
		if !slices.Contains(grpcStatuses, e.GrpcStatus) {
			return field.ErrorList{field.NotSupported(path.Child("grpcStatus"), e.GrpcStatus, grpcStatuses)}
		}
	default:
		return field.ErrorList{field.Required(path.Child("httpStatus"), "what to answer: httpStatus or grpcStatus")}
	}
	return nil
}

func checkRewrite(route *networking.HTTPRoute, path *field.Path) field.ErrorList {
	r := route.GetRewrite()
	if r == nil {
		return nil
	}
	var errs field.ErrorList
	regex := r.GetUriRegexRewrite()
	switch {
	case r.GetUri() == "" && regex == nil && r.GetAuthority() == "":
		errs = append(errs, field.Required(path, "one of uri, uriRegexRewrite and authority"))
	case r.GetUri() != "" && regex != nil:
		errs = append(errs, field.Forbidden(path.Child("uriRegexRewrite"), "uri says it already: choose one"))
	}
	if regex != nil {
		if _, err := regexp.Compile(regex.GetMatch()); err != nil || regex.GetMatch() == "" || regex.GetRewrite() == "" {
			errs = append(errs, field.Invalid(path.Child("uriRegexRewrite"), regex.GetMatch(), "must have a match that is a regular expression (RE2), and a rewrite"))
		}
	}
	operations := route.GetHeaders().GetRequest()
	for _, name := range slices.Concat(slices.Sorted(maps.Keys(operations.GetSet())), slices.Sorted(maps.Keys(operations.GetAdd()))) {
		if isAuthority(name) && r.GetAuthority() != "" {
			errs = append(errs, field.Forbidden(path.Child("authority"), "headers.request says "+name+" already: choose one"))
		}
	}
	return errs
}

// CarriedOver is what a route carries of what its owner asked for: HTTPFields, read back.
func CarriedOver(route *networking.HTTPRoute) *networking.HTTPRoute {
	return &networking.HTTPRoute{
		Timeout: route.GetTimeout(), Retries: route.GetRetries(), Headers: route.GetHeaders(),
		CorsPolicy: route.GetCorsPolicy(), Rewrite: route.GetRewrite(), Fault: route.GetFault(),
	}
}

// carry gives every route what its owner asked for. What Sluice itself does to headers of a route stays.
func (s Scope) carry(routes []*networking.HTTPRoute) {
	if s.HTTP == nil {
		return
	}
	for _, route := range routes {
		from := s.HTTP.DeepCopy()
		route.Timeout, route.Retries, route.CorsPolicy, route.Rewrite, route.Fault = from.Timeout, from.Retries, from.CorsPolicy, from.Rewrite, from.Fault
		route.Headers = mergeHeaders(route.GetHeaders(), from.GetHeaders())
	}
}

// mergeHeaders adds the user's operations to ours; of two on one header ours stays.
func mergeHeaders(ours, users *networking.Headers) *networking.Headers {
	if ours == nil || users == nil {
		if ours == nil {
			return users
		}
		return ours
	}
	return &networking.Headers{
		Request:  mergeOperations(ours.GetRequest(), users.GetRequest()),
		Response: mergeOperations(ours.GetResponse(), users.GetResponse()),
	}
}

func mergeOperations(ours, users *networking.Headers_HeaderOperations) *networking.Headers_HeaderOperations {
	if ours == nil || users == nil {
		if ours == nil {
			return users
		}
		return ours
	}
	return &networking.Headers_HeaderOperations{
		Set: merge(users.GetSet(), ours.GetSet()), Add: merge(users.GetAdd(), ours.GetAdd()),
		Remove: slices.Concat(users.GetRemove(), ours.GetRemove()),
	}
}
