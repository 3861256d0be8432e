package mesh

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-dev/sluice/e2e/lab/workload"
	"github.com/sluice-dev/sluice/e2e/lab/xds"
)

// Dial connects a client's application to "host:port" as its sidecar would: the listener is that of the service's address, and the version
// is drawn once, for as long as the connection lasts. The sidecar takes the connection whatever comes of it: what cannot be passed on is
// closed again.
func (s *Sidecar) Dial(ctx context.Context, address string) (net.Conn, error) {
	return s.DialTLS(ctx, address, "")
}

// DialTLS is Dial for a client that begins TLS with a server name. The caller says it; nothing is read, and nothing is encrypted.
func (s *Sidecar) DialTLS(ctx context.Context, address, sni string) (net.Conn, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("sidecar of %q: %w", s.cfg.Pod.Pod, err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("sidecar of %q: %s: %w", s.cfg.Pod.Pod, address, err)
	}
	ip, ok := netip.Addr{}, false
	if s.cfg.Resolve != nil {
		ip, ok = s.cfg.Resolve(host)
	}
	if !ok {
		return nil, fmt.Errorf("sidecar of %q: lookup %s: no such host", s.cfg.Pod.Pod, host)
	}
	table := s.proxy.current.Load()
	if table.snap == nil {
		return nil, fmt.Errorf("sidecar of %q: no configuration yet", s.cfg.Pod.Pod)
	}
	listener, ok := table.snap.ConnectionsTo(ip.String(), uint32(port))
	if !ok {
		return nil, fmt.Errorf("sidecar of %q: %s: no listener", s.cfg.Pod.Pod, address)
	}
	chain, ok := listener.ChainFor(sni)
	if !ok {
		return nil, fmt.Errorf("sidecar of %q: %s: no filter chain", s.cfg.Pod.Pod, address)
	}
	client, end := net.Pipe()
	s.proxy.connections.Go(func() { s.proxy.pass(ctx, table, chain, end) })
	return client, nil
}

// pass draws a cluster, connects to one of its endpoints, and carries bytes both ways until either end has had enough.
func (p *proxy) pass(ctx context.Context, table *table, chain xds.Chain, client net.Conn) {
	rec := record{reporter: reporterSource, source: p.self}
	server, release := p.reach(ctx, table, p.draw(chain), &rec)
	defer release()
	p.meter.carry(p.life, rec, client, server)
}

// draw chooses a cluster by weight.
func (p *proxy) draw(chain xds.Chain) string {
	var total uint64
	for _, c := range chain.Clusters {
		total += uint64(c.Weight)
	}
	if len(chain.Clusters) == 1 || total == 0 {
		return chain.Clusters[0].Name
	}
	point := p.random(total)
	for _, c := range chain.Clusters {
		if point < uint64(c.Weight) {
			return c.Name
		}
		point -= uint64(c.Weight)
	}
	return "" // not reached: point is below the sum
}

// reach connects to an endpoint of a cluster, once: Envoy tries as often as max_connect_attempts says, which Istio leaves at 1. It returns nil
// where it cannot, and the record says why.
func (p *proxy) reach(ctx context.Context, table *table, name string, rec *record) (server net.Conn, release func()) {
	release = func() {}
	c := table.clusters[name]
	switch {
	case c == nil:
		rec.flags |= flagNC
		return nil, release
	case c.passthrough():
		rec.service, rec.flags = service{name: name}, flagNR // a loopback has no address that the client meant
		return nil, release
	}
	rec.service = c.service
	e := c.balancer.Load().pick(nil, 1)
	if e == nil {
		rec.flags |= flagUH
		return nil, release
	}
	rec.dest = party{Workload: e.Workload, Namespace: e.Namespace, Service: e.CanonicalService, Revision: e.CanonicalRevision, Cluster: e.ClusterID}
	server, err := c.wire.dial(ctx, "tcp", e.Address)
	if err != nil {
		rec.flags |= flagUF | flagURX
		return nil, release
	}
	e.host.active.Add(1)
	return server, func() { e.host.active.Add(-1) }
}

// InboundConnections stands in for the sidecar of a server on a port that is not HTTP: it takes a connection, makes one to the application
// and counts as reporter "destination". It does not know who calls.
func (t *Telemetry) InboundConnections(id workload.Identity, dial func(context.Context) (net.Conn, error)) func(net.Conn) {
	m, self := t.meter(id), partyOf(id)
	return func(client net.Conn) {
		host := or(t.service(id), id.CanonicalService)
		name, _, _ := strings.Cut(host, ".")
		rec := record{reporter: reporterDestination, dest: self, service: service{host: host, name: name, namespace: id.Namespace}}
		server, err := dial(context.Background())
		if err != nil {
			rec.flags |= flagUF | flagURX
		}
		m.carry(context.Background(), rec, client, server)
	}
}

func connectionCounter(name, help string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, connectionLabelNames)
}

// carry counts a connection and carries its bytes, until it ends or ctx does; without a server it ends at once. Its flags are those it has when
// it is made: what becomes of it later changes none of its labels.
func (m *meter) carry(ctx context.Context, rec record, client, server net.Conn) {
	values := rec.connectionLabels()
	m.remove(values, connectionLabelNames, rec.service.host)
	m.opened.WithLabelValues(values...).Inc()
	defer m.closed.WithLabelValues(values...).Inc()
	if server == nil {
		_ = client.Close() // there is nobody to pass it on to
		return
	}
	stop := context.AfterFunc(ctx, func() { _, _ = client.Close(), server.Close() })
	defer stop()
	var both sync.WaitGroup
	both.Go(func() { m.copy(server, client, m.received.WithLabelValues(values...)) })
	both.Go(func() { m.copy(client, server, m.sent.WithLabelValues(values...)) })
	both.Wait()
}

// copy carries bytes one way and then closes both ends: half a connection is not kept, as Envoy would keep it.
func (m *meter) copy(to, from net.Conn, bytes prometheus.Counter) {
	n, _ := io.Copy(to, from) // whichever end broke off, it is over
	bytes.Add(float64(n))
	_, _ = from.Close(), to.Close()
}
