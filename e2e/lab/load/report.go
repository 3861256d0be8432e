package load

import (
	"context"
	"fmt"
	"time"
)

// Mark begins a new phase: requests that begin from now on belong to it. A name may be marked again.
func (s *Source) Mark(name string) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.log.report.Phases = append(s.log.report.Phases, Phase{Name: name, Began: time.Now(), Counts: newCounts()})
}

// Report is everything so far.
func (s *Source) Report() Report {
	r, _ := s.log.copy()
	return r
}

// Phase counts what began in all phases of a name.
func (s *Source) Phase(name string) Counts {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	total := newCounts()
	for _, p := range s.log.report.Phases {
		if p.Name == name {
			total.merge(p.Counts)
		}
	}
	return total
}

// Last counts what began in the last d, rounded up to whole seconds of the source's own clock, the current one included.
func (s *Source) Last(d time.Duration) Counts {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	from := int((time.Since(s.log.report.Started) - d) / time.Second)
	if time.Since(s.log.report.Started) < d {
		from = 0
	}
	total := newCounts()
	for i := len(s.log.seconds) - 1; i >= 0 && s.log.seconds[i].index >= from; i-- {
		total.merge(s.log.seconds[i].Counts)
	}
	return total
}

// Failures are those that ended in [from, to); a zero time leaves that side open.
func (s *Source) Failures(from, to time.Time) []Failure {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	var within []Failure
	for _, f := range s.log.report.Failures {
		if (from.IsZero() || !f.Ended.Before(from)) && (to.IsZero() || f.Ended.Before(to)) {
			within = append(within, f)
		}
	}
	return within
}

// FirstBad is when a bad answer of the version was first seen; "" is for those that name none.
func (s *Source) FirstBad(version string) (time.Time, bool) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	t, ok := s.log.firstBad[version]
	return t, ok
}

// LastAnswer is when the version last answered anything.
func (s *Source) LastAnswer(version string) (time.Time, bool) {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	t, ok := s.log.lastAnswer[version]
	return t, ok
}

// WaitFor returns when cond holds. It looks after each answer, and gives up when ctx or the source ends.
func (s *Source) WaitFor(ctx context.Context, cond func(Report) bool) error {
	for {
		r, changed := s.log.copy()
		if cond(r) {
			return nil
		}
		if !r.Ended.IsZero() {
			return fmt.Errorf("load on %q: it ended after %d requests (%d failed) and the condition does not hold", s.cfg.URL, r.Total, r.Failed)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("load on %q: wait for a condition after %d requests (%d failed): %w", s.cfg.URL, r.Total, r.Failed, context.Cause(ctx))
		}
	}
}
