package main

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// A service is batch work, with all its threads and with what it starts.
func TestServicesAreScheduledAsBatchWork(t *testing.T) {
	var s struct{}
	start, err := prepared("gateway", &s, func(context.Context, *slog.Logger, struct{}) error {
		child := exec.Command("sleep", "60")
		if err := child.Start(); err != nil {
			return err
		}
		defer child.Wait()         //nolint:errcheck // it is killed
		defer child.Process.Kill() //nolint:errcheck // the same
		for _, pid := range []int{os.Getpid(), child.Process.Pid} {
			areBatchWork(t, pid)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func areBatchWork(t *testing.T, pid int) {
	t.Helper()
	threads, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/task")
	if err != nil || len(threads) == 0 {
		t.Fatalf("threads of %d: %v, %v", pid, threads, err)
	}
	for _, one := range threads {
		id, err := strconv.Atoi(one.Name())
		if err != nil {
			t.Fatal(err)
		}
		if attr, err := unix.SchedGetAttr(id, 0); err != nil || attr.Policy != unix.SCHED_BATCH {
			t.Errorf("thread %d of process %d: %+v, %v", id, pid, attr, err)
		}
	}
}

// A policy that somebody chose stays.
func TestAChosenPolicyIsLeftAlone(t *testing.T) {
	policy := make(chan uint32)
	go func() {
		runtime.LockOSThread() // and never back: the thread ends with this goroutine
		id := unix.Gettid()
		err := unix.SchedSetAttr(id, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
		if err == nil {
			err = batchThread(id)
		}
		if err != nil {
			t.Error(err)
		}
		attr, err := unix.SchedGetAttr(id, 0)
		if err != nil {
			t.Error(err)
		}
		policy <- attr.Policy
	}()
	if got := <-policy; got != unix.SCHED_IDLE {
		t.Errorf("policy %d", got)
	}
}
