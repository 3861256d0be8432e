package mesh

import (
	"net/http/httptest"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// TestVirtualHosts: exact before suffix before prefix before "*", longest first.
func TestVirtualHosts(t *testing.T) {
	rc := &routev3.RouteConfiguration{}
	for _, domain := range []string{
		"*", "shop.*", "shop.example.*", "*.example.com", "*.eu.example.com", "shop.example.com", "shop.example.com:8080",
	} {
		rc.VirtualHosts = append(rc.VirtualHosts, &routev3.VirtualHost{Name: domain, Domains: []string{domain}})
	}
	tests := []struct {
		host       string
		ignorePort bool
		want       string
	}{
		{host: "shop.example.com", want: "shop.example.com"},
		{host: "SHOP.example.com", want: "shop.example.com"},
		{host: "shop.example.com:8080", want: "shop.example.com:8080"},
		{host: "shop.example.com:8080", ignorePort: true, want: "shop.example.com"},
		{host: "shop.example.com:9090", want: "shop.example.*"},
		{host: "www.example.com", want: "*.example.com"},
		{host: "shop.eu.example.com", want: "*.eu.example.com"},
		{host: ".example.com", want: "*"}, // a wildcard stands for at least one character
		{host: "shop.example.org", want: "shop.example.*"},
		{host: "shop.org", want: "shop.*"},
		{host: "else", want: "*"},
	}
	for _, tt := range tests {
		rc.IgnorePortInHostMatching = tt.ignorePort
		vh := compileRoutes(rc).host(tt.host)
		if got := vh.config.GetName(); got != tt.want {
			t.Errorf("host %q (ignoring ports: %t): got %q, want %q", tt.host, tt.ignorePort, got, tt.want)
		}
	}
	rc.VirtualHosts = rc.VirtualHosts[1:]
	if vh := compileRoutes(rc).host("else"); vh != nil {
		t.Errorf("host without a virtual host: got %q, want none", vh.config.GetName())
	}
}

func exactly(s string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: s}}
}

func regex(s string) *matcherv3.RegexMatcher { return &matcherv3.RegexMatcher{Regex: s} }

func header(name string, m *matcherv3.StringMatcher) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: m}}
}

// TestMatch has a row per matcher, with what it must take and what it must leave.
func TestMatch(t *testing.T) {
	withHeaders := func(hs ...*routev3.HeaderMatcher) *routev3.RouteMatch {
		return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}, Headers: hs}
	}
	inverted := header("x-user", exactly("jason"))
	inverted.InvertMatch = true
	invertedOrMissing := header("x-user", exactly("jason"))
	invertedOrMissing.InvertMatch, invertedOrMissing.TreatMissingHeaderAsEmpty = true, true
	present := &routev3.HeaderMatcher{Name: "x-user", HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true}}
	absent := &routev3.HeaderMatcher{Name: "x-user", HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true}, InvertMatch: true}
	tests := map[string]struct {
		match *routev3.RouteMatch
		take  []string // "METHOD path header=value ..."
		leave []string
	}{
		"prefix": {
			match: prefix("/api"), take: []string{"/api", "/apiary", "/api/v1?x=1"}, leave: []string{"/", "/Api"},
		},
		"prefix of whole segments": {
			match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: "/api"}},
			take:  []string{"/api", "/api/", "/api/v1?x=1"}, leave: []string{"/apiary", "/"},
		},
		"path": {
			match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Path{Path: "/api"}},
			take:  []string{"/api", "/api?x=1"}, leave: []string{"/api/", "/API"},
		},
		"path in any case": {
			match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Path{Path: "/Api"}, CaseSensitive: wrapperspb.Bool(false)},
			take:  []string{"/api", "/API"}, leave: []string{"/api/"},
		},
		"regular expression of the whole path": {
			match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_SafeRegex{SafeRegex: regex("/v[0-9]+|/w")}},
			take:  []string{"/v1", "/v12?x=1", "/w"}, leave: []string{"/v1/x", "/v", "/wx"},
		},
		"header":                  {match: withHeaders(header("x-user", exactly("jason"))), take: []string{"/ X-User=jason"}, leave: []string{"/", "/ X-User=json"}},
		"header, inverted":        {match: withHeaders(inverted), take: []string{"/ X-User=json"}, leave: []string{"/", "/ X-User=jason"}},
		"header, other or absent": {match: withHeaders(invertedOrMissing), take: []string{"/", "/ X-User=json"}, leave: []string{"/ X-User=jason"}},
		"header, present":         {match: withHeaders(present), take: []string{"/ X-User=any"}, leave: []string{"/"}},
		"header, absent":          {match: withHeaders(absent), take: []string{"/"}, leave: []string{"/ X-User=any"}},
		"cookie by regular expression": {
			match: withHeaders(header("cookie", &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: regex(".*group=b.*")}})),
			take:  []string{"/ Cookie=a;group=b"}, leave: []string{"/", "/ Cookie=group=a"},
		},
		"method": {match: withHeaders(header(":method", exactly("GET"))), take: []string{"/"}, leave: []string{"POST /"}},
		"query": {
			match: &routev3.RouteMatch{
				PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"},
				QueryParameters: []*routev3.QueryParameterMatcher{{
					Name: "beta", QueryParameterMatchSpecifier: &routev3.QueryParameterMatcher_StringMatch{StringMatch: exactly("1")},
				}},
			},
			take: []string{"/?beta=1", "/?a=2&beta=1"}, leave: []string{"/", "/?beta=2", "/?beta"},
		},
		"what the stand-in does not know": {
			match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_ConnectMatcher_{}}, leave: []string{"/"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			rs := compileRoutes(&routev3.RouteConfiguration{VirtualHosts: []*routev3.VirtualHost{{
				Domains: []string{"*"}, Routes: []*routev3.Route{{Match: tt.match}},
			}}})
			for _, line := range tt.take {
				if _, r := rs.find(arriving(line)); r == nil {
					t.Errorf("%q is left, want taken", line)
				}
			}
			for _, line := range tt.leave {
				if _, r := rs.find(arriving(line)); r != nil {
					t.Errorf("%q is taken, want left", line)
				}
			}
		})
	}
}

// TestFirstRouteWins: routes are tried in the order in which istiod sends them.
func TestFirstRouteWins(t *testing.T) {
	beta := to("beta")
	beta.Match = &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}, Headers: []*routev3.HeaderMatcher{header("x-user", exactly("jason"))}}
	rs := compileRoutes(&routev3.RouteConfiguration{VirtualHosts: []*routev3.VirtualHost{{
		Domains: []string{"*"}, Routes: []*routev3.Route{beta, to("all"), to("never")},
	}}})
	for line, want := range map[string]string{"/": "all", "/ X-User=jason": "beta"} {
		_, r := rs.find(arriving(line))
		if got := r.cluster.pick(arriving(line), seeded(1)).cluster; got != want {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
}

// arriving parses "METHOD path header=value ...", the method and the headers left out at will.
func arriving(line string) *arrival {
	method, fields := "GET", strings.Fields(line)
	if fields[0][0] != '/' {
		method, fields = fields[0], fields[1:]
	}
	r := httptest.NewRequest(method, fields[0], nil)
	for _, f := range fields[1:] {
		name, value, _ := strings.Cut(f, "=")
		r.Header.Set(name, value)
	}
	return arrivalOf(r)
}
