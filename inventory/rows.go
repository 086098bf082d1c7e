package inventory

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"cartwright/internal/outbox"
	"cartwright/internal/store"
)

// querier is a pool or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// readEach runs a query that ends in an IN list for some names, in sorted order, and hands each
// row to scan. tail follows the list.
func readEach(ctx context.Context, q querier, query string, in names, tail string, scan func(*sql.Rows) error) error {
	for chunk := range slices.Chunk(slices.Sorted(maps.Keys(in)), rowsMax) {
		if err := readChunk(ctx, q, query+store.In(len(chunk))+tail, store.Args(chunk), scan); err != nil {
			return err
		}
	}
	return nil
}

func readChunk(ctx context.Context, q querier, query string, args []any, scan func(*sql.Rows) error) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// The reads of stock and reservations name the primary key: a server that believes a table to be
// small may choose to read all of it, and would lock, or wait for, rows that are none of ours.

// lockShelves locks the stock rows of products, in the order of their IDs.
func lockShelves(ctx context.Context, tx *store.Tx, products names) (map[string]shelf, error) {
	return readShelves(ctx, tx, products, " ORDER BY product_id FOR UPDATE")
}

// readShelves reads the stock rows of products. Unknown ones are not in the answer.
func readShelves(ctx context.Context, q querier, products names, tail string) (map[string]shelf, error) {
	shelves := make(map[string]shelf, len(products))
	const query = `
		SELECT product_id, kind, on_hand, reserved
		FROM   stock FORCE INDEX (PRIMARY)
		WHERE  product_id IN `
	err := readEach(ctx, q, query, products, tail, func(rows *sql.Rows) error {
		var s shelf
		if err := rows.Scan(&s.product, &s.kind, &s.onHand, &s.reserved); err != nil {
			return err
		}
		shelves[s.product] = s
		return nil
	})
	return shelves, err
}

// readReservations reads reservations and what is in them. Whether one has lapsed is told by the
// database's clock, the only one that all replicas share.
func readReservations(ctx context.Context, tx *store.Tx, ids names) (map[string]*reservation, error) {
	all := make(map[string]*reservation, len(ids))
	const query = `
		SELECT reservation_id, state, COALESCE(expires_at <= NOW(6), FALSE), contents
		FROM   reservations FORCE INDEX (PRIMARY)
		WHERE  reservation_id IN `
	err := readEach(ctx, tx, query, ids, "", func(rows *sql.Rows) error {
		var id string
		var r reservation
		var contents sql.RawBytes
		if err := rows.Scan(&id, &r.stored, &r.lapsed, &contents); err != nil {
			return err
		}
		r.state = r.stored
		all[id] = &r
		if err := json.Unmarshal(contents, &r.lines); err != nil {
			return fmt.Errorf("contents of %s: %w", id, err)
		}
		return nil
	})
	return all, err
}

// readAdjustments finds the adjustments that were made before.
func readAdjustments(ctx context.Context, tx *store.Tx, ids names) (map[string]movement, error) {
	all := make(map[string]movement, len(ids))
	const query = `
		SELECT reference, product_id, delta
		FROM   stock_movements
		WHERE  kind = 'adjusted' AND reference IN `
	err := readEach(ctx, tx, query, ids, "", func(rows *sql.Rows) error {
		m := movement{kind: adjusted}
		if err := rows.Scan(&m.reference, &m.product, &m.delta); err != nil {
			return err
		}
		all[m.reference] = m
		return nil
	})
	return all, err
}

// save writes what a batch has changed, and only that, each table in the order of its key. Stock
// comes after the reservations: of one that was moved in between, stock would be made to go below zero.
func (b books) save(ctx context.Context, tx *store.Tx, l *ledger) error {
	for _, write := range []func(context.Context, *store.Tx, *ledger) error{b.addReservations, moveReservations, saveShelves, addMovements} {
		if err := write(ctx, tx, l); err != nil {
			return err
		}
	}
	for chunk := range slices.Chunk(l.events, rowsMax) {
		if err := outbox.Add(ctx, tx, chunk...); err != nil {
			return fmt.Errorf("events: %w", err)
		}
	}
	return nil
}

// alikeMax is how many updates are sent for shelves that changed in different ways. One insert with
// all values does it for any number, at a third more of the server's time for each row.
const alikeMax = 8

// change is what a batch did to a shelf. Few differ: most carts have one or two of a thing.
type change struct {
	kind             kind // of now
	onHand, reserved int64
}

// saveShelves writes changed stock. A row that was there is locked, so it can be changed by a
// difference or to a value alike. A new one must be inserted and nothing else: another replica may
// have made the same product a moment ago.
func saveShelves(ctx context.Context, tx *store.Tx, l *ledger) error {
	var added, changed [][]any
	alike := map[change][]string{}
	for _, product := range slices.Sorted(maps.Keys(l.shelves)) {
		s := l.shelves[product]
		row := []any{s.product, s.kind, s.onHand, s.reserved}
		was, known := l.before[product]
		switch {
		case !known:
			added = append(added, row)
		case was != s:
			changed = append(changed, row)
			did := change{s.kind, s.onHand - was.onHand, s.reserved - was.reserved}
			alike[did] = append(alike[did], product)
		}
	}
	const into = "INSERT INTO stock (product_id, kind, on_hand, reserved, updated_at) VALUES "
	const tuple = "(?, ?, ?, ?, NOW(6))"
	if err := insert(ctx, tx, into, tuple, "", added); err != nil {
		return fmt.Errorf("new stock: %w", err)
	}
	if len(alike) <= alikeMax {
		return changeShelves(ctx, tx, alike)
	}
	const update = `
		ON DUPLICATE KEY UPDATE
			kind = VALUES(kind), on_hand = VALUES(on_hand), reserved = VALUES(reserved), updated_at = VALUES(updated_at)`
	if err := insert(ctx, tx, into, tuple, update, changed); err != nil {
		return fmt.Errorf("stock: %w", err)
	}
	return nil
}

