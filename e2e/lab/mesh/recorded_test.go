package mesh

import (
	"context"
	"math"
	"net/http"
	"testing"

	"github.com/sluice-dev/sluice/e2e/lab/xds"
	"github.com/sluice-dev/sluice/e2e/lab/xds/fakeads"
)

// TestRecordedIstiod replays what an istiod 1.31 sent to a gateway and to a sidecar at 70/30 (see package dataplane, which
// records it): the stand-ins split what comes by the weights, and the two agree.
func TestRecordedIstiod(t *testing.T) {
	const n, want = 1000, 0.3
	shares := map[string]float64{}
	for name, file := range map[string]string{"gateway": "testdata/istiod-gateway.json", "sidecar": "testdata/istiod-sidecar.json"} {
		w := newWorld(t)
		w.ads.Set(fakeads.Load(t, file)...)
		for ip, version := range map[string]string{"10.244.0.5": "v1", "10.244.0.6": "v1", "10.244.0.7": "v2", "10.244.0.8": "v2"} {
			w.pod(ip, version, says(version))
		}
		var next func() *http.Response
		switch name {
		case "gateway":
			g := w.gateway()
			next = func() *http.Response { return w.ask(g) }
		case "sidecar":
			s := w.sidecar()
			next = func() *http.Response { return w.call(s, http.MethodGet, "") }
		}
		byVersion := map[string]int{}
		for range n {
			resp := next()
			if resp.StatusCode != http.StatusOK {
				t.Fatalf("%s: status: got %d, want 200", name, resp.StatusCode)
			}
			byVersion[resp.Header.Get("X-App-Version")]++
		}
		shares[name] = float64(byVersion["v2"]) / n
		if margin := 4.5 * math.Sqrt(want*(1-want)/n); math.Abs(shares[name]-want) > margin {
			t.Errorf("%s: share %.3f, want %.3f±%.3f", name, shares[name], want, margin)
		}
		if got := w.series("source", "destination_service", "destination_version"); got[shopHost+"|v2"] != byVersion["v2"] {
			t.Errorf("%s: counted %v, the client saw %v", name, got, byVersion)
		}
	}
}

// TestGatewayPorts: a port opens when a listener for it arrives, keeps its address while it is away, and is shut meanwhile.
func TestGatewayPorts(t *testing.T) {
	w := newWorld(t)
	g := w.gateway()
	if got := g.Addr(80); got != "" {
		t.Fatalf("port 80 before its listener: got %s, want none", got)
	}
	w.serve(nil)
	before, err := g.WaitAddr(w.timeout(), 80)
	if err != nil {
		t.Fatal(err)
	}
	w.ads.Delete(xds.ListenerType, "0.0.0.0_80")
	if err := g.Wait(w.timeout(), func(*xds.Snapshot) bool { return g.Addr(80) == "" }); err != nil {
		t.Fatal(err)
	}
	w.serve(nil)
	after, err := g.WaitAddr(w.timeout(), 80)
	if err != nil {
		t.Fatal(err)
	}
	if after != before {
		t.Errorf("port 80 came back on %s, was on %s", after, before)
	}
	g.Stop()
	if err := g.Wait(context.Background(), func(*xds.Snapshot) bool { return g.Addr(80) == "" }); err != nil {
		t.Errorf("after Stop: %v", err)
	}
}
