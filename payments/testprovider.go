package payments

import (
	"context"
	"database/sql"
	"time"

	"cartwright/internal/fault"
	"cartwright/internal/money"
)

// The tokens that the test provider knows. Any other is declined as unknown_payment_method.
const (
	tokOK          = "tok_ok"           // pays; so does no token at all
	tokDeclined    = "tok_declined"     // is declined
	tokSlow        = "tok_slow"         // pays, a good while later
	tokSilent      = "tok_silent"       // pays at once, and never says so
	tokRefundFails = "tok_refund_fails" // pays, and refuses its refund
)

// testProvider plays a payment company: it has books of its own, keeps its word for good, and goes
// on with what it was asked when nobody waits for the answer any more.
type testProvider struct {
	books *testBooks
	delay func(context.Context) error // of tok_slow; ends early with its context's error
	slow  *flights[Outcome]
}

func newTestProvider(db *sql.DB, delay time.Duration, m *metrics) *testProvider {
	wait := func(ctx context.Context) error { return pause(ctx, delay) }
	return &testProvider{books: newTestBooks(db, m), delay: wait, slow: newFlights[Outcome]()}
}

// Charge decides by the token.
func (t *testProvider) Charge(ctx context.Context, c Charge) (Outcome, error) {
	if c.Method == tokSlow {
		return t.chargeSlowly(ctx, c)
	}
	row, err := t.books.charge(ctx, c)
	if err == nil && c.Method == tokSilent {
		<-ctx.Done()
		return Outcome{}, ctx.Err()
	}
	return outcome(row), err
}

// chargeSlowly takes the money after the delay, whether or not the caller still waits. A second
// ask waits for the same end.
func (t *testProvider) chargeSlowly(ctx context.Context, c Charge) (Outcome, error) {
	known, err := t.Lookup(ctx, c.Key)
	if err != nil || known.Status != Unknown {
		return known, err
	}
	return t.slow.do(ctx, c.Key, func(ctx context.Context) (Outcome, error) {
		if err := t.delay(ctx); err != nil {
			return Outcome{}, err
		}
		row, err := t.books.charge(ctx, c)
		return outcome(row), err
	})
}

// Lookup reads the books.
func (t *testProvider) Lookup(ctx context.Context, key string) (Outcome, error) {
	row, err := t.books.look(ctx, key)
	return outcome(row), err
}

// Cancel writes a key down as cancelled, known or not, unless it was decided before.
func (t *testProvider) Cancel(ctx context.Context, key string) (Outcome, error) {
	row, err := t.books.cancel(ctx, key)
	return outcome(row), err
}

// Refund gives a charge back. It can do so once; a second time is the same time.
func (t *testProvider) Refund(ctx context.Context, key string, amount money.Amount) error {
	row, err := t.books.refund(ctx, key, amount)
	switch {
	case err != nil:
		return err
	case row.refunded != row.amount.Minor || row.amount != amount:
		return fault.New(fault.Refused, "refund_refused", "the payment provider refused the refund")
	}
	return nil
}

// outcome is what the provider says of a line of its books.
func outcome(row testCharge) Outcome {
	switch {
	case row.outcome == "":
		return Outcome{Status: Unknown}
	case row.outcome != Declined:
		return Outcome{Status: row.outcome, Ref: "test_" + row.key}
	case row.method == tokDeclined:
		return Outcome{Status: Declined, Ref: "test_" + row.key, Code: "card_declined", Reason: "the card was declined"}
	default:
		return Outcome{Status: Declined, Ref: "test_" + row.key, Code: "unknown_payment_method", Reason: "the payment provider does not know this method of payment"}
	}
}

// pause waits, unless ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