func changeShelves(ctx context.Context, tx *store.Tx, alike map[change][]string) error {
	for did, products := range alike {
		for chunk := range slices.Chunk(products, rowsMax) {
			err := tx.Write(ctx, `
				UPDATE stock FORCE INDEX (PRIMARY)
				SET    kind = ?, on_hand = on_hand + ?, reserved = reserved + ?, updated_at = NOW(6)
				WHERE  product_id IN `+store.In(len(chunk)),
				append([]any{did.kind, did.onHand, did.reserved}, store.Args(chunk)...)...)
			if err != nil {
				return fmt.Errorf("stock: %w", err)
			}
		}
	}
	return nil
}

// addReservations writes the reservations that were not there, with their lines.
func (b books) addReservations(ctx context.Context, tx *store.Tx, l *ledger) error {
	var rows [][]any
	for _, id := range slices.Sorted(maps.Keys(l.reservations)) {
		r := l.reservations[id]
		if r.stored != "" {
			continue
		}
		contents, err := contentsOf(r.lines)
		if err != nil {
			return err
		}
		var good any // for so many microseconds; NULL makes the time NULL
		if r.state == held {
			good = b.ttl.Microseconds()
		}
		rows = append(rows, []any{id, r.state, contents, good})
	}
	err := insert(ctx, tx, "INSERT INTO reservations (reservation_id, state, contents, expires_at) VALUES ",
		"(?, ?, ?, NOW(6) + INTERVAL ? MICROSECOND)", "", rows)
	if err != nil {
		return fmt.Errorf("new reservations: %w", err)
	}
	return nil
}

// contentsOf writes lines as the table has them, in the order of their products; none are [].
func contentsOf(lines []line) (string, error) {
	sorted := slices.SortedFunc(slices.Values(lines), func(a, b line) int { return cmp.Compare(a.Product, b.Product) })
	contents, err := json.Marshal(append([]line{}, sorted...))
	return string(contents), err
}

// moves are the ways from one state into another, each with what must still be true of the row
// beside its old state: that stock is sold in time.
var moves = []struct {
	from, to state
	still    string
}{
	{held, sold, " AND expires_at > NOW(6)"},
	{held, released, ""},
	{sold, released, ""},
}

// moveReservations writes the new states of reservations that were there. One that is not as it was
// read was moved by another replica, or its time was up while its shelves were waited for: the
// transaction is run again to see. The update names the primary key as the reads do.
func moveReservations(ctx context.Context, tx *store.Tx, l *ledger) error {
	for _, m := range moves {
		for chunk := range slices.Chunk(l.moved(m.from, m.to), rowsMax) {
			err := tx.WriteAll(ctx, len(chunk), `
				UPDATE reservations FORCE INDEX (PRIMARY)
				SET    state = ?, expires_at = NULL, updated_at = NOW(6)
				WHERE  reservation_id IN `+store.In(len(chunk))+` AND state = ?`+m.still,
				slices.Concat([]any{m.to}, store.Args(chunk), []any{m.from})...)
			if err != nil {
				return fmt.Errorf("reservations: %w", err)
			}
		}
	}
	return nil
}

// moved lists the reservations that were in one state and are in another now.
func (l *ledger) moved(from, to state) (ids []string) {
	for _, id := range slices.Sorted(maps.Keys(l.reservations)) {
		if r := l.reservations[id]; r.stored == from && r.state == to {
			ids = append(ids, id)
		}
	}
	return ids
}

func addMovements(ctx context.Context, tx *store.Tx, l *ledger) error {
	byKey := func(a, b movement) int {
		return cmp.Or(strings.Compare(a.reference, b.reference), strings.Compare(a.product, b.product), strings.Compare(a.kind, b.kind))
	}
	var rows [][]any
	for _, m := range slices.SortedFunc(slices.Values(l.movements), byKey) {
		rows = append(rows, []any{m.reference, m.product, m.kind, m.delta})
	}
	if err := insert(ctx, tx, "INSERT INTO stock_movements (reference, product_id, kind, delta) VALUES ", "(?, ?, ?, ?)", "", rows); err != nil {
		return fmt.Errorf("movements: %w", err)
	}
	return nil
}

// insert writes rows. A key that is taken was free a moment ago, when we looked: another replica
// was faster, and the transaction is run again to see what it did.
func insert(ctx context.Context, tx *store.Tx, into, tuple, tail string, rows [][]any) error {
	for chunk := range slices.Chunk(rows, rowsMax) {
		err := tx.Write(ctx, into+store.Tuples(len(chunk), tuple)+tail, slices.Concat(chunk...)...)
		switch {
		case store.IsDuplicate(err):
			return store.ErrRaced
		case err != nil:
			return err
		}
	}
	return nil
}
