package inventory

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"cartwright/internal/testenv"
	"cartwright/proto/inventorypb"
)

// X5: whatever is asked of the service, it says what is wrong with it.
func FuzzService(f *testing.F) {
	s := newServer(books{db: testenv.NoDatabase(f)}, newMetrics(prometheus.NewRegistry()))
	f.Cleanup(func() { s.writes.Wait(); s.reads.Wait() })
	lines := []*inventorypb.Line{{ProductId: "tea", Quantity: 2}, {ProductId: "cup", Quantity: quantityMax}, {ProductId: "tea", Quantity: 1}}
	reserve := &inventorypb.ReserveRequest{ReservationId: "65bafcc0-4234-8f15-9209-6c4186a3af5f", Lines: lines}
	testenv.FuzzService(f, testenv.Calls{Desc: &inventorypb.Inventory_ServiceDesc, Service: s}, reserve,
		&inventorypb.ReserveRequest{Lines: lines[:1]},
		&inventorypb.ReserveBatchRequest{Requests: []*inventorypb.ReserveRequest{reserve, {}}},
		&inventorypb.CommitRequest{ReservationId: "r"},
		&inventorypb.CommitBatchRequest{Requests: []*inventorypb.CommitRequest{{ReservationId: "r"}, {ReservationId: "x' OR '1'='1"}}},
		&inventorypb.RollbackRequest{ReservationId: "r"},
		&inventorypb.RollbackBatchRequest{Requests: []*inventorypb.RollbackRequest{{ReservationId: "r"}}},
		&inventorypb.AdjustRequest{AdjustmentId: "a", ProductId: "tea", Delta: -deltaMax, Kind: inventorypb.Kind_KIND_INFINITE},
		&inventorypb.GetAvailabilityRequest{ProductIds: []string{"tea", "cup"}, KnownOnly: true})
}
