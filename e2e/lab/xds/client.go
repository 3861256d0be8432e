package xds

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
)

// Reconnecting is quick, because the lab restarts istiod on purpose and its proxies are few.
const (
	firstBackoff = 50 * time.Millisecond
	maxBackoff   = 2 * time.Second
	// maxMessage is more than any lab's clusters need.
	maxMessage = 64 << 20
)

// Config is what a Client needs.
type Config struct {
	// Server is istiod's plaintext gRPC address.
	Server string
	Node   Node
	// OnChange is called with each new snapshot, one at a time, before Snapshot and Wait show it: who waits for a snapshot
	// finds OnChange's work done. It may be nil.
	OnChange func(*Snapshot)
}

// Client follows one node's configuration until Stop.
type Client struct {
	cfg    Config
	node   *corev3.Node
	conn   *grpc.ClientConn
	cancel context.CancelFunc
	done   chan struct{}

	current atomic.Pointer[Snapshot]

	mu      sync.Mutex
	changed chan struct{} // closed and replaced with each snapshot
	lastErr error         // why the last stream ended
}

// Start connects in the background and keeps trying; it fails only on a node or an address that makes no sense.
func Start(cfg Config) (*Client, error) {
	node, err := cfg.Node.Proto()
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(cfg.Server,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: firstBackoff, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxBackoff},
			MinConnectTimeout: maxBackoff,
		}))
	if err != nil {
		return nil, fmt.Errorf("ADS server %q: %w", cfg.Server, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &Client{cfg: cfg, node: node, conn: conn, cancel: cancel, done: make(chan struct{}), changed: make(chan struct{})}
	c.current.Store(&Snapshot{})
	go c.run(ctx)
	return c, nil
}

// Stop ends the stream and waits for it. The last snapshot stays readable.
func (c *Client) Stop() {
	c.cancel()
	<-c.done
	_ = c.conn.Close() // it only fails when closed twice
}

// Snapshot is the newest one, never nil.
func (c *Client) Snapshot() *Snapshot { return c.current.Load() }

// Wait returns when cond holds for the newest snapshot.
func (c *Client) Wait(ctx context.Context, cond func(*Snapshot) bool) error {
	for {
		c.mu.Lock()
		changed := c.changed
		c.mu.Unlock()
		if cond(c.Snapshot()) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return c.waitError(context.Cause(ctx))
		}
	}
}

func (c *Client) waitError(cause error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lastErr != nil {
		return fmt.Errorf("node %q: wait for configuration: %w (last stream: %w)", c.node.GetId(), cause, c.lastErr)
	}
	return fmt.Errorf("node %q: wait for configuration: %w", c.node.GetId(), cause)
}

// run keeps a stream open. The state outlives streams: what was good stays in use while istiod is away.
func (c *Client) run(ctx context.Context) {
	defer close(c.done)
	st := newState()
	versions := map[string]string{}
	delay := firstBackoff
	for ctx.Err() == nil {
		err := c.follow(ctx, st, versions, func() { delay = firstBackoff })
		if ctx.Err() != nil {
			return
		}
		c.mu.Lock()
		c.lastErr = err
		c.mu.Unlock()
		select {
		case <-time.After(delay):
		case <-ctx.Done():
		}
		delay = min(2*delay, maxBackoff)
	}
}

// follow lives as long as one stream.
func (c *Client) follow(ctx context.Context, st *state, versions map[string]string, healthy func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := openStream(ctx, c.conn, c.node, st, versions)
	if err != nil {
		return err
	}
	for {
		typeURL, version, err := s.next()
		if err != nil {
			return err
		}
		healthy()
		if typeURL != "" {
			versions[typeURL] = version
		}
		c.publish(st.snapshot())
		if err := s.follow(); err != nil {
			return err
		}
	}
}

func (c *Client) publish(snap *Snapshot) {
	if c.cfg.OnChange != nil {
		c.cfg.OnChange(snap)
	}
	c.current.Store(snap)
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.changed)
	c.changed = make(chan struct{})
}
