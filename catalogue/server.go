package catalogue

import (
	"context"
	"database/sql"
	"encoding/base64"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"cartwright/internal/fault"
	"cartwright/internal/groupcommit"
	"cartwright/internal/ids"
	"cartwright/internal/store"
	"cartwright/proto/cataloguepb"
)

const (
	idsMax   = 10_000 // 256 carts of 40 lines in one question
	limitMax = 100
)

// server is the gRPC service.
type server struct {
	cataloguepb.UnimplementedCatalogueServer
	db    *sql.DB
	reads *groupcommit.Group[[]string, []*cataloguepb.Product]
}

func newServer(db *sql.DB, reg prometheus.Registerer) *server {
	s := &server{db: db}
	s.reads = groupcommit.New(s.readTogether, groupcommit.Options[[]string]{
		Weight:  func(productIDs []string) int { return len(productIDs) },
		Observe: groupcommit.NewMetrics(reg).Of("products"),
	})
	return s
}

// GetProducts reads those of the products that exist.
func (s *server) GetProducts(ctx context.Context, req *cataloguepb.GetProductsRequest) (*cataloguepb.GetProductsResponse, error) {
	asked := req.GetProductIds()
	if len(asked) == 0 || len(asked) > idsMax {
		return nil, fault.InvalidField("product_ids", "must be 1 to %d", idsMax)
	}
	for i, id := range asked {
		if !ids.Valid(id) {
			return nil, fault.InvalidField(fmt.Sprintf("product_ids[%d]", i), ids.Shape)
		}
	}
	found, err := s.reads.Do(ctx, asked)
	if err != nil {
		return nil, fmt.Errorf("products: %w", err)
	}
	return &cataloguepb.GetProductsResponse{Products: found}, nil
}

// readTogether answers many questions with one SELECT.
func (s *server) readTogether(ctx context.Context, batch [][]string) ([]groupcommit.Result[[]*cataloguepb.Product], error) {
	var all []string
	for _, asked := range batch {
		all = append(all, asked...)
	}
	products, err := findProducts(ctx, s.db, distinct(all))
	if err != nil {
		return nil, store.Classify(err)
	}
	results := make([]groupcommit.Result[[]*cataloguepb.Product], len(batch))
	for i, asked := range batch {
		for _, id := range distinct(asked) {
			if p := products[id]; p != nil {
				results[i].Value = append(results[i].Value, p)
			}
		}
	}
	return results, nil
}

// ListProducts reads a page in the order of product IDs. The cursor is the last ID of the page
// before, in a form that nobody is tempted to write by hand.
func (s *server) ListProducts(ctx context.Context, req *cataloguepb.ListProductsRequest) (*cataloguepb.ListProductsResponse, error) {
	limit := int(req.GetLimit())
	if limit < 1 || limit > limitMax {
		return nil, fault.InvalidField("limit", "must be 1 to %d", limitMax)
	}
	after, err := fromCursor(req.GetCursor())
	if err != nil {
		return nil, err
	}
	products, err := pageOfProducts(ctx, s.db, after, limit+1) // one more tells whether there is a next page
	if err != nil {
		return nil, fmt.Errorf("products: %w", store.Classify(err))
	}
	page := &cataloguepb.ListProductsResponse{Products: products}
	if len(products) > limit {
		page.Products = products[:limit]
		page.NextCursor = toCursor(products[limit-1].GetProductId())
	}
	return page, nil
}

func toCursor(id string) string { return base64.RawURLEncoding.EncodeToString([]byte(id)) }

// fromCursor reads the ID after which a page begins; the empty cursor begins before all.
func fromCursor(cursor string) (string, error) {
	if cursor == "" {
		return "", nil
	}
	id, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || !ids.Valid(string(id)) {
		return "", fault.InvalidField("cursor", "must be the next_cursor of a page")
	}
	return string(id), nil
}

// PutProduct makes a product or replaces it. One that is the same already stays as it is.
func (s *server) PutProduct(ctx context.Context, req *cataloguepb.PutProductRequest) (*cataloguepb.PutProductResponse, error) {
	if err := checkProduct(req.GetProduct()); err != nil {
		return nil, err
	}
	saved, err := s.saveProduct(ctx, req.GetProduct())
	if err != nil {
		return nil, fmt.Errorf("product %s: %w", req.GetProduct().GetProductId(), err)
	}
	return &cataloguepb.PutProductResponse{Product: saved}, nil
}
