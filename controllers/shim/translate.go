// Package shim turns the annotations of a Deployment into a TrafficShift of the same name.
//
// Every key, and what it becomes:
//
//	# in                                               # out
//	apiVersion: apps/v1                                apiVersion: sluice.dev/v1alpha1
//	kind: Deployment                                   kind: TrafficShift
//	metadata:                                          metadata:
//	  name: micro-api                                    name: micro-api
//	  annotations:                                       # owned by the Deployment
//	                                                   spec:
//	    sluice.dev/strategy: canary                      strategy: canary
//	    sluice.dev/steps: "0.5,20,50,100"                steps: [{weight: "0.5"}, {weight: 20}, {weight: 50}, {weight: 100}]
//	    sluice.dev/steps: "mirror:10%@5m,20..100/40"     steps: [{mirror: 10%, hold: 5m0s}, {weight: 20}, {weight: 60}, {weight: 100}]
//	    sluice.dev/steps: auto                           pacing: auto   # and no steps
//	    sluice.dev/match: "header:x-group=b"             abTest: {match: [{headers: {x-group: {exact: b}}}], conclude: promote}
//	    sluice.dev/test-duration: 48h                    abTest: {duration: 48h0m0s, ...}
//	    sluice.dev/conclude: decide                      abTest: {conclude: decide, ...}
//	    sluice.dev/session: 1h                           session: {maxAge: 1h0m0s}   # "true" is 24h, "false" is none
//	    sluice.dev/preview: preview.example.com          preview: {host: preview.example.com}   # "true" is {}
//	    sluice.dev/hold: 90s                             hold: 1m30s
//	    sluice.dev/max-error-rate: "1%"                  maxErrorRate: 1%
//	    sluice.dev/max-increase: "0.5%"                  maxIncrease: 0.5%
//	    sluice.dev/max-latency: "p99<500ms"              maxLatency: {percentile: "99", below: 500ms}
//	    sluice.dev/max-failed-requests: "50"             maxFailedRequests: 50
//	    sluice.dev/min-requests: "100"                   minRequests: 100
//	    sluice.dev/reporter: waypoint                    reporter: waypoint
//	    sluice.dev/prometheus: team-a                    prometheus: team-a
//	    sluice.dev/hosts: a.example.com, b.example.com   hosts: [a.example.com, b.example.com]
//	    sluice.dev/gateway: infra/public                 gateways: [infra/public]
//	    sluice.dev/service: micro-api                    service: micro-api
//	    sluice.dev/routing: gateway                      routing: {api: gateway}
//	    sluice.dev/replicas: "3"                         replicas: 3   # at creation only, see wish.go
//	    sluice.dev/capacity: proportional                capacity: proportional
//	    sluice.dev/ready-threshold: "80%"                readyThreshold: 80%
//	    sluice.dev/autoscaler: follow                    autoscaler: follow
//	    sluice.dev/config-tracking: "true"               configTracking: true
//	    sluice.dev/drain: 45s                            drain: 45s
//	    sluice.dev/deadline: 10m                         deadline: 10m0s
//	    sluice.dev/bake: 5m                              bake: 5m0s
//	    sluice.dev/keep-rejected: 1h                     keepRejected: 1h0m0s
//	    sluice.dev/paused: "true"                        paused: true
//	    sluice.dev/tls-secret: shop-tls                  gatewayTLS: {mode: SIMPLE, credentialName: shop-tls}
//	    sluice.dev/timeout: 5s                           routing: {http: {timeout: 5s}}
//	    sluice.dev/retries: "3"                          routing: {http: {retries: {attempts: 3}}}
//	    sluice.dev/virtual-service: shop/main            routing: {virtualService: {name: shop, routes: [main]}}
//	    sluice.dev/virtual-service: front@edge/a; mesh   routing: {virtualServices: [{name: front, namespace: edge, routes: [a]}, {name: mesh}]}
//	    sluice.dev/duration: 30m                         duration: 30m0s   # and no hold
//	    sluice.dev/skip-analysis: "true"                 skipAnalysis: true
//	    sluice.dev/suspend: "true"                       suspend: true
//	    sluice.dev/policy: standard                      policy: standard
//	    sluice.dev/spec: "trafficPolicy: {...}"          trafficPolicy: {...}   # YAML or JSON of any fields, see spec.go
//
// A field that no annotation names is not applied: it is the API server's default or whatever its owner writes there.
package shim

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	sluice "github.com/sluice-dev/sluice/api/v1alpha1"
)

// entry is one annotation: its key, the field of the TrafficShift's spec that it names ("abTest.match" where it is part of one), how its value becomes that field's
// JSON (or another one's, see other), and the form that an error tells the user to write.
type entry struct {
	key      string
	field    string
	parse    func(string) (any, error)
	accepted string
}

