package groupcommit

import (
	"context"
	"sync"
)

// InTurn makes groups flush one after the other, in this order, round and round, instead of each
// for itself. When they are the stages of one path and stand in its order, calls that start a
// round together stay together through all of its stages, and those that arrive meanwhile start
// the next one together. Batches are then as large as what arrives in a whole round, not in one
// stage; a call that is alone still goes at once.
//
// It must be called before the groups are used.
func InTurn(stations ...Station) {
	r := &round{stations: stations}
	for _, s := range stations {
		s.join(r)
	}
}

// Station is a Group of any kind of calls.
type Station interface {
	step(context.Context) bool
	join(*round)
}

func (g *Group[In, Out]) join(r *round) { g.round = r }

// round is the one who goes round.
type round struct {
	stations []Station

	mu      sync.Mutex
	running bool
	calls   int // counted to see that one came while the round looked elsewhere
	idle    sync.WaitGroup
}

// wake tells that a call waits at one of the groups.
func (r *round) wake(ctx context.Context) {
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
func (r *round) run(ctx context.Context) {
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

func (r *round) seen() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls
}

// rest ends the run unless a call has come since seen.
func (r *round) rest(seen int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = r.calls != seen
	return !r.running
}
