package cartmanager

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"
	"time"

	"cartwright/internal/groupcommit"
	"cartwright/internal/store"
)

// view is a cart as it was at one moment.
type view struct {
	lines   []line    // in the order in which they came in
	updated time.Time // zero when nothing was ever in it
	heard   bool      // of the checkout that was asked about
}

// view shows a client's cart; an empty one for a client who has none.
func (c *Carts) view(ctx context.Context, client string) (view, error) {
	return c.views.Do(ctx, subject{client: client})
}

// look reads the carts, and the checkouts if any, that a batch asks about.
func (c *Carts) look(ctx context.Context, batch []subject) ([]groupcommit.Result[view], error) {
	clients, checkouts := map[string]*view{}, map[string]bool{}
	for _, s := range batch {
		clients[s.client] = &view{}
		if s.checkout != "" {
			checkouts[s.checkout] = false
		}
	}
	// Heard of first: a freeze in between shows as a cart without lines, and is found by its ID.
	if err := c.lookForFreezes(ctx, checkouts); err != nil {
		return nil, store.Classify(err)
	}
	if err := c.lookIntoCarts(ctx, clients); err != nil {
		return nil, store.Classify(err)
	}
	results := make([]groupcommit.Result[view], len(batch))
	for i, s := range batch {
		results[i].Value = *clients[s.client]
		results[i].Value.heard = checkouts[s.checkout]
	}
	return results, nil
}

func (c *Carts) lookForFreezes(ctx context.Context, heard map[string]bool) error {
	if len(heard) == 0 {
		return nil
	}
	ids := slices.Collect(maps.Keys(heard))
	rows, err := c.db.QueryContext(ctx, "SELECT checkout_id FROM freezes WHERE checkout_id IN "+store.In(len(ids)), store.Args(ids)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return err
		}
		heard[id] = true
	}
	return rows.Err()
}

// lookIntoCarts reads cart and lines with one statement, so that both are of one moment.
func (c *Carts) lookIntoCarts(ctx context.Context, carts map[string]*view) error {
	ids := slices.Collect(maps.Keys(carts))
	rows, err := c.db.QueryContext(ctx, `
		SELECT    c.client_id, c.updated_at, l.product_id, l.quantity, l.position
		FROM      carts c
		LEFT JOIN cart_lines l ON l.client_id = c.client_id
		WHERE     c.client_id IN `+store.In(len(ids))+` AND c.version > 0
		ORDER BY  c.client_id, l.position, l.product_id`, store.Args(ids)...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var client string
		var updated time.Time
		var product sql.NullString
		var quantity, position sql.NullInt64
		if err := rows.Scan(&client, &updated, &product, &quantity, &position); err != nil {
			return err
		}
		v := carts[client]
		v.updated = updated
		if product.Valid {
			v.lines = append(v.lines, line{product.String, quantity.Int64, position.Int64})
		}
	}
	return rows.Err()
}

// answerTo tells what became of a job: nil done, else refused; found is false for one that is not
// done yet, or was longer ago than answers are kept.
func (c *Carts) answerTo(ctx context.Context, jobID string) (refused error, found bool, err error) {
	var stored []byte
	err = c.db.QueryRowContext(ctx, "SELECT fault FROM processed_jobs WHERE job_id = ?", jobID).Scan(&stored)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, false, nil
	case err != nil:
		return nil, false, store.Classify(err)
	}
	refused = readFault(stored)
	return refused, true, nil
}
