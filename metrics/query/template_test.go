package query

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
)

var canary = Values{Namespace: "shop", Name: "micro.api", Stable: "micro.api-v1", Candidate: "micro.api-v2", Window: 90 * time.Second}

func TestTemplatesAreRendered(t *testing.T) {
	cases := map[string]struct{ reason, template, want string }{
		"None":          {"nothing to put in", `vector(1)`, `vector(1)`},
		"Scalar":        {"a number", `scalar(sum(up)) / 2`, `scalar(sum(up)) / 2`},
		"Equal":         {"taken literally", `up{pod="{{candidate}}",ns!="{{ namespace }}"}`, `up{ns!="shop",pod="micro.api-v2"}`},
		"Regexp":        {"quoted", `up{pod=~"{{candidate}}-.+",job!~"{{stable}}|{{name}}"}`, `up{job!~"micro\\.api-v1|micro\\.api",pod=~"micro\\.api-v2-.+"}`},
		"Repeated":      {"as one", `up{pod=~"{{name}}+"}`, `up{pod=~"(?:micro\\.api)+"}`},
		"Twice":         {"each", `up{pod=~"{{name}}{{name}}"}`, `up{pod=~"micro\\.apimicro\\.api"}`},
		"AfterAClass":   {"a class beside it", `up{pod=~"[{}a]{{name}}[[:digit:]]{2}"}`, `up{pod=~"[{}a]micro\\.api[[:digit:]]{2}"}`},
		"RawString":     {"in any kind of quotes", "up{pod=`{{name}}`,x='{{name}}'}", `up{pod="micro.api",x="micro.api"}`},
		"Window":        {"a range", `sum(rate(a_total{x="y"}[{{window}}]))`, `sum(rate(a_total{x="y"}[1m30s]))`},
		"WindowSpaced":  {"with spaces", `sum(rate(a_total[ {{  window  }} ]))`, `sum(rate(a_total[1m30s]))`},
		"WindowOffset":  {"an offset, also back", `a offset {{window}} + a offset -{{window}}`, `a offset 1m30s + a offset -1m30s`},
		"WindowSub":     {"a subquery", `max_over_time(a[{{window}}:{{window}}] offset {{window}})`, `max_over_time(a[1m30s:1m30s] offset 1m30s)`},
		"WindowInRange": {"with an offset of its own", `rate(a[{{window}}] offset {{window}})`, `rate(a[1m30s] offset 1m30s)`},
		"ByLabel": {"a real one", `histogram_quantile(0.99, sum by (le) (rate(istio_request_duration_milliseconds_bucket{destination_workload="{{candidate}}"}[{{window}}])))`,
			`histogram_quantile(0.99, sum by (le) (rate(istio_request_duration_milliseconds_bucket{destination_workload="micro.api-v2"}[1m30s])))`},
		"Comparison": {"two versions", `sum(a{v="{{candidate}}"}) / on () group_left () sum(a{v="{{stable}}"}) > bool 2`,
			`sum(a{v="micro.api-v2"}) / on () group_left () sum(a{v="micro.api-v1"}) > bool 2`},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			x, err := ParseTemplate(tc.template)
			if err != nil {
				t.Fatal(err)
			}
			got, err := x.Render(canary)
			if err != nil || got != tc.want {
				t.Errorf("%s: got %s, %v\nwant %s", tc.reason, got, err, tc.want)
			}
		})
	}
}

