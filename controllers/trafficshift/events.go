package trafficshift

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
	"github.com/sluice-dev/sluice/metrics/exporter"
)

// note is one event: what has happened, with the numbers.
type note struct{ kind, reason, action, message string }

// tell makes a decision known: events and one log line on a transition, metrics on every pass. It is called once the decision is
// persisted, so that nothing is told that did not come to be.
func (r *Reconciler) tell(ctx context.Context, before, after *v1alpha1.TrafficShift, w *world, d shift.Decision) {
	notes := append(notesOf(before, after, d), w.adviceNotes(before, after)...)
	for _, n := range notes {
		r.Recorder.Eventf(after, w.related(), n.kind, n.reason, n.action, "%s", clip(n.message))
	}
	if len(notes) > 0 || before.Status.Phase != after.Status.Phase || before.Status.State.Stage != d.Next.Stage {
		log.FromContext(ctx).Info("decided", "phase", d.Next.Phase, "stage", d.Next.Stage, "stable", d.Next.Stable, "candidate", d.Next.Candidate,
			"weight", d.Next.Weight.String(), "reason", d.Reason, "message", d.Message)
	}
	for _, a := range d.Actions {
		r.Exporter.Action(after.Namespace, after.Name, string(a.Action), string(a.Result))
	}
	if o := d.Ended; o != nil {
		took := time.Duration(0)
		if o.StartedAt != nil && o.EndedAt != nil {
			took = o.EndedAt.Sub(o.StartedAt.Time)
		}
		r.Exporter.Outcome(after.Namespace, after.Name, o.Reason, took)
		if since := before.Status.State.StageSince; o.Reason != v1alpha1.ReasonPromoted && since != nil && before.Status.Phase == v1alpha1.PhaseRollingBack {
			r.Exporter.RolledBack(w.observation.Now.Sub(since.Time))
		}
	}
	r.Exporter.Observe(shown(after, w, d))
}

// related is the Deployment, for those who look at its events.
func (w *world) related() runtime.Object {
	if w.scope.Template == nil {
		return nil
	}
	return w.scope.Template
}

// notesOf compares two statuses: one event for each thing that has changed, and none for what has not.
func notesOf(before, after *v1alpha1.TrafficShift, d shift.Decision) []note {
	was, is := before.Status.State, after.Status.State
	var notes []note
	add := func(kind, reason, action, message string) { notes = append(notes, note{kind, reason, action, message}) }
	if c := is.Candidate; c != "" && c != was.Candidate {
		add(corev1.EventTypeNormal, v1alpha1.ReasonShiftStarted, "Start", fmt.Sprintf("new template: %s starts beside %s", c, is.Stable))
		if is.WithinRollbackWindow {
			add(corev1.EventTypeNormal, v1alpha1.ReasonWithinRollbackWindow, "Start", d.Message)
		}
	}
	if is.WaitingSince != nil && was.WaitingSince == nil {
		add(corev1.EventTypeNormal, d.Reason, "Wait", d.Message)
	}
	switch a := d.Arrived; {
	case a == nil:
	case was.Exposure != "":
		add(corev1.EventTypeNormal, v1alpha1.ReasonShown, "Show", fmt.Sprintf("%s is shown at %s", was.Candidate, a.Place))
	default:
		add(corev1.EventTypeNormal, v1alpha1.ReasonWeightRaised, "Raise", fmt.Sprintf("%s raised from %s to %s", was.Candidate, a.From, a.Place))
		if after.Spec.SkipAnalysis {
			add(corev1.EventTypeWarning, v1alpha1.ReasonAnalysisSkipped, "Raise", fmt.Sprintf("no gate was asked before %s was raised: spec.skipAnalysis is set", was.Candidate))
		}
	}
	if is.Phase == v1alpha1.PhaseProgressing && is.Candidate == was.Candidate && (is.Weight < was.Weight || groupRetreated(was, is)) {
		add(corev1.EventTypeWarning, d.Reason, "Lower", d.Message)
	}
	if is.Failure != nil && (was.Failure == nil || was.Candidate != "" && was.Phase == v1alpha1.PhaseProgressing) && *is.Failure != value(was.Failure) {
		kind := corev1.EventTypeNormal
		if is.Failure.Reject {
			kind = corev1.EventTypeWarning
		}
		add(kind, is.Failure.Reason, "RollBack", is.Failure.Message)
	}
	if o := d.Ended; o != nil && o.Reason == v1alpha1.ReasonPromoted {
		add(corev1.EventTypeNormal, o.Reason, "Promote", o.Message)
	}
	if was.Phase != is.Phase && was.Phase == v1alpha1.PhaseAdopting {
		add(corev1.EventTypeNormal, v1alpha1.ReasonAdopted, "Adopt", fmt.Sprintf("%s has all the traffic; the Deployment is the template from now on", is.Stable))
	}
	if is.Stage == v1alpha1.StageReleased && was.Stage != is.Stage {
		add(corev1.EventTypeNormal, v1alpha1.ReasonDetached, "Detach", d.Message)
	}
	return slices.Concat(actionNotes(d.Actions), notes, conditionNotes(before, after))
}

