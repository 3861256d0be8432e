package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	client "github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/metrics/analysis"
	"github.com/sluice-dev/sluice/metrics/exporter"
)

func TestGenerated(t *testing.T) {
	for name, d := range all() {
		got, err := render(d)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s is not what this folder generates, run `make generate` (-file +generated):\n%s", name, diff)
		}
	}
}

func TestDashboard(t *testing.T) {
	seen := map[string]bool{}
	for name, d := range all() {
		if d.UID == "" || d.Title == "" || d.Description == "" || d.SchemaVersion < 41 || seen[d.UID] {
			t.Errorf("%s: uid, title, description or schema version: %q %q %d", name, d.UID, d.Title, d.SchemaVersion)
		}
		seen[d.UID] = true
		var variables []string
		for _, v := range d.Templating.List {
			variables = append(variables, v.Name)
			if v.Type == "query" && (v.Datasource == nil || *v.Datasource != prometheus) {
				t.Errorf("%s: variable %s does not follow the data source", name, v.Name)
			}
		}
		if !slices.Equal(variables[:3], []string{"datasource", "namespace", "shift"}) {
			t.Errorf("%s: variables %v", name, variables)
		}
	}
}

// TestPanels holds every panel to the rules: a current type, title, description, unit and data source, an id and a place of its own.
func TestPanels(t *testing.T) {
	current := []string{"timeseries", "stat", "state-timeline", "table"}
	for name, d := range all() {
		ids, cells := map[int]string{}, map[gridPos]string{}
		for _, p := range d.Panels {
			if !slices.Contains(current, p.Type) {
				t.Errorf("%s, %s: panel type %s", name, p.Title, p.Type)
			}
			if p.Title == "" || p.Description == "" || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
				t.Errorf("%s, %q: without title, description, unit or query", name, p.Title)
			}
			if p.Datasource != prometheus {
				t.Errorf("%s, %s: data source %v", name, p.Title, p.Datasource)
			}
			if ids[p.ID] != "" || p.ID == 0 {
				t.Errorf("%s: %s and %s share the id %d", name, p.Title, ids[p.ID], p.ID)
			}
			ids[p.ID] = p.Title
			if p.GridPos.X+p.GridPos.W > columns || p.GridPos.W < 1 || p.GridPos.H < 3 {
				t.Errorf("%s, %s: does not fit its row: %+v", name, p.Title, p.GridPos)
			}
			for x := range p.GridPos.W {
				for y := range p.GridPos.H {
					cell := gridPos{X: p.GridPos.X + x, Y: p.GridPos.Y + y}
					if cells[cell] != "" {
						t.Fatalf("%s: %s and %s overlap at %+v", name, p.Title, cells[cell], cell)
					}
					cells[cell] = p.Title
				}
			}
		}
	}
}

var (
	selector  = regexp.MustCompile(`\b((?:sluice|istio)_[a-z_]+)(?:\{([^}]*)\})?(\[[^\]]+\])?`)
	labelName = regexp.MustCompile(`([a-z_]+)(?:=~|!~|!=|=)"`)
	grouping  = regexp.MustCompile(`by \(([a-z_, ]+)\)`)
	legend    = regexp.MustCompile(`\{\{([a-z_]+)\}\}`)
)

