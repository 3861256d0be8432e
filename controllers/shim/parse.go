package shim

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
)

// The grammars are those of the CRD's schema, and of the admission policy in the chart, which must accept the same values.
var (
	percentForm  = regexp.MustCompile(`^(100(\.0)?|[0-9]{1,2}(\.[0-9]{1,3})?)%?$`)
	durationForm = regexp.MustCompile(`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`)
	timeoutForm  = regexp.MustCompile(`^([0-9]+(ms|m|h)|[0-9]+(\.[0-9]{1,3})?s)+$`)
	latencyForm  = regexp.MustCompile(`^p([1-9][0-9]?(?:\.[0-9]{1,2})?) *< *([0-9a-z.]+)$`)
	gatewayForm  = regexp.MustCompile(`^([a-z0-9]([-a-z0-9]*[a-z0-9])?/)?[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
)

// parseOneOf reads one of a few words. Which they are is said by whoever tells the user.
func parseOneOf[T ~string](what string, words ...T) func(string) (any, error) {
	return func(s string) (any, error) {
		if slices.Contains(words, T(s)) {
			return s, nil
		}
		return nil, errors.New("no such " + what)
	}
}

func parsePercent(s string) (any, error) {
	if !percentForm.MatchString(s) {
		return nil, errors.New("not a percentage")
	}
	return s, nil
}

// parseDuration returns the canonical form ("1m30s"), which is also how the API server's copy reads back.
func parseDuration(s string) (any, error) {
	if !durationForm.MatchString(s) {
		return nil, errors.New("not a duration")
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return nil, errors.New("not a duration")
	}
	return d.String(), nil
}

// parseTimeout reads what Istio keeps: whole milliseconds.
func parseTimeout(s string) (any, error) {
	if d, err := time.ParseDuration(s); !timeoutForm.MatchString(s) || err != nil || d <= 0 {
		return nil, errors.New("not such a duration")
	}
	return parseDuration(s)
}

// parseTLSSecret reads the name of a Secret; what is served with it is for the whole spec to say.
func parseTLSSecret(s string) (any, error) {
	if bad := validation.IsDNS1123Subdomain(s); bad != nil {
		return nil, errors.New("not the name of a Secret")
	}
	return map[string]any{"mode": "SIMPLE", "credentialName": s}, nil
}

// parseAttach reads "shop", "shop/main,api" or "shop@infra", or several of them: "front@infra/main; internal".
func parseAttach(s string) (any, error) {
	var all []any
	for item := range strings.SplitSeq(s, ";") {
		one, err := parseAttached(strings.TrimSpace(item))
		switch {
		case err != nil:
			return nil, err
		case slices.ContainsFunc(all, func(other any) bool { return sameAttached(other, one) }):
			return nil, fmt.Errorf("%q is written twice", clip(nameOf(one)))
		}
		all = append(all, one)
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return other{"routing.virtualServices", all}, nil
}

func parseAttached(s string) (any, error) {
	where, routes, named := strings.Cut(s, "/")
	name, namespace, there := strings.Cut(where, "@")
	if bad := validation.IsDNS1123Subdomain(name); bad != nil {
		return nil, fmt.Errorf("%q is not the name of a VirtualService", clip(name))
	}
	attached := map[string]any{"name": name}
	if bad := validation.IsDNS1123Label(namespace); there && bad != nil {
		return nil, fmt.Errorf("%q is not the name of a namespace", clip(namespace))
	} else if there {
		attached["namespace"] = namespace
	}
	if named {
		list, err := parseList(routes, 32, func(route string) bool { return route != "" && len(route) <= 253 })
		if err != nil {
			return nil, err
		}
		attached["routes"] = list
	}
	return attached, nil
}

// sameAttached reports whether two of them are one VirtualService.
func sameAttached(a, b any) bool {
	x, _ := a.(map[string]any)
	y, _ := b.(map[string]any)
	return x["name"] == y["name"] && x["namespace"] == y["namespace"]
}

func parseLatency(s string) (any, error) {
	m := latencyForm.FindStringSubmatch(s)
	if m == nil {
		return nil, errors.New("not a latency limit")
	}
	below, err := parseDuration(m[2])
	if err != nil {
		return nil, fmt.Errorf("the bound %q is not a duration", clip(m[2]))
	}
	return map[string]any{"percentile": m[1], "below": below}, nil
}

func parseCount(least, most int64) func(string) (any, error) {
	return func(s string) (any, error) {
		n, err := strconv.ParseUint(s, 10, 31)
		if err != nil || int64(n) < least || int64(n) > most {
			return nil, errors.New("not such a number")
		}
		return int64(n), nil
	}
}

func parseBool(s string) (any, error) {
	if s != "true" && s != "false" {
		return nil, errors.New("neither true nor false")
	}
	return s == "true", nil
}

func parsePrometheus(s string) (any, error) {
	if bad := validation.IsDNS1123Label(s); bad != nil {
		return nil, errors.New("not the name of a connection")
	}
	return s, nil
}

func parseService(s string) (any, error) {
	if bad := validation.IsDNS1035Label(s); bad != nil {
		return nil, errors.New("not the name of a Service")
	}
	return s, nil
}

func parsePolicy(s string) (any, error) {
	if bad := validation.IsDNS1123Subdomain(s); bad != nil {
		return nil, errors.New("not the name of a ShiftPolicy")
	}
	return s, nil
}

func parseHosts(s string) (any, error) {
	return parseList(s, 32, func(host string) bool {
		return host == "*" || validation.IsDNS1123Subdomain(host) == nil || validation.IsWildcardDNS1123Subdomain(host) == nil
	})
}

func parseGateways(s string) (any, error) {
	return parseList(s, 8, gatewayForm.MatchString)
}

// parseList reads a list without doubles: the API server keeps it as a set.
func parseList(s string, most int, valid func(string) bool) (any, error) {
	var list []any
	for item := range strings.SplitSeq(s, ",") {
		item = strings.TrimSpace(item)
		switch {
		case !valid(item):
			return nil, fmt.Errorf("%q is not one", clip(item))
		case slices.Contains(list, any(item)):
			return nil, fmt.Errorf("%q is written twice", clip(item))
		}
		list = append(list, item)
	}
	if len(list) > most {
		return nil, fmt.Errorf("there are %d, more than %d", len(list), most)
	}
	return list, nil
}
