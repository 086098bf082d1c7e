package gateway

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"cartwright/internal/fault"
	"cartwright/jobs"
	"cartwright/proto/cartpb"
	"cartwright/proto/cataloguepb"
	"cartwright/proto/checkoutpb"
	"cartwright/proto/inventorypb"
)

// services are what the gateway asks, with fixed answers. An ID that begins with "away" finds the
// service's database gone, "broken" a fault of the service, "nobody" nothing.
type services struct {
	mu       sync.Mutex
	adjusted []*inventorypb.AdjustRequest
	put      []*cataloguepb.Product
	gone     map[string]bool // products of which nothing is left
	done     map[string]bool // cart jobs that were done, and checkouts that were begun
	refused  []*checkoutpb.RefuseRequest
}

// set notes a product or a job in one of the maps.
func (s *services) set(which *map[string]bool, id string, is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if *which == nil {
		*which = map[string]bool{}
	}
	(*which)[id] = is
}

func (s *services) has(which *map[string]bool, id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return (*which)[id]
}

const testMomentUs = 1_760_000_000_123_456

// trouble is the error that goes with an ID.
func trouble(id string) error {
	switch {
	case strings.HasPrefix(id, "away"):
		return fault.Away("the database", context.DeadlineExceeded)
	case strings.HasPrefix(id, "broken"):
		return errors.New("secret words of an internal error")
	case strings.HasPrefix(id, "nobody"):
		return fault.New(fault.NotFound, "not_found", "there is no %s", id)
	}
	return nil
}

type fakeCarts struct {
	cartpb.UnimplementedCartsServer
	*services
}

// GetCart gives everybody two teas, an unknown thing, and three cups; "empty" has no cart.
func (fakeCarts) GetCart(_ context.Context, req *cartpb.GetCartRequest) (*cartpb.GetCartResponse, error) {
	if err := trouble(req.GetClientId()); err != nil {
		return nil, err
	}
	if req.GetClientId() == "empty" {
		return &cartpb.GetCartResponse{}, nil
	}
	return &cartpb.GetCartResponse{UpdatedAtUs: testMomentUs, Lines: []*cartpb.CartLine{
		{ProductId: "tea", Quantity: 2}, {ProductId: "nobody-knows", Quantity: 1}, {ProductId: "cup", Quantity: 3},
	}}, nil
}

// GetCarts gives each what GetCart would.
func (f fakeCarts) GetCarts(ctx context.Context, req *cartpb.GetCartsRequest) (*cartpb.GetCartsResponse, error) {
	resp := &cartpb.GetCartsResponse{}
	for _, clientID := range req.GetClientIds() {
		cart, err := f.GetCart(ctx, &cartpb.GetCartRequest{ClientId: clientID})
		if err != nil {
			return nil, err
		}
		resp.Carts = append(resp.Carts, cart)
	}
	return resp, nil
}

func (f fakeCarts) GetJob(_ context.Context, req *cartpb.GetJobRequest) (*cartpb.GetJobResponse, error) {
	switch id := req.GetJobId(); {
	case id == "job-done", f.has(&f.done, id):
		return &cartpb.GetJobResponse{}, nil
	case id == "job-refused":
		return &cartpb.GetJobResponse{Fault: fault.ToProto(fault.New(fault.Refused, "out_of_stock", "only 3 of tea left"))}, nil
	case trouble(id) != nil:
		return nil, trouble(id)
	}
	return nil, fault.New(fault.NotFound, "not_found", "there is no such job")
}

type fakeOrders struct {
	checkoutpb.UnimplementedOrdersServer
	*services
}

func testOrder(id, clientID string) *checkoutpb.Order {
	return &checkoutpb.Order{
		OrderId: id, ClientId: clientID, Status: checkoutpb.Status_STATUS_PAID, TotalMinor: 700, Currency: "EUR",
		CreatedAtUs: testMomentUs, UpdatedAtUs: testMomentUs + time.Second.Microseconds(),
		Lines: []*checkoutpb.OrderLine{{ProductId: "tea", Name: "Green tea", Quantity: 2, UnitPriceMinor: 350}},
	}
}

func (fakeOrders) GetOrder(_ context.Context, req *checkoutpb.GetOrderRequest) (*checkoutpb.Order, error) {
	switch id := req.GetOrderId(); {
	case id == "order-paid":
		return testOrder(id, "jo"), nil
	case id == "order-cancelled":
		return &checkoutpb.Order{OrderId: id, ClientId: "jo", Status: checkoutpb.Status_STATUS_CANCELLED, ReasonCode: "card_declined", Reason: "the card was declined", CreatedAtUs: testMomentUs, UpdatedAtUs: testMomentUs}, nil
	case trouble(id) != nil:
		return nil, trouble(id)
	}
	return nil, fault.New(fault.NotFound, "not_found", "there is no such order")
}

