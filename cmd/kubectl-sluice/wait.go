package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/cmd/internal/view"
)

// goal is what is waited for.
type goal string

// The goals.
const (
	promoted goal = "promoted"
	stable   goal = "stable"
	paused   goal = "paused"
	rejected goal = "rejected"
)

var goals = []goal{promoted, stable, paused, rejected}

func (p *plugin) waitCommand() *cobra.Command {
	var want string
	var timeout time.Duration
	var quiet bool
	cmd := &cobra.Command{
		Use: "wait NAME", Aliases: []string{"status"}, Short: "Wait for the end of a release, good or bad",
		Long: "Wait for the end of the release of the Deployment's template as it is now, good or bad. What the status says of an earlier template does not count.\n\n" +
			"  --for=promoted   the release is promoted, or there is none: users are on that template already\n" +
			"  --for=stable     users are on what the template says, by whatever way: put back in the middle of the release, too\n" +
			"  --for=paused     the release stands still for a person: paused, or at a manual gate\n" +
			"  --for=rejected   the release is refused, and taken back\n\n" +
			"It exits with 0 if that is so, 2 if the release ends otherwise, 3 if time is up, 4 if time is up and a person is waited for, 5 if something\n" +
			"stands in the way that somebody has to mend, and 1 for every other error.",
		Example: example(
			"wait micro-api --timeout 30m", "after kubectl set image: until users are on it; non-zero if it was refused",
			"wait micro-api --for=paused", "until a person is asked"),
		Args: cobra.ExactArgs(1), ValidArgsFunction: p.names(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			if !slices.Contains(goals, goal(want)) {
				return fmt.Errorf("--for=%q is not accepted: write promoted, stable, paused or rejected", want)
			}
			c, namespace, err := p.connect()
			if err != nil {
				return err
			}
			return p.wait(cmd.Context(), c, keyOf(namespace, names[0]), goal(want), timeout, quiet)
		},
	}
	cmd.Flags().StringVar(&want, "for", string(promoted), "promoted, stable, paused or rejected")
	cmd.Flags().DurationVar(&timeout, "timeout", time.Hour, "how long to wait; 0 is for ever")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "tell the end alone")
	_ = cmd.RegisterFlagCompletionFunc("for", cobra.FixedCompletions([]cobra.Completion{"promoted", "stable", "paused", "rejected"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// within is a context that ends when the time is up; no time is for ever.
func within(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeout)
}

func (p *plugin) wait(ctx context.Context, c client.WithWatch, key client.ObjectKey, want goal, timeout time.Duration, quiet bool) error {
	ctx, cancel := within(ctx, timeout)
	defer cancel()
	r, err := releaseOf(ctx, c, key, want)
	if err != nil {
		return err
	}
	last, told := (*v1alpha1.TrafficShift)(nil), ""
	err = one(c, key, func(ts *v1alpha1.TrafficShift) (bool, error) {
		if ts == nil && last == nil && !r.expected {
			return true, unknown(ctx, c, key)
		}
		if ts == nil {
			return r.missing(key, last)
		}
		last = ts
		if line, mark := r.progress(ts); mark != told && !quiet {
			told = mark
			p.say("%s", line)
		}
		message, err := r.look(ts)
		if message != "" {
			p.say("%s: %s", key.Name, message)
		}
		return message != "", err
	}).run(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return r.late(key, last, timeout)
	}
	return err
}

// release is the one that is waited for.
type release struct {
	want goal
	// generation and uid are the Deployment's: a status that speaks of an earlier one says nothing of this release.
	generation int64
	uid        string
	// expected is whether the Deployment asks for a TrafficShift, so that one that is not there is on its way.
	expected bool
	// candidate is the version that was seen to be released.
	candidate string
}

// releaseOf reads which template is meant, before anything else: what comes after is of that or of a later one.
func releaseOf(ctx context.Context, c client.Client, key client.ObjectKey, want goal) (*release, error) {
	d := &appsv1.Deployment{}
	switch err := c.Get(ctx, key, d); {
	case apierrors.IsForbidden(err):
		return nil, fmt.Errorf("reading which template is to be waited for needs \"get\" of deployments.apps in namespace %s: %w", key.Namespace, err)
	case err != nil && !apierrors.IsNotFound(err):
		return nil, fmt.Errorf("reading which template is to be waited for: %w", err)
	}
	return &release{want: want, generation: d.Generation, uid: string(d.UID), expected: d.Annotations[v1alpha1.AnnotationStrategy] != ""}, nil
}

// known reports whether a status speaks of the release, or of a later one.
func (r *release) known(ts *v1alpha1.TrafficShift) bool {
	s := ts.Status
	return s.ObservedTemplateGeneration >= r.generation && s.ObservedGeneration >= ts.Generation && (r.uid == "" || s.State.TemplateUID == "" || s.State.TemplateUID == r.uid)
}

// missing is what it means that the TrafficShift is not there.
func (r *release) missing(key client.ObjectKey, last *v1alpha1.TrafficShift) (bool, error) {
	if last == nil {
		return false, nil
	}
	return true, failed(exitEnded, "TrafficShift %s is gone", key)
}

// look says what has been reached, if anything; the error is an end of another kind.
func (r *release) look(ts *v1alpha1.TrafficShift) (reached string, err error) {
	status := ts.Status
	if !r.known(ts) {
		return "", nil
	}
	if r.candidate == "" && released(ts) {
		r.candidate = status.Candidate
	}
	if r.candidate != "" && status.Candidate != r.candidate && r.want != stable {
		if o := outcomeOf(status.History, r.candidate); o != nil {
			return r.ended(ts, o)
		}
	}
	return r.stands(ts)
}

// released reports whether the candidate is what the template asks for. One on its way back may be of the template before, and so may one of a
// shift that is suspended.
func released(ts *v1alpha1.TrafficShift) bool {
	return ts.Status.Phase != v1alpha1.PhaseRollingBack && view.Reason(ts) != v1alpha1.ReasonSuspended
}

// stands is what it means where a shift stands.
func (r *release) stands(ts *v1alpha1.TrafficShift) (string, error) {
	status := ts.Status
	switch {
	case status.Phase == v1alpha1.PhaseDetaching:
		return "", failed(exitEnded, "%s is being handed back to its Deployment: %s", ts.Name, status.Message)
	case status.State.Undo != nil && (r.want != paused || !view.Waits(ts)):
		return "", nil // another template is on its way into the Deployment: where users are now is not what is waited for
	case meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionReady) && status.State.Undo == nil:
		if r.want == promoted || r.want == stable {
			return fmt.Sprintf("users are on %s: %s", status.Stable, status.Message), nil
		}
		return "", failed(exitEnded, "%s is not %s: users are on %s, and nothing is being released", ts.Name, r.want, status.Stable)
	case r.want == paused && view.Waits(ts):
		return status.Message, nil
	case status.Phase == v1alpha1.PhaseFailed && meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionStalled):
		if r.want == rejected {
			return status.Message, nil
		}
		return "", failed(exitEnded, "%s: %s", ts.Name, status.Message)
	case meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionStalled) && status.State.Weight == 0:
		return "", failed(exitBlocked, "%s: %s", ts.Name, blockedBy(ts))
	}
	return "", nil
}

