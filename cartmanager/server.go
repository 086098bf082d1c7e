package cartmanager

import (
	"context"
	"fmt"

	"cartwright/internal/fault"
	"cartwright/internal/groupcommit"
	"cartwright/internal/ids"
	"cartwright/proto/cartpb"
)

// batchMax bounds a batch call.
const batchMax = 256

// server answers gRPC calls.
type server struct {
	cartpb.UnimplementedCartsServer
	carts *Carts
}

// GetCart shows a client's cart; an empty one for a client who has none.
func (s *server) GetCart(ctx context.Context, req *cartpb.GetCartRequest) (*cartpb.GetCartResponse, error) {
	if !ids.Valid(req.GetClientId()) {
		return nil, fault.InvalidField("client_id", ids.Shape)
	}
	v, err := s.carts.view(ctx, req.GetClientId())
	if err != nil {
		return nil, fmt.Errorf("cart of %s: %w", req.GetClientId(), err)
	}
	return v.toProto(), nil
}

// GetCarts shows the carts of several clients.
func (s *server) GetCarts(ctx context.Context, req *cartpb.GetCartsRequest) (*cartpb.GetCartsResponse, error) {
	clients := req.GetClientIds()
	if len(clients) == 0 || len(clients) > batchMax {
		return nil, fault.InvalidField("client_ids", "must have 1 to %d items", batchMax)
	}
	for i, client := range clients {
		if !ids.Valid(client) {
			return nil, fault.InvalidField(fmt.Sprintf("client_ids[%d]", i), ids.Shape)
		}
	}
	resp := &cartpb.GetCartsResponse{}
	for i, v := range s.carts.views.DoAll(ctx, clients) {
		if v.Err != nil {
			return nil, fmt.Errorf("cart of %s: %w", clients[i], v.Err)
		}
		resp.Carts = append(resp.Carts, v.Value.toProto())
	}
	return resp, nil
}

func (v view) toProto() *cartpb.GetCartResponse {
	cart := &cartpb.GetCartResponse{}
	if !v.updated.IsZero() {
		cart.UpdatedAtUs = v.updated.UnixMicro()
	}
	for _, l := range v.lines {
		cart.Lines = append(cart.Lines, &cartpb.CartLine{ProductId: l.product, Quantity: l.quantity})
	}
	return cart
}

// GetJob tells what became of a cart job.
func (s *server) GetJob(ctx context.Context, req *cartpb.GetJobRequest) (*cartpb.GetJobResponse, error) {
	if !ids.Valid(req.GetJobId()) {
		return nil, fault.InvalidField("job_id", ids.Shape)
	}
	refused, found, err := s.carts.answerTo(ctx, req.GetJobId())
	switch {
	case err != nil:
		return nil, fmt.Errorf("job %s: %w", req.GetJobId(), err)
	case !found:
		return nil, fault.New(fault.NotFound, "unknown_job", "there is no job %s, or it is not done yet", req.GetJobId())
	}
	return &cartpb.GetJobResponse{Fault: fault.ToProto(refused)}, nil
}

// FreezeBatch moves the lines of carts into checkouts.
func (s *server) FreezeBatch(ctx context.Context, req *cartpb.FreezeBatchRequest) (*cartpb.FreezeBatchResponse, error) {
	name := func(r *cartpb.FreezeRequest) hold { return hold{checkout: r.GetCheckoutId(), client: r.GetClientId()} }
	results, err := each(ctx, req.GetRequests(), name, s.carts.freeze, func(r groupcommit.Result[outcome]) *cartpb.FreezeResult {
		return &cartpb.FreezeResult{Fault: fault.ToProto(r.Err), Lines: frozenToProto(r.Value.lines)}
	})
	return &cartpb.FreezeBatchResponse{Results: results}, err
}

// ThawBatch puts the lines back.
func (s *server) ThawBatch(ctx context.Context, req *cartpb.ThawBatchRequest) (*cartpb.BatchResponse, error) {
	name := func(r *cartpb.ThawRequest) hold {
		return hold{checkout: r.GetCheckoutId(), client: r.GetClientId(), order: r.GetOrderId()}
	}
	results, err := each(ctx, req.GetRequests(), name, s.carts.thaw, toResult)
	return &cartpb.BatchResponse{Results: results}, err
}

func toResult(r groupcommit.Result[outcome]) *cartpb.Result {
	return &cartpb.Result{Fault: fault.ToProto(r.Err)}
}

// each does the valid items of a batch together and answers for each apart.
func each[Req, Res any](ctx context.Context, items []Req, name func(Req) hold, do func(context.Context, []hold) []groupcommit.Result[outcome], answer func(groupcommit.Result[outcome]) Res) ([]Res, error) {
	if len(items) == 0 || len(items) > batchMax {
		return nil, fault.InvalidField("requests", "must have 1 to %d items", batchMax)
	}
	results := make([]Res, len(items))
	var holds []hold
	var of []int // whose hold each is
	for i, item := range items {
		h := name(item)
		if err := h.check(); err != nil {
			results[i] = answer(groupcommit.Result[outcome]{Err: err})
			continue
		}
		holds, of = append(holds, h), append(of, i)
	}
	for n, r := range do(ctx, holds) {
		results[of[n]] = answer(r)
	}
	return results, nil
}

func (h hold) check() error {
	switch {
	case !ids.Valid(h.checkout):
		return fault.InvalidField("checkout_id", ids.Shape)
	case !ids.Valid(h.client):
		return fault.InvalidField("client_id", ids.Shape)
	case h.order != "" && !ids.Valid(h.order):
		return fault.InvalidField("order_id", ids.Shape)
	}
	return nil
}

func frozenToProto(lines []frozenLine) (all []*cartpb.FrozenLine) {
	for _, l := range lines {
		all = append(all, &cartpb.FrozenLine{ProductId: l.Product, Name: l.Name, Quantity: l.Quantity, UnitPriceMinor: l.Price, Currency: l.Currency})
	}
	return all
}
