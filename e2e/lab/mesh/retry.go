package mesh

import (
	"net/http"
	"slices"
	"strings"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// Envoy's defaults for what a retry policy leaves out.
const (
	defaultRetryBase = 25 * time.Millisecond
	// The largest delay is ten times the base.
	defaultRetryCeiling = 10
)

// retryPolicy is what a route says about trying again. Every attempt stays in the cluster that the request was given to.
type retryPolicy struct {
	on           map[string]bool
	codes        []uint32
	retries      uint32
	perTry       time.Duration
	base, max    time.Duration
	hostAttempts int64
	// previousHosts avoids endpoints that were tried.
	previousHosts bool
}

func compileRetry(p *routev3.RetryPolicy) *retryPolicy {
	if p == nil || p.GetRetryOn() == "" {
		return nil
	}
	c := &retryPolicy{
		on: map[string]bool{}, codes: p.GetRetriableStatusCodes(), retries: 1, perTry: p.GetPerTryTimeout().AsDuration(),
		base: defaultRetryBase, hostAttempts: max(1, p.GetHostSelectionRetryMaxAttempts()),
	}
	for condition := range strings.SplitSeq(p.GetRetryOn(), ",") {
		c.on[strings.TrimSpace(condition)] = true
	}
	if n := p.GetNumRetries(); n != nil {
		c.retries = n.GetValue()
	}
	if base := p.GetRetryBackOff().GetBaseInterval().AsDuration(); base > 0 {
		c.base = base
	}
	c.max = defaultRetryCeiling * c.base
	if limit := p.GetRetryBackOff().GetMaxInterval().AsDuration(); limit > 0 {
		c.max = limit
	}
	for _, predicate := range p.GetRetryHostPredicate() {
		c.previousHosts = c.previousHosts || strings.HasSuffix(predicate.GetName(), "previous_hosts")
	}
	return c
}

// delay is a random part of an exponentially growing interval.
func (p *retryPolicy) delay(attempt int, random func(uint64) uint64) time.Duration {
	ceiling := min(p.base<<min(attempt, 16), p.max)
	return time.Duration(random(uint64(max(1, ceiling))))
}

// trouble is why an attempt brought no answer.
type trouble int

const (
	none trouble = iota
	connectFailed
	overflowed
	refused
	reset        // the upstream reset the stream
	disconnected // the upstream closed the connection
	timedOut
	attemptTimedOut
	abandoned // the client went away
)

// retriesTrouble says whether an attempt without an answer is repeated.
func (p *retryPolicy) retriesTrouble(t trouble) bool {
	if p == nil {
		return false
	}
	switch t {
	case connectFailed:
		return p.on["connect-failure"] || p.on["5xx"] || p.on["gateway-error"] || p.on["reset"]
	case refused:
		return p.on["refused-stream"] || p.on["5xx"] || p.on["gateway-error"] || p.on["reset"]
	case reset, disconnected, attemptTimedOut:
		return p.on["5xx"] || p.on["gateway-error"] || p.on["reset"]
	default:
		return false
	}
}

// grpcConditions are the retry conditions that name a gRPC status.
var grpcConditions = map[string]string{
	"cancelled": "1", "deadline-exceeded": "4", "resource-exhausted": "8", "internal": "13", "unavailable": "14",
}

// retriesAnswer says whether an answer is thrown away for another attempt. A gRPC status counts where it stands in the
// header, as in Envoy, which has already passed the header on when a trailer arrives.
func (p *retryPolicy) retriesAnswer(resp *http.Response, grpc bool) bool {
	if p == nil {
		return false
	}
	code := resp.StatusCode
	switch {
	case p.on["5xx"] && code >= 500,
		p.on["gateway-error"] && code >= 502 && code <= 504,
		p.on["retriable-4xx"] && code == http.StatusConflict,
		p.on["retriable-status-codes"] && slices.Contains(p.codes, uint32(code)):
		return true
	}
	status := resp.Header.Get("Grpc-Status")
	if !grpc || status == "" {
		return false
	}
	for condition, want := range grpcConditions {
		if p.on[condition] && status == want {
			return true
		}
	}
	return false
}
