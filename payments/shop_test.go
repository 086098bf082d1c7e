package payments

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cartwright/internal/fault"
	"cartwright/internal/ids"
	"cartwright/internal/money"
	"cartwright/internal/outbox"
	"cartwright/internal/testenv"
	"cartwright/proto/paymentspb"
	schema "cartwright/sql"
)

const (
	limit     = 30 * time.Second       // for what must happen; tests wait for it, not for this
	impatient = 100 * time.Millisecond // for a caller who is to leave before the provider answers
)

// shop is a payments service without its ports, as one process would have it.
type shop struct {
	t    *testing.T
	db   *sql.DB
	test *testProvider
	wake chan struct{} // closed by the test when tok_slow shall be charged
	*server
}

func newShop(t *testing.T) *shop {
	t.Helper()
	return onDatabase(t, testenv.Database(t, testenv.Namespace(t), schema.Payments))
}

// onDatabase starts a service on tables that another one may use too.
func onDatabase(t *testing.T, db *sql.DB) *shop {
	t.Helper()
	m := newMetrics(prometheus.NewRegistry())
	test := newTestProvider(db, 0, m)
	s := &shop{t, db, test, make(chan struct{}), newServer(db, timed{test, m.provider}, providerTest, m)}
	test.delay = func(ctx context.Context) error {
		select {
		case <-s.wake:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.providerTime, s.chargeWait = limit, limit
	t.Cleanup(s.stop)
	return s
}

// stop ends what is in the air, as a process that stops would, but at once.
func (s *shop) stop() {
	ended, end := context.WithCancel(context.Background())
	end()
	s.charges.cutAll()
	s.charges.run(ended) //nolint:errcheck // always nil
	s.test.slow.cutAll()
	s.test.slow.run(ended) //nolint:errcheck // always nil
	s.ledger.group.Wait()
	s.test.books.group.Wait()
}

// orderOf names the order that a payment is for.
func orderOf(id string) string { return "o-" + id }

func euros(id, method string) *paymentspb.ChargeRequest {
	return &paymentspb.ChargeRequest{PaymentId: id, OrderId: orderOf(id), AmountMinor: 4726, Currency: "EUR", Method: method}
}

func (s *shop) charge(id, method string) (paymentspb.State, error) {
	resp, err := s.Charge(s.t.Context(), euros(id, method))
	return resp.GetState(), err
}

func (s *shop) refund(id string) error {
	_, err := s.Refund(s.t.Context(), &paymentspb.RefundRequest{PaymentId: id, Reason: "requested by customer"})
	return err
}

// mustCharge charges until the provider has been heard.
func (s *shop) mustCharge(id, method string) {
	s.t.Helper()
	testenv.Eventually(s.t, limit, "charged", func() bool {
		state, err := s.charge(id, method)
		if err != nil {
			s.t.Fatalf("charge %s with %q: %v", id, method, err)
		}
		return state == paymentspb.State_STATE_CHARGED
	})
}

func (s *shop) mustRefund(id string) {
	s.t.Helper()
	if err := s.refund(id); err != nil {
		s.t.Fatalf("refund %s: %v", id, err)
	}
}

// wantState compares the state of a row of ours.
func (s *shop) wantState(id string, want state) {
	s.t.Helper()
	var got state
	if err := s.db.QueryRowContext(s.t.Context(), "SELECT state FROM payments WHERE payment_id = ?", id).Scan(&got); err != nil {
		s.t.Fatalf("payment %s: %v", id, err)
	}
	if got != want {
		s.t.Fatalf("payment %s is %q, want %q", id, got, want)
	}
}

// wantMoney compares what the provider took for a payment and has not given back.
func (s *shop) wantMoney(id string, want int64) {
	s.t.Helper()
	var got int64
	err := s.db.QueryRowContext(s.t.Context(), `
		SELECT COALESCE(SUM(amount_minor - refunded_minor), 0)
		FROM   test_provider_charges
		WHERE  idempotency_key = ? AND outcome = 'charged'`, id).Scan(&got)
	if err != nil {
		s.t.Fatal(err)
	}
	if got != want {
		s.t.Fatalf("the provider holds %d for payment %s, want %d", got, id, want)
	}
}

// events lists the types of the events that wait to be told of a payment.
func (s *shop) events(id string) (types []string) {
	s.t.Helper()
	_, events, err := outbox.Waiting(s.t.Context(), s.db, 1000)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range events {
		if e.Subject == orderOf(id) {
			types = append(types, e.Type)
		}
	}
	return types
}

func wantFault(t *testing.T, err error, kind fault.Kind, code string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %v %s", kind, code)
	}
	if got := fault.As(err); got.Kind != kind || got.Code != code {
		t.Fatalf("error %v %s (%v), want %v %s", got.Kind, got.Code, err, kind, code)
	}
}

// scripted is a provider that a test holds up or makes fail. Its hooks are nil or run before, or
// after, the real thing.
type scripted struct {
	Provider
	beforeCharge, afterCharge, afterLookup, afterCancel, afterRefund func(context.Context) error
	beforeCancel                                                     func(context.Context) error
}

func hook(ctx context.Context, f func(context.Context) error) error {
	if f == nil {
		return nil
	}
	return f(ctx)
}

func (p *scripted) Charge(ctx context.Context, c Charge) (Outcome, error) {
	if err := hook(ctx, p.beforeCharge); err != nil {
		return Outcome{}, err
	}
	out, err := p.Provider.Charge(context.WithoutCancel(ctx), c)
	if err == nil {
		err = hook(ctx, p.afterCharge)
	}
	return out, err
}

func (p *scripted) Lookup(ctx context.Context, key string) (Outcome, error) {
	out, err := p.Provider.Lookup(ctx, key)
	if err == nil {
		err = hook(ctx, p.afterLookup)
	}
	return out, err
}

func (p *scripted) Cancel(ctx context.Context, key string) (Outcome, error) {
	if err := hook(ctx, p.beforeCancel); err != nil {
		return Outcome{}, err
	}
	out, err := p.Provider.Cancel(ctx, key)
	if err == nil {
		err = hook(ctx, p.afterCancel)
	}
	return out, err
}

func (p *scripted) Refund(ctx context.Context, key string, amount money.Amount) error {
	err := p.Provider.Refund(ctx, key, amount)
	if err == nil {
		err = hook(ctx, p.afterRefund)
	}
	return err
}

// script puts a scripted provider in front of the shop's own.
func (s *shop) script() *scripted {
	p := &scripted{Provider: s.provider}
	s.provider = p
	return p
}

// slowly tells how many charges of tok_slow the provider has before it.
func (s *shop) slowly() int {
	s.test.slow.mu.Lock()
	defer s.test.slow.mu.Unlock()
	return len(s.test.slow.inAir)
}

func newID() string { return ids.New() }
