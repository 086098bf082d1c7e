package tests

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"cartwright/internal/testenv"
	"cartwright/jobs"
	schema "cartwright/sql"
)

// breakPlacing lets no order of a client be placed: the database refuses the write. mend takes
// that back.
func (s *shop) breakPlacing(client string) (mend func()) {
	s.t.Helper()
	db := s.database(schema.Checkouts)
	// A trigger takes no parameters; the client is one of the test's own.
	_, err := db.ExecContext(s.t.Context(), fmt.Sprintf(`
		CREATE TRIGGER placing_is_broken BEFORE UPDATE ON orders FOR EACH ROW
		SET NEW.state = IF(NEW.state = 'placed' AND NEW.client_id = '%s', NULL, NEW.state)`, client))
	if err != nil {
		s.t.Fatal(err)
	}
	return func() {
		s.t.Helper()
		if _, err := db.ExecContext(s.t.Context(), "DROP TRIGGER placing_is_broken"); err != nil {
			s.t.Fatal(err)
		}
	}
}

// P15: an order that cannot be written for longer than patience lasts is cancelled, and its money
// given back. Its neighbours in the same batches are sold what they came for.
func TestAnOrderThatCannotBeSavedIsRefunded(t *testing.T) {
	t.Parallel()
	s := newShop(t, options{env: map[string]string{"CHECKOUTMANAGER_PATIENCE": "2s"}})
	s.product("tea", 100, 50)
	mend := s.breakPlacing("ann")
	neighbours := s.crowd("neighbour", 20, "")
	s.fillAll(append(neighbours[:20:20], &shopper{s: s, client: "ann"}), "tea")
	ann := make(chan answer, 1)
	go func() { a, _ := s.checkOut("ann", "", "k"); ann <- a }()
	checkOutAll(t, t.Context(), neighbours)
	a := <-ann
	if o := s.ends(a.Order); o.Status != "CANCELLED" || o.Reason == "" {
		t.Errorf("order: %+v", o)
	}
	if n := s.charges(a.Order); n != 0 {
		t.Errorf("%d charges are kept, want 0", n)
	}
	mend()
	for _, b := range neighbours {
		if b.code != http.StatusOK {
			t.Errorf("%s: %d", b.client, b.code)
		}
	}
	if got, want := s.stock("tea"), (stock{30, 0, 30}); got != want {
		t.Errorf("stock: got %+v, want %+v", got, want)
	}
	if c := s.cart("ann"); len(c.Items) != 1 {
		t.Errorf("cart: %+v", c)
	}
	if again := s.mustCheckOut("ann", "", "k"); again.Order != a.Order || again.code != http.StatusConflict {
		t.Errorf("asked again: %d %s", again.code, again.raw)
	}
	s.agrees()
}

// P15, E6: when the order can be written again within its patience, it is paid, once.
func TestAnOrderThatIsSavedLateIsPaidOnce(t *testing.T) {
	t.Parallel()
	s := newShop(t, options{})
	s.product("tea", 100, 5)
	s.fill("ann", "tea", 1)
	mend := s.breakPlacing("ann")
	a := s.mustCheckOut("ann", "", "k")
	if a.code != http.StatusAccepted {
		t.Errorf("check out: %d %s", a.code, a.raw)
	}
	mend()
	if o := s.ends(a.Order); o.Status != "PAID" {
		t.Errorf("order: %+v", o)
	}
	if n := s.charges(a.Order); n != 1 {
		t.Errorf("%d charges, want 1", n)
	}
	s.agrees()
}

// O12, P12: money that comes when the checkout has been given up goes back.
func TestLateMoneyGoesBack(t *testing.T) {
	t.Parallel()
	s := newShop(t, options{env: map[string]string{"CHECKOUTMANAGER_PATIENCE": "1s", "PAYMENTS_TEST_SLOW": "6s"}})
	s.product("tea", 100, 5)
	s.fill("ann", "tea", 1)
	a := s.mustCheckOut("ann", "tok_slow", "")
	if a.code != http.StatusAccepted && a.code != http.StatusConflict {
		t.Errorf("check out: %d %s", a.code, a.raw)
	}
	if o := s.ends(a.Order); o.Status != "CANCELLED" || o.Reason == "" {
		t.Errorf("order: %+v", o)
	}
	s.providerIsEven(a.Order)
	if got, want := s.stock("tea"), (stock{5, 0, 5}); got != want {
		t.Errorf("stock: got %+v, want %+v", got, want)
	}
	if c := s.cart("ann"); len(c.Items) != 1 {
		t.Errorf("cart: %+v", c)
	}
	s.agrees()
}

// providerIsEven waits until the provider's books know the payment, and holds them to have kept
// nothing of it.
func (s *shop) providerIsEven(order string) {
	s.t.Helper()
	checkout := s.checkoutOf(order)
	var outcome string
	var kept int64
	testenv.Eventually(s.t, readyLimit, "the provider has decided "+order, func() bool {
		return s.database(schema.Payments).QueryRow(`
			SELECT outcome, IF(outcome = 'charged', amount_minor - refunded_minor, 0)
			FROM   test_provider_charges WHERE idempotency_key = ?`, checkout).Scan(&outcome, &kept) == nil
	})
	if kept != 0 {
		s.t.Errorf("the provider keeps %d of %s (%s)", kept, order, outcome)
	}
}

// O12: fifty times, two workers walk one checkout whose money comes at the moment at which it is
// given up. Whoever wins, nobody is cancelled and charged, or paid for nothing.
func TestPlacedAndGivenUpHaveOneWinner(t *testing.T) {
	t.Parallel()
	const races = 50
	s := newShop(t, options{replicas: map[string]int{"checkoutmanager": 2}, env: map[string]string{
		"CHECKOUTMANAGER_PATIENCE": "1s", "PAYMENTS_TEST_SLOW": "1950ms", "GATEWAY_ANSWER_TIMEOUT": "500ms"}})
	s.product("tea", 100, races)
	all := s.crowd("c", races, "tok_slow")
	s.fillAll(all, "tea")
	var hands sync.WaitGroup
	for _, b := range all {
		for range 2 { // two jobs of one ID, which go to both workers
			hands.Go(func() {
				if a, err := s.checkOut(b.client, b.method, b.key); err != nil || a.code/100 != 2 && a.code != http.StatusConflict {
					t.Errorf("check out: %d %s %v", a.code, a.raw, err)
				}
			})
		}
	}
	hands.Wait()
	paid := 0
	for _, b := range all {
		id := jobs.ID(jobs.StartCheckout, b.client, b.key)
		o, charged := s.ends(id), 0
		if o.Status == "PAID" {
			charged, paid = 1, paid+1
		}
		if n := s.charges(id); n != charged {
			t.Errorf("order %s is %s and has %d charges", id, o.Status, n)
		}
	}
	t.Logf("%d paid, %d given up", paid, races-paid)
	if got, want := s.stock("tea"), (stock{int64(races - paid), 0, int64(races - paid)}); got != want {
		t.Errorf("stock: got %+v, want %+v", got, want)
	}
	s.agrees()
}
