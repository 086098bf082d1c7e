package tests

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

	"cartwright/bench"
	"cartwright/internal/ids"
	"cartwright/internal/messaging"
	"cartwright/jobs"
	schema "cartwright/sql"
	"cartwright/verify"
)

// quietLimit is how long a shop may take to finish what a broken step has left behind.
const quietLimit = 120 * time.Second

// told gathers what events say of orders. They are kept on a queue of the test's own, which outlives
// every connection.
type told struct {
	queue string
	kinds map[string]map[string]bool // by order
}

// listen keeps all events of the shop from now on.
func (f *fleet) listen() *told {
	f.t.Helper()
	all, w := &told{queue: f.namespace + "heard", kinds: map[string]map[string]bool{}}, f.wire()
	if _, err := w.channel.QueueDeclare(all.queue, true, false, false, false, nil); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		if _, err := f.wire().channel.QueueDelete(all.queue, false, false, false); err != nil {
			f.t.Error(err)
		}
	})
	if err := w.channel.QueueBind(all.queue, "#", f.namespace+"cartwright.events", false, nil); err != nil {
		f.t.Fatal(err)
	}
	return all
}

// hear takes in what has come.
func (a *told) hear(w *wire) {
	w.s.t.Helper()
	for {
		d, came, err := w.channel.Get(a.queue, true)
		if err != nil {
			w.s.t.Fatal(err)
		}
		if !came {
			return
		}
		var e cloudEvent
		if err := json.Unmarshal(d.Body, &e); err != nil {
			w.s.t.Fatalf("event %s: %v", d.Body, err)
		}
		if a.kinds[e.Subject] == nil {
			a.kinds[e.Subject] = map[string]bool{}
		}
		a.kinds[e.Subject][e.Type] = true
	}
}

// come lets the crowd do what the scene says, all at once. ended waits for them, and returns what
// they complain of.
func (f *fleet) come(ctx context.Context, c failCase, prefix string, all []*shopper) (ended func() []error) {
	var hands sync.WaitGroup
	errs := make([]error, len(all))
	for i, b := range all {
		hands.Go(func() {
			if c.during == adding {
				errs[i] = b.add(ctx, prefix+"tea", ids.New())
			} else {
				errs[i] = b.checkOut(ctx)
			}
		})
	}
	return func() (complaints []error) {
		hands.Wait()
		for _, err := range errs {
			if err != nil {
				complaints = append(complaints, err)
			}
		}
		return complaints
	}
}

// judge waits until the shop is quiet, and then compares what each of the crowd was told with the
// order, the money, the stock, the cart and the events, and recomputes every balance.
func (f *fleet) judge(c failCase, prefix string, all []*shopper, told *told) {
	f.t.Helper()
	w := f.wire()
	f.quiet(w)
	told.hear(w) // all of them: the outboxes were empty before
	orders := f.ordersOf(prefix)
	placed := 0
	for _, b := range all {
		f.judgeShopper(c, b, orders[b.client], told)
		for _, o := range orders[b.client] {
			if o.state == "placed" {
				placed++
			}
		}
	}
	switch {
	case c.during == buying && placed != len(all), (c.during == declined || c.during == adding) && placed != 0, c.during == lapsing && placed == len(all):
		f.t.Errorf("%d of %d orders are placed while %s", placed, len(all), c.during)
	}
	left := int64(2*caseCrowd - placed)
	if got, want := f.stock(prefix+"tea"), (stock{left, 0, left}); got != want {
		f.t.Errorf("stock: got %+v, want %+v", got, want)
	}
	findings, err := verify.Check(f.t.Context(), f.adminDSN, f.namespace)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, found := range findings {
		f.t.Errorf("%s: %s", found.Check, strings.Join(found.Rows, "; "))
	}
}

// bought is what the books say of an order.
type bought struct {
	id, state   string
	total, paid int64 // in the smallest unit; paid by the provider's books
}

// ordersOf lists the orders of the clients whose names begin so.
func (f *fleet) ordersOf(prefix string) map[string][]bought {
	f.t.Helper()
	rows, err := f.database(schema.Checkouts).Query(schema.InNamespace(`
		SELECT    o.client_id, o.order_id, o.state, o.total_minor, COALESCE(SUM(IF(c.outcome = 'charged', c.amount_minor - c.refunded_minor, 0)), 0)
		FROM      {checkouts}.orders o
		LEFT JOIN {payments}.test_provider_charges c ON c.idempotency_key = o.checkout_id
		WHERE     o.client_id LIKE ?
		GROUP BY  o.client_id, o.order_id, o.state, o.total_minor`, f.namespace), prefix+"%")
	if err != nil {
		f.t.Fatal(err)
	}
	defer rows.Close()
	all := map[string][]bought{}
	for rows.Next() {
		var client string
		var o bought
		if err := rows.Scan(&client, &o.id, &o.state, &o.total, &o.paid); err != nil {
			f.t.Fatal(err)
		}
		all[client] = append(all[client], o)
	}
	if err := rows.Err(); err != nil {
		f.t.Fatal(err)
	}
	return all
}

// judgeShopper holds one shopper's order, cart and events to what the shopper was told.
func (f *fleet) judgeShopper(c failCase, b *shopper, orders []bought, told *told) {
	f.t.Helper()
	var inCart int64
	for _, i := range f.cart(b.client).Items {
		inCart += i.Quantity
	}
	if c.during == adding {
		if len(orders) != 0 || inCart != 1 {
			f.t.Errorf("%s has added 1, has %d in the cart and %d orders", b.client, inCart, len(orders))
		}
		return
	}
	if len(orders) != 1 || orders[0].id != b.order {
		f.t.Errorf("%s was told of order %s, and has %+v", b.client, b.order, orders)
		return
	}
	o, kind := orders[0], "order.created"
	switch {
	case b.code == http.StatusOK && o.state == "placed" && o.total == 100 && o.paid == 100 && inCart == 0:
	case b.code/100 == 4 && o.state == "failed" && o.paid == 0 && inCart == 1:
		kind = "order.cancelled"
	default:
		f.t.Errorf("%s was told %d, has order %+v and %d in the cart", b.client, b.code, o, inCart)
		return
	}
	if !told.kinds[o.id][kind] {
		f.t.Errorf("nobody was told of %s of %s", kind, o.id)
	}
}

// quiet waits until every checkout has ended, no event waits and no job is left anywhere.
func (f *fleet) quiet(w *wire) {
	f.t.Helper()
	shop := bench.Audit{DB: f.database(schema.Checkouts), Namespace: f.namespace, Patience: quietLimit}
	if err := shop.Quiet(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	for service := range runs {
		for i := range f.replicas[service] {
			f.awaitReady(service, i)
		}
	}
	for _, q := range []messaging.Queue{jobs.Cartmanager, jobs.Checkoutmanager} {
		w.settled(q)
		if _, dead, err := w.channel.Get(f.namespace+string(q.Dead()), false); err != nil || dead {
			f.t.Errorf("a job is on %s: %v", q.Dead(), err)
		}
	}
}
