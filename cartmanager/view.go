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
}

// view shows a client's cart; an empty one for a client who has none.
func (c *Carts) view(ctx context.Context, client string) (view, error) {
	return c.views.Do(ctx, client)
}

// look reads the carts of a batch of clients.
func (c *Carts) look(ctx context.Context, clients []string) ([]groupcommit.Result[view], error) {
	carts := map[string]*view{}
	for _, client := range clients {
		carts[client] = &view{}
	}
	if err := c.lookIntoCarts(ctx, carts); err != nil {
		return nil, store.Classify(err)
	}
	results := make([]groupcommit.Result[view], len(clients))
	for i, client := range clients {
		results[i].Value = *carts[client]
	}
	return results, nil
}

// heardOf tells which of the checkouts have frozen or thawed before.
func (c *Carts) heardOf(ctx context.Context, checkouts []string) (heard map[string]bool, err error) {
	rows, err := c.db.QueryContext(ctx, "SELECT checkout_id FROM freezes WHERE checkout_id IN "+store.In(len(checkouts)), store.Args(checkouts)...)
	if err != nil {
		return nil, store.Classify(err)
	}
	defer rows.Close()
	heard = map[string]bool{}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		heard[id] = true
	}
	return heard, store.Classify(rows.Err())
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
