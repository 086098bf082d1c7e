package payments

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"cartwright/internal/fault"
	"cartwright/internal/testenv"
	"cartwright/proto/paymentspb"
)

// charge asks once, for no longer than a checkout would.
func (r running) charge(t *testing.T, id string) error {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	resp, err := r.client.Charge(ctx, euros(id, tokOK))
	if err == nil && resp.GetState() != paymentspb.State_STATE_CHARGED {
		err = fault.New(fault.Unavailable, "pending", "the payment is %s", resp.GetState())
	}
	return err
}

// insist asks until the payment is charged.
func (r running) insist(t *testing.T, id string) {
	for end := time.Now().Add(2 * limit); ; {
		err := r.charge(t, id)
		switch {
		case err == nil:
			return
		case !fault.Is(err, fault.Unavailable), time.Now().After(end):
			t.Errorf("payment %s: %v", id, err)
			return
		}
	}
}

func (r running) rows(t *testing.T, table string) (n int) {
	t.Helper()
	if err := r.db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM "+table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestDatabaseAwayIsUnavailableUntilItIsBack(t *testing.T) { // Z7
	t.Parallel()
	proxy, dsn := testenv.DatabaseProxy(t)
	_, url := testenv.Servers(t)
	r := startWith(t, dsn, url)
	proxy.Cut()
	r.wantReady(t, http.StatusServiceUnavailable)
	id := newID()
	if err := r.charge(t, id); !fault.Is(err, fault.Unavailable) {
		t.Errorf("%v, want unavailable", err)
	}
	proxy.Heal()
	r.wantReady(t, http.StatusOK)
	testenv.Eventually(t, limit, "charged, without a restart", func() bool { return r.charge(t, id) == nil })
}

// The worst cut of all: what the service wrote has been saved, and the answer is lost.
func TestAnswersLostByTheDatabaseChargeNobodyTwice(t *testing.T) { // P16
	t.Parallel()
	proxy, dsn := testenv.DatabaseProxy(t)
	_, url := testenv.Servers(t)
	r := startWith(t, dsn, url)
	const shoppers, payments = 20, 200
	var all sync.WaitGroup
	for range shoppers {
		all.Go(func() {
			for range payments / shoppers {
				r.insist(t, newID())
			}
		})
	}
	for cut := range 8 {
		testenv.Eventually(t, limit, "some are charged", func() bool { return r.rows(t, "payments WHERE state = 'charged'") >= cut*payments/10 })
		proxy.Mute()
		proxy.Drop()
		proxy.Heal()
	}
	all.Wait()
	for _, table := range []string{"payments WHERE state = 'charged'", "payments", "test_provider_charges WHERE outcome = 'charged'"} {
		if got := r.rows(t, table); got != payments {
			t.Errorf("%d rows of %s, want %d", got, table, payments)
		}
	}
	told := map[string]bool{} // an event may come twice, and never not at all
	for len(told) < payments {
		told[fmt.Sprint(r.nextEvent(t)["subject"])] = true
	}
}

func TestWithoutTheBrokerMoneyIsTakenAndToldOfLater(t *testing.T) { // E3, E13
	t.Parallel()
	dsn, _ := testenv.Servers(t)
	proxy, url := testenv.BrokerProxy(t)
	r := startWith(t, dsn, url)
	proxy.Cut()
	r.wantReady(t, http.StatusServiceUnavailable)
	id := newID()
	if err := r.charge(t, id); err != nil {
		t.Errorf("%v", err)
	}
	proxy.Heal()
	if e := r.nextEvent(t); e["subject"] != orderOf(id) || e["type"] != "payment.processed" {
		t.Errorf("event %v", e)
	}
	r.wantReady(t, http.StatusOK)
}
