package mesh

import (
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// arrival is what a route may look at.
type arrival struct {
	method, host string
	// path is without the query.
	path   string
	query  url.Values
	header http.Header
}

func arrivalOf(r *http.Request) *arrival {
	return &arrival{
		method: r.Method, host: r.Host, path: or(r.URL.EscapedPath(), "/"), query: r.URL.Query(), header: r.Header,
	}
}

// field returns a header's value, pseudo headers included; several values are joined as Envoy joins them.
func (a *arrival) field(name string) (string, bool) {
	switch name {
	case ":method":
		return a.method, true
	case ":authority", "host":
		return a.host, true
	case ":path":
		if len(a.query) > 0 {
			return a.path + "?" + a.query.Encode(), true
		}
		return a.path, true
	case ":scheme":
		return "http", true
	}
	values := a.header.Values(name)
	return strings.Join(values, ","), len(values) > 0
}

// predicate is one condition of a route.
type predicate func(*arrival) bool

// compileMatch turns a route's match into conditions that must all hold. What it does not know never matches, so that a
// route is never wider here than in Envoy.
func compileMatch(m *routev3.RouteMatch) []predicate {
	all := []predicate{compilePath(m)}
	for _, h := range m.GetHeaders() {
		all = append(all, compileHeader(h))
	}
	for _, q := range m.GetQueryParameters() {
		all = append(all, compileQuery(q))
	}
	if m.GetGrpc() != nil {
		all = append(all, func(a *arrival) bool { return isGRPC(a.header) })
	}
	if m.GetRuntimeFraction() != nil || len(m.GetDynamicMetadata()) > 0 || len(m.GetFilterState()) > 0 || m.GetTlsContext() != nil {
		all = append(all, never)
	}
	return all
}

func never(*arrival) bool { return false }

func compilePath(m *routev3.RouteMatch) predicate {
	fold := func(s string) string { return s }
	if cs := m.GetCaseSensitive(); cs != nil && !cs.GetValue() {
		fold = strings.ToLower
	}
	switch p := m.GetPathSpecifier().(type) {
	case *routev3.RouteMatch_Prefix:
		want := fold(p.Prefix)
		return func(a *arrival) bool { return strings.HasPrefix(fold(a.path), want) }
	case *routev3.RouteMatch_Path:
		want := fold(p.Path)
		return func(a *arrival) bool { return fold(a.path) == want }
	case *routev3.RouteMatch_PathSeparatedPrefix:
		want := fold(p.PathSeparatedPrefix)
		return func(a *arrival) bool {
			rest, ok := strings.CutPrefix(fold(a.path), want)
			return ok && (rest == "" || rest[0] == '/')
		}
	case *routev3.RouteMatch_SafeRegex:
		match := compileRegex(p.SafeRegex.GetRegex())
		return func(a *arrival) bool { return match(a.path) }
	default:
		return never
	}
}

func compileHeader(h *routev3.HeaderMatcher) predicate {
	match, onMissing := compileHeaderValue(h)
	name := strings.ToLower(h.GetName())
	return func(a *arrival) bool {
		value, ok := a.field(name)
		if !ok && h.GetTreatMissingHeaderAsEmpty() {
			ok = true
		}
		if !ok {
			// In Envoy a missing header satisfies only a match of presence, never an inverted match of its value.
			return onMissing
		}
		return match(value) != h.GetInvertMatch()
	}
}

// compileHeaderValue returns the match of a present header and the verdict on a missing one.
func compileHeaderValue(h *routev3.HeaderMatcher) (match func(string) bool, onMissing bool) {
	switch m := h.GetHeaderMatchSpecifier().(type) {
	case *routev3.HeaderMatcher_StringMatch:
		return compileString(m.StringMatch), false
	case *routev3.HeaderMatcher_PresentMatch:
		return func(string) bool { return m.PresentMatch }, m.PresentMatch == h.GetInvertMatch()
	case *routev3.HeaderMatcher_RangeMatch:
		return func(v string) bool {
			n, err := strconv.ParseInt(v, 10, 64)
			return err == nil && n >= m.RangeMatch.GetStart() && n < m.RangeMatch.GetEnd()
		}, false
	case nil:
		return func(string) bool { return true }, h.GetInvertMatch()
	default:
		return func(string) bool { return h.GetInvertMatch() }, false // never, inverted or not
	}
}

func compileQuery(q *routev3.QueryParameterMatcher) predicate {
	match := func(string) bool { return true }
	switch m := q.GetQueryParameterMatchSpecifier().(type) {
	case *routev3.QueryParameterMatcher_StringMatch:
		match = compileString(m.StringMatch)
	case *routev3.QueryParameterMatcher_PresentMatch:
		return func(a *arrival) bool { return a.query.Has(q.GetName()) == m.PresentMatch }
	}
	return func(a *arrival) bool { return a.query.Has(q.GetName()) && match(a.query.Get(q.GetName())) }
}

func compileString(m *matcherv3.StringMatcher) func(string) bool {
	fold := func(s string) string { return s }
	if m.GetIgnoreCase() {
		fold = strings.ToLower
	}
	switch p := m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		want := fold(p.Exact)
		return func(v string) bool { return fold(v) == want }
	case *matcherv3.StringMatcher_Prefix:
		want := fold(p.Prefix)
		return func(v string) bool { return strings.HasPrefix(fold(v), want) }
	case *matcherv3.StringMatcher_Suffix:
		want := fold(p.Suffix)
		return func(v string) bool { return strings.HasSuffix(fold(v), want) }
	case *matcherv3.StringMatcher_Contains:
		want := fold(p.Contains)
		return func(v string) bool { return strings.Contains(fold(v), want) }
	case *matcherv3.StringMatcher_SafeRegex:
		return compileRegex(p.SafeRegex.GetRegex())
	default:
		return func(string) bool { return false }
	}
}

// compileRegex matches whole strings, as Envoy does. Go's syntax is RE2's, so what istiod accepted compiles.
func compileRegex(pattern string) func(string) bool {
	re, err := regexp.Compile(`\A(?:` + pattern + `)\z`)
	if err != nil {
		return func(string) bool { return false }
	}
	return re.MatchString
}
