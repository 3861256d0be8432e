package xds

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// The resource types of ADS.
const (
	ClusterType  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	EndpointType = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	ListenerType = "type.googleapis.com/envoy.config.listener.v3.Listener"
	RouteType    = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
)

// state is what istiod sent so far. Clusters and listeners are replaced whole by each answer; endpoints and routes are
// merged, because an answer to those may carry only what changed.
type state struct {
	gotClusters, gotListeners bool
	// wasWarm stays true once the first clusters were warm.
	wasWarm bool

	clusters  map[string]*clusterv3.Cluster
	endpoints map[string]*endpointv3.ClusterLoadAssignment
	listeners map[string]Listener
	// connections are the listeners without HTTP.
	connections map[string]ConnectionListener
	routes      map[string]*routev3.RouteConfiguration
	// flat holds the endpoints of an assignment, read once.
	flat map[string][]Endpoint
}

func newState() *state {
	return &state{
		clusters: map[string]*clusterv3.Cluster{}, endpoints: map[string]*endpointv3.ClusterLoadAssignment{},
		listeners: map[string]Listener{}, connections: map[string]ConnectionListener{}, routes: map[string]*routev3.RouteConfiguration{}, flat: map[string][]Endpoint{},
	}
}

// apply takes one answer in, or refuses it whole.
func (s *state) apply(typeURL string, resources []*anypb.Any) error {
	switch typeURL {
	case ClusterType:
		return s.applyClusters(resources)
	case EndpointType:
		return s.applyEndpoints(resources)
	case ListenerType:
		return s.applyListeners(resources)
	case RouteType:
		return s.applyRoutes(resources)
	default:
		return fmt.Errorf("resource type %q was not asked for", typeURL)
	}
}

func (s *state) applyClusters(resources []*anypb.Any) error {
	list, err := decode(resources, func() *clusterv3.Cluster { return &clusterv3.Cluster{} })
	if err != nil {
		return err
	}
	next := make(map[string]*clusterv3.Cluster, len(list))
	for _, c := range list {
		// The pointer is kept where nothing changed: a changed cluster means new connection pools.
		if old := s.clusters[c.GetName()]; old != nil && proto.Equal(old, c) {
			c = old
		}
		next[c.GetName()] = c
	}
	s.clusters, s.gotClusters = next, true
	wanted := s.endpointNames()
	for name := range s.endpoints {
		if _, ok := slices.BinarySearch(wanted, name); !ok {
			delete(s.endpoints, name)
			delete(s.flat, name)
		}
	}
	return nil
}

func (s *state) applyEndpoints(resources []*anypb.Any) error {
	list, err := decode(resources, func() *endpointv3.ClusterLoadAssignment { return &endpointv3.ClusterLoadAssignment{} })
	if err != nil {
		return err
	}
	wanted := s.endpointNames()
	for _, cla := range list {
		if _, ok := slices.BinarySearch(wanted, cla.GetClusterName()); ok {
			s.endpoints[cla.GetClusterName()] = cla
			s.flat[cla.GetClusterName()] = endpointsOf(cla)
		}
	}
	return nil
}

func (s *state) applyListeners(resources []*anypb.Any) error {
	list, err := decode(resources, func() *listenerv3.Listener { return &listenerv3.Listener{} })
	if err != nil {
		return err
	}
	next, connections := make(map[string]Listener, len(list)), map[string]ConnectionListener{}
	for _, l := range list {
		parsed, ok, err := parseListener(l)
		if err != nil {
			return err
		}
		if ok {
			next[parsed.Name] = parsed
			continue
		}
		connected, ok, err := parseConnectionListener(l)
		if err != nil {
			return err
		}
		if ok {
			connections[connected.Name] = connected
		}
	}
	s.listeners, s.connections, s.gotListeners = next, connections, true
	wanted := s.routeNames()
	for name := range s.routes {
		if _, ok := slices.BinarySearch(wanted, name); !ok {
			delete(s.routes, name)
		}
	}
	return nil
}

func (s *state) applyRoutes(resources []*anypb.Any) error {
	list, err := decode(resources, func() *routev3.RouteConfiguration { return &routev3.RouteConfiguration{} })
	if err != nil {
		return err
	}
	for _, rc := range list {
		if old := s.routes[rc.GetName()]; old == nil || !proto.Equal(old, rc) {
			s.routes[rc.GetName()] = rc
		}
	}
	return nil
}

