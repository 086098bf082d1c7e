package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"cartwright/internal/lifecycle"
	"cartwright/internal/messaging"
	"cartwright/internal/pauses"
	"cartwright/internal/progress"
	"cartwright/internal/store"
	"cartwright/jobs"
	schema "cartwright/sql"
)

const (
	// drainLook is how often the queue is looked at while it is paused or worked off.
	drainLook = 200 * time.Millisecond
	// pauser is who stands in the record of pauses.
	pauser = "cartwright bench"
)

// backlog queues checkouts while the workers are paused, and times how long they take to work
// them off.
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
			d, err := b.queue(ctx)
			depth = d.Waiting
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

// whilePaused does something while no worker takes a checkout.
func (b *bench) whilePaused(ctx context.Context, do func() error) (err error) {
	db, err := store.Open(b.set.AdminDSN, b.set.Namespace+schema.Checkouts, 1)
	if err != nil {
		return err
	}
	defer db.Close()
	change := func(ctx context.Context, paused bool) (pauses.Pause, error) {
		return pauses.Change(ctx, db, string(jobs.Checkoutmanager), paused, pauser)
	}
	before, err := change(ctx, true)
	switch {
	case err != nil:
		return fmt.Errorf("pause: %w", err)
	case before.Paused:
		return fmt.Errorf("the queue is paused %s: resume it first", before)
	}
	defer func() { // also when this was interrupted
		if _, resumeErr := change(context.WithoutCancel(ctx), false); resumeErr != nil {
			err = errors.Join(err, fmt.Errorf("resume: %w", resumeErr))
		}
	}()
	if err := b.stopped(ctx); err != nil {
		return err
	}
	return do()
}

// stopped waits until no worker takes checkouts.
func (b *bench) stopped(ctx context.Context) error {
	for limit := time.Now().Add(quietLimit); ; {
		d, err := b.queue(ctx)
		if err != nil || d.Consumers == 0 {
			return err
		}
		if time.Now().After(limit) {
			return fmt.Errorf("%d workers still take checkouts %s after the pause", d.Consumers, quietLimit)
		}
		if !lifecycle.Pause(ctx, drainLook) {
			return ctx.Err()
		}
	}
}

// drained waits until no job waits on the queue any more. What workers have in hand then is
// waited for by quiet.
func (b *bench) drained(ctx context.Context, deepest int) error {
	left := deepest
	var done atomic.Int64
	stop := b.progress.Follow(progress.Always("taken from the queue"), deepest, func() int { return int(done.Load()) })
	defer stop()
	for limit := time.Now().Add(quietLimit); left > 0; done.Store(int64(deepest - left)) {
		if !lifecycle.Pause(ctx, drainLook) {
			return ctx.Err()
		}
		d, err := b.queue(ctx)
		if err != nil {
			return err
		}
		if d.Waiting < left {
			limit = time.Now().Add(quietLimit)
		}
		if left = d.Waiting; time.Now().After(limit) {
			return fmt.Errorf("the queue has not become shorter for %s: %d jobs wait", quietLimit, left)
		}
	}
	return nil
}

// queue tells how many checkouts wait on the queue, without those that workers have in hand, and
// how many workers take them.
func (b *bench) queue(ctx context.Context) (messaging.Depth, error) {
	broker := messaging.Broker{URL: b.set.AMQPURL, Topology: jobs.Topology(b.set.Namespace), Log: slog.New(slog.DiscardHandler)}
	depths, err := broker.Depths(ctx)
	if err != nil {
		return messaging.Depth{}, err
	}
	for _, d := range depths {
		if d.Queue == jobs.Checkoutmanager {
			return d, nil
		}
	}
	return messaging.Depth{}, fmt.Errorf("there is no queue %s", jobs.Checkoutmanager)
}
