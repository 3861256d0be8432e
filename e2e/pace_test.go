package e2e

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/lab/load"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// README: "`auto` raises as fast as the evidence allows", and of max-failed-requests "the budget that `auto` spends". Nobody says which
// weights; under much traffic and a small budget the first of them are finer than a percent, and Istio finds nothing wrong with them. Not
// parallel: how much traffic there is, and with it the first weight, must not hang on what other tests do.
func TestAutoChoosesTheWeights(t *testing.T) {
	s := stage(t)
	const name, rate, budget = "paced", 250, 2
	deploy(t, s, name, "steps=auto", "hold=4s", "max-increase=", "max-failed-requests=2")
	users := within(t, s, name, "http://paced.shop.svc.cluster.local/", rate) // how much traffic there is must be known before the first weight
	await(t, s, name, "to be adopted", scene.Stable("v1"))
	c := watchOver(t, s, name)
	climb := &climb{users: users}
	follow(t, s, name, climb.see)
	c.await(t, "Stable")

	release(t, s, name, "v2")
	await(t, s, name, "to have a weight below 1%", func(ts *v1alpha1.TrafficShift) bool {
		w := ts.Status.State.Weight
		return w > 0 && w < 10
	})
	eventually(t, "that weight in the VirtualService", func(ctx context.Context) error { return finer(ctx, s, name) })
	await(t, s, name, "to be promoted", scene.Stable("v2"))
	lossless(t, users)

	weights := climb.all()
	t.Logf("weights: %v", weights)
	if len(weights) < 4 || weights[len(weights)-1].weight != v1alpha1.Whole {
		t.Errorf("v2 had the weights %v; want it to climb to 100%% by several", weights)
	}
	positions := []string{"Stable", "Progressing Stepping " + weights[0].weight.String(), "Progressing Baking 100%"}
	for i, w := range weights {
		if w.step != "auto" {
			t.Errorf("at %s, status.step is %q", w.weight, w.step)
		}
		// Where n requests of a candidate were seen and none failed, it may still fail 3 of n (95%): so many times what it answers until
		// one can react, two scrapes, is what its next weight puts at risk. Sluice's own bound is the stricter one of always-valid evidence.
		if most := 1.5 * budget / (mayFail(w.answered) * 2 * rate); i > 0 && w.weight < v1alpha1.Whole && float64(w.weight) > 1000*most {
			t.Errorf("after %d requests the weight was %s; %d failed requests justify at most %.1f%%", w.answered, w.weight, budget, 100*most)
		}
		if i > 0 && w.weight < weights[i-1].weight {
			t.Errorf("a good candidate went back: %v", weights)
		}
	}
	c.end(t, positions)
}

// mayFail is the rate of failures that n requests without one leave possible beside a stable version that fails one in a thousand.
func mayFail(n int) float64 { return max(3/float64(max(n, 1))-0.001, 1e-4) }

// climbed is a weight, and how many requests the candidate had answered by the time that it was seen.
type climbed struct {
	weight   v1alpha1.Permille
	step     string
	answered int
}

func (c climbed) String() string { return fmt.Sprintf("%s after %d", c.weight, c.answered) }

// climb notes the weights of v2, each once.
type climb struct {
	users *load.Source
	mu    sync.Mutex
	seen  []climbed
}

func (c *climb) see(ts *v1alpha1.TrafficShift) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := ts.Status.State.Weight
	if ts.Status.State.Candidate != "v2" || w == 0 || len(c.seen) > 0 && c.seen[len(c.seen)-1].weight == w {
		return
	}
	c.seen = append(c.seen, climbed{w, ts.Status.Step, count(c.users.Report(), "v2")})
}

func (c *climb) all() []climbed {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.seen)
}

// finer complains unless each route to the versions of a service is written in thousandths.
func finer(ctx context.Context, s *scene.Scene, name string) error {
	for _, route := range []string{name, name + "-hosts"} {
		vs := &networkingv1.VirtualService{}
		if err := s.Client.Get(ctx, inShop(route), vs); err != nil {
			return err
		}
		for _, http := range vs.Spec.Http {
			sum, least := int32(0), int32(1000)
			for _, d := range http.Route {
				sum, least = sum+d.Weight, min(least, d.Weight)
			}
			if sum != 1000 || least < 1 || least > 9 {
				return fmt.Errorf("the weights of %s are %v", route, http.Route)
			}
		}
	}
	return nil
}
