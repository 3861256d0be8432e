package trafficshift

import (
	"context"
	"errors"
	"strings"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/plan"
	"github.com/sluice-dev/sluice/controllers/shift"
	"github.com/sluice-dev/sluice/metrics/analysis"
	"github.com/sluice-dev/sluice/metrics/query"
	"github.com/sluice-dev/sluice/metrics/webhook"
)

// Evidence is where counts and readings come from. *query.Connections is one.
type Evidence interface {
	// Check says why a namespace may not use a connection.
	Check(namespace, connection string) error
	Watch(key query.Key, connection string, subject query.Subject) error
	Unwatch(key query.Key)
	Updates() <-chan query.Key
	Since(ctx context.Context, key query.Key, from time.Time) (analysis.Sample, error)
	History(ctx context.Context, key query.Key, until time.Time) ([]analysis.Sample, error)
	Readings(key query.Key) []query.Reading
}

// evidence reads what was counted since the last sample that the state has counted. A shift without a candidate asks nothing: at
// rest it costs Prometheus no query.
func (r *Reconciler) evidence(ctx context.Context, w *world) shift.Evidence {
	key := w.key()
	state := w.shift.Status.State
	if state.Candidate == "" || state.Phase != v1alpha1.PhaseProgressing || w.scope.Service == nil {
		r.Evidence.Unwatch(key)
		return shift.Evidence{Missing: "no candidate is being judged"}
	}
	if err := r.Evidence.Watch(key, w.spec.Prometheus, w.subject()); err != nil {
		r.Evidence.Unwatch(key)
		return w.without(err)
	}
	from := time.Time{}
	if to := state.Gate.CountedTo; to != nil {
		from = to.Time
	}
	e := shift.Evidence{Available: true}
	var err error
	e.Sample, err = r.Evidence.Since(ctx, key, from)
	w.unpreviewed(&e.Sample)
	if err == nil && remembersNothing(state) {
		e.History, err = r.Evidence.History(ctx, key, before(state, e.Sample.From))
	}
	if err != nil {
		log.FromContext(ctx).V(1).Info("no evidence", "reason", err.Error())
		return w.without(err)
	}
	return e
}

// key names the shift to the collectors.
func (w *world) key() query.Key { return query.Key{Namespace: w.shift.Namespace, Name: w.shift.Name} }

// remembersNothing says whether the gates have yet to learn what is usual: nothing is kept, or nothing that this release can read.
func remembersNothing(s v1alpha1.State) bool {
	if s.Gate.Memory == nil {
		return true
	}
	_, err := analysis.DecodeMemory(s.Gate.Memory.Raw)
	return err != nil
}

// before is until when the past is learned from: not beyond the first weight, since what happened then the candidate may have done.
func before(s v1alpha1.State, sample time.Time) time.Time {
	if first := s.WeightedAt; first != nil && first.Time.Before(sample) {
		return first.Time
	}
	return sample
}

// subject is what is counted for the shift, and asked beside it.
func (w *world) subject() query.Subject {
	state := w.shift.Status.State
	s := query.Subject{
		Service: w.scope.Host, Namespace: w.shift.Namespace, Reporter: reporterOf(w.spec.Reporter),
		Stable: plan.VersionName(w.shift.Name, state.Stable), Candidate: plan.VersionName(w.shift.Name, state.Candidate),
		Previewing: shift.Previewing(state),
	}
	if shift.Mirroring(state) {
		s.Reporter = analysis.Destination // the caller's proxy does not count copies
	}
	if w.gatewayAPIRoutes() {
		s.Backends = []string{w.scope.VersionHost(state.Stable), w.scope.VersionHost(state.Candidate)}
	}
	s.Connections = w.connectionsOnly()
	if l := w.spec.MaxLatency; l != nil && !s.Connections {
		s.SlowAbove = l.Below.Duration
	}
	s.Queries = w.queries(s.Stable, s.Candidate)
	return s
}

