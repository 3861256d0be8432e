package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// detachOptions are how a service is handed back.
type detachOptions struct {
	askOptions
	force, cancel bool
}

func (p *plugin) detachCommand() *cobra.Command {
	o := &detachOptions{}
	cmd := &cobra.Command{
		Use: "detach NAME", Short: "Hand the service back to its Deployment",
		Long: "Hand the service back to its Deployment, and wait until that is done: the Deployment's own pods come up first, then the routes let go, then the versions go.\n" +
			"Where the template is not the version that users are on, it waits until it is (undo), because handing back would release it ungated; --force does so all the same.\n\n" +
			"It writes the annotation " + v1alpha1.AnnotationDetach + " on the TrafficShift, which stays. It exits with 0 when the service is handed back, and 3 if that takes longer than --timeout.",
		Example: example(
			"detach micro-api", "hand it back, and wait",
			"detach micro-api --cancel", "do not, or take it over again"),
		Args: cobra.ExactArgs(1), ValidArgsFunction: p.names(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			c, namespace, err := p.connect()
			if err != nil {
				return err
			}
			return p.detach(cmd.Context(), c, keyOf(namespace, names[0]), o)
		},
	}
	f := cmd.Flags()
	addWrite(cmd, &o.askOptions)
	f.DurationVar(&o.timeout, "timeout", 10*time.Minute, "how long to wait")
	f.BoolVar(&o.force, "force", false, "although the template is not the stable version's: its pods start ungated; asks back, or takes --yes")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask back")
	f.BoolVar(&o.cancel, "cancel", false, "take the annotation away: the service stays, or is taken over again")
	cmd.MarkFlagsMutuallyExclusive("cancel", "force")
	return cmd
}

func (p *plugin) detach(ctx context.Context, c client.WithWatch, key client.ObjectKey, o *detachOptions) error {
	ts, err := read(ctx, c, key)
	if err != nil {
		return err
	}
	annotations := map[string]string{v1alpha1.AnnotationDetach: "true", v1alpha1.AnnotationForce: ""} // a --force of before was for the template of then
	switch {
	case o.cancel:
		annotations[v1alpha1.AnnotationDetach] = ""
	case o.force:
		annotations[v1alpha1.AnnotationForce] = "true"
		if !o.yes && o.dryRun == "none" {
			if err := p.asksFor(key.Name, fmt.Sprintf("%s is handed back with the template that its Deployment has, whatever that is: its pods start ungated.", key)); err != nil {
				return err
			}
		}
	}
	if kept, err := p.annotate(ctx, c, ts, annotations, o.dryRun); err != nil || !kept || o.noWait || o.cancel {
		return err
	}
	return p.handedBack(ctx, c, key, o.timeout)
}

// handedBack waits until a service is its Deployment's own again, and tells what is waited for.
func (p *plugin) handedBack(ctx context.Context, c client.WithWatch, key client.ObjectKey, timeout time.Duration) error {
	ctx, cancel := within(ctx, timeout)
	defer cancel()
	told := ""
	err := one(c, key, func(ts *v1alpha1.TrafficShift) (bool, error) {
		if ts == nil || ts.Status.State.Stage == v1alpha1.StageReleased {
			p.say("%s is handed back", key.Name)
			return true, nil
		}
		if detaching := ts.Status.Phase == v1alpha1.PhaseDetaching || ts.Status.Phase == v1alpha1.PhaseRollingBack; detaching && ts.Status.Message != told {
			told = ts.Status.Message
			p.say("%s: %s", key.Name, told)
		}
		return false, nil
	}).run(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return failed(exitTimeout, "%s is not handed back after %s: %s", key.Name, timeout, told)
	}
	return err
}
