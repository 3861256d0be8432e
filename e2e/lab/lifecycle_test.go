package lab_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-dev/sluice/e2e/lab"
)

// programs lists the processes whose command line names dir: every program of a lab is told the lab's directory.
func programs(t *testing.T, dir string) map[string]int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(files) == 0 {
		t.Skip("this system has no /proc to read processes from")
	}
	found := map[string]int{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil || !strings.Contains(string(text), dir) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if err != nil {
			t.Fatal(err)
		}
		program, _, _ := strings.Cut(string(text), "\x00")
		found[filepath.Base(program)] = pid
	}
	return found
}

func checkGone(t *testing.T, dir string) {
	t.Helper()
	eventually(t, "the programs of "+dir+" to be gone", func(context.Context) error {
		if left := programs(t, dir); len(left) > 0 {
			return fmt.Errorf("left: %v", left)
		}
		return nil
	})
}

// Labs do not meet: same time, same names, different ports. Afterwards nothing of them is left, and a component that dies
// is named with what it said.
func TestLabsSideBySide(t *testing.T) {
	if testing.Short() {
		t.Skip("starts labs")
	}
	var labs [2]*lab.Lab
	var g errgroup.Group
	for i := range labs {
		g.Go(func() (err error) {
			labs[i], err = lab.Start(t.Context(), lab.Options{})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, l := range labs {
		t.Cleanup(l.Stop)
		ns := namespace(t, l, injected)
		create(t, l, deployment(ns, "shop", "luksa/kubia:v2", 1, nil))
		pods(t, l, ns, "shop", 1, isReady)
		if n := len(programs(t, l.Dir)); n != 5 {
			t.Errorf("%d programs run: %v, want 5", n, programs(t, l.Dir))
		}
		if err := l.Err(); err != nil {
			t.Error(err)
		}
	}
	if err := syscall.Kill(programs(t, labs[1].Dir)["prometheus"], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-labs[1].Failed()
	if err := labs[1].Err(); !strings.Contains(err.Error(), "prometheus ended (signal: killed)") || !strings.Contains(err.Error(), "Server is ready") {
		t.Errorf("error %q, want the component, how it ended, and what it said last", err)
	}
	for _, l := range labs {
		l.Stop()
		l.Stop() // a second call is harmless
		checkGone(t, l.Dir)
		if _, err := os.Stat(l.Dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", l.Dir, err)
		}
	}
}

func TestFailedStartLeavesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a lab")
	}
	dir := t.TempDir()
	_, err := lab.Start(t.Context(), lab.Options{Dir: dir, CRDPaths: []string{filepath.Join(dir, "missing.yaml")}})
	if err == nil || !strings.Contains(err.Error(), "missing.yaml") {
		t.Errorf("error %v, want it to name the missing file", err)
	}
	checkGone(t, dir)
}

func TestCancelledStartLeavesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a lab")
	}
	dir := t.TempDir()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	interrupted := errors.New("interrupted")
	_, err := lab.Start(ctx, lab.Options{Dir: dir, Progress: func(line string) {
		if strings.HasPrefix(line, "kube-apiserver") {
			cancel(interrupted)
		}
	}})
	if err == nil {
		t.Error("a cancelled start succeeded")
	}
	checkGone(t, dir)
}

// A lab that is killed takes its programs with it.
func TestKilledLabLeavesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a lab")
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), role+"=lab", "LAB_TEST_DIR="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "up" {
		t.Fatalf("the lab did not start: %q", lines.Text())
	}
	if n := len(programs(t, dir)); n != 5 {
		t.Errorf("%d programs run: %v, want 5", n, programs(t, dir))
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	checkGone(t, dir)
}
