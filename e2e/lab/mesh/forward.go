package mesh

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// forward sends the request to the chosen cluster.
func (ex *exchange) forward(action *routev3.RouteAction) (*http.Response, error) {
	c := ex.table.clusters[ex.choice.cluster]
	if c == nil {
		return ex.local(notFoundCode(action), flagNC, ""), nil
	}
	if c.service.host != "" {
		ex.rec.service = c.service
	}
	if c.passthrough() {
		return ex.local(http.StatusBadGateway, flagNR, "passthrough has no destination on loopback"), nil
	}
	if t := action.GetTimeout().AsDuration(); t > 0 {
		timer := time.AfterFunc(t, func() { ex.cancel(errRouteTimeout) })
		ex.onEnd(func() { timer.Stop() })
	}
	body := replayOf(ex.req)
	out := ex.outgoing(action, c)
	ex.mirror(action, out, body)
	return ex.attempts(c, out, body)
}

// attempts tries until there is an answer worth passing on. All attempts stay in the cluster.
func (ex *exchange) attempts(c *cluster, out *http.Request, body *replay) (*http.Response, error) {
	policy := ex.route.retry
	http2 := c.wire.speaks(ex.req.ProtoMajor)
	tried := map[string]bool{}
	for n := 0; ; n++ {
		e := c.balancer.Load().pick(tried, policy.hostChoices())
		if e == nil {
			return ex.local(http.StatusServiceUnavailable, flagUH, "no healthy upstream"), nil
		}
		if ex.host.config.GetIncludeRequestAttemptCount() {
			out.Header.Set("X-Envoy-Attempt-Count", strconv.Itoa(n+1))
		}
		a := ex.attempt(c, e, out, body, http2)
		tried[e.Address] = true
		wanted := policy.retriesTrouble(a.trouble) || a.resp != nil && policy.retriesAnswer(a.resp, ex.rec.grpc)
		left := policy != nil && n < int(policy.retries)
		switch {
		case wanted && !left:
			ex.rec.flags |= flagURX
			return ex.settle(a)
		case !wanted || !body.possible():
			return ex.settle(a)
		}
		a.drop()
		if !ex.pause(policy.delay(n, ex.proxy.random)) {
			return ex.fail(diagnose(ex.ctx, context.Cause(ex.ctx)))
		}
	}
}

// hostChoices is how often a retry may look for an endpoint that was not tried.
func (p *retryPolicy) hostChoices() int64 {
	if p == nil || !p.previousHosts {
		return 1
	}
	return p.hostAttempts
}

// pause waits before another attempt; false means that there is no time for one.
func (ex *exchange) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ex.ctx.Done():
		return false
	}
}

// attempted is the outcome of one attempt: an answer, or trouble.
type attempted struct {
	resp    *http.Response
	trouble trouble
	// end gives back what the attempt holds; the answer's body needs it until its end.
	end func()
}

func (a attempted) drop() {
	if a.resp != nil {
		_ = a.resp.Body.Close() // it is thrown away
	}
	a.end()
}

func (ex *exchange) attempt(c *cluster, e *endpoint, out *http.Request, body *replay, http2 bool) attempted {
	ctx, cancel := context.WithCancelCause(ex.ctx)
	release, err := c.breaker.acquire(ctx, http2)
	if err != nil {
		defer cancel(nil)
		return attempted{trouble: diagnose(ctx, err), end: func() {}}
	}
	// From here on the endpoint was chosen, and telemetry blames it.
	ex.rec.dest = party{
		Workload: e.Workload, Namespace: e.Namespace, Service: e.CanonicalService, Revision: e.CanonicalRevision, Cluster: e.ClusterID,
	}
	e.host.active.Add(1)
	var perTry *time.Timer
	if ex.route.retry != nil && ex.route.retry.perTry > 0 {
		perTry = time.AfterFunc(ex.route.retry.perTry, func() { cancel(errTryTimeout) })
	}
	end := func() {
		if perTry != nil {
			perTry.Stop()
		}
		e.host.active.Add(-1)
		release()
		cancel(nil)
	}
	resp, err := roundTrip(ctx, e.host.pools.transport(http2), func(ctx context.Context) *http.Request {
		return sendable(ctx, out, e.Address, body, http2)
	})
	if err != nil {
		return attempted{trouble: diagnose(ctx, err), end: end}
	}
	return attempted{resp: resp, end: end}
}

