package trafficshift

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// throttle is an API server that has no time for some of the calls, reads and writes alike.
type throttle struct {
	says  error
	every int // one in so many is refused; none where it is 0
	calls int
	met   bool
}

func (t *throttle) refuses() error {
	if t.calls++; t.every == 0 || t.calls%t.every != 0 {
		return nil
	}
	t.met = true
	return t.says
}

func (t *throttle) between(api client.WithWatch) client.WithWatch {
	return interceptor.NewClient(api, interceptor.Funcs{
		Get: func(ctx context.Context, api client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if err := t.refuses(); err != nil {
				return err
			}
			return api.Get(ctx, key, o, opts...)
		},
		List: func(ctx context.Context, api client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if err := t.refuses(); err != nil {
				return err
			}
			return api.List(ctx, list, opts...)
		},
		Patch: func(ctx context.Context, api client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			if err := t.refuses(); err != nil {
				return err
			}
			return api.Patch(ctx, o, p, opts...)
		},
		Apply: func(ctx context.Context, api client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			if err := t.refuses(); err != nil {
				return err
			}
			return api.Apply(ctx, o, opts...)
		},
		Delete: func(ctx context.Context, api client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			if err := t.refuses(); err != nil {
				return err
			}
			return api.Delete(ctx, o, opts...)
		},
		SubResourcePatch: func(ctx context.Context, api client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			if err := t.refuses(); err != nil {
				return err
			}
			return api.SubResource(sub).Patch(ctx, o, p, opts...)
		},
	})
}

// An API server that throttles, or is not there for a moment, costs time and nothing else: every pass that met a refusal is one that failed, which
// is tried again after a tenth of a second (retries), and the way back is taken, once, with what was decided.
func TestAThrottlingAPIServerOnlyCostsTime(t *testing.T) {
	for name, says := range map[string]error{
		"TooManyRequests":    apierrors.NewTooManyRequests("the server has received too many requests and has asked us to try again later", 1),
		"ServiceUnavailable": apierrors.NewServiceUnavailable("the server is currently unable to handle the request"),
		"Timeout":            apierrors.NewServerTimeout(schema.GroupResource{Resource: "virtualservices"}, "patch", 1),
		"InternalError":      apierrors.NewInternalError(context.DeadlineExceeded),
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.adopt()
			load := &throttle{says: says}
			c.Reconciler.Client, c.Reconciler.Live = load.between(c.Reconciler.Client.(client.WithWatch)), load.between(c.Reconciler.Live.(client.WithWatch))
			c.told.take()
			c.setImage("micro-api:1.2")
			c.throttled(load, "5%", func(s *v1alpha1.TrafficShift) bool {
				return s.Status.State.RoutedSince != nil && s.Status.Weight == "5%"
			})
			c.act("abort", "v2")
			c.throttled(load, "the way back", func(s *v1alpha1.TrafficShift) bool {
				return s.Status.Phase == v1alpha1.PhaseFailed && len(s.Status.State.Retiring) == 0
			})
			if diff := cmp.Diff(map[string]int32{"v1": 100}, c.weights("micro-api")); diff != "" {
				t.Errorf("weights (-want +got):\n%s", diff)
			}
			if s := c.shift(); len(s.Status.History) == 0 || s.Status.History[0].Reason != v1alpha1.ReasonAborted || s.Status.State.Rejected != "v2" {
				t.Errorf("history %+v, refused %q; want the abort, once", s.Status.History, s.Status.State.Rejected)
			}
			told := c.told.take()
			for _, once := range []string{"Normal ShiftStarted", "Normal WeightRaised", "Normal ActionTaken", "Warning Aborted"} {
				if n := len(slices.DeleteFunc(slices.Clone(told), func(e string) bool { return !strings.HasPrefix(e, once) })); n != 1 {
					t.Errorf("%q was told %d times: %q", once, n, told)
				}
			}
		})
	}
}

// throttled lets passes, pods and seconds alternate under a load that moves on by one call from pass to pass, until done says so.
func (c *cluster) throttled(load *throttle, what string, done func(*v1alpha1.TrafficShift) bool) {
	c.Helper()
	for i := range 300 {
		load.calls, load.met, load.every = i%39, false, 40 // the first read of a pass is from the cache, and only asks whether there is a shift
		err := c.try()
		load.every = 0
		if load.met && err == nil {
			c.Errorf("waiting for %s: pass %d met a refusal and did not fail", what, i)
		}
		c.kubelet()
		if done(c.shift()) {
			return
		}
		c.clock = c.clock.Add(time.Second)
	}
	c.Fatalf("waiting for %s: %+v", what, c.shift().Status)
}
