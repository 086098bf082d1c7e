package payments

import (
	"context"

	"cartwright/internal/groupcommit"
	"cartwright/internal/outbox"
	"cartwright/internal/store"
)

// reasonMax is the room for a reason in the books. What is longer is cut: the length of a sentence
// must not stand in the way of money.
const reasonMax = 500

// open makes payments that have not been heard of. entered.was is none if this call made it;
// otherwise the payment is as it was found.
func (l *ledger) open(ctx context.Context, wants []payment) []groupcommit.Result[entered] {
	entries := make([]entry, len(wants))
	for i, want := range wants {
		entries[i] = entry{id: want.id, isNew: true, decide: func(p payment) (payment, *outbox.Event) {
			if p.state == none {
				return want, nil
			}
			return p, nil
		}}
	}
	return l.group.DoAll(ctx, entries)
}

// record saves what the provider said of a payment that was last seen initiated. One that has left
// that state stays as it is: then a refund has begun, and will hear the same from the provider and
// act on it. A charge is nearly always recorded on what was last seen, so that is not looked at.
func (l *ledger) record(ctx context.Context, seen payment, out Outcome) (entered, error) {
	e := entry{id: seen.id}
	if seen.state == initiated && out.Status == Charged && out.Code == "" && out.Reason == "" {
		e.believed = seen
	}
	e.decide = func(p payment) (payment, *outbox.Event) {
		if p.state != initiated {
			return p, nil
		}
		p.providerRef, p.reasonCode, p.reason = out.Ref, out.Code, store.Clip(out.Reason, reasonMax)
		switch out.Status {
		case Charged:
			p.state = charged
			return p, processed(p)
		case Declined:
			p.state = declined
		case Cancelled:
			p.state = cancelled
		}
		return p, nil
	}
	return l.group.Do(ctx, e)
}

// turnBack starts the way back, before the provider is asked for it, so that a payment whose
// refund was interrupted anywhere is known as such. An unknown payment becomes a tombstone at
// once: its row is made before its provider is asked, so without a row nothing can be on its way.
func (l *ledger) turnBack(ctx context.Context, id, provider, reason string) (entered, error) {
	return l.group.Do(ctx, entry{id: id, decide: func(p payment) (payment, *outbox.Event) {
		switch p.state {
		case none:
			p = payment{id: id, provider: provider, state: cancelled, reason: store.Clip(reason, reasonMax)}
		case initiated, charged:
			p.state, p.reason = cancelling, store.Clip(reason, reasonMax)
		}
		return p, nil
	}})
}

// close ends the way back, as refunded or cancelled.
func (l *ledger) close(ctx context.Context, id string, end state) (entered, error) {
	return l.group.Do(ctx, entry{id: id, decide: func(p payment) (payment, *outbox.Event) {
		if p.state != cancelling {
			return p, nil
		}
		p.state = end
		if end == refunded {
			return p, givenBack(p)
		}
		return p, nil
	}})
}

// processed tells that money was taken.
func processed(p payment) *outbox.Event {
	return &outbox.Event{Type: "payment.processed", Subject: p.orderID, Data: struct {
		OrderID       string `json:"orderId"`
		PaymentID     string `json:"paymentId"`
		PaymentStatus string `json:"paymentStatus"`
		Amount        int64  `json:"amount"`
		Currency      string `json:"currency"`
	}{p.orderID, p.id, "PAID", p.amount.Minor, p.amount.Currency}}
}

// givenBack tells that it was given back.
func givenBack(p payment) *outbox.Event {
	return &outbox.Event{Type: "payment.refunded", Subject: p.orderID, Data: struct {
		OrderID   string `json:"orderId"`
		PaymentID string `json:"paymentId"`
		Amount    int64  `json:"amount"`
		Currency  string `json:"currency"`
		Reason    string `json:"reason"`
	}{p.orderID, p.id, p.amount.Minor, p.amount.Currency, p.reason}}
}
