package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"cartwright/internal/lifecycle"
)

const (
	// hands is how many shoppers are on their way at a time, and pace how long lies between two who
	// come in.
	hands = 96
	pace  = 10 * time.Millisecond
	// products of a run. The first is what everybody wants, and of which there are few.
	products = 20
	plenty   = 1_000_000
	few      = 40
	// restockEvery brings in restock more of the first.
	restockEvery = 4 * time.Second
	restock      = 15
	unitPrice    = 1250

	// tries is how often a shopper asks for the same thing, until he leaves it to the shop.
	tries    = 8
	tryAgain = time.Second
	// asks is how often he asks what became of what was accepted.
	asks     = 12
	askAgain = 500 * time.Millisecond
	// leaving is how long those who are still there at the end go on asking.
	leaving = 5 * time.Second
	// stockLimit is how long goods are brought in again, under the same key, until that is confirmed.
	stockLimit = 2 * time.Minute
)

// load is what all shoppers of a run do.
type load struct {
	run  string // begins the names of all that the run makes
	seed uint64
	door *door

	shoppers  atomic.Int64 // who have come in
	checkouts atomic.Int64 // that have been answered with an end

	mu       sync.Mutex
	received map[string]int64
}

func (l *load) product(n int) string { return l.run + "-p" + strconv.Itoa(n) }
func (l *load) client(n int) string  { return l.run + "-c" + strconv.Itoa(n) }

// fillShelves makes the products and brings in their stock.
func (l *load) fillShelves(ctx context.Context) error {
	l.received = map[string]int64{}
	for n := range products {
		body := map[string]any{"name": fmt.Sprint("Product ", n), "price": map[string]any{"amount": unitPrice, "currency": "EUR"}, "active": true}
		e := l.door.ask(ctx, http.MethodPut, "/v1/products/"+l.product(n), body, Entry{Op: opStock, Product: l.product(n)})
		if e.Code != http.StatusOK {
			return fmt.Errorf("product: answered %d %s", e.Code, e.Error)
		}
		units := int64(plenty)
		if n == 0 {
			units = few
		}
		if err := l.bringIn(ctx, n, units, "first"); err != nil {
			return err
		}
	}
	return nil
}

// bringIn puts goods on a shelf, and asks until that is confirmed.
func (l *load) bringIn(ctx context.Context, product int, units int64, key string) error {
	ctx, cancel := context.WithTimeout(ctx, stockLimit)
	defer cancel()
	name := l.product(product)
	for {
		e := l.door.ask(ctx, http.MethodPost, "/v1/products/"+name+"/stock", map[string]any{"delta": units, "kind": "finite"},
			Entry{Op: opStock, Product: name, Quantity: units, Key: name + "-" + key})
		switch {
		case e.Code == http.StatusOK:
			l.mu.Lock()
			l.received[name] += units
			l.mu.Unlock()
			return nil
		case e.refused():
			return fmt.Errorf("stock: answered %d %s", e.Code, e.Error)
		}
		if !lifecycle.Pause(ctx, tryAgain) {
			return fmt.Errorf("stock: answered %d %s, until there was no more time", e.Code, e.Error)
		}
	}
}

// shop lets shoppers in until the time is over, and returns when the last has left. When ctx ends, all
// leave at once.
func (l *load) shop(ctx context.Context, length time.Duration) error {
	end := time.Now().Add(length)
	patient, cancel := context.WithDeadline(ctx, end.Add(leaving))
	defer cancel()
	restocked := make(chan error, 1)
	go func() { restocked <- l.keepStocked(ctx, end) }()
	due := make(chan int)
	var working sync.WaitGroup
	for range hands {
		working.Go(func() {
			for n := range due {
				l.journey(patient, n)
			}
		})
	}
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for n := 0; time.Now().Before(end) && ctx.Err() == nil; n++ {
		select {
		case <-tick.C:
			select {
			case due <- n:
				l.shoppers.Add(1)
			case <-patient.Done():
			}
		case <-ctx.Done():
		}
	}
	close(due)
	working.Wait()
	return <-restocked
}

