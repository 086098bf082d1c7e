package checkoutmanager

import (
	"database/sql"
	"fmt"
	"testing"
	"time"

	"cartwright/internal/ids"
	"cartwright/internal/testenv"
	"cartwright/proto/checkoutpb"
)

// few rows are what a question reads that goes by its index, of thousands.
const few = 100

// manyOrders fills a book with 6000 orders, one a second: every third is ann's, every hundredth is still being
// placed, and every thousandth of these is due.
func manyOrders(t *testing.T) (db *sql.DB, due int) {
	t.Helper()
	db, _ = replicas(t, 1)
	db.SetMaxOpenConns(1)
	const orders = 6000
	start := time.Now().UTC().Add(-2 * time.Hour).Truncate(time.Second)
	columns := "checkout_id, order_id, client_id, request_hash, payment_method, email, state, created_at, updated_at, due_at"
	testenv.Fill(t, db, "orders", columns, orders, func(i int) []any {
		id, client, at := ids.New(), fmt.Sprint("c", i), start.Add(time.Duration(i)*time.Second)
		if i%3 == 0 {
			client = "ann"
		}
		var left any
		saved := placed
		if i%100 == 0 {
			left, saved = time.Now().UTC().Add(time.Hour), placing
		}
		if i%1000 == 0 {
			left, due = start, due+1
		}
		return []any{id, ids.Derive(id), client, make([]byte, 32), "", "", string(saved), at, at, left}
	})
	return db, due
}

// O4: a page of a client's orders costs the same at the beginning of a long list and deep in it.
func TestAPageOfOrdersReadsLittleMore(t *testing.T) {
	t.Parallel()
	db, _ := manyOrders(t)
	deep := time.Now().UTC().Add(-90 * time.Minute)
	for query, args := range map[string][]any{firstPage: {"ann", 21}, nextPage: {"ann", deep, deep, ids.New(), 21}} {
		if used := testenv.Index(t, db, "SELECT "+orderColumns+" FROM orders "+query, args...); used != "client_orders" {
			t.Errorf("%s goes by %q", query, used)
		}
	}
	s := &server{db: db}
	req := &checkoutpb.ListOrdersRequest{ClientId: "ann", Limit: 20}
	for listed := 0; listed < 2000; {
		var page *checkoutpb.ListOrdersResponse
		read := testenv.Reads(t, db, func() {
			var err error
			if page, err = s.ListOrders(t.Context(), req); err != nil {
				t.Fatal(err)
			}
		})
		if read > few {
			t.Fatalf("after %d orders, a page of %d reads %d rows, want at most %d", listed, req.GetLimit(), read, few)
		}
		if listed += len(page.GetOrders()); page.GetNextCursor() == "" && listed != 2000 {
			t.Fatalf("the list ends after %d orders", listed)
		}
		req.Cursor = page.GetNextCursor()
	}
}

// Rescue reads what is due, and nothing of what has ended or is not due yet.
func TestRescueReadsOnlyWhatIsDue(t *testing.T) {
	t.Parallel()
	db, due := manyOrders(t)
	if used := testenv.Index(t, db, dueQuery, rescueBatch); used != "due" {
		t.Errorf("it goes by %q", used)
	}
	r := &rescue{db: db}
	for _, want := range []int{due, 0} {
		var claimed []*checkout
		read := testenv.Reads(t, db, func() {
			var err error
			if claimed, err = r.claim(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
		if len(claimed) != want || read > few {
			t.Errorf("%d claimed and %d rows read, want %d and at most %d", len(claimed), read, want, few)
		}
	}
}

// An order is found by its own ID, which is not the one that its row is kept under.
func TestAnOrderIsFoundByItsIndex(t *testing.T) {
	t.Parallel()
	db, _ := manyOrders(t)
	var order string
	if err := db.QueryRow("SELECT order_id FROM orders ORDER BY checkout_id DESC LIMIT 1").Scan(&order); err != nil {
		t.Fatal(err)
	}
	read := testenv.Reads(t, db, func() {
		if _, err := (&server{db: db}).GetOrder(t.Context(), &checkoutpb.GetOrderRequest{OrderId: order}); err != nil {
			t.Fatal(err)
		}
	})
	if read > few {
		t.Errorf("reading one order reads %d rows", read)
	}
}
