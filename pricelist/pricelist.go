// Package pricelist remembers for a moment what the catalogue says, for reads that may be that
// old: what a cart shows, whether a product exists. What an order costs is never read here.
package pricelist

import (
	"context"
	"encoding/json"
	"time"

	"github.com/maypok86/otter/v2"

	"cartwright/internal/messaging"
	"cartwright/proto/cataloguepb"
)

const (
	productsMax = 50_000
	// staleMax bounds how old an answer is when the event of a change is late. Usually the event
	// comes within some milliseconds.
	staleMax = 2 * time.Second
	loadTime = 3 * time.Second
)

// Products are by ID. Those that the catalogue does not know are not in it.
type Products = map[string]*cataloguepb.Product

// Loader asks the catalogue.
type Loader func(ctx context.Context, ids []string) (Products, error)

// From makes a loader of a client of the catalogue, which sets the limit of IDs.
func From(catalogue cataloguepb.CatalogueClient) Loader {
	return func(ctx context.Context, ids []string) (Products, error) {
		answer, err := catalogue.GetProducts(ctx, &cataloguepb.GetProductsRequest{ProductIds: ids})
		if err != nil {
			return nil, err
		}
		found := make(Products, len(ids))
		for _, p := range answer.GetProducts() {
			found[p.GetProductId()] = p
		}
		return found, nil
	}
}

// List answers from memory while it hears of changes, and asks the catalogue while it does not. It
// may be used by many goroutines at once.
type List struct {
	known *otter.Cache[string, *cataloguepb.Product]
	load  Loader
	watch messaging.Watch
}

// New makes a list for the process of that name, to be closed; it remembers nothing before Run.
func New(broker messaging.Broker, name string, load Loader) *List {
	l := &List{load: load, known: otter.Must(&otter.Options[string, *cataloguepb.Product]{
		MaximumSize: productsMax, ExpiryCalculator: otter.ExpiryWriting[string, *cataloguepb.Product](staleMax),
	})}
	l.watch = messaging.Watch{Broker: broker, Name: name, Types: []string{"product.updated"}, Hear: l.hear, Lost: l.known.InvalidateAll}
	return l
}

// Run hears of changes until ctx ends.
func (l *List) Run(ctx context.Context) error { return l.watch.Run(ctx) }

// Close ends what New has begun.
func (l *List) Close() { l.known.StopAllGoroutines() }

// Find looks products up. It asks the catalogue for what is not remembered, once for all who ask
// at the same time. The products belong to everybody: read them only.
func (l *List) Find(ctx context.Context, ids []string) (Products, error) {
	if l.watch.Ready() != nil {
		return l.load(ctx, ids)
	}
	return l.known.BulkGet(ctx, ids, otter.BulkLoaderFunc[string, *cataloguepb.Product](l.loadForAll))
}

// loadForAll is not cut short with whoever happened to ask first.
func (l *List) loadForAll(ctx context.Context, ids []string) (Products, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTime)
	defer cancel()
	return l.load(ctx, ids)
}

// Forget makes the next look at a product ask the catalogue.
func (l *List) Forget(id string) { l.known.Invalidate(id) }

// hear forgets the product that an event is about, or everything when it cannot tell.
func (l *List) hear(event []byte) {
	var about struct {
		Subject string `json:"subject"`
	}
	if err := json.Unmarshal(event, &about); err != nil || about.Subject == "" {
		l.known.InvalidateAll()
		return
	}
	l.Forget(about.Subject)
}
