package trafficshift

import (
	"context"
	"slices"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// seenInObjects are the reasons to refuse a candidate that objects tell, and no evidence.
var seenInObjects = []string{v1alpha1.ReasonWeightLowered, v1alpha1.ReasonCandidateUnstable, v1alpha1.ReasonNotReadyInTime}

// lookTwice observes and decides again, past the caches, where a candidate would be refused over what objects show. The state is always read past
// them, and a cache that is behind it shows what was: a weight that has been raised since looks as if somebody had lowered it. So it is for a
// leader that hung, until it finds that another has its lease, and for one that takes over.
func (r *Reconciler) lookTwice(ctx context.Context, ts *v1alpha1.TrafficShift, w *world, d shift.Decision) (*world, shift.Decision, error) {
	if d.Ended == nil || !slices.Contains(seenInObjects, d.Ended.Reason) {
		return w, d, nil
	}
	w.yieldTurn()
	again, err := r.pastCaches().observe(ctx, ts)
	if err != nil {
		return w, d, err
	}
	d, err = shift.Decide(again.spec, ts.Status.State, again.observation)
	return again, d, err
}

// pastCaches is a reconciler that reads everything from the API server. Its turns are its own: whoever is to be refused has had his.
func (r *Reconciler) pastCaches() *Reconciler {
	return &Reconciler{
		Client: uncached{Client: r.Client, live: r.Live}, Live: r.Live, Recorder: r.Recorder, Exporter: r.Exporter, Evidence: r.Evidence, Webhooks: r.Webhooks,
		Config: r.Config, Now: r.Now, GatewayAPI: r.GatewayAPI, KEDA: r.KEDA,
	}
}

// uncached is a client that reads past its cache.
type uncached struct {
	client.Client
	live client.Reader
}

func (u uncached) Get(ctx context.Context, key client.ObjectKey, into client.Object, opts ...client.GetOption) error {
	return u.live.Get(ctx, key, into, opts...)
}

func (u uncached) List(ctx context.Context, into client.ObjectList, opts ...client.ListOption) error {
	return u.live.List(ctx, into, opts...)
}
