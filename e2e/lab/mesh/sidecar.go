package mesh

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"

	"github.com/sluice-dev/sluice/e2e/lab/network"
	"github.com/sluice-dev/sluice/e2e/lab/workload"
	"github.com/sluice-dev/sluice/e2e/lab/xds"
)

// SidecarConfig says whose sidecar it is and where it finds its configuration.
type SidecarConfig struct {
	// Discovery is istiod's plaintext gRPC address.
	Discovery string
	Network   *network.Network
	Telemetry *Telemetry
	// Pod is the client's. It needs no Pod object; without an address it gets one from the network.
	Pod workload.Identity
	// Listen fixes the loopback address of Addr; empty is a free one.
	Listen string
	// Resolve is the pod's resolver: the address of a service, by any of its names. Nil knows none.
	Resolve func(host string) (netip.Addr, bool)
	// Random(n) is uniform in [0, n). Nil is a good source; tests give a seeded one, safe for concurrent use.
	Random func(n uint64) uint64
}

// Sidecar stands in for the outbound half of a client's sidecar. As an http.RoundTripper it takes requests to
// "http://micro-api.shop.svc.cluster.local:19090/" and routes them by the routes of port 19090.
type Sidecar struct {
	cfg    SidecarConfig
	proxy  *proxy
	client *xds.Client
	server *server
}

// StartSidecar starts a client's sidecar and waits for its first configuration, for as long as ctx lets it.
func StartSidecar(ctx context.Context, cfg SidecarConfig) (*Sidecar, error) {
	if err := addressed(&cfg.Pod, cfg.Network); err != nil {
		return nil, fmt.Errorf("sidecar of %q: %w", cfg.Pod.Pod, err)
	}
	s := &Sidecar{cfg: cfg, proxy: newProxy(cfg.Pod, cfg.Telemetry, cfg.Network, cfg.Random)}
	s.proxy.hostFallback = true
	server, err := serve(or(cfg.Listen, "127.0.0.1:0"), http.HandlerFunc(s.serve))
	if err != nil {
		return nil, fmt.Errorf("sidecar of %q: %w", cfg.Pod.Pod, err)
	}
	s.server = server
	s.client, err = xds.Start(xds.Config{Server: cfg.Discovery, Node: nodeOf(xds.Sidecar, cfg.Pod), OnChange: s.proxy.use})
	if err != nil {
		server.close()
		cfg.Telemetry.Forget(cfg.Pod.Namespace, cfg.Pod.Pod)
		return nil, fmt.Errorf("sidecar of %q: %w", cfg.Pod.Pod, err)
	}
	if err := s.client.Wait(ctx, func(snap *xds.Snapshot) bool { return snap.Synced }); err != nil {
		s.Stop()
		return nil, fmt.Errorf("sidecar of %q: %w", cfg.Pod.Pod, err)
	}
	return s, nil
}

// Stop closes the listener, lets requests in flight end and takes the sidecar's series away.
func (s *Sidecar) Stop() {
	s.client.Stop()
	s.server.close()
	s.proxy.stop()
	s.cfg.Telemetry.Forget(s.cfg.Pod.Namespace, s.cfg.Pod.Pod)
}

// Addr is a loopback listener that routes by the Host header, its port included: "micro-api.shop.svc.cluster.local:19090".
func (s *Sidecar) Addr() string { return s.server.address }

// Snapshot is the configuration in use.
func (s *Sidecar) Snapshot() *xds.Snapshot { return s.client.Snapshot() }

// Err says what the configuration in use contains that could not be used; nil is all well.
func (s *Sidecar) Err() error { return s.proxy.problem() }

// Wait returns when the configuration in use satisfies cond.
func (s *Sidecar) Wait(ctx context.Context, cond func(*xds.Snapshot) bool) error {
	return s.client.Wait(ctx, cond)
}

// RoundTrip sends a request of the client's application. The URL's port is the one that the application connects to.
func (s *Sidecar) RoundTrip(req *http.Request) (*http.Response, error) {
	in := req.Clone(req.Context())
	in.Host = or(req.Host, req.URL.Host)
	if in.Body == nil {
		in.Body = http.NoBody
	} else if in.Body != http.NoBody && in.ContentLength == 0 {
		in.ContentLength = -1 // that is how clients say that they do not know the length
	}
	if in.ProtoMajor == 0 {
		in.ProtoMajor, in.ProtoMinor = 1, 1
	}
	resp, err := s.proxy.handle(in, portOf(req.URL.Host))
	if err != nil {
		return nil, fmt.Errorf("sidecar of %q: %s: %w", s.cfg.Pod.Pod, req.URL.Redacted(), context.Cause(req.Context()))
	}
	resp.Request = req
	return resp, nil
}

func (s *Sidecar) serve(w http.ResponseWriter, r *http.Request) {
	meet(r.Header) // an application cannot introduce itself as a proxy
	resp, err := s.proxy.handle(r, portOf(r.Host))
	if err != nil {
		panic(http.ErrAbortHandler) // the client is gone
	}
	reply(w, resp)
}

// portOf is the port that a host names, or HTTP's own.
func portOf(host string) uint32 {
	if _, port, err := net.SplitHostPort(host); err == nil {
		if n, err := strconv.ParseUint(port, 10, 32); err == nil {
			return uint32(n)
		}
	}
	return 80
}
