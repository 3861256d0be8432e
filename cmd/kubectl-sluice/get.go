package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/cmd/internal/view"
)

// getOptions are how shifts are shown.
type getOptions struct {
	all, watch, noHeaders bool
	selector              string
	print                 *genericclioptions.PrintFlags
}

func (p *plugin) getCommand() *cobra.Command {
	o := &getOptions{print: genericclioptions.NewPrintFlags("").WithTypeSetter(scheme())}
	cmd := &cobra.Command{
		Use: "get [NAME...]", Aliases: []string{"list", "ls"}, Short: "Show where shifts stand, and why",
		Long: "Show where shifts stand, and why. With a name, all that is to be known on one screen: phase, step, weight and measured share, the versions with their images and\n" +
			"pods, each gate with its value and limit, what is waited for and until when, and the last releases. Without one, a line for each shift.",
		Example: example(
			"get micro-api", "one shift, on one screen",
			"get micro-api --watch", "the same, drawn again with every change",
			"get --all-namespaces", "a line for each shift of the cluster",
			"get micro-api -o jsonpath={.status.message}", "why it is where it is, for a script"),
		ValidArgsFunction: p.names(0),
		RunE:              func(cmd *cobra.Command, names []string) error { return p.get(cmd.Context(), o, names) },
	}
	f := cmd.Flags()
	f.BoolVarP(&o.all, "all-namespaces", "A", false, "those of every namespace")
	f.BoolVarP(&o.watch, "watch", "w", false, "draw again with every change, until Ctrl-C")
	f.BoolVar(&o.noHeaders, "no-headers", false, "leave out the headers of the table")
	f.StringVarP(&o.selector, "selector", "l", "", "those whose labels match, such as tier=web")
	o.print.AddFlags(cmd)
	return cmd
}

func (p *plugin) get(ctx context.Context, o *getOptions, names []string) error {
	switch {
	case len(names) > 0 && (o.all || o.selector != ""):
		return errors.New("a name excludes --all-namespaces and --selector")
	case o.watch && len(names) > 1:
		return errors.New("--watch takes one name, or none")
	case o.watch && *o.print.OutputFormat != "":
		return fmt.Errorf("--watch draws a screen: for objects, kubectl get tshift --watch -o %s", *o.print.OutputFormat)
	}
	c, namespace, err := p.connect()
	if err != nil {
		return err
	}
	var options []client.ListOption
	if !o.all {
		options = append(options, client.InNamespace(namespace))
	}
	if o.selector != "" {
		selector, err := labels.Parse(o.selector)
		if err != nil {
			return err
		}
		options = append(options, client.MatchingLabelsSelector{Selector: selector})
	}
	switch {
	case o.watch && len(names) == 1:
		return p.watchOne(ctx, c, keyOf(namespace, names[0]))
	case o.watch:
		f := &following{client: c, options: options, see: func(all []v1alpha1.TrafficShift) (bool, error) {
			p.draw(p.table(o, all))
			return false, nil
		}}
		return p.keepDrawing(ctx, f)
	case len(names) == 0:
		return p.getAll(ctx, c, o, options)
	}
	return p.getNamed(ctx, c, o, namespace, names)
}

func (p *plugin) getNamed(ctx context.Context, c client.Client, o *getOptions, namespace string, names []string) error {
	for i, name := range names {
		ts, err := read(ctx, c, keyOf(namespace, name))
		if err != nil {
			return err
		}
		if *o.print.OutputFormat != "" {
			if err := p.object(o, ts); err != nil {
				return err
			}
			continue
		}
		if i > 0 {
			p.say("")
		}
		p.write(p.screen(around(ctx, c, ts)))
	}
	return nil
}

