package cartmanager

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"cartwright/internal/fault"
	"cartwright/internal/groupcommit"
	"cartwright/internal/messaging"
	"cartwright/pricelist"
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
	products *groupcommit.Group[[]string, pricelist.Products]
	stock    *groupcommit.Group[[]string, map[string]stock]
	list     *pricelist.List // of products, as they were a moment ago
}

func newShop(broker messaging.Broker, catalogue, inventory grpc.ClientConnInterface, sizes *groupcommit.Metrics) *shop {
	ask, i := pricelist.From(cataloguepb.NewCatalogueClient(catalogue)), inventorypb.NewInventoryClient(inventory)
	options := func(group string) groupcommit.Options[[]string] {
		return groupcommit.Options[[]string]{
			WeightMax: idsPerCall,
			Weight:    func(ids []string) int { return len(ids) },
			Timeout:   rpcTimeout,
			Observe:   sizes.Of(group),
		}
	}
	s := &shop{
		products: groupcommit.New(func(ctx context.Context, batch [][]string) ([]groupcommit.Result[pricelist.Products], error) {
			found, err := ask(ctx, unique(batch))
			return toAll(found, len(batch)), err
		}, options("products")),
		stock: groupcommit.New(func(ctx context.Context, batch [][]string) ([]groupcommit.Result[map[string]stock], error) {
			found, err := findStock(ctx, i, unique(batch))
			return toAll(found, len(batch)), err
		}, options("stock")),
	}
	s.list = pricelist.New(broker, name, s.products.Do)
	return s
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

func asProduct(p *cataloguepb.Product) *product {
	if p == nil {
		return nil
	}
	return &product{p.GetProductId(), p.GetName(), p.GetPriceMinor(), p.GetCurrency(), p.GetActive()}
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
// all; err that nobody could tell. The freeze looks again.
func (s *shop) offer(ctx context.Context, id string) (left stock, refused, err error) {
	var products pricelist.Products
	var stocks map[string]stock
	var both errgroup.Group
	both.Go(func() (err error) { products, err = s.list.Find(ctx, []string{id}); return err })
	both.Go(func() (err error) { stocks, err = s.stock.Do(ctx, []string{id}); return err })
	if err := both.Wait(); err != nil {
		return stock{}, nil, err
	}
	switch p := products[id]; {
	case p == nil:
		refused = fault.New(fault.NotFound, "unknown_product", "there is no product %s", id).With("product", id)
	case !p.GetActive():
		refused = notForSale(id)
	}
	return stocks[id], refused, nil
}

// offers looks up the products of carts as they are now: orders are made of them. Every ID that was
// asked for is in the answer: nil for a product that the catalogue does not know.
func (s *shop) offers(ctx context.Context, ids []string) (map[string]*product, error) {
	all := map[string]*product{}
	for some := range slices.Chunk(ids, idsPerCall) {
		found, err := s.products.Do(ctx, some)
		if err != nil {
			return nil, err
		}
		for _, id := range some {
			all[id] = asProduct(found[id])
		}
	}
	return all, nil
}

func (s *shop) wait() {
	s.list.Close()
	s.products.Wait()
	s.stock.Wait()
}
