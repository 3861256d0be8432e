package plan_test

import (
	"fmt"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"pgregory.net/rapid"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/plan"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// keeping is a plan of v1 and v2 whose users are kept.
func keeping(t *testing.T, session v1alpha1.Session, change func(*scenario)) *networkingv1.VirtualService {
	t.Helper()
	p := planned(t, func(s *scenario) {
		s.Spec.Hosts, s.Spec.Session = nil, &session
		s.Desired.Sessions = &shift.Sessions{Stable: "v1", Candidate: "v2"}
		change(s)
	})
	return written[*networkingv1.VirtualService](p)[0]
}

// answering is the route that answers a request with these cookies, and no other header.
func answering(t *testing.T, vs *networkingv1.VirtualService, cookies string) *networking.HTTPRoute {
	t.Helper()
	for _, route := range vs.Spec.GetHttp() {
		if len(route.GetMatch()) == 0 || slices.ContainsFunc(route.GetMatch(), func(m *networking.HTTPMatchRequest) bool {
			for name, want := range m.GetHeaders() {
				whole := regexp.MustCompile(`\A(?:` + want.GetRegex() + `)\z`) // as Envoy does
				if name != "cookie" || cookies == "" || !whole.MatchString(cookies) {
					return false
				}
			}
			return true
		}) {
			return route
		}
	}
	t.Fatalf("no route answers %q", cookies)
	return nil
}

// cookieOf is the cookie that a destination's answers set, as a browser reads it; empty where they set none.
func cookieOf(t *testing.T, d *networking.HTTPRouteDestination) string {
	t.Helper()
	line := d.GetHeaders().GetResponse().GetAdd()["Set-Cookie"]
	if line == "" {
		return ""
	}
	c, err := http.ParseSetCookie(line)
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return c.Name + "=" + c.Value
}

// The share of the users that a candidate has is its weight, however they come back, and no user ever goes back from it.
func TestTheShareOfUsersIsTheWeight(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		weights := rapid.SliceOfNDistinct(rapid.Int32Range(1, 1000), 1, 6, rapid.ID[int32]).Draw(rt, "weights")
		slices.Sort(weights)
		fresh := rapid.Float64Range(0, 1).Draw(rt, "share of the users who are new at each weight")
		users := map[string]float64{"": 1} // by their cookie
		var given []v1alpha1.Permille
		for _, w := range weights {
			given = append(given, v1alpha1.Permille(w))
			vs := keeping(t, v1alpha1.Session{}, func(s *scenario) {
				s.Desired.Routes = []shift.Route{{Version: "v1", Weight: 1000 - given[len(given)-1]}, {Version: "v2", Weight: given[len(given)-1]}}
				s.Desired.Sessions.Given = given
			})
			for round := range 3 {
				candidate, next := 0.0, map[string]float64{}
				for cookie, mass := range users {
					route := answering(t, vs, cookie)
					sum := int32(0)
					for _, d := range route.GetRoute() {
						sum += d.GetWeight()
					}
					for _, d := range route.GetRoute() {
						part := mass * float64(d.GetWeight()) / float64(sum)
						after, version := cookie, d.GetDestination().GetSubset()
						if set := cookieOf(t, d); set != "" {
							after = set
						}
						if version == "v2" {
							candidate += part
						} else if part > 0 && strings.Contains(cookie, "=v2.") {
							rt.Fatalf("a user of v2 (%s) goes back to v1 at %d", cookie, w)
						}
						if round > 0 && part > 0 && after != cookie {
							rt.Fatalf("the cookie %s becomes %s without a new weight", cookie, after)
						}
						next[after] += part
					}
				}
				if math.Abs(candidate-float64(w)/1000) > 0.001*float64(len(given)) {
					rt.Errorf("at %d, in round %d, v2 has %.4f of the users", w, round, candidate)
				}
				users = next
			}
			for cookie := range users {
				users[cookie] *= 1 - fresh
			}
			users[""] += fresh
		}
	})
}