// sendable is the request for one attempt at one address.
func sendable(ctx context.Context, out *http.Request, address string, body *replay, http2 bool) *http.Request {
	r := out.Clone(ctx)
	r.URL.Host = address
	if body == nil {
		r.Body, r.ContentLength = emptyBody(r.Method, http2), 0
	} else {
		r.Body = body.attempt()
	}
	return r
}

// settle turns the last attempt into the answer for the client.
func (ex *exchange) settle(a attempted) (*http.Response, error) {
	if a.resp == nil {
		a.end()
		return ex.fail(a.trouble)
	}
	ex.onEnd(a.end)
	resp := a.resp
	if peer, ok := meet(resp.Header); ok {
		ex.rec.dest = peer.party
	}
	dropHopByHop(resp.Header)
	resp.Header.Set("X-Envoy-Upstream-Service-Time", strconv.FormatInt(time.Since(ex.start).Milliseconds(), 10))
	edit(resp.Header, responseEdits(ex.routes, ex.host, ex.route, ex.choice))
	resp.Request = ex.req
	return ex.answer(resp, resp.Body), nil
}

// fail is the proxy's own answer where an upstream gave none.
func (ex *exchange) fail(t trouble) (*http.Response, error) {
	const broken = "upstream connect error or disconnect/reset before headers. reset reason: "
	switch t {
	case connectFailed:
		return ex.local(http.StatusServiceUnavailable, flagUF, broken+"remote connection failure"), nil
	case overflowed:
		return ex.local(http.StatusServiceUnavailable, flagUO, broken+"overflow"), nil
	case timedOut, attemptTimedOut:
		return ex.local(http.StatusGatewayTimeout, flagUT, "upstream request timeout"), nil
	case refused, reset:
		return ex.local(http.StatusServiceUnavailable, flagUR, broken+"remote reset"), nil
	case abandoned:
		return nil, ex.gone()
	default:
		return ex.local(http.StatusServiceUnavailable, flagUC, broken+"connection termination"), nil
	}
}

// outgoing is the request as the upstream shall see it, but for its address and body.
func (ex *exchange) outgoing(action *routev3.RouteAction, c *cluster) *http.Request {
	in := ex.req
	out := in.Clone(in.Context())
	out.RequestURI, out.Close, out.TransferEncoding = "", false, nil
	if out.Header == nil {
		out.Header = http.Header{}
	}
	// A server fills the trailers in while the body is read, so they must stay the same map.
	out.Trailer = in.Trailer
	dropHopByHop(out.Header)
	if out.Header.Get("User-Agent") == "" {
		out.Header.Set("User-Agent", "") // or the transport would add its own
	}
	path := or(in.URL.EscapedPath(), "/")
	if to := rewritePath(ex.route, path); to != path {
		out.Header.Set("X-Envoy-Original-Path", path)
		path = to
	}
	out.URL = upstreamURL(path, in.URL.RawQuery)
	out.Host = rewriteHost(action, ex.choice, in.Host, in.Header)
	if out.Header.Get("X-Request-Id") == "" {
		out.Header.Set("X-Request-Id", requestID(ex.proxy.random))
	}
	if out.Header.Get("X-Forwarded-Proto") == "" {
		out.Header.Set("X-Forwarded-Proto", "http")
	}
	edit(out.Header, requestEdits(ex.routes, ex.host, ex.route, ex.choice))
	self := ex.proxy.id
	introduce(out.Header, self.Pod+"."+self.Namespace, introduction{party: ex.proxy.self, Asked: c.service.host})
	return out
}

func upstreamURL(path, query string) *url.URL {
	u, err := url.ParseRequestURI(path)
	if err != nil {
		u = &url.URL{Path: path}
	}
	if query != "" {
		u.RawQuery = query
	}
	u.Scheme = "http"
	return u
}

// requestID looks like the random UUID that Envoy gives a request.
func requestID(random func(uint64) uint64) string {
	hi, lo := random(1<<63), random(1<<63)
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", hi>>31&0xffffffff, hi&0xffff, hi>>16&0xfff, lo>>48&0x3fff|0x8000, lo&0xffffffffffff)
}

func notFoundCode(a *routev3.RouteAction) int {
	switch a.GetClusterNotFoundResponseCode() {
	case routev3.RouteAction_NOT_FOUND:
		return http.StatusNotFound
	case routev3.RouteAction_INTERNAL_SERVER_ERROR:
		return http.StatusInternalServerError
	default:
		return http.StatusServiceUnavailable
	}
}
