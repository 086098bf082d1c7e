package gateway

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cartwright/internal/groupcommit"
	"cartwright/internal/messaging"
	"cartwright/jobs"
	"cartwright/soldout"
)

// openRush opens a shop in which tea is sold out, everybody has it in the cart, and a checkout was
// just refused for it.
func openRush(t *testing.T) (*shop, *teller) {
	t.Helper()
	s := openShop(t, nil)
	e := s.teller(t)
	e.runsOut(t, "tea")
	s.worker.says("first", fails(soldout.Refusal("tea")))
	if r := s.ask(t, "POST", "/checkOutCart", checkoutBody("first")); r.status != http.StatusConflict || s.jobsOf("first") != 1 {
		t.Fatalf("the first checkout: %d %s, %d jobs", r.status, r.body, s.jobsOf("first"))
	}
	return s, e
}

// B7: once a checkout was refused for want of stock, the next ones are without a job; the order is made
// all the same, and the key is its key.
func TestInARushCheckoutsAreRefusedAtTheDoor(t *testing.T) {
	t.Parallel()
	s, _ := openRush(t)
	r := s.ask(t, "POST", "/checkOutCart", checkoutBody("ann"), "Idempotency-Key: k")
	id := jobs.ID(jobs.StartCheckout, "ann", "k")
	if want := `{"status":"Failed","error":"tea is sold out","orderID":"` + id + `"}`; r.status != http.StatusConflict || r.body != want {
		t.Errorf("got %d %s, want %s", r.status, r.body, want)
	}
	if s.jobsOf("ann") != 0 || s.metric(t, `early_refusals_total{kind="checkout.start"}`) != "1" {
		t.Errorf("%d jobs, %s refused", s.jobsOf("ann"), s.metric(t, `early_refusals_total{kind="checkout.start"}`))
	}
	s.services.mu.Lock()
	refused := s.services.refused
	s.services.mu.Unlock()
	if len(refused) != 1 || refused[0].GetOrderId() != id || refused[0].GetProductId() != "tea" {
		t.Errorf("refused %v", refused)
	}
	s.worker.says("ann", func(ctx context.Context, to *jobs.Answers, m messaging.Message) error {
		return to.Failed(ctx, m, soldout.Refusal("tea"), true)
	})
	if r := s.ask(t, "POST", "/checkOutCart", checkoutBody("ann"), "Idempotency-Key: k"); r.status != http.StatusConflict || r.header.Get(replayedHeader) != "true" || s.jobsOf("ann") != 1 {
		t.Errorf("asked again: %d %s, %d jobs", r.status, r.body, s.jobsOf("ann"))
	}
}

// B7, K8: what has begun, what cannot be asked about, and what has nothing sold out in it goes the long
// way.
func TestARushRefusesNothingElse(t *testing.T) {
	t.Parallel()
	s, e := openRush(t)
	s.services.set(&s.services.done, jobs.ID(jobs.StartCheckout, "begun", "k"), true)
	for _, clientID := range []string{"begun", "empty", "broken-cart", "orders-away", "orders-broken"} {
		if r := s.ask(t, "POST", "/checkOutCart", checkoutBody(clientID), "Idempotency-Key: k"); r.status != http.StatusOK || s.jobsOf(clientID) != 1 {
			t.Errorf("%s: %d %s, %d jobs", clientID, r.status, r.body, s.jobsOf(clientID))
		}
	}
	e.isBack(t, "tea")
	if r := s.ask(t, "POST", "/checkOutCart", checkoutBody("ann")); r.status != http.StatusOK || s.jobsOf("ann") != 1 {
		t.Errorf("when it is back: %d %s", r.status, r.body)
	}
}

// B7: as long as nobody is refused for want of stock, no cart is looked into; and a rush ends.
func TestWithoutARushCartsAreNotLookedInto(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil)
	e := s.teller(t)
	e.runsOut(t, "tea")
	if r := s.ask(t, "POST", "/checkOutCart", checkoutBody("ann")); r.status != http.StatusOK || s.jobsOf("ann") != 1 {
		t.Errorf("before it: %d %s", r.status, r.body)
	}
	if n := s.metric(t, `early_refusals_total{kind="checkout.start"}`); n != "" {
		t.Errorf("%s were refused", n)
	}
	r := newRush(nil, nil, nil, groupcommit.NewMetrics(prometheus.NewRegistry()))
	if r.isOn() {
		t.Error("a rush is on from the beginning")
	}
	if r.note(); !r.isOn() {
		t.Error("a refusal begins no rush")
	}
	if r.last.Store(time.Now().Add(-rushFor).UnixNano()); r.isOn() {
		t.Error("a rush does not end")
	}
}
