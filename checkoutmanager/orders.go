package checkoutmanager

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"cartwright/internal/failpoint"
	"cartwright/internal/fault"
	"cartwright/internal/groupcommit"
	"cartwright/internal/money"
	"cartwright/internal/outbox"
	"cartwright/internal/store"
)

// orders is the book of checkouts: the only code that writes the tables of this service. All
// moves of all checkouts go through two groups, one for each end of the saga, so a flush is one
// transaction for many; those that never begin have a third, in nobody's turn.
type orders struct {
	db       *sql.DB
	opens    *groupcommit.Group[opening, opened] // beginnings
	refusals *groupcommit.Group[opening, opened] // of what ends before it has begun
	ends     *groupcommit.Group[move, moved]     // all other moves
}

// move is one change of one checkout's row.
type move struct {
	kind        moveKind
	id, orderID string
	// of a guarded move
	clientID string
	from, to state
	reason   *fault.Error
	lines    []line
	total    money.Amount

	by   string // whose hand it is by; empty for the saga's own
	note string // of parkMove: why it waits
}

type moveKind int

const (
	guardedMove moveKind = iota // from one state to the next, if it is still there
	parkMove                    // leave it to rescue, later
	resumeMove                  // leave it to rescue, now
)

// request is what a checkout was asked for with.
type request struct {
	clientID, method, email string
	fingerprint             [32]byte
}

// moved is the row after a move.
type moved struct {
	row   row
	hoped bool // it went as hoped: the row was not read, and is as the move left it
	made  bool // the row was where the move starts from
}

// row is a checkout as it is saved.
type row struct {
	request
	id, orderID string
	state       state
	reasonCode  string
	reason      string
	total       money.Amount
	age         time.Duration // since it was opened, by the database's clock
}

func newOrders(db *sql.DB, observe func(group string) groupcommit.Observer) *orders {
	o := &orders{db: db}
	o.opens = groupcommit.New(o.begin, groupcommit.Options[opening]{Observe: observe("open")})
	o.refusals = groupcommit.New(o.begin, groupcommit.Options[opening]{Observe: observe("refuse")})
	weight := func(m move) int { return 1 + len(m.lines) }
	o.ends = groupcommit.New(o.flush, groupcommit.Options[move]{Weight: weight, Observe: observe("end")})
	return o
}

func (o *orders) turn(ctx context.Context, c *checkout, reason *fault.Error) error {
	return o.guarded(ctx, c, move{from: placing, to: undoing, reason: reason, lines: c.lines, total: c.total})
}

func (o *orders) end(ctx context.Context, c *checkout, from, to state) error {
	return o.guarded(ctx, c, move{from: from, to: to, reason: c.reason, lines: c.lines, total: c.total})
}

func (o *orders) guarded(ctx context.Context, c *checkout, m move) error {
	m.kind, m.id, m.orderID, m.clientID = guardedMove, c.id, c.orderID, c.clientID
	after, err := o.ends.Do(ctx, m)
	if err = failpoint.After(err, failpoint.OrderSaved); err != nil {
		return err
	}
	if after.hoped {
		c.state = m.to // all else it knew already
		return nil
	}
	c.take(after.row)
	if c.reason != nil && m.reason != nil && c.reason.Code == m.reason.Code {
		c.reason.Details = m.reason.Details // the row has none, but whoever waits now can be told
	}
	return nil
}

// park leaves a checkout to rescue, and notes why. The longer it has taken already, the later rescue looks.
func (o *orders) park(ctx context.Context, c *checkout, why error) error {
	_, err := o.ends.Do(ctx, move{kind: parkMove, id: c.id, orderID: c.orderID, note: store.Clip(why.Error(), reasonMax)})
	return err
}

// take makes the row's state the checkout's own.
func (c *checkout) take(r row) {
	c.id, c.orderID = r.id, r.orderID
	c.clientID, c.method, c.email = r.clientID, r.method, r.email
	c.state = r.state
	c.opened = time.Now().Add(-r.age)
	if r.reasonCode != "" {
		c.reason = fault.New(fault.Refused, r.reasonCode, "%s", r.reason)
	}
	if r.total != (money.Amount{}) {
		c.total = r.total
	}
}

// flush saves a batch of moves in one transaction: lock the rows, decide each move in the order
// of arrival, write once. At first it hopes that rows to be placed are where their worker left
// them, as nearly all are, and does not look. A row that is elsewhere says otherwise, and then the
// second run looks.
func (o *orders) flush(ctx context.Context, batch []move) ([]groupcommit.Result[moved], error) {
	var results []groupcommit.Result[moved]
	hoping := hopeful(batch)
	err := store.InTx(ctx, o.db, func(ctx context.Context, tx *store.Tx) error {
		hopes := hoping
		hoping = nil
		rows, err := lockRows(ctx, tx, batch, hopes)
		if err != nil {
			return err
		}
		var p page
		results, p = decide(rows, batch, hopes)
		return p.write(ctx, tx)
	})
	return results, err
}