func (fakeOrders) ListOrders(_ context.Context, req *checkoutpb.ListOrdersRequest) (*checkoutpb.ListOrdersResponse, error) {
	if err := trouble(req.GetClientId()); err != nil {
		return nil, err
	}
	if req.GetCursor() == "second" {
		return &checkoutpb.ListOrdersResponse{}, nil
	}
	return &checkoutpb.ListOrdersResponse{Orders: []*checkoutpb.Order{testOrder("order-paid", req.GetClientId())}, NextCursor: "second"}, nil
}

// RefuseBatch refuses each checkout that was not begun.
func (f fakeOrders) RefuseBatch(_ context.Context, req *checkoutpb.RefuseBatchRequest) (*checkoutpb.RefuseBatchResponse, error) {
	resp := &checkoutpb.RefuseBatchResponse{}
	for _, r := range req.GetRequests() {
		job, err := jobs.Decode(jobs.StartCheckout, r.GetJob())
		if err == nil {
			err = trouble(strings.TrimPrefix(job.GetClientId(), "orders-"))
		}
		if err != nil {
			return nil, err
		}
		resp.Results = append(resp.Results, &checkoutpb.RefuseResult{Refused: !f.has(&f.done, r.GetOrderId())})
		f.set(&f.done, r.GetOrderId(), true)
		f.mu.Lock()
		f.refused = append(f.refused, r)
		f.mu.Unlock()
	}
	return resp, nil
}

type fakeCatalogue struct {
	cataloguepb.UnimplementedCatalogueServer
	*services
}

func testProduct(id string) *cataloguepb.Product {
	names := map[string]string{"tea": "Green tea", "cup": "Cup", "song": "Song", "new": "Never stocked"}
	return &cataloguepb.Product{ProductId: id, Name: names[id], PriceMinor: int64(100 * len(id)), Currency: "EUR", Active: true}
}

func (fakeCatalogue) GetProducts(_ context.Context, req *cataloguepb.GetProductsRequest) (*cataloguepb.GetProductsResponse, error) {
	resp := &cataloguepb.GetProductsResponse{}
	for _, id := range req.GetProductIds() {
		err := trouble(id)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return nil, err
		}
		if err == nil {
			resp.Products = append(resp.Products, testProduct(id))
		}
	}
	return resp, nil
}

func (fakeCatalogue) ListProducts(_ context.Context, req *cataloguepb.ListProductsRequest) (*cataloguepb.ListProductsResponse, error) {
	if err := trouble(req.GetCursor()); err != nil {
		return nil, err
	}
	return &cataloguepb.ListProductsResponse{Products: []*cataloguepb.Product{testProduct("cup"), testProduct("song")}, NextCursor: "song"}, nil
}

func (f fakeCatalogue) PutProduct(_ context.Context, req *cataloguepb.PutProductRequest) (*cataloguepb.PutProductResponse, error) {
	if err := trouble(req.GetProduct().GetProductId()); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.put = append(f.put, req.GetProduct())
	return &cataloguepb.PutProductResponse{Product: req.GetProduct()}, nil
}

type fakeInventory struct {
	inventorypb.UnimplementedInventoryServer
	*services
}

func (f fakeInventory) GetAvailability(_ context.Context, req *inventorypb.GetAvailabilityRequest) (*inventorypb.GetAvailabilityResponse, error) {
	resp := &inventorypb.GetAvailabilityResponse{}
	for _, id := range req.GetProductIds() {
		switch {
		case id == "song":
			resp.Stock = append(resp.Stock, &inventorypb.Stock{ProductId: id, Kind: inventorypb.Kind_KIND_INFINITE})
		case id == "new":
		case f.has(&f.gone, id):
			resp.Stock = append(resp.Stock, &inventorypb.Stock{ProductId: id, Kind: inventorypb.Kind_KIND_FINITE, OnHand: 2, Reserved: 2})
		default:
			resp.Stock = append(resp.Stock, &inventorypb.Stock{ProductId: id, Kind: inventorypb.Kind_KIND_FINITE, OnHand: 10, Reserved: 2, Available: 8})
		}
	}
	return resp, nil
}

// Adjust refuses to take more than the ten units that everything has, and knows the first delta
// of an ID.
func (f fakeInventory) Adjust(_ context.Context, req *inventorypb.AdjustRequest) (*inventorypb.AdjustResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, earlier := range f.adjusted {
		if earlier.GetAdjustmentId() == req.GetAdjustmentId() && earlier.GetDelta() != req.GetDelta() {
			return nil, fault.New(fault.Mismatch, "mismatch", "this key came with another request")
		}
	}
	if req.GetDelta() < -8 {
		return nil, fault.New(fault.Refused, "reserved", "2 of %s are reserved", req.GetProductId())
	}
	f.adjusted = append(f.adjusted, req)
	return &inventorypb.AdjustResponse{Stock: &inventorypb.Stock{ProductId: req.GetProductId(), Kind: inventorypb.Kind_KIND_FINITE, OnHand: 10 + req.GetDelta(), Reserved: 2, Available: 8 + req.GetDelta()}}, nil
}
