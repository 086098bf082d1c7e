package inventory

import (
	"cmp"
	"context"
	"database/sql"
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
func lockShelves(ctx context.Context, tx *sql.Tx, products names) (map[string]shelf, error) {
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

// lockReservations locks reservations in the order of their IDs. Whether one has lapsed is told
// by the database's clock, the only one that all replicas share.
func lockReservations(ctx context.Context, tx *sql.Tx, ids names) (map[string]*reservation, error) {
	all := make(map[string]*reservation, len(ids))
	const query = `
		SELECT reservation_id, state, COALESCE(expires_at <= NOW(6), FALSE)
		FROM   reservations FORCE INDEX (PRIMARY)
		WHERE  reservation_id IN `
	err := readEach(ctx, tx, query, ids, " ORDER BY reservation_id FOR UPDATE", func(rows *sql.Rows) error {
		var id string
		var r reservation
		if err := rows.Scan(&id, &r.stored, &r.lapsed); err != nil {
			return err
		}
		r.state = r.stored
		all[id] = &r
		return nil
	})
	return all, err
}

// readLines reads the lines of reservations.
func readLines(ctx context.Context, tx *sql.Tx, ids names) (map[string][]line, error) {
	all := make(map[string][]line, len(ids))
	const query = `
		SELECT reservation_id, product_id, quantity, counted
		FROM   reservation_lines
		WHERE  reservation_id IN `
	err := readEach(ctx, tx, query, ids, "", func(rows *sql.Rows) error {
		var id string
		var n line
		if err := rows.Scan(&id, &n.product, &n.quantity, &n.counted); err != nil {
			return err
		}
		all[id] = append(all[id], n)
		return nil
	})
	return all, err
}

// readAdjustments finds the adjustments that were made before.
func readAdjustments(ctx context.Context, tx *sql.Tx, ids names) (map[string]movement, error) {
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

// save writes what a batch has changed, and only that, each table in the order of its key.
func (b books) save(ctx context.Context, tx *sql.Tx, l *ledger) error {
	for _, write := range []func(context.Context, *sql.Tx, *ledger) error{saveShelves, b.addReservations, moveReservations, addMovements} {
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

// saveShelves writes changed stock. A row that was there is locked, so its new values can be
// written as they are. A new one must be inserted and nothing else: another replica may have made
// the same product a moment ago.
func saveShelves(ctx context.Context, tx *sql.Tx, l *ledger) error {
	var added, changed [][]any
	for _, product := range slices.Sorted(maps.Keys(l.shelves)) {
		s := l.shelves[product]
		row := []any{s.product, s.kind, s.onHand, s.reserved}
		was, known := l.before[product]
		switch {
		case !known:
			added = append(added, row)
		case was != s:
			changed = append(changed, row)
		}
	}
	const into = "INSERT INTO stock (product_id, kind, on_hand, reserved, updated_at) VALUES "
	const tuple = "(?, ?, ?, ?, NOW(6))"
	if err := insert(ctx, tx, into, tuple, "", added); err != nil {
		return fmt.Errorf("new stock: %w", err)
	}
	const update = `
		ON DUPLICATE KEY UPDATE
			kind = VALUES(kind), on_hand = VALUES(on_hand), reserved = VALUES(reserved), updated_at = VALUES(updated_at)`
	if err := insert(ctx, tx, into, tuple, update, changed); err != nil {
		return fmt.Errorf("stock: %w", err)
	}
	return nil
}

// addReservations writes the reservations that were not there, with their lines.
func (b books) addReservations(ctx context.Context, tx *sql.Tx, l *ledger) error {
	var rows, lines [][]any
	for _, id := range slices.Sorted(maps.Keys(l.reservations)) {
		r := l.reservations[id]
		if r.stored != "" {
			continue
		}
		rows = append(rows, []any{id, r.state, r.state == held, b.ttl.Microseconds()})
		byProduct := func(a, b line) int { return cmp.Compare(a.product, b.product) }
		for _, n := range slices.SortedFunc(slices.Values(r.lines), byProduct) {
			lines = append(lines, []any{id, n.product, n.quantity, n.counted})
		}
	}
	err := insert(ctx, tx, "INSERT INTO reservations (reservation_id, state, expires_at) VALUES ",
		"(?, ?, IF(?, NOW(6) + INTERVAL ? MICROSECOND, NULL))", "", rows)
	if err != nil {
		return fmt.Errorf("new reservations: %w", err)
	}
	err = insert(ctx, tx, "INSERT INTO reservation_lines (reservation_id, product_id, quantity, counted) VALUES ", "(?, ?, ?, ?)", "", lines)
	if err != nil {
		return fmt.Errorf("new reservation lines: %w", err)
	}
	return nil
}

// moveReservations writes the new states of reservations that were there. None of them is held
// now: nothing leads back to it.
func moveReservations(ctx context.Context, tx *sql.Tx, l *ledger) error {
	moved := map[state][]string{}
	for _, id := range slices.Sorted(maps.Keys(l.reservations)) {
		if r := l.reservations[id]; r.stored != "" && r.stored != r.state {
			moved[r.state] = append(moved[r.state], id)
		}
	}
	for _, to := range []state{released, sold} {
		for chunk := range slices.Chunk(moved[to], rowsMax) {
			_, err := tx.ExecContext(ctx, `
				UPDATE reservations
				SET    state = ?, expires_at = NULL, updated_at = NOW(6)
				WHERE  reservation_id IN `+store.In(len(chunk)), append([]any{to}, store.Args(chunk)...)...)
			if err != nil {
				return fmt.Errorf("reservations: %w", err)
			}
		}
	}
	return nil
}

func addMovements(ctx context.Context, tx *sql.Tx, l *ledger) error {
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
func insert(ctx context.Context, tx *sql.Tx, into, tuple, tail string, rows [][]any) error {
	for chunk := range slices.Chunk(rows, rowsMax) {
		_, err := tx.ExecContext(ctx, into+store.Tuples(len(chunk), tuple)+tail, slices.Concat(chunk...)...)
		switch {
		case store.IsDuplicate(err):
			return store.ErrRaced
		case err != nil:
			return err
		}
	}
	return nil
}
