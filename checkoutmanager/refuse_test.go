package checkoutmanager

import (
	"fmt"
	"sync"
	"testing"

	"cartwright/internal/fault"
	"cartwright/internal/ids"
	"cartwright/internal/outbox"
	"cartwright/jobs"
	"cartwright/proto/checkoutpb"
	"cartwright/proto/jobspb"
)

// refuseRequest is about a checkout of ann's.
func refuseRequest(t *testing.T, id string) *checkoutpb.RefuseRequest {
	t.Helper()
	body, err := jobs.Encode(&jobspb.StartCheckout{ClientId: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	return &checkoutpb.RefuseRequest{OrderId: id, Job: body, ProductId: "tea"}
}

// startOf is what the job of such a checkout asks for.
func startOf(t *testing.T) request {
	t.Helper()
	asked, err := read(jobs.StartCheckout, refuseRequest(t, "any").GetJob())
	if err != nil {
		t.Fatal(err)
	}
	return asked
}

func (s *server) mustRefuse(t *testing.T, requests ...*checkoutpb.RefuseRequest) []*checkoutpb.RefuseResult {
	t.Helper()
	resp, err := s.RefuseBatch(t.Context(), &checkoutpb.RefuseBatchRequest{Requests: requests})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetResults()
}

// B7, K8: an order that was refused before it began is cancelled, told of once, left alone by rescue, and
// what a job that comes later finds.
func TestARefusedOrderHasEndedBeforeItBegan(t *testing.T) {
	t.Parallel()
	db, books := replicas(t, 1)
	s := &server{db: db, orders: books[0]}
	if r := s.mustRefuse(t, refuseRequest(t, "o"))[0]; !r.GetRefused() || r.GetFault() != nil {
		t.Fatalf("refused: %v", r)
	}
	o, err := s.GetOrder(t.Context(), &checkoutpb.GetOrderRequest{OrderId: "o"})
	if err != nil || o.GetStatus() != checkoutpb.Status_STATUS_CANCELLED || o.GetReasonCode() != "out_of_stock" || o.GetReason() != "tea is sold out" || o.GetClientId() != "ann" {
		t.Errorf("order %v, %v", o, err)
	}
	if r := s.mustRefuse(t, refuseRequest(t, "o"))[0]; r.GetRefused() || r.GetFault() != nil {
		t.Errorf("refused again: %v", r)
	}
	var due int
	if err := db.QueryRow("SELECT COUNT(*) FROM orders WHERE due_at IS NOT NULL").Scan(&due); err != nil || due != 0 {
		t.Errorf("%d are due, %v", due, err)
	}
	if _, told, err := outbox.Waiting(t.Context(), db, 10); err != nil || len(told) != 1 || told[0].Type != "order.cancelled" || told[0].Subject != "o" {
		t.Errorf("told %v, %v", told, err)
	}
	c, fresh, err := books[0].open(t.Context(), "o", startOf(t))
	if err != nil || fresh || c.state != failed || c.reason.Code != "out_of_stock" || c.reason.Message != "tea is sold out" {
		t.Errorf("its job finds %+v, fresh %v, %v", c, fresh, err)
	}
}

// B7, K8: of a job and a refusal of one checkout, at any moment and in any process, the first one wins.
func TestACheckoutIsBegunOrRefused(t *testing.T) {
	t.Parallel()
	db, books := replicas(t, 2)
	servers := []*server{{db: db, orders: books[0]}, {db: db, orders: books[1]}}
	asked := startOf(t)
	for range 20 {
		id := ids.New()
		var mu sync.Mutex
		var begun, refused int
		var all sync.WaitGroup
		for i := range 10 {
			all.Go(func() {
				c, fresh, err := books[i%2].open(t.Context(), id, asked)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err != nil:
					t.Error(err)
				case fresh && c.state == placing:
					begun++
				}
			})
			all.Go(func() {
				r := servers[i%2].mustRefuse(t, refuseRequest(t, id))[0]
				mu.Lock()
				defer mu.Unlock()
				if r.GetRefused() {
					refused++
				}
			})
		}
		all.Wait()
		if begun+refused != 1 {
			t.Errorf("%d have begun it and %d have refused it, want 1", begun, refused)
		}
		if c := mustReopen(t, books[0], id, asked); (c.state == placing) != (begun == 1) {
			t.Errorf("it is %s, and %d have begun it", c.state, begun)
		}
	}
}

func mustReopen(t *testing.T, o *orders, id string, asked request) *checkout {
	t.Helper()
	c, _, err := o.open(t.Context(), id, asked)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// What is wrong with one request is that one's answer.
func TestWrongRefusalsAreNamed(t *testing.T) {
	t.Parallel()
	db, books := replicas(t, 1)
	s := &server{db: db, orders: books[0]}
	noID, noProduct, noJob := refuseRequest(t, "x' OR '1'='1"), refuseRequest(t, "o1"), refuseRequest(t, "o2")
	noProduct.ProductId, noJob.Job = "", []byte{1, 2, 3}
	results := s.mustRefuse(t, noID, noProduct, noJob, refuseRequest(t, "o3"))
	for i, field := range []string{"order_id", "product_id", "body"} {
		if f := results[i].GetFault(); f.GetField() != field || results[i].GetRefused() {
			t.Errorf("%s: %v", field, results[i])
		}
	}
	if !results[3].GetRefused() {
		t.Errorf("the right one: %v", results[3])
	}
	many := &checkoutpb.RefuseBatchRequest{}
	for i := range refusalsMax + 1 {
		many.Requests = append(many.Requests, refuseRequest(t, fmt.Sprint("many", i)))
	}
	for _, bad := range []*checkoutpb.RefuseBatchRequest{{}, many} {
		if _, err := s.RefuseBatch(t.Context(), bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%d requests: %v", len(bad.GetRequests()), err)
		}
	}
	many.Requests = many.Requests[1:]
	if n := len(s.mustRefuse(t, many.GetRequests()...)); n != refusalsMax {
		t.Errorf("%d answers", n)
	}
}
