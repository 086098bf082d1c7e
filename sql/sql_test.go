package schema_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-sql-driver/mysql"

	"cartwright/internal/outbox"
	"cartwright/internal/store"
	"cartwright/internal/testenv"
	schema "cartwright/sql"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// Z11: up on an empty server, up again, all the way down, and up once more; each time the tables
// are the same.
func TestEveryDatabaseGoesUpAndDown(t *testing.T) {
	t.Parallel()
	namespace := testenv.Namespace(t)
	dsn, _ := testenv.Servers(t)
	for _, d := range schema.Databases() {
		first := up(t, dsn, namespace, d)
		if again := up(t, dsn, namespace, d); again != first {
			t.Errorf("%s: a second up changed it from\n%s\nto\n%s", d, first, again)
		}
		newest := version(t, dsn, namespace, d)
		for v := newest; v > 0; v-- {
			if err := schema.Down(t.Context(), dsn, namespace, d); err != nil {
				t.Fatal(err)
			}
			if got := version(t, dsn, namespace, d); got != v-1 {
				t.Errorf("%s: version %d after down from %d", d, got, v)
			}
		}
		if left := describe(t, namespace+d); left != "" {
			t.Errorf("%s: down has left\n%s", d, left)
		}
		if again := up(t, dsn, namespace, d); again != first {
			t.Errorf("%s: after down, up made\n%s\nwant\n%s", d, again, first)
		}
	}
}

// Z11: events that wait while the outbox changes are told all the same, in their order, whichever
// way it changes.
func TestEventsOutliveAnUpgrade(t *testing.T) {
	t.Parallel()
	namespace := testenv.Namespace(t)
	dsn, _ := testenv.Servers(t)
	up(t, dsn, namespace, schema.Carts)
	testenv.Down(t, namespace, schema.Carts, 1)
	db := testenv.Open(t, namespace+schema.Carts)
	exec(t, db, `INSERT INTO outbox (event_id, type, subject, data) VALUES ('e1', 'cart.thawed', 'ann', '{"a":"\\"ä"}'), ('e2', 'cart.thawed', 'bob', '{}')`)
	for range 2 {
		up(t, dsn, namespace, schema.Carts)
		_, events, err := outbox.Waiting(t.Context(), db, 1000)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range events {
			got = append(got, fmt.Sprintf("%s %s %s %s", e.ID, e.Type, e.Subject, strings.ReplaceAll(string(e.Data), " ", "")))
		}
		if want := []string{`e1 cart.thawed ann {"a":"\"ä"}`, "e2 cart.thawed bob {}"}; !slices.Equal(got, want) {
			t.Errorf("waiting are %q, want %q", got, want)
		}
		testenv.Down(t, namespace, schema.Carts, 1)
	}
}

// What checkouts have frozen, they have after the upgrade, and after the way back.
func TestFrozenLinesOutliveAnUpgrade(t *testing.T) {
	t.Parallel()
	namespace := testenv.Namespace(t)
	dsn, _ := testenv.Servers(t)
	up(t, dsn, namespace, schema.Carts)
	testenv.Down(t, namespace, schema.Carts, 3)
	db := testenv.Open(t, namespace+schema.Carts)
	exec(t, db, "INSERT INTO freezes (checkout_id, client_id, state, updated_at) VALUES ('o1', 'ann', 'frozen', NOW(6)), ('o2', 'bob', 'settled', NOW(6)), ('o3', 'cid', 'thawed', NOW(6))")
	exec(t, db, `INSERT INTO frozen_lines (checkout_id, product_id, name, quantity, unit_price_minor, currency) VALUES ('o1', 'tea', 'Tea "ä"', 2, 450, 'EUR')`)
	for range 2 {
		up(t, dsn, namespace, schema.Carts)
		var states, contents string
		if err := db.QueryRow("SELECT GROUP_CONCAT(state ORDER BY checkout_id), (SELECT contents FROM freezes WHERE checkout_id = 'o1') FROM freezes").Scan(&states, &contents); err != nil {
			t.Fatal(err)
		}
		var lines []map[string]any
		if err := json.Unmarshal([]byte(contents), &lines); err != nil || states != "frozen,frozen,thawed" ||
			fmt.Sprint(lines) != `[map[currency:EUR name:Tea "ä" price:450 product:tea quantity:2]]` {
			t.Errorf("the freezes are %s, and the first has %v (%v)", states, lines, err)
		}
		testenv.Down(t, namespace, schema.Carts, 3)
	}
}

