package mesh

import (
	"errors"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/sluice-dev/sluice/e2e/lab/network"
	"github.com/sluice-dev/sluice/e2e/lab/xds"
)

// table is a snapshot in the form that requests are routed by. It is replaced whole; a request uses one table throughout.
type table struct {
	ports map[uint32]*routes
	// snap is what it was made from.
	snap     *xds.Snapshot
	clusters map[string]*cluster
	// compiled is kept from one table to the next by the message that it came from.
	compiled map[*routev3.RouteConfiguration]*routes
	// endpoints are what each cluster was last given.
	endpoints map[string][]xds.Endpoint
}

// compile makes the next table, keeping what did not change: connection pools, breakers, round robins.
func compile(snap *xds.Snapshot, old *table, n *network.Network, random func(uint64) uint64) (*table, error) {
	next := &table{
		ports: map[uint32]*routes{}, snap: snap, clusters: make(map[string]*cluster, len(snap.Clusters)),
		compiled: map[*routev3.RouteConfiguration]*routes{}, endpoints: make(map[string][]xds.Endpoint, len(snap.Clusters)),
	}
	next.addPorts(snap, old)
	var errs []error
	for name, c := range snap.Clusters {
		made, err := next.adopt(name, c, old, n, random)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		next.clusters[name], next.endpoints[name] = made, c.Endpoints
	}
	return next, errors.Join(errs...)
}

// retire drops the connections of clusters that the next table does not use. It comes after the next table is in use, and
// leaves their endpoints alone: requests that began with the old table end with it.
func (t *table) retire(next *table) {
	for name, c := range t.clusters {
		if next.clusters[name] != c {
			c.close()
		}
	}
}

func (t *table) addPorts(snap *xds.Snapshot, old *table) {
	for _, l := range snap.Listeners {
		if t.ports[l.Port] != nil {
			continue
		}
		l, _ = snap.ListenerOn(l.Port)
		rc := snap.RoutesOf(l)
		rs := old.compiled[rc]
		if rs == nil {
			rs = compileRoutes(rc)
		}
		t.compiled[rc], t.ports[l.Port] = rs, rs
	}
}

// adopt returns the old cluster with its new endpoints, or a new one.
func (t *table) adopt(name string, c *xds.Cluster, old *table, n *network.Network, random func(uint64) uint64) (*cluster, error) {
	was := old.clusters[name]
	if was == nil || was.config != c.Config {
		return newCluster(c, n, random)
	}
	if !slices.Equal(old.endpoints[name], c.Endpoints) {
		was.update(c.Endpoints)
	}
	return was, nil
}

// passthrough says that a cluster sends requests to wherever the client meant to connect, which a loopback has not.
func (c *cluster) passthrough() bool { return c.config.GetType() == clusterv3.Cluster_ORIGINAL_DST }
