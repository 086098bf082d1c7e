package cartmanager

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"cartwright/internal/fault"
	"cartwright/internal/groupcommit"
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
	catalogue pricelist.Loader
	inventory inventorypb.InventoryClient
	products  *groupcommit.Group[[]string, pricelist.Products] // for what is taken out of them
	offers    *groupcommit.Group[string, offer]                // by product, for what is put into carts
}

// offer is what there is to be had of one product. refused says why it cannot be bought at all.
type offer struct {
	left    stock
	refused error
}

func newShop(catalogue, inventory grpc.ClientConnInterface, sizes *groupcommit.Metrics) *shop {
	s := &shop{catalogue: pricelist.From(cataloguepb.NewCatalogueClient(catalogue)), inventory: inventorypb.NewInventoryClient(inventory)}
	s.products = groupcommit.New(s.askCatalogue, groupcommit.Options[[]string]{
		WeightMax: idsPerCall,
		Weight:    func(ids []string) int { return len(ids) },
		Timeout:   rpcTimeout,
		Observe:   sizes.Of("products"),
	})
	s.offers = groupcommit.New(s.askBoth, groupcommit.Options[string]{Timeout: rpcTimeout, Observe: sizes.Of("offers")})
	return s
}

// askCatalogue gives every caller the same answers to read; each finds its own in it.
func (s *shop) askCatalogue(ctx context.Context, batch [][]string) ([]groupcommit.Result[pricelist.Products], error) {
	found, err := s.catalogue(ctx, unique(slices.Concat(batch...)))
	if err != nil {
		return nil, err
	}
	results := make([]groupcommit.Result[pricelist.Products], len(batch))
	for i := range results {
		results[i].Value = found
	}
	return results, nil
}

// askBoth looks products up at both services at once.
func (s *shop) askBoth(ctx context.Context, products []string) ([]groupcommit.Result[offer], error) {
	ids := unique(slices.Clone(products))
	var known pricelist.Products
	var stocks map[string]stock
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() (err error) { known, err = s.catalogue(ctx, ids); return err })
	both.Go(func() (err error) { stocks, err = findStock(ctx, s.inventory, ids); return err })
	if err := both.Wait(); err != nil {
		return nil, err
	}
	results := make([]groupcommit.Result[offer], len(products))
	for i, id := range products {
		results[i].Value = offer{stocks[id], notOffered(id, known[id])}
	}
	return results, nil
}

// notOffered says why a product cannot be bought, or nil when it can.
func notOffered(id string, p *cataloguepb.Product) error {
	switch {
	case p == nil:
		return fault.New(fault.NotFound, "unknown_product", "there is no product %s", id).With("product", id)
	case !p.GetActive():
		return notForSale(id)
	}
	return nil
}

// unique sorts IDs in place and drops those that are there twice.
func unique(ids []string) []string {
	slices.Sort(ids)
	return slices.Compact(ids)
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

// pricesOf looks up the products of carts as they are now: orders are made of them. Every ID that was
// asked for is in the answer: nil for a product that the catalogue does not know.
func (s *shop) pricesOf(ctx context.Context, ids []string) (map[string]*product, error) {
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
	s.products.Wait()
	s.offers.Wait()
}
