package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	upstreamhttpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"

	"github.com/sluice-dev/sluice/e2e/lab/network"
)

// protocolExtension is the key under which a cluster says how it speaks HTTP.
const protocolExtension = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

// idleTimeout closes connections that nobody used, before a server of the lab would.
const idleTimeout = 60 * time.Second

// wire is how a cluster's connections are made.
type wire struct {
	connectTimeout time.Duration
	// http2 always, or as the client does.
	http2, asClient bool
	// onePerConnection is maxRequestsPerConnection: 1. Larger limits are not counted.
	onePerConnection bool
	network          *network.Network
}

func wireOf(c *clusterv3.Cluster, n *network.Network) (wire, error) {
	w := wire{connectTimeout: c.GetConnectTimeout().AsDuration(), network: n}
	if w.connectTimeout <= 0 {
		w.connectTimeout = 5 * time.Second
	}
	w.onePerConnection = c.GetMaxRequestsPerConnection().GetValue() == 1 //nolint:staticcheck // read where it is sent
	extension := c.GetTypedExtensionProtocolOptions()[protocolExtension]
	if extension == nil {
		return w, nil
	}
	options := &upstreamhttpv3.HttpProtocolOptions{}
	if err := extension.UnmarshalTo(options); err != nil {
		return w, fmt.Errorf("cluster %q: HTTP protocol options: %w", c.GetName(), err)
	}
	w.http2 = options.GetExplicitHttpConfig().GetHttp2ProtocolOptions() != nil
	w.asClient = options.GetUseDownstreamProtocolConfig() != nil
	if options.GetCommonHttpProtocolOptions().GetMaxRequestsPerConnection().GetValue() == 1 {
		w.onePerConnection = true
	}
	return w, nil
}

// speaks says whether a request goes out as HTTP/2.
func (w wire) speaks(clientMajor int) bool { return w.http2 || w.asClient && clientMajor == 2 }

// pools are the keep-alive connections to one address, a pool per protocol version.
type pools struct {
	wire wire

	mu     sync.Mutex
	byHTTP [2]*http.Transport
}

func (p *pools) transport(http2 bool) *http.Transport {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := 0
	if http2 {
		i = 1
	}
	if p.byHTTP[i] == nil {
		p.byHTTP[i] = p.wire.newTransport(http2)
	}
	return p.byHTTP[i]
}

// close drops idle connections; those in use are dropped when their request ends.
func (p *pools) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.byHTTP {
		if t != nil {
			t.CloseIdleConnections()
		}
	}
}

func (w wire) newTransport(http2 bool) *http.Transport {
	protocols := &http.Protocols{}
	protocols.SetHTTP1(!http2)
	protocols.SetUnencryptedHTTP2(http2)
	return &http.Transport{
		DialContext: w.dial, Protocols: protocols, DisableCompression: true, DisableKeepAlives: w.onePerConnection && !http2,
		MaxIdleConnsPerHost: defaultThreshold, IdleConnTimeout: idleTimeout,
	}
}

// connectError is a connection that could not be made, which Envoy tells apart from one that broke.
type connectError struct{ cause error }

func (e *connectError) Error() string { return "connect: " + e.cause.Error() }
func (e *connectError) Unwrap() error { return e.cause }

func (w wire) dial(ctx context.Context, protocol, addr string) (net.Conn, error) {
	limited, cancel := context.WithTimeout(ctx, w.connectTimeout)
	defer cancel()
	conn, err := w.network.DialContext(limited, protocol, addr)
	if err != nil {
		if ctx.Err() == nil {
			err = &connectError{cause: err}
		}
		return nil, err
	}
	return newUpstreamConn(conn), nil
}

// Why a proxy itself ends a request; contexts carry them as causes.
var (
	errRouteTimeout = errors.New("route timeout")
	errTryTimeout   = errors.New("per-try timeout")
)

// diagnose tells why an attempt failed. The context's cause wins: whatever else went wrong then is its echo.
func diagnose(ctx context.Context, err error) trouble {
	var refusedByPeer *connectError
	cause := context.Cause(ctx)
	switch {
	case errors.Is(err, errOverflow):
		return overflowed
	case errors.Is(cause, errRouteTimeout):
		return timedOut
	case errors.Is(cause, errTryTimeout):
		return attemptTimedOut
	case cause != nil:
		return abandoned
	case errors.As(err, &refusedByPeer):
		return connectFailed
	case strings.Contains(err.Error(), "REFUSED_STREAM"):
		return refused
	case strings.Contains(err.Error(), "stream error"):
		return reset
	default:
		return disconnected
	}
}

func portString(p uint32) string { return strconv.FormatUint(uint64(p), 10) }
