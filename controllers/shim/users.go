package shim

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	sluice "github.com/sluice-dev/sluice/api/v1alpha1"
)

// termForm is one condition of a match. The admission policy says the same.
var termForm = regexp.MustCompile(`^(?:` +
	`(header|cookie|query):([A-Za-z0-9][-A-Za-z0-9_.]{0,99}) *= *([^,&=;]{0,199}[^,&=; ])|` +
	`(source):((?:[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?) *= *([A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?))$`)

// parseMatch reads "header:x-group=b & source:app=web, cookie:group=b" into Istio's own rules: any of those that commas part, each of
// all that "&" joins. A cookie is asked for in the header that carries it, among others.
func parseMatch(s string) (any, error) {
	var rules []any
	for text := range strings.SplitSeq(s, ",") {
		rule, err := parseRule(text)
		if err != nil {
			return nil, err
		}
		rules = append(rules, rule)
	}
	if len(rules) > 16 {
		return nil, fmt.Errorf("there are %d rules, more than 16", len(rules))
	}
	return rules, nil
}

func parseRule(text string) (map[string]any, error) {
	rule, asked := map[string]any{}, map[string]bool{}
	for term := range strings.SplitSeq(text, "&") {
		term = strings.TrimSpace(term)
		m := termForm.FindStringSubmatch(term)
		if m == nil {
			return nil, fmt.Errorf("%q is not such a condition", clip(term))
		}
		kind, name, value := m[1]+m[4], m[2]+m[5], m[3]+m[6]
		field, key, want := "headers", strings.ToLower(name), any(map[string]any{"exact": value})
		switch kind {
		case "query":
			field, key = "queryParams", name
		case "source":
			field, key, want = "sourceLabels", name, value
		case "cookie":
			key, want = "cookie", map[string]any{"regex": sluice.CookieRegex(name, regexp.QuoteMeta(value))}
		}
		once := field + "." + strings.ToLower(key)
		if asked[once] {
			return nil, fmt.Errorf("%q asks twice for the same in one rule", clip(term))
		}
		asked[once] = true
		if rule[field] == nil {
			rule[field] = map[string]any{}
		}
		rule[field].(map[string]any)[key] = want
	}
	return rule, nil
}

// parseSession reads how long users are kept; without a time, for the default one, which is written out so that what was applied reads
// back the same.
func parseSession(s string) (any, error) {
	switch s {
	case "false":
		return nil, nil
	case "true":
		return map[string]any{"maxAge": (24 * time.Hour).String()}, nil
	}
	age, err := parseDuration(s)
	if err != nil {
		return nil, err
	}
	return map[string]any{"maxAge": age}, nil
}

// parsePreview reads "true", or a host, with or without a place for the version: a name with a dot, so that neither is taken for the other.
func parsePreview(s string) (any, error) {
	if s == "true" {
		return map[string]any{}, nil
	}
	if !strings.Contains(s, ".") || !sluice.IsPreviewHost(s) {
		return nil, errors.New("not a host")
	}
	return map[string]any{"host": s}, nil
}
