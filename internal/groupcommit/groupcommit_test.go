package groupcommit_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"cartwright/internal/fault"
	"cartwright/internal/groupcommit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder is a flush that doubles numbers, remembers its batches and can be held up.
type recorder struct {
	mu      sync.Mutex
	batches [][]int
	gate    chan struct{} // if not nil, each flush takes one from it first
}

func (r *recorder) flush(_ context.Context, batch []int) ([]groupcommit.Result[int], error) {
	r.mu.Lock()
	r.batches = append(r.batches, batch)
	r.mu.Unlock()
	if r.gate != nil {
		<-r.gate
	}
	return double(batch), nil
}

func double(batch []int) []groupcommit.Result[int] {
	results := make([]groupcommit.Result[int], len(batch))
	for i, n := range batch {
		results[i].Value = 2 * n
	}
	return results
}

// sizes of the batches so far.
func (r *recorder) sizes() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]string, len(r.batches))
	for i, b := range r.batches {
		all[i] = fmt.Sprint(len(b))
	}
	return strings.Join(all, " ")
}

func (r *recorder) wantSizes(t *testing.T, want string) {
	t.Helper()
	if got := r.sizes(); got != want {
		t.Errorf("batches of %s, want %s", got, want)
	}
}

// doubled makes a call and checks its own answer.
func doubled(t *testing.T, g *groupcommit.Group[int, int], n int) {
	t.Helper()
	if got, err := g.Do(t.Context(), n); got != 2*n || err != nil {
		t.Errorf("twice %d is %d, %v", n, got, err)
	}
}

// The tests below run in a bubble of synctest: Wait returns when every goroutine is waiting for
// something, so "while the first batch is on its way" is a place in the program and no guess.

func TestALoneCallGoesAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		began := time.Now()
		g := groupcommit.New(r.flush, groupcommit.Options[int]{})
		for n := range 3 {
			doubled(t, g, n)
		}
		r.wantSizes(t, "1 1 1")
		if waited := time.Since(began); waited != 0 {
			t.Errorf("three calls waited %s", waited)
		}
	})
}

func TestTheNextBatchFillsWhileTheLastIsOnItsWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{gate: make(chan struct{})}
		g := groupcommit.New(r.flush, groupcommit.Options[int]{CallsMax: 40})
		for n := range 100 {
			go doubled(t, g, n)
			synctest.Wait()
		}
		r.wantSizes(t, "1")
		close(r.gate)
		g.Wait()
		synctest.Wait()
		r.wantSizes(t, "1 40 40 19")
		for _, b := range r.batches {
			for i := 1; i < len(b); i++ {
				if b[i] != b[i-1]+1 {
					t.Fatalf("batch out of order: %v", b)
				}
			}
		}
	})
}

func TestCallsAddedTogetherFlyTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		var observed []int
		g := groupcommit.New(r.flush, groupcommit.Options[int]{CallsMax: 3, Observe: func(n int, _ time.Duration) { observed = append(observed, n) }})
		for i, a := range g.DoAll(t.Context(), []int{5, 6, 7, 8}) {
			if a.Value != 2*(5+i) || a.Err != nil {
				t.Errorf("answer %d is %+v", i, a)
			}
		}
		r.wantSizes(t, "3 1")
		if fmt.Sprint(observed) != "[3 1]" {
			t.Errorf("observed %v", observed)
		}
		if none := g.DoAll(t.Context(), nil); len(none) != 0 {
			t.Errorf("no calls gave %v", none)
		}
		r.wantSizes(t, "3 1")
	})
}

func TestHeavyCallsMakeSmallBatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		g := groupcommit.New(r.flush, groupcommit.Options[int]{WeightMax: 10, Weight: func(n int) int { return n }})
		g.DoAll(t.Context(), []int{4, 6, 1, 50, 9, 1, 1})
		r.wantSizes(t, "2 1 1 2 1") // 50 is over the limit, and goes alone
	})
}

func TestLanesWorkSideBySide(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{gate: make(chan struct{})}
		g := groupcommit.New(r.flush, groupcommit.Options[int]{Lanes: 2})
		for n := range 5 {
			go doubled(t, g, n)
			synctest.Wait()
		}
		r.wantSizes(t, "1 1") // both on their way, and three wait
		r.gate <- struct{}{}
		synctest.Wait()
		r.wantSizes(t, "1 1 3")
		close(r.gate)
		g.Wait()
	})
}

func TestEachItemHasItsOwnError(t *testing.T) {
	t.Parallel()
	odd := errors.New("odd")
	g := groupcommit.New(func(_ context.Context, batch []int) ([]groupcommit.Result[int], error) {
		results := double(batch)
		for i, n := range batch {
			if n%2 == 1 {
				results[i].Err = odd
			}
		}
		return results, nil
	}, groupcommit.Options[int]{})
	for i, a := range g.DoAll(t.Context(), []int{0, 1, 2}) {
		if want := i == 1; errors.Is(a.Err, odd) != want {
			t.Errorf("answer %d: %v", i, a.Err)
		}
	}
}

