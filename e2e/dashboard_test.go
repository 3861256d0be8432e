package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// Every panel, variable and annotation of the dashboards has something to show: their queries are put to the Prometheus that scrapes
// the controller and the mesh, as Grafana would put them, while a shift is under way, and those about endings after its end.
func TestDashboards(t *testing.T) {
	t.Parallel()
	s := stage(t)
	const name = "charted"
	service(t, s, name, "steps=50,100", "max-latency=p99<10s")
	gateway, err := s.Through(t.Context(), name+".example.com", 40)
	if err != nil {
		t.Fatal(err)
	}
	defer gateway.Stop()
	inMesh, err := s.Within(t.Context(), name+"-client", fmt.Sprintf("http://%s.%s.svc.cluster.local/", name, scene.Shop), 20)
	if err != nil {
		t.Fatal(err)
	}
	defer inMesh.Stop()

	var during, after []question
	for _, q := range questions(t, s.Repo, name) {
		if q.ending() {
			after = append(after, q)
		} else {
			during = append(during, q)
		}
	}
	release(t, s, name, "v2")
	await(t, s, name, "to have a proven weight", func(ts *v1alpha1.TrafficShift) bool {
		return ts.Status.State.Stage == v1alpha1.StageStepping && ts.Status.State.VerifiedSince != nil
	})
	// It stands still while it is looked at.
	if err := s.Annotate(t.Context(), deployment(name), map[string]string{v1alpha1.AnnotationPaused: "true"}); err != nil {
		t.Fatal(err)
	}
	ask(t, s, during)
	if err := s.Annotate(t.Context(), deployment(name), map[string]string{v1alpha1.AnnotationPaused: ""}); err != nil {
		t.Fatal(err)
	}
	await(t, s, name, "to be promoted", scene.Stable("v2"))
	ask(t, s, after)
}

// question is one query of a dashboard, with Grafana's variables filled in.
type question struct {
	where string // dashboard and panel
	expr  string
	// names are the labels by which Grafana names the series.
	names []string
	// wants is a value that a variable must offer.
	wants string
}

// ending reports whether there is an answer only after a release has ended.
func (q question) ending() bool {
	return regexp.MustCompile(`sluice_shift_(outcomes_total|duration_seconds|rollback_duration_seconds)`).MatchString(q.expr)
}

// hides matches the end of a query that shows errors alone, and shows nothing while there are none.
var hides = regexp.MustCompile(`errors_total.*( > 0)$`)

// ask puts the questions until each is answered, for as long as Prometheus may need for its next scrapes.
func ask(t *testing.T, s *scene.Scene, questions []question) {
	t.Helper()
	if len(questions) == 0 {
		t.Error("no questions to ask")
	}
	deadline := time.Now().Add(patience)
	for _, q := range questions {
		expr := q.expr
		if m := hides.FindStringSubmatch(expr); m != nil {
			expr = strings.TrimSuffix(expr, m[1])
		}
		for {
			err := q.answered(t.Context(), s.PrometheusURL, expr)
			if err == nil {
				break
			}
			if time.Now().After(deadline) || t.Context().Err() != nil {
				t.Errorf("%s: %v\n    %s", q.where, err, expr)
				break
			}
			time.Sleep(500 * time.Millisecond) // half a scrape: nothing tells that a sample has arrived but asking again
		}
	}
	t.Logf("%d queries are answered", len(questions))
}

// answered asks once. An answer has a number in it, and the labels that its series are named by.
func (q question) answered(ctx context.Context, prometheus, expr string) error {
	series, err := query(ctx, prometheus, expr)
	if err != nil {
		return err
	}
	labels := map[string]bool{}
	numbers := 0
	offered := []string{}
	for _, one := range series {
		if v, err := strconv.ParseFloat(one.value(), 64); err == nil && !math.IsNaN(v) {
			numbers++
		}
		for k, v := range one.Metric {
			labels[k] = labels[k] || v != ""
			offered = append(offered, v)
		}
	}
	if numbers == 0 {
		return fmt.Errorf("no number in an answer of %d series", len(series))
	}
	for _, name := range q.names {
		if !labels[name] {
			return fmt.Errorf("the series are named by %q, which none of them has: %v", name, slices.Sorted(maps.Keys(labels)))
		}
	}
	if q.wants != "" && !slices.Contains(offered, q.wants) {
		return fmt.Errorf("%q is not offered: %v", q.wants, offered)
	}
	return nil
}

// vector is an element of an instant query's answer.
type vector struct {
	Metric map[string]string `json:"metric"`
	Value  [2]any            `json:"value"`
}

func (v vector) value() string { s, _ := v.Value[1].(string); return s }

