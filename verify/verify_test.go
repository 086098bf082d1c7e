package verify

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"

	"cartwright/internal/testenv"
	schema "cartwright/sql"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// books is a healthy shop's rows: ann-1 is placed and paid, bob-1 was given back, cid-1 is on its way,
// and dan-1 is placed and paid too. Their checkouts are order-1 to order-4. The contents of order-1 are
// spelled as by an upgrade.
const books = `
INSERT INTO {inventory}.stock (product_id, kind, on_hand, reserved) VALUES ('tea', 'finite', 8, 1), ('pot', 'infinite', 0, 0), ('jar', 'finite', 1, 0);
INSERT INTO {inventory}.reservations (reservation_id, state, expires_at, contents) VALUES
  ('order-1', 'sold', NULL, '[{"counted": 2, "product": "tea", "quantity": 2}, {"counted": 0, "product": "pot", "quantity": 1}]'),
  ('order-2', 'released', NULL, '[{"product":"tea","quantity":3,"counted":3}]'),
  ('order-3', 'held', NOW(6) + INTERVAL 1 HOUR, '[{"product":"tea","quantity":1,"counted":1}]'),
  ('order-4', 'sold', NULL, '[{"product":"jar","quantity":1,"counted":1}]');
INSERT INTO {inventory}.stock_movements (reference, product_id, kind, delta) VALUES ('first', 'tea', 'adjusted', 10), ('order-1', 'tea', 'sold', -2), ('order-2', 'tea', 'sold', -3), ('order-2', 'tea', 'returned', 3), ('first', 'jar', 'adjusted', 2), ('order-4', 'jar', 'sold', -1);
INSERT INTO {checkouts}.orders (checkout_id, order_id, client_id, request_hash, payment_method, email, state, reason_code, reason, total_minor, currency, created_at, updated_at, due_at) VALUES
  ('order-1', 'ann-1', 'ann', REPEAT('x', 32), '', '', 'placed', '', '', 250, 'EUR', NOW(6), NOW(6), NULL),
  ('order-2', 'bob-1', 'bob', REPEAT('x', 32), '', '', 'failed', 'timed_out', 'took too long', 300, 'EUR', NOW(6), NOW(6), NULL),
  ('order-3', 'cid-1', 'cid', REPEAT('x', 32), '', '', 'placing', '', '', 0, '', NOW(6), NOW(6), NOW(6) + INTERVAL 1 MINUTE),
  ('order-4', 'dan-1', 'dan', REPEAT('x', 32), '', '', 'placed', '', '', 100, 'EUR', NOW(6), NOW(6), NULL);
INSERT INTO {checkouts}.order_lines (checkout_id, product_id, name, quantity, unit_price_minor) VALUES ('order-1', 'tea', 'Tea', 2, 100), ('order-1', 'pot', 'Pot', 1, 50), ('order-2', 'tea', 'Tea', 3, 100), ('order-4', 'jar', 'Jar', 1, 100);
INSERT INTO {payments}.payments (payment_id, order_id, amount_minor, currency, method, provider, state, created_at, updated_at) VALUES ('order-1', 'ann-1', 250, 'EUR', '', 'test', 'charged', NOW(6), NOW(6)), ('order-2', 'bob-1', 300, 'EUR', '', 'test', 'refunded', NOW(6), NOW(6)), ('order-4', 'dan-1', 100, 'EUR', '', 'test', 'charged', NOW(6), NOW(6));
INSERT INTO {payments}.test_provider_charges (idempotency_key, amount_minor, currency, method, outcome, refunded_minor) VALUES ('order-1', 250, 'EUR', '', 'charged', 0), ('order-2', 300, 'EUR', '', 'charged', 300), ('order-4', 100, 'EUR', '', 'charged', 0);
INSERT INTO {carts}.freezes (checkout_id, client_id, state, contents, updated_at) VALUES ('order-1', 'ann', 'frozen', '[]', NOW(6)), ('order-2', 'bob', 'thawed', '[]', NOW(6)), ('order-3', 'cid', 'frozen', '[]', NOW(6)), ('order-4', 'dan', 'frozen', '[]', NOW(6));
INSERT INTO {catalogue}.outbox (events) VALUES ('[]')`

