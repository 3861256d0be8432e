package trafficshift

import (
	"fmt"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
	"github.com/sluice-dev/sluice/metrics/query"
)

// checkEvidence refuses a connection that is not the namespace's to use, and PromQL that Prometheus could not read: better before a
// candidate has any weight than when its gate is asked.
func (r *Reconciler) checkEvidence(w *world) []shift.Problem {
	var problems []shift.Problem
	if err := r.Evidence.Check(w.shift.Namespace, w.spec.Prometheus); err != nil {
		problems = append(problems, problem(v1alpha1.ReasonInvalidSpec, "spec.prometheus: %v", err))
	}
	for i, g := range w.spec.Gates {
		if g.Query == nil {
			continue
		}
		if _, err := query.ParseTemplate(g.Query.PromQL); err != nil {
			problems = append(problems, problem(v1alpha1.ReasonInvalidSpec, "spec.gates[%d].query.promql of gate %q: %v", i, g.Name, err))
		}
	}
	return problems
}

// queries are the shift's own, with its values put in. One that cannot be read is left out: InvalidSpec says so.
func (w *world) queries(stable, candidate string) []query.CustomQuery {
	var all []query.CustomQuery
	for _, g := range w.spec.Gates {
		if g.Query == nil {
			continue
		}
		promql, err := rendered(g.Query, query.Values{Namespace: w.shift.Namespace, Name: w.shift.Name, Stable: stable, Candidate: candidate})
		if err == nil {
			all = append(all, query.CustomQuery{Name: g.Name, PromQL: promql})
		}
	}
	return all
}

func rendered(q *v1alpha1.QueryGate, values query.Values) (string, error) {
	t, err := query.ParseTemplate(q.PromQL)
	if err != nil {
		return "", fmt.Errorf("reading PromQL: %w", err)
	}
	if q.Window != nil {
		values.Window = q.Window.Duration
	}
	promql, err := t.Render(values)
	if err != nil {
		return "", fmt.Errorf("rendering PromQL: %w", err)
	}
	return promql, nil
}
