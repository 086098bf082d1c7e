//go:build unix && !linux

package servers

import "syscall"

// signalOnParentDeath does nothing: other kernels have no such thing.
func signalOnParentDeath(*syscall.SysProcAttr, syscall.Signal) {}
