package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/lab/load"
	"github.com/sluice-dev/sluice/e2e/lab/mesh"
	"github.com/sluice-dev/sluice/e2e/lab/xds"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// From the files of examples/tcp. Its README: "Each new connection is drawn by weight, and stays with its version until it ends", "They end
// when their client ends them, or when the pod goes", and "A version that takes no connection is taken back".
func TestTCP(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name, address = "ticker", "ticker.shop.svc.cluster.local:9000"
	c := watchOver(t, s, name)
	if err := s.Apply(t.Context(), "examples/tcp"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { leave(t, s, name) })
	caller := callerOf(t, s, name)
	await(t, s, name, "to be adopted", scene.Stable("v1"))
	users := connecting(t, caller, address, 60)
	long := holdOpen(t, caller, address, 4)

	release(t, s, name, "v2")
	ts := await(t, s, name, "to prove 10% by connections alone", proven(100))
	says := meta.FindStatusCondition(ts.Status.Conditions, v1alpha1.ConditionEvidenceAvailable)
	if says == nil || !strings.Contains(says.Message, "counting connections as reporter destination") || !strings.Contains(says.Message, "not seen") {
		t.Errorf("EvidenceAvailable says %+v", says)
	}
	await(t, s, name, "to prove 50%", proven(500))
	checkShares(t, s, name, "v2", 500, 3*time.Second, map[string]*load.Source{"connections": users})
	staysWith(t, long, "v1")
	await(t, s, name, "to have all", func(ts *v1alpha1.TrafficShift) bool { return ts.Status.State.Weight == v1alpha1.Whole })
	staysWith(t, long, "v1")
	ts = await(t, s, name, "to be promoted", scene.Stable("v2"))
	if got := ts.Status.History[0]; !strings.Contains(got.Message, "connections failed") {
		t.Errorf("it ended as %+v; want words of connections", got)
	}
	eventually(t, "the old connections to end with their pods", func(context.Context) error {
		for _, conn := range long {
			if said, err := load.Say(conn, "there?"); err == nil {
				return fmt.Errorf("one says %q", said)
			}
		}
		return nil
	})
	lossless(t, users)

	release(t, s, name, "v3", "REFUSE=true")
	ts = await(t, s, name, "to take v3 back", scene.Rejected("v3"))
	if got := ts.Status.History[0]; got.Reason != v1alpha1.ReasonErrorRateVsStable || !strings.Contains(got.Message, "connections") || strings.Contains(got.Message, "requests") {
		t.Errorf("it ended as %+v; want the evidence of connections", got)
	}
	putAway(t, s, name, "v3")
	after := users.Report()
	if after.Failed == 0 {
		t.Error("no connection was refused")
	}
	if err := users.WaitFor(t.Context(), func(r load.Report) bool { return r.Total >= after.Total+200 }); err != nil {
		t.Fatal(err)
	}
	if now := users.Report(); now.Failed > after.Failed {
		t.Errorf("%d connections more were lost after v3 was taken back", now.Failed-after.Failed)
	}
	release(t, s, name, "v2") // users are on it, and handing back waits for the template to be it
	await(t, s, name, "to be at rest", scene.Stable("v2"))
	handBack(t, s, name)
	c.end(t, []string{"Stable", "Progressing Stepping 10%", "Progressing Stepping 50%", "Progressing Baking 100%", "Failed, v3 retiring", "Detaching Removing"})
}

// echo is a service of two pods that answer on connections, and their probes on port 8080.
func echo(name, ports string) string {
	return strings.NewReplacer("NAME", name, "PORTS", ports).Replace(`
apiVersion: v1
kind: Service
metadata: {name: NAME, namespace: shop}
spec:
  selector: {app: NAME}
  ports: [PORTS]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec:
      containers:
      - name: app
        image: registry.example.com/lab/tcp-echo:1
        env: [{name: VERSION, value: v1}]
        ports: [{containerPort: 9000}, {containerPort: 8080}]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
`)
}

