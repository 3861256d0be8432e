package shim

import (
	"reflect"
	"testing"

	sluice "github.com/sluice-dev/sluice/api/v1alpha1"
)

// Each target proves that a parser never panics, and that what it accepts is stable: a value that means something is a spec
// field that decodes, that the API's own rules accept, and that settles (so that it is applied once and not for ever). None
// proves that the meaning is right; the golden files do.

func FuzzSteps(f *testing.F) {
	fuzz(f, sluice.AnnotationSteps, "5,20,50,100", "0.5,100", "100%", "1, 2,100", "auto", ",", "100,100", "10..100/10", "mirror:10%@5m,5@1m,100", "5..1/0,100", "mirror:5")
}
func FuzzDuration(f *testing.F) {
	fuzz(f, sluice.AnnotationHold, "1m", "90s", "1h30m", "0s", "1.5h", "-1s", "1", "9999999999h")
}
func FuzzPercent(f *testing.F) {
	fuzz(f, sluice.AnnotationMaxErrorRate, "1%", "0.5", "100", "100.1", "NaN", "1e1")
}
func FuzzLatency(f *testing.F) {
	fuzz(f, sluice.AnnotationMaxLatency, "p99<500ms", "p99.9 < 1s", "p0<1s", "p100<1s", "p99<0s", "p99>1s")
}
func FuzzCount(f *testing.F) {
	fuzz(f, sluice.AnnotationMinRequests, "1", "0", "-1", "2147483648", "+5")
}
func FuzzHosts(f *testing.F) {
	fuzz(f, sluice.AnnotationHosts, "a.example.com", "*.a.example.com,*", "a,a", "A", "")
}
func FuzzGateways(f *testing.F) {
	fuzz(f, sluice.AnnotationGateway, "public", "infra/public,other", "a/b/c", "/")
}
func FuzzMatch(f *testing.F) {
	fuzz(f, sluice.AnnotationMatch, "header:x-group=b", "cookie:a.b=c & source:app=web, query:beta=1", "header:x", "cookie:a=b&cookie:a=c", ",&=")
}
func FuzzSession(f *testing.F) {
	fuzz(f, sluice.AnnotationSession, "true", "false", "24h", "0s", "1e9h")
}
func FuzzPreview(f *testing.F)  { fuzz(f, sluice.AnnotationPreview, "true", "a.b", "*.a", "a", "") }
func FuzzConclude(f *testing.F) { fuzz(f, sluice.AnnotationConclude, "promote", "decide", "") }
func FuzzService(f *testing.F)  { fuzz(f, sluice.AnnotationService, "micro-api", "a.b", "") }
func FuzzReporter(f *testing.F) {
	fuzz(f, sluice.AnnotationReporter, "auto", "source", "destination", "waypoint", "sidecar", "")
}
func FuzzPrometheus(f *testing.F) { fuzz(f, sluice.AnnotationPrometheus, "team-a", "Team", "") }
func FuzzIncrease(f *testing.F) {
	fuzz(f, sluice.AnnotationMaxIncrease, "0.5%", "0.1%", "0.101", "0", "NaN")
}
func FuzzCapacity(f *testing.F) {
	fuzz(f, sluice.AnnotationCapacity, "full", "proportional", "half", "")
}
func FuzzThreshold(f *testing.F) {
	fuzz(f, sluice.AnnotationThreshold, "80%", "0.5", "0", "0.000%", "100", "101")
}
func FuzzAutoscaler(f *testing.F) {
	fuzz(f, sluice.AnnotationAutoscaler, "refuse", "follow", "keda", "")
}
func FuzzBool(f *testing.F) { fuzz(f, sluice.AnnotationPaused, "true", "false", "yes", "True") }
func FuzzStrategy(f *testing.F) {
	fuzz(f, sluice.AnnotationStrategy, "canary", "blue-green", "ab-test", "")
}

func FuzzSpec(f *testing.F) {
	fuzz(f, sluice.AnnotationSpec, "{}", "hold: 1m", "a: b\n---\nhold: 1m", "hold: 1m\n...\nbake: 1m", "hold: 1m\nhold: 2m", "steps: [{weight: 5}, {weight: 100}]",
		`{"trafficPolicy": {"a": [null, 1.5, {"b.c": "x"}]}}`, "trafficPolicy: {a: &a [x, x], b: [*a, *a]}", "gates: [{name: a, query: {promql: x, min: 1}}]", "minRequests: 1e99",
		"routing: {http: {timeouts: 5s, route: []}}", "abTest: {match: []}", "maxLatency: {percentile: '99'}", "session: {maxAge: .inf}", "? [a]\n: b", "\xff: 1", "- a", "replicas: 1",
		"gateways: [infra/public]", "hosts: [a, a]", "preview: {host: p.example.com}", "gatewayTLS: {mode: SIMPLE}\nhttpsRedirect: true", "!!binary aGk=: 1", "configTracking: yes")
}

func fuzz(f *testing.F, key string, seeds ...string) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		in := map[string]string{sluice.AnnotationStrategy: "canary"}
		in[key] = value
		fields, errs := Translate(in)
		if len(errs) > 0 {
			if len(errs[0].Error()) > 1000 {
				t.Fatalf("an error too long for an event: %v", errs[0])
			}
			return
		}
		spec, err := fields.spec()
		if err != nil {
			t.Fatalf("%q is accepted and does not decode: %v", value, err)
		}
		again, err := Fields(asMap(spec)).spec()
		if err != nil || !reflect.DeepEqual(spec, again) {
			t.Fatalf("%q reads back as something else: %+v, %+v, %v", value, spec, again, err)
		}
	})
}

// FuzzUnknown proves that no key panics the search for its neighbour, and that no foreign key is reported.
func FuzzUnknown(f *testing.F) {
	for _, s := range []string{"sluice.dev/step", "sluice.dev/", "sluice.dev/held", "example.com/steps", "sluice.dev/\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, key string) {
		errs := unknownKeys(map[string]string{key: "x"})
		if len(errs) > 0 && (len(key) < len(sluice.Prefix) || key[:len(sluice.Prefix)] != sluice.Prefix) {
			t.Fatalf("%q is not ours and is reported: %v", key, errs)
		}
	})
}

// FuzzLastApplied proves that nothing in kubectl's annotation can break the search for a wish.
func FuzzLastApplied(f *testing.F) {
	for _, s := range []string{`{"spec":{"replicas":3}}`, `{"spec":{}}`, `{"spec":{"replicas":"3"}}`, `[]`, `{`, `{"spec":{"replicas":1e99}}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		d := deployment(func(d *deploymentOf) { d.Annotations[lastAppliedKey] = raw })
		if n, ok := Wish(d); !ok && n != 0 {
			t.Fatalf("no wish, and yet %d", n)
		}
	})
}
