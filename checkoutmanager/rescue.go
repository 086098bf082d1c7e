package checkoutmanager

import (
	"context"
	"database/sql"
	"log/slog"
	"sync"
	"time"

	"cartwright/internal/store"
)

const (
	rescueInterval = time.Second
	rescueBatch    = 64
	rescueTimeout  = 20 * time.Second // for one checkout; below graceSeconds, when the next replica may look
)

// rescue walks checkouts that nobody has moved for a while: a payment was not decided yet, a
// worker died after its job was gone, a refund was refused. It is the only second way in.
type rescue struct {
	db     *sql.DB
	orders opener
	walk   func(context.Context, *checkout) error
	log    *slog.Logger
}

// run looks every second until ctx ends.
func (r *rescue) run(ctx context.Context) error {
	tick := time.NewTicker(rescueInterval)
	defer tick.Stop()
	for {
		for {
			due, err := r.claim(ctx)
			if err != nil && ctx.Err() == nil {
				r.log.WarnContext(ctx, "rescue cannot look", "error", err)
			}
			r.walkAll(ctx, due)
			if len(due) < rescueBatch || ctx.Err() != nil {
				break
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// dueQuery finds what is due and in no other replica's hand.
const dueQuery = `
	SELECT   ` + rowColumns + `
	FROM     orders
	WHERE    due_at <= NOW(6)
	ORDER BY due_at
	LIMIT    ?
	FOR UPDATE SKIP LOCKED`

// claim takes the checkouts that are due, so that no other replica looks at them for a while. The
// claim is a time in the row and no lock: whoever dies with it leaves nothing locked.
func (r *rescue) claim(ctx context.Context) (due []*checkout, err error) {
	err = store.InTx(ctx, r.db, func(ctx context.Context, tx *store.Tx) error {
		due = nil
		rows, err := tx.QueryContext(ctx, dueQuery, rescueBatch)
		if err != nil {
			return err
		}
		var ids []string
		err = scanRows(rows, func(saved row) {
			c := &checkout{}
			c.take(saved)
			due, ids = append(due, c), append(ids, c.id)
		})
		if err != nil || len(ids) == 0 {
			return err
		}
		return tx.Write(ctx, `
			UPDATE orders SET due_at = NOW(6) + INTERVAL ? SECOND
			WHERE  checkout_id IN `+store.In(len(ids)), append([]any{graceSeconds}, store.Args(ids)...)...)
	})
	return due, err
}

// walkAll walks checkouts side by side, so that one that hangs delays no other.
func (r *rescue) walkAll(ctx context.Context, due []*checkout) {
	var all sync.WaitGroup
	for _, c := range due {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rescueTimeout)
			defer cancel()
			err := r.walk(ctx, c)
			r.log.InfoContext(ctx, "rescued", "order_id", c.orderID, "checkout_id", c.id, "state", c.state, "error", err)
			if err == nil {
				return
			}
			if err := r.orders.park(ctx, c, err); err != nil {
				r.log.WarnContext(ctx, "rescue cannot park", "order_id", c.orderID, "checkout_id", c.id, "error", err)
			}
		})
	}
	all.Wait()
}
