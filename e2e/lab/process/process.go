// Package process runs the lab's child processes. A child never outlives the lab: on Linux the kernel kills it when the lab
// dies, however the lab dies. It has a process group of its own, so that Ctrl-C reaches the lab alone, which then stops
// its children in order.
package process

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Spec describes a child process.
type Spec struct {
	Name string // in errors
	Path string
	Args []string
	Env  []string // the whole environment; nothing is inherited
	Dir  string   // working directory
	Log  string   // file that stdout and stderr are appended to
}

// Process is a started child.
type Process struct {
	spec   Spec
	cmd    *exec.Cmd
	offset int64 // where this run's output starts in the log
	done   chan struct{}
}

// spawner runs on one thread for ever. A child is killed when the thread that started it ends, and the Go runtime ends
// threads as it likes, so children must not be started from ordinary goroutines.
var spawner = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

// Start starts a child and returns without waiting for it to be of any use.
func Start(s Spec) (*Process, error) {
	if err := os.MkdirAll(filepath.Dir(s.Log), 0o755); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	log, err := os.OpenFile(s.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	defer log.Close() // the child has its own copy
	info, err := log.Stat()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	cmd := exec.Command(s.Path, s.Args...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = append([]string{}, s.Env...), s.Dir, log, log, attributes()
	started := make(chan error)
	spawner() <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	p := &Process{spec: s, cmd: cmd, offset: info.Size(), done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // the outcome is read from cmd.ProcessState
		close(p.done)
	}()
	return p, nil
}

// Pid of the child.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the child has ended and been reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// ExitCode is the code the child ended with, or 128 plus the signal that ended it, as a shell and a kubelet report it. It
// may be called once Done is closed.
func (p *Process) ExitCode() int {
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return p.cmd.ProcessState.ExitCode()
}

// Signal sends a signal; a child that has ended already is no error.
func (p *Process) Signal(sig os.Signal) { _ = p.cmd.Process.Signal(sig) }

// Stop asks the child to end and kills it after grace. It returns when the child is gone.
func (p *Process) Stop(grace time.Duration) {
	p.Signal(syscall.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
		return
	case <-timer.C:
	}
	p.Kill()
}

// Kill ends the child at once and returns when it is gone.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.done
}

// Exited describes how the child ended, with the last lines it wrote. It may be called once Done is closed.
func (p *Process) Exited() error {
	return fmt.Errorf("%s ended (%s)%s", p.spec.Name, p.cmd.ProcessState, p.Tail())
}

// Tail returns the last lines that the child wrote, each indented on a line of its own, or nothing.
func (p *Process) Tail() string {
	const most, lines = 16 << 10, 15
	f, err := os.Open(p.spec.Log)
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	from := max(p.offset, info.Size()-most)
	text := make([]byte, info.Size()-from)
	n, _ := f.ReadAt(text, from)
	all := strings.Split(strings.TrimSpace(string(text[:n])), "\n")
	if len(all) == 1 && all[0] == "" {
		return ""
	}
	return ":\n    " + strings.Join(all[max(0, len(all)-lines):], "\n    ")
}
