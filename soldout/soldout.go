// Package soldout remembers which products have nothing left, so that a gateway can refuse at once
// what inventory would refuse after a way through the queue. It hears from inventory when a product
// runs out and when there is some again, and asks again every second whether what it believes is
// still so. It never says that something can be had: whatever it does not know goes the long way.
package soldout

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"cartwright/internal/fault"
	"cartwright/internal/ids"
	"cartwright/internal/messaging"
	"cartwright/proto/inventorypb"
)

const (
	// productsMax bounds the memory, and what is asked each second to ten calls. Products beyond it
	// are refused by the long way.
	productsMax = 10_000
	// confirmEvery is how soon an event that never came is made up for.
	confirmEvery = time.Second
	// believedFor is how long something is believed that nobody confirms: two answers may be missed.
	believedFor = 3 * time.Second
	// wantedFor is how long after the last request a product is still asked about. Beyond it the next
	// request goes the long way, and brings it back.
	wantedFor = 10 * time.Minute
	askTime   = 2 * time.Second // below believedFor, so that a slow answer is one answer missed
	askMax    = 1000            // products in one call: what inventory takes
)

// The events that tell of a product, as inventory names them.
const (
	ranOut = "stock.sold_out"
	isBack = "stock.available"
)

// Asker asks inventory which of some products have nothing left.
type Asker func(ctx context.Context, products []string) (gone map[string]bool, err error)

// From makes an asker of a client of the inventory. A product that is not counted is never gone, and
// of one that inventory has never heard of nothing is said.
func From(inventory inventorypb.InventoryClient) Asker {
	return func(ctx context.Context, products []string) (map[string]bool, error) {
		answer, err := inventory.GetAvailability(ctx, &inventorypb.GetAvailabilityRequest{ProductIds: products, KnownOnly: true})
		if err != nil {
			return nil, err
		}
		gone := map[string]bool{}
		for _, s := range answer.GetStock() {
			gone[s.GetProductId()] = s.GetKind() == inventorypb.Kind_KIND_FINITE && s.GetAvailable() <= 0
		}
		return gone, nil
	}
}

// Refusal is what a worker would say about a product of which nothing is left.
func Refusal(product string) *fault.Error {
	return fault.New(fault.Refused, "out_of_stock", "%s is sold out", product).With("product", product).With("available", "0")
}

// List is the memory of one process. It may be used by many goroutines at once.
type List struct {
	ask   Asker
	log   *slog.Logger
	watch messaging.Watch

	mu       sync.Mutex
	products map[string]*entry
	losses   int // how many times events may have been missed
}

// entry is what is known of one product.
type entry struct {
	gone     bool
	sequence string    // of the newest event; empty before the first
	until    time.Time // then it is no longer believed
	wanted   time.Time // when it was last looked for
}

// New makes a list for the process of that name; it knows nothing before Run.
func New(broker messaging.Broker, name string, ask Asker) *List {
	l := &List{ask: ask, log: broker.Log, products: map[string]*entry{}}
	l.watch = messaging.Watch{Broker: broker, Name: name + ".stock", Types: []string{ranOut, isBack}, Hear: l.hear, Lost: l.forget}
	return l
}

// Run hears of products, and asks about them, until ctx ends.
func (l *List) Run(ctx context.Context) error {
	var both errgroup.Group
	both.Go(func() error { return l.watch.Run(ctx) })
	both.Go(func() error { l.confirm(ctx); return nil })
	return both.Wait()
}

// Has tells whether nothing is left of a product. While events cannot be heard it knows of none.
func (l *List) Has(product string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, known := l.products[product]
	now := time.Now()
	if !known || !e.gone || now.After(e.until) {
		return false
	}
	e.wanted = now
	return true
}

// Suspect makes inventory be asked about a product: a worker has refused it, and no event has told
// why, or none that is remembered. What is no product's ID would spoil the question for the others.
func (l *List) Suspect(product string) {
	if !ids.Valid(product) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.products[product]; !known {
		l.add(product, &entry{})
	}
}

// Forget makes the next request for a product go the long way.
func (l *List) Forget(product string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.products, product)
}

// add remembers a product if there is room.
func (l *List) add(product string, e *entry) {
	if len(l.products) < productsMax {
		e.wanted = time.Now()
		e.until = e.wanted.Add(believedFor)
		l.products[product] = e
	}
}

// hear takes an event in, unless a newer one about the same product was heard before: events may come
// twice, and late. One that cannot be read could be about anything, and one without a sequence could be
// of any time.
func (l *List) hear(event []byte) {
	var told struct{ Type, Subject, Sequence string }
	if err := json.Unmarshal(event, &told); err != nil || told.Subject == "" {
		l.forget()
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e, known := l.products[told.Subject]
	switch {
	case told.Sequence == "":
		delete(l.products, told.Subject)
	case !known:
		l.add(told.Subject, &entry{gone: told.Type == ranOut, sequence: told.Sequence})
	case told.Sequence > e.sequence:
		e.gone, e.sequence, e.until = told.Type == ranOut, told.Sequence, time.Now().Add(believedFor)
	}
}

// forget drops everything, also what is being asked: who knows what has happened meanwhile.
func (l *List) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.losses++
	clear(l.products)
}

// confirm asks about all that is believed, every second until ctx ends.
func (l *List) confirm(ctx context.Context) {
	tick := time.NewTicker(confirmEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := l.askForAll(ctx); err != nil && ctx.Err() == nil {
			l.log.DebugContext(ctx, "sold-out products are not confirmed", "error", err)
		}
	}
}

// askForAll asks about everything once. It asks nothing while events cannot be heard: the answer would be
// older than what is missed.
func (l *List) askForAll(ctx context.Context) error {
	if l.watch.Ready() != nil {
		return nil
	}
	before := l.due()
	for some := range slices.Chunk(slices.Sorted(maps.Keys(before.seen)), askMax) {
		if err := l.askFor(ctx, some, before); err != nil {
			return err
		}
	}
	return nil
}

// moment is what was known of products when inventory was asked about them.
type moment struct {
	losses int
	seen   map[string]entry
}

// due is what to ask about. What has ended and was not asked about makes room.
func (l *List) due() moment {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	m := moment{l.losses, map[string]entry{}}
	for product, e := range l.products {
		switch {
		case now.After(e.until):
			delete(l.products, product)
		case (e.gone || e.sequence == "") && now.Sub(e.wanted) < wantedFor:
			m.seen[product] = *e
		}
	}
	return m
}

// askFor asks about some products and believes the answer, except about those of which an event was
// heard meanwhile: nobody can tell which of the two is newer, and the next second asks again.
func (l *List) askFor(ctx context.Context, products []string, before moment) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	asked := time.Now()
	gone, err := l.ask(ctx, products)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.losses != before.losses {
		return nil
	}
	for _, product := range products {
		e, known := l.products[product]
		if !known || e.sequence != before.seen[product].sequence {
			continue
		}
		if e.gone = gone[product]; e.gone || e.sequence != "" {
			e.until = asked.Add(believedFor)
		} else {
			delete(l.products, product)
		}
	}
	return nil
}