func TestTemplatesThatAreRefused(t *testing.T) {
	const value, duration = "accepted is a place in the value of a label matcher", "accepted is a place where PromQL has a duration"
	cases := map[string]struct {
		template, at string
		says         []string
	}{
		"Empty":              {``, "1:1", []string{"no expression found"}},
		"Unknown":            {"sum(\n  up{pod=\"{{pod}}\"})", "2:11", []string{"{{pod}} is no placeholder", "{{namespace}}, {{name}}, {{stable}}, {{candidate}}, {{window}}"}},
		"UnknownEmpty":       {`up{pod="{{}}"}`, "1:9", []string{"{{}} is no placeholder"}},
		"OtherCase":          {`up{pod="{{Name}}"}`, "1:9", []string{"{{Name}} is no placeholder"}},
		"Syntax":             {"up{pod=\"{{name}}\"}\n+ sum(é", "2:7", []string{"unexpected character"}},
		"AfterAPlaceholder":  {`rate(a{b="{{namespace}}"}[{{window}}]) )`, "1:41", []string{"unexpected right parenthesis"}},
		"NamesWhatIsThere":   {`sum(rate(a[{{window}}]) by (x) 5`, "1:25", []string{"unexpected"}},
		"UnknownFunction":    {`rates(up[{{window}}])`, "1:1", []string{`unknown function`, "rates"}},
		"BadRegexp":          {`up{pod=~"{{name}}("}`, "1:4", []string{"missing closing )", "{{name}}("}},
		"WrongType":          {`rate(up{pod="{{name}}"})`, "1:6", []string{"expected type range vector"}},
		"RangeVector":        {`up{pod="{{name}}"}[{{window}}]`, "1:1", []string{"range vector", "scalar and an instant vector"}},
		"String":             {`"text"`, "1:1", []string{"string", "scalar and an instant vector"}},
		"MetricName":         {`{{name}}{a="b"}`, "1:1", []string{"{{name}} cannot stand here", value}},
		"PartOfMetricName":   {`up_{{name}}`, "1:4", []string{"{{name}} cannot stand here", value}},
		"QuotedMetricName":   {`{"{{name}}"}`, "1:3", []string{"{{name}} cannot stand here", value}},
		"NameMatcher":        {`{__name__="{{name}}"}`, "1:12", []string{"{{name}} cannot stand here", value}},
		"LabelName":          {`up{ {{name}}="x"}`, "1:5", []string{"{{name}} cannot stand here", value}},
		"QuotedLabelName":    {`up{"{{name}}"="x"}`, "1:5", []string{"{{name}} cannot stand here", value}},
		"ByList":             {`sum by ({{name}}) (up)`, "1:9", []string{"{{name}} cannot stand here", value}},
		"QuotedByList":       {`sum by ("{{name}}") (up)`, "1:10", []string{"{{name}} cannot stand here", value}},
		"OnList":             {`up + on ("{{name}}") up`, "1:11", []string{"{{name}} cannot stand here", value}},
		"FunctionArgument":   {`label_replace(up, "a", "{{name}}", "b", "(.*)")`, "1:25", []string{"{{name}} cannot stand here", value}},
		"CountValues":        {`count_values("{{name}}", up)`, "1:15", []string{"{{name}} cannot stand here", value}},
		"NameAsDuration":     {`rate(up[{{name}}])`, "1:9", []string{"{{name}} cannot stand here", value}},
		"InAClass":           {`up{pod=~"[{{name}}]"}`, "1:11", []string{"{{name}} cannot stand here", "classes"}},
		"InAPosixClass":      {`up{pod=~"[[:alpha:]{{name}}]"}`, "1:20", []string{"{{name}} cannot stand here", "classes"}},
		"InARepeat":          {`up{pod=~"a{{{name}}}"}`, "1:12", []string{"{{name}} cannot stand here", "repeats"}},
		"AfterABackslash":    {`up{pod=~"\\{{name}}"}`, "1:4", []string{"invalid escape", "`\\{{name}}`"}},
		"InAQuote":           {`up{pod=~"\\Q{{name}}\\E"}`, "1:13", []string{"{{name}} cannot stand here", "escapes"}},
		"WindowInAValue":     {`up{pod="{{window}}"}`, "1:9", []string{"{{window}} cannot stand here", duration}},
		"WindowInARegexp":    {`up{pod=~"a{{window}}"}`, "1:11", []string{"{{window}} cannot stand here", duration}},
		"WindowAsNumber":     {`up > {{window}}`, "1:6", []string{"{{window}} cannot stand here", duration}},
		"WindowInAName":      {`up{{window}}`, "1:3", []string{"{{window}} cannot stand here", duration}},
		"WindowAsTime":       {`up @ {{window}}`, "1:6", []string{"{{window}} cannot stand here", duration}},
		"WindowInALongerOne": {`rate(up[1{{window}}])`, "1:10", []string{"{{window}} cannot stand here", duration}},
		"WindowAndMore":      {`rate(up[{{window}}5m])`, "1:9", []string{""}},
		"WindowPlus":         {`rate(up[1h{{window}}])`, "1:11", []string{"{{window}} cannot stand here", duration}},
		"SecondOne":          {`up{a="{{name}}"} + {{name}}`, "1:20", []string{"{{name}} cannot stand here", value}},
		"PrivateUse":         {"up{a=\"\ue000\"}", "1:7", []string{"private use"}},
		"Experimental":       {`mad_over_time(up[5m])`, "1:1", []string{"not enabled"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := ParseTemplate(tc.template)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range append(tc.says, tc.at+": ") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%s\ndoes not say %q", err, want)
				}
			}
			if strings.ContainsFunc(err.Error(), func(r rune) bool { return r >= firstMark && r <= lastMark }) && name != "PrivateUse" || strings.Contains(err.Error(), "9870000") {
				t.Errorf("the error shows a mark: %s", err)
			}
		})
	}
}

