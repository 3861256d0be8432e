package lab

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluice-dev/sluice/e2e/lab/lock"
)

// A lab that was killed cannot remove its directory; the next one does, and touches nothing else.
func TestSweep(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	long := time.Now().Add(-time.Hour)
	directory := func(name string, age time.Time) string {
		dir := filepath.Join(os.TempDir(), name)
		if err := os.MkdirAll(filepath.Join(dir, "logs"), 0o755); err != nil {
			t.Fatal(err)
		}
		if !age.IsZero() {
			if err := os.WriteFile(filepath.Join(dir, lockFile), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(filepath.Join(dir, lockFile), age, age); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	dead, alive := directory("sluice-lab-dead", long), directory("sluice-lab-alive", long)
	young, kept := directory("sluice-lab-young", time.Now()), directory("sluice-lab-kept", time.Time{})
	held, err := lock.Try(filepath.Join(alive, lockFile))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Release()

	sweep()
	if _, err := os.Stat(dead); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory of a dead lab is left: %v", err)
	}
	for _, dir := range []string{alive, young, kept} {
		if _, err := os.Stat(filepath.Join(dir, "logs")); err != nil {
			t.Error(err)
		}
	}
}
