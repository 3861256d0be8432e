// Package fakeads is an ADS server for tests: it serves what it is given, state of the world, and records what clients
// acknowledged and refused. As istiod does, it sends endpoints and routes only to those who ask for them by name.
package fakeads

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sluice-dev/sluice/e2e/lab/xds"
)

// Server is one ADS server on a loopback port.
type Server struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer

	address string
	grpc    *grpc.Server

	mu        sync.Mutex
	version   int
	resources map[string]map[string]proto.Message // by type, then name
	changed   chan struct{}
	requests  []*discoveryv3.DiscoveryRequest
}

// Start serves on a free loopback port until the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{resources: map[string]map[string]proto.Message{}, changed: make(chan struct{})}
	s.Listen(t, "127.0.0.1:0")
	t.Cleanup(s.Close)
	return s
}

// Listen starts the server, again after Close if the test wants it to come back.
func (s *Server) Listen(t testing.TB, address string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatalf("listen for ADS: %v", err)
	}
	s.address = l.Addr().String()
	s.grpc = grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s.grpc, s)
	go func() { _ = s.grpc.Serve(l) }() // it ends when the server is closed
}

// Close cuts every stream off.
func (s *Server) Close() { s.grpc.Stop() }

// Address is where clients connect.
func (s *Server) Address() string { return s.address }

// Set adds or replaces resources and pushes what changed, in one step.
func (s *Server) Set(resources ...proto.Message) {
	s.change(func() {
		for _, r := range resources {
			typeURL, name := identify(r)
			if s.resources[typeURL] == nil {
				s.resources[typeURL] = map[string]proto.Message{}
			}
			s.resources[typeURL][name] = r
		}
	})
}

// Delete removes resources by type and name.
func (s *Server) Delete(typeURL string, names ...string) {
	s.change(func() {
		for _, name := range names {
			delete(s.resources[typeURL], name)
		}
	})
}

// Requests are copies of all requests so far, acknowledgements and refusals included.
func (s *Server) Requests() []*discoveryv3.DiscoveryRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

func (s *Server) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	s.version++
	close(s.changed)
	s.changed = make(chan struct{})
}

// watch is what one stream subscribed to.
type watch struct {
	names    []string
	wildcard bool
	sent     map[string]proto.Message
	pushed   bool
}

// StreamAggregatedResources serves one client.
func (s *Server) StreamAggregatedResources(ads discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	requests := make(chan *discoveryv3.DiscoveryRequest)
	go func() {
		defer close(requests)
		for {
			r, err := ads.Recv()
			if err != nil {
				return
			}
			select {
			case requests <- r:
			case <-ads.Context().Done():
				return
			}
		}
	}()
	watches := map[string]*watch{}
	for {
		changed := s.next()
		// The order in which istiod pushes.
		for _, t := range []string{xds.ClusterType, xds.EndpointType, xds.ListenerType, xds.RouteType} {
			if err := s.push(ads, t, watches[t]); err != nil {
				return err
			}
		}
		select {
		case r, ok := <-requests:
			if !ok {
				return nil
			}
			s.take(watches, r)
		case <-changed:
		}
	}
}

func (s *Server) next() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *Server) take(watches map[string]*watch, r *discoveryv3.DiscoveryRequest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r)
	w := watches[r.GetTypeUrl()]
	if w == nil {
		w = &watch{sent: map[string]proto.Message{}}
		watches[r.GetTypeUrl()] = w
	}
	w.names = r.GetResourceNames()
	w.wildcard = r.GetTypeUrl() == xds.ClusterType || r.GetTypeUrl() == xds.ListenerType
}

// push sends the resources of a type if any that the stream watches changed: all of a wildcard type, else the changed ones.
func (s *Server) push(ads discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer, typeURL string, w *watch) error {
	if w == nil {
		return nil
	}
	s.mu.Lock()
	current := map[string]proto.Message{}
	for name, r := range s.resources[typeURL] {
		if w.wildcard || slices.Contains(w.names, name) {
			current[name] = r
		}
	}
	resp := &discoveryv3.DiscoveryResponse{TypeUrl: typeURL, VersionInfo: strconv.Itoa(s.version)}
	s.mu.Unlock()
	changed := len(current) != len(w.sent)
	names := make([]string, 0, len(current))
	for name, r := range current {
		fresh := w.sent[name] != r
		changed = changed || fresh
		if fresh || w.wildcard {
			names = append(names, name)
		}
	}
	if !changed && (w.pushed || !w.wildcard) {
		return nil
	}
	slices.Sort(names)
	for _, name := range names {
		packed, err := anypb.New(current[name])
		if err != nil {
			return fmt.Errorf("pack %q: %w", name, err)
		}
		resp.Resources = append(resp.Resources, packed)
	}
	w.sent, w.pushed = current, true
	resp.Nonce = typeURL + "#" + resp.GetVersionInfo()
	return ads.Send(resp)
}

func identify(r proto.Message) (typeURL, name string) {
	switch r := r.(type) {
	case *clusterv3.Cluster:
		return xds.ClusterType, r.GetName()
	case *endpointv3.ClusterLoadAssignment:
		return xds.EndpointType, r.GetClusterName()
	case *listenerv3.Listener:
		return xds.ListenerType, r.GetName()
	case *routev3.RouteConfiguration:
		return xds.RouteType, r.GetName()
	default:
		panic(fmt.Sprintf("fakeads: %T is not served", r)) // a mistake in a test
	}
}
