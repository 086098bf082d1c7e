package gateway

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"cartwright/internal/fault"
	"cartwright/internal/messaging"
	"cartwright/internal/testenv"
	"cartwright/jobs"
	"cartwright/proto/jobspb"
)

// K5
func TestFiftyParallelRequestsEachGetTheirOwnAnswer(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil)
	const clients = 50
	for i := range clients {
		client := fmt.Sprintf("client-%d", i)
		s.worker.says(client, fails(fault.New(fault.Refused, "out_of_stock", "no tea left for %s", client)))
	}
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			client := fmt.Sprintf("client-%d", i)
			path, body := addToCartPath, addBody(client, 1)
			if i%2 == 0 {
				path, body = checkOutCartPath, checkoutBody(client)
			}
			r, err := s.tryAsk(t.Context(), "POST", path, body)
			if err != nil || r.status != http.StatusConflict || r.text("error") != "no tea left for "+client {
				t.Errorf("%s got %d %s, %v", client, r.status, r.body, err)
			}
		})
	}
	all.Wait()
	if n := s.metric(t, "answers_awaited"); n != "0" {
		t.Errorf("%s waits are left behind", n)
	}
}

// Fiber reuses the memory of a request; what we keep of one must not turn into another's.
func TestClientsOnTheSameConnectionsNeverMix(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil)
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for j := range 25 {
				client := fmt.Sprintf("%s-%d-%d", strings.Repeat(string(rune('a'+i)), 1+(i*7+j)%40), i, j)
				key := "Idempotency-Key: key of " + client
				r, err := s.tryAsk(t.Context(), "PUT", "/v1/carts/"+client+"/items/tea", `{"quantity":3}`, key)
				want := jobs.ID(jobs.SetCartLine, client, "key of "+client)
				if err != nil || r.status != http.StatusOK || r.text("jobID") != want {
					t.Errorf("%s got %d %s, %v; want job %s", client, r.status, r.body, err, want)
				}
			}
		})
	}
	all.Wait()
	for _, m := range s.worker.seen() {
		job, err := jobs.Decode(m.Kind, m.Body)
		if err != nil {
			t.Fatal(err)
		}
		if want := jobs.ID(m.Kind, job.GetClientId(), "key of "+job.GetClientId()); m.ID != want {
			t.Errorf("the job of %s travelled as %s, want %s", job.GetClientId(), m.ID, want)
		}
	}
}

// K6
func TestNoWorkerAnswersAcceptedWithinTheLimit(t *testing.T) {
	t.Parallel()
	s := newShop(t, func(s *Settings) { s.AnswerTimeout = 300 * time.Millisecond })
	s.startGateway(t)
	s.waitUntilReady(t)

	began := time.Now()
	checkout := s.ask(t, "POST", checkOutCartPath, checkoutBody("jo"))
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the answer took %s", took)
	}
	orderID := checkout.text("orderID")
	if checkout.status != http.StatusAccepted || checkout.text("status") != accepted || checkout.header.Get("Location") != "/v1/orders/"+orderID {
		t.Fatalf("got %d %s, Location %q", checkout.status, checkout.body, checkout.header.Get("Location"))
	}
	order := s.ask(t, "GET", "/v1/orders/"+orderID, "")
	if order.status != http.StatusOK || order.text("status") != "PENDING" || order.text("clientID") != "jo" {
		t.Errorf("the accepted order reads %d %s", order.status, order.body)
	}

	add := s.ask(t, "POST", addToCartPath, addBody("jo", 1))
	job := s.ask(t, "GET", add.header.Get("Location"), "")
	if add.status != http.StatusAccepted || job.status != http.StatusOK || job.text("status") != accepted {
		t.Errorf("add: %d %s, its job: %d %s", add.status, add.body, job.status, job.body)
	}

	s.startWorker(t) // now both are done, once, and their answers reach nobody
	s.waitForDropped(t, "nobody waits", "2")
	if seen := s.worker.seen(); len(seen) != 2 {
		t.Errorf("the worker saw %d jobs, want 2", len(seen))
	}
	if r := s.ask(t, "POST", addToCartPath, addBody("jo", 1)); r.status != http.StatusOK {
		t.Errorf("after late answers: %d %s", r.status, r.body)
	}
}

// K7
func TestAForeignAnswerIsDroppedAndTheNextCheckoutWorks(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil)
	s.worker.says("forger", func(ctx context.Context, to *jobs.Answers, m messaging.Message) error {
		foreign := m
		foreign.Correlation = strings.Repeat("ab", 16)
		if err := to.Done(ctx, foreign, false); err != nil {
			return err
		}
		other := m
		other.ID = "some-other-job"
		if err := to.Done(ctx, other, false); err != nil {
			return err
		}
		return to.Done(ctx, m, false)
	})
	if r := s.ask(t, "POST", checkOutCartPath, checkoutBody("forger")); r.status != http.StatusOK || r.text("status") != success {
		t.Errorf("got %d %s", r.status, r.body)
	}
	s.waitForDropped(t, "nobody waits", "1")
	s.waitForDropped(t, "other job", "1")
	if r := s.ask(t, "POST", checkOutCartPath, checkoutBody("jo")); r.status != http.StatusOK {
		t.Errorf("the next checkout: %d %s", r.status, r.body)
	}
}

