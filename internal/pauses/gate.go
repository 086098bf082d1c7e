package pauses

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"cartwright/internal/fault"
	"cartwright/internal/store"
)

const (
	// lookEvery is how long a pause or a resume may go unnoticed. A look reads one row by its key.
	lookEvery = time.Second
	lookTime  = 3 * time.Second // for one look: a silent database must not hold up the end of a process
)

var errUnknown = errors.New("it is not known yet whether it is paused")

// Work is what a pause ends and a resume begins again.
type Work interface {
	// Run works until ctx ends, then finishes what is in hand.
	Run(ctx context.Context) error
	// Ready is nil while it works.
	Ready() error
}

// Gate lets work run while its queue is not paused. Until it is known how it stands with the queue,
// nothing runs; once it is, a database that cannot be read changes nothing.
type Gate struct {
	DB    *sql.DB
	Queue string
	Work  Work
	Log   *slog.Logger

	now   atomic.Pointer[Pause] // nil until it is known
	blind bool                  // whether the last look has seen nothing
}

// Run works whenever the queue is not paused, until ctx ends.
func (g *Gate) Run(ctx context.Context) error {
	for g.await(ctx, false) {
		if err := g.work(ctx); err != nil {
			return err
		}
	}
	return nil
}

// work ends when the queue is paused, when ctx ends, or when the work does.
func (g *Gate) work(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		defer stop()
		g.await(ctx, true)
	}()
	err := g.Work.Run(ctx)
	stop()
	<-watched
	return err
}

// await looks until the queue is paused, or is not. It returns false when ctx has ended before.
func (g *Gate) await(ctx context.Context, paused bool) bool {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		g.look(ctx)
		if p := g.now.Load(); p != nil && p.Paused == paused {
			return ctx.Err() == nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return false
}

// look notes how it stands with the queue, if the database can tell.
func (g *Gate) look(ctx context.Context) {
	try, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	p, err := Of(try, g.DB, g.Queue)
	before := g.now.Load()
	switch {
	case err == nil:
		g.now.Store(&p)
		if before == nil && p.Paused || before != nil && before.turn != p.turn {
			g.Log.InfoContext(ctx, map[bool]string{true: "paused", false: "resumed"}[p.Paused], "queue", g.Queue, "by", p.By, "since", p.Since)
		}
	case before == nil && store.IsNoTable(err): // of an earlier version, in which nothing could be paused
		g.now.Store(&Pause{})
	case !g.blind && ctx.Err() == nil:
		g.Log.WarnContext(ctx, "pauses cannot be read, so nothing is paused or resumed", "queue", g.Queue, "error", err)
	}
	g.blind = err != nil
}

// Ready is nil while the work is ready, and also while the queue is paused: nothing is wrong then.
func (g *Gate) Ready() error {
	switch p := g.now.Load(); {
	case p == nil:
		return fault.Away("queue "+g.Queue, errUnknown)
	case p.Paused:
		return nil
	}
	return g.Work.Ready()
}

// Note says that the queue is paused, by whom and since when; nothing while it is not.
func (g *Gate) Note() string {
	if p := g.now.Load(); p != nil && p.Paused {
		return "paused " + p.String()
	}
	return ""
}
