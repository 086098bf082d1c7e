package checkoutmanager

import (
	"cmp"
	"context"
	"slices"

	"cartwright/internal/failpoint"
	"cartwright/internal/fault"
	"cartwright/internal/groupcommit"
	"cartwright/internal/ids"
	"cartwright/internal/outbox"
	"cartwright/internal/store"
)

// opening asks for the row of an order: of a checkout that begins or, with a refusal, of one that
// has failed before it began. Whoever makes the row first decides.
type opening struct {
	orderID string
	request request
	refusal *fault.Error
}

// opened is the row that the order has then.
type opened struct {
	row   row
	fresh bool // this opening made it
}

// open makes the checkout's row or finds the one that is there. The same order with another
// request is a fault.Mismatch.
func (o *orders) open(ctx context.Context, orderID string, r request) (c *checkout, fresh bool, err error) {
	after, err := o.opens.Do(ctx, opening{orderID: orderID, request: r})
	if err = failpoint.After(err, failpoint.OrderOpened); err != nil {
		return nil, false, err
	}
	if after.row.fingerprint != r.fingerprint {
		return nil, false, fault.New(fault.Mismatch, "idempotency_mismatch", "this Idempotency-Key was used for another request")
	}
	c = &checkout{}
	c.take(after.row)
	return c, after.fresh, nil
}

// refuse makes rows that have failed from the beginning, so nothing is ever asked for in their name.
func (o *orders) refuse(ctx context.Context, refusals []opening) []groupcommit.Result[opened] {
	return o.refusals.DoAll(ctx, refusals)
}

// begin saves a batch of openings in one transaction. Each brings a checkout ID of its own, which
// nobody hears of before the row is saved with it; an order that has a row keeps the ID that is
// there. At first it hopes that all are new, as nearly all are, and does not look. A key that is
// taken says otherwise, and then the second run looks.
func (o *orders) begin(ctx context.Context, batch []opening) ([]groupcommit.Result[opened], error) {
	made := newRows(batch)
	results := make([]groupcommit.Result[opened], len(batch))
	hoping := true
	err := store.InTx(ctx, o.db, func(ctx context.Context, tx *store.Tx) error {
		rows := map[string]row{}
		if !hoping {
			if err := findRows(ctx, tx, batch, rows); err != nil {
				return err
			}
		}
		hoping = false
		var fresh []row
		for i, asked := range batch {
			r, exists := rows[asked.orderID]
			if !exists {
				r = made[i]
				rows[asked.orderID], fresh = r, append(fresh, r)
			}
			results[i].Value = opened{r, !exists}
		}
		return addRows(ctx, tx, fresh)
	})
	return results, err
}

// newRows makes the row of each opening. Checkout IDs grow with time, so rows are added at the end
// of every table that has them; within a batch they grow with the orders' IDs too, so both indexes
// are locked in one order by all who write.
func newRows(batch []opening) []row {
	rows := make([]row, len(batch))
	byOrder := make([]*row, len(batch))
	for i, asked := range batch {
		rows[i] = row{request: asked.request, orderID: asked.orderID, state: placing}
		if asked.refusal != nil {
			rows[i] = rows[i].after(move{to: failed, reason: asked.refusal})
		}
		byOrder[i] = &rows[i]
	}
	slices.SortFunc(byOrder, func(a, b *row) int { return cmp.Compare(a.orderID, b.orderID) })
	for _, r := range byOrder {
		r.id = ids.New()
	}
	return rows
}

// findRows reads the rows that the orders of a batch have. It locks none: an opening changes no row
// that is there, and one that comes in between is a key that is taken.
func findRows(ctx context.Context, tx *store.Tx, batch []opening, rows map[string]row) error {
	orders := make([]any, len(batch))
	for i, asked := range batch {
		orders[i] = asked.orderID
	}
	found, err := tx.QueryContext(ctx, `SELECT `+rowColumns+` FROM orders WHERE order_id IN `+store.In(len(orders)), orders...)
	if err != nil {
		return err
	}
	return scanRows(found, func(r row) { rows[r.orderID] = r })
}

// addRows saves new rows, and the events of those that have ended with it. A key that is taken was
// taken a moment ago by another worker.
func addRows(ctx context.Context, tx *store.Tx, fresh []row) error {
	if len(fresh) == 0 {
		return nil
	}
	slices.SortFunc(fresh, byID)
	err := tx.Write(ctx, `
		INSERT INTO orders `+insertColumns+`
		VALUES `+store.Tuples(len(fresh), rowTuple), rowArgs(fresh)...)
	if store.IsDuplicate(err) {
		return store.ErrRaced
	}
	if err != nil {
		return err
	}
	var told []outbox.Event
	for _, r := range fresh {
		told = append(told, events(r, move{to: r.state})...)
	}
	return outbox.Add(ctx, tx, told...)
}
