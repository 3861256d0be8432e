package dataplane_test

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/e2e/lab"
	"github.com/sluice-dev/sluice/e2e/lab/dataplane"
	"github.com/sluice-dev/sluice/e2e/lab/grpcclient"
	"github.com/sluice-dev/sluice/e2e/lab/load"
	"github.com/sluice-dev/sluice/e2e/lab/mesh"
	"github.com/sluice-dev/sluice/e2e/lab/xds"
)

// mall is a lab with the micro-api in it, and three ways in: the ingress gateway, a pod's sidecar, and grpc-go.
type mall struct {
	*lab.Lab
	plane   *dataplane.Plane
	sidecar *mesh.Sidecar
	grpc    *grpcclient.Client
	gateway string
}

// TestAgainstIstiod drives the stand-ins by a real istiod. grpc-go's xDS client takes part wherever it can: it is the
// witness that the stand-ins did not write.
func TestAgainstIstiod(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a lab")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	m := openMall(ctx, t)

	// The order matters: each part finds the mesh as the one before left it.
	t.Run("a new version's pods receive traffic where no VirtualService pins it", m.unpinned)
	t.Run("the weights 70/30 hold for all three ways in", m.weights)
	t.Run("0/100 holds for all three a moment after the write", m.switchOver)
	t.Run("a route to a missing subset answers 503 NC", m.missingSubset)
	t.Run("a subset without ready pods answers 503 UH", m.unready)
	t.Run("a pod that does not listen answers 503 UF", m.refused)
	t.Run("Prometheus has the labels of both reporters", m.labels)
	t.Run("proxies keep what they have while istiod is away", m.withoutIstiod)
	t.Run("a deleted pod takes its series away", m.forgotten)
}

