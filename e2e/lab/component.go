package lab

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-dev/sluice/e2e/lab/process"
)

// component is a child process of the lab that can be stopped and started again.
type component struct {
	spec  process.Spec
	ready func(context.Context) error // nil when it is of use
	// limit bounds how long it may take to become ready, grace how long to end.
	limit, grace time.Duration
	// died is told of an end that nobody asked for.
	died func(error)

	mu  sync.Mutex
	run *run
}

// run is one life of a component.
type run struct {
	*process.Process
	expected atomic.Bool // its end was asked for
}

// start starts the component and waits until it is ready. A component that runs is left alone.
func (c *component) start(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.run != nil {
		return nil
	}
	p, err := process.Start(c.spec)
	if err != nil {
		return err
	}
	r := &run{Process: p}
	if err := c.await(ctx, r); err != nil {
		r.expected.Store(true)
		p.Stop(c.grace)
		return err
	}
	c.run = r
	go func() {
		<-r.Done()
		if !r.expected.Load() {
			c.died(r.Exited())
		}
	}()
	return nil
}

// await polls until the component is ready, dead, or late.
func (c *component) await(ctx context.Context, r *run) error {
	ctx, cancel := context.WithTimeout(ctx, c.limit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := c.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-r.Done():
			return r.Exited()
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w: %w%s", c.spec.Name, context.Cause(ctx), err, r.Tail())
		case <-tick.C:
		}
	}
}

// stop ends the component if it runs.
func (c *component) stop() { c.end(func(p *process.Process) { p.Stop(c.grace) }) }

// kill ends the component without a warning.
func (c *component) kill() { c.end((*process.Process).Kill) }

func (c *component) end(how func(*process.Process)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.run == nil {
		return
	}
	c.run.expected.Store(true)
	how(c.run.Process)
	c.run = nil
}

// answers makes a readiness check of a page that answers 200 once the component is ready.
func answers(client *http.Client, url string) func(context.Context) error {
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("GET %s: %s", url, resp.Status)
		}
		return nil
	}
}
