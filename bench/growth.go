package bench

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"sync/atomic"
	"time"

	"cartwright/internal/progress"
	"cartwright/internal/store"
)

// growth puts the same load on a shop before and after it has a history.
func growth(ctx context.Context, b *bench) error {
	if err := b.sale(ctx, " before", b.products); err != nil {
		return err
	}
	if err := b.grow(ctx); err != nil {
		return fmt.Errorf("history: %w", err)
	}
	if err := b.sale(ctx, " after", b.products); err != nil {
		return err
	}
	before, after := b.report.phase("checkouts before"), b.report.phase("checkouts after")
	b.report.fact("finished orders put in", float64(b.rows), "")
	b.report.fact("rate after, as a share of before", after.Rate/before.Rate, "")
	b.report.fact("p50 after, as a share of before", after.P50/before.P50, "")
	b.report.fact("p99 after, as a share of before", after.P99/before.P99, "")
	return nil
}

// stepRows is how many orders one transaction puts in: it must end well within the time of one.
const stepRows = 10_000

// historyAge is how long ago the first of them began.
const historyAge = 30 * 24 * time.Hour

// grow puts finished orders into the databases, with all that belongs to them. Each step is one
// transaction over all databases, in which received equals sold, so that every balance holds after
// each. Payments are those of a provider called bench, of whose books nobody knows.
//
// Their checkouts have IDs of a past month, one a millisecond, and go in in that order, as they would
// have. The orders' own IDs are spread evenly like those that follow from idempotency keys, yet go in
// in their order too: that is quick, and leaves pages as full as they get.
func (b *bench) grow(ctx context.Context) error {
	admin, err := store.Open(b.set.AdminDSN, "", 1, store.Unhurried)
	if err != nil {
		return err
	}
	defer admin.Close()
	tag := make([]byte, 4)
	rand.Read(tag)                  //nolint:errcheck // it never fails
	text := hex.EncodeToString(tag) // tells two histories apart
	middle := text[:3] + "-8" + text[3:6] + "-"
	born := time.Now().Add(-historyAge).UnixMilli()
	var done atomic.Int64
	stop := b.progress.Follow(progress.Always("history"), b.rows, func() int { return int(done.Load()) })
	defer stop()
	for first := 0; first < b.rows; first += stepRows {
		count := min(stepRows, b.rows-first)
		err := store.InTx(ctx, admin, func(ctx context.Context, tx *store.Tx) error {
			if _, err := tx.ExecContext(ctx, "SET @first = ?, @count = ?, @all = ?, @tag = ?, @born = ?, @run = ?", first, count, b.rows, middle, born, b.run); err != nil {
				return err
			}
			for _, statement := range historyStatements {
				if _, err := tx.ExecContext(ctx, b.sql(withHistory.Replace(statement))); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		done.Add(int64(count))
	}
	return nil
}
