// Package view is what people are shown of a TrafficShift: one model, made of values, for the plugin's screen and for any other.
//
// The package is pure: no client, clock or writer; the present time is part of what it is given.
package view

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// World is what is known of one shift.
type World struct {
	Shift v1alpha1.TrafficShift
	// Pods are the versions' Deployments, as far as they could be read.
	Pods []Pods
	// Records are the versions' records, as far as they could be read.
	Records []Record
	// TemplateGeneration is the annotated Deployment's metadata.generation; 0 where it is not known.
	TemplateGeneration int64
	// Now is when all that was read. Times are shown in its location.
	Now time.Time
}

// Pods are those of one version.
type Pods struct {
	Version       string
	Images        []string
	Ready, Wanted int32
}

// Record is what was kept of a version when it appeared.
type Record struct {
	Version, By, Cause, Verdict string
	Images                      []string
	At                          time.Time
}

// Mood is how urgently somebody should look.
type Mood string

// The moods.
const (
	Well    Mood = "well"
	Moving  Mood = "moving"
	Waiting Mood = "waiting" // for a person
	Trouble Mood = "trouble"
)

// Shift is what is shown of one TrafficShift.
type Shift struct {
	Namespace, Name string
	Mood            Mood
	// Phase is that of the status, and the stage where it has one; Unknown before the controller has looked.
	Phase, Stage string
	Strategy     string
	// Step, Weight and Observed are the candidate's.
	Step, Weight, Observed string
	Stable, Candidate      string
	// Why is the one sentence.
	Why string
	// Until is when what is waited for is over, and Then what comes of it.
	Until *time.Time
	Then  string
	// Notes are what else should be known; Actions are verbs that may be meant next.
	Notes, Actions []string
	Versions       []Version
	Gates          []v1alpha1.GateStatus
	// Awaiting are the manual gates and pauses that wait for a person.
	Awaiting []string
	History  []Release
	Asked    []v1alpha1.ActionRecord
	Created  time.Time
	Now      time.Time
}

// Version is one of the versions that have, or are to have, pods.
type Version struct {
	Name, Role, Weight, Observed, Pods string
	Images                             []string
}

// Release is what became of a version.
type Release struct {
	Version, Outcome, Weight, By, Message string
	Images                                []string
	At                                    time.Time
}

// Of makes the view of a shift.
func Of(w World) Shift {
	ts, status := &w.Shift, &w.Shift.Status
	s := Shift{
		Namespace: ts.Namespace, Name: ts.Name, Mood: moodOf(ts), Phase: cmp.Or(string(status.Phase), "Unknown"), Stage: string(status.State.Stage),
		Strategy: string(cmp.Or(ts.Spec.Strategy, v1alpha1.StrategyCanary)), Step: status.Step, Weight: status.Weight, Observed: status.ObservedWeight,
		Stable: status.Stable, Candidate: status.Candidate, Why: cmp.Or(status.Message, "the controller has not looked at it yet"),
		Awaiting: status.State.Awaiting, Gates: gatesOf(status), Versions: versionsOf(w), History: releasesOf(w), Asked: status.Actions,
		Created: ts.CreationTimestamp.Time, Now: w.Now,
	}
	s.Until, s.Then = untilOf(status, w.Now)
	s.Notes, s.Actions = notesOf(w), actionsOf(ts)
	return s
}

// Reason is why a shift is where it is, in a word.
func Reason(ts *v1alpha1.TrafficShift) string {
	if c := meta.FindStatusCondition(ts.Status.Conditions, v1alpha1.ConditionProgressing); c != nil {
		return c.Reason
	}
	return ""
}

// Waits reports whether a shift stands still until a person does something about it: it is paused or suspended, or waits to be approved.
func Waits(ts *v1alpha1.TrafficShift) bool {
	return slices.Contains([]string{v1alpha1.ReasonPaused, v1alpha1.ReasonWaitingForApproval, v1alpha1.ReasonSuspended}, Reason(ts))
}

func moodOf(ts *v1alpha1.TrafficShift) Mood {
	c := ts.Status.Conditions
	switch {
	case meta.IsStatusConditionFalse(c, v1alpha1.ConditionAccepted), ts.Status.Phase == v1alpha1.PhaseFailed, ts.Status.Phase == v1alpha1.PhaseRollingBack,
		ts.Status.RefusedWrite != nil, meta.IsStatusConditionTrue(c, v1alpha1.ConditionReplicasContested):
		return Trouble
	case Waits(ts), Reason(ts) == v1alpha1.ReasonTemplateNotStable:
		return Waiting
	case meta.IsStatusConditionTrue(c, v1alpha1.ConditionReady):
		return Well
	}
	return Moving
}

// gatesOf are what was asked, and the people who were not heard yet.
func gatesOf(status *v1alpha1.TrafficShiftStatus) []v1alpha1.GateStatus {
	gates := slices.Clone(status.Gates)
	for _, name := range status.State.Awaiting {
		gates = append(gates, v1alpha1.GateStatus{Name: name, Verdict: v1alpha1.VerdictInconclusive, Message: "waits for a person"})
	}
	return gates
}

