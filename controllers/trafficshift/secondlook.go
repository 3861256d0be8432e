package trafficshift

import (
	"context"
	"slices"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// seenInObjects are the reasons to take a candidate back that objects tell, and no evidence.
var seenInObjects = []string{
	v1alpha1.ReasonWeightLowered, v1alpha1.ReasonCandidateUnstable, v1alpha1.ReasonNotReadyInTime, v1alpha1.ReasonSuperseded, v1alpha1.ReasonCancelled,
}

// toldByObjects reports whether a decision takes a candidate back, or ends its way back, over what objects show.
func toldByObjects(was v1alpha1.State, d shift.Decision) bool {
	f := d.Next.Failure
	begins := was.Phase == v1alpha1.PhaseProgressing && d.Next.Phase != v1alpha1.PhaseProgressing && f != nil && slices.Contains(seenInObjects, f.Reason)
	return begins || d.Ended != nil && slices.Contains(seenInObjects, d.Ended.Reason)
}

// lookTwice observes and decides again, past the caches, where a candidate would be taken back over what objects show. The state is always read past
// them, and a cache that is behind it shows what was: a weight that has been raised since looks as if somebody had lowered it. So it is for a
// leader that hung, until it finds that another has its lease, and for one that takes over. Where a second look cannot be had the first one
// counts: a candidate that is bad must not stay for that.
func (r *Reconciler) lookTwice(ctx context.Context, ts *v1alpha1.TrafficShift, w *world, d shift.Decision) (*world, shift.Decision) {
	if !toldByObjects(ts.Status.State, d) {
		return w, d
	}
	w.yieldTurn()
	again, err := r.pastCaches().observe(ctx, ts)
	if err == nil {
		var second shift.Decision
		if second, err = shift.Decide(again.spec, ts.Status.State, again.observation); err == nil {
			return again, second
		}
	}
	log.FromContext(ctx).Error(err, "looking again past the caches; what they show counts")
	return w, d
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
