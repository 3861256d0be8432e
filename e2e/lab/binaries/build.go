package binaries

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

func (b binary) dir(root string) string { return filepath.Join(root, "e2e", "tools", b.module) }

// sources is the folder of a main package that lives in this repository, or nothing.
func (b binary) sources(root string) string {
	if strings.HasPrefix(b.pkg, "./") {
		return filepath.Join(b.dir(root), b.pkg)
	}
	return ""
}

// ensure builds the program unless the stamp beside it says that it is what a build would make.
func (b binary) ensure(ctx context.Context, root string, building func()) (string, error) {
	path := filepath.Join(Dir(root), b.name)
	flags, err := b.flags(root)
	if err != nil {
		return "", fmt.Errorf("build %s: %w", b.name, err)
	}
	want, err := b.stamp(ctx, root, flags)
	if err != nil {
		return "", fmt.Errorf("build %s: %w", b.name, err)
	}
	stampFile := filepath.Join(Dir(root), "."+b.name+".stamp")
	if have, err := os.ReadFile(stampFile); err == nil && string(have) == want {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	building()
	args := append([]string{"build", "-C", b.dir(root), "-buildvcs=false"}, flags...)
	if err := compile(ctx, b.name, path, args, b.pkg); err != nil {
		return "", err
	}
	if err := os.WriteFile(stampFile, []byte(want), 0o644); err != nil {
		return "", fmt.Errorf("build %s: %w", b.name, err)
	}
	return path, nil
}

// flags that change what is built.
func (b binary) flags(root string) ([]string, error) {
	ldflags := "-s -w "
	if b.stamped {
		v, err := kubernetesVersion(b.dir(root))
		if err != nil {
			return nil, err
		}
		ldflags += v
	}
	flags := []string{"-ldflags", ldflags}
	if b.tags != "" {
		flags = append(flags, "-tags", b.tags)
	}
	return flags, nil
}

var kubernetesLine = regexp.MustCompile(`(?m)^\s*k8s\.io/kubernetes (v(\d+)\.(\d+)\.\S+)`)

// kubernetesVersion makes the linker flags that tell the API server its version, from the module that pins it.
func kubernetesVersion(dir string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return "", err
	}
	m := kubernetesLine.FindSubmatch(text)
	if m == nil {
		return "", fmt.Errorf("%s/go.mod does not require k8s.io/kubernetes", dir)
	}
	const pkg = "k8s.io/component-base/version"
	return fmt.Sprintf("-X %s.gitVersion=%s -X %s.gitMajor=%s -X %s.gitMinor=%s", pkg, m[1], pkg, m[2], pkg, m[3]), nil
}

// Controller builds the controller of this repository as it is now. The Go build cache makes this quick.
func Controller(ctx context.Context, root string) (string, error) {
	if err := os.MkdirAll(Dir(root), 0o755); err != nil {
		return "", fmt.Errorf("build sluice: %w", err)
	}
	path := filepath.Join(Dir(root), "sluice")
	return path, compile(ctx, "sluice", path, []string{"build", "-C", root, "-buildvcs=false"}, "./cmd/sluice")
}

// compile runs go build into a file beside path and moves it there when it is whole: a build that was cut short, or two at
// once, never leave half a program behind.
func compile(ctx context.Context, name, path string, args []string, pkg string) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+name+".*")
	if err != nil {
		return fmt.Errorf("build %s: %w", name, err)
	}
	defer os.Remove(tmp.Name())
	if err := tmp.Close(); err != nil {
		return fmt.Errorf("build %s: %w", name, err)
	}
	args = append(args, "-o", tmp.Name(), pkg)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	// The compilers that go build runs must end with it: the whole group gets the signal.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return fmt.Errorf("build %s: %w", name, context.Cause(ctx))
	}
	if err != nil {
		return fmt.Errorf("build %s: go %s: %w%s", name, strings.Join(args, " "), err, last(string(out), 15))
	}
	if err := os.Chmod(tmp.Name(), 0o755); err != nil {
		return fmt.Errorf("build %s: %w", name, err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return fmt.Errorf("build %s: %w", name, err)
	}
	return nil
}

// last returns the last lines of a program's output, indented.
func last(out string, n int) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return ":\n    " + strings.Join(lines[max(0, len(lines)-n):], "\n    ")
}
