package mesh

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

const serviceIP = "10.96.0.7"

// chain is a filter chain as istiod sends it: for these server names, to the clusters of versions by weight.
func chain(names []string, weights map[string]uint32) *listenerv3.FilterChain {
	proxy := &tcpproxyv3.TcpProxy{StatPrefix: "any"}
	weighted := &tcpproxyv3.TcpProxy_WeightedCluster{}
	for _, version := range []string{"v1", "v2"} {
		if w := weights[version]; w > 0 {
			weighted.Clusters = append(weighted.Clusters, &tcpproxyv3.TcpProxy_WeightedCluster_ClusterWeight{Name: clusterNamed(version), Weight: w})
		}
	}
	proxy.ClusterSpecifier = &tcpproxyv3.TcpProxy_WeightedClusters{WeightedClusters: weighted}
	if len(weighted.GetClusters()) == 1 {
		proxy.ClusterSpecifier = &tcpproxyv3.TcpProxy_Cluster{Cluster: weighted.GetClusters()[0].GetName()}
	}
	config, err := anypb.New(proxy)
	if err != nil {
		panic(err) // constant
	}
	return &listenerv3.FilterChain{
		FilterChainMatch: &listenerv3.FilterChainMatch{ServerNames: names},
		Filters:          []*listenerv3.Filter{{Name: "tcp", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: config}}},
	}
}

// connect offers the chains on the service's address.
func (w *world) connect(resources []proto.Message, chains ...*listenerv3.FilterChain) {
	w.ads.Set(append(resources, &listenerv3.Listener{
		Name: serviceIP + "_3306", Address: socket(serviceIP, 3306), TrafficDirection: corev3.TrafficDirection_OUTBOUND, FilterChains: chains,
	})...)
}

// naming is a client's sidecar that resolves every name to the service.
func (w *world) naming() *Sidecar {
	w.t.Helper()
	s, err := StartSidecar(w.timeout(), SidecarConfig{
		Discovery: w.ads.Address(), Network: w.network, Telemetry: w.telemetry, Random: seeded(2), Pod: clientPod(),
		Resolve: func(string) (netip.Addr, bool) { return netip.MustParseAddr(serviceIP), true },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(s.Stop)
	return s
}

// server makes ip:9090 say its version on each line, behind a sidecar; one that refuses takes no connection from it.
func (w *world) server(ip, version string, refuses bool) {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = l.Close() })
	inbound := w.telemetry.InboundConnections(podOf(ip, version), func(context.Context) (net.Conn, error) {
		if refuses {
			return nil, syscall.ECONNREFUSED
		}
		app, proxy := net.Pipe()
		go func() {
			defer app.Close()
			for lines := bufio.NewScanner(app); lines.Scan(); {
				_, _ = fmt.Fprintf(app, "%s %s\n", version, lines.Text()) // a client that is gone needs no answer
			}
		}()
		return proxy, nil
	})
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go inbound(conn)
		}
	}()
	w.network.Attach(ip+":9090", l.Addr().String())
}

func say(t *testing.T, conn net.Conn, line string) (string, error) {
	t.Helper()
	if _, err := fmt.Fprintln(conn, line); err != nil {
		return "", err
	}
	return bufio.NewReader(conn).ReadString('\n')
}

func TestConnectionsAreSplitByWeightAndStay(t *testing.T) {
	w := newWorld(t)
	w.server("10.244.1.1", "v1", false)
	w.server("10.244.1.2", "v2", false)
	clusters := []proto.Message{clusterFor("v1"), endpointsFor("v1", "10.244.1.1"), clusterFor("v2"), endpointsFor("v2", "10.244.1.2")}
	w.connect(clusters, chain(nil, map[string]uint32{"v1": 1}))
	s := w.naming()
	long, err := s.Dial(t.Context(), "db:3306")
	if err != nil {
		t.Fatal(err)
	}
	defer long.Close()
	if said, err := say(t, long, "one"); said != "v1 one\n" {
		t.Fatalf("%q, %v", said, err)
	}
	w.connect(clusters, chain(nil, map[string]uint32{"v1": 20, "v2": 80}))
	eventually(t, "the weights arrive", func() bool {
		l, _ := s.Snapshot().ConnectionsTo(serviceIP, 3306)
		return len(l.Chains) == 1 && len(l.Chains[0].Clusters) == 2
	})
	of := map[string]int{}
	for range 200 {
		conn, err := s.Dial(t.Context(), "db:3306")
		if err != nil {
			t.Fatal(err)
		}
		said, err := say(t, conn, "x")
		if err != nil {
			t.Fatal(err)
		}
		of[said]++
		_ = conn.Close()
	}
	if n := of["v2 x\n"]; n < 130 || n > 185 || n+of["v1 x\n"] != 200 {
		t.Errorf("connections by version: %v; want four in five to v2", of)
	}
	if said, err := say(t, long, "two"); said != "v1 two\n" {
		t.Errorf("the connection from before says %q, %v; want v1 still", said, err)
	}
}