// A cookie counts only where it is exactly the one that was given, wherever it stands among others.
func TestOnlyOurCookiesCount(t *testing.T) {
	vs := keeping(t, v1alpha1.Session{Cookie: "a.b+c"}, func(s *scenario) {
		s.Desired.Routes = []shift.Route{{Version: "v1", Weight: 800}, {Version: "v2", Weight: 200}}
		s.Desired.Sessions.Epoch, s.Desired.Sessions.Given = 7, []v1alpha1.Permille{50, 200}
	})
	for cookies, want := range map[string]string{
		"":                                    "http",
		"a.b+c=v2.7.50":                       "http.kept-v2",
		"a.b+c=v2.7.200":                      "http.kept-v2",
		"x=y; a.b+c=v2.7.50; z=1":             "http.kept-v2",
		"x=y;a.b+c=v2.7.50;z=1":               "http.kept-v2",
		"a.b+c=v1.7.50":                       "http.drawn-50",
		"a.b+c=v1.7.200":                      "http.kept-v1",
		"a.b+c=v1.7.20":                       "http",
		"a.b+c=v1.6.200":                      "http",
		"a.b+c=v2.6.50":                       "http",
		"a.b+c=v2.70.50":                      "http",
		"a.b+c=v2.7.50x":                      "http",
		"a.b+c=v2x7.50":                       "http",
		"axb+c=v2.7.50":                       "http",
		"xa.b+c=v2.7.50":                      "http",
		"x=\"a.b+c=v2.7.50\"":                 "http",
		"a.b+c=v3.7.50":                       "http",
		"sluice-micro-api=v2.7.50":            "http",
		"a.b+c=; path=v2.7.50; other=v2.7.50": "http",
	} {
		if got := answering(t, vs, cookies).GetName(); got != want {
			t.Errorf("%q is answered by %s, want %s", cookies, got, want)
		}
	}
}

// A cookie is taken away as it was given: a browser tells two apart by path and domain.
func TestCookiesAreTakenAwayAsTheyWereGiven(t *testing.T) {
	for attributes, want := range map[string]string{
		"":                             "Path=/",
		"Secure; HttpOnly":             "Path=/; Secure; HttpOnly",
		"Domain=example.com; path=/a":  "Domain=example.com; path=/a",
		"SameSite=Lax;Path=/b; Secure": "SameSite=Lax;Path=/b; Secure",
	} {
		session := v1alpha1.Session{Attributes: attributes}
		given := keeping(t, session, func(s *scenario) { s.Desired.Sessions.Given = []v1alpha1.Permille{200} })
		over := keeping(t, session, func(s *scenario) { s.Desired.Sessions = nil })
		header := func(vs *networkingv1.VirtualService, cookies string) string {
			return answering(t, vs, cookies).GetRoute()[1].GetHeaders().GetResponse().GetAdd()["Set-Cookie"]
		}
		got := []string{header(given, ""), header(over, "sluice-micro-api=v2.0.200"), header(over, ""), header(over, "sluice-micro-api=")}
		wants := []string{"sluice-micro-api=v2.0.200; Max-Age=86400; " + want, "sluice-micro-api=; Max-Age=0; " + want, "", ""}
		if diff := cmp.Diff(wants, got); diff != "" {
			t.Errorf("%q: given, taken away, and neither (-want +got):\n%s", attributes, diff)
		}
	}
}

// Nobody is kept before any user can have come to the candidate.
func TestNobodyIsKeptByAMirror(t *testing.T) {
	vs := keeping(t, v1alpha1.Session{}, func(s *scenario) {
		s.Desired.Sessions.Given = []v1alpha1.Permille{0}
		s.Desired.Mirror = &shift.Mirror{Route: shift.Route{Version: "v2", Weight: 1000}}
	})
	if got := len(vs.Spec.GetHttp()); got != 1 {
		t.Errorf("%d routes, want the one that carries the weights", got)
	}
}

func rules(t *testing.T, texts ...string) []apiextensionsv1.JSON {
	t.Helper()
	all := make([]apiextensionsv1.JSON, 0, len(texts))
	for _, text := range texts {
		all = append(all, apiextensionsv1.JSON{Raw: []byte(text)})
	}
	return all
}

