package messaging

import "sync"

// hands do tasks, any number at a time, and stay for the next one: a new goroutine has a small stack,
// and growing it for each job costs more than the rest of what the consumer does.
type hands struct {
	tasks   chan func()
	all     sync.WaitGroup
	endOnce sync.Once
}

func newHands() *hands { return &hands{tasks: make(chan func())} }

// do gives a task to somebody who is idle, or to somebody new. It must not be called after end.
func (h *hands) do(task func()) {
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

// end returns when all tasks are done.
func (h *hands) end() {
	h.endOnce.Do(func() { close(h.tasks) })
	h.all.Wait()
}
