package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sluice-dev/sluice/e2e/lab/lock"
)

// lockFile, in a lab's temporary directory, is held by the lab that owns it and marks the directory as one to remove.
const lockFile = ".lock"

// makeDir makes the lab's directory. A temporary one is removed by Stop, or, where the lab was killed, by the next lab.
func (l *Lab) makeDir() error {
	l.Dir = l.opts.Dir
	if l.Dir == "" {
		sweep()
		dir, err := os.MkdirTemp("", "sluice-lab-")
		if err != nil {
			return fmt.Errorf("make a directory: %w", err)
		}
		l.Dir = dir
		held, err := lock.Try(filepath.Join(dir, lockFile))
		if err != nil {
			return err
		}
		l.onStop(func() {
			defer held.Release()
			if l.opts.Keep {
				_ = os.Remove(filepath.Join(dir, lockFile)) // so that no other lab removes it
				return
			}
			if err := os.RemoveAll(dir); err != nil {
				l.say("remove %s: %v", dir, err)
			}
		})
	}
	l.LogDir = filepath.Join(l.Dir, "logs")
	if err := os.MkdirAll(l.LogDir, 0o755); err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	return nil
}

// sweep removes the temporary directories of labs that were killed. Young ones are spared: their lab may not have taken
// its lock yet.
func sweep() {
	files, err := filepath.Glob(filepath.Join(os.TempDir(), "sluice-lab-*", lockFile))
	if err != nil {
		return // only a malformed pattern is an error
	}
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || time.Since(info.ModTime()) < time.Minute {
			continue
		}
		if held, err := lock.Try(f); err == nil {
			_ = os.RemoveAll(filepath.Dir(f)) // what is left now is left to the next sweep
			held.Release()
		}
	}
}
