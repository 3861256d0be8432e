package query

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/api"
	prometheus "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
)

// maxAnswer bounds one answer of Prometheus: about 100000 series with all of Istio's labels. maxRange bounds the answer to a range
// query, whose values take more room here than there: about 4000 series for an hour.
const (
	maxAnswer = 128 << 20
	maxRange  = 32 << 20
)

// errTooLarge is an answer beyond these.
var errTooLarge = errors.New("the answer is too large")

// Client is the part of the Prometheus HTTP API that Sluice uses.
type Client struct {
	address string
	// api answers at one time, ranges over a range.
	api, ranges prometheus.API
}

// NewClient returns a client for the Prometheus at address, such as "http://prometheus.istio-system:9090". The transport adds
// what the server asks for (credentials, TLS); nil means client_golang's default.
func NewClient(address string, transport http.RoundTripper) (*Client, error) {
	if transport == nil {
		transport = api.DefaultRoundTripper
	}
	return newClient(address, http.Client{Transport: transport})
}

func newClient(address string, h http.Client) (*Client, error) {
	u, err := url.Parse(address)
	if err != nil || u.User == nil && strings.Contains(address, "@") { // an address that cannot be read may show a password
		return nil, errors.New("address of Prometheus: must be http://HOST[:PORT] or https://HOST[:PORT]")
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("address of Prometheus %q: must be http://HOST[:PORT] or https://HOST[:PORT]", u.Redacted())
	}
	c := &Client{address: u.Redacted()}
	for limit, to := range map[int64]*prometheus.API{maxAnswer: &c.api, maxRange: &c.ranges} {
		limited := h
		limited.Transport = bounded{h.Transport, limit}
		asking, err := api.NewClient(api.Config{Address: address, Client: &limited})
		if err != nil {
			return nil, fmt.Errorf("address of Prometheus %q: not accepted by its client", u.Redacted())
		}
		*to = prometheus.NewAPI(asking)
	}
	return c, nil
}

// Address is where the Prometheus is, without a password.
func (c *Client) Address() string { return c.address }

// vector evaluates promql at one time. Its errors name the address and the kind of the query.
func (c *Client) vector(ctx context.Context, kind, promql string, at time.Time) (model.Vector, error) {
	value, warnings, _, err := c.api.Query(ctx, promql, at)
	return answer[model.Vector](c, kind, value, warnings, err)
}

// matrix evaluates promql over a span.
func (c *Client) matrix(ctx context.Context, kind, promql string, over span) (model.Matrix, error) {
	value, warnings, _, err := c.ranges.QueryRange(ctx, promql, prometheus.Range{Start: over.from, End: over.to, Step: over.step})
	return answer[model.Matrix](c, kind, value, warnings, err)
}

// answer is the value, where it is what was asked for, and whole.
func answer[V model.Value](c *Client, kind string, value model.Value, warnings []string, err error) (V, error) {
	var none V
	if err != nil {
		return none, fmt.Errorf("asking Prometheus at %s: %s query: %w: %w", c.address, kind, classOf(err), err)
	}
	// A server that fans out (Thanos, Mimir) warns where a store did not answer. The missing series would look like new ones
	// when they come back.
	if len(warnings) > 0 {
		return none, fmt.Errorf("asking Prometheus at %s: %s query: answered only in part: %s: %w",
			c.address, kind, strings.Join(warnings, "; "), ErrUnreachable)
	}
	v, ok := value.(V)
	if !ok {
		return none, fmt.Errorf("asking Prometheus at %s: %s query: answered with no %T but %T: %w", c.address, kind, none, value, ErrUnreachable)
	}
	return v, nil
}

// classOf tells a Prometheus that does not answer from one that refuses.
func classOf(err error) error {
	if errors.Is(err, errTooLarge) {
		return ErrRefused
	}
	var answer *prometheus.Error
	if !errors.As(err, &answer) {
		return ErrUnreachable
	}
	switch answer.Type {
	case prometheus.ErrClient, prometheus.ErrBadData, prometheus.ErrExec:
		return ErrRefused
	}
	return ErrUnreachable
}

// bounded is a transport whose answers end at a limit.
type bounded struct {
	http.RoundTripper
	limit int64
}

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = &limited{resp.Body, b.limit}
	return resp, nil
}

// limited is a body that fails where it goes on beyond its limit.
type limited struct {
	io.ReadCloser
	left int64
}

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, errTooLarge
	}
	return n, err
}