// other is what a parser returns for a value that names another field than its key's usual one.
type other struct {
	field string
	value any
}

var table = []entry{
	{sluice.AnnotationStrategy, "strategy", parseOneOf("strategy", sluice.StrategyCanary, sluice.StrategyBlueGreen, sluice.StrategyABTest), `canary, blue-green or ab-test`},
	{sluice.AnnotationSteps, "steps", parseSteps, `auto, or rising percentages of at most one decimal that end in 100, each with its hold where it has one, and mirrors before them, such as "5,20,50,100", "10..100/10" or "mirror:10%@5m,20@1m,100"`},
	{sluice.AnnotationMatch, "abTest.match", parseMatch, `conditions header:NAME=VALUE, cookie:NAME=VALUE, query:NAME=VALUE or source:LABEL=VALUE, joined by & (all of them) and by commas (any of them), such as "header:x-group=b & source:app=web, cookie:group=b"`},
	{sluice.AnnotationTestDuration, "abTest.duration", parseDuration, `a duration, such as "48h"`},
	{sluice.AnnotationConclude, "abTest.conclude", parseOneOf("end", sluice.ConcludePromote, sluice.ConcludeDecide), `promote or decide`},
	{sluice.AnnotationSession, "session", parseSession, `"true", "false" or a duration of at least 1s, such as "24h"; an ab-test always keeps its users`},
	{sluice.AnnotationPreview, "preview", parsePreview, `"true", or a host such as preview.shop.example.com, or {{version}}.preview.shop.example.com`},
	{sluice.AnnotationHold, "hold", parseDuration, `a duration, such as "90s" or "5m"`},
	{sluice.AnnotationMaxErrorRate, "maxErrorRate", parsePercent, `a percentage, such as "1%" or "0.5%"`},
	{sluice.AnnotationMaxIncrease, "maxIncrease", parsePercent, `a percentage above 0.1%, such as "0.5%"`},
	{sluice.AnnotationMaxLatency, "maxLatency", parseLatency, `a percentile and a bound, such as "p99<500ms"`},
	{sluice.AnnotationMinRequests, "minRequests", parseCount(1, 1_000_000_000), `a whole number from 1 to 1000000000`},
	{sluice.AnnotationMaxFailed, "maxFailedRequests", parseCount(1, 1_000_000), `a whole number from 1 to 1000000`},
	{sluice.AnnotationReporter, "reporter", parseOneOf("reporter", sluice.ReporterAuto, sluice.ReporterSource, sluice.ReporterDestination, sluice.ReporterWaypoint), `auto, source, destination or waypoint`},
	{sluice.AnnotationPrometheus, "prometheus", parsePrometheus, `the name of a connection that the administrator has set up`},
	{sluice.AnnotationHosts, "hosts", parseHosts, `host names separated by commas, such as "shop.example.com,*.shop.example.com"`},
	{sluice.AnnotationGateway, "gateways", parseGateways, `Gateways as name or namespace/name, separated by commas`},
	{sluice.AnnotationService, "service", parseService, `the name of a Service in the Deployment's namespace`},
	{sluice.AnnotationRouting, "routing.api", parseOneOf("API for routes", sluice.RoutingIstio, sluice.RoutingGateway), `istio or gateway`},
	{sluice.AnnotationReplicas, "replicas", parseCount(0, 1_000_000), `a whole number from 0 to 1000000`},
	{sluice.AnnotationCapacity, "capacity", parseOneOf("capacity", sluice.CapacityFull, sluice.CapacityProportional), `full or proportional`},
	{sluice.AnnotationThreshold, "readyThreshold", parsePercent, `a percentage above 0%, such as "80%"`},
	{sluice.AnnotationAutoscaler, "autoscaler", parseOneOf("way", sluice.AutoscalerRefuse, sluice.AutoscalerFollow), `refuse or follow`},
	{sluice.AnnotationTracking, "configTracking", parseBool, `"true" or "false"`},
	{sluice.AnnotationDrain, "drain", parseDuration, `a duration, such as "45s"`},
	{sluice.AnnotationDeadline, "deadline", parseDuration, `a duration above 0s, such as "10m"`},
	{sluice.AnnotationBake, "bake", parseDuration, `a duration, such as "5m"`},
	{sluice.AnnotationKeepRejected, "keepRejected", parseDuration, `a duration, such as "1h"`},
	{sluice.AnnotationPaused, "paused", parseBool, `"true" or "false"`},
	{sluice.AnnotationTLSSecret, "gatewayTLS", parseTLSSecret, `the name of a Secret with a certificate, in the namespace of the gateway`},
	{sluice.AnnotationTimeout, "routing.http.timeout", parseTimeout, `a duration of whole milliseconds, such as "5s"`},
	{sluice.AnnotationRetries, "routing.http.retries.attempts", parseCount(0, 100), `a whole number from 0 to 100`},
	{sluice.AnnotationAttach, "routing.virtualService", parseAttach, `a VirtualService as NAME, NAME/ROUTE,ROUTE or NAME@NAMESPACE/ROUTE,ROUTE, or up to 8 of them separated by semicolons`},
	{sluice.AnnotationDuration, "duration", parseDuration, `a duration above 0s, such as "30m", without sluice.dev/hold`},
	{sluice.AnnotationSkipAnalysis, "skipAnalysis", parseBool, `"true" or "false"`},
	{sluice.AnnotationSuspend, "suspend", parseBool, `"true" or "false"`},
	{sluice.AnnotationPolicy, "policy", parsePolicy, `the name of a ShiftPolicy`},
}