// endpointNames are the assignments to subscribe to, sorted.
func (s *state) endpointNames() []string {
	var names []string
	for _, c := range s.clusters {
		if c.GetType() == clusterv3.Cluster_EDS {
			names = append(names, edsName(c))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// routeNames are the route configurations to subscribe to, sorted.
func (s *state) routeNames() []string {
	var names []string
	for _, l := range s.listeners {
		if l.RouteConfig != "" {
			names = append(names, l.RouteConfig)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// snapshot is the usable part of the state.
func (s *state) snapshot() *Snapshot {
	snap := &Snapshot{
		Listeners: map[string]Listener{}, Connections: s.connections, Routes: maps.Clone(s.routes), Clusters: make(map[string]*Cluster, len(s.clusters)),
	}
	for name, c := range s.clusters {
		endpoints, warm := s.endpointsFor(c)
		if !warm {
			snap.Warming = append(snap.Warming, name)
			continue
		}
		snap.Clusters[name] = &Cluster{Config: c, Endpoints: endpoints}
	}
	slices.Sort(snap.Warming)
	for name, l := range s.listeners {
		if l.Inline != nil || s.routes[l.RouteConfig] != nil {
			snap.Listeners[name] = l
		}
	}
	s.wasWarm = s.wasWarm || s.gotClusters && len(snap.Warming) == 0
	snap.Synced = s.wasWarm && s.gotListeners && (len(s.listeners) == 0 || len(snap.Listeners) > 0)
	return snap
}

func (s *state) endpointsFor(c *clusterv3.Cluster) ([]Endpoint, bool) {
	if c.GetType() != clusterv3.Cluster_EDS {
		return endpointsOf(c.GetLoadAssignment()), true
	}
	_, ok := s.endpoints[edsName(c)]
	return s.flat[edsName(c)], ok
}

func edsName(c *clusterv3.Cluster) string {
	if name := c.GetEdsClusterConfig().GetServiceName(); name != "" {
		return name
	}
	return c.GetName()
}

// parseListener reads an outbound listener's first plaintext HTTP connection manager. A listener without one is not an
// error: parseConnectionListener reads those of TCP and TLS services, and HTTP behind TLS is not served by the lab.
func parseListener(l *listenerv3.Listener) (Listener, bool, error) {
	if l.GetTrafficDirection() == corev3.TrafficDirection_INBOUND {
		return Listener{}, false, nil
	}
	chains := slices.Clone(l.GetFilterChains())
	if def := l.GetDefaultFilterChain(); def != nil {
		chains = append(chains, def)
	}
	socket := l.GetAddress().GetSocketAddress()
	for _, chain := range chains {
		if chain.GetTransportSocket() != nil {
			continue
		}
		for _, filter := range chain.GetFilters() {
			config := filter.GetTypedConfig()
			if !config.MessageIs((*hcmv3.HttpConnectionManager)(nil)) {
				continue
			}
			hcm := &hcmv3.HttpConnectionManager{}
			if err := config.UnmarshalTo(hcm); err != nil {
				return Listener{}, false, fmt.Errorf("listener %q: HTTP connection manager: %w", l.GetName(), err)
			}
			return Listener{
				Name: l.GetName(), Address: socket.GetAddress(), Port: socket.GetPortValue(),
				RouteConfig: hcm.GetRds().GetRouteConfigName(), Inline: hcm.GetRouteConfig(),
			}, true, nil
		}
	}
	return Listener{}, false, nil
}

func decode[M proto.Message](resources []*anypb.Any, fresh func() M) ([]M, error) {
	list := make([]M, 0, len(resources))
	for _, r := range resources {
		m := fresh()
		if err := r.UnmarshalTo(m); err != nil {
			return nil, fmt.Errorf("decode %s: %w", r.GetTypeUrl(), err)
		}
		list = append(list, m)
	}
	return list, nil
}

func hostPort(host string, port uint32) string {
	return net.JoinHostPort(host, strconv.FormatUint(uint64(port), 10))
}