// unpreviewed leaves the server's word out while a candidate with an address of its own is shown to nobody yet: a server names the oldest
// Service of its port, whichever was asked for, so that whoever looks at the preview would pass for a user that came around the routes.
// Where the routes themselves go to that address, no client's word tells the two apart either.
func (w *world) unpreviewed(sample *analysis.Sample) {
	if !plan.Previewed(w.spec) || shift.Exposed(w.shift.Status.State) {
		return
	}
	sample.Cross = analysis.Counts{}
	if sample.Reporter == analysis.Destination || w.gatewayAPIRoutes() {
		sample.Candidate = analysis.Counts{}
	}
}

// reporterOf turns the setting into whose telemetry is counted; auto leaves it to what is found.
func reporterOf(r v1alpha1.Reporter) analysis.Reporter {
	if r == v1alpha1.ReporterAuto {
		return ""
	}
	return analysis.Reporter(r)
}

// lack is one way of having no evidence: in one word, and with what to do about it.
type lack struct {
	is              error
	reason, message string
}

// lacks are asked in order: what is told apart comes before what it is a case of.
var lacks = []lack{
	{query.ErrUnreachable, v1alpha1.ReasonPrometheusUnreachable, "Prometheus does not answer: check that it runs, and its address (the chart's controller.prometheusAddress)"},
	{query.ErrRefused, v1alpha1.ReasonPrometheusRefused, "Prometheus refuses the queries: check permissions and limits"},
	{query.ErrStale, v1alpha1.ReasonEvidenceStale, "Prometheus has no fresh sample: check that it scrapes the mesh's proxies"},
	{query.ErrNoMetric, v1alpha1.ReasonTelemetryMissing, "Prometheus has no istio_requests_total at all: check that it scrapes the mesh's proxies, and that no Telemetry resource switches the metric off"},
	{query.ErrNoLabels, v1alpha1.ReasonTelemetryLabelsMissing, "Prometheus has istio_requests_total of this service without the labels that tell versions apart (reporter, destination_workload, destination_workload_namespace): a Telemetry resource or a relabelling removes them; keep them"},
	{query.ErrNoTraffic, v1alpha1.ReasonNoTraffic, "Prometheus has istio_requests_total of other services and none of this one's versions: no traffic yet, or its clients and pods have no sidecar"},
	{query.ErrNoSeries, v1alpha1.ReasonNoEvidence, "Prometheus has no istio_requests_total of this service: no traffic yet, no sidecar, or its labels are removed"},
	{query.ErrNotYet, v1alpha1.ReasonNoEvidence, "Prometheus was not asked yet"},
}

// without names the metric that this service is counted by.
func (w *world) without(err error) shift.Evidence {
	e := without(err)
	if w.connectionsOnly() {
		e.Missing = strings.ReplaceAll(e.Missing, "istio_requests_total", "istio_tcp_connections_opened_total")
	}
	return e
}

// without says why there is no evidence, in words that stay the same while nothing changes: ages and timeouts go to the log.
func without(err error) shift.Evidence {
	for _, l := range lacks {
		if errors.Is(err, l.is) {
			return shift.Evidence{Reason: l.reason, Missing: l.message}
		}
	}
	if errors.Is(err, query.ErrNoConnection) {
		return shift.Evidence{Reason: v1alpha1.ReasonNoEvidence, Missing: "spec.prometheus: " + err.Error()}
	}
	return shift.Evidence{Reason: v1alpha1.ReasonNoEvidence, Missing: err.Error()}
}

// forget drops everything that is kept outside the cluster about a shift that is gone.
func (r *Reconciler) forget(req ctrl.Request) {
	r.Evidence.Unwatch(query.Key{Namespace: req.Namespace, Name: req.Name})
	r.Webhooks.Unwatch(webhook.Key{Namespace: req.Namespace, Name: req.Name})
	r.Exporter.Forget(req.Namespace, req.Name)
}
