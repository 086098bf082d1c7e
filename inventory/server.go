package inventory

import (
	"context"
	"fmt"

	"cartwright/internal/fault"
	"cartwright/internal/groupcommit"
	"cartwright/internal/ids"
	"cartwright/proto/inventorypb"
)

// writesWeightMax bounds the lines in a transaction, so that a batch of full carts holds its locks
// no longer than a batch of small ones.
const writesWeightMax = 2048

// readsWeightMax bounds the products in a query.
const readsWeightMax = 4000

// server answers the calls. Each is written as if it were alone; the groups make it run with
// hundreds of others.
type server struct {
	inventorypb.UnimplementedInventoryServer

	writes *groupcommit.Group[operation, shelf]
	reads  *groupcommit.Group[[]string, map[string]shelf]
}

func newServer(b books, m *metrics) *server {
	return &server{
		writes: groupcommit.New(m.counting(b.flush), groupcommit.Options[operation]{
			WeightMax: writesWeightMax,
			Weight:    func(o operation) int { return max(1, len(o.lines)) },
			Observe:   m.sizes.Of("writes"),
		}),
		reads: groupcommit.New(b.look, groupcommit.Options[[]string]{
			WeightMax: readsWeightMax,
			Weight:    func(products []string) int { return len(products) },
			Timeout:   readTime,
			Observe:   m.sizes.Of("reads"),
		}),
	}
}

// GetAvailability tells what can be bought now.
func (s *server) GetAvailability(ctx context.Context, req *inventorypb.GetAvailabilityRequest) (*inventorypb.GetAvailabilityResponse, error) {
	products := req.GetProductIds()
	if err := checkCount("product_ids", len(products), productsMax); err != nil {
		return nil, err
	}
	for i, p := range products {
		if err := checkID(fmt.Sprintf("product_ids[%d]", i), p); err != nil {
			return nil, err
		}
	}
	shelves, err := s.reads.Do(ctx, products)
	if err != nil {
		return nil, err
	}
	resp := &inventorypb.GetAvailabilityResponse{}
	for _, p := range products {
		shelf, known := shelves[p]
		switch {
		case known:
			resp.Stock = append(resp.Stock, stockOf(shelf))
		case !req.GetKnownOnly():
			return nil, unknownProduct(p)
		}
	}
	return resp, nil
}

// Reserve holds all lines or none. Without an ID the caller cannot ask again, so it gets one that
// lapses by itself if the answer is lost.
func (s *server) Reserve(ctx context.Context, req *inventorypb.ReserveRequest) (*inventorypb.ReserveResponse, error) {
	if req.GetReservationId() == "" {
		req.ReservationId = ids.New()
	}
	if _, err := do(ctx, s, reserveOp, req); err != nil {
		return nil, err
	}
	return &inventorypb.ReserveResponse{ReservationId: req.GetReservationId()}, nil
}

// Commit turns what is held into sold.
func (s *server) Commit(ctx context.Context, req *inventorypb.CommitRequest) (*inventorypb.CommitResponse, error) {
	if _, err := do(ctx, s, commitOp, req); err != nil {
		return nil, err
	}
	return &inventorypb.CommitResponse{}, nil
}

// Rollback puts everything back, and refuses a Reserve with the same ID from then on.
func (s *server) Rollback(ctx context.Context, req *inventorypb.RollbackRequest) (*inventorypb.RollbackResponse, error) {
	if _, err := do(ctx, s, rollbackOp, req); err != nil {
		return nil, err
	}
	return &inventorypb.RollbackResponse{}, nil
}

// Adjust changes what is on hand by a difference and answers with the stock after it.
func (s *server) Adjust(ctx context.Context, req *inventorypb.AdjustRequest) (*inventorypb.AdjustResponse, error) {
	if req.GetAdjustmentId() == "" {
		req.AdjustmentId = ids.New()
	}
	after, err := do(ctx, s, adjustOp, req)
	if err != nil {
		return nil, err
	}
	return &inventorypb.AdjustResponse{Stock: stockOf(after)}, nil
}

// ReserveBatch is Reserve for each request, with an answer for each.
func (s *server) ReserveBatch(ctx context.Context, req *inventorypb.ReserveBatchRequest) (*inventorypb.BatchResponse, error) {
	return doAll(ctx, s, reserveOp, req.GetRequests())
}

// CommitBatch is Commit for each request, with an answer for each.
func (s *server) CommitBatch(ctx context.Context, req *inventorypb.CommitBatchRequest) (*inventorypb.BatchResponse, error) {
	return doAll(ctx, s, commitOp, req.GetRequests())
}

// RollbackBatch is Rollback for each request, with an answer for each.
func (s *server) RollbackBatch(ctx context.Context, req *inventorypb.RollbackBatchRequest) (*inventorypb.BatchResponse, error) {
	return doAll(ctx, s, rollbackOp, req.GetRequests())
}

// do checks a request and adds it to the next transaction.
func do[Req any](ctx context.Context, s *server, check func(Req) (operation, error), req Req) (shelf, error) {
	o, err := check(req)
	if err != nil {
		return shelf{}, err
	}
	return s.writes.Do(ctx, o)
}

// doAll checks requests and adds those that pass to the next transaction, all together. What is
// wrong with one request is that one's answer.
func doAll[Req any](ctx context.Context, s *server, check func(Req) (operation, error), reqs []Req) (*inventorypb.BatchResponse, error) {
	if err := checkCount("requests", len(reqs), batchMax); err != nil {
		return nil, err
	}
	results := make([]*inventorypb.Result, len(reqs))
	var ops []operation
	var asked []int // which request each operation came from
	for i, req := range reqs {
		o, err := check(req)
		results[i] = &inventorypb.Result{Fault: fault.ToProto(err)}
		if err == nil {
			ops, asked = append(ops, o), append(asked, i)
		}
	}
	for i, r := range s.writes.DoAll(ctx, ops) {
		results[asked[i]].Fault = fault.ToProto(r.Err)
	}
	return &inventorypb.BatchResponse{Results: results}, nil
}

// finish waits until ctx ends, and then for the batches that are still on their way: a caller who
// gave up has left one behind.
func (s *server) finish(ctx context.Context) error {
	<-ctx.Done()
	s.writes.Wait()
	s.reads.Wait()
	return nil
}
