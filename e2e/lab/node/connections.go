package node

import (
	"context"
	"fmt"
	"net"
	"sync"
	"syscall"
)

// connections is a port that is not HTTP: it hands every connection to serve, and closes it when that returns.
type connections struct {
	listener net.Listener
	serve    func(net.Conn)
	open     sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]bool
}

// take serves connections on a loopback port.
func (s *served) take(serve func(net.Conn)) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	c := &connections{listener: l, serve: serve, conns: map[net.Conn]bool{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return "", l.Close()
	}
	s.servers = append(s.servers, c)
	go c.run()
	return l.Addr().String(), nil
}

func (c *connections) run() {
	for {
		conn, err := c.listener.Accept()
		if err != nil {
			return // it was closed
		}
		if !c.keep(conn) {
			_ = conn.Close() // it came too late
			continue
		}
		go func() {
			defer c.drop(conn)
			c.serve(conn)
		}()
	}
}

func (c *connections) keep(conn net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.conns[conn] = true
	c.open.Add(1)
	return true
}

func (c *connections) drop(conn net.Conn) {
	_ = conn.Close() // nobody reads it any more
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.conns, conn)
	c.open.Done()
}

// Shutdown takes no more connections and waits for those that are open to be closed by their clients.
func (c *connections) Shutdown(ctx context.Context) error {
	c.refuse()
	ended := make(chan struct{})
	go func() { c.open.Wait(); close(ended) }()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("connections are still open: %w", context.Cause(ctx))
	}
}

// Close cuts them.
func (c *connections) Close() error {
	c.refuse()
	c.mu.Lock()
	for conn := range c.conns {
		_ = conn.Close() // its peer sees that
	}
	c.mu.Unlock()
	c.open.Wait()
	return nil
}

func (c *connections) refuse() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	_ = c.listener.Close() // twice is once
}

// dialer connects to where an application listens; to none, where it does not.
func dialer(address string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		if address == "" {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		}
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}
}
