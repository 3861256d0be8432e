package binaries

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// repository makes a small repository with one tool, whose main package is its own.
func repository(t *testing.T) (string, binary) {
	t.Helper()
	root := t.TempDir()
	write(t, root, "e2e/tools/hello/go.mod", "module example.com/hello\n\ngo 1.26\n")
	write(t, root, "e2e/tools/hello/go.sum", "")
	write(t, root, "e2e/tools/hello/greet/main.go", "package main\n\nfunc main() { println(\"hello\") }\n")
	if err := os.MkdirAll(Dir(root), 0o755); err != nil {
		t.Fatal(err)
	}
	return root, binary{name: "greet", module: "hello", pkg: "./greet"}
}

func write(t *testing.T, root, name, text string) {
	t.Helper()
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// ensure reports whether the program had to be built.
func ensure(t *testing.T, root string, b binary) bool {
	t.Helper()
	built := false
	path, err := b.ensure(t.Context(), root, func() { built = true })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	return built
}

func TestStampDecidesWhetherToBuild(t *testing.T) {
	root, b := repository(t)
	if !ensure(t, root, b) {
		t.Error("not built although it was never built")
	}
	if ensure(t, root, b) {
		t.Error("built again although nothing changed")
	}
	tagged := b
	tagged.tags = "slim"
	for what, change := range map[string]func(){
		"a source file":     func() { write(t, root, "e2e/tools/hello/greet/more.go", "package main\n") },
		"go.sum":            func() { write(t, root, "e2e/tools/hello/go.sum", "\n") },
		"go.mod":            func() { write(t, root, "e2e/tools/hello/go.mod", "module example.com/hello\n\ngo 1.26.0\n") },
		"the missing file":  func() { _ = os.Remove(filepath.Join(Dir(root), "greet")) },
		"the missing stamp": func() { _ = os.Remove(filepath.Join(Dir(root), ".greet.stamp")) },
		"the build's flags": func() { b = tagged },
	} {
		change()
		if !ensure(t, root, b) {
			t.Errorf("%s changed and nothing was built", what)
		}
		if ensure(t, root, b) {
			t.Errorf("%s changed and the program was built twice", what)
		}
	}
	write(t, root, "e2e/tools/hello/greet/main_test.go", "package main\n")
	if ensure(t, root, b) {
		t.Error("a test file changed and the program was built")
	}
}

func TestFailedBuildSaysWhat(t *testing.T) {
	root, b := repository(t)
	write(t, root, "e2e/tools/hello/greet/main.go", "package main\n\nfunc main() { undefined() }\n")
	_, err := b.ensure(t.Context(), root, func() {})
	for _, want := range []string{"build greet", "go build -C", "./greet", "undefined: undefined"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want it to contain %q", err, want)
		}
	}
	left, _ := filepath.Glob(filepath.Join(Dir(root), "*"))
	hidden, _ := filepath.Glob(filepath.Join(Dir(root), ".*"))
	if len(left)+len(hidden) != 0 {
		t.Errorf("left behind: %v %v", left, hidden)
	}
}

func TestCancelledBuildStops(t *testing.T) {
	root, b := repository(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	interrupted := errors.New("interrupted")
	began := time.Now()
	_, err := b.ensure(ctx, root, func() { cancel(interrupted) })
	if !errors.Is(err, interrupted) {
		t.Errorf("error %v, want the reason of the cancellation", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v to stop", took)
	}
}

func TestKubernetesVersionComesFromItsModule(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "go.mod", "module x\n\nrequire (\n\tk8s.io/kubernetes-extras v9.9.9\n\tk8s.io/kubernetes v1.36.3 // indirect\n)\n")
	got, err := kubernetesVersion(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := "-X k8s.io/component-base/version.gitVersion=v1.36.3 -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestGoIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := Build(t.Context(), t.TempDir(), func(string) {})
	if err == nil || !strings.Contains(err.Error(), "install Go") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v, want one line that says what to do", err)
	}
}
