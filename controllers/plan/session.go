package plan

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// sessions are the rules for requests with a cookie: those of the candidate's users go to the candidate; those who were given the stable
// version at an earlier weight are drawn anew, in the proportion that makes the candidate's share of them the present weight; those who
// were given it at the present one stay. Where nobody is kept, a cookie that is left over is taken away.
//
// The draw is made once for each user and weight: both ends of it give a cookie of the present weight.
func (r ruler) sessions() []*networking.HTTPRoute {
	switch {
	case r.Shift.Spec.Session != nil && r.d.Sessions == nil:
		return []*networking.HTTPRoute{r.forget()}
	case !r.keeps():
		return nil
	}
	kept, now := r.d.Sessions, r.weightNow()
	rules := []*networking.HTTPRoute{r.only(r.port.Name+ruleKept+kept.Candidate, r.bearers(kept.Candidate, `[0-9]+`), kept.Candidate)}
	if now == v1alpha1.Whole {
		return rules // all others become the candidate's: the weights say so
	}
	for _, given := range kept.Given {
		if given >= now {
			continue
		}
		left := v1alpha1.Whole - given
		drawn := v1alpha1.Permille((int64(v1alpha1.Whole)*int64(now-given) + int64(left)/2) / int64(left))
		routes := []shift.Route{{Version: kept.Stable, Weight: v1alpha1.Whole - drawn}, {Version: kept.Candidate, Weight: drawn}}
		slices.SortFunc(routes, func(a, b shift.Route) int { return int(shift.Number(a.Version) - shift.Number(b.Version)) })
		rules = append(rules, r.weighted(fmt.Sprintf("%s%s%d", r.port.Name, ruleDrawn, given), r.bearers(kept.Stable, fmt.Sprint(int32(given))), routes))
	}
	return append(rules, r.only(r.port.Name+ruleKept+kept.Stable, r.bearers(kept.Stable, fmt.Sprint(int32(now))), kept.Stable))
}

// keeps reports whether cookies are given and honoured: not before any user can have come to the candidate.
func (r ruler) keeps() bool {
	return r.Shift.Spec.Session != nil && r.d.Sessions != nil && len(r.d.Sessions.Given) > 0 && (r.weightNow() > 0 || r.d.Match != nil)
}

// weightNow is the candidate's weight, the last that cookies were given at.
func (r ruler) weightNow() v1alpha1.Permille { return r.d.Sessions.Given[len(r.d.Sessions.Given)-1] }

// bearers asks for the cookie of a version, given at a weight; weight is a regular expression.
func (r ruler) bearers(version, weight string) []*networking.HTTPMatchRequest {
	return r.cookie(fmt.Sprintf(`%s\.%d\.%s`, regexp.QuoteMeta(version), r.d.Sessions.Epoch, weight))
}

// cookie asks for the cookie with a value, which is a regular expression.
func (r ruler) cookie(value string) []*networking.HTTPMatchRequest {
	return []*networking.HTTPMatchRequest{{Headers: map[string]*networking.StringMatch{"cookie": {MatchType: &networking.StringMatch_Regex{
		Regex: v1alpha1.CookieRegex(r.cookieName(), value),
	}}}}}
}

// cookieName is the cookie's: the owner's, or one that no other service's is called.
func (r ruler) cookieName() string {
	return cmp.Or(r.Shift.Spec.Session.Cookie, "sluice-"+r.Template.Name)
}

// give has every destination tell its users where they are. A version on its way out keeps nobody.
func (r ruler) give(route *networking.HTTPRoute) {
	for _, d := range route.Route {
		version := d.GetDestination().GetSubset()
		if version == r.d.Sessions.Stable || version == r.d.Sessions.Candidate {
			d.Headers = r.setCookie(fmt.Sprintf("%s.%d.%d", version, r.d.Sessions.Epoch, r.weightNow()), r.Shift.Spec.Session.MaxAge.Duration)
		}
	}
}

// forget takes a cookie away that counts no more. Its bearer is sent where everybody is.
func (r ruler) forget() *networking.HTTPRoute {
	route := r.weighted(r.port.Name+ruleForget, r.cookie(`[^; ].*`), r.d.Routes)
	for _, d := range route.Route {
		d.Headers = r.setCookie("", 0)
	}
	return route
}

// setCookie adds a Set-Cookie header to the answers of a destination. Without an age the browser forgets the cookie at once.
func (r ruler) setCookie(value string, age time.Duration) *networking.Headers {
	parts := []string{fmt.Sprintf("%s=%s", r.cookieName(), value), fmt.Sprintf("Max-Age=%d", int64(age.Seconds()))}
	attributes := r.Shift.Spec.Session.Attributes
	if !strings.Contains(";"+strings.ToLower(strings.ReplaceAll(attributes, " ", "")), ";path=") {
		parts = append(parts, "Path=/")
	}
	if attributes != "" {
		parts = append(parts, attributes)
	}
	return &networking.Headers{Response: &networking.Headers_HeaderOperations{Add: map[string]string{"Set-Cookie": strings.Join(parts, "; ")}}}
}
