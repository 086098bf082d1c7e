package cartmanager

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"cartwright/internal/fault"
	"cartwright/internal/outbox"
	"cartwright/internal/store"
)

// rowsMax bounds one statement, far below the packet that every server accepts (16 MiB).
const rowsMax = 1000

// save writes what a batch has changed: each table at most once, with its rows in the order of
// their keys.
func save(ctx context.Context, tx *store.Tx, b *books) error {
	writers := []struct {
		what  string
		write func(context.Context, *store.Tx, *books) error
	}{
		{"carts", saveCarts},
		{"cart lines", saveLines},
		{"cart lines", deleteLines},
		{"freezes", saveFreezes},
		{"processed jobs", saveDone},
	}
	for _, w := range writers {
		if err := w.write(ctx, tx, b); err != nil {
			return fmt.Errorf("%s: %w", w.what, err)
		}
	}
	return outbox.Add(ctx, tx, b.events...)
}

// insert writes rows, a bounded number at a time. then is what follows the values.
func insert(ctx context.Context, tx *store.Tx, into, tuple, then string, rows [][]any) error {
	for some := range slices.Chunk(rows, rowsMax) {
		err := tx.Write(ctx, "INSERT INTO "+into+" VALUES "+store.Tuples(len(some), tuple)+then, slices.Concat(some...)...)
		if err != nil {
			return raced(err)
		}
	}
	return nil
}

// saveCarts adds the new ones, also one in which nothing has changed: that nobody else could add it
// meanwhile is what says that it was as empty as it was taken for.
func saveCarts(ctx context.Context, tx *store.Tx, b *books) error {
	var added, changed [][]any
	for _, client := range slices.Sorted(maps.Keys(b.carts)) {
		c := b.carts[client]
		row := []any{client, c.version, b.now}
		switch {
		case c.isNew:
			added = append(added, row)
		case len(c.touched) > 0:
			changed = append(changed, row)
		}
	}
	if err := insert(ctx, tx, "carts (client_id, version, updated_at)", "(?, ?, ?)", "", added); err != nil {
		return err
	}
	return insert(ctx, tx, "carts (client_id, version, updated_at)", "(?, ?, ?)",
		" ON DUPLICATE KEY UPDATE version = VALUES(version), updated_at = VALUES(updated_at)", changed)
}

func saveLines(ctx context.Context, tx *store.Tx, b *books) error {
	var rows [][]any
	for _, client := range slices.Sorted(maps.Keys(b.carts)) {
		c := b.carts[client]
		for _, product := range slices.Sorted(maps.Keys(c.touched)) {
			if l, has := c.lines[product]; has {
				rows = append(rows, []any{client, product, l.quantity, l.position})
			}
		}
	}
	return insert(ctx, tx, "cart_lines (client_id, product_id, quantity, position)", "(?, ?, ?, ?)",
		" ON DUPLICATE KEY UPDATE quantity = VALUES(quantity), position = VALUES(position)", rows)
}

// deleteLines takes out what has left the carts. One range a client and no list of pairs, which
// not every server looks up by its key.
func deleteLines(ctx context.Context, tx *store.Tx, b *books) error {
	var ranges []string
	var args []any
	for _, client := range slices.Sorted(maps.Keys(b.carts)) {
		gone := b.carts[client].gone()
		if len(gone) == 0 {
			continue
		}
		ranges = append(ranges, "(client_id = ? AND product_id IN "+store.In(len(gone))+")")
		args = append(append(args, client), store.Args(gone)...)
	}
	if len(ranges) == 0 {
		return nil
	}
	return tx.Write(ctx, "DELETE FROM cart_lines WHERE "+strings.Join(ranges, " OR "), args...)
}

// gone lists the products that may have had a line and have none now.
func (c *cart) gone() (products []string) {
	for _, product := range slices.Sorted(maps.Keys(c.touched)) {
		if _, has := c.lines[product]; !has {
			products = append(products, product)
		}
	}
	return products
}

// saveFreezes adds the new ones, which must not exist, and empties those that were thawed: there is
// no other way on.
func saveFreezes(ctx context.Context, tx *store.Tx, b *books) error {
	var added [][]any
	var emptied []string
	for _, id := range slices.Sorted(maps.Keys(b.freezes)) {
		switch f := b.freezes[id]; {
		case f.state == f.stored:
		case f.stored == unheardOf:
			contents, err := json.Marshal(append([]frozenLine{}, f.lines...)) // of none it is [], and not null
			if err != nil {
				return err
			}
			added = append(added, []any{id, f.client, string(f.state), contents, b.now})
		default:
			emptied = append(emptied, id)
		}
	}
	if err := insert(ctx, tx, "freezes (checkout_id, client_id, state, contents, updated_at)", "(?, ?, ?, ?, ?)", "", added); err != nil {
		return err
	}
	if len(emptied) == 0 {
		return nil
	}
	return tx.Write(ctx, "UPDATE freezes SET state = 'thawed', contents = '[]', updated_at = ? WHERE checkout_id IN "+store.In(len(emptied)),
		append([]any{b.now}, store.Args(emptied)...)...)
}

func saveDone(ctx context.Context, tx *store.Tx, b *books) error {
	var rows [][]any
	for _, id := range slices.Sorted(maps.Keys(b.done)) {
		d := b.done[id]
		if !d.fresh {
			continue
		}
		why, err := writeFault(d.err)
		if err != nil {
			return err
		}
		rows = append(rows, []any{id, d.fingerprint[:], why, b.now})
	}
	return insert(ctx, tx, "processed_jobs (job_id, request_hash, fault, done_at)", "(?, ?, ?, ?)", "", rows)
}

// writeFault is the stored form of a job's refusal; NULL for a success.
func writeFault(err error) (any, error) {
	if err == nil {
		return nil, nil
	}
	stored, err := proto.Marshal(fault.ToProto(err))
	if err != nil {
		return nil, fmt.Errorf("answer: %w", err)
	}
	return stored, nil
}
