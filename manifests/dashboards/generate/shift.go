package main

import "strings"

// Selectors of one shift, in our metrics and in Istio's. Every version is a Deployment of its own, so destination_workload tells
// them apart.
const (
	ours    = `namespace=~"$namespace",name=~"$shift"`
	istio   = `reporter="$reporter",destination_workload_namespace=~"$namespace",destination_workload=~"$shift-v[0-9]+"`
	version = `destination_workload`
	// failed is what the gates count as a failure: a 5xx, and for gRPC the statuses that mean a fault of the server.
	failed = `rate(istio_requests_total{` + istio + `,response_code=~"5.."}[$__rate_interval]) or ` +
		`rate(istio_requests_total{` + istio + `,request_protocol="grpc",grpc_response_status=~"2|4|12|13|14|15"}[$__rate_interval])`
)

// shiftDashboard is what an SRE watches one shift on: where it is and why, its weights, and its evidence against the limits.
func shiftDashboard() dashboard {
	return dashboard{
		UID: "sluice-shift", Title: "Sluice / Shift", Tags: []string{"sluice", "istio"},
		Description:   "One TrafficShift: the weight and the observed share of each version over time, each gate against its limit, and why the shift is where it is.",
		SchemaVersion: 41, GraphTooltip: 1, Refresh: "10s", Time: timeRange{"now-30m", "now"},
		Templating: templating{List: variables()},
		Annotations: annotations{List: []annotation{{
			Name: "Outcomes", Datasource: prometheus, Enable: true, IconColor: "purple", Step: "15s",
			Expr:        of(`sum by (name, reason) (increase(sluice_shift_outcomes_total{OURS}[$__rate_interval])) > 0`),
			TitleFormat: "{{name}}: {{reason}}", TextFormat: "A release of {{name}} ended: {{reason}}.",
		}}},
		Panels: place([]row{{4, now()}, {9, traffic()}, {8, errors()}, {8, latency()}, {7, states()}, {7, background()}}),
	}
}

func variables() []variable {
	labels := func(name, label, query string) variable {
		return variable{Name: name, Label: label, Type: "query", Datasource: &prometheus, Query: labelQuery{query, "variable"}, Refresh: 2, Sort: 1}
	}
	destination := option{Text: "destination", Value: "destination", Selected: true}
	return []variable{
		{Name: "datasource", Label: "Prometheus", Type: "datasource", Query: "prometheus"},
		labels("namespace", "Namespace", `label_values(sluice_shift_info, namespace)`),
		labels("shift", "Shift", `label_values(sluice_shift_info{namespace=~"$namespace"}, name)`),
		{
			Name: "reporter", Label: "Reporter", Type: "custom", Query: "destination,source", Current: &destination,
			Options: []option{destination, {Text: "source", Value: "source"}},
		},
	}
}

// of fills the selectors into an expression.
func of(expr string) string {
	return strings.NewReplacer("OURS", ours, "ISTIO", istio, "FAILED", failed, "VERSION", version).Replace(expr)
}

func now() []panel {
	age := stat(4, "Evidence age", "Age of the newest sample that the shift is judged by. Old evidence holds a shift where it is; it never lets it go on.", "s", "value",
		query{of(`max(sluice_evidence_age_seconds{OURS})`), "age"})
	age.FieldConfig.Defaults.Color = map[string]any{"mode": "thresholds"}
	warn, bad := 30.0, 60.0
	age.FieldConfig.Defaults.Thresholds = &thresholds{"absolute", []threshold{{"green", nil}, {"orange", &warn}, {"red", &bad}}}
	return []panel{
		stat(4, "Phase", "Where the shift stands in its life.", "none", "name", query{of(`sluice_shift_phase{OURS} == 1`), "{{phase}}"}),
		stat(6, "Why", "Why the shift is where it is. The TrafficShift's status says it in a sentence, with the numbers.", "none", "name", query{of(`sluice_shift_info{OURS}`), "{{reason}}"}),
		stat(4, "Step", "Rung of the ladder that the candidate is on, and the number of rungs.", "none", "value_and_name",
			query{of(`max(sluice_shift_step{OURS})`), "on step"}, query{of(`max(sluice_shift_steps{OURS})`), "of"}),
		stat(6, "Versions", "The version that users are on, and the one that is being introduced.", "none", "name",
			query{of(`sluice_shift_info{OURS}`), "stable {{stable}}"}, query{of(`sluice_shift_info{OURS,candidate!=""}`), "candidate {{candidate}}"}),
		age,
	}
}

