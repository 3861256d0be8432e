//go:build unix && !linux

package process

import "syscall"

// attributes can only promise that Ctrl-C reaches the lab alone: other kernels do not kill the children of the dead.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
