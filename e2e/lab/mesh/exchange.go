package mesh

import (
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// exchange is one request on its way through a proxy, from its arrival to its answer's last byte.
type exchange struct {
	proxy *proxy
	table *table
	req   *http.Request
	start time.Time

	routes *routes
	host   *virtualHost
	route  *route
	choice choice

	// ctx ends with the client, the route's timeout or the exchange.
	ctx    context.Context
	cancel context.CancelCauseFunc
	// cleanup is undone when the exchange ends: breaker places, timers, the request's body.
	cleanup []func()

	rec record
}

func (p *proxy) begin(req *http.Request) *exchange {
	ex := &exchange{proxy: p, table: p.current.Load(), req: req, start: time.Now()}
	ex.ctx, ex.cancel = context.WithCancelCause(req.Context())
	ex.rec = record{reporter: reporterSource, source: p.self, grpc: isGRPC(req.Header)}
	if p.hostFallback {
		ex.rec.service = service{host: req.Host, name: req.Host}
	}
	if req.Body != nil {
		ex.onEnd(func() { _ = req.Body.Close() }) // a body that cannot be closed is the client's affair
	}
	return ex
}

func (ex *exchange) onEnd(f func()) { ex.cleanup = append(ex.cleanup, f) }

// finish makes the record and lets go of everything. It runs once per exchange.
func (ex *exchange) finish() {
	ex.rec.duration = time.Since(ex.start)
	ex.proxy.meter.record(ex.rec)
	ex.cancel(nil)
	for i := len(ex.cleanup) - 1; i >= 0; i-- {
		ex.cleanup[i]()
	}
}

// gone records a client that left before it was answered.
func (ex *exchange) gone() error {
	ex.rec.code = 0
	ex.rec.flags |= flagDC
	ex.finish()
	return errGone
}

// answer ties a response's end to the exchange's.
func (ex *exchange) answer(resp *http.Response, body io.ReadCloser) *http.Response {
	ex.rec.code = resp.StatusCode
	left := resp.ContentLength
	if ex.req.Method == http.MethodHead || resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusNotModified {
		left = 0
	}
	recorded := &recordedBody{ReadCloser: body, ex: ex, resp: resp}
	recorded.left.Store(left)
	resp.Body = recorded
	return resp
}

// recordedBody makes the record when the answer is over: at its end, at its failure, or when it is closed before.
type recordedBody struct {
	io.ReadCloser
	ex   *exchange
	resp *http.Response
	// left is how much is missing, or negative where the length is not known.
	left atomic.Int64
	once sync.Once
}

func (b *recordedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left.Load() >= 0 {
		b.left.Add(-int64(n))
	}
	switch {
	case err == io.EOF:
		b.end(0)
	case err != nil:
		b.end(b.blame())
	}
	return n, err
}

// Close before the end means that the client did not want the rest, unless nothing was missing.
func (b *recordedBody) Close() error {
	err := b.ReadCloser.Close()
	if b.left.Load() == 0 {
		b.end(0)
	} else {
		b.end(flagDC)
	}
	return err
}

// blame is the flag for a body that broke off.
func (b *recordedBody) blame() flags {
	switch diagnose(b.ex.ctx, io.ErrUnexpectedEOF) {
	case timedOut, attemptTimedOut:
		return flagUT
	case abandoned:
		return flagDC
	default:
		return flagUC
	}
}

func (b *recordedBody) end(f flags) {
	b.once.Do(func() {
		b.ex.rec.flags |= f
		if b.ex.rec.grpc {
			b.ex.rec.grpcStatus = or(b.resp.Header.Get("Grpc-Status"), b.resp.Trailer.Get("Grpc-Status"))
		}
		b.ex.finish()
	})
}
