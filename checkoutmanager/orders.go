package checkoutmanager

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

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
	opens    *groupcommit.Group[move, moved] // beginnings
	ends     *groupcommit.Group[move, moved] // all other moves
	refusals *groupcommit.Group[move, moved] // of what ends before it has begun
}

// move is one change of one checkout's row.
type move struct {
	kind moveKind
	id   string
	// open and refuse; of an end, the client alone
	request request
	// turn, end and refuse
	from, to state
	reason   *fault.Error
	lines    []line
	total    money.Amount
}

type moveKind int

const (
	openMove    moveKind = iota // make the row, or find it
	refuseMove                  // make the row of a checkout that has failed, or find it
	guardedMove                 // from one state to the next, if it is still there
	parkMove                    // leave it to rescue, later
)

// request is what a checkout was asked for with.
type request struct {
	clientID, method, email string
	fingerprint             [32]byte
}

// moved is the row after a move.
type moved struct {
	row   row
	fresh bool // this move made it
	hoped bool // it went as hoped: the row was not read, and is as the move left it
}

// row is a checkout as it is saved.
type row struct {
	request
	id         string
	state      state
	reasonCode string
	reason     string
	total      money.Amount
	age        time.Duration // since it was opened, by the database's clock
}

func newOrders(db *sql.DB, observe func(group string) groupcommit.Observer) *orders {
	o := &orders{db: db}
	weight := func(m move) int { return 1 + len(m.lines) }
	o.opens = groupcommit.New(o.flush, groupcommit.Options[move]{Weight: weight, Observe: observe("open")})
	o.ends = groupcommit.New(o.flush, groupcommit.Options[move]{Weight: weight, Observe: observe("end")})
	o.refusals = groupcommit.New(o.flush, groupcommit.Options[move]{Observe: observe("refuse")})
	return o
}

// open makes the checkout's row or finds the one that is there. The same ID with another request
// is a fault.Mismatch.
func (o *orders) open(ctx context.Context, id string, r request) (c *checkout, fresh bool, err error) {
	m, err := o.opens.Do(ctx, move{kind: openMove, id: id, request: r})
	if err != nil {
		return nil, false, err
	}
	if m.row.fingerprint != r.fingerprint {
		return nil, false, fault.New(fault.Mismatch, "idempotency_mismatch", "this Idempotency-Key was used for another request")
	}
	c = &checkout{id: id}
	c.take(m.row)
	return c, m.fresh, nil
}

// refuse makes rows that have failed from the beginning, so nothing is ever asked for in their name.
// The answer tells for each whether there was none before.
func (o *orders) refuse(ctx context.Context, moves []move) []groupcommit.Result[moved] {
	for i := range moves {
		moves[i].kind, moves[i].to = refuseMove, failed
	}
	return o.refusals.DoAll(ctx, moves)
}

func (o *orders) turn(ctx context.Context, c *checkout, reason *fault.Error) error {
	return o.guarded(ctx, c, move{from: placing, to: undoing, reason: reason, lines: c.lines, total: c.total})
}

func (o *orders) end(ctx context.Context, c *checkout, from, to state) error {
	return o.guarded(ctx, c, move{from: from, to: to, request: request{clientID: c.clientID}, reason: c.reason, lines: c.lines, total: c.total})
}

