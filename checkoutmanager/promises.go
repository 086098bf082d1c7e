package checkoutmanager

import (
	"context"
	"time"

	"google.golang.org/grpc"

	"cartwright/internal/failpoint"
	"cartwright/internal/fault"
	"cartwright/internal/groupcommit"
	"cartwright/internal/money"
	"cartwright/proto/cartpb"
	"cartwright/proto/faultpb"
	"cartwright/proto/inventorypb"
	"cartwright/proto/paymentspb"
)

const callTimeout = 5 * time.Second

// errPending is silence of a known sort: the provider has the payment in hand. The checkout
// leaves the worker, and rescue asks again.
var errPending = fault.New(fault.Unavailable, "payment_pending", "the payment is not decided yet")

// none is the answer of calls that have nothing to tell but success.
type none = struct{}

// batchCall is an RPC for many: it answers for each request apart, in order.
type batchCall[In, Out any] func(ctx context.Context, batch []In) ([]groupcommit.Result[Out], error)

// grouped makes single calls ride together on a batch call.
func grouped[In, Out any](call batchCall[In, Out], observe groupcommit.Observer) *groupcommit.Group[In, Out] {
	return groupcommit.New(groupcommit.Flush[In, Out](call), groupcommit.Options[In]{Timeout: callTimeout, Observe: observe})
}

// faults gives each result of a batch its error.
func faults[R interface{ GetFault() *faultpb.Fault }](results []R) []groupcommit.Result[none] {
	all := make([]groupcommit.Result[none], len(results))
	for i, r := range results {
		all[i].Err = fault.FromProto(r.GetFault())
	}
	return all
}

// cartClient asks cartmanager.
type cartClient struct {
	freezes *groupcommit.Group[*cartpb.FreezeRequest, []*cartpb.FrozenLine]
	thaws   *groupcommit.Group[*cartpb.ThawRequest, none]
}

func newCartClient(conn grpc.ClientConnInterface, observe func(group string) groupcommit.Observer) *cartClient {
	carts := cartpb.NewCartsClient(conn)
	freeze := func(ctx context.Context, batch []*cartpb.FreezeRequest) ([]groupcommit.Result[[]*cartpb.FrozenLine], error) {
		resp, err := carts.FreezeBatch(ctx, &cartpb.FreezeBatchRequest{Requests: batch})
		results := make([]groupcommit.Result[[]*cartpb.FrozenLine], len(resp.GetResults()))
		for i, r := range resp.GetResults() {
			results[i] = groupcommit.Result[[]*cartpb.FrozenLine]{Value: r.GetLines(), Err: fault.FromProto(r.GetFault())}
		}
		return results, err
	}
	thaw := func(ctx context.Context, batch []*cartpb.ThawRequest) ([]groupcommit.Result[none], error) {
		resp, err := carts.ThawBatch(ctx, &cartpb.ThawBatchRequest{Requests: batch})
		return faults(resp.GetResults()), err
	}
	return &cartClient{
		freezes: grouped(freeze, observe("freeze")),
		thaws:   grouped(thaw, observe("thaw")),
	}
}

// freeze moves the lines out of the cart and adds up what they cost.
func (k *cartClient) freeze(ctx context.Context, c *checkout) ([]line, money.Amount, error) {
	frozen, err := k.freezes.Do(ctx, &cartpb.FreezeRequest{CheckoutId: c.id, ClientId: c.clientID})
	if err != nil {
		return nil, money.Amount{}, err
	}
	lines := make([]line, len(frozen))
	var total money.Amount
	for i, f := range frozen {
		lines[i] = line{f.GetProductId(), f.GetName(), f.GetQuantity(), f.GetUnitPriceMinor()}
		if total, err = addLine(total, f); err != nil {
			return nil, money.Amount{}, fault.New(fault.Refused, "total", "the total cannot be charged: %v", err)
		}
	}
	return lines, total, failpoint.Hit(failpoint.Frozen)
}

func addLine(total money.Amount, f *cartpb.FrozenLine) (money.Amount, error) {
	price := money.Amount{Minor: f.GetUnitPriceMinor(), Currency: f.GetCurrency()}
	cost, err := price.Times(f.GetQuantity())
	if err != nil {
		return total, err
	}
	return total.Plus(cost)
}

func (k *cartClient) thaw(ctx context.Context, c *checkout) error {
	_, err := k.thaws.Do(ctx, &cartpb.ThawRequest{CheckoutId: c.id, ClientId: c.clientID, OrderId: c.orderID})
	return failpoint.After(err, failpoint.Thawed)
}

// stockClient asks inventory. The reservation's ID is the checkout's own: asking twice is asking
// once.
type stockClient struct {
	reserves  *groupcommit.Group[*inventorypb.ReserveRequest, none]
	commits   *groupcommit.Group[*inventorypb.CommitRequest, none]
	rollbacks *groupcommit.Group[*inventorypb.RollbackRequest, none]
}

