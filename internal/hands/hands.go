// Package hands has goroutines that stay for the next task: a new one has a small stack, and growing it
// for each task can cost more than all else that the task does.
package hands

import "sync"

// Hands do tasks, any number at a time. Make them with New.
type Hands struct {
	tasks   chan func()
	all     sync.WaitGroup
	endOnce sync.Once
}

// New makes hands, at first none.
func New() *Hands { return &Hands{tasks: make(chan func())} }

// Do gives a task to somebody who is idle, or to somebody new. It must not be called after End.
func (h *Hands) Do(task func()) {
	select {
	case h.tasks <- task:
	default:
		h.all.Go(func() {
			task()
			for task := range h.tasks {
				task()
			}
		})
	}
}

// End returns when all tasks are done.
func (h *Hands) End() {
	h.endOnce.Do(func() { close(h.tasks) })
	h.all.Wait()
}
