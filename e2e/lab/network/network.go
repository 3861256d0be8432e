// Package network is the lab's pod network. Pods get addresses of a fake range, because the API server refuses loopback
// addresses in EndpointSlices; every listener really is on loopback, and this table is the only way from one to the other.
// Nothing is ever sent to the fake range.
package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
)

// Range is the fake pod range.
var Range = netip.MustParsePrefix("10.244.0.0/16")

// Network maps "podIP:port" to the loopback address that answers for it. The zero value is not usable; see New.
type Network struct {
	mu     sync.RWMutex
	next   netip.Addr
	routes map[string]string
}

// New returns an empty pod network.
func New() *Network {
	return &Network{next: Range.Addr().Next(), routes: map[string]string{}}
}

// Allocate returns a pod address that was never handed out before, so that a late packet to a dead pod meets nobody.
func (n *Network) Allocate() (netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.next = n.next.Next()
	if !Range.Contains(n.next) {
		return netip.Addr{}, fmt.Errorf("pod range %s is used up", Range)
	}
	return n.next, nil
}

// Attach makes addr ("10.244.0.2:8080") answer from the loopback address real ("127.0.0.1:41234").
func (n *Network) Attach(addr, real string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.routes[addr] = real
}

// Detach makes addr refuse connections.
func (n *Network) Detach(addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.routes, addr)
}

// DialContext connects to a pod address. An address that no pod listens on is refused, as a kernel would refuse it. Other
// addresses (the lab's own loopback ones) are dialled as they are.
func (n *Network) DialContext(ctx context.Context, protocol, addr string) (net.Conn, error) {
	n.mu.RLock()
	real, ok := n.routes[addr]
	n.mu.RUnlock()
	if !ok {
		ap, err := netip.ParseAddrPort(addr)
		if err != nil || !ap.Addr().IsLoopback() {
			return nil, &net.OpError{Op: "dial", Net: protocol, Err: fmt.Errorf("%s: %w", addr, syscall.ECONNREFUSED)}
		}
		real = addr
	}
	return (&net.Dialer{}).DialContext(ctx, protocol, real)
}
