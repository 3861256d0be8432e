package mesh

import (
	"fmt"
	"math"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluice-dev/sluice/e2e/lab/xds"
)

func weighted(weights ...uint32) *routev3.RouteAction {
	wc := &routev3.WeightedCluster{}
	for i, weight := range weights {
		wc.Clusters = append(wc.Clusters, &routev3.WeightedCluster_ClusterWeight{
			Name: fmt.Sprintf("v%d", i+1), Weight: wrapperspb.UInt32(weight),
		})
	}
	return &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_WeightedClusters{WeightedClusters: wc}}
}

// TestWeightedChoice: shares follow weights of any sum, within five standard deviations of a seeded draw.
func TestWeightedChoice(t *testing.T) {
	const n = 20_000
	for _, weights := range [][]uint32{{70, 30}, {95, 5}, {995, 5}, {1, 1, 1}, {0, 100}, {100}, {1}} {
		t.Run(fmt.Sprint(weights), func(t *testing.T) {
			choice, random := compileClusters(weighted(weights...)), seeded(7)
			got := map[string]int{}
			for range n {
				got[choice.pick(&arrival{}, random).cluster]++
			}
			var total float64
			for _, weight := range weights {
				total += float64(weight)
			}
			for i, weight := range weights {
				p := float64(weight) / total
				want, margin := p*n, 5*math.Sqrt(n*p*(1-p))
				if count := got[fmt.Sprintf("v%d", i+1)]; math.Abs(float64(count)-want) > margin {
					t.Errorf("v%d: got %d of %d, want %.0f±%.0f", i+1, count, n, want, margin)
				}
			}
		})
	}
}

func endpoints(list ...xds.Endpoint) []*endpoint {
	var all []*endpoint
	for i, e := range list {
		e.Address = fmt.Sprintf("e%d", i+1)
		all = append(all, &endpoint{Endpoint: e, host: &host{address: e.Address}})
	}
	return all
}

// TestEligible: who may be chosen at all.
func TestEligible(t *testing.T) {
	up, down := xds.Endpoint{Healthy: true, Weight: 1}, xds.Endpoint{Weight: 1}
	spare := xds.Endpoint{Healthy: true, Weight: 1, Priority: 1}
	tests := map[string]struct {
		all        []xds.Endpoint
		panicBelow float64
		want       []string
	}{
		"none":                                     {},
		"the healthy":                              {all: []xds.Endpoint{up, down, up}, want: []string{"e1", "e3"}},
		"none healthy, as istiod sets the panic":   {all: []xds.Endpoint{down, down}},
		"none healthy, Envoy's own panic":          {all: []xds.Endpoint{down, down}, panicBelow: 50, want: []string{"e1", "e2"}},
		"a third healthy, Envoy's own panic":       {all: []xds.Endpoint{up, down, down}, panicBelow: 50, want: []string{"e1", "e2", "e3"}},
		"half healthy is no panic":                 {all: []xds.Endpoint{up, down}, panicBelow: 50, want: []string{"e1"}},
		"the next priority where the first is out": {all: []xds.Endpoint{down, spare}, want: []string{"e2"}},
		"not the next where the first serves":      {all: []xds.Endpoint{up, spare}, want: []string{"e1"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, e := range eligible(endpoints(tt.all...), tt.panicBelow) {
				got = append(got, e.Address)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("eligible (-want +got):\n%s", diff)
			}
		})
	}
}

func balance(policy clusterv3.Cluster_LbPolicy, all []*endpoint) *balancer {
	c := clusterFor("v1")
	c.LbPolicy = policy
	return newBalancer(c, all, seeded(3))
}

// TestRoundRobin: exact by weight, and never the heavy one only.
func TestRoundRobin(t *testing.T) {
	b := balance(clusterv3.Cluster_ROUND_ROBIN, endpoints(
		xds.Endpoint{Healthy: true, Weight: 3}, xds.Endpoint{Healthy: true, Weight: 1}, xds.Endpoint{Healthy: true, Weight: 1}))
	var got []string
	for range 10 {
		got = append(got, b.pick(nil, 1).Address)
	}
	want := []string{"e1", "e2", "e1", "e3", "e1", "e1", "e2", "e1", "e3", "e1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

// TestLeastRequest: of two drawn the less busy, so that a busy endpoint is chosen only when it was drawn twice.
func TestLeastRequest(t *testing.T) {
	all := endpoints(xds.Endpoint{Healthy: true, Weight: 1}, xds.Endpoint{Healthy: true, Weight: 1})
	all[0].host.active.Store(5)
	b := balance(clusterv3.Cluster_LEAST_REQUEST, all)
	busy := 0
	for range 4000 {
		if b.pick(nil, 1).Address == "e1" {
			busy++
		}
	}
	if busy < 850 || busy > 1150 {
		t.Errorf("the busy endpoint: got %d of 4000, want about a quarter", busy)
	}
}

// TestPreviousHosts: a retry looks for an endpoint that was not tried, and takes a tried one where there is no other.
func TestPreviousHosts(t *testing.T) {
	b := balance(clusterv3.Cluster_ROUND_ROBIN, endpoints(xds.Endpoint{Healthy: true, Weight: 1}, xds.Endpoint{Healthy: true, Weight: 1}))
	for range 10 {
		if got := b.pick(map[string]bool{"e1": true}, 5).Address; got != "e2" {
			t.Errorf("after e1 failed: got %s, want e2", got)
		}
	}
	if got := b.pick(map[string]bool{"e1": true, "e2": true}, 5); got == nil {
		t.Error("after all failed: got none, want any")
	}
}
