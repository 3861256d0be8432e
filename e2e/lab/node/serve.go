package node

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sluice-dev/sluice/e2e/lab/images"
)

// served is an application that runs in this process: a listener per container port, and a second one where a proxy stands
// in front, so that probes can go past it.
type served struct {
	over  chan struct{}
	once  sync.Once
	code  int
	quit  context.CancelFunc
	start sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	servers   []server
	detach    []func()
	addresses map[int32]string
}

// server listens on one port: an *http.Server, or a *connections.
type server interface {
	// Shutdown takes nothing more and waits for what is open, as long as the context lasts.
	Shutdown(ctx context.Context) error
	Close() error
}

// serve starts an application. It listens when serve returns, or else when its start delay is over: a probe that comes at
// once must not meet a port that is about to open.
func (c *container) serve(app images.App) *served {
	s := &served{over: make(chan struct{}), addresses: map[int32]string{}}
	ctx, quit := context.WithCancel(context.Background())
	s.quit = quit
	if app.StartDelay == 0 {
		c.listenAll(s, app)
	} else {
		s.start.Go(func() {
			if sleep(ctx, nil, app.StartDelay) {
				c.listenAll(s, app)
			}
		})
	}
	if app.ExitAfter > 0 {
		s.start.Go(func() {
			if sleep(ctx, nil, app.ExitAfter) {
				s.close(func(h server) { _ = h.Close() })
				s.finish(app.ExitCode)
			}
		})
	}
	return s
}

// listenAll opens every port of the container; one that cannot be opened ends the application, as it would end a real one.
func (c *container) listenAll(s *served, app images.App) {
	for _, port := range c.ports(app.Port) {
		if err := c.listen(s, port, app); err != nil {
			c.pod.agent.log.Error("cannot listen", "pod", c.pod.name, "port", port, "err", err)
			s.finish(1)
			return
		}
	}
}

// ports are those the container declares, or else the one its probes ask, or else the application's own.
func (c *container) ports(own int32) []int32 {
	var ports []int32
	for _, p := range c.spec.Ports {
		ports = append(ports, p.ContainerPort)
	}
	for _, probe := range []*corev1.Probe{c.spec.ReadinessProbe, c.spec.LivenessProbe, c.spec.StartupProbe} {
		if len(ports) == 0 && probe != nil {
			if port, err := probePort(c.spec, probe); err == nil {
				ports = append(ports, port)
			}
		}
	}
	if len(ports) == 0 {
		ports = append(ports, own)
	}
	return ports
}

// listen opens a port of the pod.
func (c *container) listen(s *served, port int32, app images.App) error {
	if app.Connections != nil && app.Connections.Port == port {
		return c.listenForConnections(s, port, app.Connections)
	}
	handler := app.Handler
	direct, err := s.open(handler)
	if err != nil {
		return err
	}
	front := direct
	if c.pod.identity != nil {
		if front, err = s.open(c.pod.agent.cfg.Inbound(*c.pod.identity, handler)); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.addresses[port] = direct
	s.detach = append(s.detach, c.attach(port, front))
	return nil
}

// listenForConnections opens a port that is not HTTP. Where the application does not listen, the proxy in front of it still does: it is
// the pod's, and takes a connection before it asks the application.
func (c *container) listenForConnections(s *served, port int32, app *images.Connections) error {
	direct := ""
	if !app.Refused {
		var err error
		if direct, err = s.take(app.Serve); err != nil {
			return err
		}
	}
	front := direct
	if inbound := c.pod.agent.cfg.InboundConnections; c.pod.identity != nil && inbound != nil {
		var err error
		if front, err = s.take(inbound(*c.pod.identity, dialer(direct))); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || front == "" {
		return nil
	}
	s.addresses[port] = direct
	s.detach = append(s.detach, c.attach(port, front))
	return nil
}

// attach makes a port of the pod reachable and returns what undoes that.
func (c *container) attach(port int32, real string) func() {
	address := net.JoinHostPort(c.pod.ip, strconv.Itoa(int(port)))
	c.pod.agent.cfg.Network.Attach(address, real)
	return func() { c.pod.agent.cfg.Network.Detach(address) }
}

// open serves a handler on a loopback port, for HTTP/1.1 and for HTTP/2 without TLS, which gRPC uses.
func (s *served) open(handler http.Handler) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: handler, Protocols: new(http.Protocols), ReadHeaderTimeout: 30 * time.Second}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return "", l.Close()
	}
	s.servers = append(s.servers, server)
	go func() { _ = server.Serve(l) }() // it ends when the server is closed
	return l.Addr().String(), nil
}

// close takes the ports off the network and ends each server as told. Only its first call does anything.
func (s *served) close(how func(server)) {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	servers, detach := s.servers, s.detach
	s.addresses = nil
	s.mu.Unlock()
	if !first {
		return
	}
	for _, f := range detach {
		f()
	}
	var all sync.WaitGroup
	for _, server := range servers {
		all.Go(func() { how(server) })
	}
	all.Wait()
}

func (s *served) finish(code int) {
	s.once.Do(func() {
		s.code = code
		s.quit()
		close(s.over)
	})
}

func (s *served) ended() <-chan struct{} { return s.over }
func (s *served) exitCode() int          { return s.code }
func (s *served) pid() int               { return 0 }

// stop lets requests that are being answered end, new ones are refused.
func (s *served) stop(grace time.Duration) {
	s.quit()
	s.close(func(server server) {
		ctx, cancel := context.WithTimeout(context.Background(), grace)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			_ = server.Close()
		}
	})
	s.finish(0)
	s.start.Wait()
}

// kill cuts every connection.
func (s *served) kill() {
	s.quit()
	s.close(func(server server) { _ = server.Close() })
	s.finish(137)
	s.start.Wait()
}

func (s *served) address(port int32) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addresses[port]
}

// newProxy is the container that stands for the sidecar. Its work is done by Config.Inbound; it runs until it is stopped.
func newProxy() *served {
	return &served{over: make(chan struct{}), quit: func() {}}
}
