package xds

import (
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// Snapshot is everything a proxy may use at one moment. It is never changed; messages in it are shared between snapshots
// as long as istiod does not send them anew, so that their pointers may serve as keys.
type Snapshot struct {
	// Synced says that clusters and listeners arrived at least once and that no first cluster is still warming.
	Synced bool
	// Listeners are the outbound HTTP listeners whose routes are known, by name.
	Listeners map[string]Listener
	// Connections are the outbound listeners without HTTP, by name.
	Connections map[string]ConnectionListener
	// Routes are the route configurations that listeners name.
	Routes map[string]*routev3.RouteConfiguration
	// Clusters are the warm ones.
	Clusters map[string]*Cluster
	// Warming are the names of clusters that istiod sent and whose endpoints have not arrived, sorted.
	Warming []string
}

// Listener is an outbound listener with an HTTP connection manager.
type Listener struct {
	Name, Address string
	Port          uint32
	// RouteConfig names one of Snapshot.Routes, unless Inline holds the routes.
	RouteConfig string
	Inline      *routev3.RouteConfiguration
}

// ConnectionListener is an outbound listener that takes connections as they come.
type ConnectionListener struct {
	Name, Address string
	Port          uint32
	// Chains are those for connections that begin TLS with one of their names; Default is for all others, nil where there is none.
	Chains  []Chain
	Default *Chain
}

// Chain says where the connections go that it is for.
type Chain struct {
	// Names are the SNIs that it is for; none for any, TLS or not.
	Names []string
	// Clusters are drawn by weight. One that is named alone gets everything.
	Clusters []WeightedCluster
}

// WeightedCluster is one of a chain's.
type WeightedCluster struct {
	Name   string
	Weight uint32
}

// ConnectionsTo returns the listener for an address and port: that address's own, or the one on every address.
func (s *Snapshot) ConnectionsTo(address string, port uint32) (ConnectionListener, bool) {
	var everywhere ConnectionListener
	found := false
	for _, l := range s.Connections {
		if l.Port != port {
			continue
		}
		if l.Address == address {
			return l, true
		}
		if l.Address == "0.0.0.0" || l.Address == "::" {
			everywhere, found = l, true
		}
	}
	return everywhere, found
}

// ByName reports whether what a client begins TLS with decides about a chain.
func (l ConnectionListener) ByName() bool {
	return slices.ContainsFunc(l.Chains, func(c Chain) bool { return len(c.Names) > 0 })
}

// ChainFor returns the chain for the name that a client begins TLS with, "" for none: the one that has the name, or else the longest
// wildcard for it, or else one for any.
func (l ConnectionListener) ChainFor(sni string) (Chain, bool) {
	best, found := 0, -1
	for i, c := range l.Chains {
		if fit := c.fit(sni); fit > best {
			best, found = fit, i
		}
	}
	switch {
	case found >= 0:
		return l.Chains[found], true
	case l.Default != nil:
		return *l.Default, true
	}
	return Chain{}, false
}

// fit is how closely a chain is for an SNI; 0 is not at all. A name that begins with "*." is less than any without.
func (c Chain) fit(sni string) int {
	const exact = 1 << 16 // longer than a name can be
	if len(c.Names) == 0 {
		return 1
	}
	best := 0
	for _, name := range c.Names {
		suffix, wild := strings.CutPrefix(name, "*")
		switch {
		case sni == "":
		case wild && strings.HasSuffix(strings.ToLower(sni), suffix):
			best = max(best, 1+len(suffix))
		case strings.EqualFold(name, sni):
			best = exact
		}
	}
	return best
}

// ListenerOn returns the listener for a port: the one on every address is preferred, as service ports with HTTP have it.
func (s *Snapshot) ListenerOn(port uint32) (Listener, bool) {
	var found Listener
	var ok bool
	for _, l := range s.Listeners {
		if l.Port != port {
			continue
		}
		if l.Address == "0.0.0.0" || l.Address == "::" {
			return l, true
		}
		if !ok || l.Name < found.Name {
			found, ok = l, true
		}
	}
	return found, ok
}

// RoutesOf returns the routes of a listener, or nil.
func (s *Snapshot) RoutesOf(l Listener) *routev3.RouteConfiguration {
	if l.Inline != nil {
		return l.Inline
	}
	return s.Routes[l.RouteConfig]
}

// Cluster is a warm cluster and its endpoints.
type Cluster struct {
	Config    *clusterv3.Cluster
	Endpoints []Endpoint
}

// Endpoint is one address of a cluster.
type Endpoint struct {
	// Address is "ip:port".
	Address string
	// Healthy is false for what istiod sends as not ready or draining.
	Healthy  bool
	Weight   uint32
	Priority uint32
	// What istiod says of the pod behind it; empty where it says nothing.
	Workload, Namespace, CanonicalService, CanonicalRevision, ClusterID string
}

// Service is the host, name and namespace that a cluster's metadata names, as Istio's telemetry reads them.
func (c *Cluster) Service() (host, name, namespace string) {
	services := c.Config.GetMetadata().GetFilterMetadata()["istio"].GetFields()["services"].GetListValue().GetValues()
	if len(services) == 0 {
		return "", "", ""
	}
	f := services[0].GetStructValue().GetFields()
	return f["host"].GetStringValue(), f["name"].GetStringValue(), f["namespace"].GetStringValue()
}

// HealthyEndpoints counts the endpoints that may receive requests.
func (c *Cluster) HealthyEndpoints() int {
	n := 0
	for _, e := range c.Endpoints {
		if e.Healthy {
			n++
		}
	}
	return n
}

// endpointsOf flattens an assignment. Localities keep only their priority: the lab has one zone.
func endpointsOf(cla *endpointv3.ClusterLoadAssignment) []Endpoint {
	var all []Endpoint
	for _, locality := range cla.GetEndpoints() {
		for _, lb := range locality.GetLbEndpoints() {
			socket := lb.GetEndpoint().GetAddress().GetSocketAddress()
			if socket == nil {
				continue
			}
			e := Endpoint{
				Address:  hostPort(socket.GetAddress(), socket.GetPortValue()),
				Healthy:  healthy(lb.GetHealthStatus()),
				Weight:   max(1, lb.GetLoadBalancingWeight().GetValue()),
				Priority: locality.GetPriority(),
			}
			e.describe(lb.GetMetadata())
			all = append(all, e)
		}
	}
	return all
}

// describe reads istiod's "workload;namespace;canonical service;canonical revision;cluster".
func (e *Endpoint) describe(m *corev3.Metadata) {
	packed := m.GetFilterMetadata()["istio"].GetFields()["workload"].GetStringValue()
	if packed == "" {
		return
	}
	parts := append(strings.Split(packed, ";"), "", "", "", "")
	e.Workload, e.Namespace, e.CanonicalService, e.CanonicalRevision, e.ClusterID = parts[0], parts[1], parts[2], parts[3], parts[4]
}

// healthy is Envoy's reading of a status from EDS: unknown counts as healthy, draining does not.
func healthy(s corev3.HealthStatus) bool {
	switch s {
	case corev3.HealthStatus_UNKNOWN, corev3.HealthStatus_HEALTHY, corev3.HealthStatus_DEGRADED:
		return true
	default:
		return false
	}
}
