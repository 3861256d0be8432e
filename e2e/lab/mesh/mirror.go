package mesh

import (
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
)

// mirrorTimeout ends a mirrored request that nobody waits for.
const mirrorTimeout = 30 * time.Second

// mirror sends copies where the route says so and forgets them. The caller's proxy does not count them; the server's does.
func (ex *exchange) mirror(action *routev3.RouteAction, out *http.Request, body *replay) {
	for _, policy := range action.GetRequestMirrorPolicies() {
		c := ex.table.clusters[policy.GetCluster()]
		if c == nil || c.passthrough() || !ex.drawn(policy) {
			continue
		}
		if !body.whole() {
			return // Envoy would stream it; the stand-in does not mirror what it cannot keep
		}
		ex.proxy.mirrors.Go(func() { ex.proxy.sendMirror(c, shadow(out, policy), body) })
	}
}

// drawn says whether this request is among those that are mirrored.
func (ex *exchange) drawn(policy *routev3.RouteAction_RequestMirrorPolicy) bool {
	fraction := policy.GetRuntimeFraction().GetDefaultValue()
	if fraction == nil {
		return true
	}
	return ex.proxy.random(denominator(fraction)) < uint64(fraction.GetNumerator())
}

func denominator(f *typev3.FractionalPercent) uint64 {
	switch f.GetDenominator() {
	case typev3.FractionalPercent_TEN_THOUSAND:
		return 10_000
	case typev3.FractionalPercent_MILLION:
		return 1_000_000
	default:
		return 100
	}
}

func shadow(out *http.Request, policy *routev3.RouteAction_RequestMirrorPolicy) *http.Request {
	r := out.Clone(context.Background())
	if !policy.GetDisableShadowHostSuffixAppend() {
		name, port, found := strings.Cut(r.Host, ":")
		r.Host = name + "-shadow"
		if found {
			r.Host += ":" + port
		}
	}
	return r
}

func (p *proxy) sendMirror(c *cluster, r *http.Request, body *replay) {
	ctx, cancel := context.WithTimeout(p.life, mirrorTimeout)
	defer cancel()
	e := c.balancer.Load().pick(nil, 1)
	if e == nil {
		return
	}
	http2 := c.wire.speaks(r.ProtoMajor)
	release, err := c.breaker.acquire(ctx, http2)
	if err != nil {
		return
	}
	defer release()
	e.host.active.Add(1)
	defer e.host.active.Add(-1)
	resp, err := roundTrip(ctx, e.host.pools.transport(http2), func(ctx context.Context) *http.Request {
		return sendable(ctx, r, e.Address, body, http2)
	})
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, resp.Body) // nobody wants a mirrored answer
	_ = resp.Body.Close()
}
