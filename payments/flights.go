package payments

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"cartwright/internal/fault"
	"cartwright/internal/hands"
)

// landingTime is how long a stopping process waits for what is in the air. What is cut off then is
// no more than silence: the next process that is asked looks the outcome up.
const landingTime = 3 * time.Second

// flights are calls that go on when their callers have left, because money may be moving: at most
// one at a time for each key, joined by everybody who asks for the same. Make one with newFlights.
type flights[T any] struct {
	mu     sync.Mutex
	inAir  map[string]*flight[T]
	closed bool
	all    sync.WaitGroup
	crew   *hands.Hands
}

type flight[T any] struct {
	cut    context.CancelFunc
	landed chan struct{} // closed once value and err are there
	value  T
	err    error
}

func newFlights[T any]() *flights[T] {
	return &flights[T]{inAir: map[string]*flight[T]{}, crew: hands.New()}
}

// do starts call, or joins the one that is in the air for the key, and waits for its end or for
// the end of ctx. call gets a context that outlives ctx.
func (f *flights[T]) do(ctx context.Context, key string, call func(context.Context) (T, error)) (T, error) {
	own, err := f.board(ctx, key, call)
	if err != nil {
		var none T
		return none, err
	}
	return own.wait(ctx)
}

// wait waits for the flight's end, or for the end of ctx.
func (own *flight[T]) wait(ctx context.Context) (T, error) {
	select {
	case <-own.landed:
		return own.value, own.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// board starts call, or joins the one that is in the air for the key.
func (f *flights[T]) board(ctx context.Context, key string, call func(context.Context) (T, error)) (*flight[T], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if own := f.inAir[key]; own != nil {
		return own, nil
	}
	if f.closed {
		return nil, fault.Away("payments", errors.New("stopping"))
	}
	ctx, cut := context.WithCancel(context.WithoutCancel(ctx))
	own := &flight[T]{cut: cut, landed: make(chan struct{})}
	f.inAir[key] = own
	f.all.Add(1)
	f.crew.Do(func() { f.fly(ctx, key, own, call) })
	return own, nil
}

func (f *flights[T]) fly(ctx context.Context, key string, own *flight[T], call func(context.Context) (T, error)) {
	defer func() {
		if p := recover(); p != nil {
			own.err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
		own.cut()
		f.mu.Lock()
		delete(f.inAir, key)
		f.mu.Unlock()
		close(own.landed)
		f.all.Done()
	}()
	own.value, own.err = call(ctx)
}

// run waits for ctx to end, and then for everything in the air, but not for long. Nothing starts
// after that.
func (f *flights[T]) run(ctx context.Context) error {
	<-ctx.Done()
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	late := time.AfterFunc(landingTime, f.cutAll)
	defer late.Stop()
	f.land()
	return nil
}

// land waits for everything in the air, and lets the crew go.
func (f *flights[T]) land() {
	f.all.Wait()
	f.crew.End()
}

func (f *flights[T]) cutAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, own := range f.inAir {
		own.cut()
	}
}
