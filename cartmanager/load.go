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
func load(ctx context.Context, tx *store.Tx, batch []change, look bool) (*books, error) {
	clients, checkouts, jobIDs := subjects(batch, look)
	b := &books{now: time.Now().UTC(), carts: map[string]*cart{}, freezes: map[string]*freeze{}, done: map[string]*doneJob{}}
	for _, ch := range batch {
		if id := ch.touches().checkout; id != "" {
			b.freezes[id] = &freeze{}
		}
	}
	questions := []store.Question{b.cartsOf(clients), b.linesOf(clients)}
	if len(checkouts) > 0 {
		questions = append(questions, b.freezesOf(checkouts))
	}
	if len(jobIDs) > 0 {
		questions = append(questions, b.doneOf(jobIDs))
	}
	if err := tx.Read(ctx, questions...); err != nil {
		return nil, err
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

// cartsOf locks the rows of the carts. One that does not exist is made when all is saved: should
// another process make it until then, its key is taken, and everything is looked at again.
func (b *books) cartsOf(clients []string) store.Question {
	for _, client := range clients {
		b.carts[client] = newCart(0)
		b.carts[client].isNew = true
	}
	return store.Question{What: "carts", Query: `
		SELECT   client_id, version
		FROM     carts
		WHERE    client_id IN ` + store.In(len(clients)) + `
		ORDER BY client_id
		FOR UPDATE`, Args: store.Args(clients), Each: func(rows *sql.Rows) error {
		var client string
		var version int64
		err := rows.Scan(&client, &version)
		b.carts[client] = newCart(version)
		return err
	}}
}

func (b *books) linesOf(clients []string) store.Question {
	return store.Question{What: "cart lines", Query: `
		SELECT client_id, product_id, quantity, position
		FROM   cart_lines
		WHERE  client_id IN ` + store.In(len(clients)), Args: store.Args(clients), Each: func(rows *sql.Rows) error {
		var client string
		var l line
		if err := rows.Scan(&client, &l.product, &l.quantity, &l.position); err != nil {
			return err
		}
		b.carts[client].lines[l.product] = l
		return nil
	}}
}

func (b *books) freezesOf(checkouts []string) store.Question {
	return store.Question{What: "freezes", Query: `
		SELECT checkout_id, client_id, state, contents
		FROM   freezes
		WHERE  checkout_id IN ` + store.In(len(checkouts)), Args: store.Args(checkouts), Each: func(rows *sql.Rows) error {
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
		return nil
	}}
}

func (b *books) doneOf(jobIDs []string) store.Question {
	return store.Question{What: "processed jobs", Query: `
		SELECT job_id, request_hash, fault
		FROM   processed_jobs
		WHERE  job_id IN ` + store.In(len(jobIDs)), Args: store.Args(jobIDs), Each: func(rows *sql.Rows) error {
		var id string
		var fingerprint, why []byte
		if err := rows.Scan(&id, &fingerprint, &why); err != nil {
			return err
		}
		d := &doneJob{err: readFault(why)}
		copy(d.fingerprint[:], fingerprint)
		b.done[id] = d
		return nil
	}}
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
