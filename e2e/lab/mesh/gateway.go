package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/sluice-dev/sluice/e2e/lab/network"
	"github.com/sluice-dev/sluice/e2e/lab/workload"
	"github.com/sluice-dev/sluice/e2e/lab/xds"
)

// GatewayConfig says who a gateway is and where it finds its configuration.
type GatewayConfig struct {
	// Discovery is istiod's plaintext gRPC address.
	Discovery string
	Network   *network.Network
	Telemetry *Telemetry
	// Pod is the gateway's; an empty one is an Istio ingress gateway in istio-system, with an address from the network.
	Pod workload.Identity
	// Listen fixes the loopback address for a Gateway's port; the others get a free one.
	Listen map[uint32]string
	// Random(n) is uniform in [0, n). Nil is a good source; tests give a seeded one, safe for concurrent use.
	Random func(n uint64) uint64
}

// Gateway stands in for an ingress gateway: it opens what istiod's listeners ask for, each port on a loopback port.
type Gateway struct {
	cfg    GatewayConfig
	proxy  *proxy
	client *xds.Client

	mu        sync.Mutex
	servers   map[uint32]door
	addresses map[uint32]string // kept for a port that comes back
	failed    map[uint32]error
	closing   sync.WaitGroup
}

// IngressGateway is the identity of the gateway that Istio installs.
func IngressGateway() workload.Identity {
	const name = "istio-ingressgateway"
	return workload.Identity{
		Pod: name + "-0", Namespace: "istio-system", ServiceAccount: name, Workload: name, App: name,
		CanonicalService: name, CanonicalRevision: latest,
		Labels: map[string]string{"app": name, "istio": "ingressgateway"},
	}
}

// StartGateway starts a gateway and waits for its first configuration, for as long as ctx lets it.
func StartGateway(ctx context.Context, cfg GatewayConfig) (*Gateway, error) {
	if cfg.Pod.Pod == "" {
		cfg.Pod = IngressGateway()
	}
	if err := addressed(&cfg.Pod, cfg.Network); err != nil {
		return nil, fmt.Errorf("gateway %q: %w", cfg.Pod.Pod, err)
	}
	g := &Gateway{
		cfg: cfg, proxy: newProxy(cfg.Pod, cfg.Telemetry, cfg.Network, cfg.Random),
		servers: map[uint32]door{}, addresses: map[uint32]string{}, failed: map[uint32]error{},
	}
	for port, address := range cfg.Listen {
		g.addresses[port] = address
	}
	client, err := xds.Start(xds.Config{Server: cfg.Discovery, Node: nodeOf(xds.Router, cfg.Pod), OnChange: g.use})
	if err != nil {
		cfg.Telemetry.Forget(cfg.Pod.Namespace, cfg.Pod.Pod)
		return nil, fmt.Errorf("gateway %q: %w", cfg.Pod.Pod, err)
	}
	g.client = client
	if err := client.Wait(ctx, func(s *xds.Snapshot) bool { return s.Synced }); err != nil {
		g.Stop()
		return nil, fmt.Errorf("gateway %q: %w", cfg.Pod.Pod, err)
	}
	return g, nil
}

// Stop closes the gateway's ports, lets requests in flight end and takes its series away.
func (g *Gateway) Stop() {
	g.client.Stop()
	g.listen(nil)
	g.closing.Wait()
	g.proxy.stop()
	g.cfg.Telemetry.Forget(g.cfg.Pod.Namespace, g.cfg.Pod.Pod)
}

// Snapshot is the configuration in use.
func (g *Gateway) Snapshot() *xds.Snapshot { return g.client.Snapshot() }

// Err says what the configuration in use contains that could not be used; nil is all well.
func (g *Gateway) Err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	errs := []error{g.proxy.problem()}
	for port, err := range g.failed {
		errs = append(errs, fmt.Errorf("port %d: %w", port, err))
	}
	return errors.Join(errs...)
}

// Wait returns when the configuration in use satisfies cond.
func (g *Gateway) Wait(ctx context.Context, cond func(*xds.Snapshot) bool) error {
	return g.client.Wait(ctx, cond)
}

// Addr is the loopback address of a Gateway's port, or "" while no Gateway asks for it.
func (g *Gateway) Addr(port uint32) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.servers[port].address
}

// WaitAddr waits until a Gateway asks for the port and returns its loopback address.
func (g *Gateway) WaitAddr(ctx context.Context, port uint32) (string, error) {
	var failed error
	err := g.Wait(ctx, func(*xds.Snapshot) bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		failed = g.failed[port]
		return failed != nil || g.servers[port].address != ""
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return "", fmt.Errorf("gateway %q: port %d: %w", g.cfg.Pod.Pod, port, err)
	}
	return g.Addr(port), nil
}

func (g *Gateway) use(snap *xds.Snapshot) {
	g.proxy.use(snap)
	ports := make(map[uint32]kind, len(snap.Listeners))
	for _, l := range snap.Connections {
		ports[l.Port] = forConnections
	}
	for _, l := range snap.Listeners {
		ports[l.Port] = forRequests
	}
	g.listen(ports)
}

// kind is what a gateway's port takes: requests, or connections as they come.
type kind bool

const (
	forRequests    kind = false
	forConnections kind = true
)

// door is an open port.
type door struct {
	kind    kind
	address string
	close   func()
}

// listen opens and closes ports until they are the given ones.
func (g *Gateway) listen(ports map[uint32]kind) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for port, d := range g.servers {
		if now, ok := ports[port]; !ok || now != d.kind {
			delete(g.servers, port)
			g.closing.Go(d.close)
		}
	}
	clear(g.failed)
	for port, kind := range ports {
		if g.servers[port].address != "" {
			continue
		}
		d, err := g.open(port, kind)
		if err != nil {
			g.failed[port] = err
			continue
		}
		g.servers[port], g.addresses[port] = d, d.address
	}
}

// open listens where the port was before, or where it may.
func (g *Gateway) open(port uint32, kind kind) (door, error) {
	if address := g.addresses[port]; address != "" {
		d, err := g.openAt(address, port, kind)
		if err == nil || g.cfg.Listen[port] != "" {
			return d, err
		}
	}
	return g.openAt("127.0.0.1:0", port, kind)
}

func (g *Gateway) openAt(address string, port uint32, kind kind) (door, error) {
	if kind == forConnections {
		return accept(address, func(conn net.Conn) { g.pass(conn, port) })
	}
	s, err := serve(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.serve(w, r, port) }))
	if err != nil {
		return door{}, err
	}
	return door{kind: kind, address: s.address, close: s.close}, nil
}

func (g *Gateway) serve(w http.ResponseWriter, r *http.Request, port uint32) {
	meet(r.Header) // a client cannot introduce itself as a proxy
	if ip, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		r.Header.Set("X-Forwarded-For", strings.Join(append(r.Header.Values("X-Forwarded-For"), ip), ","))
	}
	resp, err := g.proxy.handle(r, port)
	if err != nil {
		panic(http.ErrAbortHandler) // the client is gone
	}
	reply(w, resp)
}

// addressed gives a pod an address if it has none.
func addressed(id *workload.Identity, n *network.Network) error {
	if id.IP != "" {
		return nil
	}
	ip, err := n.Allocate()
	if err != nil {
		return err
	}
	id.IP = ip.String()
	return nil
}

func nodeOf(kind string, id workload.Identity) xds.Node {
	return xds.Node{
		Type: kind, IP: id.IP, Name: id.Pod, Namespace: id.Namespace, ServiceAccount: id.ServiceAccount,
		Labels: id.Labels, Workload: id.Workload,
	}
}
