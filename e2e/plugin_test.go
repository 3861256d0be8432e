package e2e

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/e2e/scene"
)

// typed is a command of the built plugin: what it exits with, and all that it says.
func typed(t *testing.T, s *scene.Scene, args ...string) (code int, said string) {
	t.Helper()
	flags := []string{"--namespace", scene.Shop, "--kubeconfig", s.Kubeconfig, "--cache-dir", t.TempDir()}
	out, err := exec.CommandContext(t.Context(), filepath.Join(s.Repo, "bin", "kubectl-sluice"), append(args, flags...)...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit != nil {
		code = exit.ExitCode()
	}
	t.Logf("kubectl sluice %s: exit %d\n%s", strings.Join(args, " "), code, out)
	return code, string(out)
}

// exits fails the test unless a command exits as it should, and says what it should.
func exits(t *testing.T, s *scene.Scene, code int, says []string, args ...string) {
	t.Helper()
	got, said := typed(t, s, args...)
	for _, text := range says {
		if got != code || !strings.Contains(said, text) {
			t.Fatalf("kubectl sluice %s: exit %d, want %d and %q:\n%s", strings.Join(args, " "), got, code, text, said)
		}
	}
}

// docs/cli.md: a release is paused, looked at, resumed, waited for and undone with the plugin alone.
func TestThePluginSteersARelease(t *testing.T) {
	s := stage(t)
	t.Parallel()
	const name = "steered"
	service(t, s, name, "hold=2s")
	users := through(t, s, name+".example.com", 40)
	exits(t, s, 0, []string{"Stable", "v1 has all the traffic", "registry.example.com/lab/app:1", "2/2"}, "get", name)
	exits(t, s, 2, []string{"no candidate"}, "abort", name)

	release(t, s, name, "v2")
	exits(t, s, 3, []string{name}, "wait", name, "--timeout=2s") // it takes longer than that, and what the status says of v1 is no answer
	await(t, s, name, "to prove 5%", proven(50))
	exits(t, s, 0, []string{"Done: v2 stays at 5%"}, "pause", name)
	exits(t, s, 0, []string{"paused by its owner with v2 at 5%"}, "wait", name, "--for=paused", "--timeout=1m")
	exits(t, s, 0, []string{"Progressing, Stepping", "candidate", "error-rate-vs-stable", "Pass", "kubectl sluice resume " + name}, "get", name)
	exits(t, s, 4, []string{"waits for a person"}, "wait", name, "--timeout=3s")
	exits(t, s, 2, []string{"Refused: v1 is the stable version"}, "promote", name, "v1")
	if ts := await(t, s, name, "to stay at 5%", heldAt(50)); answer(ts).By != "kubectl-sluice" {
		t.Errorf("the last request is of %q", answer(ts).By)
	}
	exits(t, s, 0, []string{"Done: v2 goes on from 5%"}, "resume", name)
	exits(t, s, 0, []string{"v2 was promoted"}, "wait", name, "--timeout=3m")
	exits(t, s, 0, []string{"v2", "Promoted", "resume", "promote v1", "Refused"}, "history", name)

	exits(t, s, 0, []string{"Done: the template of v1 is written into the Deployment again"}, "undo", name, "--to=v1")
	exits(t, s, 0, []string{"v1 was promoted"}, "wait", name, "--timeout=3m")
	ts, err := s.Shift(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if ts.Status.Stable != "v1" || ts.Status.History[0].Reason != v1alpha1.ReasonPromoted {
		t.Errorf("after the undo users are on %s: %+v", ts.Status.Stable, ts.Status.History[0])
	}
	exits(t, s, 1, []string{`there is no TrafficShift "nobody"`, name}, "get", "nobody")
	lossless(t, users)
}
