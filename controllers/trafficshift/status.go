package trafficshift

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/apply"
	"github.com/sluice-dev/sluice/controllers/plan"
	"github.com/sluice-dev/sluice/controllers/shift"
	"github.com/sluice-dev/sluice/metrics/analysis"
)

// historyLimit is how many outcomes a status keeps.
const historyLimit = 10

// persist writes the decision's state, and what is shown of it, before any of its effects. The write carries the resourceVersion
// that was decided on: an old leader's is refused.
func (r *Reconciler) persist(ctx context.Context, ts *v1alpha1.TrafficShift, w *world, d shift.Decision) error {
	was := ts.DeepCopy()
	ts.Status = statusOf(ts, w, d)
	if equality.Semantic.DeepEqual(was.Status, ts.Status) {
		return nil
	}
	patch := client.MergeFromWithOptions(was, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Status().Patch(ctx, ts, patch, client.FieldOwner(v1alpha1.FieldManager)); err != nil {
		return fmt.Errorf("TrafficShift %s/%s: writing its status: %w", ts.Namespace, ts.Name, err)
	}
	return nil
}

// statusOf makes the status once, from values.
func statusOf(ts *v1alpha1.TrafficShift, w *world, d shift.Decision) v1alpha1.TrafficShiftStatus {
	next := d.Next
	status := v1alpha1.TrafficShiftStatus{
		ObservedGeneration: ts.Generation,
		Phase:              next.Phase, Stable: next.Stable, Candidate: next.Candidate, Rejected: next.Rejected,
		State: next, Conditions: slices.Clone(ts.Status.Conditions), RefusedWrite: w.stillRefused(ts),
		History: ts.Status.History, Actions: remembered(ts.Status.Actions, d.Actions),
	}
	if w.scope.Template != nil {
		status.ObservedTemplateGeneration = w.scope.Template.Generation
	}
	if next.Candidate != "" {
		status.Step, status.Weight = shift.StepText(w.spec, next), next.Weight.String()
		status.ObservedWeight = observedWeight(next)
	}
	status.Until, status.Gates = untilOf(d), gatesOf(d.Verdicts)
	if d.Ended != nil {
		status.History = append([]v1alpha1.Outcome{*d.Ended}, status.History...)
		status.History = status.History[:min(len(status.History), historyLimit)]
	}
	status.Policy, status.Effective, status.Previews = w.policyAt(next), w.effective(), w.previewAddresses()
	status.Replicas, status.Selector = scaleOf(ts.Name, w, next)
	for _, set := range []func(*v1alpha1.TrafficShiftStatus, int64, *world, shift.Decision){
		setAccepted, setRouteVerified, setEvidenceAvailable, setContested, sayWhy,
	} {
		set(&status, ts.Generation, w, d)
	}
	return status
}

// observedWeight is the share that was measured since the present weight settled.
func observedWeight(s v1alpha1.State) string {
	if s.Share.Total == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f%%", 100*float64(s.Share.Candidate)/float64(s.Share.Total))
}

// untilOf is in whole seconds, as the API server keeps it: what it would round is no news.
func untilOf(d shift.Decision) *metav1.Time {
	if d.Until.IsZero() {
		return nil
	}
	t := metav1.NewTime(d.Until.Truncate(time.Second))
	return &t
}

// gatesOf are the verdicts as people read them.
func gatesOf(verdicts []analysis.Verdict) []v1alpha1.GateStatus {
	var gates []v1alpha1.GateStatus
	for _, v := range verdicts {
		verdict := v1alpha1.Verdict(v.Outcome)
		if verdict != v1alpha1.VerdictPass && verdict != v1alpha1.VerdictFail {
			verdict = v1alpha1.VerdictInconclusive
		}
		gates = append(gates, v1alpha1.GateStatus{
			Name: v.Gate, Verdict: verdict, Reason: v.Reason, Value: v.Number(v.Value), Limit: v.Number(v.Limit),
			Message: clipTo(v.Message, longestVerdict), DryRun: v.DryRun,
		})
	}
	return gates
}

// scaleOf answers the scale subresource: the pods of the versions that carry weight.
func scaleOf(name string, w *world, s v1alpha1.State) (replicas int32, selector string) {
	carrying := []string{}
	if s.Stable != "" && s.Weight < v1alpha1.Whole {
		carrying = append(carrying, s.Stable)
	}
	if s.Weight > 0 {
		carrying = append(carrying, s.Candidate)
	}
	labels := make([]string, 0, len(carrying))
	for _, v := range w.observation.Versions {
		if slices.Contains(carrying, v.Name) {
			replicas += v.Replicas
			labels = append(labels, plan.VersionName(name, v.Name))
		}
	}
	if len(labels) == 0 {
		return 0, ""
	}
	return replicas, fmt.Sprintf("%s in (%s)", v1alpha1.LabelVersion, strings.Join(labels, ","))
}

// longestMessage keeps a condition well within what the API server takes of one: a status that it refuses would stop the shift.
const longestMessage = 4096

// longestVerdict is the same for each of many gates.
const longestVerdict = 1024

func set(status *v1alpha1.TrafficShiftStatus, generation int64, kind string, value metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(&status.Conditions, metav1.Condition{
		Type: kind, Status: value, ObservedGeneration: generation, Reason: reason, Message: clipTo(message, longestMessage),
	})
}

func setAccepted(status *v1alpha1.TrafficShiftStatus, generation int64, w *world, _ shift.Decision) {
	if problems := w.observation.Problems; len(problems) > 0 {
		messages := make([]string, 0, len(problems))
		for _, p := range problems {
			messages = append(messages, p.Message)
		}
		set(status, generation, v1alpha1.ConditionAccepted, metav1.ConditionFalse, problems[0].Reason, strings.Join(messages, "; "))
		return
	}
	if lasting := w.lastingAdvice(); lasting != "" {
		set(status, generation, v1alpha1.ConditionAccepted, metav1.ConditionTrue, v1alpha1.ReasonAcceptedWithAdvice, "nothing stands in the way; but "+lasting+w.secretRemark()+w.policy.note())
		return
	}
	set(status, generation, v1alpha1.ConditionAccepted, metav1.ConditionTrue, v1alpha1.ReasonAccepted, "nothing stands in the way"+w.secretRemark()+w.policy.note())
}

// lastingAdvice is what is true of the template and of the spec for as long as they are what they are. What is only looked up before a
// start is told once, by an event.
func (w *world) lastingAdvice() string {
	var messages []string
	for _, a := range w.advice {
		if a.Reason != v1alpha1.ReasonVersionSelected {
			messages = append(messages, a.Message)
		}
	}
	return strings.Join(messages, "; ")
}

func setRouteVerified(status *v1alpha1.TrafficShiftStatus, generation int64, w *world, d shift.Decision) {
	switch {
	case !shift.Exposed(d.Next) || shift.Previewing(d.Next):
		set(status, generation, v1alpha1.ConditionRouteVerified, metav1.ConditionUnknown, v1alpha1.ReasonAtRest, "no candidate has a weight to verify")
	case d.Next.VerifiedSince != nil && (d.Next.Weight == 0 || len(d.Next.Sessions.Given) > 0):
		set(status, generation, v1alpha1.ConditionRouteVerified, metav1.ConditionTrue, v1alpha1.ReasonVerified, w.counted()+" reach the candidate")
	case d.Next.Weight == 0:
		set(status, generation, v1alpha1.ConditionRouteVerified, metav1.ConditionFalse, v1alpha1.ReasonVerifyingRoute, "no request was seen to reach the candidate yet")
	case d.Next.VerifiedSince != nil && d.Next.Group != "":
		set(status, generation, v1alpha1.ConditionRouteVerified, metav1.ConditionTrue, v1alpha1.ReasonVerified, fmt.Sprintf("the measured share is no less than %s explains", d.Next.Weight))
	case d.Next.VerifiedSince != nil:
		set(status, generation, v1alpha1.ConditionRouteVerified, metav1.ConditionTrue, v1alpha1.ReasonVerified, fmt.Sprintf("the measured share matches %s", d.Next.Weight))
	default:
		set(status, generation, v1alpha1.ConditionRouteVerified, metav1.ConditionFalse, v1alpha1.ReasonVerifyingRoute, fmt.Sprintf("the measured share does not prove %s yet", shift.Share(d.Next)))
	}
}

func setEvidenceAvailable(status *v1alpha1.TrafficShiftStatus, generation int64, w *world, d shift.Decision) {
	e := w.observation.Evidence
	switch {
	case d.Next.Candidate == "" || w.shift.Status.State.Phase != v1alpha1.PhaseProgressing:
		set(status, generation, v1alpha1.ConditionEvidenceAvailable, metav1.ConditionUnknown, v1alpha1.ReasonAtRest, "no candidate is being judged")
	case e.Available && w.connectionsOnly():
		set(status, generation, v1alpha1.ConditionEvidenceAvailable, metav1.ConditionTrue, v1alpha1.ReasonCounting, fmt.Sprintf(
			"counting connections as reporter %s sees them: no port is HTTP, so that one is good if it was made, and what is said in it, or how long it takes, is not seen", e.Sample.Reporter))
	case e.Available:
		set(status, generation, v1alpha1.ConditionEvidenceAvailable, metav1.ConditionTrue, v1alpha1.ReasonCounting,
			fmt.Sprintf("counting requests as reporter %s sees them%s", e.Sample.Reporter, slowness(w.spec.MaxLatency, e.Sample.SlowAbove)))
	default:
		set(status, generation, v1alpha1.ConditionEvidenceAvailable, metav1.ConditionFalse, cmp.Or(e.Reason, v1alpha1.ReasonNoEvidence), e.Missing)
	}
}

// slowness says what counts as slow: response times are known by the bounds of the mesh's histogram alone.
func slowness(limit *v1alpha1.LatencyLimit, bound time.Duration) string {
	switch {
	case limit == nil:
		return ""
	case bound == 0:
		return "; there is no histogram of response times yet, so that none is judged"
	case bound == limit.Below.Duration:
		return fmt.Sprintf("; slow is above %s", bound)
	}
	return fmt.Sprintf("; slow is above %s, the histogram's bound next to %s", bound, limit.Below.Duration)
}

// sayWhy says why the shift is where it is: in a sentence with the numbers, and in conditions. What was decided and could not be written
// is not where it is, so that comes first.
func sayWhy(status *v1alpha1.TrafficShiftStatus, generation int64, w *world, d shift.Decision) {
	status.Message = unwritten(status.RefusedWrite, d.Message)
	setProgressing(status, generation, w, d)
	summarize(status, generation, w, d)
}

func setProgressing(status *v1alpha1.TrafficShiftStatus, generation int64, _ *world, d shift.Decision) {
	value, reason := metav1.ConditionTrue, d.Reason
	if atRest(d.Next) {
		value = metav1.ConditionFalse
	}
	if status.RefusedWrite != nil {
		reason = v1alpha1.ReasonWriteRefused
	}
	set(status, generation, v1alpha1.ConditionProgressing, value, reason, unwritten(status.RefusedWrite, lasting(d)))
}

// lasting is what a condition says: it changes with the reason and the weight, and not with every request counted. The numbers are in
// status.message.
func lasting(d shift.Decision) string {
	switch {
	case d.Next.Phase != v1alpha1.PhaseProgressing || !shift.Exposed(d.Next):
		return d.Message
	case d.Next.Weight == 0:
		return fmt.Sprintf("%s is shown without a weight (%s); status.message says what is waited for", d.Next.Candidate, d.Next.Exposure)
	}
	return fmt.Sprintf("%s has a weight of %s; status.message says what is waited for", d.Next.Candidate, shift.Share(d.Next))
}

func setContested(status *v1alpha1.TrafficShiftStatus, generation int64, w *world, d shift.Decision) {
	if shift.Contested(d.Next) {
		set(status, generation, v1alpha1.ConditionReplicasContested, metav1.ConditionTrue, v1alpha1.ReasonReplicasContested, contestedBy(w))
		return
	}
	meta.RemoveStatusCondition(&status.Conditions, v1alpha1.ConditionReplicasContested)
}

// contestedBy names what is fought over, and with whom.
func contestedBy(w *world) string {
	by := "something"
	if w.scope.Template != nil {
		for _, f := range w.scope.Template.ManagedFields {
			if f.Manager != v1alpha1.FieldManager && apply.SpecFields(f)["replicas"] {
				by = fmt.Sprintf("%q", f.Manager)
			}
		}
	}
	return fmt.Sprintf("Deployment %s/%s is held as a template at 0, and %s keeps scaling it up; scale the TrafficShift %s instead, or take spec.replicas out of what is applied",
		w.shift.Namespace, w.shift.Name, by, w.shift.Name)
}

// summarize is the only place that writes Ready, and kstatus' Reconciling and Stalled.
func summarize(status *v1alpha1.TrafficShiftStatus, generation int64, w *world, d shift.Decision) {
	blocked, refused := len(w.observation.Problems) > 0, status.RefusedWrite != nil
	waits := d.Next.WaitingSince != nil || d.Next.Phase == v1alpha1.PhaseStable && !d.Current // what is asked for is not there yet
	stalled := blocked || d.Next.Phase == v1alpha1.PhaseFailed && !waits
	ready := d.Next.Phase == v1alpha1.PhaseStable && !blocked && !refused && !waits && d.Reason != v1alpha1.ReasonStableUnavailable
	value, reason, message := metav1.ConditionFalse, d.Reason, lasting(d)
	switch {
	case blocked:
		reason, message = w.observation.Problems[0].Reason, w.observation.Problems[0].Message
	case ready:
		value = metav1.ConditionTrue
	}
	if refused {
		reason, message = v1alpha1.ReasonWriteRefused, unwritten(status.RefusedWrite, message)
	}
	flag := func(kind string, on bool) {
		if on {
			set(status, generation, kind, metav1.ConditionTrue, reason, message)
			return
		}
		meta.RemoveStatusCondition(&status.Conditions, kind)
	}
	flag(v1alpha1.ConditionStalled, stalled)
	flag(v1alpha1.ConditionReconciling, !stalled && (waits || refused || !atRest(d.Next)))
	set(status, generation, v1alpha1.ConditionReady, value, reason, message)
}

func atRest(s v1alpha1.State) bool {
	return s.Phase == v1alpha1.PhaseStable || s.Phase == v1alpha1.PhaseFailed || s.Stage == v1alpha1.StageReleased
}
