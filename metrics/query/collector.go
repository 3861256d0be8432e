package query

import (
	"cmp"
	"context"
	"math/rand/v2"
	"reflect"
	"sync"
	"time"

	"github.com/sluice-dev/sluice/metrics/analysis"
)

// Key names a shift.
type Key struct{ Namespace, Name string }

// String writes namespace/name.
func (k Key) String() string { return k.Namespace + "/" + k.Name }

func (k Key) compare(other Key) int {
	return cmp.Or(cmp.Compare(k.Namespace, other.Namespace), cmp.Compare(k.Name, other.Name))
}

// Subject is what is counted for a key.
type Subject struct {
	// Service is the service's host, "micro-api.shop.svc.cluster.local": Istio's label destination_service. Requests to it that
	// fail before a host is chosen belong to no version, and are counted as Sample.NoHost.
	Service string
	// Backends are the hosts that routes send the requests to in Service's stead: where each version has a Service of its own, a request
	// that fails before an endpoint is chosen bears the name of that one. They are asked about like Service.
	Backends []string
	// Namespace is where the two Deployments are: Istio's label destination_workload_namespace.
	Namespace string
	// Stable and Candidate are the Deployments of the two versions, "micro-api-v1": Istio's label destination_workload. An
	// empty one counts nothing. A request that reaches a version's pods counts for that version through whichever Service it
	// came, so that a second Service over the same pods, which knows nothing of the weights, shows in the share that is measured; but
	// not what came to the Service that is named as the Deployment, which is there for whoever wants to see this version.
	Stable, Candidate string
	// Previewing counts what comes to a version by its own Service as well: it is all that there is while nobody else comes to it.
	Previewing bool
	// Connections counts connections in place of requests: all that there is of a service on whose ports no HTTP is spoken. One has failed
	// where it could not be made. What becomes of it later, and how long anything takes, is not known.
	//
	// The first reporter is then Destination: a client's proxy takes a connection for made when the server's has taken it, whatever the
	// application does. The failures of clients that got nowhere are counted beside it.
	Connections bool
	// Reporter is whose telemetry is counted; empty is the first of Source, Waypoint and Destination that reports on the subject.
	// Sample.Cross is the candidate as the other end of the connection counted it: the destination for source and waypoint, and
	// for the destination the first of source and waypoint that reports.
	Reporter analysis.Reporter
	// SlowAbove is the response time above which a request is slow; 0 where latency is not asked about. Requests are told apart by
	// the smallest histogram bound that is not below it, and by the largest finite one where it lies above all: Sample.SlowAbove.
	SlowAbove time.Duration
	// Queries are asked at every look beside the counters: see Readings. Their names differ.
	Queries []CustomQuery
}

// countsLike says whether what is counted for both is the same.
func (s Subject) countsLike(t Subject) bool {
	s.Queries, t.Queries = nil, nil
	return reflect.DeepEqual(s, t)
}

// Collector asks Prometheus for everything that is watched, one grouped query per metric and look, and keeps what it saw.
// It is a Runnable for controller-runtime's manager, for the leader only.
type Collector struct {
	client  *Client
	options Options
	updates chan Key
	// kick says that something is watched where nothing was.
	kick chan struct{}

	mu      sync.Mutex
	watches map[Key]*watch
	last    time.Time
	// counted is whether Prometheus has a metric at all.
	counted map[string]counted
}

// room is how many keys with news may wait to be read.
const room = 1024

// NewCollector returns a collector that asks client. It does nothing before Start.
func NewCollector(client *Client, options Options) *Collector {
	return newCollector(client, options, make(chan Key, room))
}

// newCollector returns a collector that tells its news to updates, which others may tell theirs to.
func newCollector(client *Client, options Options, updates chan Key) *Collector {
	return &Collector{
		client:  client,
		options: options.withDefaults(),
		updates: updates,
		kick:    make(chan struct{}, 1),
		watches: map[Key]*watch{},
		counted: map[string]counted{},
	}
}

// Watch has the key's subject looked at from now on. Watching the same subject again changes nothing; another subject for the
// same key forgets what was seen for the old one. Where only Queries differ, nothing is forgotten but the readings of those that
// are no longer asked.
func (c *Collector) Watch(key Key, subject Subject) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.watches[key]
	if w == nil || !w.ledger.subject.countsLike(subject) {
		w = &watch{ledger: newLedger(subject, 0)}
		c.watches[key] = w
		c.wake()
	}
	w.askFor(subject.Queries)
}

// wake starts looking where nothing was watched.
func (c *Collector) wake() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// Unwatch ends it. A collector that watches nothing asks nothing.
func (c *Collector) Unwatch(key Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.watches, key)
}

// Updates gives each key that has news: a new scrape, a new error, the end of one, or another reading of a query. It never blocks the collector: news for
// which there is no room is offered again after the next look.
func (c *Collector) Updates() <-chan Key { return c.updates }

// NeedLeaderElection keeps followers from asking.
func (c *Collector) NeedLeaderElection() bool { return true }

// Start looks at Prometheus every Interval, while anything is watched, until ctx ends.
func (c *Collector) Start(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.kick:
		}
		for c.watching() {
			c.look(ctx, c.now())
			if !sleep(ctx, c.pause()) {
				return nil
			}
		}
	}
}

func (c *Collector) watching() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.watches) > 0
}

// now is the evaluation time of the next look: a little behind the clock, in the milliseconds that Prometheus counts in, and
// later than the look before even where the clock was set back.
func (c *Collector) now() time.Time {
	at := time.Now().Add(-c.options.Settle).Truncate(time.Millisecond).UTC()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !at.After(c.last) {
		at = c.last.Add(time.Millisecond)
	}
	c.last = at
	return at
}

// pause is the time to the next look, moved at random so that replicas and clusters that started together do not stay so.
func (c *Collector) pause() time.Duration {
	return time.Duration(float64(c.options.Interval) * (1 + c.options.Jitter*(2*rand.Float64()-1)))
}

// sleep waits, and says whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// Since returns what was counted for the key from the evaluation time from to the latest look: Sample.From is from, and
// Sample.To is what to pass next time. Looks of this process are remembered; an earlier time, of a process before this one or
// from before the shift, is read back from Prometheus, so that nothing is lost and nothing is counted twice. The zero time
// asks for a baseline: From and To are the latest look, and nothing is counted.
//
// Where there was a look since the key is watched, the sample is valid even beside an error: the error says why it is no
// fresher (ErrUnreachable, ErrRefused), old (ErrStale) or empty (ErrNoSeries). A caller may count it or ask again from the same
// time; counts are never lost by asking again. Without a look, or where reading back failed, the sample is the zero Sample.
func (c *Collector) Since(ctx context.Context, key Key, from time.Time) (analysis.Sample, error) {
	r, err := c.since(key, from)
	if err != nil {
		return analysis.Sample{}, err
	}
	if r.anchor.at.IsZero() {
		return r.sample(r.before), r.err
	}
	counted, err := c.readBack(ctx, r.target, from, r.anchor.at)
	if err != nil {
		return analysis.Sample{}, err
	}
	before := r.anchor.sum.minus(counted)
	c.remember(key, r.watch, entry{at: from, sum: before})
	return r.sample(before), r.err
}
