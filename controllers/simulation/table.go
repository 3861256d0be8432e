package simulation

import (
	"cmp"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// The seed and the replications of the table in docs/gates-benchmark.md.
const (
	PinnedSeed = 1
	PinnedReps = 100
)

// Options say what to run.
type Options struct {
	// Seed is what every draw follows from; Reps is how often each cell is run.
	Seed uint64
	Reps int
	// Only, where set, picks cells by "SCENARIO @ N rps POLICY".
	Only *regexp.Regexp
}

// Table is what came of every cell.
type Table struct {
	Options   Options
	Scenarios []Scenario
	Policies  []Policy
	// Cells has a row for each scenario and a column for each policy; one that was not asked for is nil.
	Cells [][]*Cell
}

// Cell sums up the replications of one scenario under one policy.
type Cell struct {
	// RolledBack and Promoted are shares; the rest was undecided after an hour.
	RolledBack, Promoted float64
	// Seconds is the median time to the decision that more replications came to; it is negative where none came to any.
	Seconds int
	// Leaked and Hour are means: see Result.
	Leaked, Hour float64
}

// Run runs the cells that the options pick. It takes all processors, and their number changes nothing.
func Run(o Options) (Table, error) {
	t := Table{Options: o, Scenarios: Scenarios(), Policies: Policies()}
	t.pick()
	var jobs []func() error
	for i, s := range t.Scenarios {
		for j, p := range t.Policies {
			if cell := t.Cells[i][j]; cell != nil {
				jobs = append(jobs, func() (err error) { *cell, err = Measure(s, p, o.Seed, o.Reps); return err })
			}
		}
	}
	return t, inParallel(jobs)
}

// pick makes the cells that are asked for, and drops rows and columns without any.
func (t *Table) pick() {
	asked := func(s Scenario, p Policy) bool {
		return t.Options.Only == nil || t.Options.Only.MatchString(s.String()+" "+p.Name)
	}
	t.Scenarios = slices.DeleteFunc(t.Scenarios, func(s Scenario) bool {
		return !slices.ContainsFunc(t.Policies, func(p Policy) bool { return asked(s, p) })
	})
	t.Policies = slices.DeleteFunc(t.Policies, func(p Policy) bool {
		return !slices.ContainsFunc(t.Scenarios, func(s Scenario) bool { return asked(s, p) })
	})
	for _, s := range t.Scenarios {
		row := make([]*Cell, len(t.Policies))
		for j, p := range t.Policies {
			if asked(s, p) {
				row[j] = &Cell{}
			}
		}
		t.Cells = append(t.Cells, row)
	}
}

// inParallel runs jobs on every processor and returns the error of the first job, in their order, that had one.
func inParallel(jobs []func() error) error {
	errs := make([]error, len(jobs))
	var next atomic.Int64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for i := next.Add(1) - 1; int(i) < len(jobs); i = next.Add(1) - 1 {
				errs[i] = jobs[i]()
			}
		})
	}
	workers.Wait()
	return cmp.Or(errs...)
}

// Measure runs the replications of one cell.
func Measure(s Scenario, p Policy, seed uint64, reps int) (Cell, error) {
	results := make([]Result, 0, reps)
	for r := range reps {
		result, err := p.Release(s, seed, r)
		if err != nil {
			return Cell{}, fmt.Errorf("%s: replication %d: %w", p.Name, r, err)
		}
		results = append(results, result)
	}
	return sumUp(results), nil
}

func sumUp(results []Result) Cell {
	c := Cell{Seconds: -1}
	seconds := map[Decision][]int{}
	for _, r := range results {
		seconds[r.Decision] = append(seconds[r.Decision], r.Seconds)
		c.Leaked += r.Leaked
		c.Hour += r.Hour
	}
	n := float64(len(results))
	c.Leaked, c.Hour = c.Leaked/n, c.Hour/n
	c.RolledBack, c.Promoted = float64(len(seconds[RolledBack]))/n, float64(len(seconds[Promoted]))/n
	majority := seconds[RolledBack]
	if c.Promoted > c.RolledBack {
		majority = seconds[Promoted]
	}
	if len(majority) > 0 {
		slices.Sort(majority)
		c.Seconds = majority[len(majority)/2]
	}
	return c
}

// Render writes the table in Markdown, with a caption that says how to make it again.
func (t Table) Render() string {
	var b strings.Builder
	b.WriteString("| scenario | rps |")
	for _, p := range t.Policies {
		fmt.Fprintf(&b, " %s |", p.Name)
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---|", len(t.Policies)) + "\n")
	for i, s := range t.Scenarios {
		fmt.Fprintf(&b, "| %s | %g |", s.Name, s.RPS)
		for _, c := range t.Cells[i] {
			fmt.Fprintf(&b, " %s |", c)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "\n`rb`, `pr`: rolled back and promoted, in percent of %d replications (the rest was undecided after an hour). Then the median time from the\n"+
		"first weight to the decision that more of them came to. `L`, `H`: mean requests that the candidate failed beyond what stable would have failed,\n"+
		"until the decision had reached the mesh, and within the hour. `make bench-gates SEED=%d REPS=%d` prints this again.\n", t.Options.Reps, t.Options.Seed, t.Options.Reps)
	return b.String()
}

// String is how a cell reads: "rb 100 pr 0 · 30 s · L 38 · H 38".
func (c *Cell) String() string {
	if c == nil {
		return ""
	}
	seconds := "–"
	if c.Seconds >= 0 {
		seconds = thousands(int64(c.Seconds)) + " s"
	}
	return fmt.Sprintf("rb %s pr %s · %s · L %s · H %s", percent(c.RolledBack), percent(c.Promoted), seconds, requests(c.Leaked), requests(c.Hour))
}

// percent is a share in percent; what is not quite all, or not quite nothing, does not read as if it were.
func percent(share float64) string {
	p, decimals := 100*share, 0
	if p > 0 && p < 1 || p > 99 && p < 100 {
		decimals = 1
	}
	switch {
	case p > 0 && p < 0.05:
		return "<0.1"
	case p > 99.95 && p < 100:
		return ">99.9"
	}
	return strconv.FormatFloat(p, 'f', decimals, 64)
}

// requests are a mean number of them, with a decimal where they are few.
func requests(n float64) string {
	if n >= 9.95 {
		return thousands(int64(n + 0.5))
	}
	return strconv.FormatFloat(n, 'f', 1, 64)
}

// thousands separates them.
func thousands(n int64) string {
	if n < 1000 {
		return strconv.FormatInt(n, 10)
	}
	return thousands(n/1000) + fmt.Sprintf(",%03d", n%1000)
}
