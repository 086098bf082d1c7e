package cartmanager

import (
	"context"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"cartwright/internal/fault"
	"cartwright/internal/groupcommit"
	"cartwright/proto/cataloguepb"
	"cartwright/proto/inventorypb"
)

const (
	rpcTimeout = 5 * time.Second
	idsPerCall = 1000 // what inventory takes in one call; the catalogue takes more
)

// shop asks the other services what is for sale and how much of it is left. Questions of many
// callers travel in one call.
type shop struct {
	products *groupcommit.Group[[]string, map[string]*product]
	stock    *groupcommit.Group[[]string, map[string]stock]
}

func newShop(catalogue, inventory grpc.ClientConnInterface, sizes *groupcommit.Metrics) *shop {
	c, i := cataloguepb.NewCatalogueClient(catalogue), inventorypb.NewInventoryClient(inventory)
	options := func(group string) groupcommit.Options[[]string] {
		return groupcommit.Options[[]string]{
			WeightMax: idsPerCall,
			Weight:    func(ids []string) int { return len(ids) },
			Timeout:   rpcTimeout,
			Observe:   sizes.Of(group),
		}
	}
	return &shop{
		products: groupcommit.New(func(ctx context.Context, batch [][]string) ([]groupcommit.Result[map[string]*product], error) {
			found, err := findProducts(ctx, c, unique(batch))
			return toAll(found, len(batch)), err
		}, options("products")),
		stock: groupcommit.New(func(ctx context.Context, batch [][]string) ([]groupcommit.Result[map[string]stock], error) {
			found, err := findStock(ctx, i, unique(batch))
			return toAll(found, len(batch)), err
		}, options("stock")),
	}
}

func unique(batch [][]string) []string {
	ids := slices.Concat(batch...)
	slices.Sort(ids)
	return slices.Compact(ids)
}

// toAll gives every caller the same answers to read; each finds its own in it.
func toAll[Out any](found Out, callers int) []groupcommit.Result[Out] {
	results := make([]groupcommit.Result[Out], callers)
	for i := range results {
		results[i].Value = found
	}
	return results
}

// findProducts asks the catalogue. The answer has every ID that was asked for: nil for a product
// that the catalogue does not know.
func findProducts(ctx context.Context, c cataloguepb.CatalogueClient, ids []string) (map[string]*product, error) {
	answer, err := c.GetProducts(ctx, &cataloguepb.GetProductsRequest{ProductIds: ids})
	if err != nil {
		return nil, err
	}
	found := make(map[string]*product, len(ids))
	for _, id := range ids {
		found[id] = nil
	}
	for _, p := range answer.GetProducts() {
		found[p.GetProductId()] = &product{p.GetProductId(), p.GetName(), p.GetPriceMinor(), p.GetCurrency(), p.GetActive()}
	}
	return found, nil
}

// findStock asks inventory. What it has never heard of has nothing available.
func findStock(ctx context.Context, c inventorypb.InventoryClient, ids []string) (map[string]stock, error) {
	answer, err := c.GetAvailability(ctx, &inventorypb.GetAvailabilityRequest{ProductIds: ids, KnownOnly: true})
	if err != nil {
		return nil, err
	}
	found := make(map[string]stock, len(ids))
	for _, s := range answer.GetStock() {
		found[s.GetProductId()] = stock{s.GetAvailable(), s.GetKind() == inventorypb.Kind_KIND_INFINITE}
	}
	return found, nil
}

// offer looks up one product at both services at once. refused says that it cannot be bought at
// all; err that nobody could tell.
func (s *shop) offer(ctx context.Context, id string) (left stock, refused, err error) {
	var products map[string]*product
	var stocks map[string]stock
	var both errgroup.Group
	both.Go(func() (err error) { products, err = s.products.Do(ctx, []string{id}); return err })
	both.Go(func() (err error) { stocks, err = s.stock.Do(ctx, []string{id}); return err })
	if err := both.Wait(); err != nil {
		return stock{}, nil, err
	}
	switch p := products[id]; {
	case p == nil:
		refused = fault.New(fault.NotFound, "unknown_product", "there is no product %s", id).With("product", id)
	case !p.active:
		refused = notForSale(id)
	}
	return stocks[id], refused, nil
}

// offers looks up the products of carts. Every ID that was asked for is in the answer.
func (s *shop) offers(ctx context.Context, ids []string) (map[string]*product, error) {
	all := map[string]*product{}
	for some := range slices.Chunk(ids, idsPerCall) {
		found, err := s.products.Do(ctx, some)
		if err != nil {
			return nil, err
		}
		maps.Copy(all, found) // which may know more: others asked in the same call
	}
	return all, nil
}

func (s *shop) wait() {
	s.products.Wait()
	s.stock.Wait()
}
