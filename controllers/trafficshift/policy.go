package trafficshift

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/apply"
	"github.com/sluice-dev/sluice/controllers/policy"
	"github.com/sluice-dev/sluice/controllers/shift"
)

// underPolicy is what a pass has read of the shift's ShiftPolicy.
type underPolicy struct {
	// live is the policy as it is now; nil where there is none that the shift may use, and missing says why.
	live    *v1alpha1.ShiftPolicy
	missing *shift.Problem
	// inForce is what the shift is under, settings are what of it.
	inForce  *v1alpha1.PolicyInForce
	settings settings
	// turn is held from the moment a shift has found that it is its turn until that is written down.
	turn *sync.Mutex
}

// settings are what is kept of a policy in the status of the shifts that are under it.
type settings struct {
	Defaults v1alpha1.ShiftDefaults `json:"defaults,omitzero"`
	Freezes  []v1alpha1.Freeze      `json:"freezes,omitempty"`
}

// readPolicy finds the policy that the shift is under, and puts its settings where the spec has none.
func (r *Reconciler) readPolicy(ctx context.Context, w *world) error {
	p := &w.policy
	var err error
	if p.live, p.missing, err = r.livePolicy(ctx, w); err != nil {
		return err
	}
	if p.inForce, err = inForce(w.shift.Spec.Policy, w.shift.Status.Policy, p.live, positionOf(w.shift.Status.State)); err != nil || p.inForce == nil {
		return err
	}
	if err := json.Unmarshal(p.inForce.Settings.Raw, &p.settings); err != nil {
		return fmt.Errorf("reading status.policy.settings: %w", err)
	}
	p.inForce.Fields = w.spec.Inherit(p.settings.Defaults, originsOf(w.shift))
	return nil
}

// livePolicy reads the policy that a shift names, and whether the shift may use it.
func (r *Reconciler) livePolicy(ctx context.Context, w *world) (*v1alpha1.ShiftPolicy, *shift.Problem, error) {
	name := w.shift.Spec.Policy
	if name == "" {
		return nil, nil, nil
	}
	live := &v1alpha1.ShiftPolicy{}
	if err := r.Client.Get(ctx, client.ObjectKey{Name: name}, live); apierrors.IsNotFound(err) {
		return nil, unusable(v1alpha1.ReasonPolicyNotFound, "there is no ShiftPolicy %q, which spec.policy names; create it, or name another", name), nil
	} else if err != nil {
		return nil, nil, fmt.Errorf("reading ShiftPolicy %s: %w", name, err)
	}
	if errs := policy.Check(&live.Spec, field.NewPath("spec")); len(errs) > 0 {
		return nil, unusable(v1alpha1.ReasonPolicyInvalid, "ShiftPolicy %q cannot be followed: %v", name, errs.ToAggregate()), nil
	}
	if !policy.Grants(&live.Spec, w.namespace.Labels) {
		return nil, unusable(v1alpha1.ReasonPolicyNotGranted, "ShiftPolicy %q is not for namespace %s, whose labels its spec.namespaces does not select (%s); name another policy",
			name, w.shift.Namespace, metav1.FormatLabelSelector(live.Spec.Namespaces)), nil
	}
	return live, nil, nil
}

func unusable(reason, format string, args ...any) *shift.Problem {
	p := problem(reason, format, args...)
	return &p
}

// position is where a candidate stands, as far as a policy cares: with each weight it is read anew.
type position struct {
	candidate string
	weight    v1alpha1.Permille
}

func positionOf(s v1alpha1.State) position {
	if s.Phase != v1alpha1.PhaseProgressing && s.Phase != v1alpha1.PhaseRollingBack {
		return position{}
	}
	return position{s.Candidate, s.Weight}
}

// inForce is the policy that a shift is under at a position: as it was when the candidate came there; or else as it is now; and where it
// cannot be had, as it was last. Nil is none.
func inForce(named string, kept *v1alpha1.PolicyInForce, live *v1alpha1.ShiftPolicy, at position) (*v1alpha1.PolicyInForce, error) {
	if kept != nil && kept.Settings == nil {
		kept = nil
	}
	kept = kept.DeepCopy()
	switch {
	case kept != nil && at.candidate != "" && at == position{kept.Candidate, kept.Weight}:
		return kept, nil
	case live != nil:
		raw, err := canonical(settings{live.Spec.Defaults, live.Spec.Freezes})
		return &v1alpha1.PolicyInForce{Name: live.Name, Generation: live.Generation, Candidate: at.candidate, Weight: at.weight, Settings: raw}, err
	case kept != nil && named != "":
		kept.Candidate, kept.Weight = at.candidate, at.weight
		return kept, nil
	}
	return nil, nil
}

