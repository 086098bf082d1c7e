package groupcommit

import (
	"context"
	"sync"
)

// Round flushes several groups one after the other, in the order in which they were made, round
// and round. When the groups are the stages of one path and stand in its order, calls that start
// a round together stay together through all of its stages, and those that arrive meanwhile start
// the next one together. Batches are then as large as what arrives in a whole round, not in one
// stage; a call that is alone still goes at once.
//
// Make all groups of a round before the first call.
type Round struct {
	stations []interface{ step(context.Context) bool }

	mu      sync.Mutex
	running bool
	calls   int // counted to see that one came while the round looked elsewhere
	idle    sync.WaitGroup
}

// wake tells that a call waits at one of the groups.
func (r *Round) wake(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls++
	if !r.running {
		r.running = true
		r.idle.Add(1)
		go r.run(ctx)
	}
}

// run goes round until a whole round found nobody waiting.
func (r *Round) run(ctx context.Context) {
	defer r.idle.Done()
	for seen := r.seen(); ; {
		worked := false
		for _, s := range r.stations {
			worked = s.step(ctx) || worked
		}
		if !worked && r.rest(seen) {
			return
		}
		seen = r.seen()
	}
}

func (r *Round) seen() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls
}

// rest ends the run unless a call has come since seen.
func (r *Round) rest(seen int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = r.calls != seen
	return !r.running
}
