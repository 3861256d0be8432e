package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/sluice-dev/sluice/e2e/lab/images"
)

// agentName is how the kubelet's probes introduce themselves.
const agentName = images.ProbeAgent + "1.36"

// probe runs the container's probes until ctx ends. The channel is closed when the container is to be restarted.
func (c *container) probe(ctx context.Context, run instance) <-chan struct{} {
	unhealthy := make(chan struct{})
	go func() {
		if c.spec.StartupProbe != nil && !c.startup(ctx, run, unhealthy) {
			return
		}
		if p := c.spec.ReadinessProbe; p != nil {
			go c.repeat(ctx, run, "Readiness", p, false, func(ok bool) bool {
				c.set(func() { c.ready = ok })
				return true
			})
		}
		if p := c.spec.LivenessProbe; p != nil {
			c.repeat(ctx, run, "Liveness", p, true, func(ok bool) bool {
				if !ok {
					close(unhealthy)
				}
				return ok
			})
		}
	}()
	return unhealthy
}

// startup runs the startup probe to its verdict.
func (c *container) startup(ctx context.Context, run instance, unhealthy chan<- struct{}) (passed bool) {
	c.repeat(ctx, run, "Startup", c.spec.StartupProbe, false, func(ok bool) bool {
		if passed = ok; ok {
			c.set(func() { c.started, c.ready = true, c.spec.ReadinessProbe == nil })
		} else {
			close(unhealthy)
		}
		return false
	})
	return passed
}

// repeat asks a probe again and again and tells verdict whenever its answer turns from state, by the probe's thresholds,
// until verdict or ctx ends it. A startup probe has no state to turn from: its first answer is told, whichever it is.
func (c *container) repeat(ctx context.Context, run instance, kind string, p *corev1.Probe, state bool, verdict func(bool) bool) {
	if !sleep(ctx, nil, time.Duration(p.InitialDelaySeconds)*time.Second) {
		return
	}
	tick := time.NewTicker(time.Duration(max(p.PeriodSeconds, 1)) * time.Second)
	defer tick.Stop()
	var streak int32
	var previous bool
	for {
		err := c.ask(ctx, run, p)
		if ctx.Err() != nil {
			return
		}
		ok := err == nil
		if !ok {
			c.event(corev1.EventTypeWarning, "Unhealthy", kind+" probe failed: "+err.Error())
		}
		if ok != previous {
			streak = 0
		}
		streak, previous = streak+1, ok
		crossed := ok && streak >= p.SuccessThreshold || !ok && streak >= p.FailureThreshold
		if crossed && (ok != state || kind == "Startup") {
			state = ok
			if !verdict(ok) {
				return
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// patience is how long an answer may take at least, whatever a probe says: whenever the one machine that is all nodes pauses, every application on
// it would look as if it hung.
const patience = 5 * time.Second

// ask makes one probe. It goes to the application itself, past the proxy.
func (c *container) ask(ctx context.Context, run instance, p *corev1.Probe) error {
	ctx, cancel := context.WithTimeout(ctx, max(time.Duration(p.TimeoutSeconds)*time.Second, patience))
	defer cancel()
	port, err := probePort(c.spec, p)
	if err != nil {
		return err
	}
	real := run.address(port)
	if real == "" {
		return fmt.Errorf("dial tcp %s:%d: connect: connection refused", c.pod.ip, port)
	}
	switch {
	case p.HTTPGet != nil:
		return askHTTP(ctx, p.HTTPGet, net.JoinHostPort(c.pod.ip, strconv.Itoa(int(port))), real)
	case p.GRPC != nil:
		return askGRPC(ctx, ptr.Deref(p.GRPC.Service, ""), real)
	default:
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", real)
		if err != nil {
			return err
		}
		return conn.Close()
	}
}

// probePort is the container port that a probe asks, by number or by name.
func probePort(c corev1.Container, p *corev1.Probe) (int32, error) {
	var port intstr.IntOrString
	switch {
	case p.HTTPGet != nil:
		port = p.HTTPGet.Port
	case p.TCPSocket != nil:
		port = p.TCPSocket.Port
	case p.GRPC != nil:
		port = intstr.FromInt32(p.GRPC.Port)
	default:
		return 0, errors.New("the lab has no commands to run in a container: use httpGet, tcpSocket or grpc")
	}
	if port.Type == intstr.Int {
		return port.IntVal, nil
	}
	for _, named := range c.Ports {
		if named.Name == port.StrVal {
			return named.ContainerPort, nil
		}
	}
	return 0, fmt.Errorf("container %s has no port named %q", c.Name, port.StrVal)
}

func askHTTP(ctx context.Context, get *corev1.HTTPGetAction, address, real string) error {
	scheme := "http"
	if get.Scheme == corev1.URISchemeHTTPS {
		scheme = "https"
	}
	path, err := url.Parse(get.Path)
	if err != nil {
		return err
	}
	target := (&url.URL{Scheme: scheme, Host: address}).ResolveReference(path)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", agentName)
	req.Header.Set("Accept", "*/*")
	for _, h := range get.HTTPHeaders {
		if http.CanonicalHeaderKey(h.Name) == "Host" {
			req.Host = h.Value
		} else {
			req.Header.Set(h.Name, h.Value)
		}
	}
	client := &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // as the kubelet does
			DialContext: func(ctx context.Context, protocol, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, protocol, real)
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusOK && resp.StatusCode < http.StatusBadRequest {
		return nil
	}
	return fmt.Errorf("HTTP probe failed with statuscode: %d", resp.StatusCode)
}

func askGRPC(ctx context.Context, service, real string) error {
	conn, err := grpc.NewClient("passthrough:///"+real, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUserAgent(agentName))
	if err != nil {
		return err
	}
	defer conn.Close()
	resp, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
	if err != nil {
		return err
	}
	if resp.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("service unhealthy (responded with %q)", resp.Status)
	}
	return nil
}
