package soldout

import (
	"context"

	"google.golang.org/grpc"

	"cartwright/proto/inventorypb"
)

// inventory has no tea, songs without end, and a cup.
type inventory struct{ inventorypb.InventoryClient }

func (inventory) GetAvailability(_ context.Context, req *inventorypb.GetAvailabilityRequest, _ ...grpc.CallOption) (*inventorypb.GetAvailabilityResponse, error) {
	return &inventorypb.GetAvailabilityResponse{Stock: []*inventorypb.Stock{
		{ProductId: "tea", Kind: inventorypb.Kind_KIND_FINITE, OnHand: 2, Reserved: 2},
		{ProductId: "song", Kind: inventorypb.Kind_KIND_INFINITE},
		{ProductId: "cup", Kind: inventorypb.Kind_KIND_FINITE, OnHand: 2, Reserved: 1, Available: 1},
	}}, nil
}
