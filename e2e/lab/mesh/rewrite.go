package mesh

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// rewritePath returns the path that the upstream is asked for, still escaped and without the query.
func rewritePath(r *route, path string) string {
	action := r.config.GetRoute()
	if to := action.GetPrefixRewrite(); to != "" {
		return replacePrefix(r.config.GetMatch(), path, to)
	}
	if rw := action.GetRegexRewrite(); rw != nil {
		re, err := regexp.Compile(rw.GetPattern().GetRegex())
		if err != nil {
			return path
		}
		return re.ReplaceAllString(path, goTemplate(rw.GetSubstitution()))
	}
	return path
}

// replacePrefix puts to in the place of what the route matched.
func replacePrefix(m *routev3.RouteMatch, path, to string) string {
	var matched string
	switch p := m.GetPathSpecifier().(type) {
	case *routev3.RouteMatch_Prefix:
		matched = p.Prefix
	case *routev3.RouteMatch_PathSeparatedPrefix:
		matched = p.PathSeparatedPrefix
	default:
		return to // a whole path or an expression is replaced whole
	}
	if len(path) < len(matched) {
		return to
	}
	return to + path[len(matched):]
}

// goTemplate turns RE2's \1 into Go's ${1}.
func goTemplate(substitution string) string {
	s := strings.ReplaceAll(substitution, "$", "$$")
	return backreference.ReplaceAllString(s, "$${$1}")
}

var backreference = regexp.MustCompile(`\\(\d)`)

// rewriteHost returns the Host for the upstream.
func rewriteHost(a *routev3.RouteAction, c choice, original string, h http.Header) string {
	if host := c.entry.GetHostRewriteLiteral(); host != "" {
		return host
	}
	if host := a.GetHostRewriteLiteral(); host != "" {
		return host
	}
	if name := a.GetHostRewriteHeader(); name != "" {
		return or(h.Get(name), original)
	}
	return original
}

// location is where a redirect points.
func location(rd *routev3.RedirectAction, m *routev3.RouteMatch, r *http.Request) string {
	scheme, host, path := "http", r.Host, r.URL.EscapedPath()
	if rd.GetHttpsRedirect() {
		scheme = "https"
	}
	scheme = or(rd.GetSchemeRedirect(), scheme)
	name, port := host, ""
	if u, err := url.Parse("//" + host); err == nil {
		name, port = u.Hostname(), u.Port()
	}
	if rd.GetPortRedirect() != 0 {
		port = portString(rd.GetPortRedirect())
	} else if scheme == "https" {
		port = ""
	}
	host = or(rd.GetHostRedirect(), name)
	if port != "" {
		host += ":" + port
	}
	switch {
	case rd.GetPathRedirect() != "":
		path = rd.GetPathRedirect()
	case rd.GetPrefixRewrite() != "":
		path = replacePrefix(m, path, rd.GetPrefixRewrite())
	}
	if r.URL.RawQuery != "" && !rd.GetStripQuery() && !strings.Contains(path, "?") {
		path += "?" + r.URL.RawQuery
	}
	return scheme + "://" + host + path
}

// redirectCode is the status of a redirect.
func redirectCode(rd *routev3.RedirectAction) int {
	switch rd.GetResponseCode() {
	case routev3.RedirectAction_FOUND:
		return http.StatusFound
	case routev3.RedirectAction_SEE_OTHER:
		return http.StatusSeeOther
	case routev3.RedirectAction_TEMPORARY_REDIRECT:
		return http.StatusTemporaryRedirect
	case routev3.RedirectAction_PERMANENT_REDIRECT:
		return http.StatusPermanentRedirect
	default:
		return http.StatusMovedPermanently
	}
}
