package bench

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"cartwright/internal/lifecycle"
	"cartwright/internal/progress"
	"cartwright/internal/store"
	"cartwright/stage"
)

const (
	// plenty is the stock of what must not run out: more than the checkouts of any run.
	plenty = 10_000_000
	// unitPrice of every product, in the smallest unit.
	unitPrice = 1250
	currency  = "EUR"
	// fillRounds is how often carts are filled again that were not filled at once, and roundPause
	// how long that waits in between.
	fillRounds = 20
	roundPause = 500 * time.Millisecond
	// runLength is enough that no two runs on one shop have one name.
	runLength = 10
)

// bench is one run on a shop.
type bench struct {
	options
	set      Settings
	run      string // begins the name of everything that the run makes
	gen      *generator
	progress progress.View
	db       *sql.DB // reads all databases
	inside   inside
	report   *Report

	received map[string]int64 // units put on the shelf, by product
	told     []answer         // by cart: what its checkout was answered
}

// open connects with the shop and makes sure that it answers.
func (c Command) open(ctx context.Context, set Settings, o options) (*bench, error) {
	b := &bench{options: o, set: set, run: "bench-" + strings.ToLower(rand.Text()[:runLength]), progress: progress.New(c.Err), received: map[string]int64{}}
	var err error
	if b.gen, err = newGenerator(set.URL, b.run, b.progress); err != nil {
		return nil, err
	}
	if _, _, err := b.gen.one(func(r *fasthttp.Request) { b.gen.write(r, "GET", "/v1/products?limit=1", "", nil) }); err != nil {
		return nil, err
	}
	if b.db, err = store.Open(set.DSN, "", 2, store.Unhurried); err != nil {
		return nil, err
	}
	if err := store.Ping(ctx, b.db); err != nil {
		return nil, fmt.Errorf("CARTWRIGHT_MYSQL_DSN: %w", err)
	}
	running, err := c.Processes()
	if err != nil {
		return nil, err
	}
	b.inside = inside{processes: ofThisShop(running, b.gen.client.Addr)}
	b.report = &Report{Began: time.Now().UTC(), Run: b.run, Machine: thisMachine()}
	b.report.Machine.Commit = set.Commit
	b.report.Machine.Database, b.report.Machine.Broker, err = stage.Versions(ctx, set.DSN, set.AMQPURL)
	if err != nil {
		return nil, err
	}
	if len(b.inside.processes) == 0 {
		b.report.note("The shop's processes cannot be seen from here, so batch sizes, processor time and memory are not told.")
	}
	return b, nil
}

func (b *bench) close() {
	b.gen.close()
	b.db.Close() //nolint:errcheck // it only read
}

// write fills in a request.
func (g *generator) write(r *fasthttp.Request, method, path, key string, body []byte) {
	r.Header.SetMethod(method)
	r.SetRequestURI(g.base + path)
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	if body != nil {
		r.Header.SetContentType("application/json")
		r.SetBodyRaw(body)
	}
}

func (b *bench) product(p int) string   { return b.run + "-p" + strconv.Itoa(p) }
func (b *bench) client(cart int) string { return b.run + "-c" + strconv.Itoa(cart) }

func (b *bench) staff(r *fasthttp.Request, method, path, key string, body []byte) {
	b.gen.write(r, method, path, key, body)
	r.Header.Set("Authorization", "Bearer "+b.set.StaffKey)
}

// shelve makes n products, with that many units of each.
func (b *bench) shelve(ctx context.Context, n int, units int64) error {
	put := func(i int, r *fasthttp.Request) {
		body := fmt.Sprintf(`{"name":"Product %d of the bench","price":{"amount":%d,"currency":"%s"},"active":true}`, i, unitPrice, currency)
		b.staff(r, "PUT", "/v1/products/"+b.product(i), "", []byte(body))
	}
	code, said, err := b.gen.one(func(r *fasthttp.Request) { put(0, r) })
	switch {
	case err != nil:
		return err
	case code == fasthttp.StatusUnauthorized:
		return fmt.Errorf("the shop at %s does not take CARTWRIGHT_STAFF_KEY", b.set.URL)
	case code == fasthttp.StatusNotFound:
		return fmt.Errorf("the shop at %s has no staff routes: it was started without CARTWRIGHT_STAFF_KEY", b.set.URL)
	case code != fasthttp.StatusOK:
		return fmt.Errorf("product: answered %d %s", code, bytes.TrimSpace(said))
	}
	if err := b.all(ctx, load{what: "products", n: n, ask: put}); err != nil {
		return err
	}
	err = b.all(ctx, load{what: "stock", n: n, ask: func(i int, r *fasthttp.Request) {
		product := b.product(i)
		b.staff(r, "POST", "/v1/products/"+product+"/stock", product, fmt.Appendf(nil, `{"delta":%d,"kind":"finite"}`, units))
	}})
	for i := range n {
		b.received[b.product(i)] = units
	}
	return err
}

