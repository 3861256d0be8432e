// Command lab builds and runs the lab: a mesh on loopback.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/sluice-dev/sluice/e2e/lab"
	"github.com/sluice-dev/sluice/e2e/lab/binaries"
	"github.com/sluice-dev/sluice/e2e/lab/dataplane"
)

const usage = `Usage:
  lab binaries             build the lab's programs and stop
  lab up [flags]           start a lab, say how to reach it, and run until Ctrl-C
`

func main() {
	lab.Quiet()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	if len(args) == 0 {
		return fmt.Errorf("say what to do\n%s", usage)
	}
	say := func(line string) { fmt.Fprintln(progress, line) }
	switch args[0] {
	case "binaries":
		root, err := binaries.Root()
		if err != nil {
			return err
		}
		_, err = binaries.Build(ctx, root, say)
		return err
	case "up":
		return up(ctx, args[1:], out, say)
	default:
		return fmt.Errorf("unknown command %q\n%s", args[0], usage)
	}
}

// up runs a lab until it is told to stop or fails.
func up(ctx context.Context, args []string, out io.Writer, say func(string)) error {
	opts := lab.Options{Progress: say}
	flags := flag.NewFlagSet("lab up", flag.ContinueOnError)
	flags.StringVar(&opts.Dir, "dir", "", "`directory` for everything the lab writes (default: a temporary one)")
	flags.BoolVar(&opts.Keep, "keep", false, "leave the temporary directory behind")
	flags.StringVar(&opts.ControllerBinary, "controller", "", "`path` of the program that runs in containers of the image \"sluice\"")
	flags.Func("crd", "`path` of more CustomResourceDefinitions (repeatable)", func(path string) error {
		opts.CRDPaths = append(opts.CRDPaths, path)
		return nil
	})
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	plane := dataplane.New()
	gateway, err := loopback()
	if err != nil {
		return err
	}
	plane.Listen = map[uint32]string{80: gateway} // known before a Gateway asks for it, so that it can be printed
	opts.DataPlane = plane.Start
	l, err := lab.Start(ctx, opts)
	if err != nil {
		return err
	}
	defer l.Stop()
	for _, e := range l.Endpoints() {
		fmt.Fprintf(out, "%-14s %s\n", e.Name, e.Value)
	}
	say("press Ctrl-C to stop")
	select {
	case <-ctx.Done():
		say("stopping ...")
		return nil
	case <-l.Failed():
		return l.Err()
	}
}

// loopback is a free address of this machine.
func loopback() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("finding a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}
