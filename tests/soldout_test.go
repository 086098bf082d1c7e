package tests

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"cartwright/internal/ids"
	"cartwright/internal/testenv"
)

// promised is within what the gateway knows of stock that is gone, or back. The tests share two cores
// with others, so they ask for it once in some rounds, and for the thing itself always.
const (
	promised = time.Second
	sellOuts = 5
)

// jobsOn listens to the jobs of some kinds and returns how to count them.
func (w *wire) jobsOn(keys string) (count func() int) {
	w.s.t.Helper()
	q, err := w.channel.QueueDeclare("", false, false, true, false, nil)
	if err != nil {
		w.s.t.Fatal(err)
	}
	if err := w.channel.QueueBind(q.Name, keys, w.s.namespace+"cartwright.jobs", false, nil); err != nil {
		w.s.t.Fatal(err)
	}
	return func() int {
		w.s.t.Helper()
		state, err := w.channel.QueueDeclarePassive(q.Name, false, false, true, false, nil)
		if err != nil {
			w.s.t.Fatal(err)
		}
		return state.Messages
	}
}

// restock brings units in.
func (s *shop) restock(product string, units int64) {
	s.t.Helper()
	if a := s.must(http.MethodPost, "/v1/products/"+product+"/stock", ids.New(), map[string]any{"delta": units}); a.code != http.StatusOK {
		s.t.Fatalf("stock of %s: %d %s", product, a.code, a.raw)
	}
}

// refusesAdds waits until an add is refused without a job, and tells how long that took.
func (s *shop) refusesAdds(published func() int, client, product string) time.Duration {
	s.t.Helper()
	began := time.Now()
	testenv.Eventually(s.t, readyLimit, "adds of "+product+" are refused early", func() bool {
		before := published()
		a := s.add(client, product, 1)
		return a.code == http.StatusConflict && a.Error == product+" is sold out" && published() == before
	})
	return time.Since(began)
}

// takesAdds waits until an add is taken, and tells how long that took.
func (s *shop) takesAdds(client, product string) time.Duration {
	s.t.Helper()
	began := time.Now()
	testenv.Eventually(s.t, readyLimit, product+" can be had again", func() bool { return s.add(client, product, 1).code == http.StatusOK })
	return time.Since(began)
}

// B7: the last unit is sold, and adds are refused without a message; goods come in, and adds are taken.
// Another product is never refused.
func TestASoldOutProductIsRefusedEarlyUntilGoodsComeIn(t *testing.T) {
	t.Parallel()
	s := newShop(t, options{})
	published := s.wire().jobsOn("cart.*")
	s.product("tea", 100, 1)
	s.product("cup", 100, 1000)
	var sold, back []time.Duration
	for i := range sellOuts {
		buyer, other := fmt.Sprint("buyer", i), fmt.Sprint("other", i)
		s.fill(buyer, "tea", 1)
		if a := s.mustCheckOut(buyer, "", ""); a.code != http.StatusOK {
			t.Fatalf("check out: %d %s", a.code, a.raw)
		}
		sold = append(sold, s.refusesAdds(published, other, "tea"))
		before := published()
		if a := s.must(http.MethodPut, "/v1/carts/"+other+"/items/tea", "", map[string]any{"quantity": 1}); a.code != http.StatusConflict || !strings.Contains(a.raw, `"out_of_stock"`) {
			t.Errorf("set: %d %s", a.code, a.raw)
		}
		if n := published() - before; n != 0 {
			t.Errorf("%d jobs were published for what is sold out", n)
		}
		s.fill(other, "cup", 1)
		s.restock("tea", 1)
		back = append(back, s.takesAdds(other, "tea"))
	}
	t.Logf("refused early after %s, taken again after %s", sold, back)
	if best(sold) > promised || best(back) > promised {
		t.Errorf("at best refused after %s and taken again after %s, want %s", best(sold), best(back), promised)
	}
	if s.metric("gateway", `early_refusals_total{kind="cart.set"}`) != fmt.Sprint(sellOuts) {
		t.Errorf("refused sets: %s, want %d", s.metric("gateway", `early_refusals_total{kind="cart.set"}`), sellOuts)
	}
	s.agrees()
}