// hopeful tells for each move of a batch whether it can do without a look: ordinary ends of
// checkouts that the batch has no other move of.
func hopeful(batch []move) []bool {
	times := map[string]int{}
	for _, m := range batch {
		times[m.id]++
	}
	hopes := make([]bool, len(batch))
	for i, m := range batch {
		hopes[i] = m.kind == guardedMove && m.from == placing && m.to == placed && times[m.id] == 1
	}
	return hopes
}

// page is what a batch of moves writes.
type page struct {
	hoped   []move // placed, if they are where they were
	changed []row
	parked  []move
	resumed []string
	lines   []move // whose lines are to be saved
	history []happening
	events  []outbox.Event
}

// decide applies a batch to the rows as they are. It is the guard: of two moves away from one
// state, the first wins, and the second is told what became of the row. For moves that hope, the
// statement that saves them is.
func decide(rows map[string]row, batch []move, hopes []bool) ([]groupcommit.Result[moved], page) {
	var p page
	results := make([]groupcommit.Result[moved], len(batch))
	changed := map[string]bool{}
	for i, m := range batch {
		r, exists := rows[m.id]
		switch {
		case hopes != nil && hopes[i]:
			p.hoped, p.lines = append(p.hoped, m), append(p.lines, m)
			p.events = append(p.events, events(row{request: request{clientID: m.clientID}, orderID: m.orderID, total: m.total}, m)...)
			results[i].Value.hoped, results[i].Value.made = true, true
			continue
		case !exists:
			results[i].Err = fault.New(fault.NotFound, "unknown_order", "there is no checkout %s of order %s", m.id, m.orderID)
			continue
		case m.kind == guardedMove && r.state == m.from:
			r = r.after(m)
			changed[m.id] = true
			p.events = append(p.events, events(r, m)...)
			if m.to == undoing || m.to == placed {
				p.lines = append(p.lines, m)
			}
			results[i].Value.made = true
			p.note(r, m)
		case m.kind != guardedMove && (r.state == placing || r.state == undoing):
			results[i].Value.made = true
			p.note(r, m)
		}
		rows[m.id] = r
		results[i].Value.row = r
	}
	for id := range changed {
		p.changed = append(p.changed, rows[id])
	}
	return results, p
}

// after is the row once a guarded move has been made.
func (r row) after(m move) row {
	r.state = m.to
	if m.reason != nil {
		r.reasonCode, r.reason = m.reason.Code, store.Clip(m.reason.Message, reasonMax)
	}
	if m.total != (money.Amount{}) {
		r.total = m.total
	}
	return r
}

const reasonMax = 500 // characters, the column's width

// lockRows locks the rows that a batch is about, in the order of their IDs, except those of moves
// that hope.
func lockRows(ctx context.Context, tx *store.Tx, batch []move, hopes []bool) (map[string]row, error) {
	var ids []string
	for i, m := range batch {
		if hopes == nil || !hopes[i] {
			ids = append(ids, m.id)
		}
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	rows := make(map[string]row, len(ids))
	if len(ids) == 0 {
		return rows, nil
	}
	found, err := tx.QueryContext(ctx, `
		SELECT   `+rowColumns+`
		FROM     orders
		WHERE    checkout_id IN `+store.In(len(ids))+`
		ORDER BY checkout_id
		FOR UPDATE`, store.Args(ids)...)
	if err != nil {
		return nil, err
	}
	return rows, scanRows(found, func(r row) { rows[r.id] = r })
}

const rowColumns = `checkout_id, order_id, client_id, request_hash, payment_method, email, state, reason_code, reason,
	total_minor, currency, TIMESTAMPDIFF(MICROSECOND, created_at, NOW(6))`

// scanRows hands every row to use, and closes them.
func scanRows(rows *sql.Rows, use func(row)) error {
	defer rows.Close()
	for rows.Next() {
		r, err := scanRow(rows)
		if err != nil {
			return err
		}
		use(r)
	}
	return rows.Err()
}

func scanRow(rows *sql.Rows) (row, error) {
	var r row
	var hash []byte
	var age int64
	err := rows.Scan(&r.id, &r.orderID, &r.clientID, &hash, &r.method, &r.email, &r.state, &r.reasonCode, &r.reason,
		&r.total.Minor, &r.total.Currency, &age)
	if err == nil && len(hash) != len(r.fingerprint) {
		err = fmt.Errorf("order %s: request_hash has %d bytes", r.orderID, len(hash))
	}
	copy(r.fingerprint[:], hash)
	r.age = time.Duration(age) * time.Microsecond
	return r, err
}