// One item that the flush cannot stand condemns the whole; tried alone, only itself.
func TestABadItemDoesNotSinkItsNeighbours(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func() error{
		"error": func() error { return errors.New("a value that no column holds") },
		"panic": func() error { panic("a nil where none was expected") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := groupcommit.New(func(_ context.Context, batch []int) ([]groupcommit.Result[int], error) {
				for _, n := range batch {
					if n == 13 {
						return nil, spoil()
					}
				}
				return double(batch), nil
			}, groupcommit.Options[int]{})
			for i, a := range g.DoAll(t.Context(), []int{11, 12, 13, 14}) {
				if bad := i == 2; (a.Err != nil) != bad || (!bad && a.Value != 2*(11+i)) {
					t.Errorf("answer %d: %+v", i, a)
				}
			}
		})
	}
}

// Silence concerns the whole batch, and may have happened: nothing is tried again behind the
// callers' backs.
func TestSilenceIsEverybodysAnswer(t *testing.T) {
	t.Parallel()
	var flushes atomic.Int32
	g := groupcommit.New(func(context.Context, []int) ([]groupcommit.Result[int], error) {
		flushes.Add(1)
		return nil, fault.Away("the database", errors.New("gone"))
	}, groupcommit.Options[int]{})
	for i, a := range g.DoAll(t.Context(), []int{1, 2, 3}) {
		if !fault.Is(a.Err, fault.Unavailable) {
			t.Errorf("answer %d: %v", i, a.Err)
		}
	}
	if flushes.Load() != 1 {
		t.Errorf("%d flushes", flushes.Load())
	}
}

func TestAFlushEndsInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := groupcommit.New(func(ctx context.Context, _ []int) ([]groupcommit.Result[int], error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, groupcommit.Options[int]{Timeout: time.Minute})
		began := time.Now()
		_, err := g.Do(t.Context(), 1)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Minute {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

func TestAnswersMustBeAsManyAsCalls(t *testing.T) {
	t.Parallel()
	g := groupcommit.New(func(context.Context, []int) ([]groupcommit.Result[int], error) { return nil, nil }, groupcommit.Options[int]{})
	if _, err := g.Do(t.Context(), 1); fault.KindOf(err) != fault.Internal {
		t.Errorf("got %v, want an internal error", err)
	}
}

// A caller who gave up while waiting in line is not served any more; one whose batch is on its
// way gets his answer late, or never, but the work is done.
func TestACallerWhoGaveUpIsLeftOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{gate: make(chan struct{})}
		g := groupcommit.New(r.flush, groupcommit.Options[int]{})
		ctx, giveUp := context.WithCancel(t.Context())
		var gone [2]error
		go func() { _, gone[0] = g.Do(ctx, 1) }()
		synctest.Wait()
		go func() { _, gone[1] = g.Do(ctx, 2) }()
		go doubled(t, g, 3)
		synctest.Wait()
		giveUp()
		synctest.Wait()
		if !errors.Is(gone[0], context.Canceled) || !errors.Is(gone[1], context.Canceled) {
			t.Errorf("got %v, want each one's own cancellation at once", gone)
		}
		close(r.gate)
		g.Wait()
		if got := fmt.Sprint(r.batches); got != "[[1] [3]]" {
			t.Errorf("batches %s, want the one on its way, and the one who waited", got)
		}
	})
}

// The flush belongs to all its callers: the first one's cancellation does not reach it.
func TestTheFirstCallersCancellationIsHisOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		var cancelled error
		g := groupcommit.New(func(ctx context.Context, batch []int) ([]groupcommit.Result[int], error) {
			<-gate
			cancelled = ctx.Err()
			return double(batch), nil
		}, groupcommit.Options[int]{})
		ctx, giveUp := context.WithCancel(t.Context())
		go g.Do(ctx, 1) //nolint:errcheck // it gives up
		synctest.Wait()
		giveUp()
		close(gate)
		g.Wait()
		if cancelled != nil {
			t.Errorf("the flush was told %v", cancelled)
		}
	})
}

// Everybody gets the right answer, whatever meets whatever.
func TestManyCallersEachGetTheirOwnAnswer(t *testing.T) {
	t.Parallel()
	for _, lanes := range []int{1, 3} {
		r := &recorder{}
		g := groupcommit.New(r.flush, groupcommit.Options[int]{CallsMax: 16, Lanes: lanes})
		var all sync.WaitGroup
		for c := range 32 {
			all.Go(func() {
				for i := range 100 {
					doubled(t, g, 1000*c+i)
				}
				for i, a := range g.DoAll(t.Context(), []int{c, c + 1, c + 2}) {
					if a.Value != 2*(c+i) {
						t.Errorf("answer %d is %d", i, a.Value)
					}
				}
			})
		}
		all.Wait()
		g.Wait()
		calls := 0
		for _, b := range r.batches {
			calls += len(b)
		}
		if calls != 32*103 {
			t.Errorf("%d calls were flushed, want %d", calls, 32*103)
		}
	}
}

func BenchmarkDo(b *testing.B) {
	g := groupcommit.New(func(_ context.Context, batch []int) ([]groupcommit.Result[int], error) { return double(batch), nil }, groupcommit.Options[int]{})
	b.SetParallelism(256)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := g.Do(b.Context(), 1); err != nil {
				b.Error(err)
			}
		}
	})
}