// ended is what it means how the release has ended.
func (r *release) ended(ts *v1alpha1.TrafficShift, o *v1alpha1.Outcome) (string, error) {
	was := fmt.Sprintf("%s was promoted: %s", o.Version, o.Message)
	if o.Reason != v1alpha1.ReasonPromoted {
		was = fmt.Sprintf("%s was not promoted (%s): %s", o.Version, o.Reason, o.Message)
	}
	refused := ts.Status.Rejected == o.Version
	if o.Reason == v1alpha1.ReasonPromoted && r.want == promoted || refused && r.want == rejected {
		return was, nil
	}
	return "", failed(exitEnded, "%s: %s", ts.Name, was)
}

// outcomeOf is the newest entry of a version.
func outcomeOf(history []v1alpha1.Outcome, version string) *v1alpha1.Outcome {
	if i := slices.IndexFunc(history, func(o v1alpha1.Outcome) bool { return o.Version == version }); i >= 0 {
		return &history[i]
	}
	return nil
}

// blockedBy is what stands in the way.
func blockedBy(ts *v1alpha1.TrafficShift) string {
	if c := meta.FindStatusCondition(ts.Status.Conditions, v1alpha1.ConditionStalled); c != nil {
		return fmt.Sprintf("%s: %s", c.Reason, cmp.Or(c.Message, ts.Status.Message))
	}
	return ts.Status.Message
}

// progress is a line for where the release stands, and a mark that changes when it is worth another.
func (r *release) progress(ts *v1alpha1.TrafficShift) (line, mark string) {
	s := ts.Status
	if !r.known(ts) {
		return ts.Name + ": the controller has not looked at the Deployment as it is now yet", "unknown"
	}
	where := []string{string(s.Phase)}
	if s.Candidate != "" {
		where = append(where, s.Candidate+" at "+s.Weight)
	}
	if s.Step != "" {
		where = append(where, "step "+s.Step)
	}
	text := strings.Join(where, ", ")
	return fmt.Sprintf("%s: %s: %s", ts.Name, text, s.Message), text + view.Reason(ts)
}

// late is what it means that time is up.
func (r *release) late(key client.ObjectKey, last *v1alpha1.TrafficShift, timeout time.Duration) error {
	switch {
	case last == nil:
		return failed(exitTimeout, "there is no TrafficShift %s after %s: is the controller running?", key, timeout)
	case !r.known(last):
		return failed(exitTimeout, "the controller has not looked at %s as it is now within %s: is it running?", key, timeout)
	case view.Waits(last):
		return failed(exitPaused, "%s is not %s after %s, and waits for a person: %s", key.Name, r.want, timeout, last.Status.Message)
	}
	return failed(exitTimeout, "%s is not %s after %s: %s", key.Name, r.want, timeout, last.Status.Message)
}
