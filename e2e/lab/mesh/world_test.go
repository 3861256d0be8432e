package mesh

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-dev/sluice/e2e/lab/network"
	"github.com/sluice-dev/sluice/e2e/lab/workload"
	"github.com/sluice-dev/sluice/e2e/lab/xds/fakeads"
)

const shopHost = "micro-api.shop.svc.cluster.local"

// world is a mesh without a control plane: a fake ADS server and pods that are handlers.
type world struct {
	t         *testing.T
	ads       *fakeads.Server
	network   *network.Network
	telemetry *Telemetry
	// onClose, if set, is told by pods that are made then when they close a connection.
	onClose func()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{t: t, ads: fakeads.Start(t), network: network.New(), telemetry: NewTelemetry()}
}

// pod makes ip:9090 answer with app behind a sidecar. The identity is that of version N of the micro-api.
func (w *world) pod(ip, version string, app http.Handler) *httptest.Server {
	w.t.Helper()
	return w.listen(ip, w.telemetry.Inbound(podOf(ip, version), app))
}

func podOf(ip, version string) workload.Identity {
	return workload.Identity{
		Pod: "micro-api-" + version + "-" + ip, Namespace: "shop", IP: ip, Workload: "micro-api-" + version, App: "micro-api",
		Version: version, CanonicalService: "micro-api", CanonicalRevision: version,
	}
}

func (w *world) listen(ip string, handler http.Handler) *httptest.Server {
	w.t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.Protocols = &http.Protocols{}
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	if onClose := w.onClose; onClose != nil {
		s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed {
				onClose()
			}
		}
	}
	s.Start()
	w.t.Cleanup(s.Close)
	w.network.Attach(ip+":9090", s.Listener.Addr().String())
	return s
}

// says is an application that names its version.
func says(version string) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("X-App-Version", version)
		_, _ = io.WriteString(rw, version) // a client that is gone needs no answer
	})
}

func (w *world) gateway() *Gateway {
	w.t.Helper()
	g, err := StartGateway(w.timeout(), GatewayConfig{
		Discovery: w.ads.Address(), Network: w.network, Telemetry: w.telemetry, Random: seeded(1),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(g.Stop)
	return g
}

func (w *world) sidecar() *Sidecar {
	w.t.Helper()
	s, err := StartSidecar(w.timeout(), SidecarConfig{
		Discovery: w.ads.Address(), Network: w.network, Telemetry: w.telemetry, Random: seeded(2), Pod: clientPod(),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(s.Stop)
	return s
}

func clientPod() workload.Identity {
	return workload.Identity{
		Pod: "client-0", Namespace: "shop", Workload: "client", App: "client", Version: "v5",
		CanonicalService: "client", CanonicalRevision: "v5",
	}
}

func (w *world) timeout() context.Context {
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	w.t.Cleanup(cancel)
	return ctx
}

// seeded is a repeatable source of choices, safe for concurrent use.
func seeded(seed uint64) func(uint64) uint64 {
	var mu sync.Mutex
	source := rand.New(rand.NewPCG(seed, seed))
	return func(n uint64) uint64 {
		mu.Lock()
		defer mu.Unlock()
		return source.Uint64N(n)
	}
}

// ask sends one request through the gateway and returns the answer with its body read.
func (w *world) ask(g *Gateway, change ...func(*http.Request)) *http.Response {
	w.t.Helper()
	address, err := g.WaitAddr(w.timeout(), 80)
	if err != nil {
		w.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Host = shopHost
	for _, f := range change {
		f(req)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		w.t.Fatalf("ask the gateway: %v", err)
	}
	read(w.t, resp)
	return resp
}

// read replaces an answer's body by what was read of it.
func read(t *testing.T, resp *http.Response) string {
	t.Helper()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("read the answer: %v", err)
	}
	_ = resp.Body.Close() // it was read to its end
	resp.Body = io.NopCloser(strings.NewReader(string(text)))
	return string(text)
}

// series are the values of istio_requests_total by the labels asked for, joined by "|".
func (w *world) series(reporter string, labels ...string) map[string]int {
	w.t.Helper()
	return w.counted("istio_requests_total", reporter, labels...)
}

// counted are the values of a counter by the labels asked for, joined by "|".
func (w *world) counted(name, reporter string, labels ...string) map[string]int {
	w.t.Helper()
	families, err := w.telemetry.gather()
	if err != nil {
		w.t.Fatal(err)
	}
	found := map[string]int{}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			values := labelsOf(m)
			if values["reporter"] != reporter {
				continue
			}
			var key []string
			for _, l := range labels {
				key = append(key, values[l])
			}
			found[strings.Join(key, "|")] += int(m.GetCounter().GetValue())
		}
	}
	return found
}

func labelsOf(m *dto.Metric) map[string]string {
	values := map[string]string{}
	for _, l := range m.GetLabel() {
		values[l.GetName()] = l.GetValue()
	}
	return values
}

// eventually waits for something that happens after an answer was sent.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("not in five seconds: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// What follows makes resources of the form in which istiod sends them.

func clusterFor(version string, change ...func(*clusterv3.Cluster)) *clusterv3.Cluster {
	metadata, err := structpb.NewStruct(map[string]any{
		"services": []any{map[string]any{"host": shopHost, "name": "micro-api", "namespace": "shop"}},
	})
	if err != nil {
		panic(err) // constant
	}
	c := &clusterv3.Cluster{
		Name: clusterNamed(version), ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{ServiceName: clusterNamed(version)},
		CommonLbConfig:   &clusterv3.Cluster_CommonLbConfig{HealthyPanicThreshold: &typev3.Percent{}},
		Metadata:         &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"istio": metadata}},
	}
	for _, f := range change {
		f(c)
	}
	return c
}

