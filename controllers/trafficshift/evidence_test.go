package trafficshift

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/metrics/analysis"
	"github.com/sluice-dev/sluice/metrics/query"
)

// judging is a shift whose candidate v2 is being judged.
func judging(change func(*v1alpha1.TrafficShiftSpec, *v1alpha1.State)) *world {
	w := &world{shift: &v1alpha1.TrafficShift{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "micro-api"}}}
	w.shift.Status.State = v1alpha1.State{Phase: v1alpha1.PhaseProgressing, Stable: "v1", Candidate: "v2"}
	w.scope.Host, w.scope.Service = "micro-api.shop.svc.cluster.local", &corev1.Service{}
	if change != nil {
		change(&w.shift.Spec, &w.shift.Status.State)
	}
	w.spec = *w.shift.Spec.DeepCopy()
	w.spec.Default()
	return w
}

func TestWhatIsCounted(t *testing.T) {
	plain := query.Subject{Service: "micro-api.shop.svc.cluster.local", Namespace: "shop", Stable: "micro-api-v1", Candidate: "micro-api-v2"}
	with := func(change func(*query.Subject)) query.Subject {
		s := plain
		change(&s)
		return s
	}
	cases := map[string]struct {
		change func(*v1alpha1.TrafficShiftSpec, *v1alpha1.State)
		want   query.Subject
	}{
		"Plain": {nil, plain},
		"Reporter": {func(s *v1alpha1.TrafficShiftSpec, _ *v1alpha1.State) { s.Reporter = v1alpha1.ReporterWaypoint },
			with(func(s *query.Subject) { s.Reporter = analysis.Waypoint })},
		"Latency": {func(s *v1alpha1.TrafficShiftSpec, _ *v1alpha1.State) {
			s.MaxLatency = &v1alpha1.LatencyLimit{Percentile: "99", Below: metav1.Duration{Duration: time.Second}}
		}, with(func(s *query.Subject) { s.SlowAbove = time.Second })},
		"Queries": {func(s *v1alpha1.TrafficShiftSpec, _ *v1alpha1.State) {
			s.Gates = []v1alpha1.Gate{
				{Name: "person", Manual: &v1alpha1.ManualGate{}},
				{Name: "broken", Query: &v1alpha1.QueryGate{PromQL: "sum("}},
				{Name: "queue", Query: &v1alpha1.QueryGate{PromQL: `max(queue{ns="{{namespace}}",app="{{name}}",pod=~"{{candidate}}-.+",pod!~"{{stable}}-.+"})`}},
				{Name: "usual", Query: &v1alpha1.QueryGate{PromQL: `sum(rate(a[{{window}}]))`}},
				{Name: "longer", Query: &v1alpha1.QueryGate{PromQL: `sum(rate(a[{{window}}]))`, Window: &metav1.Duration{Duration: 5 * time.Minute}}},
			}
		}, with(func(s *query.Subject) {
			s.Queries = []query.CustomQuery{
				{Name: "queue", PromQL: `max(queue{app="micro-api",ns="shop",pod!~"micro-api-v1-.+",pod=~"micro-api-v2-.+"})`},
				{Name: "usual", PromQL: `sum(rate(a[1m]))`},
				{Name: "longer", PromQL: `sum(rate(a[5m]))`},
			}
		})},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, judging(tc.change).subject()); diff != "" {
				t.Errorf("-want, +got:\n%s", diff)
			}
		})
	}
}

// one is evidence of one sample, whatever is watched.
type one struct {
	counts
	sample analysis.Sample
}

func (e *one) Since(_ context.Context, _ query.Key, _ time.Time) (analysis.Sample, error) {
	return e.sample, e.err
}

func TestTheHistoryIsReadBeforeTheFirstWeight(t *testing.T) {
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	cases := map[string]struct {
		reason     string
		change     func(*v1alpha1.TrafficShiftSpec, *v1alpha1.State)
		err        error
		historyErr error
		reads      bool
		available  bool
	}{
		"Before": {"until where the sample begins", nil, nil, nil, true, true},
		"Remembers": {"once", func(_ *v1alpha1.TrafficShiftSpec, s *v1alpha1.State) {
			s.Gate.Memory = &apiextensionsv1.JSON{Raw: []byte(`{"v":1}`)}
		}, nil, nil, false, true},
		"Unreadable": {"a memory that cannot be read is begun anew", func(_ *v1alpha1.TrafficShiftSpec, s *v1alpha1.State) {
			s.Weight, s.Gate.Memory = 50, &apiextensionsv1.JSON{Raw: []byte(`{"v":99}`)}
		}, nil, nil, true, true},
		"NoSample":    {"no evidence is no time to read", nil, query.ErrStale, nil, false, false},
		"Unreachable": {"missing evidence like any other", nil, nil, query.ErrUnreachable, true, false},
		"AtRest":      {"asks nothing", func(_ *v1alpha1.TrafficShiftSpec, s *v1alpha1.State) { s.Candidate = "" }, nil, nil, false, false},
		"NotItsOwn":   {"a connection that is refused is not asked", func(s *v1alpha1.TrafficShiftSpec, _ *v1alpha1.State) { s.Prometheus = "tenant-a" }, nil, nil, false, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			e := &one{counts{rps: 1, cluster: &cluster{}, err: tc.err, historyErr: tc.historyErr}, analysis.Sample{From: at.Add(-time.Second), To: at}}
			r := &Reconciler{Evidence: e}
			got := r.evidence(t.Context(), judging(tc.change))
			if (len(e.histories) > 0) != tc.reads || tc.reads && !e.histories[0].Equal(e.sample.From) {
				t.Errorf("%s: read until %v", tc.reason, e.histories)
			}
			if got.Available != tc.available || (got.Missing == "") != tc.available || (len(got.History) > 0) != (tc.reads && tc.available) {
				t.Errorf("%s: %+v", tc.reason, got)
			}
		})
	}
}

func TestWhyEvidenceIsMissingStaysTheSame(t *testing.T) {
	tests := map[error]string{
		query.ErrUnreachable: v1alpha1.ReasonPrometheusUnreachable,
		query.ErrRefused:     v1alpha1.ReasonPrometheusRefused,
		query.ErrStale:       v1alpha1.ReasonEvidenceStale,
		query.ErrNoMetric:    v1alpha1.ReasonTelemetryMissing,
		query.ErrNoLabels:    v1alpha1.ReasonTelemetryLabelsMissing,
		query.ErrNoTraffic:   v1alpha1.ReasonNoTraffic,
		query.ErrNoSeries:    v1alpha1.ReasonNoEvidence,
		query.ErrNotYet:      v1alpha1.ReasonNoEvidence,
	}
	for kind, reason := range tests {
		first, second := without(errors.Join(errors.New("12s"), kind)), without(errors.Join(errors.New("13s"), kind))
		if diff := cmp.Diff(first, second); diff != "" || first.Reason != reason || !strings.Contains(first.Missing, "Prometheus") || first.Available {
			t.Errorf("%v: %+v; want %s; then, -first, +second:\n%s", kind, first, reason, diff)
		}
	}
}