// A port of TLS is split by the name that clients ask for, by every name that a pod's resolver knows; and it carries the weights of the
// HTTP port beside it, by whose requests the service is judged.
func TestTLSIsSplitBySNI(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name, address = "vault", "vault.shop.svc.cluster.local:9443"
	names := []string{"vault.shop.svc.cluster.local", "vault.shop.svc", "vault.shop", "vault"}
	// Istio's analyzer takes the Service's own short name, which it reads as the full one, for a second VirtualService: it names the same one
	// twice (docs/decisions/2026-11-21-what-is-seen-of-a-connection.md).
	c := watchOver(t, s, name, "IST0109")
	if err := s.ApplyYAML(t.Context(), []byte(echo(name, "{name: tls-vault, port: 9443, targetPort: 9000}, {name: http, port: 80, targetPort: 8080}"))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { leave(t, s, name) })
	if err := s.Annotate(t.Context(), deployment(name), annotationsOf(append(slices.Clone(quick), "steps=5,50@10s,100")...)); err != nil {
		t.Fatal(err)
	}
	await(t, s, name, "to be adopted", scene.Stable("v1"))
	caller := callerOf(t, s, name+"-tls")
	within(t, s, name, "http://vault.shop.svc.cluster.local/", 60)

	release(t, s, name, "v2")
	await(t, s, name, "to prove 50% by requests", proven(500))
	halt(t, s, name, 500)
	var listener xds.ConnectionListener
	err := caller.Wait(t.Context(), func(snap *xds.Snapshot) bool {
		return slices.ContainsFunc(connectionsOn(snap, 9443), func(l xds.ConnectionListener) bool {
			listener = l
			return len(l.Chains) == 1 && len(l.Chains[0].Clusters) == 2 && slices.Contains(l.Chains[0].Names, name) // others have the port, too
		})
	})
	if err != nil {
		t.Fatalf("istiod made %+v: %v", listener, err)
	}
	want := []xds.WeightedCluster{
		{Name: "outbound|9443|v1|vault.shop.svc.cluster.local", Weight: 50}, {Name: "outbound|9443|v2|vault.shop.svc.cluster.local", Weight: 50},
	}
	slices.Sort(listener.Chains[0].Names)
	if diff := cmp.Diff(xds.Chain{Names: slices.Sorted(slices.Values(names)), Clusters: want}, listener.Chains[0]); diff != "" {
		t.Errorf("what istiod made of the route (-want +got):\n%s", diff)
	}
	if passed, _ := listener.ChainFor("elsewhere.example.com"); len(passed.Clusters) != 1 || passed.Clusters[0].Name != "PassthroughCluster" {
		t.Errorf("another name goes to %+v; docs/routing.md says that it is passed on past the weights", passed)
	}
	for _, sni := range names {
		versions := map[string]int{}
		for range 40 {
			conn, err := caller.DialTLS(t.Context(), address, sni)
			if err != nil {
				t.Fatal(err)
			}
			said, err := load.Say(conn, "x")
			if err != nil {
				t.Fatal(err)
			}
			version, _, _ := strings.Cut(said, " ")
			versions[version]++
			_ = conn.Close()
		}
		if versions["v1"] == 0 || versions["v2"] == 0 {
			t.Errorf("connections for %s went to %v; want both versions", sni, versions)
		}
	}
	require(t, s, name, v1alpha1.AnnotationPaused, "")
	await(t, s, name, "to be promoted", scene.Stable("v2"))
	c.end(t, []string{"Stable", "Progressing Stepping 50%"})
}

