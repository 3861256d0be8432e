package mesh

import routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

// choice is the cluster that one request was given to. entry is nil where the route names a single cluster.
type choice struct {
	cluster string
	entry   *routev3.WeightedCluster_ClusterWeight
}

// clusterChoice is where a route sends requests.
type clusterChoice struct {
	single string
	// header names the request header that names the cluster, if the route says so.
	header  string
	entries []*routev3.WeightedCluster_ClusterWeight
	total   uint64
}

func compileClusters(a *routev3.RouteAction) *clusterChoice {
	c := &clusterChoice{single: a.GetCluster(), header: a.GetClusterHeader()}
	for _, e := range a.GetWeightedClusters().GetClusters() {
		c.entries = append(c.entries, e)
		c.total += uint64(e.GetWeight().GetValue())
	}
	return c
}

// pick chooses a cluster by weight, for each request anew. random(n) is uniform in [0, n).
func (c *clusterChoice) pick(a *arrival, random func(uint64) uint64) choice {
	if len(c.entries) == 0 {
		if c.header != "" {
			name, _ := a.field(c.header)
			return choice{cluster: name}
		}
		return choice{cluster: c.single}
	}
	var point uint64
	if c.total > 0 {
		point = random(c.total)
	}
	for _, e := range c.entries {
		weight := uint64(e.GetWeight().GetValue())
		if point < weight {
			return choice{cluster: e.GetName(), entry: e}
		}
		point -= weight
	}
	// Only a sum of zero comes here; Envoy refuses such a route.
	return choice{}
}
