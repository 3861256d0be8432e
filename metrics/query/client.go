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

// maxAnswer bounds one answer of Prometheus: about 100000 series with all of Istio's labels.
const maxAnswer = 128 << 20

// Client is the part of the Prometheus HTTP API that Sluice uses.
type Client struct {
	address string
	api     prometheus.API
}

// NewClient returns a client for the Prometheus at address, such as "http://prometheus.istio-system:9090". The transport adds
// what the server asks for (credentials, TLS); nil means client_golang's default.
func NewClient(address string, transport http.RoundTripper) (*Client, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("address of Prometheus: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("address of Prometheus %q: must be http://HOST[:PORT] or https://HOST[:PORT]", u.Redacted())
	}
	if transport == nil {
		transport = api.DefaultRoundTripper
	}
	c, err := api.NewClient(api.Config{Address: address, RoundTripper: bounded{transport}})
	if err != nil {
		return nil, fmt.Errorf("address of Prometheus %q: %w", u.Redacted(), err)
	}
	return &Client{address: u.Redacted(), api: prometheus.NewAPI(c)}, nil
}

// Address is where the Prometheus is, without a password.
func (c *Client) Address() string { return c.address }

// vector evaluates promql at one time. Its errors name the address and the kind of the query.
func (c *Client) vector(ctx context.Context, kind, promql string, at time.Time) (model.Vector, error) {
	value, warnings, err := c.ask(ctx, promql, at)
	if err != nil {
		return nil, fmt.Errorf("asking Prometheus at %s: %s query: %w", c.address, kind, err)
	}
	// A server that fans out (Thanos, Mimir) warns where a store did not answer. The missing series would look like new ones
	// when they come back.
	if len(warnings) > 0 {
		return nil, fmt.Errorf("asking Prometheus at %s: %s query: answered only in part: %s: %w",
			c.address, kind, strings.Join(warnings, "; "), ErrUnreachable)
	}
	v, ok := value.(model.Vector)
	if !ok {
		return nil, fmt.Errorf("asking Prometheus at %s: %s query: answered with no vector but %T: %w", c.address, kind, value, ErrUnreachable)
	}
	return v, nil
}

func (c *Client) ask(ctx context.Context, promql string, at time.Time) (model.Value, []string, error) {
	value, warnings, _, err := c.api.Query(ctx, promql, at)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", classOf(err), err)
	}
	return value, warnings, nil
}

// classOf tells a Prometheus that does not answer from one that refuses.
func classOf(err error) error {
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

// bounded is a transport whose answers end at maxAnswer.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	return resp, nil
}