// From the files of examples/tls-passthrough. Its README: "draws a version by weight for each new connection, and passes on what comes", "The
// certificate that clients see is the pods' own", and "A version whose application takes no connection is taken back".
func TestTLSPassthrough(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name, host = "ledger", "ledger.example.com"
	c := watchOver(t, s, name, "IST0109") // of the mesh's VirtualService: see TestTLSIsSplitBySNI
	if err := s.Apply(t.Context(), "examples/tls-passthrough"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { leave(t, s, name) })
	await(t, s, name, "to be adopted", scene.Stable("v1"))
	c.await(t, "Stable")
	users := knocking(t, s, host, 60)

	release(t, s, name, "v2")
	await(t, s, name, "to prove 10% by connections alone", proven(100))
	await(t, s, name, "to prove 50%", proven(500))
	checkShares(t, s, name, "v2", 500, 3*time.Second, map[string]*load.Source{"connections through the gateway": users})
	ts := await(t, s, name, "to be promoted", scene.Stable("v2"))
	if got := ts.Status.History[0]; !strings.Contains(got.Message, "connections failed") {
		t.Errorf("it ended as %+v; want words of connections", got)
	}
	if r := users.Report(); r.ByVersion["v1"] == 0 || r.ByVersion["v2"] == 0 {
		t.Errorf("users met %v; want both versions", r.ByVersion)
	}
	lossless(t, users)

	release(t, s, name, "v3", "REFUSE=true")
	ts = await(t, s, name, "to take v3 back", scene.Rejected("v3"))
	if got := ts.Status.History[0]; got.Reason != v1alpha1.ReasonErrorRateVsStable || !strings.Contains(got.Message, "connections") || strings.Contains(got.Message, "requests") {
		t.Errorf("it ended as %+v; want the evidence of connections", got)
	}
	putAway(t, s, name, "v3")
	after := users.Report()
	if after.Failed == 0 {
		t.Error("no connection was refused")
	}
	more := func(n int) {
		t.Helper()
		now := users.Report().Total
		if err := users.WaitFor(t.Context(), func(r load.Report) bool { return r.Total >= now+n }); err != nil {
			t.Fatal(err)
		}
	}
	more(200)
	release(t, s, name, "v2") // users are on it, and handing back waits for the template to be it
	await(t, s, name, "to be at rest", scene.Stable("v2"))
	handBack(t, s, name)
	more(200)
	if now := users.Report(); now.Failed > after.Failed {
		t.Errorf("%d connections more were lost after v3 was taken back", now.Failed-after.Failed)
	}
	c.end(t, []string{"Stable", "Progressing Stepping 10%", "Progressing Stepping 50%", "Progressing Baking 100%", "Failed, v3 retiring", "Detaching Removing"})
	t.Cleanup(func() { unserve(t, s, name) })
}

// docs/routing.md: "hosts of TCP alone need a Gateway of yours", and its port is what they are told by.
func TestTCPAtAGateway(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name, host = "till", "till.example.com"
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: scene.Shop}}
	if err := s.Annotate(t.Context(), namespace, map[string]string{v1alpha1.AnnotationAllowedGateways: scene.Shop + "/till-door"}); err != nil {
		t.Fatal(err)
	}
	c := watchOver(t, s, name, "IST0162") // the port is missing in the gateway's own Service, which the lab has none of
	const door = `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: till-door, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 9100, name: tcp-till, protocol: TCP}, hosts: ["./*.example.com"]}]
---
`
	if err := s.ApplyYAML(t.Context(), []byte(door+echo(name, "{name: tcp-till, port: 9100, targetPort: 9000}"))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { leave(t, s, name) })
	t.Cleanup(func() { unserve(t, s, name+"-door") })
	annotations := annotationsOf(append(slices.Clone(quick), "hosts="+host, "gateway="+name+"-door", "hold=5s", "max-increase=5%")...)
	if err := s.Annotate(t.Context(), deployment(name), annotations); err != nil {
		t.Fatal(err)
	}
	await(t, s, name, "to be adopted", scene.Stable("v1"))
	c.await(t, "Stable")
	address, err := s.Plane.Gateway.WaitAddr(t.Context(), 9100)
	if err != nil {
		t.Fatal(err)
	}
	users, err := load.Start(t.Context(), load.Config{URL: "http://" + address, Rate: 60, Transport: load.Connections(func(ctx context.Context, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	})})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { users.Stop() })
	release(t, s, name, "v2")
	await(t, s, name, "to prove 50%", proven(500))
	checkShares(t, s, name, "v2", 500, 3*time.Second, map[string]*load.Source{"connections through the gateway": users})
	await(t, s, name, "to be promoted", scene.Stable("v2"))
	lossless(t, users)

	release(t, s, name, "v3", "REFUSE=true")
	await(t, s, name, "to take v3 back", scene.Rejected("v3"))
	c.end(t, []string{"Stable", "Progressing Stepping 50%"})
}

