package mesh

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-dev/sluice/e2e/lab/xds"
)

// pass offers the chains on a port of the gateway.
func (w *world) pass(port uint32, resources []proto.Message, chains ...*listenerv3.FilterChain) {
	w.ads.Set(append(resources, &listenerv3.Listener{
		Name: fmt.Sprintf("0.0.0.0_%d", port), Address: socket("0.0.0.0", port), TrafficDirection: corev3.TrafficDirection_OUTBOUND, FilterChains: chains,
	})...)
}

// secret makes ip:9090 end TLS itself and say its version.
func (w *world) secret(ip, version string) *x509.Certificate {
	w.t.Helper()
	pod := httptest.NewUnstartedServer(says(version))
	pod.Config.ErrorLog = log.New(io.Discard, "", 0) // clients leave once they know who it is
	pod.StartTLS()
	w.t.Cleanup(pod.Close)
	w.network.Attach(ip+":9090", pod.Listener.Addr().String())
	return pod.Certificate()
}

// knock begins TLS with a name at a gateway, and returns the certificate that it is shown.
func knock(ctx context.Context, address, name string) (*x509.Certificate, error) {
	dialer := &tls.Dialer{Config: &tls.Config{ServerName: name, InsecureSkipVerify: true}} //nolint:gosec // whoever signed it
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	secure, ok := conn.(*tls.Conn)
	if !ok {
		return nil, fmt.Errorf("%T", conn)
	}
	return secure.ConnectionState().PeerCertificates[0], nil
}

// A gateway hands TLS on as it comes: the pod ends it, and the name that the client began it with chose the pod. The closest name wins, as
// with Envoy.
func TestAGatewayPassesTLSThrough(t *testing.T) {
	w := newWorld(t)
	pod := w.secret("10.244.1.1", "v1")
	clusters := []proto.Message{clusterFor("v1"), endpointsFor("v1", "10.244.1.1"), clusterFor("v2"), endpointsFor("v2")}
	w.pass(443, clusters,
		chain([]string{"*.example.com"}, map[string]uint32{"v2": 1}), chain([]string{"*.shop.example.com", "vault.example.com"}, map[string]uint32{"v1": 1}))
	g := w.gateway()
	address, err := g.WaitAddr(w.timeout(), 443)
	if err != nil {
		t.Fatal(err)
	}
	for name, reaches := range map[string]bool{
		"vault.example.com": true, "VAULT.example.com": true, "a.shop.example.com": true,
		"other.example.com": false, "example.org": false, "": false,
	} {
		shown, err := knock(w.timeout(), address, name)
		if reaches && (err != nil || !shown.Equal(pod)) {
			t.Errorf("%q is shown %v, %v; want the pod's own certificate", name, shown, err)
		}
		if !reaches && err == nil {
			t.Errorf("%q is let in", name)
		}
	}
	want := map[string]int{"micro-api-v1|-": 3, "unknown|UH": 1}
	eventually(t, "every connection to be counted", func() bool {
		return cmp.Equal(want, w.counted("istio_tcp_connections_closed_total", "source", "destination_workload", "response_flags"))
	})
	if diff := cmp.Diff(map[string]int{"istio-ingressgateway": 4}, w.counted("istio_tcp_connections_opened_total", "source", "source_workload")); diff != "" {
		t.Errorf("who counts (-want +got):\n%s", diff)
	}
}

// What is not TLS finds no chain where all are for names.
func TestAGatewayClosesWhatIsNotTLS(t *testing.T) {
	w := newWorld(t)
	w.pass(443, []proto.Message{clusterFor("v1"), endpointsFor("v1")}, chain([]string{"vault.example.com"}, map[string]uint32{"v1": 1}))
	address, err := w.gateway().WaitAddr(w.timeout(), 443)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := (&net.Dialer{}).DialContext(w.timeout(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if said, err := say(t, conn, "GET / HTTP/1.1"); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%q, %v; want it closed", said, err)
	}
	if got := w.counted("istio_tcp_connections_opened_total", "source", "response_flags"); len(got) > 0 {
		t.Errorf("Istio's filter counts %v; want nothing without a chain", got)
	}
}

// TCP is passed on by its port alone, without a look at it, for as long as there is a listener.
func TestAGatewayPassesTCP(t *testing.T) {
	w := newWorld(t)
	w.server("10.244.1.1", "v1", false)
	w.server("10.244.1.2", "v2", false)
	clusters := []proto.Message{clusterFor("v1"), endpointsFor("v1", "10.244.1.1"), clusterFor("v2"), endpointsFor("v2", "10.244.1.2")}
	w.pass(3306, clusters, chain(nil, map[string]uint32{"v1": 50, "v2": 50}))
	g := w.gateway()
	address, err := g.WaitAddr(w.timeout(), 3306)
	if err != nil {
		t.Fatal(err)
	}
	of := map[string]int{}
	for range 100 {
		conn, err := (&net.Dialer{}).DialContext(w.timeout(), "tcp", address)
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
	if of["v1 x\n"] < 30 || of["v2 x\n"] < 30 {
		t.Errorf("connections by version: %v; want half to each", of)
	}
	w.ads.Delete(xds.ListenerType, "0.0.0.0_3306")
	eventually(t, "the port to be closed", func() bool { return g.Addr(3306) == "" })
}

func TestChains(t *testing.T) {
	l := xds.ConnectionListener{Chains: []xds.Chain{{Names: []string{"*.example.com"}}, {}, {Names: []string{"a.example.com", "*.b.example.com"}}}}
	for name, want := range map[string]int{"a.example.com": 2, "c.b.example.com": 2, "b.example.com": 0, "example.com": 1, "": 1} {
		got, ok := l.ChainFor(name)
		if diff := cmp.Diff(l.Chains[want], got); diff != "" || !ok {
			t.Errorf("%q (-want +got):\n%s", name, diff)
		}
	}
}
