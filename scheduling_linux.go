package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// workInBatches asks the kernel to schedule this process, and those that it starts from now on, as
// batch work (SCHED_BATCH of sched(7)). A thread that is woken then waits for its turn, where it would
// otherwise push another one off its processor at once. Many processes that hand work to each other
// on few processors so find more of it when it is their turn. It needs no privilege and gives none.
//
// Whoever started the process under another policy than the usual one has chosen, and is left alone.
func workInBatches() error {
	// A new thread has the policy of the one that starts it. So when this has been done for all, a
	// second look finds those that were started meanwhile by one whose turn had not come.
	for range 2 {
		if err := batchThreads(); err != nil {
			return fmt.Errorf("schedule as batch work: %w", err)
		}
	}
	return nil
}

func batchThreads() error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if err := batchThread(id); err != nil && !errors.Is(err, unix.ESRCH) { // that one has ended
			return err
		}
	}
	return nil
}

func batchThread(id int) error {
	attr, err := unix.SchedGetAttr(id, 0)
	if err != nil || attr.Policy != unix.SCHED_NORMAL {
		return err
	}
	attr.Policy = unix.SCHED_BATCH
	return unix.SchedSetAttr(id, attr, 0)
}
