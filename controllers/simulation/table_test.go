package simulation

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the tables in README.md and docs; commit only a difference that you can explain")

// The marks between which a document holds the table, or some of its rows and columns.
const (
	begin = "<!-- bench-gates -->\n"
	end   = "<!-- /bench-gates -->\n"
)

// TestTheDocumentsQuoteTheTable runs `make bench-gates` and holds the documents to what it prints.
func TestTheDocumentsQuoteTheTable(t *testing.T) {
	if testing.Short() {
		t.Skip("the whole table takes about half a minute of processor time")
	}
	table, err := Run(Options{Seed: PinnedSeed, Reps: PinnedReps})
	if err != nil {
		t.Fatal(err)
	}
	whole := func(string) (string, error) { return table.Render(), nil }
	hold(t, filepath.Join("docs", "gates-benchmark.md"), true, whole)
	hold(t, "README.md", false, table.quote)
}

// hold compares what stands between the marks with what should.
func hold(t *testing.T, document string, must bool, rewrite func(string) (string, error)) {
	t.Helper()
	path := filepath.Join("..", "..", document)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(raw), begin)
	quoted, after, closed := strings.Cut(rest, end)
	switch {
	case !found && !must:
		return
	case !found || !closed:
		t.Fatalf("%s has no table between %q and %q", document, begin, end)
	}
	want, err := rewrite(quoted)
	if err != nil {
		t.Fatalf("%s: %v", document, err)
	}
	if *update {
		if err := os.WriteFile(path, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(quoted, "\n")); diff != "" {
		t.Errorf("%s does not quote what `make bench-gates` prints (-printed +quoted); go test ./controllers/simulation -update rewrites it:\n%s", document, diff)
	}
}

// quote fills in a table of some of the rows and columns: its header names policies after "scenario" and "rps", its rows begin with a
// scenario and its rate. What is no row of a table stays.
func (t Table) quote(block string) (string, error) {
	var columns []string
	lines := strings.Split(block, "\n")
	for i, line := range lines {
		fields := strings.Split(strings.Trim(line, "| "), "|")
		for j := range fields {
			fields[j] = strings.TrimSpace(fields[j])
		}
		switch {
		case !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---"):
		case len(fields) < 2:
			return "", fmt.Errorf("%q has no scenario and rate", line)
		case columns == nil:
			columns = fields[2:]
		default:
			row := fmt.Sprintf("| %s | %s |", fields[0], fields[1])
			for _, name := range columns {
				cell, err := t.cell(fields[0]+" @ "+fields[1]+" rps", name)
				if err != nil {
					return "", err
				}
				row += fmt.Sprintf(" %s |", cell)
			}
			lines[i] = row
		}
	}
	return strings.Join(lines, "\n"), nil
}

func (t Table) cell(scenario, policy string) (*Cell, error) {
	for i, s := range t.Scenarios {
		for j, p := range t.Policies {
			if s.String() == scenario && p.Name == policy {
				return t.Cells[i][j], nil
			}
		}
	}
	return nil, fmt.Errorf("the table has no cell %q of %q", scenario, policy)
}

func TestTheNumberOfProcessorsChangesNothing(t *testing.T) {
	render := func(processors int) string {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(processors))
		table, err := Run(Options{Seed: 3, Reps: 4, Only: regexp.MustCompile("(10|100) rps")})
		if err != nil {
			t.Fatal(err)
		}
		return table.Render()
	}
	if diff := cmp.Diff(render(1), render(4)); diff != "" {
		t.Errorf("(-one processor +four):\n%s", diff)
	}
}

func TestOnlyWhatWasAskedForRuns(t *testing.T) {
	table, err := Run(Options{Seed: 1, Reps: 1, Only: regexp.MustCompile(`^good candidate \(.* 100 rps flagger-99$`)})
	if err != nil {
		t.Fatal(err)
	}
	want := "| scenario | rps | flagger-99 |\n|---|---|---|\n| good candidate (0.1%, as stable) | 100 | rb 0 pr 100 · 300 s · L 0.0 · H 0.0 |\n"
	if got := table.Render(); !strings.HasPrefix(got, want) {
		t.Errorf("got\n%s\nwant it to begin with\n%s", got, want)
	}
}

func TestNamesOfRowsAndColumnsAreTheirOwn(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range Scenarios() {
		for _, p := range Policies() {
			name := s.String() + " " + p.Name
			if seen[name] {
				t.Errorf("%q is there twice", name)
			}
			seen[name] = true
		}
	}
}

func TestACellSaysWhatItMeans(t *testing.T) {
	for _, tt := range []struct {
		reason  string
		results []Result
		want    string
	}{
		{"Nothing was decided.", []Result{{Undecided, Horizon, 3, 3}}, "rb 0 pr 0 · – · L 3.0 · H 3.0"},
		{"The median is that of the more frequent decision.",
			[]Result{{RolledBack, 30, 10, 10}, {RolledBack, 45, 20, 20}, {RolledBack, 60, 30, 30}, {Promoted, 600, 40, 4000}},
			"rb 75 pr 25 · 45 s · L 25 · H 1,015"},
		{"Thousands are set apart.", []Result{{Promoted, 2400, 4787, 1234567}}, "rb 0 pr 100 · 2,400 s · L 4,787 · H 1,234,567"},
		{"One of many does not read as none.", append(make([]Result, 299), Result{RolledBack, 15, 0, 0}), "rb 0.3 pr 0 · 15 s · L 0.0 · H 0.0"},
		{"Nor does one of very many.", append(make([]Result, 2999), Result{RolledBack, 15, 0, 0}), "rb <0.1 pr 0 · 15 s · L 0.0 · H 0.0"},
	} {
		c := sumUp(tt.results)
		if got := c.String(); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.reason, got, tt.want)
		}
	}
}

func TestQuotingFillsInTheCellsThatAreNamed(t *testing.T) {
	table := Table{
		Scenarios: []Scenario{{Name: "a", RPS: 10}, {Name: "b", RPS: 100}}, Policies: []Policy{{Name: "x"}, {Name: "y"}},
		Cells: [][]*Cell{{{Seconds: 1}, {Seconds: 2}}, {{Seconds: 3}, {Seconds: 4}}},
	}
	got, err := table.quote("Words.\n\n| scenario | rps | y |\n|---|---|---|\n| b | 100 | old |\n| a | 10 |\n")
	if err != nil {
		t.Fatal(err)
	}
	want := "Words.\n\n| scenario | rps | y |\n|---|---|---|\n| b | 100 | rb 0 pr 0 · 4 s · L 0.0 · H 0.0 |\n| a | 10 | rb 0 pr 0 · 2 s · L 0.0 · H 0.0 |\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := table.quote("| scenario | rps | z |\n| a | 10 |\n"); err == nil {
		t.Error("a column that the table does not have is quoted")
	}
}
