// Package grpcclient is a client of the mesh that the lab did not write: grpc-go's own xDS resolver and balancers, configured
// by the same istiod as the stand-ins for Envoy. Where it and a stand-in agree on shares, neither made them up.
package grpcclient

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/xds"

	labxds "github.com/sluice-dev/sluice/e2e/lab/xds"
)

// VersionHeader is the header metadata by which applications of the lab name their version.
const VersionHeader = "x-app-version"

// callTimeout bounds one call: a mesh that answers nothing must not stop a test.
const callTimeout = 10 * time.Second

// Config is what a Client needs.
type Config struct {
	// Discovery is istiod's plaintext gRPC address.
	Discovery string
	// Target is a Service's full name and port: "micro-api.shop.svc.cluster.local:7070".
	Target string
	// Name, Namespace and IP are the calling pod's; it need not exist.
	Name, Namespace string
	IP              netip.Addr
	// Dial reaches pod addresses.
	Dial func(ctx context.Context, protocol, addr string) (net.Conn, error)
}

// Client calls one Service.
type Client struct {
	conn   *grpc.ClientConn
	health healthpb.HealthClient
	target string
}

// Dial makes a client; it connects with the first call.
func Dial(cfg Config) (*Client, error) {
	bootstrap, err := bootstrap(cfg)
	if err != nil {
		return nil, fmt.Errorf("client of %q: %w", cfg.Target, err)
	}
	resolver, err := xds.NewXDSResolverWithConfigForTesting(bootstrap)
	if err != nil {
		return nil, fmt.Errorf("client of %q: xDS resolver: %w", cfg.Target, err)
	}
	conn, err := grpc.NewClient("xds:///"+cfg.Target,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithResolvers(resolver),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return cfg.Dial(ctx, "tcp", addr) }))
	if err != nil {
		return nil, fmt.Errorf("client of %q: %w", cfg.Target, err)
	}
	return &Client{conn: conn, health: healthpb.NewHealthClient(conn), target: cfg.Target}, nil
}

// Close ends the client.
func (c *Client) Close() error { return c.conn.Close() }

// Call asks once and returns the version that answered. A failed call is an error with a gRPC status, and names the version
// if the application answered.
func (c *Client) Call(ctx context.Context) (version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var header metadata.MD
	_, err = c.health.Check(ctx, &healthpb.HealthCheckRequest{}, grpc.Header(&header), grpc.WaitForReady(true))
	if values := header.Get(VersionHeader); len(values) > 0 {
		version = values[0]
	}
	if err != nil {
		return version, fmt.Errorf("call %q: %w", c.target, err)
	}
	return version, nil
}

// Shares asks n times, one after the other, and counts answers by version. It stops at the first failed call.
func (c *Client) Shares(ctx context.Context, n int) (map[string]int, error) {
	shares := map[string]int{}
	for range n {
		version, err := c.Call(ctx)
		if err != nil {
			return shares, err
		}
		shares[version]++
	}
	return shares, nil
}

// Tally asks n times and counts answers by version and failures by gRPC status, and stops at nothing but ctx.
func (c *Client) Tally(ctx context.Context, n int) (versions, failures map[string]int, err error) {
	versions, failures = map[string]int{}, map[string]int{}
	for range n {
		version, err := c.Call(ctx)
		switch {
		case ctx.Err() != nil:
			return versions, failures, context.Cause(ctx)
		case err != nil:
			failures[status.Code(err).String()]++
		default:
			versions[version]++
		}
	}
	return versions, failures, nil
}

func bootstrap(cfg Config) ([]byte, error) {
	node := labxds.Node{
		Type: labxds.Sidecar, IP: cfg.IP.String(), Name: cfg.Name, Namespace: cfg.Namespace, Workload: cfg.Name,
		Labels:   map[string]string{"app": cfg.Name},
		Metadata: map[string]any{"GENERATOR": "grpc"},
	}
	return json.Marshal(map[string]any{
		"xds_servers": []any{map[string]any{
			"server_uri":      cfg.Discovery,
			"channel_creds":   []any{map[string]any{"type": "insecure"}},
			"server_features": []any{"xds_v3"},
		}},
		"node": map[string]any{"id": node.ID(), "metadata": node.Attributes(), "locality": map[string]any{}},
	})
}
