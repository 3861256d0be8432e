// Command demo shows Sluice's main job on the lab, start to end: micro-api is promoted; kubia v3 is refused before any user meets it,
// v3-users is rolled back under traffic, v4 is promoted. Its exit code is 0 only if all of that happened and no client saw a failure
// that the bad image did not produce.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/sluice-dev/sluice/e2e/lab"
	"github.com/sluice-dev/sluice/e2e/scene"
)

func main() {
	lab.Quiet()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	repo := flags.String("repo", "", "root of the repository (default: found from the working directory)")
	keep := flags.Bool("keep", false, "leave the lab running at the end, until Ctrl-C")
	plain := flags.Bool("plain", !term.IsTerminal(int(os.Stdout.Fd())), "print lines instead of redrawing a table")
	if err := flags.Parse(args); err != nil {
		return err
	}
	began := time.Now()
	say := func(line string) { fmt.Printf("%6s  %s\n", clock(time.Since(began)), line) }

	s, err := scene.Open(ctx, scene.Options{Repo: *repo, Keep: *keep, Progress: say})
	if err != nil {
		return err
	}
	defer s.Stop()
	d := &demo{Scene: s, board: newBoard(os.Stdout, *plain, began), say: say}
	err = d.play(ctx)
	d.board.close()
	if err != nil {
		if *keep {
			return fmt.Errorf("%w (logs: %s)", err, s.LogDir)
		}
		return fmt.Errorf("%w (DEMO_FLAGS=--keep keeps the logs)", err)
	}
	verdict := d.summary(os.Stdout)
	if *keep {
		stay(ctx, s)
	}
	return verdict
}

// stay leaves the lab to whoever wants to look around.
func stay(ctx context.Context, s *scene.Scene) {
	fmt.Println("\nThe lab is left running; Ctrl-C stops it.")
	for _, e := range s.Endpoints() {
		fmt.Printf("  %-14s %s\n", e.Name, e.Value)
	}
	if addr := s.Plane.Gateway.Addr(80); addr != "" {
		fmt.Printf("  %-14s http://%s  (curl -H 'Host: micro-api.example.com' http://%s/)\n", "gateway", addr, addr)
	}
	select {
	case <-ctx.Done():
	case <-s.Failed():
		fmt.Println(s.Err())
	}
}

func clock(d time.Duration) string {
	return fmt.Sprintf("%d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}
