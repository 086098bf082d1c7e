package inventory

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"cartwright/internal/fault"
	"cartwright/internal/ids"
	"cartwright/proto/inventorypb"
)

// I8
func TestInfiniteStockIsNotCounted(t *testing.T) {
	t.Parallel()
	s := setup(t, time.Hour)
	_, err := s.Adjust(t.Context(), &inventorypb.AdjustRequest{AdjustmentId: "a", ProductId: "song", Kind: inventorypb.Kind_KIND_INFINITE})
	ok(t, err)
	ok(t, s.reserve("r", "song", 1000))
	ok(t, s.commit("r"))
	resp, err := s.GetAvailability(t.Context(), &inventorypb.GetAvailabilityRequest{ProductIds: []string{"song"}})
	ok(t, err)
	got := resp.GetStock()[0]
	if got.GetKind() != inventorypb.Kind_KIND_INFINITE || got.GetOnHand() != 0 || got.GetReserved() != 0 || got.GetAvailable() != unlimited {
		t.Errorf("got %v", got)
	}
	ok(t, s.rollback("r"))
	s.wantBalanced()
}

// I8: what a line took from the shelf is what it gives back, whatever the product is by then.
func TestAChangeOfKindKeepsOldPromises(t *testing.T) {
	t.Parallel()
	s := stocked(t, 10)
	ok(t, s.reserve("counted", "tea", 4))
	become := func(id string, k inventorypb.Kind) {
		t.Helper()
		for range 2 { // also a change of kind alone is made once
			resp, err := s.Adjust(t.Context(), &inventorypb.AdjustRequest{AdjustmentId: id, ProductId: "tea", Kind: k})
			ok(t, err)
			if resp.GetStock().GetKind() != k {
				t.Errorf("kind %v, want %v", resp.GetStock().GetKind(), k)
			}
		}
	}
	become("to-infinite", inventorypb.Kind_KIND_INFINITE)
	ok(t, s.reserve("uncounted", "tea", 5000))
	become("to-finite", inventorypb.Kind_KIND_FINITE)
	s.wantStock("tea", 10, 4)
	ok(t, s.commit("uncounted"))
	ok(t, s.commit("counted"))
	s.wantStock("tea", 6, 0)
	s.wantBalanced()
}

// I10
func TestParallelAdjustmentsAddUp(t *testing.T) {
	t.Parallel()
	s := stocked(t, 0)
	other := on(t, s.db, time.Hour)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			replica := []shop{s, other}[i%2]
			if _, err := replica.Adjust(t.Context(), &inventorypb.AdjustRequest{AdjustmentId: ids.New(), ProductId: "tea", Delta: 5}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	s.wantStock("tea", 100, 0)
	s.wantBalanced()
}

// I10: two replicas make the same new product at the same moment.
func TestParallelFirstAdjustmentsAddUp(t *testing.T) {
	t.Parallel()
	a := setup(t, time.Hour)
	b := on(t, a.db, time.Hour)
	for i := range 20 {
		product := fmt.Sprintf("new-%d", i)
		var both sync.WaitGroup
		both.Go(func() { a.receive(product, 5) })
		both.Go(func() { b.receive(product, 5) })
		both.Wait()
		a.wantStock(product, 10, 0)
	}
	a.wantBalanced()
}

func TestAdjustTwiceIsAdjustOnce(t *testing.T) {
	t.Parallel()
	s := stocked(t, 10)
	req := &inventorypb.AdjustRequest{AdjustmentId: "delivery-7", ProductId: "tea", Delta: 5}
	for range 3 {
		resp, err := s.Adjust(t.Context(), req)
		ok(t, err)
		if resp.GetStock().GetOnHand() != 15 {
			t.Fatalf("%d on hand, want 15", resp.GetStock().GetOnHand())
		}
	}
	req.Delta = 6
	_, err := s.Adjust(t.Context(), req)
	want(t, err, fault.Mismatch, "adjustment_mismatch")
	s.wantBalanced()
}

func TestAdjustKnowsItsLimits(t *testing.T) {
	t.Parallel()
	s := stocked(t, 10)
	ok(t, s.reserve("r", "tea", 3))
	adjust := func(product string, delta int64) error {
		_, err := s.Adjust(t.Context(), &inventorypb.AdjustRequest{ProductId: product, Delta: delta})
		return err
	}
	e := want(t, adjust("tea", -8), fault.Refused, "below_reserved")
	if e.Details["product"] != "tea" || e.Details["on_hand"] != "10" || e.Details["reserved"] != "3" {
		t.Errorf("details %v", e.Details)
	}
	ok(t, adjust("tea", -7))
	s.wantStock("tea", 3, 3)
	want(t, adjust("unicorn", -1), fault.NotFound, "unknown_product")
	if _, err := s.db.ExecContext(t.Context(), "UPDATE stock SET on_hand = ?", int64(onHandMax)-5); err != nil {
		t.Fatal(err)
	}
	ok(t, adjust("tea", 5))
	if e := want(t, adjust("tea", 1), fault.Invalid, "invalid_field"); e.Field != "delta" {
		t.Errorf("field %q", e.Field)
	}
}
