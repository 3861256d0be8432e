package xds_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sluice-dev/sluice/e2e/lab/xds"
	"github.com/sluice-dev/sluice/e2e/lab/xds/fakeads"
)

func start(t *testing.T, server *fakeads.Server) *xds.Client {
	t.Helper()
	c, err := xds.Start(xds.Config{Server: server.Address(), Node: xds.Node{
		Type: xds.Router, IP: "10.244.0.9", Name: "ingress-0", Namespace: "istio-system", Labels: map[string]string{"istio": "ingressgateway"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	return c
}

func wait(t *testing.T, c *xds.Client, what string, cond func(*xds.Snapshot) bool) *xds.Snapshot {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := c.Wait(ctx, cond); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return c.Snapshot()
}

func cluster(name string) *clusterv3.Cluster {
	return &clusterv3.Cluster{Name: name, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}}
}

func endpoints(name string, ips ...string) *endpointv3.ClusterLoadAssignment {
	locality := &endpointv3.LocalityLbEndpoints{}
	for _, ip := range ips {
		locality.LbEndpoints = append(locality.LbEndpoints, &endpointv3.LbEndpoint{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address(ip, 9090)}},
		})
	}
	return &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{locality}}
}

func address(ip string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: ip, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}

func listener(t *testing.T, name string, port uint32, routes string) *listenerv3.Listener {
	t.Helper()
	hcm, err := anypb.New(&hcmv3.HttpConnectionManager{RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{RouteConfigName: routes}}})
	if err != nil {
		t.Fatal(err)
	}
	return &listenerv3.Listener{Name: name, Address: address("0.0.0.0", port), FilterChains: []*listenerv3.FilterChain{{
		Filters: []*listenerv3.Filter{{ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: hcm}}},
	}}}
}

func names[V any](m map[string]V) string { return strings.Join(slices.Sorted(maps.Keys(m)), " ") }

// TestWarming: a cluster is used once its endpoints arrived, even if there are none; a listener once its routes did.
func TestWarming(t *testing.T) {
	server := fakeads.Start(t)
	server.Set(cluster("a"), endpoints("a"), listener(t, "l", 80, "r"))
	c := start(t, server)
	s := wait(t, c, "first clusters", func(s *xds.Snapshot) bool { return len(s.Clusters) == 1 })
	if s.Synced || len(s.Listeners) > 0 {
		t.Errorf("without routes: synced %t, listeners %q, want none", s.Synced, names(s.Listeners))
	}
	server.Set(&routev3.RouteConfiguration{Name: "r"})
	wait(t, c, "routes", func(s *xds.Snapshot) bool { return s.Synced && len(s.Listeners) == 1 })

	server.Set(cluster("b"))
	s = wait(t, c, "a cluster without endpoints", func(s *xds.Snapshot) bool { return len(s.Warming) == 1 })
	if got := names(s.Clusters); got != "a" || !s.Synced {
		t.Errorf("while b is warming: clusters %q, synced %t, want a alone, and synced", got, s.Synced)
	}
	server.Set(endpoints("b", "10.244.0.1"))
	s = wait(t, c, "its endpoints", func(s *xds.Snapshot) bool { return len(s.Warming) == 0 })
	want := []xds.Endpoint{{Address: "10.244.0.1:9090", Healthy: true, Weight: 1}}
	if diff := cmp.Diff(want, s.Clusters["b"].Endpoints); diff != "" {
		t.Errorf("endpoints of b (-want +got):\n%s", diff)
	}

	server.Delete(xds.ClusterType, "a")
	s = wait(t, c, "a cluster less", func(s *xds.Snapshot) bool { return len(s.Clusters) == 1 })
	if got := names(s.Clusters); got != "b" {
		t.Errorf("after a was removed: got %q, want b", got)
	}
}

// TestStartOrder: as Envoy, it asks for listeners when the first clusters are warm, and by name for what others mention.
func TestStartOrder(t *testing.T) {
	server := fakeads.Start(t)
	server.Set(cluster("a"), endpoints("a"), listener(t, "l", 80, "r"), &routev3.RouteConfiguration{Name: "r"})
	c := start(t, server)
	wait(t, c, "everything", func(s *xds.Snapshot) bool { return s.Synced })
	var got []string
	for _, r := range server.Requests() {
		if r.GetResponseNonce() == "" {
			short := r.GetTypeUrl()[strings.LastIndex(r.GetTypeUrl(), ".")+1:]
			got = append(got, strings.TrimSpace(short+" "+strings.Join(r.GetResourceNames(), ",")))
		}
	}
	want := []string{"Cluster", "ClusterLoadAssignment a", "Listener", "RouteConfiguration r"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("first requests (-want +got):\n%s", diff)
	}
}

