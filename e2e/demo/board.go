package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// row is one service of the live table.
type row struct {
	service, phase, step, weight, observed string
	errors                                 string
	requests, failures                     int
	why                                    string
}

func rowOf(ts *v1alpha1.TrafficShift, requests, failures int) row {
	st := ts.Status
	r := row{
		service: ts.Name, phase: string(st.Phase), step: dash(st.Step), weight: dash(st.Weight), observed: dash(st.ObservedWeight),
		errors: "-", requests: requests, failures: failures, why: st.Message,
	}
	if g := st.State.Gate; g.Candidate.Requests > 0 {
		r.errors = percent(g.Stable) + " / " + percent(g.Candidate)
	}
	return r
}

func percent(c v1alpha1.Counts) string {
	if c.Requests == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", 100*float64(c.Errors)/float64(c.Requests))
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// board shows the table: redrawn in place on a terminal, and as plain lines where something has changed otherwise.
type board struct {
	out   io.Writer
	plain bool
	began time.Time

	mu    sync.Mutex
	drawn int
	said  map[string]string
}

func newBoard(out io.Writer, plain bool, began time.Time) *board {
	return &board{out: out, plain: plain, began: began, said: map[string]string{}}
}

const header = "SERVICE\tPHASE\tSTEP\tWEIGHT\tOBSERVED\tERRORS STABLE/CANDIDATE\tREQUESTS\tFAILURES\tWHY"

func (r row) String() string {
	return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s", r.service, r.phase, r.step, r.weight, r.observed, r.errors, r.requests, r.failures, r.why)
}

// tell prints a line that stays.
func (b *board) tell(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.erase()
	_, _ = fmt.Fprintf(b.out, "%6s  %s\n", clock(time.Since(b.began)), line)
}

func (b *board) draw(rows []row) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.plain {
		b.print(rows)
		return
	}
	b.erase()
	table := render(rows)
	_, _ = io.WriteString(b.out, table)
	b.drawn = strings.Count(table, "\n")
}

// print writes the rows whose phase, step, weight or reason is new.
func (b *board) print(rows []row) {
	for _, r := range rows {
		key := strings.Join([]string{r.phase, r.step, r.weight, words(r.why)}, "|")
		if b.said[r.service] == key {
			continue
		}
		b.said[r.service] = key
		_, _ = fmt.Fprintf(b.out, "%6s  %-19s %-11s step %-4s weight %-5s observed %-6s errors %-13s requests %-6d failures %-3d %s\n",
			clock(time.Since(b.began)), r.service, r.phase, r.step, r.weight, r.observed, r.errors, r.requests, r.failures, r.why)
	}
}

// words drops what ticks from a sentence, so that a count going up is no news.
func words(s string) string {
	return strings.Map(func(c rune) rune {
		if c >= '0' && c <= '9' || c == '.' {
			return -1
		}
		return c
	}, s)
}

// erase takes the table away again: up, and clear to the end.
func (b *board) erase() {
	if b.drawn > 0 {
		_, _ = fmt.Fprintf(b.out, "\x1b[%dA\x1b[J", b.drawn)
		b.drawn = 0
	}
}

// close leaves the last table standing.
func (b *board) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drawn = 0
}

// render lines the table up and cuts it to a terminal's usual width, so that a row never wraps: erase counts lines.
func render(rows []row) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, header)
	for _, r := range rows {
		_, _ = fmt.Fprintln(w, r)
	}
	_ = w.Flush() // a strings.Builder takes everything
	lines := strings.SplitAfter(text.String(), "\n")
	for i, line := range lines {
		if r := []rune(line); len(r) > width {
			lines[i] = string(r[:width-1]) + "…\n"
		}
	}
	return strings.Join(lines, "")
}

const width = 160
