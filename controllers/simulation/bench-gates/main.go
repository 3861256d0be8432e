// Command bench-gates measures Sluice's gates and those of its rivals, and prints one Markdown table.
package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"time"

	"github.com/sluice-dev/sluice/controllers/simulation"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench-gates:", err)
		os.Exit(1)
	}
}

func run() error {
	seed := flag.Uint64("seed", simulation.PinnedSeed, "what every draw follows from")
	reps := flag.Int("reps", simulation.PinnedReps, "replications of each cell")
	only := flag.String("run", "", `regular expression: which cells to run, such as "good.*sluice" or "100 rps flagger"`)
	flag.Parse()
	if *reps < 1 || flag.NArg() > 0 {
		return fmt.Errorf("want -reps of 1 or more and no arguments, got -reps %d and %q", *reps, flag.Args())
	}
	o := simulation.Options{Seed: *seed, Reps: *reps}
	if *only != "" {
		pattern, err := regexp.Compile(*only)
		if err != nil {
			return fmt.Errorf("-run: %w", err)
		}
		o.Only = pattern
	}
	start := time.Now()
	table, err := simulation.Run(o)
	if err != nil {
		return err
	}
	fmt.Print(table.Render())
	fmt.Fprintf(os.Stderr, "%s\n", time.Since(start).Round(time.Second/10))
	return nil
}
