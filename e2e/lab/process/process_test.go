package process

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sh starts a shell script and waits until it says that it is ready.
func sh(t *testing.T, script string) *Process {
	t.Helper()
	log := filepath.Join(t.TempDir(), "logs", "child.log")
	p, err := Start(Spec{Name: "child", Path: "/bin/sh", Args: []string{"-c", script}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(p.Tail(), "ready"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the script does not start: %s", p.Tail())
		}
	}
	return p
}

func TestExited(t *testing.T) {
	p := sh(t, "echo ready; echo broken pipe dream >&2; exit 3")
	<-p.Done()
	if p.ExitCode() != 3 {
		t.Errorf("exit code %d, want 3", p.ExitCode())
	}
	got := p.Exited().Error()
	if want := "child ended (exit status 3):\n    ready\n    broken pipe dream"; got != want {
		t.Errorf("error %q, want %q", got, want)
	}
}

func TestStopIsPolite(t *testing.T) {
	p := sh(t, `trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done`)
	p.Stop(10 * time.Second)
	if p.ExitCode() != 0 || !strings.Contains(p.Tail(), "bye") {
		t.Errorf("exit code %d, output %s", p.ExitCode(), p.Tail())
	}
	p.Stop(0) // of what has ended
}

func TestStopLosesItsPatience(t *testing.T) {
	p := sh(t, `trap '' TERM; echo ready; while :; do sleep 0.01; done`)
	p.Stop(20 * time.Millisecond)
	if p.ExitCode() != 137 {
		t.Errorf("exit code %d, want 137", p.ExitCode())
	}
}

// The log is appended to, and only this run's part of it is quoted.
func TestTailIsOfThisRun(t *testing.T) {
	log := filepath.Join(t.TempDir(), "child.log")
	if err := os.WriteFile(log, []byte("an earlier life\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := Start(Spec{Name: "child", Path: "/bin/sh", Args: []string{"-c", "env"}, Env: []string{"ONLY=this"}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if tail := p.Tail(); strings.Contains(tail, "earlier") || !strings.Contains(tail, "ONLY=this") || strings.Contains(tail, "HOME=") {
		t.Errorf("tail %q", tail)
	}
}

func TestStartNamesTheProgram(t *testing.T) {
	_, err := Start(Spec{Name: "etcd", Path: "/no/such/etcd", Log: filepath.Join(t.TempDir(), "log")})
	if err == nil || !strings.Contains(err.Error(), "start etcd") || !strings.Contains(err.Error(), "/no/such/etcd") {
		t.Errorf("error %v", err)
	}
}
