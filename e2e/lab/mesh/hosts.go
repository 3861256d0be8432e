package mesh

import (
	"net"
	"slices"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// routes is a compiled route configuration.
type routes struct {
	config     *routev3.RouteConfiguration
	ignorePort bool
	exact      map[string]*virtualHost
	suffixes   []wildcard // "*.example.com", longest first
	prefixes   []wildcard // "example.*", longest first
	any        *virtualHost
}

type wildcard struct {
	fixed string
	host  *virtualHost
}

type virtualHost struct {
	config *routev3.VirtualHost
	routes []*route
}

// requiresTLS reports whether a host answers requests without TLS, which are all that a stand-in gets, with a redirect.
func (vh *virtualHost) requiresTLS() bool {
	return vh != nil && vh.config.GetRequireTls() == routev3.VirtualHost_ALL
}

type route struct {
	config  *routev3.Route
	match   []predicate
	cluster *clusterChoice // where it routes; nil for redirects and direct answers
	retry   *retryPolicy   // nil: no retries
}

func compileRoutes(rc *routev3.RouteConfiguration) *routes {
	rs := &routes{config: rc, ignorePort: rc.GetIgnorePortInHostMatching(), exact: map[string]*virtualHost{}}
	for _, vh := range rc.GetVirtualHosts() {
		compiled := compileVirtualHost(vh)
		for _, domain := range vh.GetDomains() {
			rs.add(strings.ToLower(domain), compiled)
		}
	}
	longestFirst := func(a, b wildcard) int { return len(b.fixed) - len(a.fixed) }
	slices.SortStableFunc(rs.suffixes, longestFirst)
	slices.SortStableFunc(rs.prefixes, longestFirst)
	return rs
}

func (rs *routes) add(domain string, vh *virtualHost) {
	switch {
	case domain == "*":
		rs.any = vh
	case strings.HasPrefix(domain, "*"):
		rs.suffixes = append(rs.suffixes, wildcard{domain[1:], vh})
	case strings.HasSuffix(domain, "*"):
		rs.prefixes = append(rs.prefixes, wildcard{domain[:len(domain)-1], vh})
	default:
		rs.exact[domain] = vh
	}
}

func compileVirtualHost(vh *routev3.VirtualHost) *virtualHost {
	compiled := &virtualHost{config: vh}
	for _, r := range vh.GetRoutes() {
		policy := vh.GetRetryPolicy()
		if own := r.GetRoute().GetRetryPolicy(); own != nil {
			policy = own
		}
		one := &route{config: r, match: compileMatch(r.GetMatch()), retry: compileRetry(policy)}
		if action := r.GetRoute(); action != nil {
			one.cluster = compileClusters(action)
		}
		compiled.routes = append(compiled.routes, one)
	}
	return compiled
}

// host finds the virtual host: exact, then the longest suffix wildcard, the longest prefix wildcard, then "*". A wildcard
// stands for at least one character.
func (rs *routes) host(authority string) *virtualHost {
	name := strings.ToLower(authority)
	if rs.ignorePort {
		if h, _, err := net.SplitHostPort(name); err == nil {
			name = h
		}
	}
	if vh := rs.exact[name]; vh != nil {
		return vh
	}
	for _, w := range rs.suffixes {
		if len(name) > len(w.fixed) && strings.HasSuffix(name, w.fixed) {
			return w.host
		}
	}
	for _, w := range rs.prefixes {
		if len(name) > len(w.fixed) && strings.HasPrefix(name, w.fixed) {
			return w.host
		}
	}
	return rs.any
}

// find returns the first route of the virtual host that matches, or nils.
func (rs *routes) find(a *arrival) (*virtualHost, *route) {
	vh := rs.host(a.host)
	if vh == nil {
		return nil, nil
	}
	for _, r := range vh.routes {
		if !slices.ContainsFunc(r.match, func(p predicate) bool { return !p(a) }) {
			return vh, r
		}
	}
	return vh, nil
}