// policyAt is the policy that the shift is under from a decision on.
func (w *world) policyAt(next v1alpha1.State) *v1alpha1.PolicyInForce {
	now := w.policy.inForce
	after, err := inForce(w.shift.Spec.Policy, now, w.policy.live, positionOf(next))
	if err != nil || now == nil || after == nil {
		return now
	}
	after.Fields = now.Fields
	return after
}

// checkPolicy reports a policy that cannot be used. A candidate that is under way goes on under what it was under.
func (w *world) checkPolicy() []shift.Problem {
	p := w.policy
	if p.missing == nil || p.inForce != nil && policy.Moving(w.shift) {
		return nil
	}
	return []shift.Problem{*p.missing}
}

// note says what rules, for the condition Accepted.
func (p underPolicy) note() string {
	if p.inForce == nil {
		return ""
	}
	text := fmt.Sprintf("; ShiftPolicy %s (generation %d) sets %s", p.inForce.Name, p.inForce.Generation, list(p.inForce.Fields))
	if p.missing != nil {
		text += ", as it was last: " + p.missing.Message
	}
	return text
}

// effective is the spec that rules: the shift's own, then the policy's, then the defaults, each filled in, and what cannot be read left
// out. How many pods there are and what people ask is not a setting: the one would be news at every scale, and the other is in
// status.actions.
func (w *world) effective() *apiextensionsv1.JSON {
	rules := w.spec
	rules.Replicas, rules.Actions = nil, nil
	if rules.Drain == nil {
		rules.Drain = &metav1.Duration{Duration: w.observation.Timing.Drain}
	}
	raw, err := canonical(rules)
	if err != nil { // a struct of ours, which was read from JSON
		return nil
	}
	return raw
}

// canonical writes JSON as the API server reads it back, keys in order: what has not changed is not written again.
func canonical(v any) (*apiextensionsv1.JSON, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var plain any
	if err := json.Unmarshal(raw, &plain); err != nil {
		return nil, err
	}
	raw, err = json.Marshal(plain)
	return &apiextensionsv1.JSON{Raw: raw}, err
}

// lastApplied is where kubectl and Argo CD keep what somebody wrote.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// originsOf tells of the fields of a stored spec which of them somebody wrote. A server-side apply owns what was written and nothing else.
// Any other write owns what the schema filled in as well, and says what was written only where it keeps that in an annotation.
func originsOf(ts *v1alpha1.TrafficShift) func(string) v1alpha1.Origin {
	var written struct {
		Spec map[string]json.RawMessage `json:"spec"`
	}
	if text, ok := ts.Annotations[lastApplied]; ok {
		_ = json.Unmarshal([]byte(text), &written) // one that cannot be read names nothing
	}
	return func(name string) v1alpha1.Origin {
		if _, ok := written.Spec[name]; ok {
			return v1alpha1.OriginWritten
		}
		origin := v1alpha1.OriginDefault
		for _, e := range ts.ManagedFields {
			switch {
			case e.Subresource != "" || !apply.SpecFields(e)[name]:
			case e.Operation == metav1.ManagedFieldsOperationApply:
				return v1alpha1.OriginWritten
			case written.Spec == nil || !keepsLastApplied(e):
				origin = v1alpha1.OriginUnknown
			}
		}
		return origin
	}
}

// keepsLastApplied reports whether who wrote an entry's fields wrote down what was asked for.
func keepsLastApplied(e metav1.ManagedFieldsEntry) bool {
	return e.FieldsV1 != nil && strings.Contains(string(e.FieldsV1.GetRawBytes()), `"f:`+lastApplied+`"`)
}

// turn is what the policy says of this moment. Where a candidate could start, and it is its turn, nobody else under the policy finds
// the same until the start is written down.
func (r *Reconciler) turn(ctx context.Context, w *world) (shift.Turn, error) {
	p, name := &w.policy, w.shift.Spec.Policy
	if name == "" {
		return shift.Turn{}, nil
	}
	freezes := p.settings.Freezes
	if p.live != nil {
		freezes = p.live.Spec.Freezes
	}
	frozen := policy.Freezes(freezes, w.observation.Now)
	if policy.Moving(w.shift) {
		return shift.Turn{Hold: frozenBy(name, frozen.Hold, frozen.HoldUntil)}, nil
	}
	if start := frozenBy(name, frozen.Names, frozen.Until); start != nil || p.live == nil || p.live.Spec.MaxConcurrent == nil || !w.wantsToStart() {
		return shift.Turn{Start: start}, nil
	}
	start, err := r.queue(ctx, w)
	return shift.Turn{Start: start}, err
}

