package mesh

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	upstreamhttpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// overHTTP2 is what istiod adds to clusters of ports named grpc or http2.
func overHTTP2(c *clusterv3.Cluster) {
	packed, err := anypb.New(&upstreamhttpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
					Http2ProtocolOptions: &corev3.Http2ProtocolOptions{},
				},
			},
		},
	})
	if err != nil {
		panic(err) // constant
	}
	c.TypedExtensionProtocolOptions = map[string]*anypb.Any{protocolExtension: packed}
}

// health answers by the service asked for: "broken" with an error, anything else with SERVING.
type health struct {
	healthpb.UnimplementedHealthServer
	version string
}

func (h health) Check(ctx context.Context, r *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	if err := grpc.SetHeader(ctx, metadata.Pairs("x-app-version", h.version)); err != nil {
		return nil, err
	}
	if r.GetService() == "broken" {
		return nil, status.Error(codes.Internal, "broken on purpose")
	}
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, nil
}

// Watch sends two messages and ends, so that a stream's trailers pass through too.
func (h health) Watch(_ *healthpb.HealthCheckRequest, s grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	for range 2 {
		if err := s.Send(&healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}); err != nil {
			return err
		}
	}
	return status.Error(codes.Aborted, "that was all")
}

// grpcApp serves gRPC by grpc-go's handler, as the lab's images do.
func grpcApp(version string) http.Handler {
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, health{version: version})
	return server
}

func (w *world) dial(address, authority string) healthpb.HealthClient {
	w.t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority(authority))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() }) // the test is over
	return healthpb.NewHealthClient(conn)
}

// TestGRPC: a call passes both stand-ins with its header, its messages and its trailers, and is counted by its status.
func TestGRPC(t *testing.T) {
	w := newWorld(t)
	w.pod("10.244.1.1", "v1", grpcApp("v1"))
	w.serve([]proto.Message{clusterFor("v1", overHTTP2), endpointsFor("v1", "10.244.1.1")}, to(clusterNamed("v1")))
	g, s := w.gateway(), w.sidecar()
	address, err := g.WaitAddr(w.timeout(), 80)
	if err != nil {
		t.Fatal(err)
	}
	for name, client := range map[string]healthpb.HealthClient{
		"gateway": w.dial(address, shopHost), "sidecar": w.dial(s.Addr(), shopHost+":19090"),
	} {
		var header metadata.MD
		if _, err := client.Check(w.timeout(), &healthpb.HealthCheckRequest{}, grpc.Header(&header)); err != nil {
			t.Errorf("%s: call: %v", name, err)
		}
		if got := strings.Join(header.Get("x-app-version"), ","); got != "v1" {
			t.Errorf("%s: header x-app-version: got %q, want v1", name, got)
		}
		for _, internal := range []string{peerHeader, peerIDHeader} {
			if got := header.Get(internal); got != nil {
				t.Errorf("%s: the client sees %s: %q", name, internal, got)
			}
		}
		if _, err := client.Check(w.timeout(), &healthpb.HealthCheckRequest{Service: "broken"}); status.Code(err) != codes.Internal {
			t.Errorf("%s: broken call: got %v, want Internal", name, err)
		}
		if got := drainStream(w.timeout(), client); got != "2 messages, Aborted" {
			t.Errorf("%s: stream: got %s, want 2 messages, Aborted", name, got)
		}
	}
	labels := []string{"request_protocol", "response_code", "grpc_response_status", "response_flags", "destination_version", "source_workload"}
	want := map[string]int{}
	for _, source := range []string{"client", "istio-ingressgateway"} {
		for _, code := range []string{"0", "13", "10"} {
			want["grpc|200|"+code+"|-|v1|"+source] = 1
		}
	}
	for _, reporter := range []string{"source", "destination"} {
		eventually(t, reporter+" counts all calls", func() bool { return len(w.series(reporter, labels...)) >= len(want) })
		if diff := cmp.Diff(want, w.series(reporter, labels...)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", reporter, diff)
		}
	}
}

func drainStream(ctx context.Context, client healthpb.HealthClient) string {
	stream, err := client.Watch(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		return err.Error()
	}
	for n := 0; ; n++ {
		if _, err := stream.Recv(); err != nil {
			return fmt.Sprintf("%d messages, %s", n, status.Code(err))
		}
	}
}

// TestGRPCLocalAnswer: a proxy tells a gRPC client by a status over HTTP 200 that it has nobody to send it to.
func TestGRPCLocalAnswer(t *testing.T) {
	w := newWorld(t)
	w.serve([]proto.Message{clusterFor("v1", overHTTP2), endpointsFor("v1")}, to(clusterNamed("v1")))
	g := w.gateway()
	address, err := g.WaitAddr(w.timeout(), 80)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.dial(address, shopHost).Check(w.timeout(), &healthpb.HealthCheckRequest{})
	if status.Code(err) != codes.Unavailable || status.Convert(err).Message() != "no healthy upstream" {
		t.Errorf("answer: got %v, want Unavailable: no healthy upstream", err)
	}
	want := map[string]int{"grpc|200|14|UH": 1}
	if diff := cmp.Diff(want, w.series("source", "request_protocol", "response_code", "grpc_response_status", "response_flags")); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
}
