package mesh

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/sluice-dev/sluice/e2e/lab/network"
	"github.com/sluice-dev/sluice/e2e/lab/workload"
	"github.com/sluice-dev/sluice/e2e/lab/xds"
)

// proxy is what a gateway and a client's sidecar have in common: a request goes in, an answer comes out, one record is made.
type proxy struct {
	id      workload.Identity
	self    party
	meter   *meter
	network *network.Network
	random  func(uint64) uint64
	// hostFallback says that a request to no known cluster is counted under its Host header, as sidecars do and gateways
	// do not.
	hostFallback bool

	current atomic.Pointer[table]
	// mirrors counts mirrored requests in flight; life ends them when the proxy stops.
	mirrors sync.WaitGroup
	// connections counts those that are carried; life cuts them.
	connections sync.WaitGroup
	life        context.Context
	end         context.CancelFunc

	mu  sync.Mutex
	err error // what the last configuration contained that could not be used
}

func newProxy(id workload.Identity, t *Telemetry, n *network.Network, random func(uint64) uint64) *proxy {
	if random == nil {
		random = rand.Uint64N
	}
	p := &proxy{id: id, self: partyOf(id), meter: t.meter(id), network: n, random: random}
	p.life, p.end = context.WithCancel(context.Background())
	p.current.Store(&table{})
	return p
}

// use puts a snapshot to work. The client calls it once at a time.
func (p *proxy) use(snap *xds.Snapshot) {
	old := p.current.Load()
	next, err := compile(snap, old, p.network, p.random)
	p.current.Store(next)
	old.retire(next)
	p.mu.Lock()
	p.err = err
	p.mu.Unlock()
}

// problem is what the configuration in use contains that could not be used.
func (p *proxy) problem() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// stop ends mirrored requests and drops all connections.
func (p *proxy) stop() {
	p.end()
	p.mirrors.Wait()
	p.connections.Wait()
	p.current.Load().retire(&table{})
}

// errGone is returned for a client that went away: there is nobody to answer.
var errGone = errors.New("the client went away")

// handle answers a request that arrived on a port, in the form that a server sees requests. The record is made when the
// answer's body ends or is closed. The only error is that the client went away.
func (p *proxy) handle(req *http.Request, port uint32) (*http.Response, error) {
	ex := p.begin(req)
	rs := ex.table.ports[port]
	if rs == nil {
		return ex.local(http.StatusBadGateway, flagNR, "no listener for the port"), nil
	}
	ex.routes = rs
	arrived := arrivalOf(req)
	ex.host, ex.route = rs.find(arrived)
	if ex.host.requiresTLS() {
		resp := ex.local(http.StatusMovedPermanently, 0, "")
		resp.Header.Set("Location", location(&routev3.RedirectAction{SchemeRewriteSpecifier: &routev3.RedirectAction_HttpsRedirect{HttpsRedirect: true}}, nil, req))
		return resp, nil
	}
	if ex.route == nil {
		return ex.local(http.StatusNotFound, flagNR, ""), nil
	}
	// The names that istiod gives to routes for hosts that it does not know, and those that Istio's telemetry gives them.
	switch ex.route.config.GetName() {
	case "block_all":
		ex.rec.service.name = "BlackHoleCluster"
	case "allow_any":
		ex.rec.service.name = "PassthroughCluster"
	}
	return ex.act(arrived)
}

// act does what the route says.
func (ex *exchange) act(arrived *arrival) (*http.Response, error) {
	switch action := ex.route.config.GetAction().(type) {
	case *routev3.Route_Route:
		ex.choice = ex.route.cluster.pick(arrived, ex.proxy.random)
		return ex.forward(action.Route)
	case *routev3.Route_DirectResponse:
		resp := ex.local(int(action.DirectResponse.GetStatus()), 0, action.DirectResponse.GetBody().GetInlineString())
		edit(resp.Header, responseEdits(ex.routes, ex.host, ex.route, ex.choice))
		return resp, nil
	case *routev3.Route_Redirect:
		resp := ex.local(redirectCode(action.Redirect), 0, "")
		resp.Header.Set("Location", location(action.Redirect, ex.route.config.GetMatch(), ex.req))
		edit(resp.Header, responseEdits(ex.routes, ex.host, ex.route, ex.choice))
		return resp, nil
	default:
		return ex.local(http.StatusNotFound, flagNR, ""), nil
	}
}

// local is an answer of the proxy's own. A gRPC client gets it as a status, over HTTP 200.
func (ex *exchange) local(code int, f flags, body string) *http.Response {
	ex.rec.flags |= f
	resp := &http.Response{
		StatusCode: code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Request: ex.req,
	}
	if ex.rec.grpc {
		resp.StatusCode = http.StatusOK
		resp.Header.Set("Content-Type", "application/grpc")
		resp.Header.Set("Grpc-Status", grpcStatusOf(code))
		if body != "" {
			resp.Header.Set("Grpc-Message", body)
		}
		body = ""
	} else if body != "" {
		resp.Header.Set("Content-Type", "text/plain")
	}
	resp.Status = http.StatusText(resp.StatusCode)
	resp.ContentLength = int64(len(body))
	return ex.answer(resp, io.NopCloser(strings.NewReader(body)))
}

// grpcStatusOf is Envoy's translation of an HTTP status.
func grpcStatusOf(code int) string {
	switch code {
	case http.StatusBadRequest:
		return "13"
	case http.StatusUnauthorized:
		return "16"
	case http.StatusForbidden:
		return "7"
	case http.StatusNotFound:
		return "12"
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return "14"
	case http.StatusOK:
		return "0"
	default:
		return "2"
	}
}
