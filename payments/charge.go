package payments

import (
	"context"
	"fmt"
	"sync"
	"time"

	"cartwright/internal/failpoint"
	"cartwright/internal/fault"
	"cartwright/internal/ids"
	"cartwright/internal/money"
	"cartwright/internal/mutation"
	"cartwright/proto/paymentspb"
)

// Charge takes the money of a payment, or tells what became of it. Its row is saved before the
// provider is asked, and the provider's word after; both may be repeated, by any process, and come
// to one charge.
func (s *server) Charge(ctx context.Context, req *paymentspb.ChargeRequest) (*paymentspb.ChargeResponse, error) {
	return s.charge(ctx, req, s.chargeWait)
}

// ChargeBatch charges many payments side by side. Their writes ride together; the provider is
// asked for each apart, and a slow answer holds the others up for no more than batchWait.
func (s *server) ChargeBatch(ctx context.Context, req *paymentspb.ChargeBatchRequest) (*paymentspb.ChargeBatchResponse, error) {
	if n := len(req.GetRequests()); n < 1 || n > batchMax {
		return nil, fault.InvalidField("requests", "has %d, want 1 to %d", n, batchMax)
	}
	resp := &paymentspb.ChargeBatchResponse{Results: make([]*paymentspb.ChargeResult, len(req.GetRequests()))}
	var all sync.WaitGroup
	for i, one := range req.GetRequests() {
		all.Go(func() {
			answer, err := s.charge(ctx, one, batchWait)
			resp.Results[i] = &paymentspb.ChargeResult{State: answer.GetState(), Fault: fault.ToProto(err)}
		})
	}
	all.Wait()
	return resp, nil
}

// charge waits for the provider only so long.
func (s *server) charge(ctx context.Context, req *paymentspb.ChargeRequest, wait time.Duration) (*paymentspb.ChargeResponse, error) {
	want, err := s.wanted(req)
	if err != nil {
		return nil, err
	}
	p, err := s.ledger.open(ctx, want)
	if err = failpoint.After(err, failpoint.PaymentOpened); err != nil {
		return nil, fmt.Errorf("payment %s: %w", want.id, err)
	}
	if isTombstone := p.amount == (money.Amount{}); !isTombstone && (p.orderID != want.orderID || p.amount != want.amount || p.method != want.method) {
		return nil, fault.New(fault.Mismatch, "payment_mismatch", "payment %s was asked for with another order, amount, currency or method", want.id)
	}
	if p.state == initiated {
		return s.await(ctx, p, wait)
	}
	return verdict(p.payment)
}

// await asks the provider, but waits for it only so long. What is not known by then goes on, and
// is found by the next Charge.
func (s *server) await(ctx context.Context, p entered, wait time.Duration) (*paymentspb.ChargeResponse, error) {
	patience, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	after, err := s.ask(patience, p)
	switch {
	case err == nil:
		return verdict(after.payment)
	case patience.Err() != nil && ctx.Err() == nil:
		return &paymentspb.ChargeResponse{State: paymentspb.State_STATE_PENDING}, nil
	default:
		return nil, fmt.Errorf("payment %s: %w", p.id, err)
	}
}

// ask gets an initiated payment decided. Whoever has just made its row asks for the charge.
// Everybody else may be behind a charge that went unanswered, so they look first, even while
// another call of this process is still waiting for the provider.
func (s *server) ask(ctx context.Context, p entered) (entered, error) {
	if p.was != none {
		out, err := s.provider.Lookup(ctx, p.id)
		if err != nil {
			return p, silence(err)
		}
		if out.Status != Unknown {
			return s.ledger.record(ctx, p.payment, out)
		}
	}
	return s.charges.do(ctx, p.id, func(ctx context.Context) (entered, error) {
		limited, cancel := context.WithTimeout(ctx, s.providerTime)
		defer cancel()
		key := p.id
		if mutation.On(mutation.NewKeyEachTry) {
			key = ids.New()
		}
		out, err := s.provider.Charge(limited, Charge{Key: key, Amount: p.amount, Method: p.method})
		if err = failpoint.After(err, failpoint.ProviderCharged); err != nil {
			return p, silence(err)
		}
		return s.ledger.record(ctx, p.payment, out)
	})
}

// verdict is the answer that a decided payment gives.
func verdict(p payment) (*paymentspb.ChargeResponse, error) {
	switch p.state {
	case charged:
		return &paymentspb.ChargeResponse{State: paymentspb.State_STATE_CHARGED}, nil
	case declined:
		return nil, fault.New(fault.Refused, p.reasonCode, "%s", p.reason)
	case cancelling, cancelled, refunded:
		return nil, fault.New(fault.Refused, "payment_cancelled", "the payment was cancelled")
	default:
		return nil, fmt.Errorf("payment %s: decided, yet %q", p.id, p.state)
	}
}

// silence labels an error of the provider that is no answer: the call may have had its effect.
func silence(err error) error { return fault.Away("the payment provider", err) }
