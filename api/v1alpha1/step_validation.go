package v1alpha1

import (
	"bytes"
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The grammars of the schema. A percent sign would begin one of Envoy's own variables, in a header that Envoy writes.
var (
	cookieName       = regexp.MustCompile("^[A-Za-z0-9!#$&'*+.^_|~-]{1,128}$")
	cookieAttributes = regexp.MustCompile(`^[ -$&-:<-~]+(;[ -$&-:<-~]+)*$`)
	cookieAge        = regexp.MustCompile(`(?i)(^|;) *(max-age|expires) *(=|;|$)`)
)

// validateStrategy holds what each strategy takes and what only another one does.
func (s *TrafficShiftSpec) validateStrategy(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	known := []Strategy{StrategyCanary, StrategyBlueGreen, StrategyABTest}
	if !slices.Contains(known, s.Strategy) {
		return field.ErrorList{field.NotSupported(path.Child("strategy"), s.Strategy, known)}
	}
	if s.Strategy != StrategyCanary && s.Pacing == PacingAuto {
		errs = append(errs, field.Invalid(path.Child("pacing"), s.Pacing, fmt.Sprintf("%s moves all the traffic at once, so there is no pace to choose: leave out pacing", s.Strategy)))
	}
	switch {
	case s.Strategy == StrategyABTest && s.ABTest == nil:
		errs = append(errs, field.Required(path.Child("abTest"), "an ab-test needs to know its group: abTest: {match: [{headers: {x-group: {exact: b}}}]}"))
	case s.Strategy != StrategyABTest && s.ABTest != nil:
		errs = append(errs, field.Invalid(path.Child("abTest"), "", fmt.Sprintf("is for strategy ab-test, and the strategy is %s: write strategy: ab-test, or leave it out", s.Strategy)))
	}
	if s.ABTest != nil {
		errs = append(errs, s.ABTest.validate(path.Child("abTest"))...)
	}
	if s.Session != nil {
		errs = append(errs, s.Session.validate(path.Child("session"))...)
	}
	if s.Preview != nil {
		errs = append(errs, s.validatePreview(path)...)
	}
	return append(errs, s.validateAttached(path)...)
}

func (t *ABTest) validate(path *field.Path) field.ErrorList {
	errs := validateMatch(t.Match, path.Child("match"))
	if len(t.Match) == 0 {
		errs = append(errs, field.Required(path.Child("match"), "a rule such as {headers: {x-group: {exact: b}}}"))
	}
	if t.Duration != nil && t.Duration.Duration < 0 {
		errs = append(errs, field.Invalid(path.Child("duration"), t.Duration.Duration.String(), "must not be negative"))
	}
	if known := []Conclude{ConcludePromote, ConcludeDecide}; !slices.Contains(known, t.Conclude) {
		errs = append(errs, field.NotSupported(path.Child("conclude"), t.Conclude, known))
	}
	return errs
}

// validateMatch says of rules what can be said without Istio's types: controllers/plan reads them strictly.
func validateMatch(rules []apiextensionsv1.JSON, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, raw := range rules {
		if text := bytes.TrimSpace(raw.Raw); len(text) == 0 || text[0] != '{' {
			errs = append(errs, field.Invalid(path.Index(i), string(raw.Raw), "must be an Istio HTTPMatchRequest, such as {headers: {x-group: {exact: b}}}"))
		}
	}
	return errs
}

func (s *Session) validate(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.Cookie != "" && !cookieName.MatchString(s.Cookie) {
		errs = append(errs, field.Invalid(path.Child("cookie"), s.Cookie, "must be the name of a cookie: at most 128 letters, digits and !#$&'*+.^_|~-"))
	}
	if s.MaxAge.Duration < time.Second {
		errs = append(errs, field.Invalid(path.Child("maxAge"), s.MaxAge.Duration.String(), "must be at least 1s: a cookie that is gone at once keeps nobody"))
	}
	switch {
	case s.Attributes == "":
	case len(s.Attributes) > 256 || !cookieAttributes.MatchString(s.Attributes):
		errs = append(errs, field.Invalid(path.Child("attributes"), s.Attributes, `must be attributes of a Set-Cookie header, without %, such as "Path=/; Secure; SameSite=Lax"`))
	case cookieAge.MatchString(s.Attributes):
		errs = append(errs, field.Invalid(path.Child("attributes"), s.Attributes, "must leave out Max-Age and Expires: write session.maxAge"))
	}
	return errs
}

func (s *TrafficShiftSpec) validatePreview(path *field.Path) field.ErrorList {
	errs := s.validatePreviewHost(path)
	n, path := s.Preview.Replicas, path.Child("preview", "replicas")
	switch {
	case n == nil:
	case *n < 1:
		errs = append(errs, field.Invalid(path, *n, "must be at least 1"))
	case s.Strategy != StrategyBlueGreen:
		errs = append(errs, field.Forbidden(path, fmt.Sprintf("is for strategy blue-green, whose preview comes before all else, and the strategy is %s: leave it out, and write replicas in a step", s.Strategy)))
	}
	return errs
}

func (s *TrafficShiftSpec) validatePreviewHost(path *field.Path) field.ErrorList {
	host, hosts := s.Preview.Host, path.Child("hosts")
	path = path.Child("preview", "host")
	switch {
	case host == "":
		return nil
	case !IsPreviewHost(host):
		return field.ErrorList{field.Invalid(path, host, "must be the name of one host, such as preview.shop.example.com, or have a place for the version in its first label, such as "+
			PreviewPlace+".preview.shop.example.com; a label has at most 63 characters with v999999 in that place")}
	case len(s.Hosts) == 0:
		return field.ErrorList{field.Required(hosts, "preview.host needs hosts: the preview is served by their gateways")}
	case slices.ContainsFunc(s.Hosts, func(h string) bool { return h == host || PreviewedAt(host, h) != "" }):
		return field.ErrorList{field.Invalid(path, host, "is one of spec.hosts, which users come to: choose another one for the preview")}
	}
	return nil
}

// validateAttached refuses what would need routes beside the weights where the routes are the user's own.
func (s *TrafficShiftSpec) validateAttached(path *field.Path) field.ErrorList {
	if len(s.Routing.Attached()) == 0 {
		return nil
	}
	const reason = "needs routes of Sluice's own, and routing.virtualService attaches to yours, of which only weights are written: leave out one of the two"
	var errs field.ErrorList
	if s.Strategy == StrategyABTest {
		return field.ErrorList{field.Invalid(path.Child("strategy"), s.Strategy, reason)}
	}
	if s.Session != nil {
		errs = append(errs, field.Forbidden(path.Child("session"), reason))
	}
	for i, step := range s.Steps {
		switch p := path.Child("steps").Index(i); {
		case len(step.Match) > 0:
			errs = append(errs, field.Forbidden(p.Child("match"), reason))
		case step.Mirror != "":
			errs = append(errs, field.Forbidden(p.Child("mirror"), reason))
		}
	}
	return errs
}

// validateSteps holds the ladder to its order: what shows a candidate without a weight, then weights that rise to 100.
func (s *TrafficShiftSpec) validateSteps(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	last := Permille(0)
	for i, step := range s.Steps {
		p := path.Index(i)
		if bad := step.validate(s.Gates, p); len(bad) > 0 {
			errs = append(errs, bad...)
			continue
		}
		w, _ := step.Permille() // read just now
		switch {
		case step.Weight == nil && last > 0:
			errs = append(errs, field.Invalid(p, step.kind(), "comes after a weight: a match or a mirror shows the candidate before its first weight"))
		case step.Weight != nil && w <= last:
			errs = append(errs, field.Invalid(p.Child("weight"), step.Weight.String(), "weights must rise from step to step, the first above 0"))
		case s.Strategy == StrategyBlueGreen && step.Mirror == "" && w != Whole:
			errs = append(errs, field.Invalid(p, step.kind(), "blue-green moves all the traffic at once: its steps are mirrors, and 100 at the end"))
		}
		last = max(last, w)
	}
	if len(errs) == 0 && last != Whole {
		errs = append(errs, field.Invalid(path, last.String(), "the last step must be 100: that is where the candidate becomes stable"))
	}
	if s.Strategy == StrategyABTest && len(s.Steps) > 1 {
		errs = append(errs, field.Forbidden(path, "an ab-test has its group and then everybody: leave out steps"))
	}
	return errs
}

// kind says what a step is, for messages.
func (s Step) kind() string {
	switch {
	case s.Weight != nil:
		return "weight " + s.Weight.String()
	case s.Mirror != "":
		return "mirror " + string(s.Mirror)
	}
	return "match"
}

func (s Step) validate(gates []Gate, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	var kinds []string
	if s.Weight != nil {
		kinds = append(kinds, "weight")
		if _, err := s.Permille(); err != nil {
			errs = append(errs, field.Invalid(path.Child("weight"), s.Weight.String(), err.Error()))
		}
	}
	if s.Match != nil {
		kinds = append(kinds, "match")
		if len(s.Match) == 0 {
			errs = append(errs, field.Required(path.Child("match"), "a rule such as {headers: {x-tester: {exact: \"yes\"}}}"))
		}
		errs = append(errs, validateMatch(s.Match, path.Child("match"))...)
	}
	if s.Mirror != "" {
		kinds = append(kinds, "mirror")
		if w, err := s.Mirror.Permille(); err != nil || w == 0 {
			errs = append(errs, field.Invalid(path.Child("mirror"), s.Mirror, "must be a percentage above 0 with at most one decimal, such as 10%"))
		}
	}
	if len(kinds) == 0 || s.Weight != nil && s.Mirror != "" {
		errs = append(errs, field.Invalid(path, cmp.Or(strings.Join(kinds, ", "), "none"),
			"a step is a weight, a match or a mirror: a match may stand beside a weight or a mirror, and a weight and a mirror never beside each other"))
	}
	if w, err := s.Permille(); s.Weight != nil && s.Match != nil && err == nil && w == Whole {
		errs = append(errs, field.Forbidden(path.Child("match"), "at 100 everybody is on the candidate, and a match says nothing: leave it out"))
	}
	for i, name := range s.Gates {
		if slices.ContainsFunc(gates, func(g Gate) bool { return g.Name == name && g.At == GateAtStart }) {
			errs = append(errs, field.Invalid(path.Child("gates").Index(i), name, "is asked at the start, before any step: leave it out here, or write at: steps in the gate"))
		}
		if !slices.ContainsFunc(gates, func(g Gate) bool { return g.Name == name }) {
			errs = append(errs, field.Invalid(path.Child("gates").Index(i), name, "is none of spec.gates: name one of them, or add it there"))
		}
	}
	if s.Hold != nil && s.Hold.Duration < 0 {
		errs = append(errs, field.Invalid(path.Child("hold"), s.Hold.Duration.String(), "must not be negative"))
	}
	if s.Replicas != nil && *s.Replicas < 1 {
		errs = append(errs, field.Invalid(path.Child("replicas"), *s.Replicas, "must be at least 1"))
	}
	if s.Pause != nil {
		errs = append(errs, s.Pause.validate(path.Child("pause"))...)
	}
	return errs
}

func (p *Pause) validate(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if p.Timeout != nil && p.Timeout.Duration <= 0 {
		errs = append(errs, field.Invalid(path.Child("timeout"), p.Timeout.Duration.String(), "must be more than 0s; leave it out to wait for as long as it takes"))
	}
	if known := []OnTimeout{OnTimeoutProceed, OnTimeoutAbort}; !slices.Contains(known, p.OnTimeout) {
		errs = append(errs, field.NotSupported(path.Child("onTimeout"), p.OnTimeout, known))
	}
	return errs
}