func clusterNamed(version string) string {
	return fmt.Sprintf("outbound|19090|%s|%s", version, shopHost)
}

// endpointsFor lists addresses; those that begin with "!" are not ready.
func endpointsFor(version string, ips ...string) *endpointv3.ClusterLoadAssignment {
	cla := &endpointv3.ClusterLoadAssignment{ClusterName: clusterNamed(version), Endpoints: []*endpointv3.LocalityLbEndpoints{{}}}
	for _, ip := range ips {
		status := corev3.HealthStatus_HEALTHY
		if strings.HasPrefix(ip, "!") {
			status, ip = corev3.HealthStatus_UNHEALTHY, ip[1:]
		}
		cla.Endpoints[0].LbEndpoints = append(cla.Endpoints[0].LbEndpoints, endpointAt(ip, version, status))
	}
	return cla
}

func endpointAt(ip, version string, status corev3.HealthStatus) *endpointv3.LbEndpoint {
	metadata, err := structpb.NewStruct(map[string]any{
		"workload": fmt.Sprintf("micro-api-%s;shop;micro-api;%s;Kubernetes", version, version),
	})
	if err != nil {
		panic(err) // constant
	}
	return &endpointv3.LbEndpoint{
		HealthStatus: status, LoadBalancingWeight: wrapperspb.UInt32(1),
		Metadata:       &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"istio": metadata}},
		HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: socket(ip, 9090)}},
	}
}

func socket(ip string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: ip, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}

func listenerOn(port uint32, routes string) *listenerv3.Listener {
	hcm, err := anypb.New(&hcmv3.HttpConnectionManager{RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{
		Rds: &hcmv3.Rds{RouteConfigName: routes},
	}})
	if err != nil {
		panic(err) // constant
	}
	return &listenerv3.Listener{
		Name: fmt.Sprintf("0.0.0.0_%d", port), Address: socket("0.0.0.0", port), TrafficDirection: corev3.TrafficDirection_OUTBOUND,
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name: "hcm", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: hcm},
		}}}},
	}
}

// to is a route of every path to one cluster.
func to(cluster string, change ...func(*routev3.RouteAction)) *routev3.Route {
	action := &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster}}
	for _, f := range change {
		f(action)
	}
	return &routev3.Route{Match: prefix("/"), Action: &routev3.Route_Route{Route: action}}
}

func prefix(p string) *routev3.RouteMatch {
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: p}}
}

// serve offers the routes on the gateway's port 80 and, for sidecars, on 19090.
func (w *world) serve(resources []proto.Message, routes ...*routev3.Route) {
	vh := &routev3.VirtualHost{Name: "shop", Domains: []string{shopHost}, Routes: routes}
	w.ads.Set(append(resources,
		listenerOn(80, "http.80"), &routev3.RouteConfiguration{Name: "http.80", IgnorePortInHostMatching: true, VirtualHosts: []*routev3.VirtualHost{vh}},
		listenerOn(19090, "19090"), &routev3.RouteConfiguration{Name: "19090", IgnorePortInHostMatching: true, VirtualHosts: []*routev3.VirtualHost{vh}},
	)...)
}

// deadAddress is a loopback port that nobody listens on.
func deadAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close() // that is the point
	return address
}
