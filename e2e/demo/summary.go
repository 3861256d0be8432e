package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/sluice-dev/sluice/e2e/lab/load"
)

// badVersion is the one image that may be seen failing.
const badVersion = "v3-users"

// summary prints what was seen, and returns what was not as promised.
func (d *demo) summary(out io.Writer) error {
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format, args...) }
	p("\nWeights over time\n")
	for _, name := range names {
		p("  %-19s %s\n", name, d.timeline(d.services[name]))
	}
	p("\nWhat clients saw\n")
	var problems []error
	for _, name := range names {
		s := d.services[name]
		for _, kind := range []string{"in the mesh", "at the gateway"} {
			if c, ok := s.clients[kind]; ok {
				p("  %-19s %-15s %s\n", name, kind, phases(c.Report()))
			}
		}
		problems = append(problems, d.check(s)...)
	}
	p("\n%s\n", d.reaction())
	if len(problems) > 0 {
		p("\nNot as promised\n")
		for _, err := range problems {
			p("  %v\n", err)
		}
		return errors.New("the demo did not go as promised")
	}
	p("\nAs promised: micro-api promoted, kubia v3 refused before any user met it, v3-users rolled back, v4 promoted;\n" +
		"no client saw a failure that the bad image did not produce.\n")
	return nil
}

func (d *demo) timeline(s *service) string {
	parts := make([]string, 0, len(s.weights))
	for _, w := range s.weights {
		parts = append(parts, fmt.Sprintf("%s %s %s", clock(w.at.Sub(d.board.began)), w.version, w.weight))
	}
	return strings.Join(parts, " → ")
}

// phases counts what a client saw in each of them.
func phases(r load.Report) string {
	parts := make([]string, 0, len(r.Phases))
	for _, phase := range r.Phases {
		if phase.Total > 0 {
			parts = append(parts, fmt.Sprintf("%s: %d failed of %d", phase.Name, phase.Failed, phase.Total))
		}
	}
	return strings.Join(parts, "; ")
}

// check holds what was seen to what was promised.
func (d *demo) check(s *service) []error {
	var problems []error
	for _, a := range s.acts {
		switch {
		case a.outcome == nil:
			problems = append(problems, fmt.Errorf("%s never came to its end", a.title))
		case !slices.Contains(a.reasons, a.outcome.Reason):
			problems = append(problems, fmt.Errorf("%s ended as %s; promised: %s", a.title, a.outcome.Reason, strings.Join(a.reasons, " or ")))
		}
	}
	for kind, c := range s.clients {
		r := c.Report()
		for _, f := range r.Failures {
			if f.Version != badVersion {
				problems = append(problems, fmt.Errorf("%s %s saw a failure of %q: status %d %s", s.name, kind, f.Version, f.Status, f.Err))
			}
		}
		if bad := r.Answers["v3"]; len(bad) > 0 {
			problems = append(problems, fmt.Errorf("%s %s met kubia v3, which should have been refused before: %v", s.name, kind, bad))
		}
		if r.Skipped > 0 || r.FailuresDropped > 0 {
			problems = append(problems, fmt.Errorf("%s %s: %d requests were not sent in time, %d failures not kept", s.name, kind, r.Skipped, r.FailuresDropped))
		}
	}
	return problems
}

// reaction tells how long the bad image was in front of users.
func (d *demo) reaction() string {
	s := d.services[kubia]
	var first, last time.Time
	failed := 0
	for _, c := range s.clients {
		if at, ok := c.FirstBad(badVersion); ok && (first.IsZero() || at.Before(first)) {
			first = at
		}
		if at, ok := c.LastAnswer(badVersion); ok && at.After(last) {
			last = at
		}
		for status, n := range c.Report().Answers[badVersion] {
			if status >= 500 {
				failed += n
			}
		}
	}
	if first.IsZero() {
		return "kubia v3-users: no client saw a bad answer"
	}
	for _, w := range s.weights {
		if w.at.After(first) && (w.version != "v3" || w.weight == "0%") { // the next version may have begun in the same moment
			return fmt.Sprintf("kubia v3-users: weight 0 in %.1f s after its first bad answer, last answer after %.1f s, %d bad answers in all",
				w.at.Sub(first).Seconds(), last.Sub(first).Seconds(), failed)
		}
	}
	return fmt.Sprintf("kubia v3-users: never back at weight 0 after its first bad answer; %d bad answers", failed)
}
