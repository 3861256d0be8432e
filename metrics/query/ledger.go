package query

import (
	"math"
	"slices"

	"github.com/prometheus/common/model"

	"github.com/sluice-dev/sluice/metrics/analysis"
)

// look is what Prometheus showed of one subject at one time.
type look struct {
	requests, durations []point
	// settled says that Prometheus had been scraping for a while: what it did not show did not exist.
	settled bool
}

// ledger turns looks at counters into counts. It remembers the last value of every series for as long as it lives, so that a
// scrape that fails, or a Prometheus that restarts, makes no counter look new. It is plain bookkeeping: no clock, no client.
//
//	known series        value - last value; the value itself where it is lower, because the counter was reset
//	new series          the value itself: the series was born since the last look, and its first requests count
//	new series, but the last look cannot be trusted (it is the first one, or Prometheus had only just started): nothing; the
//	                    value becomes the baseline
//	NaN                 nothing; a series that is new with it has its first value as the baseline
type ledger struct {
	subject Subject
	// bound is the histogram bound that tells slow requests, in milliseconds; 0 while none is known.
	bound float64

	requests, durations map[model.Fingerprint]*reading
	sum                 totals
	looks               int
	// trusted says that a series missing from the last look did not exist then.
	trusted bool
	// reports are the reporters that were seen. They stay, because one failed scrape of the only gateway must not switch reporters
	// and count the same requests again from the other end.
	reports [reporters]bool
}

// reading is a counter as last seen: one value, or two of one histogram (all requests, and those within the bound).
type reading struct {
	values [2]float64
	look   int
}

// totals are counts since a ledger began: by version as the reporter in charge counted them, and the candidate as the other one
// did.
type totals struct {
	versions [versions]sums
	cross    sums
	noHost   float64
}

// rise is what one look adds, by reporter.
type rise [reporters]risen

type risen struct {
	versions [versions]sums
	noHost   float64
}

// sums are analysis.Counts before rounding.
type sums struct{ requests, errors, timed, slow float64 }

func (s *sums) add(d sums) {
	*s = sums{s.requests + d.requests, s.errors + d.errors, s.timed + d.timed, s.slow + d.slow}
}

// forgetAfter is how many looks a series may be missing before its last value is dropped: an hour, at the usual interval. Every
// forgetEvery looks there is a search for such series.
const (
	forgetAfter = 720
	forgetEvery = 60
)

func newLedger(s Subject, bound float64) *ledger {
	return &ledger{subject: s, bound: bound, requests: map[model.Fingerprint]*reading{}, durations: map[model.Fingerprint]*reading{}}
}

// take counts one more look.
func (l *ledger) take(x look) {
	if len(x.requests) > 0 {
		l.looks++ // an empty look tells nothing about which series still exist
	}
	was := l.reports
	var d rise
	for _, p := range x.requests {
		l.takeRequests(p, &d)
	}
	for series, h := range histograms(x.durations, l.bound) {
		l.takeDurations(series, h, &d)
	}
	l.count(d, was)
	l.trusted = l.trusted || x.settled
	forget(l.requests, l.looks)
	forget(l.durations, l.looks)
}

func (l *ledger) takeRequests(p point, d *rise) {
	c, counts := l.subject.classify(p.labels)
	if !counts {
		return
	}
	l.reports[c.reporter] = true
	n := l.advance(l.requests, p.series, [2]float64{p.value})[0]
	if c.noHost {
		d[c.reporter].noHost += n
		return
	}
	v := &d[c.reporter].versions[c.version]
	v.requests += n
	if c.failed {
		v.errors += n
	}
}

// takeDurations counts a histogram. Only answers are timed: a failure counts as one already, and a version that fails at once must
// not pass for a fast one.
func (l *ledger) takeDurations(series model.Fingerprint, h histogram, d *rise) {
	c, counts := l.subject.classify(h.labels)
	if !counts || c.noHost || c.failed {
		return
	}
	l.reports[c.reporter] = true
	n := l.advance(l.durations, series, [2]float64{h.all, h.within})
	v := &d[c.reporter].versions[c.version]
	v.timed += n[0]
	v.slow += max(n[0]-n[1], 0)
}

// count adds what a look found, given which reporters were seen before it. Where the better reporter speaks for the first time, the
// one before it has told of the same requests, up to a scrape ago: that look counts neither, and none is counted twice.
func (l *ledger) count(d rise, was [reporters]bool) {
	before, crossBefore := l.subject.reporters(was)
	now, cross := l.subject.reporters(l.reports)
	if now == before || !was[before] {
		for v := range l.sum.versions {
			l.sum.versions[v].add(d[now].versions[v])
		}
		l.sum.noHost += d[now].noHost
	}
	if l.subject.Connections && l.subject.Reporter == "" && now == destination {
		l.addUnmade(d[cross])
	}
	if cross == crossBefore || !was[crossBefore] {
		l.sum.cross.add(d[cross].versions[candidate])
	}
}

