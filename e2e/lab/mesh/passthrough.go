package mesh

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"

	"github.com/sluice-dev/sluice/e2e/lab/xds"
)

// helloTime is how long a client may take to say which name it begins TLS with.
const helloTime = 15 * time.Second

// accept takes connections on a loopback address, and hands each to serve in the order in which they come.
func accept(address string, serve func(net.Conn)) (door, error) {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
	if err != nil {
		return door{}, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return // it was closed
			}
			serve(conn)
		}
	}()
	return door{kind: forConnections, address: l.Addr().String(), close: func() {
		_ = l.Close() // those that are open go on, as Envoy lets them
		<-done
	}}, nil
}

// pass hands a connection on that arrived on a port, to where the filter chain for it says.
func (g *Gateway) pass(conn net.Conn, port uint32) {
	g.proxy.connections.Go(func() {
		stop := context.AfterFunc(g.proxy.life, func() { _ = conn.Close() })
		defer stop()
		table := g.proxy.current.Load()
		chain, whole, ok := chainOf(table.snap, port, conn)
		if !ok {
			_ = conn.Close() // as Envoy does where no chain is for it, and counts nothing of Istio's
			return
		}
		g.proxy.pass(g.proxy.life, table, chain, whole)
	})
}

// chainOf finds the filter chain for a connection. The TLS inspector reads it only where a chain asks for a name: others may have the
// server speak first.
func chainOf(snap *xds.Snapshot, port uint32, conn net.Conn) (xds.Chain, net.Conn, bool) {
	if snap == nil {
		return xds.Chain{}, conn, false
	}
	listener, ok := snap.ConnectionsTo("0.0.0.0", port)
	if !ok {
		return xds.Chain{}, conn, false
	}
	name := ""
	if listener.ByName() {
		name, conn = inspect(conn)
	}
	chain, ok := listener.ChainFor(name)
	return chain, conn, ok
}

var errSeen = errors.New("the name was seen")

// inspect reads the name that a client begins TLS with: "" for none, and for what is not TLS. The connection that it returns begins where
// the client's does: nothing is taken from it, and nothing said to the client.
func inspect(conn net.Conn) (name string, whole net.Conn) {
	read := &bytes.Buffer{}
	_ = conn.SetReadDeadline(time.Now().Add(helloTime)) // one that fails is closed, as the next read finds
	_ = tls.Server(listening{conn, io.TeeReader(conn, read)}, &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			name = hello.ServerName
			return nil, errSeen
		},
	}).HandshakeContext(context.Background()) // it always fails: it is over once the name was seen
	_ = conn.SetReadDeadline(time.Time{})
	return name, again{conn, io.MultiReader(read, conn)}
}

// listening hears a client and says nothing.
type listening struct {
	net.Conn
	heard io.Reader
}

func (l listening) Read(p []byte) (int, error)  { return l.heard.Read(p) }
func (l listening) Write(p []byte) (int, error) { return len(p), nil }

// again is a connection of which some was read already.
type again struct {
	net.Conn
	all io.Reader
}

func (a again) Read(p []byte) (int, error) { return a.all.Read(p) }
