package mesh

import (
	"sync"
	"sync/atomic"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"

	"github.com/sluice-dev/sluice/e2e/lab/network"
	"github.com/sluice-dev/sluice/e2e/lab/xds"
)

// cluster is a warm cluster in use. A changed configuration makes a new one, with new connection pools and breakers, as in
// Envoy; changed endpoints only replace the balancer.
type cluster struct {
	config  *clusterv3.Cluster
	service service
	wire    wire
	breaker *breaker
	random  func(uint64) uint64

	balancer atomic.Pointer[balancer]

	mu    sync.Mutex // guards hosts
	hosts map[string]*host
}

func newCluster(c *xds.Cluster, n *network.Network, random func(uint64) uint64) (*cluster, error) {
	w, err := wireOf(c.Config, n)
	if err != nil {
		return nil, err
	}
	name := service{}
	name.host, name.name, name.namespace = c.Service()
	made := &cluster{
		config: c.Config, service: name, wire: w, breaker: newBreaker(c.Config), random: random, hosts: map[string]*host{},
	}
	made.update(c.Endpoints)
	return made, nil
}

// update takes new endpoints. Connections to an address that stays are kept, those to one that left are dropped.
func (c *cluster) update(endpoints []xds.Endpoint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := make(map[string]*host, len(endpoints))
	all := make([]*endpoint, 0, len(endpoints))
	for _, e := range endpoints {
		h := c.hosts[e.Address]
		if h == nil {
			h = &host{address: e.Address, pools: pools{wire: c.wire}}
		}
		next[e.Address] = h
		all = append(all, &endpoint{Endpoint: e, host: h})
	}
	c.balancer.Store(newBalancer(c.config, all, c.random))
	for address, h := range c.hosts {
		if next[address] != h {
			h.pools.close()
		}
	}
	c.hosts = next
}

// close drops idle connections. Requests that still hold the cluster may end in it.
func (c *cluster) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.hosts {
		h.pools.close()
	}
}
