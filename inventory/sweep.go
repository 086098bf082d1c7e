package inventory

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"time"

	"cartwright/internal/store"
)

const (
	sweepEvery = time.Second // a lapsed promise is back on the shelf within about this
	sweepMax   = 256         // reservations at a time: one flush
	sweepTime  = 10 * time.Second
)

// sweeper releases the reservations whose time is up. Replicas may all sweep: whoever locks a
// reservation first releases it, and the others find that done.
type sweeper struct {
	books
	*server
	log *slog.Logger
}

// Run sweeps every second until ctx ends.
func (s sweeper) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := s.sweep(ctx); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "lapsed reservations wait", "error", err)
		}
	}
}

// sweep releases what has lapsed by now.
func (s sweeper) sweep(ctx context.Context) error {
	for {
		ids, err := s.lapsed(ctx)
		if err != nil || len(ids) == 0 {
			return err
		}
		ops := make([]operation, len(ids))
		for i, id := range ids {
			ops[i] = operation{verb: expire, id: id}
		}
		for i, r := range s.writes.DoAll(ctx, ops) {
			if r.Err != nil {
				return fmt.Errorf("reservation %s: %w", ids[i], r.Err)
			}
		}
		if len(ids) < sweepMax {
			return nil
		}
	}
}

const lapsedQuery = `
	SELECT   reservation_id
	FROM     reservations
	WHERE    expires_at <= NOW(6)
	ORDER BY expires_at
	LIMIT    ?`

// lapsed lists the reservations that are over for longest.
func (s sweeper) lapsed(ctx context.Context) (ids []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, sweepTime)
	defer cancel()
	err = readChunk(ctx, s.db, lapsedQuery, []any{sweepMax}, func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		ids = append(ids, id)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("lapsed reservations: %w", store.Classify(err))
	}
	return ids, nil
}
