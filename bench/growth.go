package bench

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"fmt"
	"sync/atomic"

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

// grow puts finished orders into the databases, with all that belongs to them. Each step is one
// transaction over all databases, in which received equals sold, so that every balance holds after
// each. Payments are those of a provider called bench, of whose books nobody knows.
//
// The orders have IDs spread evenly like those that follow from idempotency keys, and go in in
// their order: that is quick, and leaves pages as full as they get.
func (b *bench) grow(ctx context.Context) error {
	admin, err := store.Open(b.set.AdminDSN, "", 1, store.Unhurried)
	if err != nil {
		return err
	}
	defer admin.Close()
	tag := make([]byte, 4)
	rand.Read(tag) //nolint:errcheck // it never fails
	text := hex.EncodeToString(tag)
	middle := "-" + text[:4] + "-8" + text[4:7] + "-8" + text[5:8] + "-"
	var done atomic.Int64
	stop := b.progress.follow("history", b.rows, func() int { return int(done.Load()) })
	defer stop()
	for first := 0; first < b.rows; first += stepRows {
		count := min(stepRows, b.rows-first)
		err := store.InTx(ctx, admin, func(ctx context.Context, tx *sql.Tx) error {
			if _, err := tx.ExecContext(ctx, "SET @first = ?, @count = ?, @all = ?, @middle = ?, @run = ?", first, count, b.rows, middle, b.run); err != nil {
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
