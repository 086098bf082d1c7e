package payments

import (
	"cmp"
	"context"
	"database/sql"
	"slices"

	"cartwright/internal/groupcommit"
	"cartwright/internal/money"
	"cartwright/internal/outbox"
	"cartwright/internal/store"
)

// state of a payment. It only ever moves along these arrows:
//
//	none ──▶ initiated ──▶ charged ──▶ cancelling ──▶ refunded
//	             │ │                    ▲      │
//	             │ └────────────────────┘      ▼
//	             ├──▶ declined      none ──▶ cancelled ◀── initiated
type state string

const (
	none       state = ""           // there is no such payment
	initiated  state = "initiated"  // the provider may have been asked, and has not been heard
	charged    state = "charged"    // the money is here
	declined   state = "declined"   // it never came, and will not
	cancelling state = "cancelling" // on the way back; the provider has yet to confirm it
	cancelled  state = "cancelled"  // none came, and none will: the tombstone that refuses a late Charge
	refunded   state = "refunded"   // it came and went back
)

// payment is a row of the table of that name.
type payment struct {
	id          string
	orderID     string // empty for a tombstone: nobody has charged it
	amount      money.Amount
	method      string
	provider    string
	state       state
	providerRef string
	reasonCode  string
	reason      string
}

// ledger keeps our own books of payments. Calls that come together share one transaction.
type ledger struct {
	db    *sql.DB
	group *groupcommit.Group[entry, entered]
}

// entry is one look at one payment, and perhaps a change of it. decide gets the payment as it is
// under its lock, and returns it as it shall be, with an event if there is one to tell. It may be
// run again when the transaction is, so it does nothing but decide.
type entry struct {
	id    string
	isNew bool // most likely: then the row is not looked for, and a key that is taken tells otherwise
	// believed, if it has a state, is how the row most likely is: then it is not looked for either,
	// and the update that finds another tells otherwise. Only for what decide makes charged of it.
	believed payment
	decide   func(payment) (payment, *outbox.Event)
}

// entered is a payment after an entry, and what its state was before.
type entered struct {
	payment
	was state
}

func newLedger(db *sql.DB, m *metrics) *ledger {
	l := &ledger{db: db}
	l.group = groupcommit.New(l.flush, groupcommit.Options[entry]{Observe: m.sizes.Of("payments")})
	return l
}

// flush decides a whole batch in memory, in the order of arrival, with its rows locked or believed
// to be as they were, and then writes once. Where that was wrong, it is done again with all of
// them locked.
func (l *ledger) flush(ctx context.Context, batch []entry) ([]groupcommit.Result[entered], error) {
	results := make([]groupcommit.Result[entered], len(batch))
	again := false
	err := store.InTx(ctx, l.db, func(ctx context.Context, tx *store.Tx) error {
		before, err := lockPayments(ctx, tx, idsOf(batch, again))
		if err != nil {
			return err
		}
		var believed map[string]bool
		if !again {
			believed = believe(batch, before)
		}
		again = true
		after := map[string]payment{}
		var events []outbox.Event
		for i, e := range batch {
			now, seen := after[e.id]
			if !seen {
				now = before[e.id]
			}
			next, event := e.decide(now)
			after[e.id] = next
			results[i].Value = entered{next, now.state}
			if event != nil {
				events = append(events, *event)
			}
		}
		if err := writePayments(ctx, tx, before, after, believed); err != nil {
			return err
		}
		return outbox.Add(ctx, tx, events...)
	})
	return results, err
}