// What reservations promise, they promise after the upgrade, and after the way back.
func TestPromisesOutliveAnUpgrade(t *testing.T) {
	t.Parallel()
	namespace := testenv.Namespace(t)
	dsn, _ := testenv.Servers(t)
	up(t, dsn, namespace, schema.Inventory)
	testenv.Down(t, namespace, schema.Inventory, 2)
	db := testenv.Open(t, namespace+schema.Inventory)
	exec(t, db, "INSERT INTO reservations (reservation_id, state, expires_at) VALUES ('r1', 'held', NOW(6)), ('r2', 'sold', NULL), ('r3', 'released', NULL), ('r4', 'released', NULL)")
	exec(t, db, "INSERT INTO reservation_lines (reservation_id, product_id, quantity, counted) VALUES ('r1', 'pot', 1, 0), ('r1', 'tea', 2, 2), ('r2', 'tea', 3, 3), ('r3', 'tea', 4, 4)")
	before := text(t, db, "SELECT GROUP_CONCAT(reservation_id, product_id, quantity, '/', counted ORDER BY 1) FROM reservation_lines")
	for range 2 {
		up(t, dsn, namespace, schema.Inventory)
		for id, want := range map[string]string{
			"r1": "held [map[counted:0 product:pot quantity:1] map[counted:2 product:tea quantity:2]]", "r2": "sold [map[counted:3 product:tea quantity:3]]",
			"r3": "released [map[counted:4 product:tea quantity:4]]", "r4": "released []",
		} {
			var lines []map[string]any
			if err := json.Unmarshal([]byte(text(t, db, "SELECT contents FROM reservations WHERE reservation_id = '"+id+"'")), &lines); err != nil {
				t.Error(err)
			}
			slices.SortFunc(lines, func(a, b map[string]any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
			if got := fmt.Sprint(text(t, db, "SELECT state FROM reservations WHERE reservation_id = '"+id+"'"), " ", lines); got != want {
				t.Errorf("%s is %s, want %s", id, got, want)
			}
		}
		testenv.Down(t, namespace, schema.Inventory, 2)
		if after := text(t, db, "SELECT GROUP_CONCAT(reservation_id, product_id, quantity, '/', counted ORDER BY 1) FROM reservation_lines"); after != before || before == "" {
			t.Errorf("lines are %s, and were %s", after, before)
		}
	}
}

func text(t *testing.T, db *sql.DB, query string) (value string) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), query).Scan(&value); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return value
}

