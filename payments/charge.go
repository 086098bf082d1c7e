package payments

import (
	"context"
	"fmt"
	"sync"
	"time"

	"cartwright/internal/failpoint"
	"cartwright/internal/fault"
	"cartwright/internal/groupcommit"
	"cartwright/internal/ids"
	"cartwright/internal/money"
	"cartwright/internal/mutation"
	"cartwright/proto/paymentspb"
)

// Charge takes the money of a payment, or tells what became of it. Its row is saved before the
// provider is asked, and the provider's word after; both may be repeated, by any process, and come
// to one charge.
func (s *server) Charge(ctx context.Context, req *paymentspb.ChargeRequest) (*paymentspb.ChargeResponse, error) {
	a := s.chargeAll(ctx, []*paymentspb.ChargeRequest{req}, s.chargeWait)[0]
	return a.Value, a.Err
}

// ChargeBatch charges many payments side by side. Their writes ride together; the provider is
// asked for each apart, and a slow answer holds the others up for no more than batchWait.
func (s *server) ChargeBatch(ctx context.Context, req *paymentspb.ChargeBatchRequest) (*paymentspb.ChargeBatchResponse, error) {
	if n := len(req.GetRequests()); n < 1 || n > batchMax {
		return nil, fault.InvalidField("requests", "has %d, want 1 to %d", n, batchMax)
	}
	resp := &paymentspb.ChargeBatchResponse{}
	for _, a := range s.chargeAll(ctx, req.GetRequests(), batchWait) {
		resp.Results = append(resp.Results, &paymentspb.ChargeResult{State: a.Value.GetState(), Fault: fault.ToProto(a.Err)})
	}
	return resp, nil
}

// answer is what one Charge returns.
type answer = groupcommit.Result[*paymentspb.ChargeResponse]

// chargeAll charges payments side by side, and waits for the provider only so long. What is not known
// by then goes on, and is found by the next Charge. Whoever has just made a payment's row asks for the
// charge; everybody else may be behind a charge that went unanswered, so they look first.
func (s *server) chargeAll(ctx context.Context, reqs []*paymentspb.ChargeRequest, wait time.Duration) []answer {
	opened := s.openAll(ctx, reqs)
	patience, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	answers := make([]answer, len(reqs))
	flights := make([]*flight[entered], len(reqs))
	var looks sync.WaitGroup
	for i, o := range opened {
		p := o.Value
		switch {
		case o.Err != nil:
			answers[i].Err = o.Err
		case p.state != initiated:
			answers[i] = verdict(p.payment)
		case p.was != none:
			looks.Go(func() {
				after, err := s.lookFirst(patience, p)
				answers[i] = conclude(ctx, patience, p, after, err)
			})
		default:
			var err error
			if flights[i], err = s.ask(patience, p); err != nil {
				answers[i] = conclude(ctx, patience, p, p, err)
			}
		}
	}
	for i, f := range flights {
		if f != nil {
			after, err := f.wait(patience)
			answers[i] = conclude(ctx, patience, opened[i].Value, after, err)
		}
	}
	looks.Wait()
	return answers
}

// openAll makes the rows of those payments that have none yet, all together.
func (s *server) openAll(ctx context.Context, reqs []*paymentspb.ChargeRequest) []groupcommit.Result[entered] {
	all := make([]groupcommit.Result[entered], len(reqs))
	var wants []payment
	var places []int // of wants in all
	for i, req := range reqs {
		want, err := s.wanted(req)
		if all[i].Err = err; err == nil {
			wants, places = append(wants, want), append(places, i)
		}
	}
	for n, r := range s.ledger.open(ctx, wants) {
		all[places[n]] = asWanted(wants[n], r)
	}
	return all
}

// asWanted refuses a payment that was opened for something else.
func asWanted(want payment, r groupcommit.Result[entered]) groupcommit.Result[entered] {
	if err := failpoint.After(r.Err, failpoint.PaymentOpened); err != nil {
		r.Err = fmt.Errorf("payment %s: %w", want.id, err)
		return r
	}
	p := r.Value
	if isTombstone := p.amount == (money.Amount{}); !isTombstone && (p.orderID != want.orderID || p.amount != want.amount || p.method != want.method) {
		r.Err = fault.New(fault.Mismatch, "payment_mismatch", "payment %s was asked for with another order, amount, currency or method", want.id)
	}
	return r
}

// lookFirst gets an initiated payment decided that somebody may have asked for already, even while
// another call of this process is still waiting for the provider.
func (s *server) lookFirst(ctx context.Context, p entered) (entered, error) {
	out, err := s.provider.Lookup(ctx, p.id)
	if err != nil {
		return p, silence(err)
	}
	if out.Status != Unknown {
		return s.ledger.record(ctx, p.payment, out)
	}
	f, err := s.ask(ctx, p)
	if err != nil {
		return p, err
	}
	return f.wait(ctx)
}

// ask asks the provider for a charge, unless that is under way, and records its word.
func (s *server) ask(ctx context.Context, p entered) (*flight[entered], error) {
	return s.charges.board(ctx, p.id, func(ctx context.Context) (entered, error) {
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

// conclude turns what a wait has brought into an answer: when patience alone has ended, that the
// payment is pending.
func conclude(ctx, patience context.Context, p, after entered, err error) answer {
	switch {
	case err == nil:
		return verdict(after.payment)
	case patience.Err() != nil && ctx.Err() == nil:
		return answer{Value: &paymentspb.ChargeResponse{State: paymentspb.State_STATE_PENDING}}
	}
	return answer{Err: fmt.Errorf("payment %s: %w", p.id, err)}
}

// verdict is the answer that a decided payment gives.
func verdict(p payment) answer {
	switch p.state {
	case charged:
		return answer{Value: &paymentspb.ChargeResponse{State: paymentspb.State_STATE_CHARGED}}
	case declined:
		return answer{Err: fault.New(fault.Refused, p.reasonCode, "%s", p.reason)}
	case cancelling, cancelled, refunded:
		return answer{Err: fault.New(fault.Refused, "payment_cancelled", "the payment was cancelled")}
	}
	return answer{Err: fmt.Errorf("payment %s: decided, yet %q", p.id, p.state)}
}

// silence labels an error of the provider that is no answer: the call may have had its effect.
func silence(err error) error { return fault.Away("the payment provider", err) }
