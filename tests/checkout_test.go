package tests

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cartwright/internal/ids"
	"cartwright/internal/testenv"
)

// K1, O1, P18, C1, C6: reserve, pay, commit; the price is the catalogue's.
func TestACheckoutReservesPaysAndCommits(t *testing.T) {
	t.Parallel()
	s := newShop(t, options{})
	s.product("tea", 4726, 10)
	s.product("pot", 900, 5)
	s.fill("ann", "tea", 2)
	s.fill("ann", "pot", 1)
	if c := s.cart("ann"); len(c.Items) != 2 || c.Items[0].Quantity != 2 || c.Total.Amount != 2*4726+900 {
		t.Errorf("cart before: %+v", c)
	}
	a := s.mustCheckOut("ann", "", "")
	if a.code != http.StatusOK || a.Status != "Success" || a.Order == "" {
		t.Fatalf("check out: %d %s", a.code, a.raw)
	}
	o := s.order(a.Order)
	if o.Status != "PAID" || o.Total.Amount != 2*4726+900 || o.Total.Currency != "EUR" || len(o.Items) != 2 || o.ClientID != "ann" {
		t.Errorf("order: %+v", o)
	}
	if got, want := s.stock("tea"), (stock{8, 0, 8}); got != want {
		t.Errorf("stock of tea: got %+v, want %+v", got, want)
	}
	if c := s.cart("ann"); len(c.Items) != 0 {
		t.Errorf("cart after: %+v", c)
	}
	if n := s.charges(a.Order); n != 1 {
		t.Errorf("%d charges, want 1", n)
	}
	s.agrees()
}

// Z4, O1: what a cart shows may be a moment old; what an order costs is asked for when the cart is
// frozen, whatever anybody remembers.
func TestAnOrderCostsThePriceOfNow(t *testing.T) {
	t.Parallel()
	s := newShop(t, options{})
	s.product("tea", 100, 100)
	for i := range 10 {
		client, old, now := fmt.Sprint("c", i), int64(100+i), int64(101+i)
		s.fill(client, "tea", 2)
		if shown := s.cart(client).Total.Amount; shown != 2*old { // from here on, somebody remembers it
			t.Errorf("the cart shows %d, want %d", shown, 2*old)
		}
		s.price("tea", now)
		if o := s.order(s.mustCheckOut(client, "", "").Order); o.Total.Amount != 2*now {
			t.Errorf("the order costs %d, want %d", o.Total.Amount, 2*now)
		}
	}
	s.agrees()
}

// K2: a decline leaves stock and cart as they were, and the order says why.
func TestADeclineGivesEverythingBack(t *testing.T) {
	t.Parallel()
	s := newShop(t, options{})
	for _, p := range []string{"one", "two", "three"} {
		s.product(p, 100, 5)
		s.fill("ann", p, 1)
	}
	before := s.cart("ann")
	a := s.mustCheckOut("ann", "tok_declined", "")
	if a.code != http.StatusPaymentRequired || a.Status != "Failed" || a.Error == "" {
		t.Fatalf("check out: %d %s", a.code, a.raw)
	}
	if got, want := s.stock("one"), (stock{5, 0, 5}); got != want {
		t.Errorf("stock: got %+v, want %+v", got, want)
	}
	if after := s.cart("ann"); len(after.Items) != 3 || after.Total.Amount != before.Total.Amount {
		t.Errorf("cart after: %+v, want %+v", after, before)
	}
	if o := s.order(a.Order); o.Status != "CANCELLED" || o.Reason == "" {
		t.Errorf("order: %+v", o)
	}
	s.agrees()
}

// K3: the second line is short, so the first is not kept either, and the answer names the second.
func TestAShortLineTakesTheOthersBack(t *testing.T) {
	t.Parallel()
	s := newShop(t, options{})
	s.product("tea", 100, 5)
	s.product("pot", 100, 1)
	for _, client := range []string{"ann", "bob"} {
		s.fill(client, "tea", 1)
		s.fill(client, "pot", 1)
	}
	if a := s.mustCheckOut("ann", "", ""); a.code != http.StatusOK {
		t.Fatalf("first: %d %s", a.code, a.raw)
	}
	a := s.mustCheckOut("bob", "", "")
	if a.code != http.StatusConflict || a.Status != "Failed" || !strings.Contains(a.Error, "pot") {
		t.Fatalf("second: %d %s", a.code, a.raw)
	}
	if got, want := s.stock("tea"), (stock{4, 0, 4}); got != want {
		t.Errorf("stock of tea: got %+v, want %+v", got, want)
	}
	if c := s.cart("bob"); len(c.Items) != 2 {
		t.Errorf("cart of bob: %+v", c)
	}
	s.agrees()
}

