package checkoutmanager

import (
	"context"

	"cartwright/internal/fault"
	"cartwright/internal/ids"
	"cartwright/jobs"
	"cartwright/proto/checkoutpb"
	"cartwright/soldout"
)

// refusalsMax bounds a batch call.
const refusalsMax = 256

// RefuseBatch makes orders that are cancelled from the beginning: the gateway knows that what is in
// their carts is sold out. Such an order is like one that a worker has refused, so its key is answered
// as before, and a job that comes later finds it ended.
func (s *server) RefuseBatch(ctx context.Context, req *checkoutpb.RefuseBatchRequest) (*checkoutpb.RefuseBatchResponse, error) {
	items := req.GetRequests()
	if len(items) == 0 || len(items) > refusalsMax {
		return nil, fault.InvalidField("requests", "must have 1 to %d items", refusalsMax)
	}
	results := make([]*checkoutpb.RefuseResult, len(items))
	var refusals []opening
	var of []int // whose each is
	for i, item := range items {
		refused, err := refusal(item)
		results[i] = &checkoutpb.RefuseResult{Fault: fault.ToProto(err)}
		if err == nil {
			refusals, of = append(refusals, refused), append(of, i)
		}
	}
	for n, r := range s.orders.refuse(ctx, refusals) {
		results[of[n]] = &checkoutpb.RefuseResult{Fault: fault.ToProto(r.Err), Refused: r.Value.fresh}
	}
	return &checkoutpb.RefuseBatchResponse{Results: results}, nil
}

func refusal(item *checkoutpb.RefuseRequest) (opening, error) {
	switch {
	case !ids.Valid(item.GetOrderId()):
		return opening{}, fault.InvalidField("order_id", ids.Shape)
	case !ids.Valid(item.GetProductId()):
		return opening{}, fault.InvalidField("product_id", ids.Shape)
	}
	asked, err := read(jobs.StartCheckout, item.GetJob())
	return opening{orderID: item.GetOrderId(), request: asked, refusal: soldout.Refusal(item.GetProductId())}, err
}
