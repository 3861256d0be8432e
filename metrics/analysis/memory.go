package analysis

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"
)

// memoryVersion is the version of Memory's JSON. One that is not read is forgotten, which costs time and proves nothing.
const memoryVersion = 1

const (
	// outageBlocks is for how many blocks a failing stable version suspends the evidence.
	outageBlocks = 3
	// outagePatience is after how many of them what stable does counts as usual from then on.
	outagePatience = 80
	// blockShare is the part of a scrape interval that a block lasts at least: looks are moved about by chance.
	blockShare = 0.8
	// rateForgetting is what a past block counts for in the rate of requests: a few minutes.
	rateForgetting = 0.95
)

// Memory is what the gate keeps from look to look since the candidate's first weight, and what it has learned of the stable version
// before. It is a value: it is written to the TrafficShift's status with the time it was counted to, so that a controller that is
// killed at any moment goes on as if it had not been. The zero Memory has seen nothing.
type Memory struct {
	// Version is that of the written form; short keys, since it is written on every look.
	Version int    `json:"v,omitempty"`
	Errors  metric `json:"e,omitzero"`
	Slow    metric `json:"s,omitzero"`
	// Total are all requests since the first weight but for those of outages.
	Total pair `json:"a,omitzero"`
	// Pending are the counts of a block that is not over yet, and Span how long it has lasted.
	Pending pair          `json:"p,omitzero"`
	Span    time.Duration `json:"d,omitempty"`
	// Requests came in Seconds, older ones forgotten: the service's traffic.
	Requests float64 `json:"n,omitempty"`
	Seconds  float64 `json:"t,omitempty"`
	// Asked are the questions that the evidence answers.
	Asked asked `json:"q,omitzero"`
	// Outage is for how many more blocks evidence is suspended; Failing for how many in a row stable has been failing.
	Outage  int `json:"o,omitempty"`
	Failing int `json:"f,omitempty"`
	// Beside are the requests of an outage: whether the candidate fails, too.
	Beside pair `json:"b,omitzero"`
}

// asked is what evidence depends on and an owner may change in the middle of a release.
type asked struct {
	Increase float64       `json:"i,omitempty"`
	Errors   float64       `json:"e,omitempty"`
	Slow     float64       `json:"s,omitempty"`
	Above    time.Duration `json:"a,omitempty"`
}

// pair are the counts of both versions.
type pair struct {
	Candidate Counts `json:"c,omitzero"`
	Stable    Counts `json:"s,omitzero"`
}

func (p pair) add(c, s Counts) pair { return pair{p.Candidate.Add(c), p.Stable.Add(s)} }

// untimed are the counts without those of response times.
func (p pair) untimed() pair {
	p.Candidate.Timed, p.Candidate.Slow, p.Stable.Timed, p.Stable.Slow = 0, 0, 0, 0
	return p
}

func (p pair) requests() int64 { return p.Candidate.Requests + p.Stable.Requests }

// Learn takes the past of the stable version, before the candidate's first weight.
func (m Memory) Learn(past []Sample, l Limits) Memory {
	for _, x := range past {
		m = m.count(x, l, false)
	}
	return m
}

// Watch takes a sample from before the candidate's first weight.
func (m Memory) Watch(x Sample, l Limits) Memory { return m.count(x, l, false) }

// Count takes a sample as evidence. Samples are pooled into blocks of a scrape at least, so that all proxies were scraped in each and
// the two versions speak of the same time; how long a block is depends on no outcome.
func (m Memory) Count(x Sample, l Limits) Memory { return m.count(x, l, true) }

// Under drops the evidence that answers another question than the limits ask: what was proven of a large increase is no proof of a small
// one, and what was slow above one bound says nothing of another.
func (m Memory) Under(l Limits) Memory {
	now := asked{l.MaxIncrease, l.MaxErrorRate, l.MaxSlowRate, m.Asked.Above}
	if l.SlowAbove > 0 {
		now.Above = l.SlowAbove
	}
	was := m.Asked
	m.Asked = now
	if was == (asked{}) {
		return m
	}
	if was.Increase != now.Increase {
		m.Errors.Advance = [2]float64{}
	}
	if was.Errors != now.Errors {
		m.Errors.Limit = mixture{}
	}
	if was.Slow != now.Slow {
		m.Slow.Limit = mixture{}
	}
	if was.Above != now.Above && was.Above > 0 {
		m.Slow = metric{}
		m.Total, m.Pending, m.Beside = m.Total.untimed(), m.Pending.untimed(), m.Beside.untimed()
	}
	return m
}