func TestTemplatesNeedTheirValues(t *testing.T) {
	for _, name := range []string{"namespace", "name", "stable", "candidate", "window"} {
		text := fmt.Sprintf(`up{a="{{%s}}"}`, name)
		if name == "window" {
			text = `rate(up[{{window}}])`
		}
		x, err := ParseTemplate(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := x.Render(Values{}); err == nil || !strings.Contains(err.Error(), "{{"+name+"}}") {
			t.Errorf("without %s: %q, %v", name, got, err)
		}
	}
	x, err := ParseTemplate(`up{a="{{name}}"}`)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := x.Render(Values{Name: "a"}); got != `up{a="a"}` || err != nil {
		t.Errorf("values that are not asked for: %q, %v", got, err)
	}
}

// shape writes a syntax tree without the values of its matchers.
func shape(expr parser.Expr) string {
	var b strings.Builder
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if v, ok := node.(*parser.VectorSelector); ok {
			var matchers []string
			for _, m := range v.LabelMatchers {
				if m.Name != model.MetricNameLabel {
					matchers = append(matchers, m.Name+m.Type.String())
				}
			}
			slices.Sort(matchers)
			fmt.Fprintf(&b, "%s%v;", v.Name, matchers)
			return nil
		}
		if node != nil {
			fmt.Fprintf(&b, "%T;", node)
		}
		return nil
	})
	return b.String()
}

// No value becomes anything but that value: every selector matches exactly what the value says, and the rest stays as it was.
func FuzzRenderKeepsTheShape(f *testing.F) {
	for _, v := range []string{"micro-api-v2", `"} or up{a="`, `a\`, "a|b", "a\nb", ".*", `\E.*`, "{{name}}", "\ue000_____", "987000000s", "\xff", "", `$1`, "[", "é"} {
		f.Add(v)
	}
	const text = `sum(rate(a{x="{{name}}",y!="p{{name}}q",z=~"r.{{name}}",w!~"{{name}}+|s"}[{{window}}])) / {"u",x="{{name}}"} offset {{window}}`
	x, err := ParseTemplate(text)
	if err != nil {
		f.Fatal(err)
	}
	plain, err := x.Render(Values{Name: "n", Window: time.Minute})
	if err != nil {
		f.Fatal(err)
	}
	want, err := promql().ParseExpr(plain)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, value string) {
		rendered, err := x.Render(Values{Name: value, Window: time.Minute})
		if err != nil {
			if value != "" && utf8.ValidString(value) {
				t.Errorf("%q: %v", value, err)
			}
			return
		}
		got, err := promql().ParseExpr(rendered)
		if err != nil {
			t.Fatalf("%q: %s: %v", value, rendered, err)
		}
		if diff := cmp.Diff(shape(want), shape(got)); diff != "" {
			t.Fatalf("%q changes the expression: %s", value, diff)
		}
		parser.Inspect(got, func(node parser.Node, _ []parser.Node) error {
			v, ok := node.(*parser.VectorSelector)
			if !ok {
				return nil
			}
			for _, m := range v.LabelMatchers {
				exact, is := map[string]string{"x": value, "y": "p" + value + "q", "z": "r." + value, "w": value + value}[m.Name]
				if is && m.Matches(exact) != (m.Name == "x" || m.Name == "z") {
					t.Errorf("%q: the matcher %s is wrong of %q", value, m, exact)
				}
				if is && m.Name != "w" && m.Matches(exact+"!") == (m.Name == "x" || m.Name == "z") {
					t.Errorf("%q: the matcher %s matches more than %q", value, m, exact)
				}
			}
			return nil
		})
	})
}

// Whatever is written, parsing ends with an expression or an error, and what is accepted can be rendered.
func FuzzParseTemplate(f *testing.F) {
	for _, text := range []string{"up", `up{a=~"{{name}}"}[{{window}}]`, "{{window}}", "rate(a[{{window}}])", `"{{name}}"`, "up{a=\"\ue000\"}", `up{a=~"[{{name}}"}`, "((((", "up{a='{{"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		x, err := ParseTemplate(text)
		if err != nil {
			return
		}
		rendered, err := x.Render(canary)
		if err != nil {
			t.Fatalf("%q is accepted and cannot be rendered: %v", text, err)
		}
		if len(x.marks) > 0 && strings.ContainsFunc(rendered, func(r rune) bool { return r >= firstMark && r <= lastMark }) {
			t.Fatalf("%q leaves a mark: %s", text, rendered)
		}
	})
}
