package xds

import (
	"context"
	"fmt"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// subscription is what one stream last said about one resource type.
type subscription struct {
	asked          bool
	names          []string
	version, nonce string
}

// stream is one ADS stream. Only its own goroutine touches it and the state.
type stream struct {
	ads   discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient
	node  *corev3.Node
	state *state
	subs  map[string]*subscription
	// told says that the node went out: the first request carries it and the others need not.
	told bool
}

// openStream starts a stream and asks for the clusters, which is what Envoy asks for first.
func openStream(ctx context.Context, conn grpc.ClientConnInterface, node *corev3.Node, st *state, versions map[string]string) (*stream, error) {
	ads, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx, grpc.WaitForReady(true))
	if err != nil {
		return nil, fmt.Errorf("open ADS stream: %w", err)
	}
	s := &stream{ads: ads, node: node, state: st, subs: map[string]*subscription{}}
	for _, t := range []string{ClusterType, EndpointType, ListenerType, RouteType} {
		s.subs[t] = &subscription{version: versions[t]}
	}
	return s, s.send(ClusterType, nil, nil)
}

// next handles one answer: takes it in, acknowledges or refuses it, and asks for what it made necessary.
func (s *stream) next() (typeURL, version string, err error) {
	resp, err := s.ads.Recv()
	if err != nil {
		return "", "", fmt.Errorf("receive from ADS: %w", err)
	}
	sub := s.subs[resp.GetTypeUrl()]
	if sub == nil {
		return "", "", fmt.Errorf("receive from ADS: %q was not asked for", resp.GetTypeUrl())
	}
	sub.nonce = resp.GetNonce()
	if err := s.state.apply(resp.GetTypeUrl(), resp.GetResources()); err != nil {
		return "", "", s.send(resp.GetTypeUrl(), sub.names, err)
	}
	sub.version = resp.GetVersionInfo()
	if err := s.send(resp.GetTypeUrl(), s.names(resp.GetTypeUrl()), nil); err != nil {
		return "", "", err
	}
	return resp.GetTypeUrl(), sub.version, nil
}

// follow subscribes to what the state now refers to and was not asked for.
func (s *stream) follow() error {
	if err := s.update(EndpointType, s.state.endpointNames()); err != nil {
		return err
	}
	// Envoy starts listening only when its first clusters are warm.
	if s.state.wasWarm && !s.subs[ListenerType].asked {
		if err := s.send(ListenerType, nil, nil); err != nil {
			return err
		}
	}
	return s.update(RouteType, s.state.routeNames())
}

func (s *stream) update(typeURL string, names []string) error {
	sub := s.subs[typeURL]
	if slices.Equal(names, sub.names) && (sub.asked || len(names) == 0) {
		return nil
	}
	return s.send(typeURL, names, nil)
}

func (s *stream) names(typeURL string) []string {
	switch typeURL {
	case EndpointType:
		return s.state.endpointNames()
	case RouteType:
		return s.state.routeNames()
	default:
		return nil
	}
}

func (s *stream) send(typeURL string, names []string, refusal error) error {
	sub := s.subs[typeURL]
	sub.asked, sub.names = true, names
	req := &discoveryv3.DiscoveryRequest{
		TypeUrl: typeURL, ResourceNames: names, VersionInfo: sub.version, ResponseNonce: sub.nonce,
	}
	if !s.told {
		req.Node, s.told = s.node, true
	}
	if refusal != nil {
		req.ErrorDetail = &statuspb.Status{Code: int32(codes.InvalidArgument), Message: refusal.Error()}
	}
	if err := s.ads.Send(req); err != nil {
		return fmt.Errorf("send to ADS: %w", err)
	}
	return nil
}
