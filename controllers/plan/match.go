package plan

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// Istio's own limits (pkg/config/validation).
const maxRegex = 1024

var (
	headerName = regexp.MustCompile("^[-!#$%&'*+.^_`|~0-9a-zA-Z]+$")
	pseudo     = []string{":method", ":scheme", ":authority", ":path"}
)

// jwtClaim begins the name of a header that stands for a claim of a token.
const jwtClaim = "@request.auth.claims"

// ReadMatches reads rules as Istio does. What cannot be read matches nobody; CheckMatches says why.
func ReadMatches(rules []apiextensionsv1.JSON) []*networking.HTTPMatchRequest {
	read := make([]*networking.HTTPMatchRequest, 0, len(rules))
	for _, raw := range rules {
		if rule, errs := readMatch(raw, field.NewPath("match")); len(errs) == 0 {
			read = append(read, rule)
		}
	}
	return read
}

// CheckMatches reports every rule of a spec that Istio would refuse, or that would not do what it says.
func CheckMatches(spec *v1alpha1.TrafficShiftSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	check := func(rules []apiextensionsv1.JSON, path *field.Path) {
		for i, raw := range rules {
			_, found := readMatch(raw, path.Index(i))
			errs = append(errs, found...)
		}
	}
	for i, step := range spec.Steps {
		check(step.Match, path.Child("steps").Index(i).Child("match"))
	}
	if test := spec.ABTest; test != nil {
		check(test.Match, path.Child("abTest", "match"))
	}
	return errs
}

// readMatch reads one rule. A field that Istio does not know is a mistake: Istio would drop it, and the rule would match more.
func readMatch(raw apiextensionsv1.JSON, path *field.Path) (*networking.HTTPMatchRequest, field.ErrorList) {
	rule := &networking.HTTPMatchRequest{}
	if err := protojson.Unmarshal(raw.Raw, rule); err != nil {
		cause := strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\u00a0", " "), "proto: ") // which differ from build to build
		return nil, field.ErrorList{field.Invalid(path, string(raw.Raw), "is not an Istio HTTPMatchRequest: "+cause)}
	}
	errs := slices.Concat(
		checkOurs(rule, path),
		checkHeaders(rule.GetHeaders(), path.Child("headers")),
		checkHeaders(rule.GetWithoutHeaders(), path.Child("withoutHeaders")),
		checkStrings(rule.GetQueryParams(), path.Child("queryParams")),
		checkString(rule.GetUri(), path.Child("uri")),
		checkString(rule.GetScheme(), path.Child("scheme")),
		checkString(rule.GetMethod(), path.Child("method")),
		checkString(rule.GetAuthority(), path.Child("authority")),
		checkSource(rule, path),
	)
	if asked := proto.Clone(rule).(*networking.HTTPMatchRequest); len(errs) == 0 {
		asked.IgnoreUriCase = false
		if proto.Size(asked) == 0 {
			errs = append(errs, field.Invalid(path, string(raw.Raw), "asks nothing, so every request matches: name a header, a query parameter, a path or a source"))
		}
	}
	return rule, errs
}

// checkOurs refuses what Sluice sets itself, or what it could not keep.
func checkOurs(rule *networking.HTTPMatchRequest, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for name, set := range map[string]bool{
		"port": rule.GetPort() != 0, "gateways": len(rule.GetGateways()) > 0, "name": rule.GetName() != "", "statPrefix": rule.GetStatPrefix() != "",
	} {
		if set {
			errs = append(errs, field.Forbidden(path.Child(name), "is Sluice's to set: leave it out"))
		}
	}
	slices.SortFunc(errs, func(a, b *field.Error) int { return strings.Compare(a.Field, b.Field) })
	return errs
}

func checkHeaders(headers map[string]*networking.StringMatch, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		claim := strings.HasPrefix(name, jwtClaim)
		if !claim && !slices.Contains(pseudo, name) && !headerName.MatchString(name) {
			errs = append(errs, field.Invalid(path.Key(name), name, "is not the name of a header"))
		}
	}
	return append(errs, checkStrings(headers, path)...)
}

func checkStrings(matches map[string]*networking.StringMatch, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, name := range slices.Sorted(maps.Keys(matches)) {
		if matches[name].GetRegex() == "*" {
			continue // Istio's way to ask whether it is there at all
		}
		errs = append(errs, checkString(matches[name], path.Key(name))...)
	}
	return errs
}

func checkString(match *networking.StringMatch, path *field.Path) field.ErrorList {
	var reason string
	switch m := match.GetMatchType().(type) {
	case *networking.StringMatch_Prefix:
		if m.Prefix == "" {
			reason = "a prefix must not be empty"
		}
	case *networking.StringMatch_Regex:
		if _, err := regexp.Compile(m.Regex); m.Regex == "" || len(m.Regex) > maxRegex || err != nil {
			reason = fmt.Sprintf("a regex must be RE2 of 1 to %d characters", maxRegex)
		}
	}
	if reason == "" {
		return nil
	}
	return field.ErrorList{field.Invalid(path, match.GetPrefix()+match.GetRegex(), reason)}
}

func checkSource(rule *networking.HTTPMatchRequest, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, key := range slices.Sorted(maps.Keys(rule.GetSourceLabels())) {
		value := rule.GetSourceLabels()[key]
		if bad := append(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)...); len(bad) > 0 {
			errs = append(errs, field.Invalid(path.Child("sourceLabels").Key(key), value, strings.Join(bad, "; ")))
		}
	}
	if ns := rule.GetSourceNamespace(); ns != "" {
		if bad := validation.IsDNS1123Label(ns); len(bad) > 0 {
			errs = append(errs, field.Invalid(path.Child("sourceNamespace"), ns, strings.Join(bad, "; ")))
		}
	}
	return errs
}
