package inventory

import (
	"maps"
	"slices"
	"strconv"

	"cartwright/internal/fault"
	"cartwright/internal/groupcommit"
	"cartwright/internal/mutation"
	"cartwright/internal/outbox"
)

const (
	// onHandMax keeps every sum of ours far away from the end of int64.
	onHandMax = 1_000_000_000_000
	// unlimited is what is available of an infinite product: more than anybody can ask for, and
	// still exact in a JSON number.
	unlimited = 1 << 40
)

// kind says whether a product is counted.
type kind string

const (
	finite   kind = "finite"
	infinite kind = "infinite"
)

// shelf is the stock of one product: a row of the table stock, in units.
type shelf struct {
	product          string
	kind             kind
	onHand, reserved int64
}

func (s shelf) available() int64 {
	if s.kind == infinite {
		return unlimited
	}
	return s.onHand - s.reserved
}

// line is what a reservation has of one product. Its JSON is what the table has.
type line struct {
	Product  string `json:"product"`
	Quantity int64  `json:"quantity"`
	Counted  int64  `json:"counted"` // what it took from the shelf: the quantity, or 0 if the product was infinite then
}

// state is how far a reservation has come. Only held can change into both others; sold can be
// released by a rollback; released is for good.
type state string

const (
	held     state = "held"
	sold     state = "sold"
	released state = "released"
)

// reservation is a promise of stock.
type reservation struct {
	state  state
	stored state // in the database now; empty for a row that is not there yet
	lapsed bool  // held, and its time is up
	lines  []line
}

// movement is one change of what is on hand, for the append-only record.
type movement struct {
	reference, product string
	kind               string
	delta              int64
}

// The kinds of movement.
const (
	adjusted = "adjusted"
	soldOff  = "sold"
	returned = "returned"
)

// verb is what an operation asks for.
type verb string

const (
	reserve  verb = "reserve"
	commit   verb = "commit"
	rollback verb = "rollback"
	expire   verb = "expire" // the sweeper's: release it if it is still held and its time is up
	adjust   verb = "adjust"
)

// operation is one call's wish, checked already. lines belong to reserve, one per product in the
// order asked; product, delta and kind belong to adjust, where an empty kind stays as it is.
type operation struct {
	verb    verb
	id      string // of the reservation, or of the adjustment
	lines   []line
	product string
	delta   int64
	kind    kind
}

// ledger decides what becomes of operations. It knows nothing of SQL: it is handed the rows that
// they concern, locked, and keeps what is to be written back. A refused operation leaves no
// trace in it, so it never spoils its neighbours.
type ledger struct {
	before       map[string]shelf // as the database has them
	shelves      map[string]shelf
	reservations map[string]*reservation
	adjustments  map[string]movement // by the adjustment's ID
	movements    []movement          // to be written
	events       []outbox.Event      // to be told
}

// newLedger makes a ledger over shelves as they are now.
func newLedger(shelves map[string]shelf) *ledger {
	return &ledger{before: shelves, shelves: maps.Clone(shelves), reservations: map[string]*reservation{}, adjustments: map[string]movement{}}
}

// decide does the operations in their order and returns an answer to each. The value of an
// adjustment's answer is its shelf.
func (l *ledger) decide(ops []operation) []groupcommit.Result[shelf] {
	answers := make([]groupcommit.Result[shelf], len(ops))
	for i, o := range ops {
		a := &answers[i]
		switch o.verb {
		case reserve:
			a.Err = l.reserve(o.id, o.lines)
		case commit:
			a.Err = l.commit(o.id)
		case rollback:
			l.rollback(o.id)
		case expire:
			l.expire(o.id)
		case adjust:
			a.Value, a.Err = l.adjust(o)
		}
	}
	l.tellAvailability()
	return answers
}

// reserve holds all lines or none.
func (l *ledger) reserve(id string, lines []line) error {
	if r, asked := l.reservations[id]; asked {
		return reserveAgain(id, r, lines)
	}
	for _, want := range lines {
		if err := l.has(want); err != nil {
			return err
		}
	}
	taken := slices.Clone(lines) // the operation may have to be decided again
	for i := range taken {
		t := &taken[i]
		s := l.shelves[t.Product]
		if s.kind == infinite {
			continue
		}
		t.Counted = t.Quantity
		s.reserved += t.Counted
		l.shelves[t.Product] = s
	}
	l.reservations[id] = &reservation{state: held, lines: taken}
	return nil
}

// reserveAgain answers as the first time, unless the promise is over or was another one. It
// changes nothing, so it needs no shelf: what has lapsed is left to the sweeper.
func reserveAgain(id string, r *reservation, lines []line) error {
	switch {
	case r.state == released, r.state == held && r.lapsed:
		return refuseReleased(id)
	case !sameWish(r.lines, lines):
		return fault.New(fault.Mismatch, "reservation_mismatch", "reservation %s was made for something else", id)
	}
	return nil
}

// has tells whether a line can be taken from its shelf.
func (l *ledger) has(want line) error {
	s, known := l.shelves[want.Product]
	if !known {
		return unknownProduct(want.Product)
	}
	left := s.available()
	switch {
	case want.Quantity <= left, mutation.On(mutation.NoUnitCheck):
		return nil
	case left == 0:
		return outOfStock(want.Product, left, "%s is sold out", want.Product)
	default:
		return outOfStock(want.Product, left, "only %d of %s left", left, want.Product)
	}
}