// TestQueries holds every query to what exists: metrics that Sluice exposes or Istio does, with these labels; counters under rate or
// increase, over $__rate_interval or the whole range; names in legends among the labels.
func TestQueries(t *testing.T) {
	known := exposed(t)
	for name, d := range all() {
		for _, q := range queries(d) {
			if strings.Count(q.expr, "(") != strings.Count(q.expr, ")") || strings.Contains(q.expr, "OURS") || strings.Contains(q.expr, "ISTIO") {
				t.Errorf("%s: not a finished query: %s", name, q.expr)
			}
			var have []string
			for _, m := range selector.FindAllStringSubmatch(q.expr, -1) {
				metric, labels, window := m[1], m[2], m[3]
				if known[metric] == nil {
					t.Errorf("%s: nobody exposes %s: %s", name, metric, q.expr)
				}
				have = append(have, known[metric]...)
				for _, l := range labelName.FindAllStringSubmatch(labels, -1) {
					if !slices.Contains(known[metric], l[1]) {
						t.Errorf("%s: %s has no label %s", name, metric, l[1])
					}
				}
				counter := strings.HasSuffix(metric, "_total") || strings.HasSuffix(metric, "_bucket")
				if rated := window == "[$__rate_interval]" || window == "[$__range]"; counter != rated {
					t.Errorf("%s: %s: a counter needs a rate over $__rate_interval, and only a counter: %s", name, metric, q.expr)
				}
			}
			for _, by := range grouping.FindAllStringSubmatch(q.expr, -1) {
				for _, l := range strings.Split(by[1], ",") {
					if !slices.Contains(have, strings.TrimSpace(l)) {
						t.Errorf("%s: groups by the label %s, which is not there: %s", name, l, q.expr)
					}
				}
			}
			for _, l := range legend.FindAllStringSubmatch(q.legend, -1) {
				if !slices.Contains(have, l[1]) {
					t.Errorf("%s: names series by the label %s, which is not there: %s", name, l[1], q.expr)
				}
			}
		}
	}
}

// queries returns everything that a dashboard asks Prometheus.
func queries(d dashboard) []query {
	var out []query
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			out = append(out, query{target.Expr, target.LegendFormat})
		}
	}
	for _, a := range d.Annotations.List {
		out = append(out, query{a.Expr, a.TitleFormat + a.TextFormat})
	}
	for _, v := range d.Templating.List {
		if l, ok := v.Query.(labelQuery); ok {
			out = append(out, query{l.Query, ""})
		}
	}
	return out
}

// exposed returns the labels of each metric: ours as the exporter shows them for a shift with everything, Istio's as documented.
func exposed(t *testing.T) map[string][]string {
	t.Helper()
	istio := []string{"reporter", "destination_workload", "destination_workload_namespace", "response_code", "request_protocol", "grpc_response_status"}
	known := map[string][]string{
		"istio_requests_total":                       istio,
		"istio_request_duration_milliseconds_bucket": append(slices.Clone(istio), "le"),
	}
	reg := client.NewPedanticRegistry()
	e, err := exporter.New(reg, exporter.Build{})
	if err != nil {
		t.Fatal(err)
	}
	e.Observe(exporter.Shift{
		Namespace: "shop", Name: "micro-api", Phase: v1alpha1.PhaseProgressing, Reason: "Holding", Step: 1, Steps: 2, Stable: "v1", Candidate: "v2",
		Versions: []exporter.Version{{Name: "v1", Role: exporter.Stable, Weight: 1}, {Name: "v2", Role: exporter.Candidate}},
		Verdicts: []exporter.Verdict{{Gate: analysis.GateErrorRate, Outcome: "Pass"}},
	})
	e.Outcome("shop", "micro-api", "Promoted", time.Minute)
	e.ObserveQuery("requests", time.Second, os.ErrDeadlineExceeded)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		labels := []string{}
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		known[f.GetName()] = labels
		if f.GetMetric()[0].GetHistogram() != nil {
			known[f.GetName()+"_bucket"] = append(slices.Clone(labels), "le")
		}
	}
	return known
}

// TestGatesExist holds that the gates that panels name are gates.
func TestGatesExist(t *testing.T) {
	gates := []string{analysis.GateErrorRate, analysis.GateErrorRateVsStable, analysis.GateLatency, analysis.GateLatencyVsStable, analysis.GateRequests}
	named := regexp.MustCompile(`gate=~?"([^"]+)"`)
	for name, d := range all() {
		for _, q := range queries(d) {
			for _, m := range named.FindAllStringSubmatch(q.expr, -1) {
				if !slices.ContainsFunc(gates, regexp.MustCompile("^(?:"+m[1]+")$").MatchString) {
					t.Errorf("%s: there is no gate %s", name, m[1])
				}
			}
		}
	}
}