func traffic() []panel {
	p := timeseries(24, "Traffic by version", "The share of the traffic that each version is meant to get (filled, in steps) and the share that Prometheus saw it get (dashed). "+
		"The two must meet before a step's clock starts; beside a match the candidate is seen to get more than its weight.", "percentunit",
		query{of(`max by (version) (sluice_shift_weight_ratio{OURS})`), "{{version}} weight"},
		query{of(`max by (version) (sluice_shift_observed_share_ratio{OURS})`), "{{version}} observed"})
	one := 1.0
	p.FieldConfig.Defaults.Max = &one
	p.FieldConfig.Overrides = append(p.FieldConfig.Overrides,
		override{matcher{"byRegexp", ".* weight"}, []property{{"custom.lineInterpolation", "stepAfter"}, {"custom.fillOpacity", 15}}},
		override{matcher{"byRegexp", ".* observed"}, []property{dashed()}})
	return []panel{p}
}

func errors() []panel {
	return []panel{
		timeseries(12, "Error rate", "Share of each version's requests that the mesh saw fail (HTTP 5xx, gRPC server faults), and the limit of the error gate.", "percentunit",
			query{of(`(sum by (VERSION) (FAILED) or 0 * sum by (VERSION) (rate(istio_requests_total{ISTIO}[$__rate_interval]))) / ` +
				`sum by (VERSION) (rate(istio_requests_total{ISTIO}[$__rate_interval]))`), "{{destination_workload}}"},
			query{of(`max(sluice_shift_gate_limit{OURS,gate="error-rate"})`), "limit"}),
		timeseries(12, "Errors at this step, as judged", "Share of each version's requests that failed since the present step began: what the gates look at, with their limits.", "percentunit",
			query{of(`max by (version, role) (sluice_shift_error_ratio{OURS})`), "{{version}} ({{role}})"},
			query{of(`max by (gate) (sluice_shift_gate_limit{OURS,gate=~"error-rate.*"})`), "limit of {{gate}}"}),
	}
}

func latency() []panel {
	return []panel{
		timeseries(12, "Response time, p99", "99th percentile of each version's response times, from the mesh's histogram.", "ms",
			query{of(`histogram_quantile(0.99, sum by (VERSION, le) (rate(istio_request_duration_milliseconds_bucket{ISTIO}[$__rate_interval])))`), "{{destination_workload}}"}),
		timeseries(12, "Slow requests at this step, as judged", "Share of each version's requests slower than the latency limit since the present step began, with the limits of the gates.", "percentunit",
			query{of(`max by (version, role) (sluice_shift_slow_ratio{OURS})`), "{{version}} ({{role}})"},
			query{of(`max by (gate) (sluice_shift_gate_limit{OURS,gate=~"latency.*"})`), "limit of {{gate}}"}),
	}
}

func states() []panel {
	return []panel{
		timeline(12, "Gates", "What each gate said over time. Inconclusive holds the weight; it is neither pass nor fail.",
			[]mapping{state("1", "pass", "green"), state("0", "inconclusive", "yellow"), state("-1", "fail", "red")},
			query{of(`max by (gate) (sluice_shift_gate_verdict{OURS})`), "{{gate}}"}),
		timeline(12, "Phases", "The phase that the shift was in over time.",
			[]mapping{state("1", "here", "blue"), state("0", "not here", "transparent")},
			query{of(`max by (phase) (sluice_shift_phase{OURS})`), "{{phase}}"}),
	}
}

func background() []panel {
	outcomes := panel{
		Type: "table", Title: "Outcomes", Description: "Releases that ended in the time range, by what became of them.", Datasource: prometheus, GridPos: gridPos{W: 8},
		Targets: []target{{
			RefID: "A", Datasource: prometheus, Instant: true, Format: "table",
			Expr: of(`round(sum by (reason) (increase(sluice_shift_outcomes_total{OURS}[$__range]))) > 0`),
		}},
		FieldConfig: fieldConfig{Defaults: fieldDefaults{Unit: "short", NoValue: "none"}, Overrides: []override{}},
		Options:     map[string]any{"showHeader": true},
		Transformations: []transformation{{"organize", map[string]any{
			"excludeByName": map[string]any{"Time": true},
			"renameByName":  map[string]any{"reason": "What became of them", "Value": "Releases"},
		}}},
	}
	return []panel{
		outcomes,
		timeseries(8, "Requests", "Requests per second that each version answered.", "reqps",
			query{of(`sum by (VERSION) (rate(istio_requests_total{ISTIO}[$__rate_interval]))`), "{{destination_workload}}"}),
		timeseries(8, "Prometheus, as Sluice sees it", "How long Sluice's queries to Prometheus take (p95), of all shifts, and how many fail.", "s",
			query{`histogram_quantile(0.95, sum by (query, le) (rate(sluice_prometheus_query_duration_seconds_bucket[$__rate_interval])))`, "{{query}}"},
			query{`sum by (query) (rate(sluice_prometheus_query_errors_total[$__rate_interval])) > 0`, "{{query}} errors per second"}),
	}
}