// corruptions are ways in which one row can be wrong, the checks that must say so, and the row
// that they must name. unchecked takes the table's own constraints out of the way.
var corruptions = []struct {
	name, damage, repair string
	unchecked            bool
	named                string
	checks               []string
}{
	{"a unit appears from nowhere",
		"UPDATE {inventory}.stock SET on_hand = on_hand + 1 WHERE product_id = 'tea'", "UPDATE {inventory}.stock SET on_hand = on_hand - 1 WHERE product_id = 'tea'",
		false, "product tea: on hand 9, movements add up to 8", []string{"stock on hand is the sum of its movements"}},
	{"a movement's size is changed",
		"UPDATE {inventory}.stock_movements SET delta = -1 WHERE reference = 'order-1'", "UPDATE {inventory}.stock_movements SET delta = -2 WHERE reference = 'order-1'",
		false, "order-1", []string{"stock on hand is the sum of its movements", "what a reservation sold has left the shelf, and nothing else has"}},
	{"a movement of what nobody has",
		"INSERT INTO {inventory}.stock_movements (reference, product_id, kind, delta) VALUES ('ghost', 'cup', 'adjusted', 5)", "DELETE FROM {inventory}.stock_movements WHERE reference = 'ghost'",
		false, "product cup", []string{"every movement is of a product that has stock"}},
	{"a shelf below zero",
		"UPDATE {inventory}.stock SET on_hand = -1 WHERE product_id = 'pot'", "UPDATE {inventory}.stock SET on_hand = 0 WHERE product_id = 'pot'",
		true, "product pot: on hand -1", []string{"stock on hand is the sum of its movements", "stock is never below zero, nor below what is reserved"}},
	{"more is reserved than is there",
		"UPDATE {inventory}.stock SET reserved = 9 WHERE product_id = 'tea'", "UPDATE {inventory}.stock SET reserved = 1 WHERE product_id = 'tea'",
		true, "product tea: on hand 8, reserved 9", []string{"stock is never below zero, nor below what is reserved", "reserved stock is the sum of what is held"}},
	{"a reserved unit is forgotten",
		"UPDATE {inventory}.stock SET reserved = 0 WHERE product_id = 'tea'", "UPDATE {inventory}.stock SET reserved = 1 WHERE product_id = 'tea'",
		false, "product tea: reserved 0, held 1", []string{"reserved stock is the sum of what is held"}},
	{"a reservation outlives its time",
		"UPDATE {inventory}.reservations SET expires_at = NOW(6) - INTERVAL 2 MINUTE WHERE reservation_id = 'order-3'", "UPDATE {inventory}.reservations SET expires_at = NOW(6) + INTERVAL 1 HOUR WHERE reservation_id = 'order-3'",
		false, "reservation order-3", []string{"no reservation is held long after its time"}},
	{"a placed order's stock goes back",
		"UPDATE {inventory}.reservations SET state = 'released' WHERE reservation_id = 'order-1'", "UPDATE {inventory}.reservations SET state = 'sold' WHERE reservation_id = 'order-1'",
		false, "order ann-1 product tea", []string{"what a reservation sold has left the shelf, and nothing else has", "every line of a placed order was sold, in full"}},
	{"a line was sold in part",
		`UPDATE {inventory}.reservations SET contents = REPLACE(contents, '"pot", "quantity": 1', '"pot", "quantity": 2') WHERE reservation_id = 'order-1'`,
		`UPDATE {inventory}.reservations SET contents = REPLACE(contents, '"pot", "quantity": 2', '"pot", "quantity": 1') WHERE reservation_id = 'order-1'`,
		false, "order ann-1 product pot: bought 1, reserved 2", []string{"every line of a placed order was sold, in full"}},
	{"a reservation is lost",
		"UPDATE {inventory}.reservations SET reservation_id = 'ghost' WHERE reservation_id = 'order-1'", "UPDATE {inventory}.reservations SET reservation_id = 'order-1' WHERE reservation_id = 'ghost'",
		false, "reservation order-1 (none) product tea: sold and not returned 2", []string{"what a reservation sold has left the shelf, and nothing else has", "every line of a placed order was sold, in full"}},
	{"a plain line was sold in part",
		`UPDATE {inventory}.reservations SET contents = REPLACE(contents, '1', '2') WHERE reservation_id = 'order-4'`,
		`UPDATE {inventory}.reservations SET contents = REPLACE(contents, '2', '1') WHERE reservation_id = 'order-4'`,
		false, "order dan-1 product jar: bought 1, reserved 2", []string{"what a reservation sold has left the shelf, and nothing else has", "every line of a placed order was sold, in full"}},
	{"what was counted is changed",
		`UPDATE {inventory}.reservations SET contents = REPLACE(contents, '"counted":1', '"counted":0') WHERE reservation_id IN ('order-3', 'order-4')`,
		`UPDATE {inventory}.reservations SET contents = REPLACE(contents, '"counted":0', '"counted":1') WHERE reservation_id IN ('order-3', 'order-4')`,
		false, "reservation order-4 (sold) product jar: counted 0, sold 1", []string{"reserved stock is the sum of what is held", "what a reservation sold has left the shelf, and nothing else has"}},
	{"a sale is forgotten, and the units are on the shelf",
		"UPDATE {inventory}.stock SET on_hand = 2 WHERE product_id = 'jar'; DELETE FROM {inventory}.stock_movements WHERE reference = 'order-4'",
		"UPDATE {inventory}.stock SET on_hand = 1 WHERE product_id = 'jar'; INSERT INTO {inventory}.stock_movements (reference, product_id, kind, delta) VALUES ('order-4', 'jar', 'sold', -1)",
		false, "reservation order-4 (sold) product jar: counted 1, sold 0", []string{"what a reservation sold has left the shelf, and nothing else has"}},
	{"what is only held has left the shelf",
		"UPDATE {inventory}.stock SET on_hand = 7 WHERE product_id = 'tea'; INSERT INTO {inventory}.stock_movements (reference, product_id, kind, delta) VALUES ('order-3', 'tea', 'sold', -1)",
		"UPDATE {inventory}.stock SET on_hand = 8 WHERE product_id = 'tea'; DELETE FROM {inventory}.stock_movements WHERE reference = 'order-3'",
		false, "reservation order-3 (held) product tea: sold and not returned 1", []string{"what a reservation sold has left the shelf, and nothing else has"}},
	{"what nobody bought has left the shelf",
		"UPDATE {inventory}.stock SET on_hand = 7 WHERE product_id = 'tea'; INSERT INTO {inventory}.stock_movements (reference, product_id, kind, delta) VALUES ('order-4', 'tea', 'sold', -1)",
		"UPDATE {inventory}.stock SET on_hand = 8 WHERE product_id = 'tea'; DELETE FROM {inventory}.stock_movements WHERE reference = 'order-4' AND product_id = 'tea'",
		false, "reservation order-4 (sold) product tea: sold and not returned 1", []string{"what a reservation sold has left the shelf, and nothing else has"}},
	{"an order's total is changed",
		"UPDATE {checkouts}.orders SET total_minor = 251 WHERE order_id = 'ann-1'", "UPDATE {checkouts}.orders SET total_minor = 250 WHERE order_id = 'ann-1'",
		false, "order ann-1: total 251", []string{"every placed order has lines, and they add up to its total", "every placed order was paid, exactly"}},
	{"a failed checkout keeps stock",
		"UPDATE {inventory}.reservations SET state = 'sold' WHERE reservation_id = 'order-2'", "UPDATE {inventory}.reservations SET state = 'released' WHERE reservation_id = 'order-2'",
		false, "order bob-1: reservation is sold", []string{"what a reservation sold has left the shelf, and nothing else has", "a failed checkout holds no stock"}},
	{"a payment is made smaller",
		"UPDATE {payments}.payments SET amount_minor = 1 WHERE payment_id = 'order-1'", "UPDATE {payments}.payments SET amount_minor = 250 WHERE payment_id = 'order-1'",
		false, "order ann-1", []string{"every placed order was paid, exactly", "the provider's books say what ours say"}},
	{"a payment in another currency",
		"UPDATE {payments}.payments SET currency = 'USD' WHERE payment_id = 'order-1'", "UPDATE {payments}.payments SET currency = 'EUR' WHERE payment_id = 'order-1'",
		false, "order ann-1", []string{"every placed order was paid, exactly"}},
	{"a placed order's payment was given back",
		"UPDATE {payments}.payments SET state = 'refunded' WHERE payment_id = 'order-1'", "UPDATE {payments}.payments SET state = 'charged' WHERE payment_id = 'order-1'",
		false, "payment order-1 is refunded", []string{"every placed order was paid, exactly", "the provider's books say what ours say"}},
	{"a failed checkout keeps money",
		"UPDATE {payments}.payments SET state = 'charged' WHERE payment_id = 'order-2'", "UPDATE {payments}.payments SET state = 'refunded' WHERE payment_id = 'order-2'",
		false, "order bob-1: payment is charged", []string{"a failed checkout keeps no money", "the provider's books say what ours say"}},
	{"a charge without an order",
		"UPDATE {payments}.payments SET payment_id = 'ghost' WHERE payment_id = 'order-1'", "UPDATE {payments}.payments SET payment_id = 'order-1' WHERE payment_id = 'ghost'",
		false, "payment ghost of 250 EUR", []string{"every placed order was paid, exactly", "every charge belongs to an order", "the provider's books say what ours say", "the provider charged nothing that we do not know"}},
	{"a charge for another order",
		"UPDATE {payments}.payments SET order_id = 'bob-1' WHERE payment_id = 'order-1'", "UPDATE {payments}.payments SET order_id = 'ann-1' WHERE payment_id = 'order-1'",
		false, "payment order-1 of 250 EUR for order bob-1", []string{"every charge belongs to an order"}},
	{"the provider kept half of a refund",
		"UPDATE {payments}.test_provider_charges SET refunded_minor = 150 WHERE idempotency_key = 'order-2'", "UPDATE {payments}.test_provider_charges SET refunded_minor = 300 WHERE idempotency_key = 'order-2'",
		false, "payment order-2 is refunded", []string{"the provider's books say what ours say"}},
	{"the provider charged what we call cancelled",
		"UPDATE {payments}.payments SET state = 'cancelled' WHERE payment_id = 'order-2'; UPDATE {payments}.test_provider_charges SET refunded_minor = 0 WHERE idempotency_key = 'order-2'",
		"UPDATE {payments}.payments SET state = 'refunded' WHERE payment_id = 'order-2'; UPDATE {payments}.test_provider_charges SET refunded_minor = 300 WHERE idempotency_key = 'order-2'",
		false, "payment order-2 is cancelled", []string{"the provider's books say what ours say"}},
	{"the provider charged a stranger",
		"INSERT INTO {payments}.test_provider_charges (idempotency_key, amount_minor, currency, method, outcome) VALUES ('ghost', 5, 'EUR', '', 'charged')", "DELETE FROM {payments}.test_provider_charges WHERE idempotency_key = 'ghost'",
		false, "charge ghost over 5 EUR", []string{"the provider charged nothing that we do not know"}},
	{"nobody walks a checkout",
		"UPDATE {checkouts}.orders SET due_at = NOW(6) - INTERVAL 2 MINUTE WHERE order_id = 'cid-1'", "UPDATE {checkouts}.orders SET due_at = NOW(6) + INTERVAL 1 MINUTE WHERE order_id = 'cid-1'",
		false, "order cid-1 is placing", []string{"no checkout is stuck"}},
	{"a placed order's cart is given back",
		"UPDATE {carts}.freezes SET state = 'thawed' WHERE checkout_id = 'order-1'", "UPDATE {carts}.freezes SET state = 'frozen' WHERE checkout_id = 'order-1'",
		false, "order ann-1 is placed, its cart is thawed", []string{"a cart's frozen lines go where its checkout went"}},
	{"a failed checkout's cart is not given back",
		"UPDATE {carts}.freezes SET state = 'frozen' WHERE checkout_id = 'order-2'", "UPDATE {carts}.freezes SET state = 'thawed' WHERE checkout_id = 'order-2'",
		false, "order bob-1 is failed, its cart is frozen", []string{"a cart's frozen lines go where its checkout went"}},
	{"lines are frozen for nobody",
		"UPDATE {carts}.freezes SET checkout_id = 'ghost' WHERE checkout_id = 'order-3'", "UPDATE {carts}.freezes SET checkout_id = 'order-3' WHERE checkout_id = 'ghost'",
		false, "checkout ghost of cid", []string{"lines are frozen only for a checkout"}},
	{"an event does not leave",
		"UPDATE {catalogue}.outbox SET created_at = NOW(6) - INTERVAL 2 MINUTE", "UPDATE {catalogue}.outbox SET created_at = NOW(6)",
		false, "catalogue: the events of 1 transactions wait", []string{"events leave"}},
}

