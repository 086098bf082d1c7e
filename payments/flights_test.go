package payments

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cartwright/internal/fault"
)

func TestFlightIsJoinedAndNotRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFlights[int]()
		defer f.land()
		var calls atomic.Int32
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				got, err := f.do(t.Context(), "key", func(context.Context) (int, error) {
					time.Sleep(time.Second)
					return int(calls.Add(1)), nil
				})
				if got != 1 || err != nil {
					t.Errorf("%d, %v", got, err)
				}
			})
		}
		all.Wait()
		if len(f.inAir) != 0 {
			t.Errorf("%d flights left", len(f.inAir))
		}
	})
}

func TestFlightOutlivesItsCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFlights[int]()
		defer f.land()
		ctx, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		ended := false
		_, err := f.do(ctx, "key", func(ctx context.Context) (int, error) {
			time.Sleep(time.Minute)
			ended = ctx.Err() == nil
			return 0, nil
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		f.all.Wait()
		if !ended {
			t.Error("the call was cancelled with its caller")
		}
	})
}

func TestPanicOnAFlightIsAnError(t *testing.T) {
	t.Parallel()
	f := newFlights[int]()
	defer f.land()
	_, err := f.do(t.Context(), "key", func(context.Context) (int, error) { panic("lost a wing") })
	if err == nil || !strings.Contains(err.Error(), "lost a wing") {
		t.Fatal(err)
	}
	if got, err := f.do(t.Context(), "key", func(context.Context) (int, error) { return 1, nil }); got != 1 || err != nil {
		t.Fatalf("the next one: %d, %v", got, err)
	}
}

// A process that stops waits for what is in the air, but not for a provider that never answers.
func TestStoppingWaitsButNotForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFlights[int]()
		defer f.land()
		for key, takes := range map[string]time.Duration{"short": landingTime / 2, "endless": time.Hour} {
			go f.do(t.Context(), key, func(ctx context.Context) (int, error) { return 0, pause(ctx, takes) }) //nolint:errcheck // looked at below
		}
		synctest.Wait()
		ctx, stop := context.WithCancel(t.Context())
		stop()
		began := time.Now()
		if err := f.run(ctx); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != landingTime {
			t.Errorf("stopping took %s, want %s", took, landingTime)
		}
		_, err := f.do(t.Context(), "late", func(context.Context) (int, error) { return 0, nil })
		wantFault(t, err, fault.Unavailable, "unavailable")
	})
}