func TestConnectionsAreChosenByServerName(t *testing.T) {
	w := newWorld(t)
	w.server("10.244.1.1", "v1", false)
	w.server("10.244.1.2", "v2", false)
	w.connect([]proto.Message{clusterFor("v1"), endpointsFor("v1", "10.244.1.1"), clusterFor("v2"), endpointsFor("v2", "10.244.1.2")},
		chain([]string{"db.shop", "*.example.com"}, map[string]uint32{"v2": 1}), chain(nil, map[string]uint32{"v1": 1}))
	s := w.naming()
	for sni, want := range map[string]string{"db.shop": "v2 x\n", "a.example.com": "v2 x\n", "db": "v1 x\n", "": "v1 x\n"} {
		conn, err := s.DialTLS(t.Context(), "db:3306", sni)
		if err != nil {
			t.Fatal(err)
		}
		if said, err := say(t, conn, "x"); said != want {
			t.Errorf("%q: %q, %v; want %q", sni, said, err, want)
		}
		_ = conn.Close()
	}
}

// Connections that fail are told apart by whose fault that is, and by who can tell: an application that takes none is a failure to its own
// proxy alone.
func TestConnectionsThatFail(t *testing.T) {
	w := newWorld(t)
	w.server("10.244.1.1", "v1", true)
	w.network.Attach("10.244.1.2:9090", deadAddress(t))
	for _, tc := range []struct {
		endpoints           []string
		version             string
		source, destination map[string]int
	}{
		{[]string{"10.244.1.1"}, "v1", map[string]int{"micro-api-v1|-": 1}, map[string]int{"micro-api-v1|UF,URX": 1}},
		{[]string{"10.244.1.2"}, "v2", map[string]int{"micro-api-v1|-": 1, "micro-api-v2|UF,URX": 1}, map[string]int{"micro-api-v1|UF,URX": 1}},
		{nil, "v1", map[string]int{"micro-api-v1|-": 1, "micro-api-v2|UF,URX": 1, "unknown|UH": 1}, map[string]int{"micro-api-v1|UF,URX": 1}},
	} {
		w.connect([]proto.Message{clusterFor(tc.version), endpointsFor(tc.version, tc.endpoints...)}, chain(nil, map[string]uint32{tc.version: 1}))
		s := w.naming()
		conn, err := s.Dial(t.Context(), "db:3306")
		if err != nil {
			t.Fatal(err)
		}
		if said, err := say(t, conn, "x"); err == nil || errors.Is(err, io.ErrNoProgress) {
			t.Errorf("%q was answered: %q", tc.endpoints, said)
		}
		eventually(t, "the connection is counted as closed", func() bool {
			n := 0
			for _, v := range w.counted("istio_tcp_connections_closed_total", "source", "reporter") {
				n += v
			}
			return n == len(tc.source)
		})
		for reporter, want := range map[string]map[string]int{"source": tc.source, "destination": tc.destination} {
			if diff := cmp.Diff(want, w.counted("istio_tcp_connections_opened_total", reporter, "destination_workload", "response_flags")); diff != "" {
				t.Errorf("%s (-want +got):\n%s", reporter, diff)
			}
		}
	}
	if diff := cmp.Diff(map[string]int{"tcp||" + shopHost: 3}, w.counted("istio_tcp_connections_opened_total", "source", "request_protocol", "response_code", "destination_service")); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
}