// K4: an empty cart is refused, and no payment is tried.
func TestAnEmptyCartIsRefused(t *testing.T) {
	t.Parallel()
	s := newShop(t, options{})
	a := s.mustCheckOut("nobody", "", "")
	if a.code != http.StatusConflict || a.Status != "Failed" {
		t.Fatalf("check out: %d %s", a.code, a.raw)
	}
	if n := s.charges(a.Order); n != 0 {
		t.Errorf("%d charges, want 0", n)
	}
	s.agrees()
}

// C2, C3, C5: sums, limits, and an unknown product that poisons nothing.
func TestACartSumsAndRefuses(t *testing.T) {
	t.Parallel()
	s := newShop(t, options{})
	s.product("tea", 100, 10)
	if a := s.add("ann", "tea", 11); a.code != http.StatusConflict || a.Status != "Failed" {
		t.Errorf("add 11 of 10: %d %s", a.code, a.raw)
	}
	if a := s.add("ann", "coffee", 1); a.code != http.StatusNotFound {
		t.Errorf("add an unknown product: %d %s", a.code, a.raw)
	}
	s.fill("ann", "tea", 2)
	s.fill("ann", "tea", 3)
	if a := s.add("ann", "tea", 6); a.code != http.StatusConflict {
		t.Errorf("add 6 to 5 of 10: %d %s", a.code, a.raw)
	}
	if c := s.cart("ann"); len(c.Items) != 1 || c.Items[0].Quantity != 5 {
		t.Errorf("cart: %+v", c)
	}
	if a := s.mustCheckOut("ann", "", ""); a.code != http.StatusOK {
		t.Errorf("check out: %d %s", a.code, a.raw)
	}
	s.agrees()
}

// B1, K5: the same key and body a hundred times at once is one order and one answer; another body
// is refused.
func TestTheSameKeyIsTheSameOrder(t *testing.T) {
	t.Parallel()
	s := newShop(t, options{replicas: map[string]int{"checkoutmanager": 2}})
	s.product("tea", 100, 1000)
	s.fill("ann", "tea", 1)
	answers := make([]answer, 100)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() { answers[i], _ = s.checkOut("ann", "", "the key") })
	}
	all.Wait()
	for i, a := range answers {
		if a.code != http.StatusOK || a.raw != answers[0].raw {
			t.Errorf("answer %d: %d %s, want %s", i, a.code, a.raw, answers[0].raw)
		}
	}
	if again := s.mustCheckOut("ann", "", "the key"); again.raw != answers[0].raw || again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("asked again: %s, replayed %q", again.raw, again.header.Get("Idempotent-Replayed"))
	}
	if other := s.mustCheckOut("ann", "tok_ok", "the key"); other.code != http.StatusUnprocessableEntity {
		t.Errorf("another body: %d %s", other.code, other.raw)
	}
	if n := s.charges(answers[0].Order); n != 1 {
		t.Errorf("%d charges, want 1", n)
	}
	if got := s.stock("tea").OnHand; got != 999 {
		t.Errorf("%d on hand, want 999", got)
	}
	s.agrees()
}

// I5, I6, I11, K5: a hundred shoppers, ten units, two of each worker and service.
func TestAHundredShoppersTenUnits(t *testing.T) {
	t.Parallel()
	s := newShop(t, options{replicas: map[string]int{"cartmanager": 2, "checkoutmanager": 2, "inventory": 2}})
	s.product("last", 100, 10)
	const shoppers = 100
	var all sync.WaitGroup
	for i := range shoppers {
		all.Go(func() { s.add(fmt.Sprint("c", i), "last", 1) })
	}
	all.Wait()
	var sold, refused atomic.Int64
	for i := range shoppers {
		all.Go(func() {
			a, err := s.checkOut(fmt.Sprint("c", i), "", "")
			if err != nil {
				t.Error(err)
				return
			}
			if a.code == http.StatusAccepted { // a slow machine: ask what became of it
				if s.ends(a.Order).Status == "PAID" {
					a.code = http.StatusOK
				} else {
					a.code, a.Error = http.StatusConflict, s.order(a.Order).Reason
				}
			}
			switch {
			case a.code == http.StatusOK:
				sold.Add(1)
			case a.code == http.StatusConflict && strings.Contains(a.Error, "last"):
				refused.Add(1)
			default:
				t.Errorf("check out: %d %s", a.code, a.raw)
			}
		})
	}
	all.Wait()
	if sold.Load() != 10 || refused.Load() != shoppers-10 {
		t.Errorf("%d sold and %d refused, want 10 and %d", sold.Load(), refused.Load(), shoppers-10)
	}
	if got, want := s.stock("last"), (stock{}); got != want {
		t.Errorf("stock: got %+v, want %+v", got, want)
	}
	s.agrees()
}