// idsOf lists the payments of a batch, each once, in the one order in which rows are locked: all of
// them, or those that are most likely there.
func idsOf(batch []entry, all bool) []string {
	var ids []string
	for _, e := range batch {
		if all || !e.isNew && e.believed.state == none {
			ids = append(ids, e.id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// believe adds to the rows that were read those that are believed, and returns which these are.
func believe(batch []entry, rows map[string]payment) (believed map[string]bool) {
	believed = map[string]bool{}
	for _, e := range batch {
		if _, read := rows[e.id]; !read && e.believed.state != none {
			rows[e.id], believed[e.id] = e.believed, true
		}
	}
	return believed
}

// lockPayments reads those of the payments that exist, and keeps anybody else from changing them.
// The index is named because a small table would be scanned whole, waiting for rows that are none
// of ours.
func lockPayments(ctx context.Context, tx *store.Tx, ids []string) (map[string]payment, error) {
	locked := map[string]payment{}
	if len(ids) == 0 {
		return locked, nil
	}
	rows, err := tx.QueryContext(ctx, `
		SELECT   payment_id, order_id, amount_minor, currency, method, provider, state, provider_ref, reason_code, reason
		FROM     payments FORCE INDEX (PRIMARY)
		WHERE    payment_id IN `+store.In(len(ids))+`
		ORDER BY payment_id
		FOR      UPDATE`, store.Args(ids)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var p payment
		if err := rows.Scan(&p.id, &p.orderID, &p.amount.Minor, &p.amount.Currency, &p.method, &p.provider, &p.state, &p.providerRef, &p.reasonCode, &p.reason); err != nil {
			return nil, err
		}
		locked[p.id] = p
	}
	return locked, rows.Err()
}

const paymentColumns = `(payment_id, order_id, amount_minor, currency, method, provider, state, provider_ref, reason_code, reason, created_at, updated_at)`

const paymentTuple = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NOW(6), NOW(6))"

// writePayments saves what has changed: new rows in one statement, known ones in another, and
// those that are believed to be initiated in a third.
func writePayments(ctx context.Context, tx *store.Tx, before, after map[string]payment, believed map[string]bool) error {
	var fresh, changed, taken []payment
	for id, p := range after {
		switch old, known := before[id]; {
		case p.state == none || p == old:
		case believed[id]:
			taken = append(taken, p)
		case known:
			changed = append(changed, p)
		default:
			fresh = append(fresh, p)
		}
	}
	if err := insertPayments(ctx, tx, fresh); err != nil {
		return err
	}
	if err := chargePayments(ctx, tx, taken); err != nil {
		return err
	}
	return updatePayments(ctx, tx, changed)
}

func insertPayments(ctx context.Context, tx *store.Tx, fresh []payment) error {
	if len(fresh) == 0 {
		return nil
	}
	err := tx.Write(ctx, "INSERT INTO payments "+paymentColumns+" VALUES "+store.Tuples(len(fresh), paymentTuple), paymentArgs(fresh)...)
	if store.IsDuplicate(err) {
		return store.ErrRaced // another process opened one of them after we had looked
	}
	return err
}

// chargedMax payments are charged by one statement, which looks each up in a list of all their
// references.
const chargedMax = 64

// chargePayments makes charged of what is initiated. One that is not was moved by another process,
// and then all of the batch is looked at.
func chargePayments(ctx context.Context, tx *store.Tx, taken []payment) error {
	slices.SortFunc(taken, byID)
	for some := range slices.Chunk(taken, chargedMax) {
		ids, refs := make([]any, len(some)), make([]any, len(some))
		for i, p := range some {
			ids[i], refs[i] = p.id, p.providerRef
		}
		list := store.In(len(some))
		err := tx.WriteAll(ctx, len(some), `
			UPDATE payments FORCE INDEX (PRIMARY)
			SET    state = 'charged', provider_ref = ELT(FIELD(payment_id, `+list[1:]+`, `+list[1:]+`, updated_at = NOW(6)
			WHERE  payment_id IN `+list+` AND state = 'initiated'`, slices.Concat(ids, refs, ids)...)
		if err != nil {
			return err
		}
	}
	return nil
}

func byID(a, b payment) int { return cmp.Compare(a.id, b.id) }

// updatePayments writes many different rows with one statement. All of them exist and are locked
// by us, so the insert in it never happens; and the decision that led here was made under that
// lock, so no second guard is needed.
func updatePayments(ctx context.Context, tx *store.Tx, changed []payment) error {
	if len(changed) == 0 {
		return nil
	}
	return tx.Write(ctx, "INSERT INTO payments "+paymentColumns+" VALUES "+store.Tuples(len(changed), paymentTuple)+`
		ON DUPLICATE KEY UPDATE
			state = VALUES(state), provider_ref = VALUES(provider_ref), reason_code = VALUES(reason_code),
			reason = VALUES(reason), updated_at = VALUES(updated_at)`, paymentArgs(changed)...)
}

// paymentArgs lists the rows in key order, in which every process writes them.
func paymentArgs(rows []payment) []any {
	slices.SortFunc(rows, byID)
	args := make([]any, 0, 10*len(rows))
	for _, p := range rows {
		args = append(args, p.id, p.orderID, p.amount.Minor, p.amount.Currency, p.method, p.provider, p.state, p.providerRef, p.reasonCode, p.reason)
	}
	return args
}
