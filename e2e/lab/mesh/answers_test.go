package mesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-dev/sluice/e2e/lab/xds"
)

// istiodRetries is the policy that istiod gives every route.
func istiodRetries(a *routev3.RouteAction) {
	a.RetryPolicy = &routev3.RetryPolicy{
		RetryOn:    "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
		NumRetries: wrapperspb.UInt32(2), HostSelectionRetryMaxAttempts: 5,
		RetryHostPredicate: []*routev3.RetryPolicy_RetryHostPredicate{{Name: "envoy.retry_host_predicates.previous_hosts"}},
	}
}

// TestOwnAnswers has one row per way in which a proxy answers for an upstream that did not.
func TestOwnAnswers(t *testing.T) {
	const labels = "response_code response_flags destination_workload destination_version destination_canonical_revision destination_service destination_service_name"
	aborts := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	slow := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	tests := map[string]struct {
		reason    string
		resources []proto.Message
		route     *routev3.Route
		listen    http.Handler // behind 10.244.1.1, without a sidecar; nil: refused
		host      string
		status    int
		series    string
	}{
		"NR": {
			reason: "no virtual host has the name; gateways do not fall back to the Host header",
			host:   "other.example.com", route: to(clusterNamed("v1")),
			status: 404, series: "404|NR|unknown|unknown|latest|unknown|unknown",
		},
		"NC": {
			reason: "the route names a cluster that CDS never sent",
			route:  to(clusterNamed("v9")),
			status: 503, series: "503|NC|unknown|unknown|latest|unknown|unknown",
		},
		"NC with the code of the Gateway API": {
			reason: "istiod asks for 500 where an HTTPRoute names a missing backend",
			route: to(clusterNamed("v9"), func(a *routev3.RouteAction) {
				a.ClusterNotFoundResponseCode = routev3.RouteAction_INTERNAL_SERVER_ERROR
			}),
			status: 500, series: "500|NC|unknown|unknown|latest|unknown|unknown",
		},
		"UH without endpoints": {
			reason:    "the cluster is known, so the service is; nobody was chosen, so the workload is not",
			resources: []proto.Message{clusterFor("v1"), endpointsFor("v1")}, route: to(clusterNamed("v1")),
			status: 503, series: "503|UH|unknown|unknown|latest|" + shopHost + "|micro-api",
		},
		"UH with endpoints that are not ready": {
			reason:    "istiod sends them marked, and the panic threshold is 0",
			resources: []proto.Message{clusterFor("v1"), endpointsFor("v1", "!10.244.1.1")}, route: to(clusterNamed("v1")), listen: says("v1"),
			status: 503, series: "503|UH|unknown|unknown|latest|" + shopHost + "|micro-api",
		},
		"UF": {
			reason:    "refused by the chosen endpoint, which istiod described: the workload is known, the version label is not",
			resources: []proto.Message{clusterFor("v1"), endpointsFor("v1", "10.244.1.1")}, route: to(clusterNamed("v1")),
			status: 503, series: "503|UF|micro-api-v1|unknown|v1|" + shopHost + "|micro-api",
		},
		"UF with istiod's retries": {
			reason:    "three attempts, one record, and the flag that says so",
			resources: []proto.Message{clusterFor("v1"), endpointsFor("v1", "10.244.1.1")}, route: to(clusterNamed("v1"), istiodRetries),
			status: 503, series: "503|UF,URX|micro-api-v1|unknown|v1|" + shopHost + "|micro-api",
		},
		"UC": {
			reason:    "accepted and then closed; istiod's retries do not cover it",
			resources: []proto.Message{clusterFor("v1"), endpointsFor("v1", "10.244.1.1")}, route: to(clusterNamed("v1"), istiodRetries), listen: aborts,
			status: 503, series: "503|UC|micro-api-v1|unknown|v1|" + shopHost + "|micro-api",
		},
		"UT": {
			reason:    "the route's timeout passed",
			resources: []proto.Message{clusterFor("v1"), endpointsFor("v1", "10.244.1.1")}, listen: slow,
			route:  to(clusterNamed("v1"), func(a *routev3.RouteAction) { a.Timeout = durationpb.New(30 * time.Millisecond) }),
			status: 504, series: "504|UT|micro-api-v1|unknown|v1|" + shopHost + "|micro-api",
		},
		"an answer without a sidecar": {
			reason:    "no introduction comes back, so the endpoint's description has to do",
			resources: []proto.Message{clusterFor("v1"), endpointsFor("v1", "10.244.1.1")}, route: to(clusterNamed("v1")), listen: says("v1"),
			status: 200, series: "200|-|micro-api-v1|unknown|v1|" + shopHost + "|micro-api",
		},
		"a direct answer": {
			reason: "no cluster is involved",
			route: &routev3.Route{Match: prefix("/"), Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{
				Status: 218, Body: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: "here"}},
			}}},
			status: 218, series: "218|-|unknown|unknown|latest|unknown|unknown",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.serve(tt.resources, tt.route)
			if tt.listen != nil {
				w.listen("10.244.1.1", tt.listen)
			}
			g := w.gateway()
			resp := w.ask(g, func(r *http.Request) {
				if tt.host != "" {
					r.Host = tt.host
				}
			})
			if resp.StatusCode != tt.status {
				t.Errorf("%s: status: got %d, want %d", tt.reason, resp.StatusCode, tt.status)
			}
			if diff := cmp.Diff(map[string]int{tt.series: 1}, w.series("source", strings.Fields(labels)...)); diff != "" {
				t.Errorf("%s: series (-want +got):\n%s", tt.reason, diff)
			}
		})
	}
}