// Fields are the fields of a TrafficShift's spec that annotations name, as JSON values.
type Fields map[string]any

// annotations is where errors point to.
var annotations = field.NewPath("metadata", "annotations")

// Translate returns the spec fields that the annotations of a Deployment name, and every mistake in them. Without the key
// sluice.dev/strategy the Deployment is not ours: it names no fields, and only stray keys are mistakes.
func Translate(in map[string]string) (Fields, field.ErrorList) {
	errs := unknownKeys(in)
	if _, ours := in[sluice.AnnotationStrategy]; !ours {
		return nil, append(errs, withoutStrategy(in)...)
	}
	fields, others := Fields{}, said{}
	for _, e := range table {
		raw, named := in[e.key]
		if !named {
			continue
		}
		name, value, err := e.read(raw)
		if err != nil {
			errs = append(errs, field.Invalid(annotations.Key(e.key), clip(raw), fmt.Sprintf("%v; accepted: %s", err, e.accepted)))
			continue
		}
		fields.set(name, value)
		others.note(e.key, name, value)
	}
	fields.fill()
	if raw, named := in[sluice.AnnotationSpec]; named {
		errs = append(errs, fields.addSpec(raw, others)...)
	}
	errs = append(errs, unsessioned(in)...)
	return fields, errs
}

// fill writes out what the schema would fill in, so that what was applied reads back the same.
func (f Fields) fill() {
	if test, ok := f["abTest"].(map[string]any); ok && test["conclude"] == nil {
		test["conclude"] = string(sluice.ConcludePromote)
	}
}

// unsessioned refuses a test whose users change groups.
func unsessioned(in map[string]string) field.ErrorList {
	raw := in[sluice.AnnotationSession]
	if strings.TrimSpace(raw) != "false" || strings.TrimSpace(in[sluice.AnnotationStrategy]) != string(sluice.StrategyABTest) {
		return nil
	}
	return field.ErrorList{field.Invalid(annotations.Key(sluice.AnnotationSession), raw, "an ab-test always keeps its users; accepted: \"true\" or a duration")}
}

// read returns the field that a value names, and that field's JSON.
func (e entry) read(raw string) (string, any, error) {
	value, err := e.parse(strings.TrimSpace(raw))
	if err != nil {
		return "", nil, err
	}
	if o, ok := value.(other); ok {
		return o.field, o.value, validate(o.field, o.value)
	}
	return e.field, value, validate(e.field, value)
}

// validate asks the API's own rules about a spec that names nothing but this field.
func validate(name string, value any) error {
	fields := Fields{}
	fields.set(name, value)
	spec, err := fields.spec()
	if err != nil {
		return err
	}
	spec.Default()
	for _, err := range spec.Validate(nil) {
		if strings.HasPrefix(err.Field, name) {
			return fmt.Errorf("%s", err.Detail)
		}
	}
	return nil
}

// withoutStrategy reports keys that are written for nothing.
func withoutStrategy(in map[string]string) field.ErrorList {
	var stray []string
	for _, key := range accepted() {
		if _, ok := in[key]; ok {
			stray = append(stray, fmt.Sprintf("%s=%q", key, clip(in[key])))
		}
	}
	if stray == nil {
		return nil
	}
	return field.ErrorList{field.Required(annotations.Key(sluice.AnnotationStrategy),
		fmt.Sprintf("without it these do nothing: %s; accepted: canary, blue-green or ab-test", strings.Join(stray, ", ")))}
}

// clip keeps a value short enough for an event.
func clip(s string) string { return clipTo(s, 80) }

func clipTo(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "..."
	}
	return s
}

// sortedKeys gives errors a stable order.
func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