// B5: whatever row is wrong, it is named; a healthy shop agrees, before and after.
func TestEveryCorruptRowIsNamed(t *testing.T) {
	t.Parallel()
	namespace, db := healthyShop(t)
	dsn, _ := testenv.Servers(t)
	fired := map[string]bool{}
	for _, c := range corruptions {
		expectAgreement(t, dsn, namespace, "before "+c.name)
		execute(t, db, namespace, c.damage, c.unchecked)
		findings, err := Check(t.Context(), dsn, namespace)
		if err != nil {
			t.Fatal(err)
		}
		var found, rows []string
		for _, f := range findings {
			found, rows = append(found, f.Check), append(rows, f.Rows...)
			fired[f.Check] = true
		}
		if fmt.Sprint(found) != fmt.Sprint(c.checks) {
			t.Errorf("%s: found %q, want %q", c.name, found, c.checks)
		}
		if !strings.Contains(strings.Join(rows, "\n"), c.named) {
			t.Errorf("%s: named %q, want %q among them", c.name, rows, c.named)
		}
		execute(t, db, namespace, c.repair, c.unchecked)
	}
	expectAgreement(t, dsn, namespace, "at the end")
	for _, c := range checks {
		if !fired[c.name] {
			t.Errorf("no corruption makes %q speak", c.name)
		}
	}
}

