package bench

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"cartwright/internal/messaging"
	"cartwright/internal/store"
	"cartwright/jobs"
)

// drainLook is how often the queue is looked at while it is worked off.
const drainLook = 200 * time.Millisecond

// backlog queues checkouts faster than they are worked off, and times how long that takes.
func backlog(ctx context.Context, b *bench) error {
	if err := b.shelve(ctx, b.products, plenty); err != nil {
		return err
	}
	from := b.newCarts(b.jobs)
	lines := make([]line, b.jobs)
	for i := range lines {
		lines[i] = line{from + i, i % b.products}
	}
	if _, err := b.fill(ctx, "carts", lines, b.buyers); err != nil {
		return err
	}
	return b.phaseOfBacklog(ctx, from)
}

// phaseOfBacklog measures how quickly jobs are accepted, and watches the processes until the last
// of them is done.
func (b *bench) phaseOfBacklog(ctx context.Context, from int) error {
	var queued time.Time
	var depth, unfinished int
	_, err := b.phase(ctx, "jobs queued", func() (m Measure, err error) {
		err = b.whilePaused(ctx, func() error {
			r, err := b.buy(ctx, load{what: "jobs", n: b.jobs, hands: b.buyers, ask: func(i int, r *fasthttp.Request) {
				b.checkOut(r, from+i, "")
				r.Header.Set("Prefer", "respond-async")
			}}, from)
			m = b.gen.answers.measure("jobs queued", r.samples, r.took)
			if err != nil {
				return err
			}
			queued = time.Now()
			unfinished, err = b.unfinished(ctx)
			if err != nil {
				return err
			}
			depth, err = b.depth(ctx)
			return err
		})
		if err != nil {
			return m, err
		}
		return m, b.drained(ctx, depth)
	})
	if err != nil {
		return err
	}
	took := time.Since(queued)
	b.report.fact("jobs that had no end yet when the last was accepted", float64(unfinished), "")
	b.report.fact("of them on the queue, and the others in workers' hands", float64(depth), "")
	b.report.fact("worked off after", took.Seconds(), "s")
	b.report.fact("that is", float64(unfinished)/took.Seconds(), "jobs/s")
	return nil
}

// unfinished is how many of the run's checkouts have no end yet.
func (b *bench) unfinished(ctx context.Context) (int, error) {
	ended := 0
	err := b.db.QueryRowContext(ctx, b.sql("SELECT COUNT(*) FROM {checkouts}.orders WHERE client_id LIKE ? AND state IN ('placed', 'failed')"), b.run+"-c%").Scan(&ended)
	return len(b.told) - ended, store.Classify(err)
}

// whilePaused is where the queue is to be paused, and set going again after do. There is no such
// thing yet, so workers take jobs all the while.
func (b *bench) whilePaused(_ context.Context, do func() error) error { return do() }

// drained waits until no job waits on the queue any more. What workers have in hand then is
// waited for by quiet.
func (b *bench) drained(ctx context.Context, deepest int) error {
	left := deepest
	var done atomic.Int64
	stop := b.progress.follow("taken from the queue", deepest, func() int { return int(done.Load()) })
	defer stop()
	for limit := time.Now().Add(quietLimit); left > 0; done.Store(int64(deepest - left)) {
		if !pause(ctx, drainLook) {
			return ctx.Err()
		}
		now, err := b.depth(ctx)
		if err != nil {
			return err
		}
		if now < left {
			limit = time.Now().Add(quietLimit)
		}
		if left = now; time.Now().After(limit) {
			return fmt.Errorf("the queue has not become shorter for %s: %d jobs wait", quietLimit, left)
		}
	}
	return nil
}

// depth is how many checkouts wait on the queue. What workers have in hand is not counted.
func (b *bench) depth(ctx context.Context) (int, error) {
	broker := messaging.Broker{URL: b.set.AMQPURL, Topology: jobs.Topology(b.set.Namespace), Log: slog.New(slog.DiscardHandler)}
	depths, err := broker.Depths(ctx)
	if err != nil {
		return 0, err
	}
	for _, d := range depths {
		if d.Queue == jobs.Checkoutmanager {
			return d.Waiting, nil
		}
	}
	return 0, fmt.Errorf("there is no queue %s", jobs.Checkoutmanager)
}
