package view

import (
	"cmp"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// Style is how text is written.
type Style struct {
	// Colour is for terminals.
	Colour bool
	// Command is what the reader types before a verb, such as "kubectl sluice".
	Command string
}

// shownReleases is how much of the history a screen has.
const shownReleases = 3

const stamp = time.DateTime

var (
	marks   = map[Mood]string{Well: "✔", Moving: "◌", Waiting: "॥", Trouble: "✖"}
	colours = map[Mood]string{Well: "32", Moving: "36", Waiting: "33", Trouble: "31"}
)

// Screen is all that is to be known of a shift, on one screen.
func (s Shift) Screen(st Style) string {
	var b strings.Builder
	line := func(key, text string) {
		if text != "" {
			fmt.Fprintf(&b, "%-11s %s\n", key+":", Clean(text))
		}
	}
	line("Name", s.Name)
	line("Namespace", s.Namespace)
	fmt.Fprintf(&b, "%-11s %s\n", "Phase:", st.paint(s.Mood, Clean(marks[s.Mood]+" "+s.phase())))
	line("Why", s.Why)
	line("Until", s.until())
	line("Strategy", s.Strategy)
	line("Step", s.Step)
	line("Weight", s.weight())
	for _, n := range s.Notes {
		line("Note", n)
	}
	line("Do", s.commands(st.Command))
	st.table(&b, "\n", s.versionRows())
	st.table(&b, "\n", s.gateRows())
	st.table(&b, "\n", releaseRows(s.History[:min(len(s.History), shownReleases)]))
	return b.String()
}

// Past is what became of every release, and of every request.
func (s Shift) Past(st Style) string {
	if len(s.History) == 0 && len(s.Asked) == 0 {
		return fmt.Sprintf("%s has no release behind it yet.\n", s.Name)
	}
	var b strings.Builder
	before := ""
	if len(s.History) > 0 {
		st.table(&b, "", releaseRows(s.History))
		before = "\n"
	}
	rows := make([][]cell, 0, 1+len(s.Asked))
	rows = append(rows, header("ASKED", "RESULT", "BY", "AT", "MESSAGE"))
	for _, a := range s.Asked {
		result := cell{text: string(a.Result), mood: Well}
		if a.Result == v1alpha1.ResultRefused {
			result.mood = Trouble
		}
		rows = append(rows, []cell{{text: asked(a)}, result, {text: a.By}, {text: a.At.In(s.Now.Location()).Format(stamp)}, {text: a.Message}})
	}
	st.table(&b, before, rows)
	return b.String()
}

// asked is a request as it was written.
func asked(a v1alpha1.ActionRecord) string {
	if a.Action == v1alpha1.ActionPause || a.Action == v1alpha1.ActionResume {
		return string(a.Action)
	}
	return strings.TrimSpace(string(a.Action) + " " + a.Value)
}

// List is a line for each shift. Namespaces has a column for theirs.
func List(shifts []Shift, st Style, namespaces, headers bool) string {
	columns := []string{"NAME", "PHASE", "STEP", "WEIGHT", "OBSERVED", "STABLE", "CANDIDATE", "AGE", "WHY"}
	if namespaces {
		columns = append([]string{"NAMESPACE"}, columns...)
	}
	var rows [][]cell
	if headers {
		rows = append(rows, header(columns...))
	}
	for _, s := range shifts {
		row := []cell{
			{text: s.Name}, {text: marks[s.Mood] + " " + s.Phase, mood: s.Mood}, {text: s.Step}, {text: s.Weight}, {text: s.Observed}, {text: s.Stable}, {text: s.Candidate},
			{text: age(s.Now.Sub(s.Created))}, {text: s.Why},
		}
		if namespaces {
			row = append([]cell{{text: s.Namespace}}, row...)
		}
		rows = append(rows, row)
	}
	var b strings.Builder
	st.columns(&b, rows)
	return b.String()
}

func (s Shift) phase() string {
	if s.Stage == "" {
		return s.Phase
	}
	return s.Phase + ", " + s.Stage
}

func (s Shift) weight() string {
	if s.Weight == "" || s.Observed == "" {
		return s.Weight
	}
	return fmt.Sprintf("%s, observed %s", s.Weight, s.Observed)
}

// until says when, and how long that is from now.
func (s Shift) until() string {
	if s.Until == nil {
		return ""
	}
	text := s.Until.Format("15:04:05")
	if s.Until.Format(time.DateOnly) != s.Now.Format(time.DateOnly) {
		text = s.Until.Format(stamp)
	}
	if left := s.Until.Sub(s.Now); left > 0 {
		text += " (in " + duration.HumanDuration(left) + ")"
	}
	if s.Then != "" {
		text += ", " + s.Then
	}
	return text
}

func (s Shift) commands(command string) string {
	if command == "" {
		return ""
	}
	typed := make([]string, 0, len(s.Actions))
	for _, a := range s.Actions {
		verb, flags, _ := strings.Cut(a, " ")
		typed = append(typed, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", command, verb, s.Name, flags)))
	}
	return strings.Join(typed, ", or ")
}

func (s Shift) versionRows() [][]cell {
	rows := [][]cell{header("VERSION", "ROLE", "WEIGHT", "OBSERVED", "PODS", "IMAGES")}
	for _, v := range s.Versions {
		rows = append(rows, []cell{{text: v.Name}, {text: v.Role}, {text: v.Weight}, {text: v.Observed}, {text: v.Pods}, {text: strings.Join(v.Images, ", ")}})
	}
	return rows
}

func (s Shift) gateRows() [][]cell {
	moods := map[v1alpha1.Verdict]Mood{v1alpha1.VerdictPass: Well, v1alpha1.VerdictInconclusive: Waiting, v1alpha1.VerdictFail: Trouble}
	rows := [][]cell{header("GATE", "VALUE", "LIMIT", "VERDICT", "WHY")}
	for _, g := range s.Gates {
		verdict := cell{text: string(g.Verdict), mood: moods[g.Verdict]}
		if g.DryRun {
			verdict.text += " (dry run)"
		}
		rows = append(rows, []cell{{text: g.Name}, {text: g.Value}, {text: g.Limit}, verdict, {text: g.Message}})
	}
	return rows
}

func releaseRows(releases []Release) [][]cell {
	rows := [][]cell{header("RELEASE", "OUTCOME", "REACHED", "BY", "AT", "IMAGES", "WHY")}
	for _, r := range releases {
		outcome := cell{text: r.Outcome, mood: Trouble}
		switch r.Outcome {
		case "":
		case v1alpha1.ReasonPromoted:
			outcome.mood = Well
		case v1alpha1.ReasonCancelled, v1alpha1.ReasonSuperseded, v1alpha1.ReasonDetaching:
			outcome.mood = Waiting
		}
		at := ""
		if !r.At.IsZero() {
			at = r.At.Format(stamp)
		}
		rows = append(rows, []cell{{text: r.Version}, outcome, {text: r.Weight}, {text: r.By}, {text: at}, {text: strings.Join(r.Images, ", ")}, {text: r.Message}})
	}
	return rows
}

// cell is a text, coloured by its mood where it has one.
type cell struct {
	text string
	mood Mood
}

func header(names ...string) []cell {
	cells := make([]cell, 0, len(names))
	for _, n := range names {
		cells = append(cells, cell{text: n})
	}
	return cells
}

// table writes rows below a header, and nothing where there is only that. Before comes before it.
func (st Style) table(b *strings.Builder, before string, rows [][]cell) {
	if len(rows) > 1 {
		b.WriteString(before)
		st.columns(b, rows)
	}
}

// columns aligns rows. A cell without text is a dash, and the last column ends where its text does.
func (st Style) columns(b *strings.Builder, rows [][]cell) {
	var widths []int
	for _, row := range rows {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(shown(c)))
		}
	}
	for _, row := range rows {
		for i, c := range row {
			text := shown(c)
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text)+3)
			if i == len(row)-1 {
				pad = ""
			}
			b.WriteString(st.paint(c.mood, text) + pad)
		}
		b.WriteString("\n")
	}
}

func shown(c cell) string { return cmp.Or(Clean(c.text), "-") }

// paint colours a text.
func (st Style) paint(m Mood, text string) string {
	if !st.Colour || colours[m] == "" || text == "-" {
		return text
	}
	return "\x1b[" + colours[m] + "m" + text + "\x1b[0m"
}

// Clean keeps a text to one line, and takes out what would steer a terminal, turn the text around or not be seen: messages quote webhooks and
// pods.
func Clean(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r):
			return ' '
		case unicode.Is(unicode.Cf, r):
			return -1
		}
		return r
	}, text)
	return strings.Join(strings.Fields(text), " ")
}

func age(d time.Duration) string { return duration.HumanDuration(max(d, 0)) }
