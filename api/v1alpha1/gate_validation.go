package v1alpha1

import (
	"fmt"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Bounds of a webhook's times: one that is asked more often, or waited for longer, is a load on somebody else's service, or on us.
const (
	leastInterval = time.Second
	mostTimeout   = time.Minute
)

// builtInGates have these names in metrics and messages; metrics/analysis asks them.
var builtInGates = []string{"requests", "error-rate", "error-rate-vs-stable", "latency", "latency-vs-stable"}

var gateName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)

// validateGates expects gates with their defaults. The schema says the same to whoever writes to an API server.
func validateGates(gates []Gate, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, g := range gates {
		p := path.Index(i)
		switch {
		case len(g.Name) > 63 || !gateName.MatchString(g.Name):
			errs = append(errs, field.Invalid(p.Child("name"), g.Name, "must be at most 63 of a-z, 0-9 and -, such as checkout-success"))
		case slices.Contains(builtInGates, g.Name):
			errs = append(errs, field.Invalid(p.Child("name"), g.Name, "is the name of a built-in gate: choose another, such as checkout-"+g.Name))
		case seen[g.Name]:
			errs = append(errs, field.Duplicate(p.Child("name"), g.Name))
		}
		seen[g.Name] = true
		errs = append(errs, g.validate(p)...)
	}
	return errs
}

func (g *Gate) validate(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	var kinds []string
	if g.Query != nil {
		kinds = append(kinds, "query")
		errs = append(errs, g.Query.validate(path.Child("query"))...)
	}
	if g.Webhook != nil {
		kinds = append(kinds, "webhook")
		errs = append(errs, g.Webhook.validate(path.Child("webhook"))...)
	}
	if g.Manual != nil {
		kinds = append(kinds, "manual")
		errs = append(errs, g.Manual.validate(path.Child("manual"))...)
		if g.DryRun {
			errs = append(errs, field.Invalid(path.Child("dryRun"), true, "a manual gate cannot be a dry run: a person is asked, or is not"))
		}
	}
	switch {
	case !slices.Contains([]GateTime{GateAtStart, GateAtSteps}, g.At):
		errs = append(errs, field.NotSupported(path.Child("at"), g.At, []GateTime{GateAtStart, GateAtSteps}))
	case g.At == GateAtStart && g.Manual != nil:
		errs = append(errs, field.Invalid(path.Child("at"), g.At, "is for query and webhook: a manual gate says in before when it is asked"))
	}
	if len(kinds) != 1 {
		errs = append(errs, field.Invalid(path, g.Name, fmt.Sprintf("a gate is exactly one of query, webhook and manual; this one has %d of them%s",
			len(kinds), strings.TrimSuffix(": "+strings.Join(kinds, ", "), ": "))))
	}
	return errs
}

func (q *QueryGate) validate(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if strings.TrimSpace(q.PromQL) == "" {
		errs = append(errs, field.Required(path.Child("promql"), "an expression whose value is one number"))
	}
	least, badMin := bound(q.Min, math.Inf(-1), path.Child("min"))
	most, badMax := bound(q.Max, math.Inf(1), path.Child("max"))
	errs = append(append(errs, badMin...), badMax...)
	switch {
	case q.Min == "" && q.Max == "":
		errs = append(errs, field.Required(path, "a query needs min or max: without a bound it asks nothing"))
	case least > most:
		errs = append(errs, field.Invalid(path.Child("min"), q.Min, fmt.Sprintf("must not be above max (%s)", q.Max)))
	}
	if q.Window.Duration <= 0 {
		errs = append(errs, field.Invalid(path.Child("window"), q.Window.Duration.String(), "must be more than 0s, such as 1m"))
	}
	if !slices.Contains([]NoData{NoDataHold, NoDataPass, NoDataFail}, q.NoData) {
		errs = append(errs, field.NotSupported(path.Child("noData"), q.NoData, []NoData{NoDataHold, NoDataPass, NoDataFail}))
	}
	if *q.Failures < 1 || *q.Failures > 100 {
		errs = append(errs, field.Invalid(path.Child("failures"), *q.Failures, "must be a number from 1 to 100"))
	}
	return errs
}

// bound reads min or max; one that is not written, or cannot be read, is def.
func bound(text string, def float64, path *field.Path) (float64, field.ErrorList) {
	if text == "" {
		return def, nil
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return def, field.ErrorList{field.Invalid(path, text, "must be a number that is finite, such as 0.95 or 1e3")}
	}
	return v, nil
}

// Bounds returns min and max, infinite where they are not written.
func (q *QueryGate) Bounds() (least, most float64) {
	least, _ = bound(q.Min, math.Inf(-1), nil)
	most, _ = bound(q.Max, math.Inf(1), nil)
	return least, most
}

func (w *WebhookGate) validate(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	u, err := url.Parse(w.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
		errs = append(errs, field.Invalid(path.Child("url"), withoutSecrets(w.URL, u),
			"must be http://HOST[:PORT][/PATH][?QUERY] or https://..., without a user or a password: the signature says who asks"))
	}
	if d := w.Timeout.Duration; d <= 0 || d > mostTimeout {
		errs = append(errs, field.Invalid(path.Child("timeout"), d.String(), "must be more than 0s and at most 1m"))
	}
	if d := w.Interval.Duration; d < leastInterval {
		errs = append(errs, field.Invalid(path.Child("interval"), d.String(), "must be at least 1s"))
	}
	if *w.Retries < 0 || *w.Retries > 10 {
		errs = append(errs, field.Invalid(path.Child("retries"), *w.Retries, "must be a number from 0 to 10"))
	}
	if !slices.Contains([]OnError{OnErrorHold, OnErrorFail}, w.OnError) {
		errs = append(errs, field.NotSupported(path.Child("onError"), w.OnError, []OnError{OnErrorHold, OnErrorFail}))
	}
	return errs
}

// withoutSecrets is what an error may show of a URL: no user, no password and no query. What cannot be parsed has no parts to tell
// apart: of that all before the last @ is left out.
func withoutSecrets(raw string, parsed *url.URL) string {
	if parsed == nil {
		scheme, rest, found := strings.Cut(raw, "://")
		if i := strings.LastIndexByte(rest, '@'); found && i >= 0 {
			raw = scheme + "://***" + rest[i:]
		}
		raw, _, _ = strings.Cut(raw, "?")
		return raw
	}
	shown := url.URL{Scheme: parsed.Scheme, Opaque: parsed.Opaque, Host: parsed.Host, Path: parsed.Path}
	if parsed.User != nil {
		shown.User = url.User("***")
	}
	return strings.Replace(shown.String(), "%2A%2A%2A@", "***@", 1)
}

func (m *ManualGate) validate(path *field.Path) field.ErrorList {
	p, err := m.Before.Permille()
	switch {
	case err != nil:
		return field.ErrorList{field.Invalid(path.Child("before"), m.Before, "must be a percentage of at most one decimal, above 0% and up to 100%")}
	case p == 0:
		return field.ErrorList{field.Invalid(path.Child("before"), m.Before, "must be above 0%: no weight lies below that")}
	}
	return nil
}
