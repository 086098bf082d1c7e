package cartmanager

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"cartwright/internal/groupcommit"
	"cartwright/internal/testenv"
	"cartwright/proto/cartpb"
	"cartwright/proto/cataloguepb"
	"cartwright/proto/inventorypb"
)

// X5: whatever is asked of the service, it says what is wrong with it.
func FuzzService(f *testing.F) {
	sizes := groupcommit.NewMetrics(prometheus.NewRegistry())
	neighbours := newShop(testenv.Calls{Desc: &cataloguepb.Catalogue_ServiceDesc}, testenv.Calls{Desc: &inventorypb.Inventory_ServiceDesc}, sizes)
	carts := newCarts(testenv.NoDatabase(f), neighbours, sizes)
	f.Cleanup(carts.wait)
	testenv.FuzzService(f, testenv.Calls{Desc: &cartpb.Carts_ServiceDesc, Service: &server{carts: carts}},
		&cartpb.GetCartRequest{ClientId: "ann"},
		&cartpb.GetCartsRequest{ClientIds: []string{"ann", "bob"}},
		&cartpb.GetJobRequest{JobId: "65bafcc0-4234-8f15-9209-6c4186a3af5f"},
		&cartpb.FreezeBatchRequest{Requests: []*cartpb.FreezeRequest{{CheckoutId: "c", ClientId: "ann"}, {}}},
		&cartpb.ThawBatchRequest{Requests: []*cartpb.ThawRequest{{CheckoutId: "c", ClientId: "ann", OrderId: "o"}, {CheckoutId: "c", ClientId: "ann"}}})
}
