package lab

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/e2e/lab/binaries"
	"github.com/sluice-dev/sluice/e2e/lab/network"
	"github.com/sluice-dev/sluice/e2e/lab/node"
	"github.com/sluice-dev/sluice/e2e/lab/ports"
)

// Lab is a running mesh on loopback.
type Lab struct {
	// Dir holds everything the lab writes; LogDir, in it, the output of every process.
	Dir, LogDir string
	// Kubeconfig is the path of an administrator's kubeconfig, REST the same for Go.
	Kubeconfig string
	REST       *rest.Config
	// Client knows the types of client-go, of Istio's networking API, of CustomResourceDefinitions, and of
	// Options.AddToScheme. It reads from the API server, not from a cache.
	Client client.WithWatch
	// Network leads to pods.
	Network *network.Network
	// Agent is the node. It is nil until the data plane is built.
	Agent *node.Agent
	// XDSAddress is istiod's plaintext gRPC ("127.0.0.1:port"), IstiodHTTP the URL of its debug pages.
	XDSAddress, IstiodHTTP string
	PrometheusURL          string
	// Binaries are the programs the lab runs.
	Binaries binaries.Set

	opts      Options
	root      string
	ports     *ports.Block
	istiod    *component
	metrics   *component
	targets   targets
	endpoints []Endpoint

	progress sync.Mutex
	cleanup  []func()
	stopping sync.Once
	failing  sync.Once
	failed   chan struct{}
	err      error
}

// Start builds what is missing, starts a lab, and returns when pods can be made. The lab lives until Stop, or until ctx
// ends. A failed Start leaves nothing running.
func Start(ctx context.Context, opts Options) (*Lab, error) {
	l := &Lab{opts: opts, Network: network.New(), failed: make(chan struct{})}
	began := time.Now()
	if err := l.start(ctx); err != nil {
		l.Stop()
		return nil, fmt.Errorf("start the lab: %w", err)
	}
	detach := context.AfterFunc(ctx, l.Stop)
	l.onStop(func() { detach() })
	l.say("lab is ready after %s", since(began))
	return l, nil
}

func (l *Lab) start(ctx context.Context) (err error) {
	if err := l.makeDir(); err != nil {
		return err
	}
	if l.root, err = binaries.Root(); err != nil {
		return err
	}
	if l.Binaries, err = binaries.Build(ctx, l.root, func(line string) { l.say("%s", line) }); err != nil {
		return err
	}
	if l.ports, err = ports.Reserve(); err != nil {
		return err
	}
	l.onStop(l.ports.Release)
	if err := l.startCluster(ctx); err != nil {
		return err
	}
	plane, err := l.startDataPlane(ctx)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.startPrometheus(ctx) })
	g.Go(func() error { return l.startAgent(ctx, plane) })
	return g.Wait()
}

// startCluster starts what pods do not depend on: the API server, its controllers, its resources, and istiod.
func (l *Lab) startCluster(ctx context.Context) error {
	if err := l.startControlPlane(ctx); err != nil {
		return err
	}
	if err := l.makeClient(); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.installCRDs(gctx) })
	g.Go(func() error { return l.prepare(gctx) })
	g.Go(func() error { return l.startControllers(gctx) })
	if err := g.Wait(); err != nil {
		return err
	}
	g, gctx = errgroup.WithContext(ctx)
	g.Go(func() error { return l.startIstiod(gctx) })
	g.Go(func() error { return l.awaitInjection(gctx) })
	return g.Wait()
}

func (l *Lab) startDataPlane(ctx context.Context) (DataPlane, error) {
	if l.opts.DataPlane == nil {
		return DataPlane{}, nil
	}
	began := time.Now()
	plane, err := l.opts.DataPlane(ctx, l)
	if plane.Stop != nil {
		l.onStop(plane.Stop)
	}
	if err != nil {
		return DataPlane{}, fmt.Errorf("data plane: %w", err)
	}
	l.endpoints = plane.Endpoints
	l.say("data plane is ready after %s", since(began))
	return plane, nil
}

func (l *Lab) startAgent(ctx context.Context, plane DataPlane) error {
	agent, err := node.Start(ctx, node.Config{
		Name: "lab", REST: l.REST, Network: l.Network, Inbound: plane.Inbound, InboundConnections: plane.InboundConnections, Port: l.ports.Next,
		ControllerBinary: l.opts.ControllerBinary, Dir: filepath.Join(l.Dir, "pods"), LogDir: l.LogDir, OnMetrics: l.scrapeController,
	})
	if err != nil {
		return err
	}
	l.Agent = agent
	l.onStop(agent.Stop)
	return nil
}

// Stop ends the lab: pods first, the API server and etcd last. It may be called more than once, and from a lab that
// failed; it returns when nothing of the lab is left.
func (l *Lab) Stop() {
	l.stopping.Do(func() {
		for i := len(l.cleanup) - 1; i >= 0; i-- {
			l.cleanup[i]()
		}
	})
}

// onStop adds to what Stop does; the last added is done first.
func (l *Lab) onStop(f func()) {
	l.progress.Lock()
	defer l.progress.Unlock()
	l.cleanup = append(l.cleanup, f)
}

// Failed is closed when a component ends that nobody stopped.
func (l *Lab) Failed() <-chan struct{} { return l.failed }

// Err says which component ended unasked, and what it said last. It is nil while all is well.
func (l *Lab) Err() error {
	select {
	case <-l.failed:
		return l.err
	default:
		return nil
	}
}

func (l *Lab) fail(err error) {
	l.failing.Do(func() {
		l.err = errors.Join(errors.New("a component of the lab ended unasked"), err)
		close(l.failed)
		l.say("%v", err)
	})
}

// Endpoints lists what a person may want to reach.
func (l *Lab) Endpoints() []Endpoint {
	return append([]Endpoint{
		{"KUBECONFIG", l.Kubeconfig},
		{"Prometheus", l.PrometheusURL},
		{"istiod xDS", l.XDSAddress},
		{"istiod debug", l.IstiodHTTP + "/debug"},
		{"logs", l.LogDir},
	}, l.endpoints...)
}

func (l *Lab) say(format string, args ...any) {
	if l.opts.Progress == nil {
		return
	}
	l.progress.Lock()
	defer l.progress.Unlock()
	l.opts.Progress(fmt.Sprintf(format, args...))
}

func since(t time.Time) time.Duration { return time.Since(t).Round(10 * time.Millisecond) }