// What Istio would refuse, or would not do as it is written, is a mistake that names its place.
func TestMatchesAreReadStrictly(t *testing.T) {
	for text, want := range map[string]string{
		`{"headers":{"x-group":{"exact":"b"}}}`:                                      "",
		`{"headers":{"x-group":{}}}`:                                                 "", // asks whether it is there
		`{"headers":{":authority":{"prefix":"a."}}}`:                                 "",
		`{"headers":{"@request.auth.claims[group]":{"exact":"b"}}}`:                  "",
		`{"withoutHeaders":{"x-group":{"regex":"*"}}}`:                               "",
		`{"queryParams":{"beta":{"exact":"1"}},"uri":{"prefix":"/api"}}`:             "",
		`{"sourceLabels":{"app":"web"},"sourceNamespace":"shop"}`:                    "",
		`{"method":{"exact":"GET"}}`:                                                 "",
		`{}`:                                                                         "asks nothing",
		`{"ignoreUriCase":true}`:                                                     "asks nothing",
		`[]`:                                                                         "is not an Istio HTTPMatchRequest",
		`"x-group"`:                                                                  "is not an Istio HTTPMatchRequest",
		`{"header":{"x-group":{"exact":"b"}}}`:                                       `unknown field "header"`,
		`{"headers":{"x-group":"b"}}`:                                                "is not an Istio HTTPMatchRequest",
		`{"headers":{"x-group":{"equals":"b"}}}`:                                     `unknown field "equals"`,
		`{"headers":{"x group":{"exact":"b"}}}`:                                      "headers[x group]",
		`{"headers":{"x-group":{"prefix":""}}}`:                                      "headers[x-group]",
		`{"headers":{"x-group":{"regex":"("}}}`:                                      "headers[x-group]",
		`{"withoutHeaders":{"x-group":{"regex":""}}}`:                                "withoutHeaders[x-group]",
		`{"queryParams":{"beta":{"regex":"` + strings.Repeat("x", 1025) + `"}}}`:     "queryParams[beta]",
		`{"uri":{"regex":"*"}}`:                                                      "uri: ",
		`{"sourceLabels":{"app":"two words"}}`:                                       "sourceLabels[app]",
		`{"sourceNamespace":"Shop"}`:                                                 "sourceNamespace",
		`{"port":80,"headers":{"x-group":{"exact":"b"}}}`:                            "port: Forbidden",
		`{"gateways":["mesh"],"headers":{"x-group":{"exact":"b"}}}`:                  "gateways: Forbidden",
		`{"name":"b","statPrefix":"b","headers":{"x-group":{"exact":"b"}}}`:          "statPrefix: Forbidden",
		`{"headers":{"x-group":{"exact":"b"}},"headers":{"x-group":{"exact":"c"}}} `: "is not an Istio HTTPMatchRequest",
	} {
		spec := &v1alpha1.TrafficShiftSpec{Steps: []v1alpha1.Step{{}, {Match: rules(t, `{"uri":{"exact":"/"}}`, text)}}}
		errs := plan.CheckMatches(spec, nil)
		switch message := fmt.Sprint(errs.ToAggregate()); {
		case (want == "") != (len(errs) == 0):
			t.Errorf("%s: %v", text, errs)
		case want != "" && !(strings.Contains(message, want) && strings.HasPrefix(errs[0].Field, "steps[1].match[1]")):
			t.Errorf("%s: %s; want %q at steps[1].match[1]", text, message, want)
		}
		if got := len(plan.ReadMatches(rules(t, text))); (got == 1) != (want == "") {
			t.Errorf("%s: %d rules read", text, got)
		}
	}
}

// Rules that nobody can read match nobody: least of all everybody.
func TestUnreadableRulesMatchNobody(t *testing.T) {
	vs := keeping(t, v1alpha1.Session{}, func(s *scenario) {
		s.Desired.Match = &shift.Match{Version: "v2", Rules: rules(t, `{}`, `{"header":{}}`)}
		s.Desired.Sessions = nil
	})
	names := []string{}
	for _, route := range vs.Spec.GetHttp() {
		names = append(names, route.GetName())
	}
	if diff := cmp.Diff([]string{"http.forget", "http"}, names); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
}