// P2, K8: a provider that charges and never answers ends with exactly one charge.
func TestASilentProviderChargesOnce(t *testing.T) {
	t.Parallel()
	s := newShop(t, options{})
	s.product("tea", 100, 5)
	s.fill("ann", "tea", 1)
	a := s.mustCheckOut("ann", "tok_silent", "k")
	if a.code != http.StatusOK && a.code != http.StatusAccepted {
		t.Fatalf("check out: %d %s", a.code, a.raw)
	}
	if o := s.ends(a.Order); o.Status != "PAID" {
		t.Errorf("order: %+v", o)
	}
	if n := s.charges(a.Order); n != 1 {
		t.Errorf("%d charges, want 1", n)
	}
	s.agrees()
}

// C10: a payment that is held up holds up nobody else.
func TestASlowPaymentHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	s := newShop(t, options{env: map[string]string{"PAYMENTS_TEST_SLOW": "20s", "CHECKOUTMANAGER_PREFETCH": "8"}})
	s.product("tea", 100, 1000)
	for i := range 20 {
		s.fill(fmt.Sprint("slow", i), "tea", 1)
	}
	var slow sync.WaitGroup
	defer slow.Wait()
	for i := range 20 { // more than the worker takes in hand
		slow.Go(func() {
			if a, err := s.checkOut(fmt.Sprint("slow", i), "tok_slow", ""); err != nil || a.code != http.StatusAccepted {
				t.Errorf("slow check out: %d %s %v", a.code, a.raw, err)
			}
		})
	}
	slow.Wait()
	began := time.Now()
	s.fill("fast", "tea", 1)
	if a := s.mustCheckOut("fast", "", ""); a.code != http.StatusOK {
		t.Errorf("fast check out: %d %s", a.code, a.raw)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("an add and a check out took %s while payments are slow", took)
	}
}

// K6: without workers the gateway answers 202 with the order's ID, and the job is done once when
// they are back.
func TestWithoutWorkersJobsWait(t *testing.T) {
	t.Parallel()
	s := newShop(t, options{env: map[string]string{"GATEWAY_ANSWER_TIMEOUT": "500ms"}, replicas: map[string]int{"checkoutmanager": 0}})
	s.product("tea", 100, 5)
	testenv.Eventually(t, readyLimit, "tea is in the cart", func() bool { return s.add("ann", "tea", 1).code == http.StatusOK })
	quantity := s.cart("ann").Items[0].Quantity
	a := s.mustCheckOut("ann", "", "k")
	if a.code != http.StatusAccepted || a.Status != "Accepted" || a.header.Get("Location") != "/v1/orders/"+a.Order {
		t.Fatalf("check out: %d %s, Location %q", a.code, a.raw, a.header.Get("Location"))
	}
	s.start("checkoutmanager", 0)
	if o := s.ends(a.Order); o.Status != "PAID" || o.Items[0].Quantity != quantity {
		t.Errorf("order: %+v", o)
	}
	if again := s.mustCheckOut("ann", "", "k"); again.Order != a.Order || again.code != http.StatusOK {
		t.Errorf("asked again: %d %s", again.code, again.raw)
	}
	s.agrees()
}

// K9: what is added while a checkout runs is still in the cart afterwards.
func TestWhatIsAddedDuringACheckoutStays(t *testing.T) {
	t.Parallel()
	s := newShop(t, options{})
	s.product("tea", 100, 5)
	s.product("pot", 100, 5)
	s.fill("ann", "tea", 1)
	a := s.mustCheckOut("ann", "tok_slow", "")
	testenv.Eventually(t, readyLimit, "the checkout has the cart", func() bool { return len(s.cart("ann").Items) == 0 })
	s.fill("ann", "pot", 2)
	if o := s.ends(a.Order); o.Status != "PAID" || len(o.Items) != 1 {
		t.Errorf("order: %+v", o)
	}
	if c := s.cart("ann"); len(c.Items) != 1 || c.Items[0].ProductID != "pot" || c.Items[0].Quantity != 2 {
		t.Errorf("cart: %+v", c)
	}
	s.agrees()
}

// O4: a client's orders, newest first, in pages.
func TestOrdersAreListedNewestFirst(t *testing.T) {
	t.Parallel()
	s := newShop(t, options{})
	s.product("tea", 100, 100)
	var made []string
	for range 5 {
		s.fill("ann", "tea", 1)
		made = append([]string{s.mustCheckOut("ann", "", ids.New()).Order}, made...)
	}
	s.fill("bob", "tea", 1)
	s.mustCheckOut("bob", "", "")
	var listed []string
	for cursor := ""; ; {
		page := read[struct {
			Orders     []order
			NextCursor string
		}](s, "/v1/orders?clientID=ann&limit=2&cursor="+cursor)
		for _, o := range page.Orders {
			listed = append(listed, o.OrderID)
		}
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	if fmt.Sprint(listed) != fmt.Sprint(made) {
		t.Errorf("listed %v, want %v", listed, made)
	}
}
