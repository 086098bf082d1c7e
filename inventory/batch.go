package inventory

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"time"

	"cartwright/internal/failpoint"
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
// It hopes: a reservation that is made is nearly always new, and is not looked for; one that is
// moved has nearly always one caller, and is read before anything is locked. A key that is taken, or
// a row that is not as it was read, says otherwise, and then the second run looks.
//
// Every flush, on every replica, takes its locks in one order: stock by product, then new
// reservations by ID. A reservation that is there needs none of its own: it is moved under the
// locks of its shelves. So two flushes wait for each other but never in a circle.
func (b books) flush(ctx context.Context, ops []operation) (answers []groupcommit.Result[shelf], err error) {
	if err := failpoint.Hit(failpoint.BatchBegun); err != nil {
		return nil, err
	}
	look := false
	err = store.InTx(ctx, b.db, func(ctx context.Context, tx *store.Tx) error {
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
func areNew(ctx context.Context, tx *store.Tx, ids names) error {
	found, err := readReservations(ctx, tx, ids)
	if err == nil && len(found) > 0 {
		return store.ErrRaced
	}
	return err
}

// open locks and reads everything that the operations concern, except, unless told to look, what
// they are about to make.
func open(ctx context.Context, tx *store.Tx, ops []operation, look bool) (*ledger, error) {
	c := concernsOf(ops, look)
	// Lines are never changed once they are written, so they tell which shelves to lock.
	reservations, err := readReservations(ctx, tx, c.reservations)
	if err != nil {
		return nil, fmt.Errorf("reservations: %w", err)
	}
	needs := c.shelvesFor(reservations)
	shelves, err := lockShelves(ctx, tx, needs)
	if err != nil {
		return nil, fmt.Errorf("stock: %w", err)
	}
	if look { // nobody moves now what stands on these shelves
		if reservations, err = readReservations(ctx, tx, c.reservations); err != nil {
			return nil, fmt.Errorf("reservations: %w", err)
		}
	}
	l := newLedger(shelves)
	l.reservations = reservations
	if err := l.hasShelves(c.moved, needs); err != nil {
		return nil, err
	}
	if l.adjustments, err = readAdjustments(ctx, tx, c.adjustments); err != nil {
		return nil, fmt.Errorf("adjustments: %w", err)
	}
	return l, nil
}

type names map[string]bool

// concerns name the rows that operations are about. moved are those of the reservations whose lines
// may go back to the shelf or out of the house.
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
				c.products[n.Product] = true
			}
		default:
			c.reservations[o.id] = true
			c.moved[o.id] = true
		}
	}
	return c
}

// shelvesFor names the products to lock. What is released has nothing to give back, and what is only
// reserved again changes no shelf.
func (c concerns) shelvesFor(reservations map[string]*reservation) names {
	products := maps.Clone(c.products)
	for id, r := range reservations {
		if !c.moved[id] || r.state == released {
			continue
		}
		for _, n := range r.lines {
			products[n.Product] = true
		}
	}
	return products
}

// hasShelves makes sure of the shelf of every line that may be moved. One that was not locked
// belongs to a reservation that another replica has just made: then the transaction is run again.
// One that was, and is not there, was deleted by hand, and to go on would be to invent stock.
func (l *ledger) hasShelves(moved, locked names) error {
	for id, r := range l.reservations {
		if !moved[id] || r.state == released {
			continue
		}
		for _, n := range r.lines {
			_, known := l.shelves[n.Product]
			switch {
			case !locked[n.Product]:
				return store.ErrRaced
			case !known:
				return fmt.Errorf("reservation %s: product %s has no stock row", id, n.Product)
			}
		}
	}
	return nil
}