// groupRetreated reports whether what was seen of a candidate has taken its group away, and left its weight.
func groupRetreated(was, is v1alpha1.State) bool {
	retreated := is.Gate.Retreats > was.Gate.Retreats || is.Gate.Retreated && !was.Gate.Retreated
	return was.Group != "" && is.Group == "" && is.Weight == was.Weight && retreated
}

// adviceNotes tell, at the start of a version, what its owner had better know.
func (w *world) adviceNotes(before, after *v1alpha1.TrafficShift) []note {
	was, is := before.Status.State, after.Status.State
	if (is.Candidate == "" || is.Candidate == was.Candidate) && (is.Stable == "" || was.Stable != "") {
		return nil
	}
	notes := make([]note, 0, len(w.advice))
	for _, a := range w.advice {
		notes = append(notes, note{corev1.EventTypeWarning, a.Reason, "Advise", a.Message})
	}
	return notes
}

// conditionNotes tells of conditions that have just turned against the shift, and of evidence that is back.
func conditionNotes(before, after *v1alpha1.TrafficShift) []note {
	var notes []note
	for _, kind := range []string{v1alpha1.ConditionAccepted, v1alpha1.ConditionEvidenceAvailable} {
		was, is := meta.FindStatusCondition(before.Status.Conditions, kind), meta.FindStatusCondition(after.Status.Conditions, kind)
		turned := is != nil && (was == nil || was.Status != is.Status || was.Reason != is.Reason)
		// Evidence takes a moment to be there at first, and a service without traffic is nothing to warn of.
		usual := kind == v1alpha1.ConditionEvidenceAvailable && (was == nil || was.Status == "Unknown" || is != nil && is.Reason == v1alpha1.ReasonNoTraffic)
		switch {
		case turned && is.Status == "False" && !usual:
			notes = append(notes, note{corev1.EventTypeWarning, is.Reason, "Check", is.Message})
		case turned && is.Status == "True" && was != nil && was.Status == "False":
			notes = append(notes, note{corev1.EventTypeNormal, is.Reason, "Check", is.Message})
		}
	}
	contested := meta.FindStatusCondition(after.Status.Conditions, v1alpha1.ConditionReplicasContested)
	if contested != nil && meta.FindStatusCondition(before.Status.Conditions, v1alpha1.ConditionReplicasContested) == nil {
		notes = append(notes, note{corev1.EventTypeWarning, contested.Reason, "Hold", contested.Message})
	}
	return notes
}

// clip keeps a note within what the events API takes: 1 KiB.
func clip(text string) string {
	const limit = 1000
	if len(text) <= limit {
		return text
	}
	return text[:limit] + "..."
}

func value(f *v1alpha1.Failure) v1alpha1.Failure {
	if f == nil {
		return v1alpha1.Failure{}
	}
	return *f
}

// shown is what the metrics say of a shift.
func shown(ts *v1alpha1.TrafficShift, w *world, d shift.Decision) exporter.Shift {
	next := d.Next
	step, steps := shift.Step(w.spec, next)
	s := exporter.Shift{
		Namespace: ts.Namespace, Name: ts.Name, Phase: next.Phase, Reason: d.Reason, Step: step, Steps: steps,
		Stable: next.Stable, Candidate: next.Candidate, EvidenceAge: -1,
	}
	if e := w.observation.Evidence; e.Available && !e.Sample.Newest.IsZero() {
		s.EvidenceAge = max(0, w.observation.Now.Sub(e.Sample.Newest))
	}
	for _, v := range d.Verdicts {
		s.Verdicts = append(s.Verdicts, exporter.Verdict{Gate: v.Gate, Value: v.Value, Limit: v.Limit, Outcome: string(v.Outcome)})
	}
	add := func(name string, role exporter.Role, weight v1alpha1.Permille, c v1alpha1.Counts, share int64, measured bool) {
		v := exporter.Version{Name: name, Role: role, Weight: float64(weight) / float64(v1alpha1.Whole),
			Share: exporter.Unknown, ErrorRate: exporter.Unknown, SlowRate: exporter.Unknown}
		if measured && next.Share.Total > 0 {
			v.Share = float64(share) / float64(next.Share.Total)
		}
		if measured && c.Requests > 0 {
			v.ErrorRate = float64(c.Errors) / float64(c.Requests)
		}
		if measured && c.Timed > 0 && w.spec.MaxLatency != nil {
			v.SlowRate = float64(c.Slow) / float64(c.Timed)
		}
		s.Versions = append(s.Versions, v)
	}
	if next.Stable != "" {
		add(next.Stable, exporter.Stable, v1alpha1.Whole-next.Weight, next.Gate.Stable, next.Share.Total-next.Share.Candidate, shift.Exposed(next))
	}
	if next.Candidate != "" {
		add(next.Candidate, exporter.Candidate, next.Weight, next.Gate.Candidate, next.Share.Candidate, shift.Exposed(next))
	}
	for _, out := range next.Retiring {
		add(out.Version, exporter.Retiring, 0, v1alpha1.Counts{}, 0, false)
	}
	return s
}