func frozenBy(name string, names []string, until time.Time) *shift.Wait {
	if len(names) == 0 {
		return nil
	}
	return &shift.Wait{
		Problem: problem(v1alpha1.ReasonFrozen, "ShiftPolicy %s is frozen (%s) until %s", name, strings.Join(names, ", "), policy.Until(until)), Until: until,
	}
}

// wantsToStart reports whether the template is another version than users are on. One that is paused counts as well, and one that was
// refused and is to be tried again: this very pass may be asked to go on with it.
func (w *world) wantsToStart() bool {
	target := w.observation.Template.Version
	state := w.shift.Status.State
	refused := target != "" && target == state.Rejected && !w.retried()
	return w.scope.Template != nil && len(w.observation.Problems) == 0 && !refused && (target == "" || target != state.Stable)
}

// queue finds whether it is the shift's turn. The cache may say that it is not; that it is, the API server alone can say, and one shift
// at a time is told so.
func (r *Reconciler) queue(ctx context.Context, w *world) (*shift.Wait, error) {
	if wait, err := r.waits(ctx, r.Client, w); wait != nil || err != nil {
		return wait, err
	}
	lock := r.turns.of(w.policy.live.Name)
	lock.Lock()
	wait, err := r.waits(ctx, r.Live, w)
	if wait != nil || err != nil {
		lock.Unlock()
		return wait, err
	}
	w.policy.turn = lock
	return nil, nil
}

func (r *Reconciler) waits(ctx context.Context, from client.Reader, w *world) (*shift.Wait, error) {
	var all v1alpha1.TrafficShiftList
	if err := from.List(ctx, &all); err != nil {
		return nil, fmt.Errorf("listing TrafficShifts: %w", err)
	}
	p := w.policy.live
	said := policy.QueueOf(p.Name, all.Items).Blocks(*p.Spec.MaxConcurrent, types.NamespacedName{Namespace: w.shift.Namespace, Name: w.shift.Name})
	if said == "" {
		return nil, nil
	}
	return &shift.Wait{Problem: problem(v1alpha1.ReasonWaitingForTurn, "it waits for its turn under ShiftPolicy %s, where %s", p.Name, said)}, nil
}

// yieldTurn lets others look for their turn: what this pass has decided is written down, or is not.
func (w *world) yieldTurn() {
	if w.policy.turn != nil {
		w.policy.turn.Unlock()
		w.policy.turn = nil
	}
}

// turns are the locks of policies, by name.
type turns struct {
	mu    sync.Mutex
	locks map[string]*sync.Mutex
}

func (t *turns) of(policy string) *sync.Mutex {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.locks == nil {
		t.locks = map[string]*sync.Mutex{}
	}
	if t.locks[policy] == nil {
		t.locks[policy] = &sync.Mutex{}
	}
	return t.locks[policy]
}

// byPolicy maps a policy to the shifts that name it, or are under it.
func (r *Reconciler) byPolicy(ctx context.Context, o client.Object) []reconcile.Request {
	return r.shiftsWhere(ctx, func(ts *v1alpha1.TrafficShift) bool {
		return ts.Spec.Policy == o.GetName() || policy.Name(ts) == o.GetName()
	})
}

// waitingBehind maps a shift to those that wait for their turn under its policy.
func (r *Reconciler) waitingBehind(ctx context.Context, o client.Object) []reconcile.Request {
	ahead, ok := o.(*v1alpha1.TrafficShift)
	if !ok {
		return nil
	}
	return r.shiftsWhere(ctx, func(ts *v1alpha1.TrafficShift) bool {
		under := ts.Spec.Policy
		return under != "" && policy.Waiting(ts) && (under == ahead.Spec.Policy || ahead.Status.Policy != nil && under == ahead.Status.Policy.Name)
	})
}

func (r *Reconciler) shiftsWhere(ctx context.Context, match func(*v1alpha1.TrafficShift) bool) []reconcile.Request {
	var all v1alpha1.TrafficShiftList
	if err := r.Client.List(ctx, &all); err != nil {
		return nil
	}
	var requests []reconcile.Request
	for i := range all.Items {
		if match(&all.Items[i]) {
			requests = append(requests, request(all.Items[i].Namespace, all.Items[i].Name)...)
		}
	}
	return requests
}

// queueMoves passes what may make it another shift's turn: one that moves no more, or that no more waits, or that counts elsewhere.
func queueMoves() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc:  func(event.CreateEvent) bool { return false },
		GenericFunc: func(event.GenericEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool {
			was, ok1 := e.ObjectOld.(*v1alpha1.TrafficShift)
			is, ok2 := e.ObjectNew.(*v1alpha1.TrafficShift)
			if !ok1 || !ok2 {
				return false
			}
			left := policy.Moving(was) && !policy.Moving(is) || policy.Waiting(was) && !policy.Waiting(is)
			return left || policy.Name(was) != policy.Name(is)
		},
	}
}
