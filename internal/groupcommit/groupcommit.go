// Package groupcommit lets code that is written for one run for hundreds: concurrent calls are
// gathered into one flush (one transaction, one RPC), and each gets its own answer back.
//
// There is no timer. A lone call is flushed at once; under load the next batch fills while the
// last one is on its way, so batches grow exactly as fast as the work behind them is slow.
package groupcommit

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"cartwright/internal/fault"
)

// Result is one call's own answer out of a batch.
type Result[Out any] struct {
	Value Out
	Err   error
}

// Flush does the work of a whole batch. It returns one result per item, in order, or an error
// that concerns the batch as a whole; then nothing of the batch may have been done, or all of it
// may safely be done again.
type Flush[In, Out any] func(ctx context.Context, batch []In) ([]Result[Out], error)

// Options bound a group. The zero value of each is replaced by the default named beside it.
type Options[In any] struct {
	CallsMax  int           // calls in a batch: 256
	WeightMax int           // sum of weights in a batch, at least one call: 2048
	Weight    func(In) int  // how much of a statement an item takes: 1
	Lanes     int           // batches on their way at the same time: 1
	Timeout   time.Duration // for one flush: 10 s
	Observe   Observer      // told of each flush
}

// Group gathers calls. Make one with New; it needs no closing, but Wait tells when it is idle.
type Group[In, Out any] struct {
	flush Flush[In, Out]
	opts  Options[In]
	round *round // nil for a group that has lanes of its own

	mu      sync.Mutex
	waiting []*call[In, Out]
	lanes   int
	idle    sync.WaitGroup
}

type call[In, Out any] struct {
	ctx    context.Context
	in     In
	answer chan Result[Out]
}

// New makes a group around a flush.
func New[In, Out any](flush Flush[In, Out], opts Options[In]) *Group[In, Out] {
	if opts.CallsMax == 0 {
		opts.CallsMax = 256
	}
	if opts.WeightMax == 0 {
		opts.WeightMax = 2048
	}
	if opts.Weight == nil {
		opts.Weight = func(In) int { return 1 }
	}
	if opts.Lanes == 0 {
		opts.Lanes = 1
	}
	if opts.Timeout == 0 {
		opts.Timeout = 10 * time.Second
	}
	if opts.Observe == nil {
		opts.Observe = func(int, time.Duration) {}
	}
	return &Group[In, Out]{flush: flush, opts: opts}
}

// Do adds one call to the next batch and waits for its answer. When ctx ends first, Do returns
// its error, and the call may or may not happen: ask again with the same ID.
func (g *Group[In, Out]) Do(ctx context.Context, in In) (Out, error) {
	r := g.add(ctx, in)[0].wait()
	return r.Value, r.Err
}

// DoAll adds several calls together, without a goroutine each, and waits for all of them. It
// returns one result per call, in order; each is what Do would have returned.
func (g *Group[In, Out]) DoAll(ctx context.Context, ins []In) []Result[Out] {
	calls := g.add(ctx, ins...)
	results := make([]Result[Out], len(calls))
	for i, c := range calls {
		results[i] = c.wait()
	}
	return results
}

// add puts calls in line and sees to it that somebody comes for them.
func (g *Group[In, Out]) add(ctx context.Context, ins ...In) []*call[In, Out] {
	calls := make([]*call[In, Out], len(ins))
	for i, in := range ins {
		calls[i] = &call[In, Out]{ctx: ctx, in: in, answer: make(chan Result[Out], 1)}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = append(g.waiting, calls...)
	if g.round != nil {
		g.round.wake(context.WithoutCancel(ctx))
		return calls
	}
	for range min(len(calls), g.opts.Lanes-g.lanes) {
		g.lanes++
		g.idle.Add(1)
		go g.lane(context.WithoutCancel(ctx))
	}
	return calls
}

// wait returns the call's answer, or the error of its context when that ends first.
func (c *call[In, Out]) wait() Result[Out] {
	select {
	case r := <-c.answer:
		return r
	case <-c.ctx.Done():
		return Result[Out]{Err: c.ctx.Err()}
	}
}

// Wait returns when no batch is on its way.
func (g *Group[In, Out]) Wait() {
	if g.round != nil {
		g.round.idle.Wait()
	}
	g.idle.Wait()
}

// lane flushes batch after batch until nobody waits.
func (g *Group[In, Out]) lane(ctx context.Context) {
	defer g.idle.Done()
	for g.step(ctx) {
	}
}

// step flushes one batch. It returns false when nobody waits.
func (g *Group[In, Out]) step(ctx context.Context) bool {
	g.gather()
	batch := g.next()
	if len(batch) == 0 {
		return false
	}
	g.run(ctx, batch)
	return true
}

// looks without news after which nobody else is expected. More than one, because callers may be
// on their way on another processor.
const looks = 4

// gather lets goroutines that can run go first, for as long as that makes the line longer. The
// callers of one batch are woken together and often meet again at the next group; without this,
// the first of them would be flushed alone, and the batch would fall apart a little more at every
// stage. A lone call is held up for no longer than a few looks at an empty run queue take.
func (g *Group[In, Out]) gather() {
	for before, same := 0, 0; same < looks; {
		runtime.Gosched()
		g.mu.Lock()
		now := len(g.waiting)
		g.mu.Unlock()
		same++
		if now > before && now < g.opts.CallsMax {
			same = 0
		}
		before = now
	}
}

// next takes the oldest calls up to the limits. When it takes none, the lane is given up in the
// same critical section, so that no call can arrive unseen in between.
func (g *Group[In, Out]) next() []*call[In, Out] {
	g.mu.Lock()
	defer g.mu.Unlock()
	var batch []*call[In, Out]
	weight, taken := 0, 0
	for _, c := range g.waiting {
		w := g.opts.Weight(c.in)
		if len(batch) == g.opts.CallsMax || (len(batch) > 0 && weight+w > g.opts.WeightMax) {
			break
		}
		taken++
		if c.ctx.Err() != nil {
			continue // nobody waits for it any more, and nothing of it has happened
		}
		batch = append(batch, c)
		weight += w
	}
	clear(g.waiting[:taken]) // lets the garbage collector have them
	g.waiting = g.waiting[taken:]
	if len(batch) == 0 {
		g.waiting = nil
		if g.round == nil {
			g.lanes--
		}
	}
	return batch
}

// run flushes a batch. An error that condemns the whole batch may be one item's fault, so unless
// it is silence, each item is tried alone: a bad one must not sink its neighbours.
func (g *Group[In, Out]) run(ctx context.Context, batch []*call[In, Out]) {
	began := time.Now()
	results, err := g.try(ctx, batch)
	g.opts.Observe(len(batch), time.Since(began))
	if err != nil && len(batch) > 1 && !fault.Is(err, fault.Unavailable) {
		for i := range batch {
			g.run(ctx, batch[i:i+1])
		}
		return
	}
	for i, c := range batch {
		if err != nil {
			c.answer <- Result[Out]{Err: err}
			continue
		}
		c.answer <- results[i]
	}
}

func (g *Group[In, Out]) try(ctx context.Context, batch []*call[In, Out]) (results []Result[Out], err error) {
	ctx, cancel := context.WithTimeout(ctx, g.opts.Timeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("flush panicked: %v\n%s", p, debug.Stack())
		}
	}()
	items := make([]In, len(batch))
	for i, c := range batch {
		items[i] = c.in
	}
	results, err = g.flush(ctx, items)
	if err == nil && len(results) != len(batch) {
		err = fmt.Errorf("flush gave %d results for %d calls", len(results), len(batch))
	}
	return results, err
}
