package trafficshift

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// behind is a client whose cache shows objects as they were.
type behind struct {
	client.Client
	routes   *networkingv1.VirtualService
	versions *appsv1.DeploymentList
}

func (b behind) Get(ctx context.Context, key client.ObjectKey, into client.Object, opts ...client.GetOption) error {
	if vs, ok := into.(*networkingv1.VirtualService); ok && key.Name == b.routes.Name {
		b.routes.DeepCopyInto(vs)
		return nil
	}
	return b.Client.Get(ctx, key, into, opts...)
}

func (b behind) List(ctx context.Context, into client.ObjectList, opts ...client.ListOption) error {
	if list, ok := into.(*appsv1.DeploymentList); ok {
		b.versions.DeepCopyInto(list)
		return nil
	}
	return b.Client.List(ctx, into, opts...)
}

// Design: "each with the resourceVersion that it was decided on, so that an old leader or a stale cache cannot write". Nor does one refuse a
// candidate: a leader that hung reads the newest state when it wakes up, and beside it objects as they were before.
func TestACacheThatIsBehindRefusesNobody(t *testing.T) {
	withoutPods := func(c *cluster) func(*v1alpha1.TrafficShift) bool {
		return func(s *v1alpha1.TrafficShift) bool {
			return s.Status.Candidate == "v2" && c.get("micro-api-v2", &appsv1.Deployment{})
		}
	}
	for name, at := range map[string]struct {
		was func(*cluster) func(*v1alpha1.TrafficShift) bool
		is  func(*v1alpha1.TrafficShift) bool
	}{
		"BeforeItHadPods":   {withoutPods, atFivePercent},
		"BeforeItWasRaised": {func(*cluster) func(*v1alpha1.TrafficShift) bool { return atFivePercent }, atHalf},
		"LongBefore":        {withoutPods, atHalf},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.adopt()
			c.setImage("micro-api:1.2")
			c.run("what the cache shows", 60, at.was(c))
			was := behind{Client: c.Reconciler.Client, routes: &networkingv1.VirtualService{}, versions: &appsv1.DeploymentList{}}
			if err := c.Client.List(t.Context(), was.versions, client.InNamespace(c.ns)); err != nil || !c.get("micro-api", was.routes) {
				t.Fatalf("the objects as they were: %v", err)
			}
			c.run("what there is", 120, at.is)

			c.Reconciler.Client, c.writes = was, nil
			before := c.weights("micro-api")
			c.pass()
			s := c.shift()
			if s.Status.Candidate != "v2" || s.Status.Phase != v1alpha1.PhaseProgressing {
				t.Errorf("%s, %q: %s; want v2 to go on", s.Status.Phase, s.Status.Candidate, s.Status.Message)
			}
			if diff := cmp.Diff(before, c.weights("micro-api")); diff != "" {
				t.Errorf("its routes (-was +is):\n%s", diff)
			}
			c.Reconciler.Client = was.Client
			c.run("promotion", 120, promoted("v2"))
		})
	}
}

// Where the second look cannot be had the first one counts: a candidate without pods must not keep its users for that.
func TestACandidateIsTakenBackThoughNobodyCanLookTwice(t *testing.T) {
	c := newCluster(t)
	c.adopt()
	c.setImage("micro-api:1.2")
	c.run("5%", 60, atFivePercent)
	c.Reconciler.Live = unlistable{c.Reconciler.Live}
	c.broken[2] = true
	c.run("the way back", 60, func(s *v1alpha1.TrafficShift) bool { return s.Status.Rejected == "v2" })
}

// unlistable is an API server that lists no pods, as where a role lacks that.
type unlistable struct{ client.Reader }

func (u unlistable) List(ctx context.Context, into client.ObjectList, opts ...client.ListOption) error {
	if _, pods := into.(*corev1.PodList); pods {
		return errors.New("pods is forbidden")
	}
	return u.Reader.List(ctx, into, opts...)
}