// query puts one instant query to Prometheus.
func query(ctx context.Context, prometheus, expr string) ([]vector, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, prometheus+"/api/v1/query?query="+url.QueryEscape(expr), nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct {
		Status, Error string
		Data          struct {
			ResultType string
			Result     []vector
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("%s: %w", resp.Status, err)
	}
	if answer.Status != "success" || answer.Data.ResultType != "vector" {
		return nil, fmt.Errorf("%s %s %s", resp.Status, answer.Data.ResultType, answer.Error)
	}
	return answer.Data.Result, nil
}

// board is the part of a Grafana dashboard that asks questions.
type board struct {
	Title      string
	Panels     []boardPanel
	Templating struct {
		List []struct {
			Name, Type string
			Query      json.RawMessage
			Options    []struct{ Value string }
		}
	}
	Annotations struct {
		List []struct{ Name, Expr, TitleFormat, TextFormat string }
	}
}

type boardPanel struct {
	Title   string
	Targets []struct{ Expr, LegendFormat string }
	Panels  []boardPanel // of a row
}

// questions reads every query of every dashboard, once for each value that a variable of fixed values has.
func questions(t *testing.T, repo, shift string) []question {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(repo, "manifests", "dashboards", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	var all []question
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var b board
		if err := json.Unmarshal(raw, &b); err != nil {
			t.Fatalf("%s: %v", filepath.Base(file), err)
		}
		all = append(all, b.questions(t, map[string]string{
			"namespace": scene.Shop, "shift": shift, "__rate_interval": "10s", "__interval": "1s", "__range": "5m",
		})...)
	}
	return all
}

var (
	braced      = regexp.MustCompile(`\{\{ *([A-Za-z_][A-Za-z0-9_]*) *\}\}`)
	labelValues = regexp.MustCompile(`^label_values\((?:(.+), *)?([A-Za-z_][A-Za-z0-9_]*)\)$`)
)

func (b board) questions(t *testing.T, values map[string]string) []question {
	t.Helper()
	var raw []question
	add := func(where, expr, legend string) {
		q := question{where: b.Title + " / " + where, expr: expr}
		for _, m := range braced.FindAllStringSubmatch(legend, -1) {
			q.names = append(q.names, m[1])
		}
		raw = append(raw, q)
	}
	var panels func(list []boardPanel)
	panels = func(list []boardPanel) {
		for _, p := range list {
			for _, target := range p.Targets {
				add(p.Title, target.Expr, target.LegendFormat)
			}
			panels(p.Panels)
		}
	}
	panels(b.Panels)
	for _, a := range b.Annotations.List {
		if a.Expr != "" {
			add("annotation "+a.Name, a.Expr, a.TitleFormat+a.TextFormat)
		}
	}
	fixed := map[string][]string{}
	for _, v := range b.Templating.List {
		switch v.Type {
		case "custom":
			for _, o := range v.Options {
				fixed[v.Name] = append(fixed[v.Name], o.Value)
			}
		case "query":
			var text struct{ Query string }
			if err := json.Unmarshal(v.Query, &text); err != nil {
				t.Fatalf("%s: variable %s: %v", b.Title, v.Name, err)
			}
			m := labelValues.FindStringSubmatch(text.Query)
			if m == nil || m[1] == "" {
				t.Fatalf("%s: variable %s: %q is not label_values(metric, label)", b.Title, v.Name, text.Query)
			}
			raw = append(raw, question{
				where: b.Title + " / variable " + v.Name, expr: fmt.Sprintf("count by (%s) (%s)", m[2], m[1]), wants: values[v.Name],
			})
		}
	}
	var filled []question
	for _, q := range raw {
		for _, q := range q.each(fixed) {
			q.expr = fill(q.expr, values)
			if variable.MatchString(q.expr) {
				t.Errorf("%s: a variable that nothing fills in: %s", q.where, q.expr)
			}
			filled = append(filled, q)
		}
	}
	return filled
}

// each asks once for every value of the variables of fixed values that the question names.
func (q question) each(fixed map[string][]string) []question {
	list := []question{q}
	for name, values := range fixed {
		if fill(q.expr, map[string]string{name: ""}) == q.expr {
			continue
		}
		var next []question
		for _, one := range list {
			for _, value := range values {
				with := one
				with.where += " (" + name + " " + value + ")"
				with.expr = fill(one.expr, map[string]string{name: value})
				next = append(next, with)
			}
		}
		list = next
	}
	return list
}

var variable = regexp.MustCompile(`\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)(?::[a-z]+)?\})`)

// fill puts values in the place of variables ($name, ${name}, ${name:format}) and leaves those it has none for.
func fill(expr string, values map[string]string) string {
	return variable.ReplaceAllStringFunc(expr, func(use string) string {
		m := variable.FindStringSubmatch(use)
		if v, ok := values[m[1]+m[2]]; ok {
			return v
		}
		return use
	})
}