// TestOverflow: a slow upstream behind the reference scenario's limits. Ten connections and one waiting request are served,
// the rest is refused.
func TestOverflow(t *testing.T) {
	w := newWorld(t)
	limited := clusterFor("v1", func(c *clusterv3.Cluster) {
		c.CircuitBreakers = &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxConnections: wrapperspb.UInt32(10), MaxPendingRequests: wrapperspb.UInt32(1),
		}}}
	})
	open := make(chan struct{})
	w.pod("10.244.1.1", "v1", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-open }))
	w.serve([]proto.Message{limited, endpointsFor("v1", "10.244.1.1")}, to(clusterNamed("v1")))
	g := w.gateway()
	address, err := g.WaitAddr(w.timeout(), 80)
	if err != nil {
		t.Fatal(err)
	}

	answers := make(chan int, 15)
	for range 15 {
		go func() {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address, nil)
			if err != nil {
				panic(err) // constant
			}
			req.Host = shopHost
			resp, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				answers <- 0
				return
			}
			_ = resp.Body.Close() // only the status matters
			answers <- resp.StatusCode
		}()
	}
	for range 4 {
		if got := <-answers; got != http.StatusServiceUnavailable {
			t.Errorf("beyond the limits: got %d, want 503", got)
		}
	}
	close(open)
	for range 11 {
		if got := <-answers; got != http.StatusOK {
			t.Errorf("within the limits: got %d, want 200", got)
		}
	}
	want := map[string]int{"503|UO|unknown|latest": 4, "200|-|micro-api-v1|v1": 11}
	eventually(t, "all fifteen are counted", func() bool {
		return cmp.Equal(want, w.series("source", "response_code", "response_flags", "destination_workload", "destination_canonical_revision"))
	})
}

