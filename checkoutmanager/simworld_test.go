package checkoutmanager

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"cartwright/internal/fault"
	"cartwright/internal/money"
	"cartwright/internal/outbox"
)

// simRules are mistakes that the simulation has to find, one at a time.
type simRules struct {
	releaseFirst  bool // stock goes back before the money
	noTombstones  bool // an undo is forgotten
	unguarded     bool // a save does not look at what is saved
	chargesTwice  bool // the provider takes every request for a new one
	ackEarly      bool // a job is acknowledged before it is done
	deletesFirst  bool // an event leaves the outbox before it is published
	noInbox       bool // an event counts each time that it comes
	forgetsRescue bool // nobody looks for what was left behind
}

const (
	simStock    = 2                // units, for three orders of one each
	simOrders   = 3                // orders of three clients
	simPatience = time.Minute      // of the saga
	simHeld     = 10 * time.Minute // how long a reservation lives: longer than patience
)

// simBooks is all that is durable, here and with the neighbours. Only an arriving request changes it.
type simBooks struct {
	rules simRules

	rows   map[string]row       // by checkout
	ids    map[string]string    // checkouts by order
	since  map[string]time.Time // when each was opened
	due    map[string]time.Time // when rescue looks; absent for what has ended
	outbox []simEvent
	events int // saved so far

	cart    map[string]string // by checkout
	stock   map[string]string
	heldAt  map[string]time.Time
	onHand  int
	money   map[string]string
	charges map[string]int
	expired map[string]bool

	published []simEvent
	seen      map[int]bool   // the listener's inbox
	effects   map[string]int // by type and order: what the listener has done

	broken string // what went wrong at a moment in between
}

type simEvent struct {
	id          int
	kind, order string
}

func newSimBooks(rules simRules) *simBooks {
	return &simBooks{
		rules: rules, onHand: simStock, rows: map[string]row{}, ids: map[string]string{}, since: map[string]time.Time{}, due: map[string]time.Time{},
		cart: map[string]string{}, stock: map[string]string{}, heldAt: map[string]time.Time{}, money: map[string]string{}, charges: map[string]int{},
		expired: map[string]bool{}, seen: map[int]bool{}, effects: map[string]int{},
	}
}

// read is a row as it is now, with its age.
func (b *simBooks) read(id string) row {
	r := b.rows[id]
	r.age = time.Since(b.since[id])
	return r
}

// open is the transaction that makes an order's row or finds it.
func (b *simBooks) open(orderID string, r request) (row, bool) {
	id, exists := b.ids[orderID]
	if !exists {
		made := newRows([]opening{{orderID: orderID, request: r}})[0]
		id = made.id
		b.ids[orderID], b.rows[id], b.since[id], b.due[id] = id, made, time.Now(), time.Now().Add(graceSeconds*time.Second)
	}
	return b.read(id), !exists
}

// save is the transaction of one move: the real guard decides, and the events are saved with it.
func (b *simBooks) save(m move) (row, error) {
	before := b.read(m.id)
	if b.rules.unguarded && m.kind == guardedMove {
		before.state = m.from
	}
	rows := map[string]row{m.id: before}
	results, page := decide(rows, []move{m}, nil)
	b.rows[m.id] = rows[m.id]
	for _, p := range page.parked {
		wait := min(max(time.Since(b.since[p.id])/4, parkSecondsMin*time.Second), parkSecondsMax*time.Second)
		b.due[p.id] = time.Now().Add(wait)
	}
	if end := rows[m.id].state; end == placed || end == failed {
		delete(b.due, m.id)
	}
	for _, e := range page.events {
		b.tell(e)
	}
	return b.read(m.id), results[0].Err
}

func (b *simBooks) tell(e outbox.Event) {
	b.events++
	b.outbox = append(b.outbox, simEvent{b.events, e.Type, e.Subject})
}

// The neighbours. Each call is what one request does when it arrives.

func (b *simBooks) grave(tombstone string) string {
	if b.rules.noTombstones {
		return ""
	}
	return tombstone
}

func (b *simBooks) freeze(id string) error {
	if b.cart[id] == "thawed" {
		return refused
	}
	b.cart[id] = "frozen"
	return nil
}

func (b *simBooks) reserve(id string) error {
	switch {
	case b.stock[id] == "released":
		return refused
	case b.stock[id] != "":
		return nil
	case b.onHand == 0:
		return fault.New(fault.Refused, "out_of_stock", "sold out")
	}
	b.onHand--
	b.stock[id], b.heldAt[id] = "held", time.Now()
	return nil
}

func (b *simBooks) commit(id string) error {
	if b.stock[id] != "held" && b.stock[id] != "sold" {
		return refused
	}
	b.stock[id] = "sold"
	return nil
}

func (b *simBooks) release(id string) {
	if b.stock[id] == "held" || b.stock[id] == "sold" {
		b.onHand++
	}
	b.stock[id] = b.grave("released")
}

// expire is inventory's sweeper: it gives back what was held for too long.
func (b *simBooks) expire() {
	for id, state := range b.stock {
		if state == "held" && time.Since(b.heldAt[id]) > simHeld {
			b.release(id)
			b.expired[id] = true
		}
	}
}

func (b *simBooks) charge(id string) error {
	if b.money[id] == "refunded" {
		return refused
	}
	if b.money[id] != "charged" || b.rules.chargesTwice {
		b.charges[id]++
	}
	b.money[id] = "charged"
	return nil
}

func (b *simBooks) refund(id string) { b.money[id] = b.grave("refunded") }

