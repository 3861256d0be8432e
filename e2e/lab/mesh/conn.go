package mesh

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"syscall"
)

// errStale is writing to a connection that the peer has closed.
var errStale = errors.New("the peer closed the idle connection")

// upstreamConn is a connection that notices before a write that its peer closed it. Envoy's event loop sees that before it
// gives a request to the connection; Go's reader, which is a goroutine, may see it after.
type upstreamConn struct {
	net.Conn
	raw     syscall.RawConn
	written atomic.Int64
}

func newUpstreamConn(c net.Conn) net.Conn {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return c // it is closed already, and will say so
	}
	return &upstreamConn{Conn: c, raw: raw}
}

func (c *upstreamConn) Write(b []byte) (int, error) {
	if c.closedByPeer() {
		return 0, errStale
	}
	n, err := c.Conn.Write(b)
	c.written.Add(int64(n))
	return n, err
}

// closedByPeer looks at what the kernel has, without taking it: Control, unlike Read, does not wait for the reader.
func (c *upstreamConn) closedByPeer() bool {
	closed := false
	err := c.raw.Control(func(fd uintptr) {
		n, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		closed = err == nil && n == 0 || errors.Is(err, syscall.ECONNRESET)
	})
	return err == nil && closed
}

// roundTrip sends one attempt. It alone decides about sending again: only where an idle connection proved closed before
// anything was written to it. Go's transport would also repeat requests that a server may have begun to serve, which hides
// what Envoy would answer with 503 UC.
func roundTrip(ctx context.Context, t http.RoundTripper, build func(context.Context) *http.Request) (*http.Response, error) {
	for {
		var used *upstreamConn
		var before int64
		traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
			used = nil
			if c, ok := info.Conn.(*upstreamConn); ok && info.Reused {
				used, before = c, c.written.Load()
			}
		}})
		resp, err := t.RoundTrip(build(traced))
		if err != nil && ctx.Err() == nil && used != nil && used.written.Load() == before {
			continue
		}
		return resp, err
	}
}

// noBody is a body without content that Go's transport does not know to be empty: it repeats only what has none.
type noBody struct{}

func (noBody) Read([]byte) (int, error) { return 0, io.EOF }
func (noBody) Close() error             { return nil }

// emptyBody is the body of a request without one. Methods that Go calls idempotent get one that prevents repetition;
// HTTP/2 says itself what was not processed.
func emptyBody(method string, http2 bool) io.ReadCloser {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		if !http2 {
			return noBody{}
		}
	}
	return http.NoBody
}
