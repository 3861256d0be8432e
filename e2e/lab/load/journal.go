package load

import (
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Bounds of what a source remembers.
const (
	maxFailures = 10_000
	maxSeconds  = 3 * 60 * 60
)

// Counts are answers as the client saw them.
type Counts struct {
	Total, Failed int
	// ByVersion counts answers by the version they name; "" is a proxy's own answer, or none.
	ByVersion map[string]int
	// ByStatus counts answers by status; 0 is no answer, or one that broke off.
	ByStatus map[int]int
	// Answers counts by version, then status.
	Answers map[string]map[int]int
}

// Share is the part of the answers naming a version that name this one; 0 if none does.
func (c Counts) Share(version string) float64 {
	named := c.Total - c.ByVersion[""]
	if named == 0 {
		return 0
	}
	return float64(c.ByVersion[version]) / float64(named)
}

func newCounts() Counts {
	return Counts{ByVersion: map[string]int{}, ByStatus: map[int]int{}, Answers: map[string]map[int]int{}}
}

func (c *Counts) add(version string, status, n int) {
	c.Total += n
	if bad(status) {
		c.Failed += n
	}
	c.ByVersion[version] += n
	c.ByStatus[status] += n
	if c.Answers[version] == nil {
		c.Answers[version] = map[int]int{}
	}
	c.Answers[version][status] += n
}

func (c *Counts) merge(o Counts) {
	for version, byStatus := range o.Answers {
		for status, n := range byStatus {
			c.add(version, status, n)
		}
	}
}

func (c Counts) clone() Counts {
	copied := newCounts()
	copied.merge(c)
	return copied
}

// Failure is one bad answer, or none.
type Failure struct {
	Began, Ended time.Time
	Version      string
	// Status is 0 where there was no whole answer, and Err says why.
	Status int
	Err    string
	// Said is how the answer begins: a proxy says in it what it could not do.
	Said string
}

// Phase is what began between two marks.
type Phase struct {
	Name  string
	Began time.Time
	Counts
}

// Report is a copy of what a source knows.
type Report struct {
	Counts
	// Phases are in the order of their marks; the first is "start".
	Phases []Phase
	// Failures are in the order in which they ended. The first ten thousand are kept, the others counted.
	Failures        []Failure
	FailuresDropped int
	// Skipped counts ticks that found no room.
	Skipped int
	Started time.Time
	// Ended is zero while the source runs.
	Ended time.Time
}

// outcome is one request that ended.
type outcome struct {
	began, ended time.Time
	version      string
	status       int
	err          error
	said         string
}

// bad is what a client calls a failure.
func bad(status int) bool { return status == 0 || status >= http.StatusInternalServerError }

// second is what began in one second after the start.
type second struct {
	index int
	Counts
}

type journal struct {
	mu         sync.Mutex
	report     Report
	seconds    []second // ascending by index
	firstBad   map[string]time.Time
	lastAnswer map[string]time.Time
	changed    chan struct{}
}

func newJournal(now time.Time) *journal {
	return &journal{
		report:   Report{Counts: newCounts(), Started: now, Phases: []Phase{{Name: "start", Began: now, Counts: newCounts()}}},
		firstBad: map[string]time.Time{}, lastAnswer: map[string]time.Time{}, changed: make(chan struct{}),
	}
}

func (j *journal) add(o outcome) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.report.add(o.version, o.status, 1)
	j.phaseAt(o.began).add(o.version, o.status, 1)
	if s := j.secondAt(o.began); s != nil {
		s.add(o.version, o.status, 1)
	}
	if o.status != 0 && o.ended.After(j.lastAnswer[o.version]) {
		j.lastAnswer[o.version] = o.ended
	}
	if bad(o.status) {
		j.addFailure(o)
	}
	j.wake()
}

func (j *journal) addFailure(o outcome) {
	if first, ok := j.firstBad[o.version]; !ok || o.ended.Before(first) {
		j.firstBad[o.version] = o.ended
	}
	if len(j.report.Failures) >= maxFailures {
		j.report.FailuresDropped++
		return
	}
	f := Failure{Began: o.began, Ended: o.ended, Version: o.version, Status: o.status, Said: o.said}
	if o.err != nil {
		f.Err = o.err.Error()
	}
	j.report.Failures = append(j.report.Failures, f)
}

// phaseAt finds the phase in which a request began, which may not be the newest.
func (j *journal) phaseAt(t time.Time) *Phase {
	for i := len(j.report.Phases) - 1; i > 0; i-- {
		if !t.Before(j.report.Phases[i].Began) {
			return &j.report.Phases[i]
		}
	}
	return &j.report.Phases[0]
}

// secondAt finds or makes the second in which a request began; nil for one that is too old to be kept.
func (j *journal) secondAt(t time.Time) *second {
	index := int(t.Sub(j.report.Started) / time.Second)
	at, found := slices.BinarySearchFunc(j.seconds, index, func(s second, want int) int { return s.index - want })
	if found {
		return &j.seconds[at]
	}
	if at == 0 && len(j.seconds) >= maxSeconds {
		return nil
	}
	j.seconds = slices.Insert(j.seconds, at, second{index: index, Counts: newCounts()})
	if len(j.seconds) > maxSeconds {
		j.seconds = slices.Delete(j.seconds, 0, 1)
		at--
	}
	return &j.seconds[at]
}

func (j *journal) skip() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.report.Skipped++
}

func (j *journal) end(now time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.report.Ended = now
	j.wake()
}

// wake tells those who wait. The lock is held.
func (j *journal) wake() {
	close(j.changed)
	j.changed = make(chan struct{})
}

func (j *journal) copy() (Report, <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.report
	r.Counts = r.clone()
	r.Failures = slices.Clone(r.Failures)
	r.Phases = make([]Phase, len(j.report.Phases))
	for i, p := range j.report.Phases {
		r.Phases[i] = Phase{Name: p.Name, Began: p.Began, Counts: p.clone()}
	}
	return r, j.changed
}

// Versions are the versions that answered, sorted.
func (c Counts) Versions() []string {
	versions := slices.Sorted(maps.Keys(c.ByVersion))
	return slices.DeleteFunc(versions, func(v string) bool { return v == "" })
}