func newStockClient(conn grpc.ClientConnInterface, observe func(group string) groupcommit.Observer) *stockClient {
	stock := inventorypb.NewInventoryClient(conn)
	reserve := func(ctx context.Context, batch []*inventorypb.ReserveRequest) ([]groupcommit.Result[none], error) {
		resp, err := stock.ReserveBatch(ctx, &inventorypb.ReserveBatchRequest{Requests: batch})
		return faults(resp.GetResults()), failpoint.After(err, failpoint.ReserveSent)
	}
	commit := func(ctx context.Context, batch []*inventorypb.CommitRequest) ([]groupcommit.Result[none], error) {
		resp, err := stock.CommitBatch(ctx, &inventorypb.CommitBatchRequest{Requests: batch})
		return faults(resp.GetResults()), err
	}
	rollback := func(ctx context.Context, batch []*inventorypb.RollbackRequest) ([]groupcommit.Result[none], error) {
		resp, err := stock.RollbackBatch(ctx, &inventorypb.RollbackBatchRequest{Requests: batch})
		return faults(resp.GetResults()), err
	}
	return &stockClient{
		reserves:  grouped(reserve, observe("reserve")),
		commits:   grouped(commit, observe("commit")),
		rollbacks: grouped(rollback, observe("rollback")),
	}
}

func (k *stockClient) reserve(ctx context.Context, c *checkout) error {
	lines := make([]*inventorypb.Line, len(c.lines))
	for i, l := range c.lines {
		lines[i] = &inventorypb.Line{ProductId: l.productID, Quantity: l.quantity}
	}
	_, err := k.reserves.Do(ctx, &inventorypb.ReserveRequest{ReservationId: c.id, Lines: lines})
	return failpoint.After(err, failpoint.Reserved)
}

func (k *stockClient) commit(ctx context.Context, c *checkout) error {
	_, err := k.commits.Do(ctx, &inventorypb.CommitRequest{ReservationId: c.id})
	return failpoint.After(err, failpoint.Committed)
}

func (k *stockClient) rollback(ctx context.Context, c *checkout) error {
	_, err := k.rollbacks.Do(ctx, &inventorypb.RollbackRequest{ReservationId: c.id})
	return failpoint.After(err, failpoint.RolledBack)
}

// chargeLanes lets batches of charges wait for the provider side by side.
const chargeLanes = 4

// cashClient asks payments. Charges ride together, but in nobody's turn: each waits for a company
// outside, and other checkouts' stock and carts should not wait with it.
type cashClient struct {
	payments paymentspb.PaymentsClient
	charges  *groupcommit.Group[*paymentspb.ChargeRequest, paymentspb.State]
}

func newCashClient(conn grpc.ClientConnInterface, observe func(group string) groupcommit.Observer) *cashClient {
	payments := paymentspb.NewPaymentsClient(conn)
	charge := func(ctx context.Context, batch []*paymentspb.ChargeRequest) ([]groupcommit.Result[paymentspb.State], error) {
		resp, err := payments.ChargeBatch(ctx, &paymentspb.ChargeBatchRequest{Requests: batch})
		results := make([]groupcommit.Result[paymentspb.State], len(resp.GetResults()))
		for i, r := range resp.GetResults() {
			results[i] = groupcommit.Result[paymentspb.State]{Value: r.GetState(), Err: fault.FromProto(r.GetFault())}
		}
		return results, err
	}
	return &cashClient{payments, groupcommit.New(charge, groupcommit.Options[*paymentspb.ChargeRequest]{
		Lanes: chargeLanes, Timeout: callTimeout, Observe: observe("charge")})}
}

// charge asks together with others, which takes a moment at most. A payment that the provider has
// not decided by then is waited for alone, so that nobody else's checkout waits with it; after
// some time more it is errPending.
func (k *cashClient) charge(ctx context.Context, c *checkout) error {
	req := &paymentspb.ChargeRequest{PaymentId: c.id, OrderId: c.orderID, AmountMinor: c.total.Minor, Currency: c.total.Currency, Method: c.method}
	state, err := k.charges.Do(ctx, req)
	if err == nil && state == paymentspb.State_STATE_PENDING {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		var resp *paymentspb.ChargeResponse
		resp, err = k.payments.Charge(ctx, req)
		state = resp.GetState()
	}
	switch {
	case err != nil:
		return err
	case state != paymentspb.State_STATE_CHARGED:
		return errPending
	}
	return failpoint.Hit(failpoint.Charged)
}

func (k *cashClient) refund(ctx context.Context, c *checkout) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := k.payments.Refund(ctx, &paymentspb.RefundRequest{PaymentId: c.id, Reason: c.reason.Code})
	return failpoint.After(err, failpoint.Refunded)
}
