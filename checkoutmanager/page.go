package checkoutmanager

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"cartwright/internal/mutation"
	"cartwright/internal/outbox"
	"cartwright/internal/store"
)

const (
	// graceSeconds is how long the worker that has a checkout in hand may take before rescue
	// looks at it too. Both at once is safe, only wasteful.
	graceSeconds = 30
	// A parked checkout is looked at again after a quarter of its age, within these bounds.
	parkSecondsMin = 2
	parkSecondsMax = 300
	// placedMax orders are placed by one statement, which looks each up in a list of all their totals.
	placedMax = 64
)

// write saves a page with at most one statement a table and kind, each in the order of its keys.
func (p page) write(ctx context.Context, tx *store.Tx) error {
	for _, part := range []func(context.Context, *store.Tx) error{p.writeHoped, p.writeChanged, p.writeParked, p.writeResumed, p.writeLines, p.writeHistory} {
		if err := part(ctx, tx); err != nil {
			return err
		}
	}
	return outbox.Add(ctx, tx, p.events...)
}

func byID(a, b row) int { return cmp.Compare(a.id, b.id) }

const insertColumns = `(checkout_id, order_id, client_id, request_hash, payment_method, email, state, reason_code, reason, total_minor, currency, created_at, updated_at, due_at)`

const rowTuple = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NOW(6), NOW(6), NOW(6) + INTERVAL ? SECOND)"

// rowArgs lists rows for rowTuple. What has ended needs no rescue.
func rowArgs(rows []row) (args []any) {
	for _, r := range rows {
		var due any = graceSeconds
		if r.state == placed || r.state == failed {
			due = nil
		}
		args = append(args, r.id, r.orderID, r.clientID, r.fingerprint[:], r.method, r.email, string(r.state), r.reasonCode, r.reason, r.total.Minor, r.total.Currency, due)
	}
	return args
}

// writeHoped places orders that are still being placed. One that is not was moved by another
// worker, and then all of the batch is looked at.
func (p page) writeHoped(ctx context.Context, tx *store.Tx) error {
	byCurrency := map[string][]move{}
	for _, m := range p.hoped {
		byCurrency[m.total.Currency] = append(byCurrency[m.total.Currency], m)
	}
	for _, currency := range slices.Sorted(maps.Keys(byCurrency)) {
		slices.SortFunc(byCurrency[currency], func(a, b move) int { return cmp.Compare(a.id, b.id) })
		for some := range slices.Chunk(byCurrency[currency], placedMax) {
			if err := place(ctx, tx, currency, some); err != nil {
				return err
			}
		}
	}
	return nil
}

func place(ctx context.Context, tx *store.Tx, currency string, moves []move) error {
	ids, totals := make([]any, len(moves)), make([]any, len(moves))
	for i, m := range moves {
		ids[i], totals[i] = m.id, m.total.Minor
	}
	list, guard := store.In(len(moves)), " AND state = 'placing'"
	if mutation.On(mutation.UnguardedFinish) {
		guard = ""
	}
	return tx.WriteAll(ctx, len(moves), `
		UPDATE orders FORCE INDEX (PRIMARY)
		SET    state = 'placed', total_minor = ELT(FIELD(checkout_id, `+list[1:]+`, `+list[1:]+`, currency = ?, updated_at = NOW(6), due_at = NULL
		WHERE  checkout_id IN `+list+guard, slices.Concat(ids, totals, []any{currency}, ids)...)
}

// writeChanged saves rows that are locked, so their new values are written as they are: the key
// exists, and the update half of the statement is what runs. A checkout that has ended needs no
// rescue; for the others, rescue looks when it would have looked anyway.
func (p page) writeChanged(ctx context.Context, tx *store.Tx) error {
	if len(p.changed) == 0 {
		return nil
	}
	slices.SortFunc(p.changed, byID)
	return tx.Write(ctx, `
		INSERT INTO orders `+insertColumns+`
		VALUES `+store.Tuples(len(p.changed), rowTuple)+`
		ON DUPLICATE KEY UPDATE
			state = VALUES(state), reason_code = VALUES(reason_code), reason = VALUES(reason),
			total_minor = VALUES(total_minor), currency = VALUES(currency), updated_at = VALUES(updated_at),
			due_at = IF(VALUES(state) IN ('placed', 'failed'), NULL, due_at)`, rowArgs(p.changed)...)
}

// writeLines saves what was bought, or would have been. A checkout that was turned round before
// its cart was frozen has none.
func (p page) writeLines(ctx context.Context, tx *store.Tx) error {
	slices.SortFunc(p.lines, func(a, b move) int { return cmp.Compare(a.id, b.id) })
	var args []any
	for _, m := range p.lines {
		for _, l := range m.lines {
			args = append(args, m.id, l.productID, l.name, l.quantity, l.unitPriceMinor)
		}
	}
	if len(args) == 0 {
		return nil
	}
	return tx.Write(ctx, `
		INSERT INTO order_lines (checkout_id, product_id, name, quantity, unit_price_minor)
		VALUES `+store.Tuples(len(args)/5, "(?, ?, ?, ?, ?)"), args...)
}

// What the events of an order say.
type (
	orderCreated struct {
		OrderID    string        `json:"orderId"`
		CustomerID string        `json:"customerId"`
		Items      []orderedItem `json:"items"`
		TotalPrice int64         `json:"totalPrice"` // in the currency's smallest unit
		Currency   string        `json:"currency"`
		Status     string        `json:"status"`
		Time       string        `json:"time"`
	}
	orderedItem struct {
		ProductID string `json:"productId"`
		Quantity  int64  `json:"quantity"`
		Price     int64  `json:"price"`
	}
	orderCancelled struct {
		OrderID            string `json:"orderId"`
		CustomerID         string `json:"customerId"`
		CancellationReason string `json:"cancellationReason"`
		CancelSource       string `json:"cancelSource"`
		Time               string `json:"time"`
	}
)

// events tells the world of the two ends of a checkout.
func events(r row, m move) []outbox.Event {
	now := time.Now().UTC().Format(time.RFC3339Nano)
	switch m.to {
	case placed:
		items := make([]orderedItem, len(m.lines))
		for i, l := range m.lines {
			items[i] = orderedItem{l.productID, l.quantity, l.unitPriceMinor}
		}
		return []outbox.Event{{Type: "order.created", Subject: r.orderID, Data: orderCreated{r.orderID, r.clientID, items, r.total.Minor, r.total.Currency, "PAID", now}}}
	case failed:
		return []outbox.Event{{Type: "order.cancelled", Subject: r.orderID, Data: orderCancelled{r.orderID, r.clientID, r.reasonCode, "checkout", now}}}
	}
	return nil
}
