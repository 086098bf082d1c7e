package catalogue

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"cartwright/internal/fault"
	"cartwright/internal/ids"
	"cartwright/internal/money"
	"cartwright/internal/outbox"
	"cartwright/internal/store"
	"cartwright/proto/cataloguepb"
)

const (
	nameMax  = 200             // characters, and the width of the column
	priceMax = 100_000_000_000 // a line of 10,000 of these, 200 times, still fits into 64 bits
)

// checkProduct tells what is wrong with a product, naming the field.
func checkProduct(p *cataloguepb.Product) error {
	name := p.GetName()
	switch {
	case !ids.Valid(p.GetProductId()):
		return fault.InvalidField("product.product_id", ids.Shape)
	case strings.TrimSpace(name) == "" || utf8.RuneCountInString(name) > nameMax:
		return fault.InvalidField("product.name", "must be 1 to %d characters, and not only spaces", nameMax)
	case strings.ContainsFunc(name, unicode.IsControl):
		return fault.InvalidField("product.name", "must have no control characters")
	case p.GetPriceMinor() < 0 || p.GetPriceMinor() > priceMax:
		return fault.InvalidField("product.price_minor", "must be 0 to %d", int64(priceMax))
	case !money.ValidCurrency(p.GetCurrency()):
		return fault.InvalidField("product.currency", "must be three capital letters")
	}
	return nil
}

// distinct lists each ID once, in order.
func distinct(productIDs []string) []string {
	sorted := slices.Sorted(slices.Values(productIDs))
	return slices.Compact(sorted)
}

// queries is what a pool and a transaction have in common.
type queries interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

const productColumns = "product_id, name, price_minor, currency, active, version"

// findProducts reads those that exist, by their IDs.
func findProducts(ctx context.Context, q queries, productIDs []string) (map[string]*cataloguepb.Product, error) {
	found, err := readProducts(ctx, q, `
		SELECT `+productColumns+`
		FROM   products
		WHERE  product_id IN `+store.In(len(productIDs)), store.Args(productIDs)...)
	byID := make(map[string]*cataloguepb.Product, len(found))
	for _, p := range found {
		byID[p.GetProductId()] = p
	}
	return byID, err
}

func pageOfProducts(ctx context.Context, q queries, after string, limit int) ([]*cataloguepb.Product, error) {
	return readProducts(ctx, q, `
		SELECT   `+productColumns+`
		FROM     products
		WHERE    product_id > ?
		ORDER BY product_id
		LIMIT    ?`, after, limit)
}

func lockProduct(ctx context.Context, tx *store.Tx, id string) (*cataloguepb.Product, error) {
	found, err := readProducts(ctx, tx, `
		SELECT `+productColumns+`
		FROM   products
		WHERE  product_id = ?
		FOR    UPDATE`, id)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return found[0], nil
}

func readProducts(ctx context.Context, q queries, query string, args ...any) ([]*cataloguepb.Product, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []*cataloguepb.Product
	for rows.Next() {
		p := &cataloguepb.Product{}
		if err := rows.Scan(&p.ProductId, &p.Name, &p.PriceMinor, &p.Currency, &p.Active, &p.Version); err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, rows.Err()
}

// saveProduct writes a product with the next version and tells of it, or neither when nothing
// would change.
func (s *server) saveProduct(ctx context.Context, want *cataloguepb.Product) (*cataloguepb.Product, error) {
	var saved *cataloguepb.Product
	err := store.InTx(ctx, s.db, func(ctx context.Context, tx *store.Tx) error {
		old, err := lockProduct(ctx, tx, want.GetProductId())
		if err != nil {
			return err
		}
		saved = &cataloguepb.Product{
			ProductId: want.GetProductId(), Name: want.GetName(), PriceMinor: want.GetPriceMinor(),
			Currency: want.GetCurrency(), Active: want.GetActive(), Version: old.GetVersion(), // 0 when there is none
		}
		if proto.Equal(saved, old) {
			return nil
		}
		saved.Version++
		if old == nil {
			err = insertProduct(ctx, tx, saved)
		} else {
			err = updateProduct(ctx, tx, saved)
		}
		if err != nil {
			return err
		}
		return outbox.Add(ctx, tx, updated(saved))
	})
	return saved, err
}

func insertProduct(ctx context.Context, tx *store.Tx, p *cataloguepb.Product) error {
	err := tx.Write(ctx, `
		INSERT INTO products (product_id, name, price_minor, currency, active, version, updated_at)
		VALUES (?, ?, ?, ?, ?, ?, NOW(6))`, p.ProductId, p.Name, p.PriceMinor, p.Currency, p.Active, p.Version)
	if store.IsDuplicate(err) {
		return store.ErrRaced // made by somebody else after we had looked
	}
	return err
}

func updateProduct(ctx context.Context, tx *store.Tx, p *cataloguepb.Product) error {
	return tx.Write(ctx, `
		UPDATE products
		SET    name = ?, price_minor = ?, currency = ?, active = ?, version = ?, updated_at = NOW(6)
		WHERE  product_id = ?`, p.Name, p.PriceMinor, p.Currency, p.Active, p.Version, p.ProductId)
}

// updated tells what a product is now.
func updated(p *cataloguepb.Product) outbox.Event {
	type price struct {
		Amount   int64  `json:"amount"`
		Currency string `json:"currency"`
	}
	return outbox.Event{Type: "product.updated", Subject: p.GetProductId(), Data: struct {
		ProductID string `json:"productId"`
		Version   int64  `json:"version"`
		Name      string `json:"name"`
		Price     price  `json:"price"`
		Active    bool   `json:"active"`
	}{p.GetProductId(), p.GetVersion(), p.GetName(), price{p.GetPriceMinor(), p.GetCurrency()}, p.GetActive()}}
}
