package mesh

import (
	"context"
	"errors"
	"sync"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
)

// errOverflow is a circuit breaker saying no.
var errOverflow = errors.New("circuit breaker is open")

// defaultThreshold is Envoy's for each limit that a cluster does not set.
const defaultThreshold = 1024

// patience is how long a request waits at an open breaker before it is refused. Envoy refuses at once; in the lab clients,
// proxies and servers share a processor, and whenever that pauses, good traffic would look like an overload.
const patience = time.Second

// breaker holds a cluster to its limits. An HTTP/1.1 request occupies a connection for as long as it lasts, so that the
// limit on connections is one on requests, beyond which requests wait; those that wait are limited by maxPending. Unlike
// Envoy it does not count as waiting the requests whose connection is being made.
type breaker struct {
	maxConnections, maxPending, maxRequests int

	mu     sync.Mutex
	active int
	queue  []chan struct{}
}

func newBreaker(c *clusterv3.Cluster) *breaker {
	b := &breaker{maxConnections: defaultThreshold, maxPending: defaultThreshold, maxRequests: defaultThreshold}
	for _, t := range c.GetCircuitBreakers().GetThresholds() {
		if t.GetPriority() != 0 {
			continue
		}
		if v := t.GetMaxConnections(); v != nil {
			b.maxConnections = int(v.GetValue())
		}
		if v := t.GetMaxPendingRequests(); v != nil {
			b.maxPending = int(v.GetValue())
		}
		if v := t.GetMaxRequests(); v != nil {
			b.maxRequests = int(v.GetValue())
		}
	}
	return b
}

// acquire takes a place for one request, waiting if the cluster lets it. The release must be called once.
func (b *breaker) acquire(ctx context.Context, http2 bool) (release func(), err error) {
	b.mu.Lock()
	// Envoy allows the first connection whatever the limit says.
	limit := min(max(1, b.maxConnections), b.maxRequests)
	if http2 {
		limit = b.maxRequests
	}
	if b.active < limit {
		b.active++
		b.mu.Unlock()
		return b.release, nil
	}
	if http2 || len(b.queue) >= b.maxPending {
		limited, cancel := context.WithTimeoutCause(ctx, patience, errOverflow)
		defer cancel()
		ctx = limited
	}
	turn := make(chan struct{})
	b.queue = append(b.queue, turn)
	b.mu.Unlock()
	select {
	case <-turn:
		return b.release, nil
	case <-ctx.Done():
		b.leave(turn)
		return nil, context.Cause(ctx)
	}
}

// release hands the place to the first in the queue.
func (b *breaker) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) > 0 {
		close(b.queue[0])
		b.queue = b.queue[1:]
		return
	}
	b.active--
}

// leave gives a turn up, or passes it on if it came in the same moment.
func (b *breaker) leave(turn chan struct{}) {
	b.mu.Lock()
	for i, waiting := range b.queue {
		if waiting == turn {
			b.queue = append(b.queue[:i:i], b.queue[i+1:]...)
			b.mu.Unlock()
			return
		}
	}
	b.mu.Unlock()
	b.release()
}
