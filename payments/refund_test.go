package payments

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cartwright/internal/fault"
	"cartwright/internal/testenv"
	"cartwright/proto/paymentspb"
)

func TestRefundGivesTheMoneyBackOnce(t *testing.T) { // P15
	t.Parallel()
	s := newShop(t)
	id := newID()
	s.mustCharge(id, tokOK)
	for range 3 {
		s.mustRefund(id)
	}
	s.wantState(id, refunded)
	s.wantMoney(id, 0)
	_, err := s.charge(id, tokOK)
	wantFault(t, err, fault.Refused, "payment_cancelled")
	if got := s.events(id); !slices.Equal(got, []string{"payment.processed", "payment.refunded"}) {
		t.Errorf("events %v", got)
	}
}

func TestRefundBeforeChargeRefusesTheCharge(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	id := newID()
	s.mustRefund(id)
	s.mustRefund(id)
	_, err := s.charge(id, tokOK)
	wantFault(t, err, fault.Refused, "payment_cancelled")
	s.wantState(id, cancelled)
	s.wantMoney(id, 0)
	if got := s.events(id); len(got) != 0 {
		t.Errorf("events %v of a payment that never was", got)
	}
}

func TestRefundOfADeclineIsNothing(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	id := newID()
	_, err := s.charge(id, tokDeclined)
	wantFault(t, err, fault.Refused, "card_declined")
	s.mustRefund(id)
	s.wantState(id, declined)
}

func TestRefusedRefundStaysOnItsWay(t *testing.T) { // P2
	t.Parallel()
	s := newShop(t)
	id := newID()
	s.mustCharge(id, tokRefundFails)
	for range 2 {
		wantFault(t, s.refund(id), fault.Refused, "refund_refused")
		s.wantState(id, cancelling)
	}
	s.wantMoney(id, 4726)
	_, err := s.charge(id, tokRefundFails)
	wantFault(t, err, fault.Refused, "payment_cancelled")
}

// A charge was paused at each point of its way while the refund ran to its end: wherever that was,
// it is refused when it wakes up, and no money stays at the provider.
func TestChargeThatWakesUpAfterItsRefundIsRefused(t *testing.T) { // P15
	t.Parallel()
	for name, end := range map[string]state{"before the provider heard": cancelled, "after it had charged": refunded} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			reached, gate := make(chan struct{}), make(chan struct{})
			hold := func(context.Context) error { close(reached); <-gate; return nil }
			if p := s.script(); end == cancelled {
				p.beforeCharge = hold
			} else {
				p.afterCharge = hold
			}
			id := newID()
			woke := make(chan error)
			go func() { _, err := s.charge(id, tokOK); woke <- err }()
			<-reached
			onDatabase(t, s.db).mustRefund(id)
			s.wantState(id, end)
			close(gate)
			wantFault(t, <-woke, fault.Refused, "payment_cancelled")
			s.wantState(id, end)
			s.wantMoney(id, 0)
		})
	}
}

func TestSlowChargeIsCancelledBeforeItHappens(t *testing.T) { // P2, P15
	t.Parallel()
	s := newShop(t)
	s.chargeWait = impatient
	id := newID()
	if state, err := s.charge(id, tokSlow); err != nil || state != paymentspb.State_STATE_PENDING {
		t.Fatalf("%v, %v", state, err)
	}
	testenv.Eventually(t, limit, "the provider has the charge before it", func() bool { return s.slowly() == 1 })
	s.mustRefund(id)
	s.wantState(id, cancelled)
	close(s.wake)
	testenv.Eventually(t, limit, "the slow charge has woken up", func() bool { return s.slowly() == 0 })
	s.wantMoney(id, 0)
}

// The provider is silent at each step of the way back, with or without having done it.
func TestRefundGoesOnWhereSilenceStoppedIt(t *testing.T) {
	t.Parallel()
	silent := func(context.Context) error { return errors.New("connection reset") }
	for name, script := range map[string]func(*scripted){
		"cancellation lost":     func(p *scripted) { p.beforeCancel = silent },
		"cancellation unheard":  func(p *scripted) { p.afterCancel = silent },
		"refund done, no reply": func(p *scripted) { p.afterRefund = silent },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			id := newID()
			s.mustCharge(id, tokOK)
			real := s.provider
			script(s.script())
			wantFault(t, s.refund(id), fault.Unavailable, "unavailable")
			s.wantState(id, cancelling)
			s.provider = real
			s.mustRefund(id)
			s.wantState(id, refunded)
			s.wantMoney(id, 0)
			if got := s.events(id); !slices.Equal(got, []string{"payment.processed", "payment.refunded"}) {
				t.Errorf("events %v", got)
			}
		})
	}
}

// Charges and refunds of the same payments race in two processes. Whatever the order, the refund
// wins in the end: no money stays, and no later charge is possible.
func TestRefundWinsEveryRace(t *testing.T) { // P15
	t.Parallel()
	s := newShop(t)
	other := onDatabase(t, s.db)
	for _, one := range []*shop{s, other} {
		one.chargeWait, one.providerTime = impatient, 5*time.Second
	}
	methods := []string{tokOK, tokSilent, tokSlow, tokDeclined}
	const payments = 200
	ids := make([]string, payments)
	var all sync.WaitGroup
	for i := range ids {
		ids[i] = newID()
		method := methods[i%len(methods)]
		for _, one := range []*shop{s, other} {
			all.Go(func() { raceCharge(t, one, ids[i], method) })
		}
		all.Go(func() { raceRefund(t, other, ids[i]) })
		all.Go(func() { raceRefund(t, s, ids[i]) })
	}
	close(s.wake)
	close(other.wake)
	all.Wait()
	for i, id := range ids {
		s.wantMoney(id, 0)
		_, err := s.charge(id, methods[i%len(methods)])
		if !fault.Is(err, fault.Refused) {
			t.Fatalf("charge %s after all: %v", id, err)
		}
	}
	var open int
	if err := s.db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM payments WHERE state NOT IN ('cancelled', 'refunded', 'declined')").Scan(&open); err != nil || open != 0 {
		t.Fatalf("%d payments still open, %v", open, err)
	}
}

func raceCharge(t *testing.T, s *shop, id, method string) {
	if _, err := s.charge(id, method); err != nil && !fault.Is(err, fault.Refused) && !fault.Is(err, fault.Unavailable) {
		t.Errorf("charge %s: %v", id, err)
	}
}

func raceRefund(t *testing.T, s *shop, id string) {
	for {
		err := s.refund(id)
		if err == nil {
			return
		}
		if !fault.Is(err, fault.Unavailable) {
			t.Errorf("refund %s: %v", id, err)
			return
		}
	}
}

func TestReasonTooLongForTheBooksIsCut(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	id := newID()
	if _, err := s.Refund(t.Context(), &paymentspb.RefundRequest{PaymentId: id, Reason: strings.Repeat("é", 2*reasonMax)}); err != nil {
		t.Fatal(err)
	}
	var length int
	if err := s.db.QueryRowContext(t.Context(), "SELECT CHAR_LENGTH(reason) FROM payments WHERE payment_id = ?", id).Scan(&length); err != nil || length != reasonMax {
		t.Fatalf("%d characters, %v", length, err)
	}
}
