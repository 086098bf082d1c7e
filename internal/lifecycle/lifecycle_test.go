package lifecycle

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// diary notes what parts do, in order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) note(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, line)
}

// part runs until it is stopped, and then takes a second to finish.
func (d *diary) part(name string) Part {
	return Part{name, func(ctx context.Context) error {
		<-ctx.Done()
		d.note(name + " is told")
		time.Sleep(time.Second)
		d.note(name + " has ended")
		return nil
	}}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

var lastFirst = []string{"gRPC is told", "gRPC has ended", "relay is told", "relay has ended", "database is told", "database has ended"}

func TestTheLastPartIsStoppedFirst(t *testing.T) { // Z12
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var d diary
		ctx, stop := context.WithCancel(t.Context())
		time.AfterFunc(time.Minute, stop)
		if err := Run(ctx, quiet(), d.part("database"), d.part("relay"), d.part("gRPC")); err != nil {
			t.Error(err)
		}
		if !slices.Equal(d.lines, lastFirst) {
			t.Errorf("%q", d.lines)
		}
	})
}

func TestAPartThatEndsStopsTheOthers(t *testing.T) { // E14
	t.Parallel()
	broken := errors.New("port is taken")
	for name, ends := range map[string]struct {
		err  error
		want string
	}{"with an error": {broken, "debug port: port is taken"}, "by itself": {nil, "debug port: ended by itself"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var d diary
				failing := Part{"debug port", func(context.Context) error { time.Sleep(time.Minute); return ends.err }}
				err := Run(t.Context(), quiet(), d.part("database"), failing, d.part("relay"), d.part("gRPC"))
				if err == nil || err.Error() != ends.want || (ends.err != nil && !errors.Is(err, ends.err)) {
					t.Errorf("%v, want %s", err, ends.want)
				}
				if !slices.Equal(d.lines, lastFirst) {
					t.Errorf("%q", d.lines)
				}
			})
		})
	}
}

func TestErrorWhileStoppingIsTold(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	late := Part{"relay", func(ctx context.Context) error { <-ctx.Done(); return errors.New("events are left") }}
	if err := Run(ctx, quiet(), late); err == nil || !strings.Contains(err.Error(), "relay: events are left") {
		t.Errorf("%v", err)
	}
}
