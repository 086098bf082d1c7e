package payments

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cartwright/internal/fault"
	"cartwright/internal/testenv"
	"cartwright/proto/paymentspb"
	schema "cartwright/sql"
)

func TestEachTokenDoesWhatItSays(t *testing.T) { // P2
	t.Parallel()
	s := newShop(t)
	for _, method := range []string{"", tokOK, tokRefundFails} {
		id := newID()
		if state, err := s.charge(id, method); err != nil || state != paymentspb.State_STATE_CHARGED {
			t.Fatalf("%q: %v, %v", method, state, err)
		}
		s.wantState(id, charged)
		s.wantMoney(id, 4726)
	}
	for method, code := range map[string]string{tokDeclined: "card_declined", "tok_nobody_knows": "unknown_payment_method"} {
		id := newID()
		for range 2 { // a decline is for good
			_, err := s.charge(id, method)
			wantFault(t, err, fault.Refused, code)
		}
		s.wantState(id, declined)
		s.wantMoney(id, 0)
	}
}

func TestSlowProviderIsPendingAndThenCharged(t *testing.T) { // P2
	t.Parallel()
	s := newShop(t)
	s.chargeWait = impatient
	id := newID()
	if state, err := s.charge(id, tokSlow); err != nil || state != paymentspb.State_STATE_PENDING {
		t.Fatalf("first ask: %v, %v", state, err)
	}
	s.wantState(id, initiated)
	close(s.wake)
	s.mustCharge(id, tokSlow)
	s.wantMoney(id, 4726)
}

// The provider may take longer than we ever wait for one call. What it was asked goes on there.
func TestSlowProviderOutlastsOurCall(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.providerTime = impatient
	id := newID()
	testenv.Eventually(t, limit, "the provider has the charge before it", func() bool {
		_, err := s.charge(id, tokSlow)
		wantFault(t, err, fault.Unavailable, "unavailable")
		return s.slowly() == 1
	})
	s.wantMoney(id, 0)
	close(s.wake)
	testenv.Eventually(t, limit, "the provider is done", func() bool { return s.slowly() == 0 })
	s.wantMoney(id, 4726)
	s.mustCharge(id, tokSlow)
	s.wantMoney(id, 4726)
}

func TestSilentProviderIsAskedAgainAndChargesOnce(t *testing.T) { // P2
	t.Parallel()
	s := newShop(t)
	s.chargeWait, s.providerTime = impatient, time.Hour
	id := newID()
	if state, err := s.charge(id, tokSilent); err != nil || state != paymentspb.State_STATE_PENDING {
		t.Fatalf("first ask: %v, %v", state, err)
	}
	s.mustCharge(id, tokSilent) // while the first call is still waiting for the provider
	s.wantState(id, charged)
	s.wantMoney(id, 4726)
	if got := s.events(id); len(got) != 1 || got[0] != "payment.processed" {
		t.Fatalf("events %v", got)
	}
}

func TestFiftyAsksAreOneCharge(t *testing.T) { // P16
	t.Parallel()
	s := newShop(t)
	other := onDatabase(t, s.db) // another process on the same tables
	var atOnce, most, calls atomic.Int32
	for _, one := range []*shop{s, other} {
		one.script().beforeCharge = func(context.Context) error {
			calls.Add(1)
			if now := atOnce.Add(1); now > most.Load() {
				most.Store(now)
			}
			return nil
		}
		one.provider.(*scripted).afterCharge = func(context.Context) error { atOnce.Add(-1); return nil }
	}
	id := newID()
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			one := []*shop{s, other}[i%2]
			if state, err := one.charge(id, tokOK); err != nil || state != paymentspb.State_STATE_CHARGED {
				t.Errorf("%v, %v", state, err)
			}
		})
	}
	all.Wait()
	if most.Load() > 2 {
		t.Errorf("%d calls at once for one payment, from two processes", most.Load())
	}
	s.wantMoney(id, 4726)
	if got := s.events(id); len(got) != 1 {
		t.Errorf("events %v", got)
	}
}

