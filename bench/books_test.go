package bench

import (
	"database/sql"
	"io"
	"strings"
	"testing"

	"cartwright/internal/progress"
	"cartwright/internal/store"
	"cartwright/internal/testenv"
	schema "cartwright/sql"
)

// books of a run in which clients 0 and 1 bought a unit each, and client 2's card was declined.
const rightBooks = `
INSERT INTO {checkouts}.orders (checkout_id, order_id, client_id, request_hash, payment_method, email, state, total_minor, currency, created_at, updated_at) VALUES
  ('o0', 'order-o0', 'bench-run-c0', REPEAT('x', 32), '', '', 'placed', 100, 'EUR', NOW(6), NOW(6)), ('o1', 'order-o1', 'bench-run-c1', REPEAT('x', 32), '', '', 'placed', 100, 'EUR', NOW(6), NOW(6)),
  ('o2', 'order-o2', 'bench-run-c2', REPEAT('x', 32), '', '', 'failed', 100, 'EUR', NOW(6), NOW(6));
INSERT INTO {checkouts}.order_lines (checkout_id, product_id, name, quantity, unit_price_minor) VALUES ('o0', 'bench-run-p0', 'P', 1, 100), ('o1', 'bench-run-p0', 'P', 1, 100);
INSERT INTO {inventory}.stock (product_id, kind, on_hand, reserved) VALUES ('bench-run-p0', 'finite', 0, 0);
INSERT INTO {inventory}.stock_movements (reference, product_id, kind, delta) VALUES ('in', 'bench-run-p0', 'adjusted', 2), ('o0', 'bench-run-p0', 'sold', -1), ('o1', 'bench-run-p0', 'sold', -1);
INSERT INTO {inventory}.reservations (reservation_id, state, contents) VALUES ('o0', 'sold', '[{"product":"bench-run-p0","quantity":1,"counted":1}]'), ('o1', 'sold', '[{"product":"bench-run-p0","quantity":1,"counted":1}]');
INSERT INTO {payments}.payments (payment_id, order_id, amount_minor, currency, method, provider, state, created_at, updated_at) VALUES
  ('o0', 'order-o0', 100, 'EUR', '', 'bench', 'charged', NOW(6), NOW(6)), ('o1', 'order-o1', 100, 'EUR', '', 'bench', 'charged', NOW(6), NOW(6)), ('o2', 'order-o2', 100, 'EUR', '', 'bench', 'declined', NOW(6), NOW(6))`

// wrongs are ways in which a shop can be wrong, and what must be said of them.
var wrongs = []struct {
	name, damage string
	told         map[int]string // by client: answered otherwise than in the books
	right        func(b Books) bool
	words        string
}{
	{"nothing", "", nil, func(b Books) bool {
		return b.right() && b.Paid == 2 && b.Cancelled == 1 && b.ToldPaid == 2 && b.ToldNo == 1
	}, ""},
	{"a unit is sold twice",
		"UPDATE {checkouts}.order_lines SET quantity = 2 WHERE checkout_id = 'o1'", nil,
		func(b Books) bool { return b.Oversold == 1 && !b.right() }, "2 came in, 3 were bought, 0 are left"},
	{"a unit is lost", "UPDATE {inventory}.stock SET on_hand = 1", nil,
		func(b Books) bool { return b.Oversold == 0 && !b.right() }, "2 came in, 2 were bought, 1 are left"},
	{"a checkout becomes two orders",
		`INSERT INTO {checkouts}.orders (checkout_id, order_id, client_id, request_hash, payment_method, email, state, created_at, updated_at) VALUES ('o3', 'order-o3', 'bench-run-c1', REPEAT('x', 32), '', '', 'failed', NOW(6), NOW(6))`, nil,
		func(b Books) bool { return b.Duplicates == 1 }, ""},
	{"a checkout is charged twice",
		`INSERT INTO {checkouts}.orders (checkout_id, order_id, client_id, request_hash, payment_method, email, state, created_at, updated_at) VALUES ('o3', 'order-o3', 'bench-run-c1', REPEAT('x', 32), '', '', 'failed', NOW(6), NOW(6));
		 INSERT INTO {payments}.payments (payment_id, order_id, amount_minor, currency, method, provider, state, created_at, updated_at) VALUES ('o3', 'order-o3', 100, 'EUR', '', 'bench', 'charged', NOW(6), NOW(6))`, nil,
		func(b Books) bool { return b.Duplicates == 2 }, "a failed checkout keeps no money"},
	{"an order that was confirmed is not there", "DELETE FROM {checkouts}.orders WHERE checkout_id = 'o1'", nil,
		func(b Books) bool { return b.Lost == 1 }, ""},
	{"an order that was confirmed was cancelled", "UPDATE {checkouts}.orders SET state = 'failed' WHERE checkout_id = 'o1'", nil,
		func(b Books) bool { return b.Lost == 1 }, ""},
	{"who was refused has a paid order", "", map[int]string{1: "409"},
		func(b Books) bool { return b.Lost == 0 && b.ToldNo == 2 }, "client bench-run-c1 was refused with 409, and has a paid order"},
	{"who asked for nothing has an order", "", map[int]string{1: ""},
		func(b Books) bool { return !b.right() }, "client bench-run-c1 asked for nothing"},
	{"an order of nobody", "UPDATE {checkouts}.orders SET client_id = 'bench-run-c77' WHERE checkout_id = 'o2'", nil,
		func(b Books) bool { return !b.right() }, "client bench-run-c77, who bought nothing"},
}