func best(all []time.Duration) time.Duration {
	least := all[0]
	for _, d := range all {
		least = min(least, d)
	}
	return least
}

// B7: a payment is declined, and what was held can be bought again.
func TestARolledBackUnitCanBeBoughtAgain(t *testing.T) {
	t.Parallel()
	s := newShop(t, options{})
	heard := s.wire().hear()
	s.product("tea", 100, 1)
	s.fill("ann", "tea", 1)
	if a := s.mustCheckOut("ann", "tok_declined", ""); a.code != http.StatusPaymentRequired {
		t.Fatalf("check out: %d %s", a.code, a.raw)
	}
	next(t, heard, "stock.sold_out")
	next(t, heard, "stock.available")
	t.Logf("taken again after %s", s.takesAdds("bob", "tea"))
	s.agrees()
}

// B7, I7: a reservation lapses, and what was held can be bought again.
func TestALapsedUnitCanBeBoughtAgain(t *testing.T) {
	t.Parallel()
	s := newShop(t, options{env: map[string]string{"INVENTORY_RESERVATION_TTL": "3s", "PAYMENTS_TEST_SLOW": "8s"}})
	published, heard := s.wire().jobsOn("cart.*"), s.wire().hear()
	s.product("tea", 100, 1)
	s.fill("ann", "tea", 1)
	a := s.mustCheckOut("ann", "tok_slow", "")
	s.refusesAdds(published, "bob", "tea")
	next(t, heard, "stock.sold_out")
	next(t, heard, "stock.available")
	t.Logf("taken again after %s", s.takesAdds("bob", "tea"))
	if o := s.ends(a.Order); o.Status != "CANCELLED" {
		t.Errorf("order: %+v", o)
	}
	s.agrees()
}

// B7, K8: an early refusal says what a late one says, but names no job, because there is none. A key
// that was used keeps its answer, at every gateway; one that was refused early is free.
func TestAnEarlyRefusalIsLikeALateOne(t *testing.T) {
	t.Parallel()
	s := newShop(t, options{replicas: map[string]int{"gateway": 2}})
	published := s.wire().jobsOn("cart.*")
	second := *s
	second.url = "http://" + s.env["GATEWAY_LISTEN_1"]
	add := func(client, product, key string) answer {
		t.Helper()
		return second.must(http.MethodPost, "/addToCart", key, map[string]any{"clientID": client, "productID": product, "quantity": 1})
	}
	s.product("tea", 100, 1)
	s.product("new", 100, 0) // it never had units, so no event tells of it
	first := s.must(http.MethodPost, "/addToCart", "bought", map[string]any{"clientID": "ann", "productID": "tea", "quantity": 1})
	if first.code != http.StatusOK {
		t.Fatalf("add: %d %s", first.code, first.raw)
	}
	s.fill("buyer", "tea", 1)
	if a := s.mustCheckOut("buyer", "", ""); a.code != http.StatusOK {
		t.Fatalf("check out: %d %s", a.code, a.raw)
	}
	second.refusesAdds(published, "bob", "tea")
	if again := add("ann", "tea", "bought"); again.raw != first.raw || again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("a used key: %d %s, want %s", again.code, again.raw, first.raw)
	}

	late := add("bob", "new", "late")
	second.refusesAdds(published, "bob", "new")
	before := published()
	early := add("bob", "new", "early")
	if published() != before || late.JobID == "" || early.JobID != "" {
		t.Errorf("early %s, late %s", early.raw, late.raw)
	}
	if early.code != late.code || early.Status != late.Status || early.Error != late.Error {
		t.Errorf("early %d %s, late %d %s", early.code, early.raw, late.code, late.raw)
	}
	s.restock("new", 1)
	second.takesAdds("cid", "new")
	if again := add("bob", "new", "late"); again.raw != late.raw || again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("a refused key: %d %s, want %s", again.code, again.raw, late.raw)
	}
	if a := add("bob", "new", "early"); a.code != http.StatusOK || a.header.Get("Idempotent-Replayed") != "" {
		t.Errorf("a free key: %d %s", a.code, a.raw)
	}
}

