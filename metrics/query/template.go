package query

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	match "github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// Template is a PromQL expression of a user's own with placeholders in it:
//
//	histogram_quantile(0.99, sum by (le) (rate(checkout_seconds_bucket{namespace="{{namespace}}",pod=~"{{candidate}}-.+"}[{{window}}])))
//
// {{namespace}}, {{name}}, {{stable}} and {{candidate}} stand in the values of label matchers, and {{window}} where PromQL has a
// duration; nowhere else. They are put in on the syntax tree, so that no value can become anything but that value: = and != take it
// literally, =~ and !~ take it quoted.
type Template struct {
	// text is what the user wrote; marked is the same with a mark in the place of each placeholder, as long as the placeholder, so
	// that a position in one is that position in the other.
	text, marked string
	marks        []mark
}

// mark stands for one placeholder while PromQL is parsed: in a label's value a text, elsewhere a duration, that nobody writes.
type mark struct {
	placeholder string
	at          int
	text        string
	window      time.Duration
}

// Values are what a template's placeholders stand for. Stable and Candidate are Deployments.
type Values struct {
	Namespace, Name, Stable, Candidate string
	Window                             time.Duration
}

const placeholderWindow = "window"

// placeholders are all that are known, with what they stand for.
var placeholders = []struct {
	name  string
	value func(Values) string
}{
	{"namespace", func(v Values) string { return v.Namespace }},
	{"name", func(v Values) string { return v.Name }},
	{"stable", func(v Values) string { return v.Stable }},
	{"candidate", func(v Values) string { return v.Candidate }},
	{placeholderWindow, nil},
}

// ParseTemplate reads a template. Its errors name the position, as line:column of promql, and the cause. The value of the
// expression must be a scalar or an instant vector.
func ParseTemplate(promql string) (Template, error) {
	t := Template{text: promql}
	if err := t.findMarks(); err != nil {
		return Template{}, err
	}
	expr, err := t.parse()
	if err != nil {
		return Template{}, err
	}
	switch expr.Type() {
	case parser.ValueTypeScalar, parser.ValueTypeVector:
	case parser.ValueTypeMatrix:
		return Template{}, errors.New("1:1: the value is a range vector; accepted are a scalar and an instant vector, such as sum(rate(...[{{window}}]))")
	default:
		return Template{}, fmt.Errorf("1:1: the value is a %s; accepted are a scalar and an instant vector", expr.Type())
	}
	return t, t.fill(expr, Values{Namespace: "n", Name: "n", Stable: "n", Candidate: "n", Window: time.Minute})
}

// Render puts the values in. A value that the expression needs and that is empty is an error.
func (t Template) Render(v Values) (string, error) {
	for _, m := range t.marks {
		if m.window > 0 && v.Window < time.Millisecond || m.window == 0 && m.value(v) == "" {
			return "", fmt.Errorf("there is no value for {{%s}}", m.placeholder)
		}
	}
	expr, err := t.parse()
	if err != nil {
		return "", err
	}
	if err := t.fill(expr, v); err != nil {
		return "", err
	}
	rendered := expr.String()
	if again, err := promql().ParseExpr(rendered); err != nil || again.String() != rendered {
		return "", fmt.Errorf("with its values put in, the expression is no longer read as it was written: %s", rendered)
	}
	return rendered, nil
}

func promql() parser.Parser { return parser.NewParser(parser.Options{}) }

var placeholderForm = regexp.MustCompile(`\{\{([^{}\n]*)\}\}`)

// firstMark is the first of the marks' characters, which Unicode leaves to private use.
const firstMark, lastMark = '\uE000', '\uF8FF'

// findMarks finds the placeholders and chooses their marks.
func (t *Template) findMarks() error {
	if i := strings.IndexFunc(t.text, func(r rune) bool { return r >= firstMark && r <= lastMark }); i >= 0 {
		return fmt.Errorf("%s: a character for private use; accepted are all others", t.position(i))
	}
	var marked strings.Builder
	end := 0
	for i, at := range placeholderForm.FindAllStringSubmatchIndex(t.text, -1) {
		m := mark{placeholder: strings.TrimSpace(t.text[at[2]:at[3]]), at: at[0]}
		if m.known() < 0 || i > lastMark-firstMark {
			return fmt.Errorf("%s: %s is no placeholder; accepted are %s", t.position(m.at), t.text[at[0]:at[1]], accepted())
		}
		m.choose(i, at[1]-at[0])
		marked.WriteString(t.text[end:at[0]])
		marked.WriteString(m.text)
		end = at[1]
		t.marks = append(t.marks, m)
	}
	marked.WriteString(t.text[end:])
	t.marked = marked.String()
	return nil
}

// choose makes the n-th mark, of that length in bytes: at least that of {{name}}, or of {{window}}.
func (m *mark) choose(n, length int) {
	if m.placeholder != placeholderWindow {
		first := string(rune(firstMark + n))
		m.text = first + strings.Repeat("_", length-len(first))
		return
	}
	seconds := 987_000_000 + n // some 31 years
	m.window = time.Duration(seconds) * time.Second
	m.text = fmt.Sprintf("%0*ds", length-1, seconds)
}

func (m mark) known() int {
	for i, p := range placeholders {
		if p.name == m.placeholder {
			return i
		}
	}
	return -1
}

func (m mark) value(v Values) string { return placeholders[m.known()].value(v) }

