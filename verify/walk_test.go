package verify

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"cartwright/internal/testenv"
)

// manyOrders are placed orders of three lines each, so that a page ends within one of them.
const manyOrders = 2 * pageRows / 3

// B5: a history of more than one page is read whole, and one row in it is named.
func TestAPageEndsWithinACheckout(t *testing.T) {
	t.Parallel()
	namespace, db := healthyShop(t)
	dsn, _ := testenv.Servers(t)
	var orders, lines, reservations, movements, payments, freezes []string
	for i := range manyOrders {
		id := fmt.Sprintf("many-%05d", i)
		orders = append(orders, fmt.Sprintf("('%s', 'of-%s', 'eve', REPEAT('x', 32), '', '', 'placed', '', '', 60, 'EUR', NOW(6), NOW(6), NULL)", id, id))
		payments = append(payments, fmt.Sprintf("('%s', 'of-%s', 60, 'EUR', '', 'bench', 'charged', NOW(6), NOW(6))", id, id))
		freezes = append(freezes, fmt.Sprintf("('%s', 'eve', 'frozen', '[]', NOW(6))", id))
		var contents []string
		for n, product := range []string{"cup", "fan", "hat"} {
			lines = append(lines, fmt.Sprintf("('%s', '%s', 'A thing', %d, 10)", id, product, n+1))
			movements = append(movements, fmt.Sprintf("('%s', '%s', 'sold', %d)", id, product, -n-1))
			contents = append(contents, fmt.Sprintf(`{"product":"%s","quantity":%d,"counted":%d}`, product, n+1, n+1))
		}
		reservations = append(reservations, fmt.Sprintf("('%s', 'sold', NULL, '[%s]')", id, strings.Join(contents, ",")))
	}
	for n, product := range []string{"cup", "fan", "hat"} {
		movements = append(movements, fmt.Sprintf("('all', '%s', 'adjusted', %d)", product, manyOrders*(n+1)))
	}
	for insert, rows := range map[string][]string{
		"{inventory}.stock (product_id, kind, on_hand, reserved)":                                                                                                                       {"('cup', 'finite', 0, 0)", "('fan', 'finite', 0, 0)", "('hat', 'finite', 0, 0)"},
		"{inventory}.reservations (reservation_id, state, expires_at, contents)":                                                                                                        reservations,
		"{inventory}.stock_movements (reference, product_id, kind, delta)":                                                                                                              movements,
		"{checkouts}.order_lines (checkout_id, product_id, name, quantity, unit_price_minor)":                                                                                           lines,
		"{carts}.freezes (checkout_id, client_id, state, contents, updated_at)":                                                                                                         freezes,
		"{payments}.payments (payment_id, order_id, amount_minor, currency, method, provider, state, created_at, updated_at)":                                                           payments,
		"{checkouts}.orders (checkout_id, order_id, client_id, request_hash, payment_method, email, state, reason_code, reason, total_minor, currency, created_at, updated_at, due_at)": orders,
	} {
		execute(t, db, namespace, "INSERT INTO "+insert+" VALUES "+strings.Join(rows, ", "), false)
	}
	expectAgreement(t, dsn, namespace, "of many orders")

	// The last row of the first page of lines is of the same checkout as the first of the second.
	torn := fmt.Sprintf("many-%05d", (pageRows-1)/3)
	execute(t, db, namespace, "UPDATE {checkouts}.order_lines SET unit_price_minor = 11 WHERE checkout_id = '"+torn+"' AND product_id = 'hat'", false)
	var out strings.Builder
	agree, err := RunJSON(t.Context(), &out, Settings{DSN: dsn, Namespace: namespace})
	if err != nil || agree {
		t.Errorf("agree is %t, error %v", agree, err)
	}
	var report struct {
		Agree    bool
		Findings []Finding
	}
	if err := json.Unmarshal([]byte(out.String()), &report); err != nil || report.Agree || len(report.Findings) != 1 {
		t.Fatalf("error %v in %s", err, out.String())
	}
	if want := "order of-" + torn + ": total 60, lines add up to 63"; fmt.Sprint(report.Findings[0].Rows) != "["+want+"]" {
		t.Errorf("named %q, want %q", report.Findings[0].Rows, want)
	}
}

// B5: what is in order at every moment is not found wrong for being read while it moves.
func TestWhatMovesMeanwhileIsNoFault(t *testing.T) {
	t.Parallel()
	namespace, db := healthyShop(t)
	dsn, _ := testenv.Servers(t)
	enough := time.Now().Add(5 * time.Second)
	looked := make(chan error)
	looks := 0
	go func() {
		for ; time.Now().Before(enough); looks++ {
			findings, err := Check(t.Context(), dsn, namespace)
			if err == nil && len(findings) > 0 {
				err = fmt.Errorf("found %v", findings)
			}
			if err != nil {
				looked <- err
				return
			}
		}
		looked <- nil
	}()
	moves := 0
	for ; time.Now().Before(enough); moves++ {
		execute(t, db, namespace, move(moves%2 == 1), false)
	}
	if err := <-looked; err != nil || moves < 2 || looks < 2 {
		t.Errorf("in %d looks at %d moves: %v", looks, moves, err)
	}
}

// move is a transaction that gives order-4 back, or sells it again.
func move(sell bool) string {
	onHand, state, cart, reservation, payment, refunded := 2, "failed", "thawed", "released", "refunded", 100
	ledger := "INSERT INTO {inventory}.stock_movements (reference, product_id, kind, delta) VALUES ('order-4', 'jar', 'returned', 1)"
	if sell {
		onHand, state, cart, reservation, payment, refunded = 1, "placed", "frozen", "sold", "charged", 0
		ledger = "DELETE FROM {inventory}.stock_movements WHERE reference = 'order-4' AND kind = 'returned'"
	}
	return strings.Join([]string{"START TRANSACTION", ledger,
		fmt.Sprintf("UPDATE {inventory}.stock SET on_hand = %d WHERE product_id = 'jar'", onHand),
		"UPDATE {checkouts}.orders SET state = '" + state + "' WHERE checkout_id = 'order-4'",
		"UPDATE {carts}.freezes SET state = '" + cart + "' WHERE checkout_id = 'order-4'",
		"UPDATE {inventory}.reservations SET state = '" + reservation + "' WHERE reservation_id = 'order-4'",
		"UPDATE {payments}.payments SET state = '" + payment + "' WHERE payment_id = 'order-4'",
		fmt.Sprintf("UPDATE {payments}.test_provider_charges SET refunded_minor = %d WHERE idempotency_key = 'order-4'", refunded),
		"COMMIT"}, ";")
}

// B5: what no table of ours can have is an error, not agreement.
func TestACheckoutOfMoreThanAPageIsAnError(t *testing.T) {
	t.Parallel()
	p := page{width: 1, text: strings.Repeat("a", pageRows)}
	for i := range pageRows {
		p.ends = append(p.ends, int32(i+1))
	}
	if err := p.dropLast(); err == nil || !strings.Contains(err.Error(), "a has 5000 rows and more") {
		t.Errorf("error %v", err)
	}
}
