package inventory

import (
	"fmt"
	"strings"
	"testing"

	"cartwright/internal/fault"
	"cartwright/proto/inventorypb"
)

// What a request may not say is refused with the field's name, before anything is asked of the
// database; so no server is needed here.
func TestRequestsAreCheckedFieldByField(t *testing.T) {
	t.Parallel()
	lines := func(n int, quantity int64) []*inventorypb.Line {
		all := make([]*inventorypb.Line, n)
		for i := range all {
			all[i] = &inventorypb.Line{ProductId: fmt.Sprintf("p%d", i), Quantity: quantity}
		}
		return all
	}
	reserve := func(id string, lines []*inventorypb.Line) error {
		_, err := reserveOp(&inventorypb.ReserveRequest{ReservationId: id, Lines: lines})
		return err
	}
	adjust := func(id, product string, delta int64, kind inventorypb.Kind) error {
		_, err := adjustOp(&inventorypb.AdjustRequest{AdjustmentId: id, ProductId: product, Delta: delta, Kind: kind})
		return err
	}
	long := strings.Repeat("x", 64)
	for _, c := range []struct {
		field string // "" for a good request
		err   error
	}{
		{"", reserve(long, lines(linesMax, quantityMax))},
		{"", reserve("A-z_0.9:", lines(1, 1))},
		{"reservation_id", reserve("", lines(1, 1))},
		{"reservation_id", reserve(long+"x", lines(1, 1))},
		{"reservation_id", reserve("a b", lines(1, 1))},
		{"lines", reserve("r", nil)},
		{"lines", reserve("r", lines(linesMax+1, 1))},
		{"lines[0].quantity", reserve("r", lines(2, 0))},
		{"lines[0].quantity", reserve("r", lines(2, -1))},
		{"lines[1].quantity", reserve("r", append(lines(1, 1), lines(1, quantityMax+1)...))},
		{"lines[1].product_id", reserve("r", append(lines(1, 1), &inventorypb.Line{ProductId: "café", Quantity: 1}))},
		{"", adjust("a", "p", deltaMax, inventorypb.Kind_KIND_UNSPECIFIED)},
		{"", adjust("a", "p", -deltaMax, inventorypb.Kind_KIND_INFINITE)},
		{"adjustment_id", adjust("", "p", 1, inventorypb.Kind_KIND_FINITE)},
		{"product_id", adjust("a", "", 1, inventorypb.Kind_KIND_FINITE)},
		{"delta", adjust("a", "p", deltaMax+1, inventorypb.Kind_KIND_FINITE)},
		{"delta", adjust("a", "p", -deltaMax-1, inventorypb.Kind_KIND_FINITE)},
		{"kind", adjust("a", "p", 1, 9)},
	} {
		switch {
		case c.field == "":
			ok(t, c.err)
		default:
			if e := want(t, c.err, fault.Invalid, "invalid_field"); e.Field != c.field {
				t.Errorf("field %q, want %q", e.Field, c.field)
			}
		}
	}
}

func TestRequestsHaveABoundedLength(t *testing.T) {
	t.Parallel()
	s := &server{} // nothing gets past the checks
	ctx := t.Context()
	for _, n := range []int{0, batchMax + 1} {
		_, reserved := s.ReserveBatch(ctx, &inventorypb.ReserveBatchRequest{Requests: make([]*inventorypb.ReserveRequest, n)})
		_, committed := s.CommitBatch(ctx, &inventorypb.CommitBatchRequest{Requests: make([]*inventorypb.CommitRequest, n)})
		_, rolledBack := s.RollbackBatch(ctx, &inventorypb.RollbackBatchRequest{Requests: make([]*inventorypb.RollbackRequest, n)})
		for _, err := range []error{reserved, committed, rolledBack} {
			if e := want(t, err, fault.Invalid, "invalid_field"); e.Field != "requests" {
				t.Errorf("field %q", e.Field)
			}
		}
	}
	for _, n := range []int{0, productsMax + 1} {
		_, err := s.GetAvailability(ctx, &inventorypb.GetAvailabilityRequest{ProductIds: make([]string, n)})
		if e := want(t, err, fault.Invalid, "invalid_field"); e.Field != "product_ids" {
			t.Errorf("field %q", e.Field)
		}
	}
}