// keepStocked brings in a few of what everybody wants, again and again.
func (l *load) keepStocked(ctx context.Context, end time.Time) error {
	for n := 0; time.Until(end) > restockEvery && lifecycle.Pause(ctx, restockEvery); n++ {
		if err := l.bringIn(ctx, 0, restock, strconv.Itoa(n)); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// wish is what one shopper wants, all of which follows from the seed.
type wish struct {
	lines      []line
	method     string
	leaves     bool // without buying
	impatient  bool // sends the checkout twice at a time
	suspicious bool // sends it again when it has been answered
}

type line struct {
	product  int
	quantity int64
}

func (l *load) wish(n int) (w wish) {
	r := rand.New(rand.NewPCG(l.seed, uint64(n)+2)) // the first two are the plan's and the forger's
	lines := []int{1, 1, 1, 1, 1, 2, 2, 3, 4}[r.IntN(9)]
	for _, product := range r.Perm(products - 1)[:lines] {
		w.lines = append(w.lines, line{product + 1, 1 + r.Int64N(3)})
	}
	if r.IntN(5) == 0 {
		w.lines[0] = line{0, 1}
	}
	switch chance := r.IntN(100); {
	case chance < 8:
		w.method = "tok_declined"
	case chance < 11:
		w.method = "tok_slow"
	case chance < 13:
		w.method = "tok_silent"
	case chance < 50:
		w.method = "tok_ok"
	}
	w.leaves, w.impatient, w.suspicious = r.IntN(25) == 0, r.IntN(12) == 0, r.IntN(12) == 0
	return w
}

// journey is what one shopper does: he fills a cart of his own and buys it.
func (l *load) journey(ctx context.Context, n int) {
	w, client := l.wish(n), l.client(n)
	for _, line := range w.lines {
		l.addLine(ctx, client, line)
	}
	if w.leaves {
		return
	}
	if w.impatient {
		var both sync.WaitGroup
		both.Go(func() { l.checkOut(ctx, client, w.method) })
		l.checkOut(ctx, client, w.method)
		both.Wait()
	} else {
		l.checkOut(ctx, client, w.method)
	}
	if w.suspicious {
		l.checkOut(ctx, client, w.method)
	}
	l.checkouts.Add(1)
}

// addLine puts one product into the cart, which gets each once: so the product is key enough.
func (l *load) addLine(ctx context.Context, client string, want line) {
	e := Entry{Op: opAdd, Client: client, Product: l.product(want.product), Quantity: want.quantity, Key: l.product(want.product)}
	body := map[string]any{"clientID": client, "productID": e.Product, "quantity": e.Quantity}
	e = l.untilAnswered(ctx, "/addToCart", body, e)
	if e.Code == http.StatusAccepted {
		l.follow(ctx, "/v1/jobs/", Entry{Op: opJob, Client: client, Asked: e.ID})
	}
}

// checkOut buys the cart. Each is bought once, under one key.
func (l *load) checkOut(ctx context.Context, client, method string) {
	body := map[string]any{"clientID": client}
	if method != "" {
		body["paymentMethod"] = method
	}
	e := l.untilAnswered(ctx, "/checkOutCart", body, Entry{Op: opCheckout, Client: client, Key: client, Method: method})
	if e.Code == http.StatusAccepted {
		l.follow(ctx, "/v1/orders/", Entry{Op: opOrder, Client: client, Asked: e.ID})
	}
}

// untilAnswered asks for the same thing, under the same key, until it is accepted or refused.
func (l *load) untilAnswered(ctx context.Context, path string, body any, e Entry) Entry {
	for range tries {
		if e = l.door.ask(ctx, http.MethodPost, path, body, e); e.accepted() || e.refused() || !lifecycle.Pause(ctx, tryAgain) {
			break
		}
	}
	return e
}

// follow asks what became of what was accepted, until it has ended or he has asked often enough.
func (l *load) follow(ctx context.Context, path string, e Entry) {
	for range asks {
		if !lifecycle.Pause(ctx, askAgain) {
			return
		}
		if e = l.door.ask(ctx, http.MethodGet, path+e.Asked, nil, e); e.ended() {
			return
		}
	}
}

// ended tells whether an answer to a question says that what was asked for has ended.
func (e Entry) ended() bool {
	return e.Code == http.StatusOK && (e.Status == "PAID" || e.Status == "CANCELLED" || e.Status == "Success" || e.Status == "Failed")
}
