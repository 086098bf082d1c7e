package cartmanager

import (
	"context"
	"database/sql"
	"log/slog"
	"time"

	"cartwright/internal/store"
)

const (
	answersKept   = 24 * time.Hour // a key that is used again later is a new request
	pruneInterval = time.Minute
	pruneStep     = 1000 // rows at a time, so that no job waits long for its table
)

// pruner forgets the answers to old jobs.
type pruner struct {
	db  *sql.DB
	log *slog.Logger
}

func (p pruner) run(ctx context.Context) error {
	tick := time.NewTicker(pruneInterval)
	defer tick.Stop()
	for {
		if err := p.prune(ctx, time.Now().UTC().Add(-answersKept)); err != nil && ctx.Err() == nil {
			p.log.WarnContext(ctx, "old answers kept for now", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

const pruneStatement = "DELETE FROM processed_jobs WHERE done_at < ? ORDER BY done_at LIMIT ?"

// prune deletes the answers from before a moment, step by step.
func (p pruner) prune(ctx context.Context, before time.Time) error {
	for ctx.Err() == nil {
		var gone int64
		err := store.InTx(ctx, p.db, func(ctx context.Context, tx *store.Tx) (err error) {
			gone, err = store.Matched(tx.ExecContext(ctx, pruneStatement, before, pruneStep))
			return err
		})
		if err != nil || gone < pruneStep {
			return err
		}
	}
	return nil
}
