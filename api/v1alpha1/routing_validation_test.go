package v1alpha1

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

// A spec that never met an API server is refused for the same mistakes.
func TestRoutingIsValidated(t *testing.T) {
	for name, tc := range map[string]struct{ spec, want string }{
		"Attached":            {"routing: {virtualService: {name: shop, routes: [main]}}", ""},
		"Fields":              {"routing: {delegate: true, http: {timeout: 5s, corsPolicy: {}}}", ""},
		"NoName":              {"routing: {virtualService: {name: Shop/main}}", `spec.routing.virtualService.name: Invalid value: "Shop/main"`},
		"RouteTwice":          {"routing: {virtualService: {name: shop, routes: [a, a]}}", `spec.routing.virtualService.routes[1]`},
		"AttachedAndDelegate": {"routing: {delegate: true, virtualService: {name: shop}}", `spec.routing.delegate: Forbidden`},
		"AttachedWithFields":  {"routing: {http: {timeout: 5s}, virtualService: {name: shop}}", `spec.routing.http: Forbidden`},
		"Several":             {"routing: {virtualServices: [{name: front, routes: [main]}, {name: internal}]}", ""},
		"SeveralAndOne":       {"routing: {virtualService: {name: shop}, virtualServices: [{name: front}]}", `spec.routing.virtualServices: Forbidden: virtualServices are several`},
		"SeveralTwice":        {"routing: {virtualServices: [{name: front}, {name: front}]}", `spec.routing.virtualServices[1]: Duplicate value: "front"`},
		"SeveralNoName":       {"routing: {virtualServices: [{name: front}, {name: A}]}", `spec.routing.virtualServices[1].name: Invalid value: "A"`},
		"SeveralTooMany":      {"routing: {virtualServices: [{name: a}, {name: b}, {name: c}, {name: d}, {name: e}, {name: f}, {name: g}, {name: h}, {name: i}]}", `spec.routing.virtualServices: Too many`},
		"SeveralAndDelegate":  {"routing: {delegate: true, virtualServices: [{name: front}]}", `spec.routing.delegate: Forbidden`},
		"SeveralWithFields":   {"routing: {http: {timeout: 5s}, virtualServices: [{name: front}]}", `spec.routing.http: Forbidden`},
		"SeveralWithHosts":    {"hosts: [a.example.com]\nrouting: {virtualServices: [{name: front}]}", `spec.hosts: Forbidden`},
		"SeveralWithSession":  {"session: {}\nrouting: {virtualServices: [{name: front}]}", `spec.routing.virtualServices: Forbidden: match, mirror, session`},
		"SeveralForGateway":   {"routing: {api: gateway, virtualServices: [{name: front}]}", `spec.routing.virtualServices: Forbidden: routes of the Gateway API`},
		"Elsewhere":           {"routing: {virtualServices: [{name: front}, {name: front, namespace: edge}]}", ""},
		"ElsewhereTwice":      {"routing: {virtualServices: [{name: front, namespace: edge}, {name: front, namespace: edge}]}", `spec.routing.virtualServices[1]: Duplicate value: "front"`},
		"NoNamespace":         {"routing: {virtualService: {name: front, namespace: a.b}}", `spec.routing.virtualService.namespace: Invalid value: "a.b"`},
		"Connections":         {"routing: {virtualService: {name: shop, tcp: [{port: 5432}], tls: [{port: 443}, {sniHosts: [a.example.com]}]}}", ""},
		"NoPort":              {"routing: {virtualService: {name: shop, tcp: [{}]}}", `spec.routing.virtualService.tcp[0].port: Invalid value: 0`},
		"PortTwice":           {"routing: {virtualService: {name: shop, tcp: [{port: 1}, {port: 1}]}}", `spec.routing.virtualService.tcp[1].port`},
		"TLSOfNothing":        {"routing: {virtualService: {name: shop, tls: [{}]}}", `spec.routing.virtualService.tls[0]: Required value: a TLS route is told by what it matches`},
		"TLSPort":             {"routing: {virtualServices: [{name: shop, tls: [{port: 70000}]}]}", `spec.routing.virtualServices[0].tls[0].port: Invalid value: 70000`},
		"SNITwice":            {"routing: {virtualService: {name: shop, tls: [{sniHosts: [a, a]}]}}", `spec.routing.virtualService.tls[0].sniHosts[1]`},
		"AttachedWithHosts":   {"hosts: [a.example.com]\nrouting: {virtualService: {name: shop}}", `spec.hosts: Forbidden`},
		"AttachedWithSession": {"session: {}\nrouting: {virtualService: {name: shop}}", `spec.routing.virtualService: Forbidden: match, mirror, session`},
		"AttachedWithMirror":  {"steps: [{mirror: '10'}, {weight: 100}]\nrouting: {virtualService: {name: shop}}", `spec.routing.virtualService: Forbidden`},
		"FieldOfOurs":         {"routing: {http: {route: []}}", `spec.routing.http.route: Forbidden: is what Sluice itself writes`},
		"FieldOfOursInSnake":  {"routing: {http: {mirror_percent: 1}}", `spec.routing.http.mirror_percent: Forbidden`},
		"FieldOfNobody":       {"routing: {http: {timeouts: 5s}}", `spec.routing.http.timeouts: Unsupported value`},
		"FieldsAreNoMap":      {"routing: {http: fast}", `spec.routing.http: Invalid value`},
		"TLSWithoutHosts":     {"gatewayTLS: {mode: SIMPLE}", `spec.hosts: Required value: gatewayTLS is for`},
		"TLSOfAnothers":       {"hosts: [a]\ngateways: [b]\ngatewayTLS: {mode: SIMPLE}", `spec.gateways: Forbidden: gatewayTLS is for`},
		"RedirectToNothing":   {"httpsRedirect: true", `spec.httpsRedirect: Forbidden`},
	} {
		t.Run(name, func(t *testing.T) {
			errs := specOf(t, tc.spec)
			if tc.want == "" && errs != "" || !strings.Contains(errs, tc.want) {
				t.Errorf("errors %q; want one that says %q", errs, tc.want)
			}
		})
	}
}

// specOf is what is wrong with a spec.
func specOf(t *testing.T, text string) string {
	t.Helper()
	var ts TrafficShift
	if err := yaml.Unmarshal([]byte("spec:\n  "+strings.ReplaceAll(text, "\n", "\n  ")), &ts); err != nil {
		t.Fatal(err)
	}
	ts.Spec.Default()
	if errs := ts.Spec.Validate(field.NewPath("spec")); len(errs) > 0 {
		return errs.ToAggregate().Error()
	}
	return ""
}
