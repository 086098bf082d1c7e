package verify

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"cartwright/internal/store"
	schema "cartwright/sql"
)

// shelf is what the tables say of one product.
type shelf struct {
	product          string
	known            bool // it has a row of stock
	onHand, reserved int64
	hasMoved         bool
	moved            int64 // the sum of its movements
	held             int64 // the sum of what is held of it
}

func movementsAddUp(s *shelf) string {
	if !s.known || s.onHand == s.moved {
		return ""
	}
	return fmt.Sprintf("product %s: on hand %d, movements add up to %d", s.product, s.onHand, s.moved)
}

func movedIsKnown(s *shelf) string {
	if s.known || !s.hasMoved {
		return ""
	}
	return fmt.Sprintf("product %s: movements add up to %d, and it has no stock", s.product, s.moved)
}

func stockIsThere(s *shelf) string {
	if s.onHand >= 0 && s.reserved >= 0 && s.reserved <= s.onHand {
		return ""
	}
	return fmt.Sprintf("product %s: on hand %d, reserved %d", s.product, s.onHand, s.reserved)
}

func reservedIsHeld(s *shelf) string {
	if s.reserved == s.held {
		return ""
	}
	return fmt.Sprintf("product %s: reserved %d, held %d", s.product, s.reserved, s.held)
}

// readShelves returns all products' shelves in the order of their IDs. What is held has a time at
// which it lapses, and nothing else has: the sweeper's index leads to it.
func readShelves(ctx context.Context, conn *sql.Conn, namespace string) ([]*shelf, error) {
	all := map[string]*shelf{}
	of := func(product string) *shelf {
		if all[product] == nil {
			all[product] = &shelf{product: product}
		}
		return all[product]
	}
	var product, contents string
	var a, b int64
	for _, part := range []struct {
		query string
		dest  []any
		use   func() error
	}{
		{"SELECT product_id, on_hand, reserved FROM {inventory}.stock", []any{&product, &a, &b}, func() error {
			s := of(product)
			s.known, s.onHand, s.reserved = true, a, b
			return nil
		}},
		{"SELECT product_id, SUM(delta) FROM {inventory}.stock_movements GROUP BY product_id", []any{&product, &a}, func() error {
			s := of(product)
			s.hasMoved, s.moved = true, a
			return nil
		}},
		{"SELECT contents FROM {inventory}.reservations WHERE expires_at IS NOT NULL", []any{&contents}, func() error {
			var lines []promise
			// What cannot be read is named with its checkout.
			if err := json.Unmarshal([]byte(contents), &lines); err != nil {
				return nil //nolint:nilerr // see above
			}
			for _, l := range lines {
				of(l.Product).held += l.Counted
			}
			return nil
		}},
	} {
		rows, err := conn.QueryContext(ctx, schema.InNamespace(part.query, namespace))
		if err := each(rows, err, part.dest, part.use); err != nil {
			return nil, err
		}
	}
	return slices.SortedFunc(maps.Values(all), func(x, y *shelf) int { return cmp.Compare(x.product, y.product) }), nil
}

// each scans all rows into dest, one after the other, and closes them.
func each(rows *sql.Rows, err error, dest []any, use func() error) error {
	return store.Each(rows, err, func(scan func(...any) error) error {
		if err := scan(dest...); err != nil {
			return err
		}
		return use()
	})
}
