package servers

import "syscall"

// signalOnParentDeath has the kernel send sig when the thread that starts the process ends.
func signalOnParentDeath(attr *syscall.SysProcAttr, sig syscall.Signal) { attr.Pdeathsig = sig }