// TestClientGone: who leaves before the answer is counted with code 0 and DC, by both sides.
func TestClientGone(t *testing.T) {
	w := newWorld(t)
	arrived := make(chan struct{})
	w.pod("10.244.1.1", "v1", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	}))
	w.serve([]proto.Message{clusterFor("v1"), endpointsFor("v1", "10.244.1.1")}, to(clusterNamed("v1")))
	s := w.sidecar()
	ctx, leave := context.WithCancel(t.Context())
	go func() {
		<-arrived
		leave()
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+shopHost+":19090/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.RoundTrip(req); !errors.Is(err, context.Canceled) {
		t.Errorf("answer for a client that left: got %v, want context.Canceled", err)
	}
	for _, reporter := range []string{"source", "destination"} {
		eventually(t, reporter+" counts DC", func() bool {
			return cmp.Equal(map[string]int{"0|DC|micro-api-v1": 1}, w.series(reporter, "response_code", "response_flags", "destination_workload"))
		})
	}
}

// TestRetryAvoidsTheDeadEndpoint: with istiod's policy a dead endpoint costs no request, and the source counts once what the
// destination saw once.
func TestRetryAvoidsTheDeadEndpoint(t *testing.T) {
	w := newWorld(t)
	w.pod("10.244.1.1", "v1", says("v1"))
	w.network.Attach("10.244.1.2:9090", deadAddress(t))
	w.serve([]proto.Message{clusterFor("v1"), endpointsFor("v1", "10.244.1.1", "10.244.1.2")}, to(clusterNamed("v1"), istiodRetries))
	s := w.sidecar()
	for range 20 {
		if got := w.call(s, http.MethodPost, "body").StatusCode; got != http.StatusOK {
			t.Errorf("status: got %d, want 200", got)
		}
	}
	want := map[string]int{"200|-|v1": 20}
	for _, reporter := range []string{"source", "destination"} {
		if diff := cmp.Diff(want, w.series(reporter, "response_code", "response_flags", "destination_version")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", reporter, diff)
		}
	}
}