// Switched ends the block that is not over, and forgets the evidence against the absolute limit: with all the traffic the candidate is
// asked another question than beside the stable version.
func (m Memory) Switched(l Limits) Memory {
	if m.Pending.requests() > 0 {
		m.close(l, true)
	}
	m.Errors.Limit, m.Slow.Limit, m.Errors.Rate, m.Slow.Rate = mixture{}, mixture{}, 0, 0
	m.Pending, m.Span = pair{}, 0
	return m
}

// StableLimits are the upper ends of what the stable version's rates may be and the harm that is none on top: what a candidate that has
// all the traffic is held to where it is more than the owner's limit. 0 where stable was not seen.
func (m Memory) StableLimits(l Limits) (errors, slow float64) {
	for q := range l.questions {
		d := q.block(m.Total)
		if d.ns == 0 {
			continue
		}
		_, upper := Interval(int64(d.ks), int64(d.ns), beta)
		if limit := min(q.harm.boundary(upper), 1); q.slow {
			slow = limit
		} else {
			errors = limit
		}
	}
	return errors, slow
}

func (m Memory) count(x Sample, l Limits, bet bool) Memory {
	l.SlowAbove = x.SlowAbove
	m = m.Under(l)
	m.Pending = m.Pending.add(x.Candidate, x.Stable)
	m.Span += x.To.Sub(x.From)
	if m.Pending.requests() == 0 || float64(m.Span) < blockShare*float64(l.Scrape) {
		return m
	}
	m.close(l, bet)
	m.Pending, m.Span = pair{}, 0
	return m
}

// meter takes the pending block's requests into the rate. Where traffic has begun after a while without, what came before says nothing of
// it: a rate that is taken for too low makes for weights that are too high.
func (m *Memory) meter(n float64, scrape time.Duration) {
	const idle, began, recent = 4, 20, 2
	if m.Span > idle*scrape && n >= began {
		m.Requests, m.Seconds = n, recent*scrape.Seconds()
		return
	}
	m.Requests, m.Seconds = rateForgetting*m.Requests+n, rateForgetting*m.Seconds+m.Span.Seconds()
}

// close takes the pending block. What is known of stable was all learned before it.
func (m *Memory) close(l Limits, bet bool) {
	p, suspended, failing := m.Pending, m.Outage > 0, false
	m.meter(float64(p.requests()), l.Scrape)
	for q := range l.questions {
		metric, d := q.metric(m), q.block(p)
		if bet {
			metric.take(d, q.margins, l.Alone, suspended)
		}
		failing = failing || !l.Alone && metric.Usual.fails(d.ks, d.ns, q.prior) // alone, stable has but stragglers
	}
	m.notice(failing)
	m.compare()
	m.learn(l)
	if bet && !suspended && m.Outage == 0 { // nor the block that an outage is noticed by
		m.Total = m.Total.add(p.Candidate, p.Stable)
	}
}

// learn takes the pending block for usual, but for an outage; one that does not end is what is usual now.
func (m *Memory) learn(l Limits) {
	for q := range l.questions {
		metric, d := q.metric(m), q.block(m.Pending)
		switch {
		case m.Outage == 0:
			metric.Usual = metric.Usual.learn(d.ks, d.ns, q.prior)
		case m.Failing >= outagePatience:
			metric.Usual.K, metric.Usual.N = d.ks, d.ns
		}
	}
}