func (o *orders) guarded(ctx context.Context, c *checkout, m move) error {
	m.kind, m.id = guardedMove, c.id
	after, err := o.ends.Do(ctx, m)
	if err != nil {
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

// park leaves a checkout to rescue. The longer it has taken already, the later rescue looks.
func (o *orders) park(ctx context.Context, id string) error {
	_, err := o.ends.Do(ctx, move{kind: parkMove, id: id})
	return err
}

// take makes the row's state the checkout's own.
func (c *checkout) take(r row) {
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
// of arrival, write once. At first it hopes and does not look: rows to be opened are nearly all
// new, and those to be placed nearly all where their worker left them. A key that is taken, or a
// row that is elsewhere, says otherwise, and then the second run looks.
func (o *orders) flush(ctx context.Context, batch []move) ([]groupcommit.Result[moved], error) {
	var results []groupcommit.Result[moved]
	hoping := hopeful(batch)
	err := store.InTx(ctx, o.db, func(ctx context.Context, tx *sql.Tx) error {
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

// hopeful tells for each move of a batch whether it can do without a look: new rows, and ordinary
// ends of orders that the batch has no other move of.
func hopeful(batch []move) []bool {
	times := map[string]int{}
	for _, m := range batch {
		times[m.id]++
	}
	hopes := make([]bool, len(batch))
	for i, m := range batch {
		hopes[i] = m.kind == openMove || m.kind == refuseMove || m.kind == guardedMove && m.from == placing && m.to == placed && times[m.id] == 1
	}
	return hopes
}

// page is what a batch writes.
type page struct {
	opened  []row
	hoped   []move // placed, if they are where they were
	changed []row
	parked  []string
	lines   []move // whose lines are to be saved
	events  []outbox.Event
}

// decide applies a batch to the rows as they are. It is the guard: of two moves away from one
// state, the first wins, and the second is told what became of the row. For moves that hope, the
// statement that saves them is.
func decide(rows map[string]row, batch []move, hopes []bool) ([]groupcommit.Result[moved], page) {
	var p page
	results := make([]groupcommit.Result[moved], len(batch))
	opened, changed := map[string]bool{}, map[string]bool{}
	for i, m := range batch {
		r, exists := rows[m.id]
		switch {
		case hopes != nil && hopes[i] && m.kind == guardedMove:
			p.hoped, p.lines = append(p.hoped, m), append(p.lines, m)
			p.events = append(p.events, events(row{id: m.id, request: m.request, total: m.total}, m)...)
			results[i].Value.hoped = true
			continue
		case m.kind == openMove && !exists:
			r = row{request: m.request, id: m.id, state: placing}
			opened[m.id] = true
			results[i].Value.fresh = true
		case m.kind == refuseMove && !exists:
			r = row{request: m.request, id: m.id}.after(m)
			opened[m.id] = true
			results[i].Value.fresh = true
			p.events = append(p.events, events(r, m)...)
		case !exists:
			results[i].Err = fault.New(fault.NotFound, "unknown_order", "there is no order %s", m.id)
			continue
		case m.kind == guardedMove && r.state == m.from:
			r = r.after(m)
			changed[m.id] = true
			p.events = append(p.events, events(r, m)...)
			if m.to == undoing || m.to == placed {
				p.lines = append(p.lines, m)
			}
		case m.kind == parkMove && (r.state == placing || r.state == undoing):
			p.parked = append(p.parked, m.id)
		}
		rows[m.id] = r
		results[i].Value.row = r
	}
	for id := range opened {
		p.opened = append(p.opened, rows[id])
		delete(changed, id)
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
		r.reasonCode, r.reason = m.reason.Code, clip(m.reason.Message, reasonMax)
	}
	if m.total != (money.Amount{}) {
		r.total = m.total
	}
	return r
}

const reasonMax = 500 // characters, the column's width

func clip(s string, most int) string {
	if runes := []rune(strings.ToValidUTF8(s, "?")); len(runes) > most {
		return string(runes[:most])
	}
	return s
}

// lockRows locks the rows that a batch is about, in the order of their IDs, except those of moves
// that hope.
func lockRows(ctx context.Context, tx *sql.Tx, batch []move, hopes []bool) (map[string]row, error) {
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
		WHERE    order_id IN `+store.In(len(ids))+`
		ORDER BY order_id
		FOR UPDATE`, store.Args(ids)...)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	for found.Next() {
		r, err := scanRow(found)
		if err != nil {
			return nil, err
		}
		rows[r.id] = r
	}
	return rows, found.Err()
}

const rowColumns = `order_id, client_id, request_hash, payment_method, email, state, reason_code, reason,
	total_minor, currency, TIMESTAMPDIFF(MICROSECOND, created_at, NOW(6))`

func scanRow(rows *sql.Rows) (row, error) {
	var r row
	var hash []byte
	var age int64
	err := rows.Scan(&r.id, &r.clientID, &hash, &r.method, &r.email, &r.state, &r.reasonCode, &r.reason,
		&r.total.Minor, &r.total.Currency, &age)
	if err == nil && len(hash) != len(r.fingerprint) {
		err = fmt.Errorf("order %s: request_hash has %d bytes", r.id, len(hash))
	}
	copy(r.fingerprint[:], hash)
	r.age = time.Duration(age) * time.Microsecond
	return r, err
}
