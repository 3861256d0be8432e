package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/cmd/internal/view"
)

// command is how the plugin is called, and fieldManager how its requests are known in status.actions.
const (
	command      = "kubectl sluice"
	fieldManager = "kubectl-sluice"
)

// plugin is one call.
type plugin struct {
	streams genericiooptions.IOStreams
	flags   *genericclioptions.ConfigFlags
	// connect reaches the cluster, and says which namespace is meant.
	connect func() (client.WithWatch, string, error)
	// colour and terminal are of the output; asksBack is whether somebody sits there who can answer a question.
	colour, terminal, asksBack bool
	noColour                   bool
}

func newPlugin(streams genericiooptions.IOStreams) *plugin {
	p := &plugin{streams: streams, flags: genericclioptions.NewConfigFlags(true)}
	p.connect = p.cluster
	return p
}

func scheme() *runtime.Scheme {
	s := runtime.NewScheme()
	_ = v1alpha1.AddToScheme(s) // neither ever fails
	_ = appsv1.AddToScheme(s)
	return s
}

// cluster is the one that the flags and the kubeconfig name.
func (p *plugin) cluster() (client.WithWatch, string, error) {
	namespace, _, err := p.flags.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return nil, "", err
	}
	config, err := p.flags.ToRESTConfig()
	if err != nil {
		return nil, "", err
	}
	config.UserAgent = "kubectl-sluice/" + version
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme()})
	if err != nil {
		return nil, "", fmt.Errorf("reaching the cluster at %s: %w", config.Host, err)
	}
	return c, namespace, nil
}

// usual are the flags that every help text shows; the others are kubectl's own, and work without being listed.
var usual = []string{"namespace", "context", "kubeconfig", "no-color"}

func (p *plugin) command() *cobra.Command {
	root := &cobra.Command{
		Use:         "kubectl-sluice",
		Annotations: map[string]string{cobra.CommandDisplayNameAnnotation: command},
		Short:       "Look at gated releases, wait for them, and steer them",
		Long: "Look at gated releases, wait for them, and steer them.\n\n" +
			"NAME is a TrafficShift, which has the name of its Deployment. All flags of kubectl that say which cluster, user and namespace are meant work here, too.",
		Example: example(
			"get micro-api --watch", "where it stands, and why",
			"wait micro-api --timeout 30m", "until users are on what the Deployment says; non-zero if that was refused",
			"pause micro-api", "keep the weight where it is"),
		SilenceUsage: true, SilenceErrors: true,
		PersistentPreRun: func(*cobra.Command, []string) { p.colour = p.colour && !p.noColour },
	}
	p.flags.AddFlags(root.PersistentFlags())
	root.PersistentFlags().BoolVar(&p.noColour, "no-color", false, "no colours, not even on a terminal (as with NO_COLOR set)")
	root.PersistentFlags().VisitAll(func(f *pflag.Flag) { f.Hidden = !slices.Contains(usual, f.Name) })
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetIn(p.streams.In)
	root.SetOut(p.streams.Out)
	root.SetErr(p.streams.ErrOut)
	root.AddCommand(p.getCommand(), p.historyCommand(), p.waitCommand(), p.detachCommand(), p.completionCommand(), p.versionCommand())
	for _, v := range verbs {
		root.AddCommand(p.askCommand(v))
	}
	return root
}

// example writes pairs of what is typed and what it does.
func example(pairs ...string) string {
	var lines []string
	for i := 0; i+1 < len(pairs); i += 2 {
		lines = append(lines, fmt.Sprintf("  # %s\n  %s %s", pairs[i+1], command, pairs[i]))
	}
	return strings.Join(lines, "\n\n")
}

func (p *plugin) style() view.Style { return view.Style{Colour: p.colour, Command: command} }

func (p *plugin) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version of the plugin", Args: cobra.NoArgs, Example: example("version", "the version of the plugin"),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(p.streams.Out, version)
			return err
		},
	}
}

// shells have a generator of completions each.
var shells = map[string]func(*cobra.Command, io.Writer) error{
	"bash":       func(c *cobra.Command, w io.Writer) error { return c.GenBashCompletionV2(w, true) },
	"zsh":        func(c *cobra.Command, w io.Writer) error { return c.GenZshCompletion(w) },
	"fish":       func(c *cobra.Command, w io.Writer) error { return c.GenFishCompletion(w, true) },
	"powershell": func(c *cobra.Command, w io.Writer) error { return c.GenPowerShellCompletionWithDesc(w) },
	// kubectl runs an executable kubectl_complete-PLUGIN to complete what follows the plugin's name.
	"kubectl": func(_ *cobra.Command, w io.Writer) error {
		_, err := io.WriteString(w, "#!/bin/sh\nexec kubectl-sluice __complete \"$@\"\n")
		return err
	},
}

func (p *plugin) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "completion bash|zsh|fish|powershell|kubectl", Short: "Print a script that completes commands and names",
		Long: "Print a script that completes commands, flags and the names of shifts.\n\n" +
			"With kubectl it is what kubectl's own completion asks: an executable kubectl_complete-sluice on the PATH. With a shell it completes kubectl-sluice.",
		Example: example(
			"completion kubectl > /usr/local/bin/kubectl_complete-sluice && chmod +x /usr/local/bin/kubectl_complete-sluice", "complete \"kubectl sluice\" wherever kubectl is completed",
			"completion bash > /etc/bash_completion.d/kubectl-sluice", "complete \"kubectl-sluice\" in bash"),
		Args: cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs), ValidArgs: []string{"bash", "zsh", "fish", "powershell", "kubectl"},
		RunE: func(cmd *cobra.Command, args []string) error { return shells[args[0]](cmd.Root(), p.streams.Out) },
	}
}

// completionTime is how long a shell may be kept waiting for names.
const completionTime = 3 * time.Second

// names completes the names of shifts, up to so many; 0 is any number.
func (p *plugin) names(most int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if most > 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		c, namespace, err := p.connect()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
		defer cancel()
		var list v1alpha1.TrafficShiftList
		if err := c.List(ctx, &list, client.InNamespace(namespace)); err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var found []cobra.Completion
		for _, ts := range list.Items {
			if !slices.Contains(args, ts.Name) {
				found = append(found, cobra.CompletionWithDesc(ts.Name, view.Clean(string(ts.Status.Phase))))
			}
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}
