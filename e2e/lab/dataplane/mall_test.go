package dataplane_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/e2e/lab/load"
	"github.com/sluice-dev/sluice/e2e/lab/xds"
)

func (m *mall) create(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		if err := m.Client.Create(t.Context(), o); err != nil {
			t.Fatalf("create %s %q: %v", o.GetObjectKind().GroupVersionKind().Kind, o.GetName(), err)
		}
	}
}

// replace writes an object over the one of its name.
func (m *mall) replace(t *testing.T, o client.Object) {
	t.Helper()
	old := o.DeepCopyObject().(client.Object)
	if err := m.Client.Get(t.Context(), client.ObjectKeyFromObject(o), old); err != nil {
		t.Fatalf("replace %q: %v", o.GetName(), err)
	}
	o.SetResourceVersion(old.GetResourceVersion())
	if err := m.Client.Update(t.Context(), o); err != nil {
		t.Fatalf("replace %q: %v", o.GetName(), err)
	}
}

func (m *mall) pod(t *testing.T, version string) *corev1.Pod {
	t.Helper()
	pods := &corev1.PodList{}
	if err := m.Client.List(t.Context(), pods, client.InNamespace(namespace), client.MatchingLabels{"version": version}); err != nil {
		t.Fatal(err)
	}
	if len(pods.Items) != 1 {
		t.Fatalf("pods of %s: got %d, want 1", version, len(pods.Items))
	}
	return &pods.Items[0]
}

// awaitEndpoints waits until both proxies have so many ready endpoints in a cluster.
func (m *mall) awaitEndpoints(t *testing.T, cluster string, n int) {
	t.Helper()
	m.await(t, func(s *xds.Snapshot) bool {
		c := s.Clusters[cluster]
		return c != nil && c.HealthyEndpoints() == n
	})
}

// awaitRoute waits until the sidecar routes the service at all: istiod sends routes after endpoints, and before them nobody knows the host.
func (m *mall) awaitRoute(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := m.sidecar.Wait(ctx, func(s *xds.Snapshot) bool { return len(weightsOn(s, httpPort)) > 0 }); err != nil {
		t.Fatal(err)
	}
}

// awaitWeights waits until both proxies route by these weights, on the ports of plain HTTP.
func (m *mall) awaitWeights(t *testing.T, want map[string]uint32) {
	t.Helper()
	m.await(t, func(s *xds.Snapshot) bool {
		return cmp.Equal(weightsOn(s, 80), want) || cmp.Equal(weightsOn(s, httpPort), want)
	})
}

func (m *mall) await(t *testing.T, cond func(*xds.Snapshot) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := m.plane.Gateway.Wait(ctx, cond); err != nil {
		t.Fatal(err)
	}
	if err := m.sidecar.Wait(ctx, cond); err != nil {
		t.Fatal(err)
	}
}

// weightsOn reads the weights by version of the micro-api's first route on a port.
func weightsOn(s *xds.Snapshot, port uint32) map[string]uint32 {
	l, ok := s.ListenerOn(port)
	if !ok {
		return nil
	}
	for _, vh := range s.RoutesOf(l).GetVirtualHosts() {
		for _, domain := range vh.GetDomains() {
			if domain == host {
				return weightsOf(vh.GetRoutes()[0].GetRoute())
			}
		}
	}
	return nil
}

func weightsOf(a *routev3.RouteAction) map[string]uint32 {
	got := map[string]uint32{}
	if a.GetCluster() != "" {
		got[versionOf(a.GetCluster())] = 100
	}
	for _, w := range a.GetWeightedClusters().GetClusters() {
		got[versionOf(w.GetName())] = w.GetWeight().GetValue()
	}
	return got
}

// versionOf is the subset in "outbound|19090|v1|host".
func versionOf(cluster string) string { return strings.Split(cluster, "|")[2] }

func (m *mall) byGateway(t *testing.T, n int) load.Counts {
	t.Helper()
	return run(t, load.Config{URL: "http://" + m.gateway + "/", Host: host, Requests: n, Rate: 300})
}

func (m *mall) bySidecar(t *testing.T, n int) load.Counts {
	t.Helper()
	return run(t, load.Config{URL: fmt.Sprintf("http://%s:%d/", host, httpPort), Transport: m.sidecar, Requests: n, Rate: 300})
}

