package plan_test

import (
	"strings"
	"testing"

	networking "istio.io/api/networking/v1alpha3"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"github.com/sluice-dev/sluice/controllers/plan"
)

func httpFields(t *testing.T, text string) (*networking.HTTPRoute, field.ErrorList) {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return plan.HTTPFields(&apiextensionsv1.JSON{Raw: raw}, field.NewPath("spec", "routing", "http"))
}

// What a gateway of ours cannot end TLS with is refused by its path.
func TestServerTLSIsIstiosOwn(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"Simple":         {`{mode: SIMPLE, credentialName: shop-tls, minProtocolVersion: TLSV1_3, cipherSuites: [ECDHE-ECDSA-AES256-GCM-SHA384]}`, ""},
		"Mutual":         {`{mode: MUTUAL, credentialName: shop-tls, subjectAltNames: [a]}`, ""},
		"SeveralSecrets": {`{mode: SIMPLE, credentialNames: [a, b]}`, ""},
		"NoMode":         {`{credentialName: a}`, `spec.gatewayTLS.mode: Unsupported value: "PASSTHROUGH"`},
		"NotAMode":       {`{mode: EASY, credentialName: a}`, `is not what Istio's ServerTLSSettings takes`},
		"NoSecret":       {`{mode: SIMPLE}`, `spec.gatewayTLS.credentialName: Required value`},
		"TwoSecrets":     {`{mode: SIMPLE, credentialName: a, credentialNames: [b]}`, `spec.gatewayTLS.credentialName: Required value`},
		"Redirect":       {`{mode: SIMPLE, credentialName: a, httpsRedirect: true}`, `spec.gatewayTLS.httpsRedirect: Forbidden: is spec.httpsRedirect`},
		"File":           {`{mode: SIMPLE, privateKey: /etc/key, serverCertificate: /etc/crt}`, `spec.gatewayTLS.privateKey: Forbidden: names a file`},
		"Typo":           {`{mode: SIMPLE, credentialname: a}`, `spec.gatewayTLS.credentialname: Unsupported value`},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			raw, err := yaml.YAMLToJSON([]byte(tc.text))
			if err != nil {
				t.Fatal(err)
			}
			_, errs := plan.ServerTLS(&apiextensionsv1.JSON{Raw: raw}, field.NewPath("spec", "gatewayTLS"))
			if tc.want == "" && len(errs) > 0 || tc.want != "" && (len(errs) == 0 || !strings.Contains(errs.ToAggregate().Error(), tc.want)) {
				t.Errorf("errors %v; want one that says %q", errs, tc.want)
			}
		})
	}
}

// What Istio would drop without a word, or refuse when the route is written, is refused by its path, with what is accepted.
func TestHTTPFieldsAreIstiosOwn(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"Everything": {`
timeout: 1m30s
retries: {attempts: 3, perTryTimeout: 500ms, retryOn: "5xx,reset,503", backoff: 25ms}
headers: {request: {set: {x-a: "1", ":authority": shop}, remove: [x-b]}, response: {add: {x-c: "2"}}}
corsPolicy: {allowOrigins: [{exact: "https://a"}, {regex: "https://.*"}], allowMethods: [GET], allowHeaders: [x-d], maxAge: 24h}
rewrite: {uri: /v1}
fault: {delay: {percentage: {value: 0.1}, fixedDelay: 5s}, abort: {percentage: {value: 1}, httpStatus: 503}}
`, ""},
		"NoRetries":        {`retries: {attempts: 0}`, ""},
		"Typo":             {`retries: {attempt: 3}`, `spec.routing.http.retries.attempt: Unsupported value: "attempt": supported values: "attempts"`},
		"TypoInAList":      {`corsPolicy: {allowOrigins: [{exakt: a}]}`, `spec.routing.http.corsPolicy.allowOrigins[0].exakt`},
		"NoDuration":       {`timeout: soon`, `is not what Istio's HTTPRoute takes`},
		"NoNumber":         {`retries: {attempts: many}`, `is not what Istio's HTTPRoute takes`},
		"NoTimeAtAll":      {`timeout: 0s`, `spec.routing.http.timeout: Invalid value: "0s": must be at least 1ms`},
		"TooFine":          {`timeout: 1500us`, `spec.routing.http.timeout: Invalid value: "1.5ms": must be whole milliseconds`},
		"RetriesNegative":  {`retries: {attempts: -1}`, `spec.routing.http.retries.attempts: Invalid value: -1`},
		"RetriesOfNothing": {`retries: {retryOn: 5xx}`, `spec.routing.http.retries.attempts: Invalid value: 0: turns retries off`},
		"RetryOn":          {`retries: {attempts: 1, retryOn: "5xx,always"}`, `spec.routing.http.retries.retryOn: Unsupported value: "always"`},
		"Header":           {`headers: {response: {set: {"x y": "1"}}}`, `spec.routing.http.headers.response.set[x y]: Invalid value`},
		"PseudoHeader":     {`headers: {response: {set: {":status": "200"}}}`, `spec.routing.http.headers.response.set[:status]`},
		"HostTwice":        {"headers: {request: {set: {host: a}}}\nrewrite: {authority: b}", `spec.routing.http.rewrite.authority: Forbidden: headers.request says host already`},
		"Origin":           {`corsPolicy: {allowOrigins: [{regex: "("}]}`, `spec.routing.http.corsPolicy.allowOrigins[0]`},
		"Method":           {`corsPolicy: {allowMethods: [FETCH]}`, `spec.routing.http.corsPolicy.allowMethods[0]: Unsupported value: "FETCH"`},
		"MaxAge":           {`corsPolicy: {maxAge: 1500ms}`, `spec.routing.http.corsPolicy.maxAge: Invalid value: "1.5s": must be whole seconds`},
		"FaultOfNothing":   {`fault: {}`, `spec.routing.http.fault: Required value: an abort or a delay`},
		"FaultPercentage":  {`fault: {abort: {percentage: {value: 101}, httpStatus: 500}}`, `spec.routing.http.fault.abort.percentage: Invalid value: 101`},
		"FaultStatus":      {`fault: {abort: {httpStatus: 99}}`, `spec.routing.http.fault.abort.httpStatus: Invalid value: 99`},
		"FaultGRPC":        {`fault: {abort: {grpcStatus: BROKEN}}`, `spec.routing.http.fault.abort.grpcStatus: Unsupported value: "BROKEN"`},
		"FaultNoError":     {`fault: {abort: {percentage: {value: 1}}}`, `spec.routing.http.fault.abort.httpStatus: Required value`},
		"DelayOfNothing":   {`fault: {delay: {percentage: {value: 1}}}`, `spec.routing.http.fault.delay.fixedDelay: Required value`},
		"RewriteOfNothing": {`rewrite: {}`, `spec.routing.http.rewrite: Required value`},
		"RewriteTwice":     {`rewrite: {uri: /a, uriRegexRewrite: {match: a, rewrite: b}}`, `spec.routing.http.rewrite.uriRegexRewrite: Forbidden`},
		"RewriteRegex":     {`rewrite: {uriRegexRewrite: {match: "(", rewrite: b}}`, `spec.routing.http.rewrite.uriRegexRewrite: Invalid value`},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			route, errs := httpFields(t, tc.text)
			switch {
			case tc.want == "" && (len(errs) > 0 || route == nil):
				t.Errorf("refused: %v", errs)
			case tc.want != "" && (len(errs) == 0 || !strings.Contains(errs.ToAggregate().Error(), tc.want)):
				t.Errorf("errors %v; want one that says %q", errs, tc.want)
			}
		})
	}
}