// hear is a listener of events, which counts each once by its inbox.
func (b *simBooks) hear(e simEvent) {
	if !b.seen[e.id] || b.rules.noInbox {
		b.effects[e.kind+" "+e.order]++
	}
	b.seen[e.id] = true
}

// check says what is wrong with the books at any moment; empty when nothing is.
func (b *simBooks) check() string {
	if b.broken != "" {
		return b.broken
	}
	taken := 0
	for _, state := range b.stock {
		if state == "held" || state == "sold" {
			taken++
		}
	}
	if b.onHand < 0 || b.onHand+taken != simStock {
		return fmt.Sprintf("%d units on the shelf and %d taken, of %d", b.onHand, taken, simStock)
	}
	for id, r := range b.rows {
		switch {
		case b.charges[id] > 1:
			return fmt.Sprintf("charged %d times", b.charges[id])
		case b.stock[id] == "released" && b.money[id] == "charged" && !b.expired[id]:
			return "stock was given back while the money was still taken"
		case r.state == placed && (b.cart[id] != "frozen" || b.stock[id] != "sold" || b.money[id] != "charged"):
			return fmt.Sprintf("placed, but cart %q, stock %q, money %q", b.cart[id], b.stock[id], b.money[id])
		}
	}
	for what, times := range b.effects {
		if times > 1 {
			return fmt.Sprintf("%s took effect %d times", what, times)
		}
	}
	return ""
}

// end says what is wrong with the books once all has healed and come to rest.
func (b *simBooks) end() string {
	if wrong := b.check(); wrong != "" {
		return wrong
	}
	for id, r := range b.rows {
		kind := map[state]string{placed: "order.created", failed: "order.cancelled"}[r.state]
		switch {
		case kind == "":
			return fmt.Sprintf("an order stays %s", r.state)
		case r.state == failed && (b.cart[id] == "frozen" || b.stock[id] == "held" || b.stock[id] == "sold" || b.money[id] == "charged"):
			return fmt.Sprintf("failed, but cart %q, stock %q, money %q", b.cart[id], b.stock[id], b.money[id])
		case b.effects[kind+" "+r.orderID] != 1:
			return fmt.Sprintf("%s took effect %d times", kind, b.effects[kind+" "+r.orderID])
		}
	}
	if len(b.effects) != len(b.rows) {
		return fmt.Sprintf("%d orders were told %d things of", len(b.rows), len(b.effects))
	}
	return ""
}

// lookFor is rescue's question: what is due is claimed, as the real one does it.
func (b *simBooks) lookFor() (due []*checkout) {
	for id, at := range b.due {
		if !at.After(time.Now()) {
			c := &checkout{}
			c.take(b.read(id))
			due = append(due, c)
		}
	}
	for _, c := range due {
		b.due[c.id] = time.Now().Add(graceSeconds * time.Second)
	}
	slices.SortFunc(due, func(x, y *checkout) int { return cmp.Compare(x.orderID, y.orderID) })
	return due
}

// What a process asks of its neighbours and of its own books goes through simProcess.ask.

func (p *simProcess) freeze(ctx context.Context, c *checkout) ([]line, money.Amount, error) {
	err := p.ask(ctx, c.orderID, true, func() error { return p.sim.books.freeze(c.id) })
	return []line{{"tea", "Tea", 1, 100}}, money.Amount{Minor: 100, Currency: "EUR"}, err
}

func (p *simProcess) thaw(ctx context.Context, c *checkout) error {
	return p.ask(ctx, c.orderID, false, func() error { p.sim.books.cart[c.id] = p.sim.books.grave("thawed"); return nil })
}

func (p *simProcess) reserve(ctx context.Context, c *checkout) error {
	return p.ask(ctx, c.orderID, true, func() error { return p.sim.books.reserve(c.id) })
}

func (p *simProcess) commit(ctx context.Context, c *checkout) error {
	return p.ask(ctx, c.orderID, true, func() error { return p.sim.books.commit(c.id) })
}

func (p *simProcess) rollback(ctx context.Context, c *checkout) error {
	return p.ask(ctx, c.orderID, false, func() error { p.sim.books.release(c.id); return nil })
}

func (p *simProcess) charge(ctx context.Context, c *checkout) error {
	return p.askFor(ctx, c.orderID, true, errPending, func() error { return p.sim.books.charge(c.id) })
}

func (p *simProcess) refund(ctx context.Context, c *checkout) error {
	return p.ask(ctx, c.orderID, false, func() error { p.sim.books.refund(c.id); return nil })
}

func (p *simProcess) open(ctx context.Context, orderID string, r request) (c *checkout, fresh bool, err error) {
	c = &checkout{}
	var found row
	err = p.ask(ctx, orderID, false, func() error { found, fresh = p.sim.books.open(orderID, r); return nil })
	c.take(found)
	return c, fresh, err
}

func (p *simProcess) park(ctx context.Context, c *checkout, _ error) error {
	return p.save(ctx, c, move{kind: parkMove})
}

func (p *simProcess) turn(ctx context.Context, c *checkout, reason *fault.Error) error {
	return p.save(ctx, c, move{from: placing, to: undoing, reason: reason, lines: c.lines, total: c.total})
}

func (p *simProcess) end(ctx context.Context, c *checkout, from, to state) error {
	return p.save(ctx, c, move{from: from, to: to, reason: c.reason, lines: c.lines, total: c.total})
}

func (p *simProcess) save(ctx context.Context, c *checkout, m move) error {
	m.id, m.orderID, m.clientID = c.id, c.orderID, c.clientID
	var after row
	err := p.ask(ctx, c.orderID, false, func() (err error) { after, err = p.sim.books.save(m); return err })
	if err == nil && m.kind == guardedMove {
		c.take(after)
	}
	return err
}