// untilOf is when the wait is over. What is over already is about to be looked at.
func untilOf(status *v1alpha1.TrafficShiftStatus, now time.Time) (*time.Time, string) {
	if status.Until == nil {
		return nil, ""
	}
	until := status.Until.In(now.Location())
	progressing := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionProgressing)
	if progressing == nil {
		return &until, ""
	}
	switch progressing.Reason {
	case v1alpha1.ReasonWaitingForPods, v1alpha1.ReasonCandidateCapacity:
		return &until, "then it is given up"
	case v1alpha1.ReasonWaitingForApproval:
		return &until, "then the pause is over"
	}
	return &until, ""
}

func notesOf(w World) []string {
	ts, status := &w.Shift, &w.Shift.Status
	var notes []string
	add := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	if w.TemplateGeneration > status.ObservedTemplateGeneration {
		add("the Deployment has been changed (generation %d), and the controller has not looked at that yet", w.TemplateGeneration)
	}
	if status.Phase != "" && ts.Generation > status.ObservedGeneration {
		add("the spec has been changed (generation %d), and the controller has not looked at that yet", ts.Generation)
	}
	if c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionAccepted); c != nil && !strings.Contains(status.Message, c.Message) &&
		(c.Status == metav1.ConditionFalse || c.Reason == v1alpha1.ReasonAcceptedWithAdvice) {
		add("%s: %s", c.Reason, c.Message)
	}
	if c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionEvidenceAvailable); c != nil && c.Status == metav1.ConditionFalse && !strings.Contains(status.Message, c.Message) {
		add("%s: %s", c.Reason, c.Message)
	}
	if c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReplicasContested); c != nil && c.Status == metav1.ConditionTrue && c.Message != status.Message {
		add("%s: %s", c.Reason, c.Message)
	}
	if ts.Paused() && Reason(ts) != v1alpha1.ReasonPaused {
		add("paused: whatever is to come waits")
	}
	if o := status.State.Order; o != nil {
		add("%s has ordered it on (%s)", o.By, o.To)
	}
	if status.Policy != nil {
		add("under ShiftPolicy %s", status.Policy.Name)
	}
	return notes
}

// actionsOf are what a person may do where the shift waits for one.
func actionsOf(ts *v1alpha1.TrafficShift) []string {
	status := &ts.Status
	switch {
	case Reason(ts) == v1alpha1.ReasonWaitingForApproval:
		return []string{"approve", "abort"}
	case Reason(ts) == v1alpha1.ReasonPaused && ts.Paused() && status.Candidate != "":
		return []string{"resume", "promote", "abort"}
	case ts.Paused():
		return []string{"resume"}
	case status.Phase == v1alpha1.PhaseFailed && status.State.Undo == nil:
		return []string{"retry", "undo"}
	case Reason(ts) == v1alpha1.ReasonTemplateNotStable:
		return []string{"undo --to " + status.Stable}
	}
	return nil
}

// versionsOf are the stable version, the candidate, and those on their way out or kept to be looked at.
func versionsOf(w World) []Version {
	status := &w.Shift.Status
	state := status.State
	var versions []Version
	add := func(name, role string, weight v1alpha1.Permille, seen int64) {
		v := Version{Name: name, Role: role, Weight: weight.String()}
		if total := state.Share.Total; total > 0 && status.Candidate != "" {
			v.Observed = fmt.Sprintf("%.1f%%", 100*float64(seen)/float64(total))
		}
		if i := slices.IndexFunc(w.Pods, func(p Pods) bool { return p.Version == name }); i >= 0 {
			v.Pods, v.Images = fmt.Sprintf("%d/%d", w.Pods[i].Ready, w.Pods[i].Wanted), w.Pods[i].Images
		}
		versions = append(versions, v)
	}
	if status.Stable != "" {
		add(status.Stable, "stable", v1alpha1.Whole-state.Weight, state.Share.Total-state.Share.Candidate)
	}
	if status.Candidate != "" {
		add(status.Candidate, "candidate", state.Weight, state.Share.Candidate)
	}
	for _, r := range state.Retiring {
		if r.Version != status.Candidate {
			role := "leaving"
			if r.KeptSince != nil {
				role = "kept"
			}
			add(r.Version, role, 0, 0)
			versions[len(versions)-1].Observed = ""
		}
	}
	return versions
}

// releasesOf are what became of the releases, newest first, and after them what else is recorded.
func releasesOf(w World) []Release {
	records := map[string]Record{}
	for _, r := range w.Records {
		records[r.Version] = r
	}
	var releases []Release
	told := map[string]bool{}
	for _, o := range w.Shift.Status.History {
		r := Release{Version: o.Version, Outcome: o.Reason, Weight: o.Weight, Message: o.Message, By: records[o.Version].By, Images: records[o.Version].Images}
		if o.SkippedGatesBy != "" {
			r.Message += fmt.Sprintf(" (gates skipped by %s)", o.SkippedGatesBy)
		}
		if o.EndedAt != nil {
			r.At = o.EndedAt.In(w.Now.Location())
		}
		told[o.Version] = true
		releases = append(releases, r)
	}
	rest := slices.DeleteFunc(slices.Clone(w.Records), func(r Record) bool { return told[r.Version] || r.Version == w.Shift.Status.Candidate })
	slices.SortFunc(rest, func(a, b Record) int { return cmp.Or(b.At.Compare(a.At), cmp.Compare(b.Version, a.Version)) })
	for _, r := range rest {
		releases = append(releases, Release{Version: r.Version, Outcome: r.Verdict, By: r.By, Message: r.Cause, Images: r.Images, At: r.At.In(w.Now.Location())})
	}
	return releases
}