// B7, K8: many have the last unit in their carts. Once it is sold, their checkouts are refused without a
// job and without a freeze, each order is there and says why, a key keeps its answer, and once goods
// come in they are sold again.
func TestARushForTheLastUnitIsRefusedAtTheDoor(t *testing.T) {
	t.Parallel()
	const crowd = 40
	s := newShop(t, options{})
	cartJobs, checkoutJobs := s.wire().jobsOn("cart.*"), s.wire().jobsOn("checkout.*")
	s.product("tea", 100, 1)
	all := s.crowd("c", crowd, "")
	s.fillAll(all, "tea")
	paid := s.mustCheckOut("c0", "", "paid")
	if paid.code != http.StatusOK {
		t.Fatalf("the first: %d %s", paid.code, paid.raw)
	}
	s.refusesAdds(cartJobs, "probe", "tea")
	late := s.mustCheckOut("c1", "", "late") // by the long way: nobody was refused yet
	before := checkoutJobs()
	for i, b := range all[2:] {
		early := s.mustCheckOut(b.client, "", "k")
		if early.code != late.code || early.Status != late.Status || early.Error != late.Error || early.Order == "" {
			t.Fatalf("early %d %s, late %d %s", early.code, early.raw, late.code, late.raw)
		}
		if o := s.order(early.Order); i < 3 && (o.Status != "CANCELLED" || o.Reason != early.Error || o.ClientID != b.client) {
			t.Errorf("order: %+v", o)
		}
	}
	if n := checkoutJobs() - before; n != 0 {
		t.Errorf("%d of %d were put on the queue", n, crowd-2)
	}
	if n := s.metric("gateway", `early_refusals_total{kind="checkout.start"}`); n != fmt.Sprint(crowd-2) {
		t.Errorf("%s were refused early, want %d", n, crowd-2)
	}
	if again := s.mustCheckOut("c0", "", "paid"); again.raw != paid.raw || again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("the paid one: %d %s", again.code, again.raw)
	}
	first := s.mustCheckOut("c3", "", "k")
	if first.code != http.StatusConflict || first.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("a refused one: %d %s", first.code, first.raw)
	}
	if c := s.cart("c3"); len(c.Items) != 1 {
		t.Errorf("cart: %+v", c)
	}
	s.restock("tea", 1)
	t.Logf("taken again after %s", s.takesAdds("probe", "tea"))
	if a := s.mustCheckOut("c3", "", "second"); a.code != http.StatusOK {
		t.Errorf("when it is back: %d %s", a.code, a.raw)
	}
	if again := s.mustCheckOut("c3", "", "k"); again.raw != first.raw {
		t.Errorf("the refused key: %d %s, want %s", again.code, again.raw, first.raw)
	}
	if n := s.countOrders("placed"); n != 2 {
		t.Errorf("%d orders are placed, want 2", n)
	}
	s.agrees()
}

// B7: a gateway that starts after the sell-out has heard no event. The first refused checkout tells it.
func TestAGatewayThatStartsLateLearnsFromARefusal(t *testing.T) {
	t.Parallel()
	s := prepareShop(t, options{replicas: map[string]int{"gateway": 2}})
	for _, service := range startOrder {
		s.start(service, 0)
	}
	published := s.wire().jobsOn("checkout.*")
	s.product("tea", 100, 1)
	all := s.crowd("c", 3, "")
	s.fillAll(all, "tea")
	if a := s.mustCheckOut("c0", "", ""); a.code != http.StatusOK {
		t.Fatalf("check out: %d %s", a.code, a.raw)
	}
	s.start("gateway", 1)
	late := *s
	late.url = "http://" + s.env["GATEWAY_LISTEN_1"]
	if a := late.mustCheckOut("c1", "", ""); a.code != http.StatusConflict || published() != 2 {
		t.Fatalf("the first refusal: %d %s, %d jobs", a.code, a.raw, published())
	}
	testenv.Eventually(t, readyLimit, "checkouts are refused without a job", func() bool {
		before := published()
		a := late.mustCheckOut("c2", "", "")
		return a.code == http.StatusConflict && published() == before
	})
}
