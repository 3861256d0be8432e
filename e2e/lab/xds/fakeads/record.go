package fakeads

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3" // routes hold it packed
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"            // clusters hold it packed
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sluice-dev/sluice/e2e/lab/xds"
)

// Record asks a control plane for everything that a node needs and returns the answers, trimmed to the resources whose name
// or content speaks of about, and of what no stand-in reads: filters, access logs, transport sockets.
func Record(ctx context.Context, address string, node xds.Node, about string) ([]proto.Message, error) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("record from %q: %w", address, err)
	}
	defer func() { _ = conn.Close() }() // nothing is written through it
	ads, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
	if err != nil {
		return nil, fmt.Errorf("record from %q: %w", address, err)
	}
	r := &recorder{ads: ads, about: about}
	if r.node, err = node.Proto(); err != nil {
		return nil, err
	}
	for _, typeURL := range []string{xds.ClusterType, xds.EndpointType, xds.ListenerType, xds.RouteType} {
		if err := r.take(typeURL); err != nil {
			return nil, fmt.Errorf("record %s from %q: %w", typeURL, address, err)
		}
	}
	return r.kept, nil
}

// Save writes a recording as JSON, for a person to read in a diff.
func Save(path string, recording []proto.Message) error {
	var all []json.RawMessage
	for _, m := range recording {
		packed, err := anypb.New(m)
		if err != nil {
			return fmt.Errorf("save %q: %w", path, err)
		}
		text, err := protojson.Marshal(packed)
		if err != nil {
			return fmt.Errorf("save %q: %w", path, err)
		}
		all = append(all, text)
	}
	// protojson spaces its output at random; encoding it again does not.
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return fmt.Errorf("save %q: %w", path, err)
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// Load reads a recording.
func Load(t testing.TB, path string) []proto.Message {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatalf("read %q: %v", path, err)
	}
	var recording []proto.Message
	for _, raw := range all {
		packed := &anypb.Any{}
		if err := protojson.Unmarshal(raw, packed); err != nil {
			t.Fatalf("read %q: %v", path, err)
		}
		m, err := packed.UnmarshalNew()
		if err != nil {
			t.Fatalf("read %q: %v", path, err)
		}
		recording = append(recording, m)
	}
	return recording
}

type recorder struct {
	ads      discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient
	node     *corev3.Node
	about    string
	clusters []string
	routes   []string
	kept     []proto.Message
}

func (r *recorder) take(typeURL string) error {
	request := &discoveryv3.DiscoveryRequest{TypeUrl: typeURL, Node: r.node}
	switch typeURL {
	case xds.EndpointType:
		request.ResourceNames = r.clusters
	case xds.RouteType:
		request.ResourceNames = r.routes
	}
	if err := r.ads.Send(request); err != nil {
		return err
	}
	for {
		resp, err := r.ads.Recv()
		if err != nil {
			return err
		}
		if resp.GetTypeUrl() != typeURL {
			continue // a push of something that was recorded before
		}
		for _, packed := range resp.GetResources() {
			if err := r.keep(packed); err != nil {
				return err
			}
		}
		return nil
	}
}

func (r *recorder) keep(packed *anypb.Any) error {
	m, err := packed.UnmarshalNew()
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case *clusterv3.Cluster:
		if !strings.Contains(m.GetName(), r.about) {
			return nil
		}
		m.Filters, m.TransportSocket, m.TransportSocketMatches = nil, nil, nil
		r.clusters = append(r.clusters, m.GetName())
	case *listenerv3.Listener:
		route, err := trim(m)
		if err != nil || route == "" {
			return err
		}
		r.routes = append(r.routes, route)
	}
	r.kept = append(r.kept, m)
	return nil
}

// trim reduces a listener to its plain HTTP connection managers, and those to the name of their routes.
func trim(l *listenerv3.Listener) (route string, err error) {
	l.AccessLog, l.ListenerFilters, l.DefaultFilterChain = nil, nil, nil
	var chains []*listenerv3.FilterChain
	for _, chain := range l.GetFilterChains() {
		var filters []*listenerv3.Filter
		for _, f := range chain.GetFilters() {
			hcm := &hcmv3.HttpConnectionManager{}
			if chain.GetTransportSocket() != nil || !f.GetTypedConfig().MessageIs(hcm) {
				continue
			}
			if err := f.GetTypedConfig().UnmarshalTo(hcm); err != nil {
				return "", err
			}
			if route = hcm.GetRds().GetRouteConfigName(); route == "" {
				continue
			}
			packed, err := anypb.New(&hcmv3.HttpConnectionManager{StatPrefix: hcm.GetStatPrefix(), RouteSpecifier: hcm.GetRouteSpecifier()})
			if err != nil {
				return "", err
			}
			f.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: packed}
			filters = append(filters, f)
		}
		if chain.Filters = filters; filters != nil {
			chains = append(chains, chain)
		}
	}
	l.FilterChains = chains
	return route, nil
}