// knocking begins TLS with a name at the gateway again and again, and holds every answer to the pod that has shown its certificate.
func knocking(t *testing.T, s *scene.Scene, host string, rate float64) *load.Source {
	t.Helper()
	address, err := s.Plane.Gateway.WaitAddr(t.Context(), 443)
	if err != nil {
		t.Fatal(err)
	}
	dialer := &tls.Dialer{Config: &tls.Config{ServerName: host, InsecureSkipVerify: true}} //nolint:gosec // who is shown is checked by pod
	source, err := load.Start(t.Context(), load.Config{URL: "http://" + host, Rate: rate, Transport: load.Connections(func(ctx context.Context, _ string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		return &shown{Conn: conn, pod: conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName}, nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { source.Stop() })
	return source
}

// shown is a connection to a pod that has shown its certificate: another's answer is none.
type shown struct {
	net.Conn
	pod string
}

func (s *shown) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if err == nil && !strings.Contains(string(p[:n]), s.pod) {
		return 0, fmt.Errorf("%q was said in the name of %s", p[:n], s.pod)
	}
	return n, err
}

// unserve removes what was left for hosts that only Sluice served.
func unserve(t *testing.T, s *scene.Scene, name string) {
	t.Helper()
	for _, left := range []client.Object{
		&networkingv1.VirtualService{ObjectMeta: metav1.ObjectMeta{Name: name + "-hosts", Namespace: scene.Shop}},
		&networkingv1.Gateway{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: scene.Shop}},
	} {
		if err := client.IgnoreNotFound(s.Client.Delete(context.Background(), left)); err != nil { // the test's own context has ended
			t.Error(err)
		}
	}
}

// connectionsOn are the listeners of a port.
func connectionsOn(snap *xds.Snapshot, port uint32) []xds.ConnectionListener {
	var on []xds.ConnectionListener
	for _, l := range snap.Connections {
		if l.Port == port {
			on = append(on, l)
		}
	}
	return on
}

// callerOf is a pod in the mesh that only calls.
func callerOf(t *testing.T, s *scene.Scene, name string) *mesh.Sidecar {
	t.Helper()
	caller, err := s.Plane.Client(t.Context(), name+"-caller", scene.Shop)
	if err != nil {
		t.Fatal(err)
	}
	return caller
}

// connecting makes a connection again and again.
func connecting(t *testing.T, caller *mesh.Sidecar, address string, rate float64) *load.Source {
	t.Helper()
	source, err := load.Start(t.Context(), load.Config{URL: "http://" + address, Transport: load.Connections(caller.Dial), Rate: rate})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { source.Stop() })
	return source
}

// holdOpen opens connections that stay open.
func holdOpen(t *testing.T, caller *mesh.Sidecar, address string, n int) []net.Conn {
	t.Helper()
	var open []net.Conn
	for range n {
		conn, err := caller.Dial(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		open = append(open, conn)
	}
	staysWith(t, open, "v1")
	return open
}

// staysWith asserts that every connection is still with a version.
func staysWith(t *testing.T, open []net.Conn, version string) {
	t.Helper()
	for _, conn := range open {
		if said, err := load.Say(conn, "still there?"); err != nil || !strings.HasPrefix(said, version+" ") {
			t.Errorf("a connection to %s says %q: %v", version, said, err)
		}
	}
}
