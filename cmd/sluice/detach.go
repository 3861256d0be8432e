package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// detachCommand asks the running controller to hand services back, and waits until it has. The chart runs it before it is removed.
func detachCommand(o *options) *cobra.Command {
	var all bool
	var namespace string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "detach [NAME...]",
		Short: "Hand services back to their Deployments, and wait until that is done",
		Long: "Hand services back to their Deployments: the Deployment's own pods come up first, then the routes let go, then the versions go.\n" +
			"The running controller does it; this command asks for it and waits. A service whose template is not the version that users\n" +
			"are on is not handed back, because that would release it ungated: put the template back, or annotate the TrafficShift with\n" +
			v1alpha1.AnnotationForce + "=true.",
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, names []string) error {
			if all == (len(names) > 0) {
				return errors.New("name the TrafficShifts to hand back, or give --all")
			}
			if namespace == "" && !all {
				return errors.New("--namespace is missing: say where the TrafficShifts are")
			}
			config, err := restConfig(o.kubeconfig)
			if err != nil {
				return err
			}
			c, err := client.New(config, client.Options{Scheme: scheme()})
			if err != nil {
				return fmt.Errorf("reaching the cluster at %s: %w", config.Host, err)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			return detach(ctx, c, cmd.OutOrStdout(), namespace, names)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "every TrafficShift, of the namespace if one is given and else of the cluster")
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "namespace of the TrafficShifts")
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Minute, "how long to wait")
	return cmd
}

// detach marks the shifts and waits for the controller to release each. No names means all.
func detach(ctx context.Context, c client.Client, out io.Writer, namespace string, names []string) error {
	shifts, err := chosen(ctx, c, namespace, names)
	if err != nil {
		return err
	}
	for i := range shifts {
		was := shifts[i].DeepCopy()
		if shifts[i].Annotations == nil {
			shifts[i].Annotations = map[string]string{}
		}
		shifts[i].Annotations[v1alpha1.AnnotationDetach] = "true"
		if err := c.Patch(ctx, &shifts[i], client.MergeFrom(was)); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("marking TrafficShift %s/%s: %w", was.Namespace, was.Name, err)
		}
	}
	waiting := map[client.ObjectKey]string{}
	err = wait.PollUntilContextCancel(ctx, time.Second, true, func(ctx context.Context) (bool, error) {
		return released(ctx, c, out, shifts, waiting)
	})
	if err != nil && len(waiting) > 0 {
		return fmt.Errorf("not handed back: %s", describe(waiting))
	}
	return err
}

// chosen reads the TrafficShifts that are meant. A cluster without the CRD has none.
func chosen(ctx context.Context, c client.Client, namespace string, names []string) ([]v1alpha1.TrafficShift, error) {
	if len(names) == 0 {
		var list v1alpha1.TrafficShiftList
		if err := c.List(ctx, &list, client.InNamespace(namespace)); err != nil && !meta.IsNoMatchError(err) {
			return nil, fmt.Errorf("listing TrafficShifts: %w", err)
		}
		return list.Items, nil
	}
	shifts := make([]v1alpha1.TrafficShift, len(names))
	for i, name := range names {
		if err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &shifts[i]); err != nil {
			return nil, fmt.Errorf("TrafficShift %s/%s: %w", namespace, name, err)
		}
	}
	return shifts, nil
}

// released looks once at every shift, tells what is new, and keeps why the others wait.
func released(ctx context.Context, c client.Client, out io.Writer, shifts []v1alpha1.TrafficShift, waiting map[client.ObjectKey]string) (bool, error) {
	for i := range shifts {
		key := client.ObjectKeyFromObject(&shifts[i])
		ts := &v1alpha1.TrafficShift{}
		err := c.Get(ctx, key, ts)
		if err != nil && !apierrors.IsNotFound(err) {
			return false, nil // asked again until the time is up
		}
		if err != nil || ts.Status.State.Stage == v1alpha1.StageReleased {
			if _, was := waiting[key]; was {
				_, _ = fmt.Fprintf(out, "%s: handed back\n", key)
			}
			delete(waiting, key)
			continue
		}
		why := cmp.Or(ts.Status.Message, "waiting for the controller")
		if waiting[key] != why {
			_, _ = fmt.Fprintf(out, "%s: %s\n", key, why)
		}
		waiting[key] = why
	}
	return len(waiting) == 0, nil
}

func describe(waiting map[client.ObjectKey]string) string {
	left := make([]string, 0, len(waiting))
	for key, why := range waiting {
		left = append(left, fmt.Sprintf("%s (%s)", key, why))
	}
	slices.Sort(left)
	return strings.Join(left, "; ")
}