func (s *shop) waitForDropped(t *testing.T, reason, count string) {
	t.Helper()
	line := fmt.Sprintf("answers_dropped_total{reason=%q}", reason)
	testenv.Eventually(t, startLimit, line+" is "+count, func() bool { return s.metric(t, line) == count })
}

// B1
func TestTheSameKeyIsTheSameJobAndAReplaySaysSo(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil)
	key := "Idempotency-Key: one order, please"
	first := s.ask(t, "POST", checkOutCartPath, checkoutBody("jo"), key)
	s.worker.says("jo", again)
	second := s.ask(t, "POST", checkOutCartPath, checkoutBody("jo"), key)
	if first.body != second.body || first.text("orderID") != jobs.ID(jobs.StartCheckout, "jo", "one order, please") {
		t.Errorf("the answers differ: %s and %s", first.body, second.body)
	}
	if first.header.Get(replayedHeader) != "" || second.header.Get(replayedHeader) != "true" {
		t.Errorf("%s is %q, then %q", replayedHeader, first.header.Get(replayedHeader), second.header.Get(replayedHeader))
	}
	if other := s.ask(t, "POST", checkOutCartPath, checkoutBody("mo"), key); other.text("orderID") == first.text("orderID") {
		t.Error("another client's key is the same order")
	}
	s.worker.says("jo", fails(fault.New(fault.Mismatch, "mismatch", "this key came with another request")))
	third := s.ask(t, "POST", checkOutCartPath, `{"clientID":"jo","email":"jo@example.com"}`, key)
	if third.status != http.StatusUnprocessableEntity || third.text("status") != failed {
		t.Errorf("another body under the same key: %d %s", third.status, third.body)
	}
}

func TestRespondAsyncIsAnsweredAfterTheConfirm(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil)
	r := s.ask(t, "POST", addToCartPath, addBody("jo", 2), "Prefer: wait=9, Respond-Async")
	if r.status != http.StatusAccepted || r.header.Get("Location") != "/v1/jobs/"+r.text("jobID") || r.header.Get(appliedHeader) != respondAsync {
		t.Errorf("got %d %s with %v", r.status, r.body, r.header)
	}
	testenv.Eventually(t, startLimit, "the job reaches the worker", func() bool { return len(s.worker.seen()) > 0 })
	if m := s.worker.seen()[0]; m.ReplyTo != "" || m.ID != r.text("jobID") {
		t.Errorf("the job travelled as %+v", m)
	}
}

func TestAWorkerThatMustWaitAnswersAcceptedAtOnce(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil)
	s.worker.says("jo", pending)
	began := time.Now()
	r := s.ask(t, "POST", addToCartPath, addBody("jo", 2))
	if took := time.Since(began); r.status != http.StatusAccepted || took > 3*time.Second {
		t.Errorf("got %d %s after %s", r.status, r.body, took)
	}
}

// P2 by way of K2: what a refusal is in HTTP.
func TestEveryKindOfNoHasItsCode(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil)
	for client, c := range map[string]struct {
		why    error
		status int
		words  string
	}{
		"declined":  {fault.New(fault.Refused, "card_declined", "the card was declined"), 402, "the card was declined"},
		"method":    {fault.New(fault.Refused, "unknown_payment_method", "there is no such card"), 402, "there is no such card"},
		"pending":   {fault.New(fault.Refused, "payment_pending", "not paid yet"), 402, "not paid yet"},
		"unknown":   {fault.New(fault.Refused, "unknown_product", "there is no product x"), 404, "there is no product x"},
		"missing":   {fault.New(fault.NotFound, "unknown_product", "there is no product x"), 404, "there is no product x"},
		"sold-out":  {fault.New(fault.Refused, "out_of_stock", "only 3 of tea left"), 409, "only 3 of tea left"},
		"empty":     {fault.New(fault.Refused, "empty_cart", "the cart is empty"), 409, "the cart is empty"},
		"invalid":   {fault.InvalidField("email", "is none"), 400, "email: is none"},
		"mismatch":  {fault.New(fault.Mismatch, "mismatch", "another request"), 422, "another request"},
		"away":      {fault.Away("inventory", nil), 503, "inventory is not available now"},
		"our-fault": {fmt.Errorf("secret words"), 500, "internal error"},
	} {
		s.worker.says(client, fails(c.why))
		r := s.ask(t, "POST", checkOutCartPath, checkoutBody(client))
		if r.status != c.status || r.text("status") != failed || r.text("error") != c.words || r.text("orderID") == "" {
			t.Errorf("%s: got %d %s, want %d %q", client, r.status, r.body, c.status, c.words)
		}
		if c.status == 503 && r.header.Get("Retry-After") == "" {
			t.Errorf("%s: there is no Retry-After", client)
		}
	}
}

func TestAnAnswerOfAnUnknownKindCountsAsNotYet(t *testing.T) {
	if o := read("job", &jobspb.Answer{Outcome: 99}); !o.accepted || o.fault != nil {
		t.Errorf("got %+v", o)
	}
	if o := read("job", &jobspb.Answer{Outcome: jobspb.Outcome_OUTCOME_FAILED}); !fault.Is(o.fault, fault.Internal) {
		t.Errorf("a failure without a reason is %v", o.fault)
	}
}