// run sends a bounded load and expects every request of it to be sent and answered by somebody.
func run(t *testing.T, cfg load.Config) load.Counts {
	t.Helper()
	cfg.InFlight = cfg.Requests
	source, err := load.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	<-source.Done()
	r := source.Stop()
	if r.Skipped > 0 || r.ByStatus[0] > 0 {
		t.Errorf("load on %s: %d skipped, %d unanswered: %v", cfg.URL, r.Skipped, r.ByStatus[0], r.Failures)
	}
	return r.Counts
}

// wantAll sends some requests both ways and expects one status.
func (m *mall) wantAll(t *testing.T, status int) {
	t.Helper()
	if got := m.byGateway(t, 10); got.ByStatus[status] != 10 {
		t.Errorf("gateway: got %v, want 10 answers of status %d", got.Answers, status)
	}
	if got := m.bySidecar(t, 10); got.ByStatus[status] != 10 {
		t.Errorf("sidecar: got %v, want 10 answers of status %d", got.Answers, status)
	}
}

// wantGRPCFailures waits until grpc-go, too, has nobody to call.
func (m *mall) wantGRPCFailures(t *testing.T) {
	t.Helper()
	if err := eventually(t.Context(), func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err := m.grpc.Call(ctx)
		return err != nil
	}); err != nil {
		t.Error("grpc-go still finds somebody to call")
	}
}

// wantSeries waits until Prometheus has source-reported requests with these labels from both proxies.
func (m *mall) wantSeries(t *testing.T, labels string) {
	t.Helper()
	for _, workload := range []string{"istio-ingressgateway", "client"} {
		m.wantQuery(t, fmt.Sprintf(`sum(istio_requests_total{reporter="source",source_workload=%q,%s}) == 10`, workload, labels))
	}
}

func (m *mall) labels(t *testing.T) {
	for _, workload := range []string{"istio-ingressgateway", "client"} {
		m.wantQuery(t, fmt.Sprintf(`sum(istio_requests_total{reporter="source",source_workload=%q,destination_workload="micro-api-v2",`+
			`destination_workload_namespace="shop",destination_version="v2",destination_canonical_revision="v2",destination_app="micro-api",`+
			`destination_service=%q,destination_service_name="micro-api",destination_service_namespace="shop",response_code="200",`+
			`response_flags="-",request_protocol="http",connection_security_policy="unknown"}) > 50`, workload, host))
		m.wantQuery(t, fmt.Sprintf(`sum(istio_requests_total{reporter="destination",source_workload=%q,destination_workload="micro-api-v2",`+
			`destination_version="v2",destination_canonical_revision="v2",destination_service=%q,connection_security_policy="none"}) > 50`, workload, host))
	}
	m.wantQuery(t, `sum(istio_requests_total{reporter="destination",source_workload="unknown",request_protocol="grpc",grpc_response_status="0",`+
		`response_code="200",destination_workload="micro-api-v2"}) > 50`)
	// Both reporters count the same requests.
	m.wantQuery(t, `sum(istio_requests_total{reporter="source",destination_workload="micro-api-v2"}) == `+
		`sum(istio_requests_total{reporter="destination",destination_workload="micro-api-v2",source_workload!="unknown"})`)
	m.wantQuery(t, `sum(istio_request_duration_milliseconds_bucket{reporter="source",destination_workload="micro-api-v2",le="+Inf"}) == `+
		`sum(istio_request_duration_milliseconds_count{reporter="source",destination_workload="micro-api-v2"})`)
}

// wantQuery waits until a query has a result.
func (m *mall) wantQuery(t *testing.T, query string) {
	t.Helper()
	var last string
	if err := eventually(t.Context(), func() bool {
		var found bool
		found, last = ask(t, m.PrometheusURL, query)
		return found
	}); err != nil {
		t.Errorf("no result of %s\nlast: %s", query, last)
	}
}

func ask(t *testing.T, prometheus, query string) (found bool, raw string) {
	t.Helper()
	resp, err := http.Get(prometheus + "/api/v1/query?query=" + url.QueryEscape(query))
	if err != nil {
		return false, err.Error()
	}
	defer func() { _ = resp.Body.Close() }() // it was read or the test fails anyway
	var answer struct {
		Data struct{ Result []json.RawMessage }
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return false, err.Error()
	}
	return len(answer.Data.Result) > 0, fmt.Sprintf("%s", answer.Data.Result)
}

// eventually asks ten times a second for at most fifteen seconds.
func eventually(ctx context.Context, cond func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}
