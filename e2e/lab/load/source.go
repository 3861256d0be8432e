package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// VersionHeader is the response header by which applications of the lab name their version.
const VersionHeader = "X-App-Version"

// Defaults of Config.
const (
	defaultInFlight = 32
	defaultTimeout  = 10 * time.Second
	defaultFor      = time.Hour
)

// Config says what to ask, how often, and when to end.
type Config struct {
	// URL is asked; Host is the Host header where it differs from the URL's.
	URL, Host string
	// Transport is a mesh.Sidecar, or nil for a transport of the source's own.
	Transport http.RoundTripper
	// Rate is requests per second.
	Rate float64
	// Requests and For end the source after so many requests or so long; 0 is no bound and an hour.
	Requests int
	For      time.Duration
	// InFlight bounds requests at once; a tick that finds no room is Skipped. 0 is 32.
	InFlight int
	// Timeout of one request; 0 is ten seconds.
	Timeout time.Duration
	// Fresh makes a connection for each request, as curl in a loop does.
	Fresh bool
	// Prepare may change request n (headers, cookies, method); it is called by several goroutines.
	Prepare func(n int, r *http.Request)
	// Observe sees the header of answer n before its body is read; it is called by several goroutines.
	Observe func(n int, resp *http.Response)
}

func (c Config) withDefaults() (Config, error) {
	if c.Rate <= 0 {
		return c, fmt.Errorf("load on %q: rate %v is not positive", c.URL, c.Rate)
	}
	if _, err := http.NewRequest(http.MethodGet, c.URL, nil); err != nil {
		return c, fmt.Errorf("load: %w", err)
	}
	if c.InFlight <= 0 {
		c.InFlight = defaultInFlight
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	if c.For <= 0 {
		c.For = defaultFor
	}
	return c, nil
}

// Source sends requests until its bounds are reached or it is stopped.
type Source struct {
	cfg       Config
	transport http.RoundTripper
	stop      context.CancelFunc
	done      chan struct{}
	log       *journal
}

// errStopped ends the pacing; requests in flight are left to end by themselves.
var errStopped = errors.New("the source was stopped")

// Start begins at once. When ctx ends, the source stops and requests in flight are cut off and not counted.
func Start(ctx context.Context, cfg Config) (*Source, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Source{cfg: cfg, transport: cfg.Transport, done: make(chan struct{}), log: newJournal(time.Now())}
	var own *http.Transport
	if s.transport == nil {
		own = &http.Transport{MaxIdleConnsPerHost: cfg.InFlight, DisableKeepAlives: cfg.Fresh, DisableCompression: true}
		s.transport = own
	}
	pacing, stop := context.WithCancelCause(ctx)
	s.stop = func() { stop(errStopped) }
	go func() {
		defer close(s.done)
		s.run(ctx, pacing)
		stop(nil)
		s.log.end(time.Now())
		if own != nil {
			own.CloseIdleConnections()
		}
	}()
	return s, nil
}

// Stop sends nothing more, waits for requests in flight, and returns what was counted.
func (s *Source) Stop() Report {
	s.stop()
	<-s.done
	return s.Report()
}

// Done is closed when the source has ended, requests in flight included.
func (s *Source) Done() <-chan struct{} { return s.done }

// run sends requests at the source's pace. A late tick delays those after it: a burst that catches up would be an overload
// that nobody asked for.
func (s *Source) run(ctx, pacing context.Context) {
	var inFlight sync.WaitGroup
	defer inFlight.Wait()
	room := make(chan struct{}, s.cfg.InFlight)
	interval := time.Duration(float64(time.Second) / s.cfg.Rate)
	due := time.Now()
	end := due.Add(s.cfg.For)
	for n := 0; s.cfg.Requests == 0 || n < s.cfg.Requests; n++ {
		if !due.Before(end) || !sleepUntil(pacing, due) {
			return
		}
		if now := time.Now(); now.Sub(due) > interval {
			due = now
		}
		due = due.Add(interval)
		select {
		case room <- struct{}{}:
		default:
			s.log.skip()
			continue
		}
		inFlight.Go(func() {
			defer func() { <-room }()
			s.send(ctx, n)
		})
	}
}

func sleepUntil(ctx context.Context, t time.Time) bool {
	wait := time.Until(t)
	if wait <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// send makes one request and writes down what came of it.
func (s *Source) send(ctx context.Context, n int) {
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	entry := s.ask(limited, n)
	entry.began = began
	if ctx.Err() != nil {
		return // the source was cut off, which says nothing about the answer
	}
	entry.ended = time.Now()
	s.log.add(entry)
}

// mostSaid is how much of a bad answer is kept, in bytes.
const mostSaid = 200

func (s *Source) ask(ctx context.Context, n int) outcome {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.cfg.URL, nil)
	if err != nil {
		return outcome{err: err}
	}
	if s.cfg.Host != "" {
		req.Host = s.cfg.Host
	}
	if s.cfg.Prepare != nil {
		s.cfg.Prepare(n, req)
	}
	resp, err := s.transport.RoundTrip(req)
	if err != nil {
		return outcome{err: err}
	}
	defer func() { _ = resp.Body.Close() }() // its end was read or its error is returned
	if s.cfg.Observe != nil {
		s.cfg.Observe(n, resp)
	}
	o := outcome{version: resp.Header.Get(VersionHeader), status: resp.StatusCode}
	said := &strings.Builder{}
	if bad(o.status) {
		_, err = io.CopyN(said, resp.Body, mostSaid)
	}
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	}
	o.said = said.String()
	if err != nil && !errors.Is(err, io.EOF) {
		o.status, o.err = 0, fmt.Errorf("read the answer (status %d): %w", o.status, err)
	}
	return o
}
