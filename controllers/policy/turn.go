package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// Name is the policy that a shift counts for: the one that its candidate started under, or else the one that it names.
func Name(ts *v1alpha1.TrafficShift) string {
	if p := ts.Status.Policy; p != nil && Moving(ts) {
		return p.Name
	}
	return ts.Spec.Policy
}

// Moving reports whether a shift has a turn: from the start of its candidate until it is promoted or all the way back. One that is
// paused keeps its turn.
func Moving(ts *v1alpha1.TrafficShift) bool {
	phase := ts.Status.State.Phase
	return phase == v1alpha1.PhaseProgressing || phase == v1alpha1.PhaseRollingBack
}

// Waiting reports whether a shift has a new template that waits to start.
func Waiting(ts *v1alpha1.TrafficShift) bool {
	s := ts.Status.State
	return s.WaitingSince != nil && (s.Phase == v1alpha1.PhaseStable || s.Phase == v1alpha1.PhaseFailed) && ts.DeletionTimestamp.IsZero()
}

// Queue are the shifts under one policy that move, and those that wait, the one that has waited longest first.
type Queue struct {
	Total           int
	Moving, Waiting []*v1alpha1.TrafficShift
}

// QueueOf picks the shifts of a policy out of all that there are.
func QueueOf(policy string, shifts []v1alpha1.TrafficShift) Queue {
	var q Queue
	for i := range shifts {
		ts := &shifts[i]
		if Name(ts) != policy {
			continue
		}
		q.Total++
		switch {
		case Moving(ts):
			q.Moving = append(q.Moving, ts)
		case Waiting(ts):
			q.Waiting = append(q.Waiting, ts)
		}
	}
	slices.SortFunc(q.Moving, byName)
	slices.SortFunc(q.Waiting, func(a, b *v1alpha1.TrafficShift) int {
		return cmp.Or(a.Status.State.WaitingSince.Compare(b.Status.State.WaitingSince.Time), byName(a, b))
	})
	return q
}

func byName(a, b *v1alpha1.TrafficShift) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// Blocks says for whom a shift has to wait where at most so many may move; empty where it is its turn.
func (q Queue) Blocks(most int32, me types.NamespacedName) string {
	var moving, ahead []*v1alpha1.TrafficShift
	for _, ts := range q.Moving {
		if key(ts) != me {
			moving = append(moving, ts)
		}
	}
	for _, ts := range q.Waiting {
		if key(ts) == me {
			break
		}
		ahead = append(ahead, ts)
	}
	if len(moving)+len(ahead) < int(most) {
		return ""
	}
	said := fmt.Sprintf("at most %d may move at a time", most)
	if len(moving) > 0 {
		said += "; moving: " + names(moving)
	}
	if len(ahead) > 0 {
		said += "; waiting longer: " + names(ahead)
	}
	return said
}

func key(ts *v1alpha1.TrafficShift) types.NamespacedName {
	return types.NamespacedName{Namespace: ts.Namespace, Name: ts.Name}
}

// names lists the first of some shifts, and says of those that are paused that they are: they keep others waiting for as long.
func names(shifts []*v1alpha1.TrafficShift) string {
	const shown = 3
	var all []string
	for _, ts := range shifts[:min(len(shifts), shown)] {
		name := ts.Namespace + "/" + ts.Name
		if ts.Paused() {
			name += " (paused)"
		}
		all = append(all, name)
	}
	text := strings.Join(all, ", ")
	if more := len(shifts) - shown; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// Until formats a time as messages show it.
func Until(t time.Time) string { return t.UTC().Format(time.RFC3339) }
