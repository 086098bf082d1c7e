package checkoutmanager

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	settleInterval = 250 * time.Millisecond
	settleBacklog  = 65_536 // placed orders that wait; what does not fit is left to rescue
	settleTimeout  = 10 * time.Second
)

// settler tidies up after placed orders. Nobody waits for that, so it lets many come together,
// and the busy transactions stay free for those who are waited for. What it does not get to, also
// because the process dies, is still due in its row, and rescue does it.
type settler struct {
	settle func(context.Context, *checkout) error
	placed chan *checkout
	log    *slog.Logger
}

func newSettler(settle func(context.Context, *checkout) error, log *slog.Logger) *settler {
	return &settler{settle, make(chan *checkout, settleBacklog), log}
}

// add takes a placed order; it never blocks.
func (s *settler) add(c *checkout) {
	select {
	case s.placed <- c:
	default:
	}
}

// run tidies up until ctx ends, and then once more.
func (s *settler) run(ctx context.Context) error {
	tick := time.NewTicker(settleInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.settleAll(ctx)
		case <-ctx.Done():
			s.settleAll(context.WithoutCancel(ctx))
			return nil
		}
	}
}

// settleAll settles what is there; the calls ride together.
func (s *settler) settleAll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	var all sync.WaitGroup
	for range len(s.placed) {
		c := <-s.placed
		all.Go(func() {
			if err := s.settle(ctx, c); err != nil {
				s.log.WarnContext(ctx, "left to rescue", "order_id", c.id, "error", err)
			}
		})
	}
	all.Wait()
}
