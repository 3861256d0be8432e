package query

import "time"

// Options are the collector's settings. The zero value of each means its default.
type Options struct {
	// Interval is the time between two looks at Prometheus while anything is watched. Default 5s.
	Interval time.Duration
	// Timeout bounds each query, and all custom queries of one look together. Default 5s, and never more than Interval.
	Timeout time.Duration
	// MaxAge is how old the newest sample may be before evidence counts as stale. Default 1m: four scrapes of Istio's usual 15s.
	MaxAge time.Duration
	// Settle is how far behind the clock Prometheus is asked. A scrape is stored a moment after the time it is stored under,
	// and a look must read the same when it is read back after a restart. Default 500ms; negative for none.
	Settle time.Duration
	// Memory is how far back a first look goes for the last value of a series that is missing at that moment, because a failed
	// scrape hides the series of its target. Default 15m.
	Memory time.Duration
	// Jitter is the share of Interval by which each look is moved at random. Default 0.1; negative for none.
	Jitter float64
	// Keep is how many looks are remembered for each key. Default 360.
	Keep int
	// Chunk is how many subjects one query asks for. Default 50.
	Chunk int
	// History is how far back Collector.History goes. Default 1h.
	History time.Duration
	// Scrape is how far apart its samples are: Prometheus' scrape interval. Default 15s.
	Scrape time.Duration
	// HistoryTimeout bounds each of its queries, which read an hour at once. Default 15s.
	HistoryTimeout time.Duration
	// Observer hears of every query. Default: nobody.
	Observer Observer
}

// Observer hears how the collector fares with Prometheus. metrics/exporter is one.
type Observer interface {
	// ObserveQuery reports one query: its kind ("requests", "durations", "freshness", "bounds", "up", "custom", "silence"), how long it took and how
	// it ended.
	ObserveQuery(kind string, took time.Duration, err error)
	// ObserveSkipped reports values that no counter can have: NaN, infinite, negative or beyond what a float64 counts exactly.
	ObserveSkipped(kind string, values int)
}

func (o Options) withDefaults() Options {
	fill(&o.Interval, 5*time.Second)
	fill(&o.Timeout, 5*time.Second)
	fill(&o.MaxAge, time.Minute)
	fill(&o.Memory, 15*time.Minute)
	fill(&o.Keep, 360)
	fill(&o.History, time.Hour)
	fill(&o.Scrape, 15*time.Second)
	fill(&o.HistoryTimeout, 15*time.Second)
	fill(&o.Chunk, 50)
	o.Timeout = min(o.Timeout, o.Interval)
	switch {
	case o.Settle == 0:
		o.Settle = 500 * time.Millisecond
	case o.Settle < 0:
		o.Settle = 0
	}
	switch {
	case o.Jitter == 0:
		o.Jitter = 0.1
	case o.Jitter < 0:
		o.Jitter = 0
	}
	if o.Observer == nil {
		o.Observer = nobody{}
	}
	return o
}

// fill gives a setting that is not above zero its default.
func fill[T int | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

type nobody struct{}

func (nobody) ObserveQuery(string, time.Duration, error) {}
func (nobody) ObserveSkipped(string, int)                {}