func TestManyPaymentsShareTheirTransactions(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	var all sync.WaitGroup
	for range 1000 {
		all.Go(func() {
			if state, err := s.charge(newID(), ""); err != nil || state != paymentspb.State_STATE_CHARGED {
				t.Errorf("%v, %v", state, err)
			}
		})
	}
	all.Wait()
	var taken int64
	if err := s.db.QueryRowContext(t.Context(), "SELECT SUM(amount_minor) FROM test_provider_charges").Scan(&taken); err != nil || taken != 1000*4726 {
		t.Fatalf("taken %d, %v", taken, err)
	}
}

// A process died after it had made the row, before or after the provider had taken the money.
func TestRowLeftByACrashIsDecidedByTheProvider(t *testing.T) { // P16
	t.Parallel()
	for name, crash := range map[string]func(*scripted, error){
		"before the provider heard": func(p *scripted, dead error) { p.beforeCharge = func(context.Context) error { return dead } },
		"after it had charged":      func(p *scripted, dead error) { p.afterCharge = func(context.Context) error { return dead } },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			crash(s.script(), errors.New("process died"))
			id := newID()
			_, err := s.charge(id, tokOK)
			wantFault(t, err, fault.Unavailable, "unavailable")
			s.wantState(id, initiated)

			restarted := onDatabase(t, s.db)
			restarted.mustCharge(id, tokOK)
			s.wantState(id, charged)
			s.wantMoney(id, 4726)
			if got := s.events(id); len(got) != 1 {
				t.Errorf("events %v", got)
			}
		})
	}
}

func TestUnknownErrorOfTheProviderIsSilence(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	p := s.script()
	strange := func(context.Context) error { return errors.New("500 teapot") }
	p.beforeCharge, p.afterLookup = strange, strange
	id := newID()
	for range 2 { // the first asks for the charge, the second looks
		_, err := s.charge(id, tokOK)
		wantFault(t, err, fault.Unavailable, "unavailable")
	}
	p.beforeCharge = func(context.Context) error { panic("adapter is broken") }
	p.afterLookup = nil
	_, err := s.charge(id, tokOK)
	wantFault(t, err, fault.Internal, "internal")
	p.beforeCharge = nil
	s.mustCharge(id, tokOK)
	s.wantMoney(id, 4726)
}

func TestCallerWhoLeavesDoesNotStopTheCharge(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	reached, gate := make(chan struct{}), make(chan struct{})
	s.script().beforeCharge = func(context.Context) error { close(reached); <-gate; return nil }
	id := newID()
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() { _, err := s.Charge(ctx, euros(id, tokOK)); left <- err }()
	<-reached
	leave()
	wantFault(t, <-left, fault.Unavailable, "timeout")
	close(gate)
	testenv.Eventually(t, limit, "charged, though nobody waits", func() bool {
		var got state
		err := s.db.QueryRowContext(t.Context(), "SELECT state FROM payments WHERE payment_id = ?", id).Scan(&got)
		return err == nil && got == charged
	})
}

func TestAmountsAndCurrenciesStayExact(t *testing.T) { // P18
	t.Parallel()
	s := newShop(t)
	for _, want := range []struct {
		minor    int64
		currency string
	}{{4726, "EUR"}, {1, "JPY"}, {100_000_000_001, "USD"}, {math.MaxInt64, "XAU"}} {
		id := newID()
		req := &paymentspb.ChargeRequest{PaymentId: id, OrderId: orderOf(id), AmountMinor: want.minor, Currency: want.currency}
		if resp, err := s.Charge(t.Context(), req); err != nil || resp.GetState() != paymentspb.State_STATE_CHARGED {
			t.Fatalf("%d %s: %v, %v", want.minor, want.currency, resp, err)
		}
		for _, table := range []string{"payments WHERE payment_id", "test_provider_charges WHERE idempotency_key"} {
			var minor int64
			var currency string
			if err := s.db.QueryRowContext(t.Context(), "SELECT amount_minor, currency FROM "+table+" = ?", id).Scan(&minor, &currency); err != nil {
				t.Fatal(err)
			}
			if minor != want.minor || currency != want.currency {
				t.Errorf("%s has %d %s, want %d %s", table, minor, currency, want.minor, want.currency)
			}
		}
	}
}