func openMall(ctx context.Context, t *testing.T) *mall {
	m := &mall{plane: dataplane.New()}
	l, err := lab.Start(ctx, lab.Options{DataPlane: m.plane.Start, Progress: func(line string) { t.Log(line) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Stop)
	m.Lab = l
	m.create(t, shop(), service(), gateway(), deployment("v1", "micro-api:1.1", 2))
	if m.sidecar, err = m.plane.Client(ctx, "client", namespace); err != nil {
		t.Fatal(err)
	}
	ip, err := l.Network.Allocate()
	if err != nil {
		t.Fatal(err)
	}
	m.grpc, err = grpcclient.Dial(grpcclient.Config{
		Discovery: l.XDSAddress, Target: fmt.Sprintf("%s:%d", host, grpcPort), Name: "caller", Namespace: namespace, IP: ip,
		Dial: l.Network.DialContext,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.grpc.Close() }) // the test is over
	if m.gateway, err = m.plane.Gateway.WaitAddr(ctx, 80); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *mall) unpinned(t *testing.T) {
	m.awaitEndpoints(t, fmt.Sprintf("outbound|%d||%s", httpPort, host), 2)
	m.awaitRoute(t)
	if got := m.bySidecar(t, 20); got.ByVersion["1.1"] != 20 {
		t.Fatalf("v1 alone: got %v, want 20 answers of 1.1", got.Answers)
	}
	m.create(t, deployment("v2", "micro-api:1.3", 2))
	m.awaitEndpoints(t, fmt.Sprintf("outbound|%d||%s", httpPort, host), 4)
	if got := m.bySidecar(t, 100); got.ByVersion["1.3"] == 0 {
		t.Errorf("v1 and v2 without a VirtualService: got %v, want answers of both", got.Answers)
	}
}

func (m *mall) weights(t *testing.T) {
	m.create(t, destinationRule("v1", "v2"))
	m.awaitEndpoints(t, subset("v2", grpcPort), 2)
	m.create(t, split(weight{"v1", 70}, weight{"v2", 30}))
	m.awaitWeights(t, map[string]uint32{"v1": 70, "v2": 30})

	const n = 600
	within(t, "gateway", m.byGateway(t, n), 0.3)
	within(t, "sidecar", m.bySidecar(t, n), 0.3)
	shares, err := m.grpc.Shares(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	within(t, "grpc-go", load.Counts{Total: n, ByVersion: shares}, 0.3)
	if *record {
		m.record(t)
	}
}

func (m *mall) switchOver(t *testing.T) {
	began := time.Now()
	m.replace(t, split(weight{"v1", 0}, weight{"v2", 100}))
	m.awaitWeights(t, map[string]uint32{"v2": 100})
	t.Logf("both proxies have it after %s", time.Since(began).Round(time.Millisecond))
	if got := m.byGateway(t, 50); got.ByVersion["1.3"] != 50 {
		t.Errorf("gateway: got %v, want 50 answers of 1.3", got.Answers)
	}
	if got := m.bySidecar(t, 50); got.ByVersion["1.3"] != 50 {
		t.Errorf("sidecar: got %v, want 50 answers of 1.3", got.Answers)
	}
	// grpc-go has no snapshot to wait for: the first of ten equal answers in a row says that it has the routes.
	if err := eventually(t.Context(), func() bool {
		shares, err := m.grpc.Shares(t.Context(), 10)
		return err == nil && shares["1.3"] == 10
	}); err != nil {
		t.Fatal("grpc-go does not follow")
	}
	if shares, err := m.grpc.Shares(t.Context(), 50); err != nil || shares["1.3"] != 50 {
		t.Errorf("grpc-go: got %v, %v, want 50 answers of 1.3", shares, err)
	}
}

func (m *mall) missingSubset(t *testing.T) {
	m.replace(t, split(weight{"v1", 0}, weight{"v9", 100}))
	m.awaitWeights(t, map[string]uint32{"v9": 100})
	m.wantAll(t, http.StatusServiceUnavailable)
	m.wantSeries(t, `response_flags="NC",response_code="503",destination_workload="unknown",destination_canonical_revision="latest"`)
	// grpc-go is no witness here: it keeps its old routes for fifteen seconds when new ones name a cluster that never comes.
}

func (m *mall) unready(t *testing.T) {
	never := deployment("v8", "never-ready:1", 1)
	m.create(t, never)
	rule := destinationRule("v1", "v2", "v8")
	m.replace(t, rule)
	// istiod 1.31 sends endpoints that are not ready, marked.
	if err := m.sidecar.Wait(t.Context(), func(s *xds.Snapshot) bool {
		c := s.Clusters[subset("v8", httpPort)]
		return c != nil && len(c.Endpoints) == 1 && c.HealthyEndpoints() == 0
	}); err != nil {
		t.Fatal(err)
	}
	m.replace(t, split(weight{"v1", 0}, weight{"v8", 100}))
	m.awaitWeights(t, map[string]uint32{"v8": 100})
	m.wantAll(t, http.StatusServiceUnavailable)
	m.wantSeries(t, `response_flags="UH",response_code="503",destination_workload="unknown",destination_version="unknown",`+
		`destination_service="`+host+`",destination_service_name="micro-api"`)
	m.wantGRPCFailures(t)
}

func (m *mall) refused(t *testing.T) {
	m.create(t, deployment("v7", "micro-api:1.2", 1))
	m.replace(t, destinationRule("v1", "v2", "v7"))
	m.awaitEndpoints(t, subset("v7", httpPort), 1)
	pod := m.pod(t, "v7")
	// The readiness probe goes to the container, not through the network: the pod stays ready, as one whose proxy died would
	// for a while.
	m.Network.Detach(fmt.Sprintf("%s:%d", pod.Status.PodIP, appPort))
	m.replace(t, split(weight{"v1", 0}, weight{"v7", 100}))
	m.awaitWeights(t, map[string]uint32{"v7": 100})
	m.wantAll(t, http.StatusServiceUnavailable)
	m.wantSeries(t, `response_flags="UF,URX",response_code="503",destination_workload="micro-api-v7",destination_version="unknown",`+
		`destination_app="unknown",destination_canonical_revision="v7",destination_service="`+host+`"`)
}

func (m *mall) withoutIstiod(t *testing.T) {
	m.replace(t, split(weight{"v1", 100}, weight{"v2", 0}))
	m.awaitWeights(t, map[string]uint32{"v1": 100})
	m.StopIstiod()
	if got := m.byGateway(t, 20); got.ByVersion["1.1"] != 20 {
		t.Errorf("gateway without istiod: got %v, want 20 answers of 1.1", got.Answers)
	}
	m.replace(t, split(weight{"v1", 0}, weight{"v2", 100}))
	if err := m.StartIstiod(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.awaitWeights(t, map[string]uint32{"v2": 100})
	if got := m.byGateway(t, 20); got.ByVersion["1.3"] != 20 {
		t.Errorf("gateway with istiod back: got %v, want 20 answers of 1.3", got.Answers)
	}
}

func (m *mall) forgotten(t *testing.T) {
	const series = `istio_requests_total{reporter="destination",destination_workload="micro-api-v1"}`
	m.wantQuery(t, series)
	if err := m.Client.Delete(t.Context(), deployment("v1", "", 0), client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
		t.Fatal(err)
	}
	m.wantQuery(t, "absent("+series+")")
}

// within checks a share against the interval that holds all but one in a hundred thousand fair draws.
func within(t *testing.T, who string, got load.Counts, want float64) {
	t.Helper()
	margin := 4.4 * math.Sqrt(want*(1-want)/float64(got.Total))
	if share := got.Share("1.3"); math.Abs(share-want) > margin || got.Failed > 0 {
		t.Errorf("%s: share %.3f of %d, want %.3f±%.3f; answers %v", who, share, got.Total, want, margin, got.Answers)
	}
}

func subset(version string, port int) string {
	return fmt.Sprintf("outbound|%d|%s|%s", port, version, host)
}