// take bets on a block. While stable fails out of all proportion, nothing is evidence against the candidate alone.
func (m *metric) take(d block, q margins, alone, suspended bool) {
	if d.nc > 0 {
		m.Rate = d.kc / d.nc
	}
	if d.nc <= 0 || suspended {
		return
	}
	if d.ns > 0 && !alone {
		m.bet(d, q)
	}
	if alone || d.ns > 0 && d.ks <= d.ns*q.limit { // where stable breaks the limit too, or was not seen, the fault may be shared
		m.betAlone(d.kc, d.nc, q)
	}
}

// notice starts, prolongs or lets end an outage. It acts from the next block on, so that what is bet never depends on its own outcome.
func (m *Memory) notice(failing bool) {
	if failing {
		m.Outage = outageBlocks
		m.Failing++
		return
	}
	m.Outage = max(m.Outage-1, 0)
	if m.Outage == 0 {
		m.Failing = 0
	}
}

// compare keeps what both versions do for as long as an outage lasts, the block that it is noticed by among it.
func (m *Memory) compare() {
	if m.Outage == 0 {
		m.Beside = pair{}
		return
	}
	m.Beside = m.Beside.add(m.Pending.Candidate, m.Pending.Stable)
}

// stableAlone reports whether an outage is evidently stable's own: the candidate is better in something, and worse in nothing, by intervals that
// do not overlap. What both versions depend on fails for both.
func (m Memory) stableAlone(l Limits) bool {
	better := false
	for q := range l.questions {
		d := q.block(m.Beside)
		low, high := Interval(int64(d.kc), int64(d.nc), beta)
		stableLow, stableHigh := Interval(int64(d.ks), int64(d.ns), beta)
		if low > stableHigh {
			return false
		}
		better = better || high < stableLow
	}
	return better
}

// Rate is the service's requests a second; 0 where none were seen. The block that is not over counts once it should be, so that the rate
// falls where traffic ends.
func (m Memory) Rate(scrape time.Duration) float64 {
	requests, seconds := m.Requests, m.Seconds
	if m.Span > 2*scrape {
		requests, seconds = requests+float64(m.Pending.requests()), seconds+m.Span.Seconds()
	}
	if seconds <= 0 {
		return 0
	}
	return requests / seconds
}

// Encode writes the memory as JSON of at most 2 KB.
func (m Memory) Encode() ([]byte, error) {
	m.Version = memoryVersion
	return json.Marshal(m)
}

// errMemory is what no Memory looks like.
var errMemory = errors.New("numbers that no evidence has")

// DecodeMemory reads what Encode wrote. It refuses other versions, and numbers that no evidence has: a verdict must not rest on them.
func DecodeMemory(raw []byte) (Memory, error) {
	var m Memory
	if err := json.Unmarshal(raw, &m); err != nil {
		return Memory{}, fmt.Errorf("reading the gate's memory: %w", err)
	}
	if m.Version != memoryVersion {
		return Memory{}, fmt.Errorf("reading the gate's memory: version %d, this release reads %d", m.Version, memoryVersion)
	}
	if !m.sane() {
		return Memory{}, fmt.Errorf("reading the gate's memory: %w", errMemory)
	}
	return m, nil
}

func (m Memory) sane() bool {
	for _, c := range [...]Counts{m.Total.Candidate, m.Total.Stable, m.Pending.Candidate, m.Pending.Stable, m.Beside.Candidate, m.Beside.Stable} {
		if !c.Plausible() {
			return false
		}
	}
	return m.Span >= 0 && m.Outage >= 0 && m.Outage <= outageBlocks && m.Failing >= 0 && finite(m.Requests) && finite(m.Seconds) &&
		finite(m.Rate(0)) && m.Errors.sane() && m.Slow.sane()
}

func (m *metric) sane() bool {
	return m.Harm.sane() && m.Limit.sane() && m.proves() && isRate(m.Rate) && m.Usual.sane()
}

// proves reports whether the proof for promotion is one that so many blocks can give.
func (m *metric) proves() bool {
	const most = 1e18
	for _, a := range m.Advance {
		if !(a <= most && a >= float64(m.Harm.T)*math.Log(insurance)-slack) || m.Harm.T == 0 && a != 0 {
			return false
		}
	}
	return true
}

// finite reports whether v is a number that is not negative.
func finite(v float64) bool { return v >= 0 && !math.IsInf(v, 1) }