func (p *plugin) getAll(ctx context.Context, c client.Client, o *getOptions, options []client.ListOption) error {
	var list v1alpha1.TrafficShiftList
	if err := c.List(ctx, &list, options...); err != nil {
		return explained(err)
	}
	if *o.print.OutputFormat != "" {
		return p.objects(o, &list)
	}
	if len(list.Items) == 0 {
		_, err := fmt.Fprintf(p.streams.ErrOut, "There are no TrafficShifts here. kubectl annotate deployment/NAME %s=canary makes one of a Deployment.\n", v1alpha1.AnnotationStrategy)
		return err
	}
	p.write(p.table(o, list.Items))
	return nil
}

// objects prints what the API server has of all. A list has no name: those of its items are printed.
func (p *plugin) objects(o *getOptions, list *v1alpha1.TrafficShiftList) error {
	for i := range list.Items {
		list.Items[i].SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("TrafficShift")) // a typed client leaves it out
	}
	if *o.print.OutputFormat != "name" {
		return p.object(o, list)
	}
	for i := range list.Items {
		if err := p.object(o, &list.Items[i]); err != nil {
			return err
		}
	}
	return nil
}

// object prints what the API server has.
func (p *plugin) object(o *getOptions, object runtime.Object) error {
	printer, err := o.print.ToPrinter()
	if err != nil {
		return err
	}
	return printer.PrintObj(object, p.streams.Out)
}

func (p *plugin) screen(w view.World) string {
	w.Now = time.Now()
	return view.Of(w).Screen(p.style())
}

func (p *plugin) table(o *getOptions, all []v1alpha1.TrafficShift) string {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b v1alpha1.TrafficShift) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	now := time.Now()
	shifts := make([]view.Shift, 0, len(all))
	for _, ts := range all {
		shifts = append(shifts, view.Of(view.World{Shift: ts, Now: now}))
	}
	return view.List(shifts, p.style(), o.all, !o.noHeaders)
}

// watchOne draws the screen of a shift with every change; on a terminal also with every second, for the clocks on it.
func (p *plugin) watchOne(ctx context.Context, c client.WithWatch, key client.ObjectKey) error {
	var known view.World
	f := one(c, key, func(ts *v1alpha1.TrafficShift) (bool, error) {
		switch {
		case ts == nil && known.Shift.Name == "":
			return true, unknown(ctx, c, key)
		case ts == nil:
			return true, fmt.Errorf("TrafficShift %s is gone", key)
		case ts.ResourceVersion != known.Shift.ResourceVersion:
			known = around(ctx, c, ts)
		}
		p.draw(p.screen(known))
		return false, nil
	})
	return p.keepDrawing(ctx, f)
}

func (p *plugin) keepDrawing(ctx context.Context, f *following) error {
	if p.terminal {
		f.every = time.Second
	}
	if err := f.run(ctx); ctx.Err() == nil {
		return err
	}
	return nil // Ctrl-C is how this ends
}

// draw shows a screen in the place of the one before. Where there is no terminal it comes below it.
func (p *plugin) draw(text string) {
	if p.terminal {
		text = "\x1b[H\x1b[2J" + text
	} else {
		text += "\n"
	}
	p.write(text)
}

func (p *plugin) write(text string) { _, _ = fmt.Fprint(p.streams.Out, text) }

// say writes a line. What it quotes of the status was written by others.
func (p *plugin) say(format string, args ...any) {
	p.write(view.Clean(fmt.Sprintf(format, args...)) + "\n")
}

func (p *plugin) historyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "history NAME", Short: "Show what became of the last releases, and of what was asked",
		Long:    "Show what became of the last releases, newest first, with who wrote each template and why it ended as it did; and what people have asked for, and the answers.",
		Example: example("history micro-api", "releases and requests of one shift"),
		Args:    cobra.ExactArgs(1), ValidArgsFunction: p.names(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			c, namespace, err := p.connect()
			if err != nil {
				return err
			}
			ts, err := read(cmd.Context(), c, keyOf(namespace, names[0]))
			if err != nil {
				return err
			}
			w := around(cmd.Context(), c, ts)
			w.Now = time.Now()
			p.write(view.Of(w).Past(p.style()))
			return nil
		},
	}
}
