package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"k8s.io/klog/v2"

	"github.com/sluice-dev/sluice/metrics/analysis"
)

const (
	// maxAnswer is how much of a body is read: enough for its first line, and for the connection to be used again.
	maxAnswer = 16 << 10
	// maxLine is how much of its first line is shown.
	maxLine = 200
)

// transport connects to allowed hosts alone, and directly: behind a proxy nobody would see where a request ends.
func transport(r reach) *http.Transport {
	return &http.Transport{
		DialContext: r.dial, ForceAttemptHTTP2: true, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConns: 256, MaxIdleConnsPerHost: 4, IdleConnTimeout: 90 * time.Second,
	}
}

// reply is what came of one request.
type reply struct {
	outcome analysis.Outcome
	message string
	// failed is set for an error, which is asked again unless it is final.
	failed, final bool
}

// result names a reply for the Observer.
func (r reply) result() string {
	switch {
	case r.failed:
		return "error"
	case r.outcome == analysis.Pass:
		return "pass"
	}
	return "wait"
}

// ask asks one question to its end: retries send the same event.
func (c *Caller) ask(ctx context.Context, q Question, slots chan struct{}) Answer {
	a := Answer{Gate: q.Event.Gate, Outcome: analysis.Inconclusive}
	text, err := body(q.Event, time.Now())
	if err != nil {
		a.At, a.Message = now(), err.Error()
		return a
	}
	pause := c.options.pauses(q)
	pause.Jitter = spread
	r := c.call(ctx, q, text, slots)
	tries := 1
	for ; r.failed && !r.final && tries <= q.Retries && sleep(ctx, pause.Step()); tries++ {
		r = c.call(ctx, q, text, slots)
	}
	a.At, a.Outcome, a.Message = now(), r.outcome, r.message
	if r.failed && !r.final {
		a.Outcome = q.OnError
		if tries > 1 {
			a.Message += fmt.Sprintf(" (asked %d times)", tries)
		}
	}
	return a
}

// now is the present as a status keeps it.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// call sends one request, once there is room for it.
func (c *Caller) call(ctx context.Context, q Question, text []byte, slots chan struct{}) reply {
	for _, room := range []chan struct{}{slots, c.slots} {
		select {
		case room <- struct{}{}:
			defer func() { <-room }()
		case <-ctx.Done():
			return reply{outcome: analysis.Inconclusive, message: "not asked", failed: true, final: true}
		}
	}
	began := time.Now()
	r := c.send(ctx, q, text)
	if ctx.Err() == nil {
		c.options.Observer.ObserveWebhook(r.result(), time.Since(began))
	}
	return r
}

func (c *Caller) send(ctx context.Context, q Question, text []byte) reply {
	ctx, cancel := context.WithTimeout(ctx, q.Timeout)
	defer cancel()
	req, host, err := c.request(ctx, q, text)
	if err != nil {
		return reply{outcome: analysis.Inconclusive, message: err.Error(), failed: true, final: true}
	}
	resp, err := c.client.Do(req)
	if err != nil {
		c.options.Log.V(1).Info("a webhook was not reached", "TrafficShift", klog.KRef(q.Event.Namespace, q.Event.Name), "gate", q.Event.Gate, "host", host, "reason", detail(err).Error())
		return unanswered(err, host, q)
	}
	defer resp.Body.Close()
	read, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // what of it was read is enough
	switch status := resp.StatusCode; {
	case status >= 200 && status <= 299:
		return reply{outcome: analysis.Pass, message: fmt.Sprintf("%s answered %d", host, status)}
	case status == http.StatusConflict || status == http.StatusTooEarly:
		return reply{outcome: analysis.Inconclusive, message: strings.TrimSuffix(fmt.Sprintf("%s says to wait (%d): %s", host, status, firstLine(read)), ": ")}
	case status >= 300 && status <= 399:
		return reply{outcome: q.OnError, failed: true, message: fmt.Sprintf("%s answered %s; redirects are not followed", host, words(status))}
	default:
		return reply{outcome: q.OnError, failed: true, message: fmt.Sprintf("%s answered %s", host, words(status))}
	}
}

// request makes the request. What is wrong before it can be sent is a mistake here, and no answer.
func (c *Caller) request(ctx context.Context, q Question, text []byte) (req *http.Request, host string, err error) {
	req, err = http.NewRequestWithContext(ctx, http.MethodPost, q.URL, bytes.NewReader(text))
	if err != nil {
		return nil, "", errors.New("the url cannot be read; accepted: http://HOST[:PORT][/PATH][?QUERY], or https") // the error itself shows it
	}
	host = req.URL.Host
	target, err := c.reach.target(req.URL.Hostname(), q.Event.Namespace)
	if err != nil {
		return nil, "", err
	}
	if target != req.URL.Hostname() {
		req.URL.Host = strings.TrimSuffix(net.JoinHostPort(target, req.URL.Port()), ":")
	}
	req.URL.User = nil
	req.Header.Set("Content-Type", ContentType)
	req.Header.Set("User-Agent", "sluice")
	if c.options.SigningKey != nil {
		key, err := c.options.SigningKey()
		if err != nil {
			return nil, "", fmt.Errorf("not asked, because the request cannot be signed: %w", err)
		}
		req.Header.Set(SignatureHeader, sign(text, key, time.Now()))
	}
	return req, host, nil
}

func words(status int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", status, http.StatusText(status)))
}

// unanswered says why there was no answer.
func unanswered(err error, host string, q Question) reply {
	var refused refusal
	if errors.As(err, &refused) {
		return reply{outcome: analysis.Inconclusive, message: refused.Error(), failed: true, final: true}
	}
	return reply{outcome: q.OnError, message: host + ": " + cause(err), failed: true}
}

// cause is one of few texts. Whoever writes a gate chooses where we call, and is not to learn from us which ports are open, which names
// exist, or what a certificate says; the log tells that to the administrator.
func cause(err error) string {
	var (
		cert  *tls.CertificateVerificationError
		timed interface{ Timeout() bool }
	)
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timed) && timed.Timeout():
		return "no answer in time"
	case errors.As(err, &cert):
		return "its certificate is not trusted"
	}
	return "cannot be reached"
}

// detail is an error without the URL, whose path and query may be secrets.
func detail(err error) error {
	var at *url.Error
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

// firstLine is what is shown of an answer: printable, and not much.
func firstLine(text []byte) string {
	line, _, _ := strings.Cut(strings.TrimLeft(string(text), " \t\r\n"), "\n")
	var shown []rune
	for _, r := range line {
		if len(shown) == maxLine {
			break
		}
		if r != unicode.ReplacementChar && unicode.IsPrint(r) {
			shown = append(shown, r)
		}
	}
	return strings.TrimSpace(string(shown))
}
