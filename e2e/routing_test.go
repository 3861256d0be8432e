package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/lab/load"
	"github.com/sluice-dev/sluice/e2e/lab/xds"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// TestAttach applies examples/attach. Its README: "the destinations of `api` and `pages`", "Timeouts, matches, the redirect, labels and whatever
// else stand there stay as they are", "Whoever applies it in the middle of a release is written over at once", "gives every destination
// back as it was", and "The DestinationRule keeps its trafficPolicy too".
func TestAttach(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name, v2 = "catalog", "1.3"
	checked := watchOver(t, s, name)
	if err := s.Apply(t.Context(), "examples/attach"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remove(t, s, name) })
	t.Cleanup(func() { leave(t, s, name) })
	before := routesOfUsers(t, s, name)
	inside := within(t, s, name, "http://catalog.shop.svc.cluster.local/api/", 80)
	await(t, s, name, "to be adopted", scene.Stable("v1"))
	outside := through(t, s, "catalog.example.com", 80)

	if err := s.SetImage(t.Context(), name, registry+"micro-api:"+v2); err != nil {
		t.Fatal(err)
	}
	await(t, s, name, "to prove 50%", proven(500))
	checkShares(t, s, name, v2, 500, 4*time.Second, map[string]*load.Source{"in the mesh": inside, "at the gateway": outside})
	checkPolicyAndSubsets(t, s, name, "v1", "v2")

	git, err := os.ReadFile(filepath.Join(s.Repo, "examples", "attach", "routes.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.ApplyYAML(t.Context(), git); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the weights to be written over the version of git", func(context.Context) error {
		if text := fmt.Sprint(routesOfUsers(t, s, name)); !strings.Contains(text, "subset:v2") {
			return fmt.Errorf("%s", text)
		}
		return nil
	})
	ts := await(t, s, name, "to be promoted", scene.Stable("v2"))
	if got := ts.Status.History[0]; got.Reason != v1alpha1.ReasonPromoted {
		t.Errorf("it ended as %+v", got)
	}

	checked.await(t, "Stable")
	if err := s.Annotate(t.Context(), deployment(name), map[string]string{v1alpha1.AnnotationStrategy: ""}); err != nil {
		t.Fatal(err)
	}
	if err := s.Gone(t.Context(), patience, shiftOf(name)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, routesOfUsers(t, s, name)); diff != "" {
		t.Errorf("the user's VirtualService (-before +after):\n%s", diff)
	}
	vs := &networkingv1.VirtualService{}
	if err := s.Client.Get(t.Context(), inShop(name), vs); err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(vs.ManagedFields, func(f metav1.ManagedFieldsEntry) bool { return f.Manager == v1alpha1.FieldManager }) || len(vs.OwnerReferences) > 0 {
		t.Errorf("something of Sluice's is left on it: %v %v", vs.ManagedFields, vs.OwnerReferences)
	}
	checked.await(t, "handed back")
	sent(t, 10_000, inside, outside)
	lossless(t, inside, outside)
	checked.end(t, []string{
		"Stable", "Progressing Exposing", "Progressing Stepping 10%", "Progressing Stepping 50%", "Progressing Baking 100%",
		"handed back",
	})
}

// remove takes away what a test's users have in the mesh beside Sluice.
func remove(t *testing.T, s *scene.Scene, names ...string) {
	for _, name := range names {
		at := metav1.ObjectMeta{Namespace: scene.Shop, Name: name}
		for _, o := range []client.Object{&networkingv1.VirtualService{ObjectMeta: at}, &networkingv1.DestinationRule{ObjectMeta: at}, &networkingv1.Gateway{ObjectMeta: at}} {
			if err := client.IgnoreNotFound(s.Client.Delete(context.Background(), o)); err != nil && s.Err() == nil { // the test's own context has ended
				t.Errorf("removing %T %s: %v", o, name, err)
			}
		}
	}
}

// routesOfUsers is the spec of a VirtualService, with every field that the API server has.
func routesOfUsers(t *testing.T, s *scene.Scene, name string) any {
	t.Helper()
	return specOfUsers(t, s, inShop(name))
}

func specOfUsers(t *testing.T, s *scene.Scene, name types.NamespacedName) any {
	t.Helper()
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(schema.GroupVersionKind{Group: "networking.istio.io", Version: "v1", Kind: "VirtualService"})
	if err := s.Client.Get(t.Context(), name, u); err != nil {
		t.Fatal(err)
	}
	return u.Object["spec"]
}