// Checkouts that an earlier version has begun, ended and charged go on under the IDs that others have
// made their promises under, and new ones have their own. On the way back, every line stays with
// its order.
func TestCheckoutsOutliveTheirNewIDs(t *testing.T) {
	t.Parallel()
	namespace := testenv.Namespace(t)
	dsn, _ := testenv.Servers(t)
	up(t, dsn, namespace, schema.Checkouts)
	up(t, dsn, namespace, schema.Payments)
	testenv.Down(t, namespace, schema.Checkouts, 4)
	testenv.Down(t, namespace, schema.Payments, 2)
	checkouts, payments := testenv.Open(t, namespace+schema.Checkouts), testenv.Open(t, namespace+schema.Payments)
	const columns, rest = "client_id, request_hash, payment_method, email, state, created_at, updated_at, due_at", ", REPEAT('x', 32), '', '', 'placing', NOW(6), NOW(6), NOW(6))"
	exec(t, checkouts, "INSERT INTO orders (order_id, "+columns+") VALUES ('o1', 'ann'"+rest+", ('o2', 'bob'"+rest)
	exec(t, checkouts, "INSERT INTO order_lines (order_id, product_id, name, quantity, unit_price_minor) VALUES ('o1', 'tea', 'Tea', 2, 450)")
	exec(t, payments, `INSERT INTO payments (payment_id, amount_minor, currency, method, provider, state, created_at, updated_at) VALUES
		('o1', 900, 'EUR', '', 'test', 'charged', NOW(6), NOW(6)), ('o2', 0, '', '', 'test', 'cancelled', NOW(6), NOW(6))`)

	up(t, dsn, namespace, schema.Checkouts)
	up(t, dsn, namespace, schema.Payments)
	expectText(t, checkouts, "SELECT GROUP_CONCAT(checkout_id, '=', order_id ORDER BY checkout_id) FROM orders", "o1=o1,o2=o2")
	expectText(t, checkouts, "SELECT GROUP_CONCAT(checkout_id, ' ', product_id) FROM order_lines", "o1 tea")
	expectText(t, payments, "SELECT GROUP_CONCAT(payment_id, '=', order_id ORDER BY payment_id) FROM payments", "o1=o1,o2=")
	exec(t, checkouts, "INSERT INTO orders (checkout_id, order_id, "+columns+") VALUES ('c3', 'o3', 'cid'"+rest)
	exec(t, checkouts, "INSERT INTO order_lines (checkout_id, product_id, name, quantity, unit_price_minor) VALUES ('c3', 'pot', 'Pot', 1, 100)")
	for _, twice := range []string{"('c4', 'o3', 'cid'", "('c3', 'o4', 'cid'"} {
		if err := execAs(t, checkouts, "INSERT INTO orders (checkout_id, order_id, "+columns+") VALUES "+twice+rest); !store.IsDuplicate(err) {
			t.Errorf("%s: %v", twice, err)
		}
	}

	testenv.Down(t, namespace, schema.Checkouts, 4)
	testenv.Down(t, namespace, schema.Payments, 2)
	expectText(t, checkouts, "SELECT GROUP_CONCAT(order_id ORDER BY order_id) FROM orders", "o1,o2,o3")
	expectText(t, checkouts, "SELECT GROUP_CONCAT(order_id, ' ', product_id ORDER BY order_id) FROM order_lines", "o1 tea,o3 pot")
	up(t, dsn, namespace, schema.Checkouts)
	expectText(t, checkouts, "SELECT GROUP_CONCAT(checkout_id, '=', order_id ORDER BY checkout_id) FROM orders", "o1=o1,o2=o2,o3=o3")
}

func expectText(t *testing.T, db *sql.DB, query, want string) {
	t.Helper()
	var got string
	if err := db.QueryRowContext(t.Context(), query).Scan(&got); err != nil || got != want {
		t.Errorf("%s: %q, want %q, %v", query, got, want, err)
	}
}

func up(t *testing.T, dsn, namespace, d string) (tables string) {
	t.Helper()
	if err := schema.Migrate(t.Context(), dsn, namespace, d); err != nil {
		t.Fatal(err)
	}
	return describe(t, namespace+d)
}

func version(t *testing.T, dsn, namespace, d string) int64 {
	t.Helper()
	v, err := schema.Version(t.Context(), dsn, namespace, d)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// describe lists the columns of every table, except the one in which goose keeps its own notes.
func describe(t *testing.T, database string) string {
	t.Helper()
	rows, err := testenv.Open(t, database).QueryContext(t.Context(), `
		SELECT   CONCAT_WS(' ', table_name, column_name, column_type, is_nullable, column_key)
		FROM     information_schema.columns
		WHERE    table_schema = ? AND table_name NOT LIKE 'goose%'
		ORDER BY table_name, ordinal_position`, database)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var column string
		if err := rows.Scan(&column); err != nil {
			t.Fatal(err)
		}
		all = append(all, column)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, "\n")
}

// Z11: several processes that migrate at once do it once.
func TestMigratingAtTheSameTimeIsMigratingOnce(t *testing.T) {
	t.Parallel()
	namespace := testenv.Namespace(t)
	dsn, _ := testenv.Servers(t)
	var all sync.WaitGroup
	for range 4 {
		for _, d := range schema.Databases() {
			all.Go(func() {
				if err := schema.Migrate(t.Context(), dsn, namespace, d); err != nil {
					t.Errorf("%s: %v", d, err)
				}
			})
		}
	}
	all.Wait()
	for _, d := range schema.Databases() {
		if v := version(t, dsn, namespace, d); v < 1 {
			t.Errorf("%s is at version %d", d, v)
		}
	}
}

