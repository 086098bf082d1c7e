package payments

import (
	"context"
	"fmt"

	"cartwright/internal/failpoint"
	"cartwright/internal/fault"
	"cartwright/internal/ids"
	"cartwright/internal/mutation"
	"cartwright/proto/paymentspb"
)

// Refund makes sure that no money is or will be taken under an ID. It begins by cancelling at the
// provider, also when our books say charged or know nothing of a charge: only the provider can
// tell, and after its word a Charge that is still on its way anywhere is refused there.
func (s *server) Refund(ctx context.Context, req *paymentspb.RefundRequest) (*paymentspb.RefundResponse, error) {
	if !ids.Valid(req.GetPaymentId()) {
		return nil, fault.InvalidField("payment_id", ids.Shape)
	}
	p, err := s.ledger.turnBack(ctx, req.GetPaymentId(), s.providerName, req.GetReason())
	if err == nil && p.state == cancelling {
		err = s.giveBack(ctx, p.payment)
	}
	if err != nil {
		return nil, fmt.Errorf("payment %s: %w", req.GetPaymentId(), err)
	}
	return &paymentspb.RefundResponse{}, nil
}

// giveBack takes a payment from cancelling to its end. Where it stops short, the payment stays
// cancelling, and the next Refund begins here again.
func (s *server) giveBack(ctx context.Context, p payment) error {
	if p.providerRef == "" && mutation.On(mutation.NoCancel) {
		_, err := s.ledger.close(ctx, p.id, cancelled)
		return err
	}
	limited, cancel := context.WithTimeout(ctx, s.providerTime)
	defer cancel()
	out, err := s.provider.Cancel(limited, p.id)
	if err = failpoint.After(err, failpoint.ProviderStopped); err != nil {
		return silence(err)
	}
	end := cancelled
	switch out.Status {
	case Charged:
		end = refunded
		err := s.provider.Refund(limited, p.id, p.amount)
		if err = failpoint.After(err, failpoint.ProviderRepaid); fault.Is(err, fault.Refused) {
			return err
		} else if err != nil {
			return silence(err)
		}
	case Declined, Cancelled:
	default:
		return fmt.Errorf("the payment provider answers %q to a cancellation", out.Status)
	}
	_, err = s.ledger.close(ctx, p.id, end)
	return err
}