// checkPolicyAndSubsets asks istiod what it has made of two DestinationRules for one host: the user's policy, in every cluster.
func checkPolicyAndSubsets(t *testing.T, s *scene.Scene, name string, subsets ...string) {
	t.Helper()
	snap := s.Plane.Gateway.Snapshot()
	for _, subset := range subsets {
		cluster := fmt.Sprintf("outbound|80|%s|%s.shop.svc.cluster.local", subset, name)
		sent, ok := snap.Clusters[cluster]
		if !ok {
			t.Errorf("istiod sends no cluster %s", cluster)
			continue
		}
		if got := sent.Config.GetCircuitBreakers().GetThresholds()[0].GetMaxConnections().GetValue(); got != 100 {
			t.Errorf("%s: maxConnections is %d; want the user's 100", cluster, got)
		}
	}
}

// TestDelegate applies examples/delegate. Its README: "hands the requests below `/` over", "carried over as written", and "leaves the
// delegate, without subsets and without an owner".
func TestDelegate(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name, v2 = "search", "1.3"
	checked := watchOver(t, s, name)
	if err := s.Apply(t.Context(), "examples/delegate"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remove(t, s, name, name+"-root") })
	t.Cleanup(func() { leave(t, s, name) })
	await(t, s, name, "to be adopted", scene.Stable("v1"))
	inside := within(t, s, name, "http://search.shop.svc.cluster.local/", 80)
	outside := through(t, s, "search.example.com", 80)
	if err := s.SetImage(t.Context(), name, registry+"micro-api:"+v2); err != nil {
		t.Fatal(err)
	}
	await(t, s, name, "to prove 50%", proven(500))
	checkShares(t, s, name, v2, 500, 4*time.Second, map[string]*load.Source{"in the mesh": inside, "at the gateway": outside})
	await(t, s, name, "to be promoted", scene.Stable("v2"))

	checked.await(t, "Stable")
	if err := s.Annotate(t.Context(), shiftOf(name), map[string]string{v1alpha1.AnnotationDetach: "true"}); err != nil {
		t.Fatal(err)
	}
	await(t, s, name, "to be handed back", func(ts *v1alpha1.TrafficShift) bool { return ts.Status.State.Stage == v1alpha1.StageReleased })
	vs := &networkingv1.VirtualService{}
	if err := s.Client.Get(t.Context(), inShop(name), vs); err != nil {
		t.Fatal(err)
	}
	if got := vs.Spec.GetHttp()[0].GetTimeout().GetSeconds(); got != 3 || len(vs.OwnerReferences) > 0 {
		t.Errorf("timeout %ds, owners %v; want 3 and nobody", got, vs.OwnerReferences)
	}
	checked.await(t, "Detaching Released")
	sent(t, 10_000, inside, outside)
	lossless(t, inside, outside)
	checked.end(t, []string{
		"Stable", "Progressing Exposing", "Progressing Stepping 10%", "Progressing Stepping 50%", "Progressing Baking 100%",
		"Detaching Released",
	})
}

// sent waits until so many requests were sent in all: a promise is judged over no fewer.
func sent(t *testing.T, total int, sources ...*load.Source) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d requests", total), func(context.Context) error {
		sum := 0
		for _, source := range sources {
			sum += source.Report().Total
		}
		if sum < total {
			return fmt.Errorf("%d were sent", sum)
		}
		return nil
	})
}

// TestTLSGateway applies examples/tls-gateway. Its README: "make a Gateway that ends TLS for that host on port 443, and answers requests on
// port 80 with a redirect to it". The lab's gateway ends no TLS: what it is to do on port 443 is read from istiod itself.
func TestTLSGateway(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "payments"
	checked := watchBeside(t, s, name, certificate(t, s, "payments-tls", "payments.example.com"))
	if err := s.Apply(t.Context(), "examples/tls-gateway"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { leave(t, s, name) })
	inside := within(t, s, name, "http://payments.shop.svc.cluster.local/", 60)
	await(t, s, name, "to be adopted", scene.Stable("v1"))

	addr, err := s.Plane.Gateway.WaitAddr(t.Context(), 80)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the redirect", func(ctx context.Context) error { return redirected(ctx, addr, "payments.example.com") })

	if err := s.SetImage(t.Context(), name, registry+"micro-api:1.3"); err != nil {
		t.Fatal(err)
	}
	await(t, s, name, "to prove 50%", proven(500))
	halt(t, s, name, 500)
	listeners := sentTo(t, s, xds.ListenerType)
	for _, want := range []string{`kubernetes://payments-tls`, `https.443.https.payments.shop`} {
		if !strings.Contains(listeners, want) {
			t.Errorf("the gateway's listeners do not name %s", want)
		}
	}
	routes := sentTo(t, s, xds.RouteType, "https.443.https.payments.shop")
	for _, want := range []string{"payments.example.com", "outbound|80|v1|payments.shop.svc.cluster.local", "outbound|80|v2|payments.shop.svc.cluster.local"} {
		if !strings.Contains(routes, want) {
			t.Errorf("the routes of the TLS server do not name %s: %.2000s", want, routes)
		}
	}
	require(t, s, name, v1alpha1.AnnotationPaused, "")
	await(t, s, name, "to be promoted", scene.Stable("v2"))
	lossless(t, inside)
	checked.end(t, []string{"Stable", "Progressing Exposing", "Progressing Stepping 10%", "Progressing Stepping 50%", "Progressing Baking 100%"})
}

