package dataplane_test

import (
	"flag"
	"path/filepath"
	"testing"

	"github.com/sluice-dev/sluice/e2e/lab/mesh"
	"github.com/sluice-dev/sluice/e2e/lab/xds"
	"github.com/sluice-dev/sluice/e2e/lab/xds/fakeads"
)

var record = flag.Bool("record", false, "write istiod's answers at 70/30 to the testdata of package mesh")

// record writes what istiod tells a gateway and a sidecar now, for tests that need no lab.
func (m *mall) record(t *testing.T) {
	t.Helper()
	pod := mesh.IngressGateway()
	nodes := map[string]xds.Node{
		"istiod-gateway.json": {Type: xds.Router, IP: "10.244.255.1", Name: pod.Pod, Namespace: pod.Namespace, Labels: pod.Labels},
		"istiod-sidecar.json": {Type: xds.Sidecar, IP: "10.244.255.2", Name: "client-0", Namespace: namespace},
	}
	for file, node := range nodes {
		recording, err := fakeads.Record(t.Context(), m.XDSAddress, node, "micro-api")
		if err != nil {
			t.Fatal(err)
		}
		if err := fakeads.Save(filepath.Join("..", "mesh", "testdata", file), recording); err != nil {
			t.Fatal(err)
		}
	}
}