// commit turns held into sold.
func (l *ledger) commit(id string) error {
	r, known := l.reservations[id]
	if !known {
		return fault.New(fault.NotFound, "unknown_reservation", "there is no reservation %s", id)
	}
	l.lapse(r)
	switch r.state {
	case sold:
		return nil
	case released:
		return refuseReleased(id)
	}
	for _, n := range r.lines {
		s := l.shelves[n.Product]
		s.reserved -= n.Counted
		l.shelves[n.Product] = s
		l.move(movement{id, n.Product, soldOff, -n.Counted})
	}
	r.state = sold
	return nil
}

// rollback puts everything back. Of an unknown reservation it leaves a tombstone: the request to
// make it may be waiting in a socket somewhere.
func (l *ledger) rollback(id string) {
	r, known := l.reservations[id]
	switch {
	case !known && mutation.On(mutation.NoTombstone):
	case !known:
		l.reservations[id] = &reservation{state: released}
	case r.state == held:
		l.release(r)
	case r.state == sold:
		for _, n := range r.lines {
			l.move(movement{id, n.Product, returned, n.Counted})
		}
		r.state = released
	}
}

func (l *ledger) expire(id string) {
	if r, known := l.reservations[id]; known {
		l.lapse(r)
	}
}

// lapse releases a promise whose time is up, whether the sweeper has seen it or not.
func (l *ledger) lapse(r *reservation) {
	if r.state == held && r.lapsed {
		l.release(r)
	}
}

// release gives back what is held.
func (l *ledger) release(r *reservation) {
	for i, n := range r.lines {
		if i > 0 && mutation.On(mutation.FirstLineOnly) {
			break
		}
		s := l.shelves[n.Product]
		s.reserved -= n.Counted
		l.shelves[n.Product] = s
	}
	r.state = released
}

// adjust changes what is on hand by a difference. The first adjustment of a product makes it.
func (l *ledger) adjust(o operation) (shelf, error) {
	s, known := l.shelves[o.product]
	if made, again := l.adjustments[o.id]; again {
		if made.product != o.product || made.delta != o.delta {
			return shelf{}, fault.New(fault.Mismatch, "adjustment_mismatch", "adjustment %s was made for something else", o.id)
		}
		return s, nil
	}
	switch {
	case !known && o.delta < 0:
		return shelf{}, unknownProduct(o.product)
	case !known:
		s = shelf{product: o.product, kind: finite}
	case s.onHand+o.delta < s.reserved:
		return shelf{}, belowReserved(s)
	}
	if s.onHand+o.delta > onHandMax {
		return shelf{}, fault.InvalidField("delta", "would make more than %d of %s", int64(onHandMax), o.product)
	}
	if o.kind != "" {
		s.kind = o.kind
	}
	l.shelves[o.product] = s
	made := movement{o.id, o.product, adjusted, o.delta}
	l.adjustments[o.id] = made
	l.movements = append(l.movements, made) // also of 0: it is what makes asking twice asking once
	s = l.put(o.product, o.delta)
	l.events = append(l.events, outbox.Event{Type: "stock.adjusted", Subject: o.product, Data: stockAdjusted{o.product, o.delta, s.onHand}})
	return s, nil
}

// move records a movement and makes it; nothing was counted of an infinite product.
func (l *ledger) move(m movement) {
	if m.delta == 0 {
		return
	}
	l.put(m.product, m.delta)
	l.movements = append(l.movements, m)
}

func (l *ledger) put(product string, delta int64) shelf {
	s := l.shelves[product]
	s.onHand += delta
	l.shelves[product] = s
	return s
}

// tellAvailability adds an event for each product that can or cannot be bought after the batch,
// other than before it. What came and went within the batch nobody could have seen.
func (l *ledger) tellAvailability() {
	for _, product := range slices.Sorted(maps.Keys(l.shelves)) {
		was, is := l.before[product].available(), l.shelves[product].available()
		switch {
		case was > 0 && is == 0:
			l.events = append(l.events, outbox.Event{Type: "stock.sold_out", Subject: product, Data: stockSoldOut{product}})
		case was == 0 && is > 0:
			l.events = append(l.events, outbox.Event{Type: "stock.available", Subject: product, Data: stockAvailable{product, is}})
		}
	}
}

// The data of our events.
type (
	stockAdjusted struct {
		ProductID string `json:"productId"`
		Delta     int64  `json:"delta"`
		OnHand    int64  `json:"onHand"`
	}
	stockSoldOut struct {
		ProductID string `json:"productId"`
	}
	stockAvailable struct {
		ProductID string `json:"productId"`
		Available int64  `json:"available"`
	}
)

// sameWish compares what was asked for: products and quantities, in whatever order.
func sameWish(a, b []line) bool {
	wish := func(lines []line) map[string]int64 {
		all := make(map[string]int64, len(lines))
		for _, n := range lines {
			all[n.Product] = n.Quantity
		}
		return all
	}
	return maps.Equal(wish(a), wish(b))
}

func unknownProduct(product string) error {
	return fault.New(fault.NotFound, "unknown_product", "there is no product %s", product).With("product", product)
}

func outOfStock(product string, left int64, format string, args ...any) error {
	return fault.New(fault.Refused, "out_of_stock", format, args...).With("product", product).With("available", strconv.FormatInt(left, 10))
}

func belowReserved(s shelf) error {
	return fault.New(fault.Refused, "below_reserved", "%d of %s are on hand and %d of them are reserved", s.onHand, s.product, s.reserved).
		With("product", s.product).With("on_hand", strconv.FormatInt(s.onHand, 10)).With("reserved", strconv.FormatInt(s.reserved, 10))
}

func refuseReleased(id string) error {
	return fault.New(fault.Refused, "reservation_released", "reservation %s was released", id)
}