// X5: the account of a service reads and writes the rows of its own database and can do nothing
// else; the reader reads everything and changes nothing. Databases whose names match by a wild
// card are no exception.
func TestAccountsCanDoNoMoreThanTheyNeed(t *testing.T) {
	t.Parallel()
	namespace := testenv.Namespace(t)
	dsn, _ := testenv.Servers(t)
	for _, d := range schema.Databases() {
		up(t, dsn, namespace, d)
	}
	alike := strings.ReplaceAll(namespace, "_", "x")
	t.Cleanup(func() { exec(t, testenv.Open(t, ""), "DROP DATABASE IF EXISTS `"+alike+schema.Carts+"`") })
	up(t, dsn, alike, schema.Carts)

	for _, own := range schema.Databases() {
		account := newAccount(t, dsn, namespace+own)
		for range 2 { // also for an account that exists
			if err := schema.Owner(t.Context(), dsn, namespace, own, account); err != nil {
				t.Fatal(err)
			}
		}
		db := login(t, account)
		for _, other := range append(schema.Databases(), "mysql") {
			table := "`" + namespace + other + "`.outbox"
			if other == "mysql" {
				table = "mysql.db"
			}
			for _, s := range []string{"SELECT COUNT(*) FROM " + table, "DELETE FROM " + table + " WHERE 1 = 0"} {
				expect(t, db, s, other == own)
			}
		}
		expect(t, db, "SELECT COUNT(*) FROM `"+alike+"carts`.outbox", false)
		expect(t, db, "DROP TABLE `"+namespace+own+"`.outbox", false)
		expect(t, db, "CREATE TABLE `"+namespace+own+"`.mine (id INT)", false)
		expect(t, db, "ALTER TABLE `"+namespace+own+"`.outbox ADD COLUMN mine INT", false)
		expect(t, db, "CREATE DATABASE `"+namespace+"mine`", false)
	}

	account := newAccount(t, dsn, namespace+"reader")
	if err := schema.Reader(t.Context(), dsn, namespace, account); err != nil {
		t.Fatal(err)
	}
	db := login(t, account)
	for _, d := range schema.Databases() {
		expect(t, db, "SELECT COUNT(*) FROM `"+namespace+d+"`.outbox", true)
		expect(t, db, "DELETE FROM `"+namespace+d+"`.outbox WHERE 1 = 0", false)
		expect(t, db, "INSERT INTO `"+namespace+d+"`.outbox (events) VALUES ('')", false)
		expect(t, db, "DROP TABLE `"+namespace+d+"`.outbox", false)
	}
	expect(t, db, "SELECT COUNT(*) FROM `"+alike+"carts`.outbox", false)
}

// A second Owner with another password changes the password.
func TestAnAccountGetsItsNewPassword(t *testing.T) {
	t.Parallel()
	namespace := testenv.Namespace(t)
	dsn, _ := testenv.Servers(t)
	up(t, dsn, namespace, schema.Carts)
	before := newAccount(t, dsn, namespace+"changing")
	cfg, err := mysql.ParseDSN(before)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Passwd = rand.Text() + "' -- \\"
	after := cfg.FormatDSN()
	for _, account := range []string{before, after} {
		if err := schema.Owner(t.Context(), dsn, namespace, schema.Carts, account); err != nil {
			t.Fatal(err)
		}
	}
	if err := login(t, after).PingContext(t.Context()); err != nil {
		t.Errorf("new password: %v", err)
	}
	if err := login(t, before).PingContext(t.Context()); err == nil {
		t.Error("the old password still opens")
	}
}

func newAccount(t *testing.T, dsn, user string) (account string) {
	t.Helper()
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	cfg.User, cfg.Passwd = user, rand.Text()
	t.Cleanup(func() { exec(t, testenv.Open(t, ""), fmt.Sprintf("DROP USER IF EXISTS '%s'@'%%'", user)) })
	return cfg.FormatDSN()
}

func exec(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	if _, err := db.ExecContext(context.Background(), statement); err != nil {
		t.Errorf("%s: %v", statement, err)
	}
}

func login(t *testing.T, account string) *sql.DB {
	t.Helper()
	db, err := store.Open(account, "", 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// expect runs a statement that is to be let through, or to be denied by the server.
func expect(t *testing.T, db *sql.DB, statement string, allowed bool) {
	t.Helper()
	_, err := db.ExecContext(t.Context(), statement)
	if allowed && err != nil {
		t.Errorf("%s: %v", statement, err)
	}
	if !allowed && !denied(err) {
		t.Errorf("%s: got %v, want it denied", statement, err)
	}
}

// denied tells whether the server said that the account may not do this.
func denied(err error) bool {
	var said *mysql.MySQLError
	return errors.As(err, &said) && slices.Contains([]uint16{1044, 1142, 1143, 1227, 1419}, said.Number)
}