// B9: what a shop did wrong is found by looking into its books, whatever it told.
func TestTheBooksTellWhatWasWrong(t *testing.T) {
	t.Parallel()
	dsn, _ := testenv.Servers(t)
	for _, w := range wrongs {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			b := auditor(t, dsn)
			for _, statement := range strings.Split(rightBooks+";"+w.damage, ";") {
				if strings.TrimSpace(statement) == "" {
					continue
				}
				if _, err := b.db.Exec(b.sql(statement)); err != nil {
					t.Fatalf("%s: %v", statement, err)
				}
			}
			for client, said := range w.told {
				b.told[client] = notAsked
				if said != "" {
					b.told[client] = b.gen.answers.number(409, said)
				}
			}
			if err := b.audit(t.Context()); err != nil {
				t.Fatal(err)
			}
			books := b.report.Books
			if said := strings.Join(books.Differences, "\n"); !w.right(books) || !strings.Contains(said, w.words) {
				t.Errorf("found %+v", books)
			}
		})
	}
}

// An accepted job that has no order yet is waited for, and a confirmed one is not.
func TestAnAcceptedJobMayBeOnItsWay(t *testing.T) {
	t.Parallel()
	a := &Audit{Run: "bench-run", Told: []Told{{Later, "202"}, {Paid, "200"}}}
	for cart, want := range []bool{true, false} {
		var books Books
		a.compareOrder(&books, cart, "")
		if books.Lost != 1 || books.onItsWay != want {
			t.Errorf("told %s: %+v", a.Told[cart].Words, books)
		}
		books = Books{}
		if a.compareOrder(&books, cart, "placed"); books.Lost != 0 || books.onItsWay {
			t.Errorf("told %s, and placed: %+v", a.Told[cart].Words, books)
		}
	}
}

// auditor is a run that is over: clients 0 and 1 were told that they have paid, and client 2 no.
func auditor(t *testing.T, dsn string) *bench {
	t.Helper()
	namespace := testenv.Namespace(t)
	var db *sql.DB
	for _, d := range schema.Databases() {
		db = testenv.Database(t, namespace, d)
	}
	db, err := store.Open(dsn, "", 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	a := newAnswers("bench-run")
	return &bench{
		set: Settings{DSN: dsn, Namespace: namespace}, run: "bench-run", db: db, progress: progress.New(io.Discard), report: &Report{},
		gen: &generator{answers: a}, received: map[string]int64{"bench-run-p0": 2},
		told: []answer{success, success, a.number(402, "402 declined")},
	}
}