// B5: what cannot be shown whole is counted, and what cannot be read is an error, not agreement.
func TestManyRowsAreCountedAndNoneIsNoAgreement(t *testing.T) {
	t.Parallel()
	namespace, db := healthyShop(t)
	dsn, _ := testenv.Servers(t)
	var rows []string
	for i := range rowsMax + 3 {
		rows = append(rows, fmt.Sprintf("('ghost-%d', 5, 'EUR', '', 'charged')", i))
	}
	execute(t, db, namespace, "INSERT INTO {payments}.test_provider_charges (idempotency_key, amount_minor, currency, method, outcome) VALUES "+strings.Join(rows, ", "), false)
	var out strings.Builder
	agree, err := Run(t.Context(), &out, Settings{DSN: dsn, Namespace: namespace})
	if err != nil || agree {
		t.Errorf("agree is %t, error %v", agree, err)
	}
	if n := strings.Count(out.String(), "  charge ghost-"); n != rowsMax || !strings.Contains(out.String(), "and 3 more") {
		t.Errorf("%d rows named in:\n%s", n, out.String())
	}
	out.Reset()
	if agree, err := Run(t.Context(), &out, Settings{DSN: dsn, Namespace: "no_such_shop_"}); err == nil || agree || out.Len() > 0 {
		t.Errorf("of no shop: agree is %t, error %v, said %q", agree, err, out.String())
	}
}

