package query

import (
	"math"

	"github.com/prometheus/common/model"

	"github.com/sluice-dev/sluice/metrics/analysis"
)

// look is what Prometheus showed of one service at one time.
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
type ledger struct {
	subject Subject
	// bound is the histogram bound that tells slow requests, in milliseconds; 0 while none is known.
	bound float64

	requests, durations map[model.Fingerprint]*reading
	sum                 totals
	looks               int
	// trusted says that a series missing from the last look did not exist then.
	trusted bool
	// bySource says that clients or gateways in the mesh report on this service. It stays, because one failed scrape of the
	// only gateway must not switch reporters and count the same requests again from the other end.
	bySource bool
}

// reading is a counter as last seen: one value, or two of one histogram (all requests, and those within the bound).
type reading struct {
	values [2]float64
	look   int
}

// totals are counts since a ledger began, by reporter and version.
type totals struct {
	versions [reporters][versions]sums
	noHost   float64
}

// sums are analysis.Counts before rounding.
type sums struct{ requests, errors, timed, slow float64 }

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
	for _, p := range x.requests {
		l.takeRequests(p)
	}
	for series, h := range histograms(x.durations, l.bound) {
		l.takeDurations(series, h)
	}
	l.trusted = l.trusted || x.settled
	forget(l.requests, l.looks)
	forget(l.durations, l.looks)
}

func (l *ledger) takeRequests(p point) {
	c, counts := l.subject.classify(p.labels)
	if !counts {
		return
	}
	l.bySource = l.bySource || c.reporter == source
	d := l.advance(l.requests, p.series, [2]float64{p.value})[0]
	if c.noHost {
		l.sum.noHost += d
		return
	}
	v := &l.sum.versions[c.reporter][c.version]
	v.requests += d
	if c.failed {
		v.errors += d
	}
}

// takeDurations counts a histogram. Answers of 5xx are timed like any other: a version that is slow to fail is slow.
func (l *ledger) takeDurations(series model.Fingerprint, h histogram) {
	c, counts := l.subject.classify(h.labels)
	if !counts || c.noHost || math.IsNaN(h.all) || math.IsNaN(h.within) {
		return
	}
	d := l.advance(l.durations, series, [2]float64{h.all, h.within})
	v := &l.sum.versions[c.reporter][c.version]
	v.timed += d[0]
	v.slow += max(d[0]-d[1], 0)
}

// advance notes the present values of a series and returns what they add. A histogram is reset as a whole: where one of its
// values fell, all of them began anew.
func (l *ledger) advance(known map[model.Fingerprint]*reading, series model.Fingerprint, now [2]float64) [2]float64 {
	r, old := known[series]
	if !old {
		r = &reading{}
		known[series] = r
	}
	was := r.values
	r.values, r.look = now, l.looks
	switch {
	case !old && !l.trusted:
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

// reporter is whose counts are taken: those of clients and gateways where any report on the service, since they are one record
// per user request and see versions that cannot be reached.
func (l *ledger) reporter() int {
	if l.bySource {
		return source
	}
	return destination
}

// sample is what was counted between two sums, by one reporter.
func sample(from, to totals, reporter int) analysis.Sample {
	between := func(reporter, version int) analysis.Counts {
		a, b := from.versions[reporter][version], to.versions[reporter][version]
		return analysis.Counts{
			Requests: whole(b.requests - a.requests), Errors: whole(b.errors - a.errors),
			Timed: whole(b.timed - a.timed), Slow: whole(b.slow - a.slow),
		}
	}
	return analysis.Sample{
		Reporter:  reporterNames[reporter],
		Candidate: between(reporter, candidate),
		Stable:    between(reporter, stable),
		Cross:     between(reporters-1-reporter, candidate),
		NoHost:    whole(to.noHost - from.noHost),
	}
}

// minus is what was counted since before.
func (t totals) minus(before totals) totals {
	for r := range t.versions {
		for v := range t.versions[r] {
			a, b := &t.versions[r][v], before.versions[r][v]
			*a = sums{a.requests - b.requests, a.errors - b.errors, a.timed - b.timed, a.slow - b.slow}
		}
	}
	t.noHost -= before.noHost
	return t
}

func whole(v float64) int64 { return int64(math.Round(min(v, maxCount))) }
