package checkoutmanager

import (
	"context"
	"database/sql"
	"slices"
	"time"

	"cartwright/internal/fault"
	"cartwright/internal/ids"
	"cartwright/internal/pauses"
	"cartwright/internal/store"
	"cartwright/proto/checkoutpb"
)

const (
	listMax      = 1000
	historyMax   = 1000
	olderMax     = 365 * 24 * time.Hour
	undoneByHand = "undone_by_staff"
)

// operators answers people who look after checkouts that do not end by themselves. What they change
// goes through the same guarded moves as the saga's own, so it is safe whatever the saga does meanwhile.
type operators struct {
	checkoutpb.UnimplementedCheckoutsServer
	db     *sql.DB
	orders *orders
}

const checkoutColumns = `checkout_id, order_id, client_id, state, reason_code, reason, attempts, last_error, total_minor, currency, created_at, updated_at, due_at`

// unfinishedQuery goes by the index that has only what is unfinished behind its NULLs.
const unfinishedQuery = `
	SELECT   ` + checkoutColumns + `
	FROM     orders FORCE INDEX (due)
	WHERE    due_at IS NOT NULL AND created_at <= NOW(6) - INTERVAL ? SECOND
	ORDER BY created_at, checkout_id
	LIMIT    ?`

// ListCheckouts lists what has not ended, the oldest first.
func (o *operators) ListCheckouts(ctx context.Context, req *checkoutpb.ListCheckoutsRequest) (*checkoutpb.ListCheckoutsResponse, error) {
	limit, older := int(req.GetLimit()), req.GetOlderThanSeconds()
	switch {
	case limit < 1 || limit > listMax:
		return nil, fault.InvalidField("limit", "must be 1 to %d", listMax)
	case older < 0 || older > int64(olderMax.Seconds()):
		return nil, fault.InvalidField("older_than_seconds", "must be 0 to %d", int64(olderMax.Seconds()))
	}
	found, err := o.query(ctx, unfinishedQuery, older, limit+1)
	if err != nil {
		return nil, err
	}
	return &checkoutpb.ListCheckoutsResponse{Checkouts: found[:min(len(found), limit)], More: len(found) > limit}, nil
}

// GetCheckout reads one checkout and its history.
func (o *operators) GetCheckout(ctx context.Context, req *checkoutpb.GetCheckoutRequest) (*checkoutpb.GetCheckoutResponse, error) {
	found, err := o.find(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	history, err := o.history(ctx, found.GetCheckoutId())
	return &checkoutpb.GetCheckoutResponse{Checkout: found, History: history}, err
}

// ResumeCheckout makes a checkout due now.
func (o *operators) ResumeCheckout(ctx context.Context, req *checkoutpb.ResumeCheckoutRequest) (*checkoutpb.Checkout, error) {
	return o.move(ctx, req.GetId(), req.GetBy(), move{kind: resumeMove})
}

// UndoCheckout turns a checkout round, as a refusal would have.
func (o *operators) UndoCheckout(ctx context.Context, req *checkoutpb.UndoCheckoutRequest) (*checkoutpb.Checkout, error) {
	why := fault.New(fault.Refused, undoneByHand, "the shop has undone this checkout")
	return o.move(ctx, req.GetId(), req.GetBy(), move{kind: guardedMove, from: placing, to: undoing, reason: why})
}

// move makes one move in the name of somebody, and tells how the checkout is afterwards, or why it was
// not made.
func (o *operators) move(ctx context.Context, id, by string, m move) (*checkoutpb.Checkout, error) {
	if err := pauses.CheckName(by); err != nil {
		return nil, err
	}
	found, err := o.find(ctx, id)
	if err != nil {
		return nil, err
	}
	m.id, m.orderID, m.clientID, m.by = found.GetCheckoutId(), found.GetOrderId(), found.GetClientId(), by
	after, err := o.orders.ends.Do(ctx, m)
	if err != nil {
		return nil, err
	}
	if !after.made {
		return nil, notMade(after.row)
	}
	return o.find(ctx, m.id)
}

// notMade says why a checkout cannot be moved by hand any more.
func notMade(r row) error {
	switch r.state {
	case placed:
		return fault.New(fault.Refused, "checkout_placed", "order %s is placed: it is paid for and its stock is sold, so there is nothing left to resume or to undo", r.orderID)
	case failed:
		return fault.New(fault.Refused, "checkout_failed", "checkout %s has failed (%s) and everything was given back", r.id, r.reason)
	}
	return fault.New(fault.Refused, "checkout_undoing", "checkout %s is on its way back already (%s); it can be resumed", r.id, r.reason)
}

// find reads a checkout by its own ID or by its order's.
func (o *operators) find(ctx context.Context, id string) (*checkoutpb.Checkout, error) {
	if !ids.Valid(id) {
		return nil, fault.InvalidField("id", ids.Shape)
	}
	found, err := o.query(ctx, `SELECT `+checkoutColumns+` FROM orders WHERE checkout_id = ? OR order_id = ?`, id, id)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fault.New(fault.NotFound, "unknown_checkout", "there is no checkout and no order %s", id)
	}
	return found[0], nil
}

func (o *operators) query(ctx context.Context, query string, args ...any) (found []*checkoutpb.Checkout, err error) {
	rows, err := o.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, store.Classify(err)
	}
	defer rows.Close()
	for rows.Next() {
		c := &checkoutpb.Checkout{}
		var created, updated time.Time
		var due sql.NullTime
		if err := rows.Scan(&c.CheckoutId, &c.OrderId, &c.ClientId, &c.State, &c.ReasonCode, &c.Reason, &c.Attempts, &c.LastError,
			&c.TotalMinor, &c.Currency, &created, &updated, &due); err != nil {
			return nil, store.Classify(err)
		}
		c.CreatedAtUs, c.UpdatedAtUs = created.UnixMicro(), updated.UnixMicro()
		if due.Valid {
			c.DueAtUs = due.Time.UnixMicro()
		}
		found = append(found, c)
	}
	return found, store.Classify(rows.Err())
}

// history reads the newest lines of a checkout's history, and returns them the oldest first.
func (o *operators) history(ctx context.Context, checkoutID string) (all []*checkoutpb.CheckoutEvent, err error) {
	rows, err := o.db.QueryContext(ctx, `
		SELECT   event, done_by, note, happened_at
		FROM     checkout_history
		WHERE    checkout_id = ?
		ORDER BY id DESC
		LIMIT    ?`, checkoutID, historyMax)
	if err != nil {
		return nil, store.Classify(err)
	}
	defer rows.Close()
	for rows.Next() {
		e := &checkoutpb.CheckoutEvent{}
		var at time.Time
		if err := rows.Scan(&e.Event, &e.By, &e.Note, &at); err != nil {
			return nil, store.Classify(err)
		}
		e.AtUs = at.UnixMicro()
		all = append(all, e)
	}
	slices.Reverse(all)
	return all, store.Classify(rows.Err())
}