func healthyShop(t *testing.T) (namespace string, db *sql.DB) {
	t.Helper()
	namespace = testenv.Namespace(t)
	for _, d := range schema.Databases() {
		db = testenv.Database(t, namespace, d)
	}
	execute(t, db, namespace, books, false)
	return namespace, db
}

// execute runs statements divided by ";" on one connection.
func execute(t *testing.T, db *sql.DB, namespace, statements string, unchecked bool) {
	t.Helper()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	all := strings.Split(schema.InNamespace(statements, namespace), ";")
	if unchecked {
		before, after := uncheck(t, conn, namespace)
		all = slices.Concat(before, all, after)
	}
	for _, s := range all {
		if _, err := conn.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// uncheck returns what keeps the server from refusing what its tables do not allow. MariaDB lets a
// session do without its checks, until it wants them again; MySQL a table, for good.
func uncheck(t *testing.T, conn *sql.Conn, namespace string) (before, after []string) {
	t.Helper()
	var version string
	if err := conn.QueryRowContext(t.Context(), "SELECT VERSION()").Scan(&version); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(version, "MariaDB") {
		return []string{"SET SESSION check_constraint_checks = OFF"}, []string{"SET SESSION check_constraint_checks = ON"}
	}
	rows, err := conn.QueryContext(t.Context(), `
		SELECT CONCAT('ALTER TABLE ', table_schema, '.', table_name, ' ALTER CHECK ', constraint_name, ' NOT ENFORCED')
		FROM   information_schema.table_constraints
		WHERE  constraint_type = 'CHECK' AND LEFT(table_schema, ?) = ?`, len(namespace), namespace)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		before = append(before, s)
	}
	if err := rows.Err(); err != nil || len(before) == 0 {
		t.Fatalf("%d checks to take out of the way, error %v", len(before), err)
	}
	return before, nil
}

func expectAgreement(t *testing.T, dsn, namespace, when string) {
	t.Helper()
	var out strings.Builder
	agree, err := Run(t.Context(), &out, Settings{DSN: dsn, Namespace: namespace})
	if err != nil || !agree || out.String() != "all balances agree\n" {
		t.Fatalf("%s: agree is %t, error %v:\n%s", when, agree, err, out.String())
	}
}
