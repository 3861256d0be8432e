package mesh

import (
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"github.com/sluice-dev/sluice/e2e/lab/workload"
)

// Telemetry holds what all proxies of a lab counted.
type Telemetry struct {
	mu        sync.RWMutex
	proxies   map[podKey]*meter
	serviceOf func(workload.Identity) string
	removed   map[string][]string // tags, by the host of the service that was asked for
}

type podKey struct{ namespace, pod string }

// NewTelemetry returns a Telemetry without proxies.
func NewTelemetry() *Telemetry {
	return &Telemetry{proxies: map[podKey]*meter{}, serviceOf: func(workload.Identity) string { return "" }, removed: map[string][]string{}}
}

// RemoveTags has requests to a service counted without these labels from now on, as a Telemetry resource with tagOverrides REMOVE does.
func (t *Telemetry) RemoveTags(host string, tags ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.removed[host] = tags
}

func (t *Telemetry) removedTags(host string) []string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.removed[host]
}

// NameServices sets how the host of a pod's service is found. It must be quick: it is asked with every inbound request.
func (t *Telemetry) NameServices(serviceOf func(workload.Identity) string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.serviceOf = serviceOf
}

// Handler serves every proxy's series with the labels pod and namespace.
func (t *Telemetry) Handler() http.Handler {
	return promhttp.HandlerFor(prometheus.GathererFunc(t.gather), promhttp.HandlerOpts{})
}

// Forget takes a pod's series away, as a scrape target that is gone does.
func (t *Telemetry) Forget(namespace, pod string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.proxies, podKey{namespace, pod})
}

// Restart takes a pod's counters back to nothing, as a proxy that is started again does: its series go on from 0.
func (t *Telemetry) Restart(namespace, pod string) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if m := t.proxies[podKey{namespace, pod}]; m != nil {
		m.requests.Reset()
		m.duration.Reset()
		for _, c := range []*prometheus.CounterVec{m.opened, m.closed, m.sent, m.received} {
			c.Reset()
		}
	}
}

func (t *Telemetry) gather() ([]*dto.MetricFamily, error) {
	t.mu.RLock()
	keys := make([]podKey, 0, len(t.proxies))
	for k := range t.proxies {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b podKey) int {
		return strings.Compare(a.namespace+"/"+a.pod, b.namespace+"/"+b.pod)
	})
	all := make(prometheus.Gatherers, 0, len(keys))
	for _, k := range keys {
		all = append(all, t.proxies[k].registry)
	}
	t.mu.RUnlock()
	return all.Gather()
}

// meter returns the pod's own metrics, made at first use.
func (t *Telemetry) meter(id workload.Identity) *meter {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := podKey{id.Namespace, id.Pod}
	if m := t.proxies[key]; m != nil {
		return m
	}
	m := newMeter(id)
	m.removed = t.removedTags
	t.proxies[key] = m
	return m
}

func (t *Telemetry) service(id workload.Identity) string {
	t.mu.RLock()
	f := t.serviceOf
	t.mu.RUnlock()
	return f(id)
}

// meter is what one proxy counts.
type meter struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	// The same of connections.
	opened, closed, sent, received *prometheus.CounterVec
	// removed are the labels that requests to a host are counted without.
	removed func(host string) []string
}

func newMeter(id workload.Identity) *meter {
	m := &meter{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "istio_requests_total", Help: "Requests, counted when they end, by the proxy that saw them.",
		}, labelNames),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "istio_request_duration_milliseconds", Help: "How long requests took, from their arrival to their last byte.",
			Buckets: durationBuckets,
		}, labelNames),
		opened:   connectionCounter("istio_tcp_connections_opened_total", "Connections that were made, or failed to be."),
		closed:   connectionCounter("istio_tcp_connections_closed_total", "Connections that ended."),
		sent:     connectionCounter("istio_tcp_sent_bytes_total", "Bytes sent to whoever made the connection."),
		received: connectionCounter("istio_tcp_received_bytes_total", "Bytes received from whoever made the connection."),
	}
	pod := prometheus.WrapRegistererWith(prometheus.Labels{"pod": id.Pod, "namespace": id.Namespace}, m.registry)
	pod.MustRegister(m.requests, m.duration, m.opened, m.closed, m.sent, m.received)
	return m
}

// record counts one finished request.
func (m *meter) record(r record) {
	values := r.labels()
	m.remove(values, labelNames, r.service.host)
	m.requests.WithLabelValues(values...).Inc()
	m.duration.WithLabelValues(values...).Observe(float64(r.duration.Milliseconds()))
}

// remove takes the values of removed tags out: to Prometheus, none is the same as no label.
func (m *meter) remove(values, names []string, host string) {
	for _, tag := range m.removed(host) {
		if i := slices.Index(names, tag); i >= 0 {
			values[i] = ""
		}
	}
}
