// Command kubectl-sluice is a plugin of kubectl: it shows shifts, waits for releases, and asks for what a person may ask of them. It reads
// and annotates TrafficShifts; all that is decided is decided by the controller.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/sluice-dev/sluice/cmd/internal/view"
)

// version is stamped by the build.
var version = "dev"

// What the command exits with: docs/cli.md has the table.
const (
	exitError   = 1 // a mistake in what was typed, or the API server says no
	exitEnded   = 2 // refused, or the release has ended otherwise than was waited for
	exitTimeout = 3 // time is up
	exitPaused  = 4 // time is up, and a person is waited for
	exitBlocked = 5 // something stands in the way that somebody has to mend
)

// outcome is an error with an exit code of its own.
type outcome struct {
	code int
	text string
}

func (o outcome) Error() string { return o.text }

func failed(code int, format string, args ...any) error {
	return outcome{code, view.Clean(fmt.Sprintf(format, args...))}
}

// exitCode is what an error makes the command exit with.
func exitCode(err error) int {
	var o outcome
	switch {
	case err == nil:
		return 0
	case errors.As(err, &o):
		return o.code
	}
	return exitError
}

// told is an error as it is printed, line by line: it may quote the API server, and what webhooks say through it.
func told(err error) string {
	lines := strings.Split(err.Error(), "\n")
	for i := range lines {
		lines[i] = view.Clean(lines[i])
	}
	return strings.Join(lines, "\n")
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills
	p := newPlugin(genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr})
	p.colour, p.terminal, p.asksBack = printers.AllowsColorOutput(os.Stdout), printers.IsTerminal(os.Stdout), printers.IsTerminal(os.Stdin)
	err := p.command().ExecuteContext(ctx)
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "error:", told(err))
	}
	os.Exit(exitCode(err))
}
