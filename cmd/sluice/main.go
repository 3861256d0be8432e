// Command sluice is the controller: it shifts the traffic of annotated Deployments in an Istio mesh. This package is wiring only.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is stamped by the build.
var version = "dev"

func main() {
	if err := run(); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "sluice:", err)
		os.Exit(1)
	}
}

// run ends cleanly on the first signal; a second one kills.
func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return command().ExecuteContext(ctx)
}

// command is the controller itself, with detach beside it for the chart's pre-delete hook.
func command() *cobra.Command {
	o := defaults()
	root := &cobra.Command{
		Use:   "sluice",
		Short: "Shift the traffic of annotated Deployments in an Istio mesh, step by step, on evidence from Prometheus",
		Args:  cobra.NoArgs, Version: version, SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	o.bind(root.Flags())
	root.PersistentFlags().StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig file; empty uses the pod's service account, or $KUBECONFIG")
	root.PersistentFlags().StringVar(&o.logLevel, "log-level", o.logLevel, "least level that is logged: debug, info, warn or error")
	root.AddCommand(detachCommand(o))
	return root
}