func TestSameIDWithOtherTermsIsAMismatch(t *testing.T) { // P16, P18
	t.Parallel()
	s := newShop(t)
	id := newID()
	s.mustCharge(id, tokOK)
	for _, other := range []*paymentspb.ChargeRequest{
		{PaymentId: id, OrderId: orderOf(id), AmountMinor: 4727, Currency: "EUR", Method: tokOK},
		{PaymentId: id, OrderId: orderOf(id), AmountMinor: 4726, Currency: "USD", Method: tokOK},
		{PaymentId: id, OrderId: orderOf(id), AmountMinor: 4726, Currency: "EUR", Method: tokDeclined},
		{PaymentId: id, OrderId: orderOf(id), AmountMinor: 4726, Currency: "EUR"},
		{PaymentId: id, OrderId: "another", AmountMinor: 4726, Currency: "EUR", Method: tokOK},
	} {
		_, err := s.Charge(t.Context(), other)
		wantFault(t, err, fault.Mismatch, "payment_mismatch")
	}
	s.wantMoney(id, 4726)
}

func TestWrongRequestsNameTheField(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for field, req := range map[string]*paymentspb.ChargeRequest{
		"payment_id":    {PaymentId: "x' OR '1'='1", OrderId: "o", AmountMinor: 1, Currency: "EUR"},
		"order_id":      {PaymentId: "a", AmountMinor: 1, Currency: "EUR"},
		"amount_minor":  {PaymentId: "a", OrderId: "o", AmountMinor: 0, Currency: "EUR"},
		"amount_minor ": {PaymentId: "a", OrderId: "o", AmountMinor: -1, Currency: "EUR"},
		"currency":      {PaymentId: "a", OrderId: "o", AmountMinor: 1, Currency: "eur"},
		"method":        {PaymentId: "a", OrderId: "o", AmountMinor: 1, Currency: "EUR", Method: "4111111111111111"},
		"method ":       {PaymentId: "a", OrderId: "o", AmountMinor: 1, Currency: "EUR", Method: strings.Repeat("m", 65)},
	} {
		_, err := s.Charge(t.Context(), req)
		wantFault(t, err, fault.Invalid, "invalid_field")
		if got := fault.As(err).Field; got != strings.TrimSpace(field) {
			t.Errorf("field %q, want %q", got, field)
		}
	}
	_, err := s.Refund(t.Context(), &paymentspb.RefundRequest{})
	wantFault(t, err, fault.Invalid, "invalid_field")
}

// A charge waits for the database three times: for its row, for the test provider's books, and for
// the outcome with its event.
func TestEachSaveOfAChargeIsOneRoundTrip(t *testing.T) {
	t.Parallel()
	namespace := testenv.Namespace(t)
	testenv.Database(t, namespace, schema.Payments)
	db, proxy := testenv.OpenProxied(t, namespace+schema.Payments)
	m := newMetrics(prometheus.NewRegistry())
	test := newTestProvider(db, 0, m)
	s := newServer(db, timed{test, m.provider}, providerTest, m)
	before := proxy.Trips()
	resp, err := s.Charge(t.Context(), euros(newID(), tokOK))
	if err != nil || resp.GetState() != paymentspb.State_STATE_CHARGED {
		t.Fatalf("%v, %v", resp, err)
	}
	if trips := proxy.Trips() - before; trips != 3 {
		t.Errorf("%d round trips", trips)
	}
	s.charges.land()
	s.ledger.group.Wait()
	test.books.group.Wait()
}