// certificate puts a Secret where the gateway's pods are, as the README says: Istio's analyzers look for it.
func certificate(t *testing.T, s *scene.Scene, name, host string) unstructured.Unstructured {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	signed, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, raw []byte) string {
		return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}))
	}
	secret := unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": map[string]any{"name": name, "namespace": "istio-system"},
		"data": map[string]any{"tls.crt": block("CERTIFICATE", signed), "tls.key": block("PRIVATE KEY", private)},
	}}
	if err := s.Client.Create(t.Context(), secret.DeepCopy()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Client.Delete(context.Background(), secret.DeepCopy()) }) // the test's own context has ended
	return secret
}

// redirected asks for a page without TLS.
func redirected(ctx context.Context, addr, host string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/pay", nil)
	if err != nil {
		return err
	}
	req.Host = host
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if got, want := resp.Header.Get("Location"), "https://"+host+"/pay"; resp.StatusCode != http.StatusMovedPermanently || got != want {
		return fmt.Errorf("%s to %q; want a redirect to %q", resp.Status, got, want)
	}
	return nil
}

// sentTo is what istiod sends an ingress gateway that asks for resources of a type, as text.
func sentTo(t *testing.T, s *scene.Scene, kind string, names ...string) string {
	t.Helper()
	ip, err := s.Network.Allocate()
	if err != nil {
		t.Fatal(err)
	}
	node, err := xds.Node{
		Type: xds.Router, IP: ip.String(), Name: "reader", Namespace: "istio-system", Workload: "reader", Labels: map[string]string{"istio": "ingressgateway"},
	}.Proto()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(s.XDSAddress, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&discoveryv3.DiscoveryRequest{Node: node, TypeUrl: kind, ResourceNames: names}); err != nil {
		t.Fatal(err)
	}
	answer, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, resource := range answer.GetResources() {
		text.Write(resource.GetValue()) // names stand in a message as they are
		text.WriteByte('\n')
	}
	return text.String()
}

// A service of several HTTP ports and several hosts has one share at each of them.
func TestSeveralPortsAndHosts(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "many-ports"
	deploy(t, s, name, "hosts=many-ports.example.com,many-more.example.com", "timeout=5s", "retries=3")
	if err := s.ApplyYAML(t.Context(), []byte(severalPorts)); err != nil {
		t.Fatal(err)
	}
	await(t, s, name, "to be adopted", scene.Stable("v1"))
	sources := map[string]*load.Source{
		"port 80":                        within(t, s, name, "http://many-ports.shop.svc.cluster.local/", 60),
		"port 8081":                      within(t, s, name+"-8081", "http://many-ports.shop.svc.cluster.local:8081/", 60),
		"the first host at the gateway":  through(t, s, "many-ports.example.com", 60),
		"the second host at the gateway": through(t, s, "many-more.example.com", 60),
	}
	release(t, s, name, "v2")
	await(t, s, name, "to prove 50%", proven(500))
	vs := &networkingv1.VirtualService{}
	if err := s.Client.Get(t.Context(), inShop(name), vs); err != nil {
		t.Fatal(err)
	}
	for _, http := range vs.Spec.GetHttp() {
		if http.GetTimeout().GetSeconds() != 5 || http.GetRetries().GetAttempts() != 3 {
			t.Errorf("route %s: timeout %v, retries %v; want those of the annotations", http.GetName(), http.GetTimeout(), http.GetRetries())
		}
	}
	await(t, s, name, "to be promoted", scene.Stable("v2"))
	all := make([]*load.Source, 0, len(sources))
	for where, source := range sources {
		if count(source.Report(), "v1") == 0 || count(source.Report(), "v2") == 0 {
			t.Errorf("%s: %v; want both versions", where, source.Report().ByVersion)
		}
		checkShare(t, where, source, "v2", v1alpha1.Whole, time.Second)
		all = append(all, source)
	}
	lossless(t, all...)
}

// severalPorts gives the tests' Service a second port for HTTP.
const severalPorts = `
apiVersion: v1
kind: Service
metadata: {name: many-ports, namespace: ` + scene.Shop + `}
spec:
  selector: {app: many-ports}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: http-admin, port: 8081, targetPort: 8080}
  - {name: grpc, port: 7070, targetPort: 7070}
`
