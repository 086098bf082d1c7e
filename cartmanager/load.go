package cartmanager

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"cartwright/internal/fault"
	"cartwright/internal/store"
	"cartwright/proto/faultpb"
)

// load locks the carts that a batch touches and reads everything that its changes decide on; what
// is most likely new, only when told to look. The row of a cart is the lock of all that belongs to
// its client: lines, freezes and jobs.
func load(ctx context.Context, tx *sql.Tx, batch []change, look bool) (*books, error) {
	clients, checkouts, jobIDs := subjects(batch, look)
	b := &books{now: time.Now().UTC(), carts: map[string]*cart{}, freezes: map[string]*freeze{}, done: map[string]*doneJob{}}
	for _, ch := range batch {
		if id := ch.touches().checkout; id != "" {
			b.freezes[id] = &freeze{}
		}
	}
	if err := lockCarts(ctx, tx, b, clients); err != nil {
		return nil, fmt.Errorf("carts: %w", err)
	}
	if err := loadLines(ctx, tx, b, clients); err != nil {
		return nil, fmt.Errorf("cart lines: %w", err)
	}
	if err := loadFreezes(ctx, tx, b, checkouts); err != nil {
		return nil, fmt.Errorf("freezes: %w", err)
	}
	if err := loadDone(ctx, tx, b, jobIDs); err != nil {
		return nil, fmt.Errorf("processed jobs: %w", err)
	}
	return b, nil
}

// subjects lists what a batch touches, each once and sorted: two batches that lock in one order
// never wait for each other in a circle.
func subjects(batch []change, all bool) (clients, checkouts, jobIDs []string) {
	c, f, j := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, ch := range batch {
		s := ch.touches()
		c[s.client] = true
		if s.checkout != "" && (all || !s.isNew) {
			f[s.checkout] = true
		}
		if s.job != "" && (all || !s.isNew) {
			j[s.job] = true
		}
	}
	return slices.Sorted(maps.Keys(c)), slices.Sorted(maps.Keys(f)), slices.Sorted(maps.Keys(j))
}

// lockCarts locks the rows of the carts, and makes those that do not exist yet.
func lockCarts(ctx context.Context, tx *sql.Tx, b *books, clients []string) error {
	rows, err := tx.QueryContext(ctx, `
		SELECT   client_id, version
		FROM     carts
		WHERE    client_id IN `+store.In(len(clients))+`
		ORDER BY client_id
		FOR UPDATE`, store.Args(clients)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var client string
		var version int64
		if err := rows.Scan(&client, &version); err != nil {
			return err
		}
		b.carts[client] = newCart(version)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return makeCarts(ctx, tx, b, clients)
}

// makeCarts adds the rows that are missing. One that another process has added a moment ago is
// found by a second look.
func makeCarts(ctx context.Context, tx *sql.Tx, b *books, clients []string) error {
	var args []any
	for _, client := range clients {
		if b.carts[client] == nil {
			b.carts[client] = newCart(0)
			args = append(args, client, b.now)
		}
	}
	if len(args) == 0 {
		return nil
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO carts (client_id, version, updated_at)
		VALUES `+store.Tuples(len(args)/2, "(?, 0, ?)"), args...)
	return raced(err)
}

func loadLines(ctx context.Context, tx *sql.Tx, b *books, clients []string) error {
	rows, err := tx.QueryContext(ctx, `
		SELECT client_id, product_id, quantity, position
		FROM   cart_lines
		WHERE  client_id IN `+store.In(len(clients)), store.Args(clients)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var client string
		var l line
		if err := rows.Scan(&client, &l.product, &l.quantity, &l.position); err != nil {
			return err
		}
		b.carts[client].lines[l.product] = l
	}
	return rows.Err()
}

func loadFreezes(ctx context.Context, tx *sql.Tx, b *books, checkouts []string) error {
	if len(checkouts) == 0 {
		return nil
	}
	rows, err := tx.QueryContext(ctx, `
		SELECT checkout_id, client_id, state, contents
		FROM   freezes
		WHERE  checkout_id IN `+store.In(len(checkouts)), store.Args(checkouts)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id, client string
		var state freezeState
		var contents []byte
		if err := rows.Scan(&id, &client, &state, &contents); err != nil {
			return err
		}
		f := b.freezes[id]
		f.client, f.stored, f.state = client, state, state
		if err := json.Unmarshal(contents, &f.lines); err != nil {
			return fmt.Errorf("contents of %s: %w", id, err)
		}
	}
	return rows.Err()
}

func loadDone(ctx context.Context, tx *sql.Tx, b *books, jobIDs []string) error {
	if len(jobIDs) == 0 {
		return nil
	}
	rows, err := tx.QueryContext(ctx, `
		SELECT job_id, request_hash, fault
		FROM   processed_jobs
		WHERE  job_id IN `+store.In(len(jobIDs)), store.Args(jobIDs)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var fingerprint, why []byte
		if err := rows.Scan(&id, &fingerprint, &why); err != nil {
			return err
		}
		d := &doneJob{err: readFault(why)}
		copy(d.fingerprint[:], fingerprint)
		b.done[id] = d
	}
	return rows.Err()
}

// readFault reads a job's stored refusal; nil when it was a success.
func readFault(stored []byte) error {
	if stored == nil {
		return nil
	}
	var f faultpb.Fault
	if err := proto.Unmarshal(stored, &f); err != nil {
		return fault.New(fault.Internal, "internal", "the stored answer cannot be read")
	}
	return fault.FromProto(&f)
}

// raced turns a key that was taken a moment ago into a second look at the whole batch.
func raced(err error) error {
	if store.IsDuplicate(err) {
		return store.ErrRaced
	}
	return err
}