// all sends requests that get the shop ready, and must all succeed.
func (b *bench) all(ctx context.Context, l load) error {
	l.hands = fillHands
	_, err := b.insist(ctx, l)
	return err
}

// fillHands is how many get things ready at a time, where that is not what is measured.
const fillHands = 64

// insist sends a load and asks again, under the same keys, for what was not done at once. The
// result is of the first time.
func (b *bench) insist(ctx context.Context, l load) (result, error) {
	first, err := b.gen.run(ctx, l)
	if err != nil {
		return first, err
	}
	left := undone(first, nil)
	for range fillRounds {
		if len(left) == 0 {
			return first, nil
		}
		if !lifecycle.Pause(ctx, roundPause) {
			return first, ctx.Err()
		}
		again := load{what: l.what + " again", n: len(left), hands: l.hands, ask: func(i int, r *fasthttp.Request) { l.ask(left[i], r) }}
		next, err := b.gen.run(ctx, again)
		if err != nil {
			return first, err
		}
		left = undone(next, left)
	}
	if len(left) == 0 {
		return first, nil
	}
	return first, fmt.Errorf("%s: %d of %d were not done: %s", l.what, len(left), l.n, b.gen.answers.count(first.samples))
}

// undone are the numbers of the requests that were not answered 200; of gives the number of each
// in the load that they come from.
func undone(r result, of []int) (left []int) {
	for i, s := range r.samples {
		if s.answer == success {
			continue
		}
		if of != nil {
			i = of[i]
		}
		left = append(left, i)
	}
	return left
}

// line is one unit of a product in a cart.
type line struct{ cart, product int }

// fill puts lines into carts, as fast as hands buyers can.
func (b *bench) fill(ctx context.Context, what string, lines []line, hands int) (result, error) {
	return b.insist(ctx, load{what: what, n: len(lines), hands: hands, ask: func(i int, r *fasthttp.Request) {
		b.add(r, b.client(lines[i].cart), b.product(lines[i].product))
	}})
}

// add writes the request that puts one unit into a cart. A cart gets a product once, so the
// product is key enough.
func (b *bench) add(r *fasthttp.Request, client, product string) {
	b.gen.write(r, "POST", "/addToCart", product, []byte(`{"clientID":"`+client+`","productID":"`+product+`","quantity":1}`))
}

// checkOut writes the request that buys a cart. Each cart is bought once, under one key.
func (b *bench) checkOut(r *fasthttp.Request, cart int, method string) {
	client := b.client(cart)
	body := `{"clientID":"` + client + `"}`
	if method != "" {
		body = `{"clientID":"` + client + `","paymentMethod":"` + method + `"}`
	}
	b.gen.write(r, "POST", "/checkOutCart", client, []byte(body))
}

// newCarts takes n numbers that no cart of this run has had.
func (b *bench) newCarts(n int) (from int) {
	from = len(b.told)
	b.told = append(b.told, make([]answer, n)...)
	return from
}

// buy checks carts out, from number from on, and remembers what each was told.
func (b *bench) buy(ctx context.Context, l load, from int) (result, error) {
	ask := l.ask
	if ask == nil {
		ask = func(i int, r *fasthttp.Request) { b.checkOut(r, from+i, "") }
	}
	l.ask = ask
	r, err := b.gen.run(ctx, l)
	for i, s := range r.samples {
		b.told[from+i] = s.answer
	}
	return r, err
}
