package groupcommit

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// slow makes a group whose flush takes a while and counts its batches.
func slow(batches *atomic.Int64, running *atomic.Int64, t *testing.T) *Group[int, int] {
	return New(func(_ context.Context, in []int) ([]Result[int], error) {
		if running.Add(1) > 1 {
			t.Error("two groups of a round flush at the same time")
		}
		batches.Add(1)
		time.Sleep(5 * time.Millisecond)
		running.Add(-1)
		out := make([]Result[int], len(in))
		for i, n := range in {
			out[i].Value = n + 1
		}
		return out, nil
	}, Options[int]{})
}

// B2: calls that start together go through all stages together.
func TestCallsThatStartTogetherStayTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var batches [3]atomic.Int64
		var running atomic.Int64
		stages := []*Group[int, int]{slow(&batches[0], &running, t), slow(&batches[1], &running, t), slow(&batches[2], &running, t)}
		InTurn(stages[0], stages[1], stages[2])
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				n := 0
				for _, s := range stages {
					var err error
					if n, err = s.Do(t.Context(), n); err != nil {
						t.Error(err)
					}
				}
				if n != len(stages) {
					t.Errorf("went through %d stages, want %d", n, len(stages))
				}
			})
		}
		all.Wait()
		for i := range batches {
			if n := batches[i].Load(); n > 3 { // the first call may have gone alone
				t.Errorf("stage %d flushed %d batches for 100 calls", i, n)
			}
		}
		stages[0].Wait()
	})
}

// A call that comes at the moment when the round comes to rest is not left waiting.
func TestNoCallIsLeftWhenTheRoundRests(t *testing.T) {
	quick := func(_ context.Context, in []int) ([]Result[int], error) { return make([]Result[int], len(in)), nil }
	first, second := New(quick, Options[int]{}), New(quick, Options[int]{})
	InTurn(first, second)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range 5000 {
				g := first
				if i%2 == 0 {
					g = second
				}
				if _, err := g.Do(ctx, i); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	first.Wait()
}