func accepted() string {
	names := make([]string, 0, len(placeholders))
	for _, p := range placeholders {
		names = append(names, "{{"+p.name+"}}")
	}
	return strings.Join(names, ", ")
}

// parse reads the marked text, and reports what is wrong with it in terms of the text that the user wrote.
func (t Template) parse() (parser.Expr, error) {
	expr, err := promql().ParseExpr(t.marked)
	var all parser.ParseErrors
	if err == nil || !errors.As(err, &all) || len(all) == 0 {
		return expr, err
	}
	at := int(all[0].PositionRange.Start)
	for _, m := range t.marks {
		if at >= m.at && at < m.at+len(m.text) {
			return nil, t.misplaced(m)
		}
	}
	cause := all[0].Err.Error()
	for _, m := range t.marks {
		// A cause may quote the mark, or its first character alone.
		written := t.text[m.at : m.at+len(m.text)]
		cause = strings.ReplaceAll(cause, m.text, written)
		if m.window == 0 {
			cause = strings.ReplaceAll(cause, strings.TrimRight(m.text, "_"), written)
		}
	}
	return nil, fmt.Errorf("%s: %s", t.position(at), cause)
}

// misplaced is the error of a placeholder that stands where its value cannot.
func (t Template) misplaced(m mark) error {
	what := "in the value of a label matcher, outside of the escapes, classes and repeats of a regular expression"
	if m.window > 0 {
		what = "where PromQL has a duration, such as [{{window}}]"
	}
	return fmt.Errorf("%s: {{%s}} cannot stand here; accepted is a place %s", t.position(m.at), m.placeholder, what)
}

// position writes an offset as line:column, both from 1, the column in characters.
func (t Template) position(at int) string {
	before := t.text[:max(0, min(at, len(t.text)))]
	line := before[strings.LastIndex(before, "\n")+1:]
	return fmt.Sprintf("%d:%d", 1+strings.Count(before, "\n"), 1+len([]rune(line)))
}

// fill puts the values in the place of the marks. It is an error where a mark is found anywhere but where its value may stand.
func (t Template) fill(expr parser.Expr, v Values) error {
	f := filling{marks: t.marks, values: v, filled: make([]int, len(t.marks))}
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		f.fill(node)
		return nil
	})
	rest := expr.String()
	for i, m := range t.marks {
		if f.filled[i] != 1 || strings.Contains(rest, m.text) {
			return t.misplaced(m)
		}
	}
	return f.err
}

// filling is one pass over a syntax tree.
type filling struct {
	marks  []mark
	values Values
	filled []int
	err    error
}

func (f *filling) fill(node parser.Node) {
	switch n := node.(type) {
	case *parser.VectorSelector:
		f.duration(&n.OriginalOffset)
		for i, m := range n.LabelMatchers {
			n.LabelMatchers[i] = f.matcher(m)
		}
	case *parser.MatrixSelector:
		f.duration(&n.Range)
	case *parser.SubqueryExpr:
		f.duration(&n.Range)
		f.duration(&n.Step)
		f.duration(&n.OriginalOffset)
	}
}

// duration fills a duration that is a mark; an offset may be negative.
func (f *filling) duration(d *time.Duration) {
	for i, m := range f.marks {
		if m.window == 0 || d.Abs() != m.window {
			continue
		}
		f.filled[i]++
		back := *d < 0
		if *d = f.values.Window.Truncate(time.Millisecond); back {
			*d = -*d
		}
		return
	}
}

// matcher fills a matcher's value. The name of the metric is a matcher, too, and is the user's to write.
func (f *filling) matcher(was *match.Matcher) *match.Matcher {
	if was.Name == model.MetricNameLabel {
		return was
	}
	value, literal := was.Value, true
	if was.Type == match.MatchRegexp || was.Type == match.MatchNotRegexp {
		value, literal = literalMarks(was.Value), false
	}
	filled := was.Value
	for i, m := range f.marks {
		if m.window > 0 || !strings.Contains(value, m.text) {
			continue
		}
		f.filled[i] += strings.Count(value, m.text)
		if literal {
			filled = strings.ReplaceAll(filled, m.text, m.value(f.values))
		} else {
			filled = quoteInto(filled, m.text, m.value(f.values))
		}
	}
	is, err := match.NewMatcher(was.Type, was.Name, filled)
	if err != nil {
		f.err = cmp.Or(f.err, fmt.Errorf("label %s: %w", was.Name, err))
		return was
	}
	return is
}

var (
	regexpEscape = regexp.MustCompile(`(?s)\\.`)
	regexpClass  = regexp.MustCompile(`\[\^?\]?(?:\[:\^?\w+:\]|[^\]])*\]`)
	regexpRepeat = regexp.MustCompile(`\{[^{}]*\}`)
)

// literalMarks returns a regular expression without what does not stand for itself: escapes, classes and numbers of repeats. A mark
// in one of those would not stand for its value.
func literalMarks(re string) string {
	if strings.Contains(re, `\Q`) {
		return ""
	}
	for _, part := range []*regexp.Regexp{regexpEscape, regexpClass, regexpRepeat} {
		re = part.ReplaceAllString(re, "")
	}
	return re
}

// quoteInto puts a value into a regular expression as one unit, so that what is repeated after it is all of it.
func quoteInto(re, mark, value string) string {
	before, after, _ := strings.Cut(re, mark)
	quoted := regexp.QuoteMeta(value)
	if after != "" && slices.Contains([]byte("*+?{"), after[0]) {
		quoted = "(?:" + quoted + ")"
	}
	return before + quoted + after
}