// TestAcknowledge: each answer is acknowledged with its version and nonce; one that cannot be read is refused, and what was
// good stays.
func TestAcknowledge(t *testing.T) {
	server := fakeads.Start(t)
	server.Set(cluster("a"), endpoints("a"), listener(t, "l", 80, "r"), &routev3.RouteConfiguration{Name: "r"})
	c := start(t, server)
	wait(t, c, "everything", func(s *xds.Snapshot) bool { return s.Synced })

	broken := listener(t, "l", 81, "r")
	broken.FilterChains[0].Filters[0].GetTypedConfig().Value = []byte{0xff}
	server.Set(broken)
	refusal := request(t, server, func(r *discoveryv3.DiscoveryRequest) bool { return r.GetErrorDetail() != nil })
	if refusal.GetTypeUrl() != xds.ListenerType || !strings.Contains(refusal.GetErrorDetail().GetMessage(), `listener "l"`) {
		t.Errorf("refusal: got %v, want one of a listener, naming it", refusal)
	}
	if s := c.Snapshot(); s.Listeners["l"].Port != 80 {
		t.Errorf("after the refusal: port %d, want 80 as before", s.Listeners["l"].Port)
	}
	server.Set(listener(t, "l", 82, "r"))
	wait(t, c, "a good one again", func(s *xds.Snapshot) bool { return s.Listeners["l"].Port == 82 })
	request(t, server, func(r *discoveryv3.DiscoveryRequest) bool {
		return r.GetTypeUrl() == xds.ListenerType && r.GetErrorDetail() == nil && r.GetVersionInfo() != "" &&
			r.GetResponseNonce() == xds.ListenerType+"#"+r.GetVersionInfo() && r.GetVersionInfo() > refusal.GetVersionInfo()
	})
}

// request waits for a request of some kind.
func request(t *testing.T, server *fakeads.Server, is func(*discoveryv3.DiscoveryRequest) bool) *discoveryv3.DiscoveryRequest {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		for _, r := range server.Requests() {
			if is(r) {
				return r
			}
		}
	}
	t.Fatal("no such request in five seconds")
	return nil
}

// TestReconnect: what was good stays in use while the server is away, and what changed meanwhile arrives when it is back.
func TestReconnect(t *testing.T) {
	server := fakeads.Start(t)
	server.Set(cluster("a"), endpoints("a", "10.244.0.1"), listener(t, "l", 80, "r"), &routev3.RouteConfiguration{Name: "r"})
	c := start(t, server)
	wait(t, c, "everything", func(s *xds.Snapshot) bool { return s.Synced })
	server.Close()
	server.Set(endpoints("a", "10.244.0.2"), cluster("b"), endpoints("b"))
	if s := c.Snapshot(); !s.Synced || names(s.Clusters) != "a" || len(s.Clusters["a"].Endpoints) != 1 {
		t.Errorf("while the server is away: got %+v, want what was good", s)
	}
	server.Listen(t, server.Address())
	wait(t, c, "the change", func(s *xds.Snapshot) bool {
		return len(s.Clusters) == 2 && s.Clusters["a"].Endpoints[0].Address == "10.244.0.2:9090"
	})
}

// TestWaitSaysWhy: who waits in vain is told which node waited, and what the stream said.
func TestWaitSaysWhy(t *testing.T) {
	server := fakeads.Start(t)
	c := start(t, server)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := c.Wait(ctx, func(*xds.Snapshot) bool { return false })
	if err == nil || !strings.Contains(err.Error(), "router~10.244.0.9~ingress-0.istio-system~istio-system.svc.cluster.local") {
		t.Errorf("error: got %v, want it to name the node", err)
	}
}

// TestNode: what istiod would not understand is refused at once.
func TestNode(t *testing.T) {
	for name, node := range map[string]xds.Node{
		"type":    {Type: "ztunnel", IP: "10.244.0.1", Name: "a", Namespace: "b"},
		"address": {Type: xds.Sidecar, IP: "here", Name: "a", Namespace: "b"},
		"name":    {Type: xds.Sidecar, IP: "10.244.0.1", Namespace: "b"},
	} {
		if _, err := node.Proto(); err == nil {
			t.Errorf("node with a bad %s is accepted", name)
		}
	}
}
