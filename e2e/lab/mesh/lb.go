package mesh

import (
	"sync"
	"sync/atomic"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"

	"github.com/sluice-dev/sluice/e2e/lab/xds"
)

// endpoint is one address of a cluster at one moment; its host outlives it while the address stays.
type endpoint struct {
	xds.Endpoint
	host *host
	// debt is this endpoint's place in the weighted round robin.
	debt int64
}

// host is what belongs to an address rather than to what istiod says of it today.
type host struct {
	address string
	active  atomic.Int64
	pools   pools
}

// balancer chooses among the endpoints of a cluster that may be used.
type balancer struct {
	policy   clusterv3.Cluster_LbPolicy
	random   func(uint64) uint64
	eligible []*endpoint
	total    uint64

	mu sync.Mutex // guards the debts
}

func newBalancer(c *clusterv3.Cluster, all []*endpoint, random func(uint64) uint64) *balancer {
	b := &balancer{policy: c.GetLbPolicy(), random: random, eligible: eligible(all, panicThreshold(c))}
	for _, e := range b.eligible {
		b.total += uint64(e.Weight)
	}
	return b
}

// panicThreshold is the share of healthy endpoints, in percent, below which Envoy uses them all.
func panicThreshold(c *clusterv3.Cluster) float64 {
	if p := c.GetCommonLbConfig().GetHealthyPanicThreshold(); p != nil {
		return p.GetValue()
	}
	return 50
}

// eligible is the best priority that has a healthy endpoint, and of it the healthy ones; or all of them in a panic.
func eligible(all []*endpoint, panicBelow float64) []*endpoint {
	byPriority := map[uint32][]*endpoint{}
	highest := uint32(0)
	for _, e := range all {
		byPriority[e.Priority] = append(byPriority[e.Priority], e)
		highest = max(highest, e.Priority)
	}
	for p := uint32(0); p <= highest; p++ {
		var healthy []*endpoint
		for _, e := range byPriority[p] {
			if e.Healthy {
				healthy = append(healthy, e)
			}
		}
		switch level := byPriority[p]; {
		case len(level) == 0:
			continue
		case float64(len(healthy))*100 < panicBelow*float64(len(level)) && (len(healthy) > 0 || p == highest):
			return level
		case len(healthy) > 0:
			return healthy
		}
	}
	return nil
}

// pick returns an endpoint, or nil if none may be used. It tries up to attempts times to avoid what was tried before.
func (b *balancer) pick(tried map[string]bool, attempts int64) *endpoint {
	if len(b.eligible) == 0 {
		return nil
	}
	e := b.choose()
	for range attempts - 1 {
		if !tried[e.Address] {
			break
		}
		e = b.choose()
	}
	return e
}

func (b *balancer) choose() *endpoint {
	switch b.policy {
	case clusterv3.Cluster_ROUND_ROBIN:
		return b.next()
	case clusterv3.Cluster_LEAST_REQUEST:
		first, second := b.any(), b.any()
		// Per weight, so that twice the weight may carry twice the requests.
		if (second.host.active.Load()+1)*int64(first.Weight) < (first.host.active.Load()+1)*int64(second.Weight) {
			return second
		}
		return first
	default:
		return b.any()
	}
}

// any is a weighted random choice.
func (b *balancer) any() *endpoint {
	point := b.random(b.total)
	for _, e := range b.eligible {
		if point < uint64(e.Weight) {
			return e
		}
		point -= uint64(e.Weight)
	}
	return b.eligible[len(b.eligible)-1]
}

// next is a smooth weighted round robin: everyone earns its weight, the richest pays the total.
func (b *balancer) next() *endpoint {
	b.mu.Lock()
	defer b.mu.Unlock()
	var richest *endpoint
	for _, e := range b.eligible {
		e.debt += int64(e.Weight)
		if richest == nil || e.debt > richest.debt {
			richest = e
		}
	}
	richest.debt -= int64(b.total)
	return richest
}
