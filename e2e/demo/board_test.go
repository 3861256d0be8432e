package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

var rows = []row{
	{"micro-api", "Progressing", "2/4", "30%", "29.8%", "0.0% / 0.0%", 2240, 0, "v2 holds 30% for 10s; 0 of 57 requests failed (0.00%), stable 0.00%, " + strings.Repeat("and so on ", 20)},
	{"kubia-deploy-canary", "Failed", "-", "-", "-", "-", 1358, 3, "v2 was refused"},
}

// A row that wrapped would leave its second half behind when the table is drawn over.
func TestTableNeverWraps(t *testing.T) {
	lines := strings.Split(strings.TrimSuffix(render(rows), "\n"), "\n")
	if len(lines) != len(rows)+1 {
		t.Fatalf("%d lines for %d rows and a header", len(lines), len(rows))
	}
	for _, line := range lines {
		if n := len([]rune(line)); n > width {
			t.Errorf("a line of %d characters; a terminal has %d: %q", n, width, line)
		}
	}
	if !strings.HasSuffix(lines[1], "…") {
		t.Errorf("a line that was cut does not show it: %q", lines[1])
	}
}

func TestTableIsDrawnInPlaceAndLinesStay(t *testing.T) {
	var out bytes.Buffer
	b := newBoard(&out, false, time.Now())
	b.draw(rows)
	b.draw(rows)
	if got := strings.Count(out.String(), "\x1b[3A\x1b[J"); got != 1 {
		t.Errorf("the second drawing goes up and clears %d times; want once, by three lines", got)
	}
	b.tell("kubectl set image")
	b.close()
	b.tell("the end")
	if got := strings.Count(out.String(), "\x1b["); got != 4 {
		t.Errorf("%d movements; a line goes above the table, and after the end nothing moves", got/2)
	}
}

func TestPlainLinesSayOnlyWhatIsNew(t *testing.T) {
	var out bytes.Buffer
	b := newBoard(&out, true, time.Now())
	b.draw(rows)
	ticked := append([]row{}, rows...)
	ticked[0].requests, ticked[0].why = 2400, strings.Replace(rows[0].why, "57", "58", 1)
	b.draw(ticked)
	if got := strings.Count(out.String(), "\n"); got != 2 {
		t.Errorf("%d lines; a count that goes up is no news", got)
	}
	ticked[0].weight = "70%"
	b.draw(ticked)
	if got := strings.Count(out.String(), "\n"); got != 3 {
		t.Errorf("%d lines; a new weight is", got)
	}
}