// addUnmade adds the connections that no server heard of, as their clients count them: none of these is counted twice.
func (l *ledger) addUnmade(d risen) {
	for v := range l.sum.versions {
		failed := d.versions[v].errors
		l.sum.versions[v].add(sums{requests: failed, errors: failed})
	}
	l.sum.noHost += d.noHost
}

// reporters are the one whose counts are taken, and the one they are checked against. Clients and gateways come first where any
// report, since theirs is one record per user request and they see versions that cannot be reached; a waypoint is as good. Of connections
// it is the server's proxy that sees whether the application takes them.
func (s Subject) reporters(seen [reporters]bool) (one, cross int) {
	client := source
	if !seen[source] && seen[waypoint] {
		client = waypoint
	}
	one = slices.Index(reporterNames[:], s.Reporter)
	if one < 0 {
		one = destination
		if seen[client] && !(s.Connections && seen[destination]) {
			one = client
		}
	}
	if one == destination {
		return destination, client
	}
	return one, destination
}

// advance notes the present values of a series and returns what they add. A histogram is reset as a whole: where one of its
// values fell, all of them began anew.
func (l *ledger) advance(known map[model.Fingerprint]*reading, series model.Fingerprint, now [2]float64) [2]float64 {
	r, old := known[series]
	if !old {
		r = &reading{}
		known[series] = r
	}
	r.look = l.looks
	if math.IsNaN(now[0]) || math.IsNaN(now[1]) {
		if !old {
			r.values[0] = math.NaN()
		}
		return [2]float64{}
	}
	was := r.values
	r.values = now
	switch {
	case !old && !l.trusted, math.IsNaN(was[0]):
		return [2]float64{}
	case !old || now[0] < was[0] || now[1] < was[1]:
		return now
	}
	return [2]float64{now[0] - was[0], now[1] - was[1]}
}

// forget drops series that are gone for long, so that a shift that is paused for weeks does not grow.
func forget(known map[model.Fingerprint]*reading, looks int) {
	if looks%forgetEvery != 0 {
		return
	}
	for series, r := range known {
		if looks-r.look > forgetAfter {
			delete(known, series)
		}
	}
}

// histogram is the two buckets that are asked for: all requests and those within the bound; NaN where one is missing.
type histogram struct {
	labels      model.Metric
	all, within float64
}

// histograms pairs buckets. A proxy with bounds of its own may lack the one asked for; its requests are not timed, because
// without that bucket all of them would seem slow.
func histograms(buckets []point, bound float64) map[model.Fingerprint]histogram {
	pairs := map[model.Fingerprint]histogram{}
	if bound == 0 {
		return pairs
	}
	for _, p := range buckets {
		h, ok := pairs[p.series]
		if !ok {
			h = histogram{p.labels, math.NaN(), math.NaN()}
		}
		switch {
		case math.IsInf(p.le, 1):
			h.all = p.value
		case p.le == bound:
			h.within = p.value
		}
		pairs[p.series] = h
	}
	return pairs
}

// reporter is whose counts are taken.
func (l *ledger) reporter() int {
	one, _ := l.subject.reporters(l.reports)
	return one
}

// sample is what was counted between two sums, by one reporter.
func sample(from, to totals, reporter int) analysis.Sample {
	d := to.minus(from)
	return analysis.Sample{
		Reporter:  reporterNames[reporter],
		Candidate: d.versions[candidate].counts(),
		Stable:    d.versions[stable].counts(),
		Cross:     d.cross.counts(),
		NoHost:    whole(d.noHost),
	}
}

// minus is what was counted since before.
func (t totals) minus(before totals) totals {
	for v := range t.versions {
		t.versions[v] = t.versions[v].minus(before.versions[v])
	}
	t.cross = t.cross.minus(before.cross)
	t.noHost -= before.noHost
	return t
}

func (s sums) minus(b sums) sums {
	return sums{s.requests - b.requests, s.errors - b.errors, s.timed - b.timed, s.slow - b.slow}
}

func (s sums) counts() analysis.Counts {
	return analysis.Counts{Requests: whole(s.requests), Errors: whole(s.errors), Timed: whole(s.timed), Slow: whole(s.slow)}
}

func whole(v float64) int64 { return int64(math.Round(min(v, maxCount))) }
