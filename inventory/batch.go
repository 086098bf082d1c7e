package inventory

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"cartwright/internal/groupcommit"
	"cartwright/internal/store"
)

// rowsMax bounds the rows of one statement. MariaDB turns an IN list of 1,000 and more into a
// join, which would lock rows in an order of its own.
const rowsMax = 500

// books are the stock tables of one database.
type books struct {
	db  *sql.DB
	ttl time.Duration // of new reservations
}

// flush does a batch of operations in one transaction: lock, decide in memory, write once.
//
// A reservation is nearly always new, so at first it is not looked for. A key that is taken says
// otherwise, and then the second run looks.
//
// Every flush, on every replica, takes its locks in one order: stock by product, then
// reservations by ID. So two of them wait for each other but never in a circle.
func (b books) flush(ctx context.Context, ops []operation) (answers []groupcommit.Result[shelf], err error) {
	look := false
	err = store.InTx(ctx, b.db, func(ctx context.Context, tx *sql.Tx) error {
		l, err := open(ctx, tx, ops, look)
		if err != nil {
			return err
		}
		hoped := !look
		look = true
		answers = l.decide(ops)
		if hoped {
			if err := areNew(ctx, tx, refused(ops, answers)); err != nil {
				return err
			}
		}
		return b.save(ctx, tx, l)
	})
	return answers, err
}

// refused names the reservations that were not made.
func refused(ops []operation, answers []groupcommit.Result[shelf]) names {
	ids := names{}
	for i, o := range ops {
		if o.verb == reserve && answers[i].Err != nil {
			ids[o.id] = true
		}
	}
	return ids
}

// areNew finds reservations that were made before: those are not to be refused, and nothing is
// inserted for them that would say so.
func areNew(ctx context.Context, tx *sql.Tx, ids names) error {
	found, err := lockReservations(ctx, tx, ids)
	if err == nil && len(found) > 0 {
		return store.ErrRaced
	}
	return err
}

// open locks and reads everything that the operations concern, except, unless told to look, what
// they are about to make.
func open(ctx context.Context, tx *sql.Tx, ops []operation, look bool) (*ledger, error) {
	c := concernsOf(ops, look)
	// Lines are never changed once they are written, so those of a reservation that exists tell
	// which shelves to lock before it is locked itself.
	lines, err := readLines(ctx, tx, c.moved)
	if err != nil {
		return nil, fmt.Errorf("reservation lines: %w", err)
	}
	for _, ns := range lines {
		for _, n := range ns {
			c.products[n.product] = true
		}
	}
	shelves, err := lockShelves(ctx, tx, c.products)
	if err != nil {
		return nil, fmt.Errorf("stock: %w", err)
	}
	l := newLedger(shelves)
	if l.reservations, err = lockReservations(ctx, tx, c.reservations); err != nil {
		return nil, fmt.Errorf("reservations: %w", err)
	}
	if err := l.attach(ctx, tx, c.moved, lines); err != nil {
		return nil, err
	}
	if l.adjustments, err = readAdjustments(ctx, tx, c.adjustments); err != nil {
		return nil, fmt.Errorf("adjustments: %w", err)
	}
	return l, nil
}

type names map[string]bool

// concerns name the rows that operations are about. moved are the reservations whose lines may
// go back to the shelf or out of the house.
type concerns struct {
	products, reservations, moved, adjustments names
}

func concernsOf(ops []operation, look bool) concerns {
	c := concerns{names{}, names{}, names{}, names{}}
	for _, o := range ops {
		switch o.verb {
		case adjust:
			c.adjustments[o.id] = true
			c.products[o.product] = true
		case reserve:
			if look {
				c.reservations[o.id] = true
			}
			for _, n := range o.lines {
				c.products[n.product] = true
			}
		default:
			c.reservations[o.id] = true
			c.moved[o.id] = true
		}
	}
	return c
}

// attach gives the reservations their lines. One that another replica made after its lines were
// looked for needs shelves that are not locked: then the transaction is run again. One that is
// only reserved again needs its lines for comparison, and no shelf.
func (l *ledger) attach(ctx context.Context, tx *sql.Tx, moved names, lines map[string][]line) error {
	again := names{}
	for id, r := range l.reservations {
		r.lines = lines[id]
		switch {
		case r.state == released:
		case !moved[id]:
			again[id] = true
		case len(r.lines) == 0:
			return store.ErrRaced
		default:
			if err := l.hasShelvesOf(id, r); err != nil {
				return err
			}
		}
	}
	compared, err := readLines(ctx, tx, again)
	if err != nil {
		return fmt.Errorf("reservation lines: %w", err)
	}
	for id := range again {
		l.reservations[id].lines = compared[id]
	}
	return nil
}

// hasShelvesOf finds stock rows that somebody deleted by hand. To go on would be to invent stock.
func (l *ledger) hasShelvesOf(id string, r *reservation) error {
	for _, n := range r.lines {
		if _, ok := l.shelves[n.product]; !ok {
			return fmt.Errorf("reservation %s: product %s has no stock row", id, n.product)
		}
	}
	return nil
}
