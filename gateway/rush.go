package gateway

import (
	"context"
	"sync/atomic"
	"time"

	"cartwright/internal/fault"
	"cartwright/internal/groupcommit"
	"cartwright/jobs"
	"cartwright/proto/cartpb"
	"cartwright/proto/checkoutpb"
	"cartwright/proto/jobspb"
	"cartwright/soldout"
)

const (
	// rushFor is how long after a checkout was refused for want of stock the carts are looked into
	// first. At other times nobody pays for that look.
	rushFor = 5 * time.Second
	// cartTime and refuseTime bound what a checkout waits for here; then it goes the long way, which
	// finds whatever came of it. They are not short: the long way is more work for those who are late.
	cartTime   = time.Second
	refuseTime = 2 * time.Second
	// rushLanes lets some calls be on their way while others wait for an answer.
	rushLanes = 2
)

// rush is when many want what is gone: their carts are in their place, and each checkout would be
// begun, frozen, refused and taken back. It makes the refused order of a checkout without a job, when
// it knows that something in the cart is sold out. Many ride on one call.
type rush struct {
	soldOut *soldout.List
	last    atomic.Int64 // when a checkout was last refused for want of stock, in nanoseconds
	carts   *groupcommit.Group[string, *cartpb.GetCartResponse]
	refuses *groupcommit.Group[*checkoutpb.RefuseRequest, bool]
}

func newRush(list *soldout.List, carts cartpb.CartsClient, orders checkoutpb.OrdersClient, sizes *groupcommit.Metrics) *rush {
	r := &rush{soldOut: list}
	look := func(ctx context.Context, clients []string) ([]groupcommit.Result[*cartpb.GetCartResponse], error) {
		answer, err := carts.GetCarts(ctx, &cartpb.GetCartsRequest{ClientIds: clients})
		all := make([]groupcommit.Result[*cartpb.GetCartResponse], len(answer.GetCarts()))
		for i, cart := range answer.GetCarts() {
			all[i].Value = cart
		}
		return all, err
	}
	refuse := func(ctx context.Context, batch []*checkoutpb.RefuseRequest) ([]groupcommit.Result[bool], error) {
		answer, err := orders.RefuseBatch(ctx, &checkoutpb.RefuseBatchRequest{Requests: batch})
		all := make([]groupcommit.Result[bool], len(answer.GetResults()))
		for i, result := range answer.GetResults() {
			all[i] = groupcommit.Result[bool]{Value: result.GetRefused(), Err: fault.FromProto(result.GetFault())}
		}
		return all, err
	}
	r.carts = groupcommit.New(look, groupcommit.Options[string]{Lanes: rushLanes, Timeout: cartTime, Observe: sizes.Of("carts")})
	r.refuses = groupcommit.New(refuse, groupcommit.Options[*checkoutpb.RefuseRequest]{Lanes: rushLanes, Timeout: refuseTime, Observe: sizes.Of("refuse")})
	return r
}

// note begins a rush, or makes it last.
func (r *rush) note() { r.last.Store(time.Now().UnixNano()) }

func (r *rush) isOn() bool { return time.Since(time.Unix(0, r.last.Load())) < rushFor }

// refusal refuses a checkout whose cart has something that is sold out, and returns why. Nil means
// that it has to go the long way: nothing in it is known to be sold out, somebody did not answer, or
// there is a checkout under this ID already.
func (r *rush) refusal(ctx context.Context, id string, job *jobspb.StartCheckout) error {
	if !r.isOn() {
		return nil
	}
	product := r.soldOutFor(ctx, job.GetClientId())
	if product == "" {
		return nil
	}
	body, err := jobs.Encode(job)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, refuseTime)
	defer cancel()
	refused, err := r.refuses.Do(ctx, &checkoutpb.RefuseRequest{OrderId: id, Job: body, ProductId: product})
	if err != nil || !refused {
		return nil
	}
	r.note()
	return &jobError{id, soldout.Refusal(product)}
}

// soldOutFor finds something in a client's cart that is sold out.
func (r *rush) soldOutFor(ctx context.Context, clientID string) (product string) {
	ctx, cancel := context.WithTimeout(ctx, cartTime)
	defer cancel()
	cart, err := r.carts.Do(ctx, clientID)
	if err != nil {
		return ""
	}
	for _, line := range cart.GetLines() {
		if r.soldOut.Has(line.GetProductId()) {
			return line.GetProductId()
		}
	}
	return ""
}

// wait returns when no call is on its way.
func (r *rush) wait() {
	r.carts.Wait()
	r.refuses.Wait()
}