// TestRetriesAreCountedWhereTheyArrive: a retriable status is tried again in the same cluster. The source counts the last
// answer, the destination every attempt.
func TestRetriesAreCountedWhereTheyArrive(t *testing.T) {
	w := newWorld(t)
	var n atomic.Int64
	w.pod("10.244.1.1", "v1", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != "body" {
			t.Errorf("attempt's body: got %q, %v, want all of it", body, err)
		}
		if n.Add(1) < 3 {
			rw.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	w.serve([]proto.Message{clusterFor("v1"), endpointsFor("v1", "10.244.1.1")}, to(clusterNamed("v1"), istiodRetries, func(a *routev3.RouteAction) {
		a.RetryPolicy.RetriableStatusCodes = []uint32{503}
	}))
	s := w.sidecar()
	if got := w.call(s, http.MethodPost, "body").StatusCode; got != http.StatusOK {
		t.Errorf("status: got %d, want 200", got)
	}
	if diff := cmp.Diff(map[string]int{"200|-": 1}, w.series("source", "response_code", "response_flags")); diff != "" {
		t.Errorf("source (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int{"200|-": 1, "503|-": 2}, w.series("destination", "response_code", "response_flags")); diff != "" {
		t.Errorf("destination (-want +got):\n%s", diff)
	}
}

// TestIdleConnectionClosed: a server that closed a keep-alive connection costs no request, not even a POST.
func TestIdleConnectionClosed(t *testing.T) {
	w := newWorld(t)
	server := w.pod("10.244.1.1", "v1", says("v1"))
	w.serve([]proto.Message{clusterFor("v1"), endpointsFor("v1", "10.244.1.1")}, to(clusterNamed("v1")))
	s := w.sidecar()
	for range 20 {
		if got := w.call(s, http.MethodPost, "body").StatusCode; got != http.StatusOK {
			t.Errorf("status: got %d, want 200", got)
		}
		server.CloseClientConnections()
	}
}

// TestEndpointRemoved: when an endpoint goes, so do its idle connections.
func TestEndpointRemoved(t *testing.T) {
	w := newWorld(t)
	closed := make(chan struct{}, 1)
	w.onClose = func() { closed <- struct{}{} }
	w.pod("10.244.1.1", "v1", says("v1"))
	w.onClose = nil
	w.pod("10.244.1.2", "v1", says("v1"))
	w.serve([]proto.Message{clusterFor("v1"), endpointsFor("v1", "10.244.1.1")}, to(clusterNamed("v1")))
	s := w.sidecar()
	w.call(s, http.MethodGet, "")
	w.ads.Set(endpointsFor("v1", "10.244.1.2"))
	select {
	case <-closed:
	case <-w.timeout().Done():
		t.Fatal("the connection to the removed endpoint stays open")
	}
	if got := w.call(s, http.MethodGet, "").StatusCode; got != http.StatusOK {
		t.Errorf("status: got %d, want 200", got)
	}
}

// TestChangesCostNothing: clusters that are replaced and endpoints that come and go under traffic fail no request.
func TestChangesCostNothing(t *testing.T) {
	w := newWorld(t)
	w.pod("10.244.1.1", "v1", says("v1"))
	w.pod("10.244.1.2", "v1", says("v1"))
	w.serve([]proto.Message{clusterFor("v1"), endpointsFor("v1", "10.244.1.1")}, to(clusterNamed("v1")))
	s := w.sidecar()
	var clients sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	for range 4 {
		clients.Go(func() {
			for ctx.Err() == nil {
				if got := w.call(s, http.MethodGet, "").StatusCode; got != http.StatusOK {
					t.Errorf("status: got %d, want 200", got)
					return
				}
			}
		})
	}
	for i := range 40 {
		change := clusterFor("v1", func(c *clusterv3.Cluster) { c.ConnectTimeout = durationpb.New(time.Duration(i+1) * time.Second) })
		w.ads.Set(change, endpointsFor("v1", fmt.Sprintf("10.244.1.%d", i%2+1)))
		if err := s.Wait(w.timeout(), func(snap *xds.Snapshot) bool {
			return proto.Equal(snap.Clusters[clusterNamed("v1")].Config, change)
		}); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	clients.Wait()
}

// call sends one request of the client's application through its sidecar.
func (w *world) call(s *Sidecar, method, body string) *http.Response {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, "http://"+shopHost+":19090/", strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	resp, err := s.RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	read(w.t, resp)
	return resp
}

// TestSidecarUnknownHost: what no virtual host knows. istiod sends sidecars a last virtual host that passes it through, which
// has no destination here, or blocks it; Istio counts both under the Host header and a name of their own.
func TestSidecarUnknownHost(t *testing.T) {
	named := func(name string, r *routev3.Route) *routev3.Route {
		r.Name = name
		return r
	}
	passthrough := &clusterv3.Cluster{
		Name: "PassthroughCluster", ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_ORIGINAL_DST},
	}
	blocked := &routev3.DirectResponseAction{Status: http.StatusBadGateway}
	tests := map[string]struct {
		routes []*routev3.Route
		port   string
		series string
	}{
		"passed through": {
			routes: []*routev3.Route{named("allow_any", to("PassthroughCluster"))}, port: "19090",
			series: "502|NR|" + shopHost + ":19090|PassthroughCluster",
		},
		"blocked": {
			routes: []*routev3.Route{named("block_all", &routev3.Route{
				Match: prefix("/"), Action: &routev3.Route_DirectResponse{DirectResponse: blocked},
			})}, port: "19090",
			series: "502|-|" + shopHost + ":19090|BlackHoleCluster",
		},
		"no listener": {port: "4711", series: "502|NR|" + shopHost + ":4711|" + shopHost + ":4711"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.serve([]proto.Message{passthrough}, tt.routes...)
			s := w.sidecar()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Addr()+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = shopHost + ":" + tt.port
			resp, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			read(t, resp)
			got := w.series("source", "response_code", "response_flags", "destination_service", "destination_service_name")
			if diff := cmp.Diff(map[string]int{tt.series: 1}, got); diff != "" {
				t.Errorf("series (-want +got):\n%s", diff)
			}
		})
	}
}
