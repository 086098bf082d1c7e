package checkoutmanager

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"sync"
	"testing"

	"cartwright/internal/fault"
	"cartwright/internal/groupcommit"
	"cartwright/internal/ids"
	"cartwright/internal/money"
	"cartwright/internal/testenv"
	"cartwright/proto/checkoutpb"
	schema "cartwright/sql"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func ignore(string) groupcommit.Observer { return nil }

// replicas makes several books on one database, as several processes would have.
func replicas(t *testing.T, n int) (*sql.DB, []*orders) {
	t.Helper()
	db := testenv.Database(t, testenv.Namespace(t), schema.Checkouts)
	books := make([]*orders, n)
	for i := range books {
		books[i] = newOrders(db, ignore)
		t.Cleanup(books[i].opens.Wait)
		t.Cleanup(books[i].ends.Wait)
		t.Cleanup(books[i].refusals.Wait)
	}
	return db, books
}

func ask(client string) request { return request{clientID: client, fingerprint: [32]byte{1}} }

func mustOpen(t *testing.T, o *orders, id, client string) *checkout {
	t.Helper()
	c, _, err := o.open(t.Context(), id, ask(client))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// I11, E5: one row, however many processes open it at once; one of them has made it, and all know
// the checkout by the same ID. Orders come in another order to each, so their keys are taken crosswise.
func TestManyOpenOneOrder(t *testing.T) {
	t.Parallel()
	const rounds, workers, together = 60, 12, 8
	db, books := replicas(t, 3)
	for range rounds {
		orders := make([]string, together)
		for i := range orders {
			orders[i] = ids.Derive(ids.New())
		}
		var mu sync.Mutex
		made, known := map[string]int{}, map[string]map[string]bool{}
		var all sync.WaitGroup
		for w := range workers {
			for i := range orders {
				order := orders[(i+w)%together]
				all.Go(func() {
					c, fresh, err := books[w%len(books)].open(t.Context(), order, ask("ann"))
					if err != nil || c.state != placing || c.clientID != "ann" || c.orderID != order {
						t.Errorf("opened %+v, %v", c, err)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					if known[order] == nil {
						known[order] = map[string]bool{}
					}
					known[order][c.id] = true
					if fresh {
						made[order]++
					}
				})
			}
		}
		all.Wait()
		for _, order := range orders {
			var saved string
			if err := db.QueryRow("SELECT checkout_id FROM orders WHERE order_id = ?", order).Scan(&saved); err != nil {
				t.Fatal(err)
			}
			if made[order] != 1 || len(known[order]) != 1 || !known[order][saved] {
				t.Errorf("%d have made the row of %s, want 1; it is saved as %s and known as %v", made[order], saved, order, known[order])
			}
		}
	}
}

// Checkouts that are opened together get IDs that grow with time and with their orders' IDs.
func TestCheckoutIDsGrow(t *testing.T) {
	t.Parallel()
	db, books := replicas(t, 1)
	var all []string
	for range 3 {
		var batch []opening
		for range 50 {
			batch = append(batch, opening{orderID: ids.Derive(ids.New()), request: ask("ann"), refusal: fault.New(fault.Refused, "out_of_stock", "no tea")})
		}
		for i, r := range books[0].refuse(t.Context(), batch) {
			if r.Err != nil || r.Value.row.orderID != batch[i].orderID {
				t.Fatalf("asked for %s, made %s, %v", batch[i].orderID, r.Value.row.orderID, r.Err)
			}
		}
		slices.SortFunc(batch, func(a, b opening) int { return cmp.Compare(a.orderID, b.orderID) })
		for _, b := range batch {
			all = append(all, b.orderID)
		}
	}
	rows, err := db.Query("SELECT order_id FROM orders ORDER BY checkout_id")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var saved []string
	for rows.Next() {
		var order string
		if err := rows.Scan(&order); err != nil {
			t.Fatal(err)
		}
		saved = append(saved, order)
	}
	if !slices.Equal(saved, all) {
		t.Errorf("in the order of their checkouts: %v\nwant %v", saved, all)
	}
}

// B1: the same key with another body.
func TestAnotherRequestUnderTheSameIDIsRefused(t *testing.T) {
	t.Parallel()
	_, books := replicas(t, 1)
	mustOpen(t, books[0], "o", "ann")
	_, _, err := books[0].open(t.Context(), "o", request{clientID: "ann", fingerprint: [32]byte{2}})
	if !fault.Is(err, fault.Mismatch) {
		t.Errorf("got %v, want a mismatch", err)
	}
}

// O12, I11: one worker places while the other turns: one wins, and both know which.
func TestOneOfTwoMovesWins(t *testing.T) {
	t.Parallel()
	db, books := replicas(t, 2)
	lines := []line{{"tea", "Tea", 2, 150}}
	total := money.Amount{Minor: 300, Currency: "EUR"}
	for i := range 50 {
		id := fmt.Sprint("o", i)
		ends := make([]*checkout, 2)
		for r := range ends {
			ends[r] = mustOpen(t, books[r], id, "ann")
			ends[r].lines, ends[r].total = lines, total
		}
		var all sync.WaitGroup
		all.Go(func() {
			if err := books[0].end(t.Context(), ends[0], placing, placed); err != nil {
				t.Error(err)
			}
		})
		all.Go(func() {
			if err := books[1].turn(t.Context(), ends[1], fault.New(fault.Refused, "out_of_stock", "no tea")); err != nil {
				t.Error(err)
			}
		})
		all.Wait()
		if ends[0].state != ends[1].state {
			t.Errorf("%s: one worker believes %s, the other %s", id, ends[0].state, ends[1].state)
		}
		var saved state
		var rows int
		if err := db.QueryRow("SELECT state, (SELECT COUNT(*) FROM order_lines l WHERE l.checkout_id = o.checkout_id) FROM orders o WHERE order_id = ?", id).Scan(&saved, &rows); err != nil {
			t.Fatal(err)
		}
		if saved != ends[0].state || rows != 1 {
			t.Errorf("%s: saved %s with %d lines, the workers believe %s", id, saved, rows, ends[0].state)
		}
	}
}

// Orders that are placed together get each their own total, and one that was given up in the
// meantime holds up none of the others.
func TestManyArePlacedTogether(t *testing.T) {
	t.Parallel()
	const orders, givenUp = 3 * placedMax, 7
	db, books := replicas(t, 2)
	all := make([]*checkout, orders)
	for i := range all {
		all[i] = mustOpen(t, books[0], fmt.Sprint("o", i), "ann")
		all[i].lines = []line{{"tea", "Tea", 1, int64(i)}}
		all[i].total = money.Amount{Minor: int64(i), Currency: []string{"EUR", "USD"}[i%2]}
	}
	if err := books[1].turn(t.Context(), mustOpen(t, books[1], all[givenUp].orderID, "ann"), fault.New(fault.Refused, "timed_out", "took too long")); err != nil {
		t.Fatal(err)
	}
	var ends sync.WaitGroup
	for _, c := range all {
		ends.Go(func() {
			if err := books[0].end(t.Context(), c, placing, placed); err != nil {
				t.Error(err)
			}
		})
	}
	ends.Wait()
	for i, c := range all {
		var saved state
		var total money.Amount
		if err := db.QueryRow("SELECT state, total_minor, currency FROM orders WHERE checkout_id = ?", c.id).Scan(&saved, &total.Minor, &total.Currency); err != nil {
			t.Fatal(err)
		}
		want := placed
		if i == givenUp {
			want = undoing
		}
		if saved != want || c.state != want || want == placed && total != c.total {
			t.Errorf("%s is %s over %v, its worker believes %s over %v", c.orderID, saved, total, c.state, c.total)
		}
	}
}

// A way back that is walked by two workers ends once, with one event.
func TestAFailedCheckoutIsToldOnce(t *testing.T) {
	t.Parallel()
	db, books := replicas(t, 2)
	first, second := mustOpen(t, books[0], "o", "ann"), mustOpen(t, books[1], "o", "ann")
	if err := books[0].turn(t.Context(), first, fault.New(fault.Refused, "declined", "%s", "the card said \"no\"")); err != nil {
		t.Fatal(err)
	}
	for i, c := range []*checkout{first, second, first} {
		if err := books[i%2].end(t.Context(), c, undoing, failed); err != nil {
			t.Fatal(err)
		}
		if c.state != failed || c.reason == nil || c.reason.Code != "declined" {
			t.Errorf("worker %d believes %s because of %v", i, c.state, c.reason)
		}
	}
	var events, due int
	if err := db.QueryRow("SELECT (SELECT COUNT(*) FROM outbox), (SELECT COUNT(*) FROM orders WHERE due_at IS NOT NULL)").Scan(&events, &due); err != nil {
		t.Fatal(err)
	}
	if events != 1 || due != 0 {
		t.Errorf("%d events and %d due, want 1 and 0", events, due)
	}
}

// Rescue: what is due is claimed by one replica only, and not again for a while.
func TestRescueClaimsEachOnce(t *testing.T) {
	t.Parallel()
	db, books := replicas(t, 1)
	const orders = 100
	for i := range orders {
		mustOpen(t, books[0], fmt.Sprint("o", i), "ann")
	}
	if _, err := db.Exec("UPDATE orders SET due_at = NOW(6) - INTERVAL 1 SECOND"); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	claimed := map[string]int{}
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			r := &rescue{db: db, orders: books[0]}
			for {
				due, err := r.claim(t.Context())
				if err != nil {
					t.Error(err)
				}
				if len(due) == 0 {
					return
				}
				mu.Lock()
				for _, c := range due {
					claimed[c.id]++
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	for id, n := range claimed {
		if n != 1 {
			t.Errorf("%s was claimed %d times", id, n)
		}
	}
	if len(claimed) < orders*9/10 { // a replica that saw only locked rows may have left early
		t.Errorf("%d claimed, want %d", len(claimed), orders)
	}
}

// A parked checkout is looked at later the older it is, and a placed one never.
func TestParkedIsLaterAndPlacedIsNever(t *testing.T) {
	t.Parallel()
	db, books := replicas(t, 1)
	young, old, done := mustOpen(t, books[0], "young", "ann"), mustOpen(t, books[0], "old", "ann"), mustOpen(t, books[0], "done", "ann")
	if _, err := db.Exec("UPDATE orders SET created_at = NOW(6) - INTERVAL 400 SECOND WHERE order_id = 'old'"); err != nil {
		t.Fatal(err)
	}
	if err := books[0].end(t.Context(), done, placing, placed); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{books[0].park(t.Context(), young, errPending), books[0].park(t.Context(), old, errPending), books[0].park(t.Context(), done, errPending)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	waits := map[string]sql.NullInt64{}
	rows, err := db.Query("SELECT order_id, TIMESTAMPDIFF(SECOND, NOW(6), due_at) FROM orders")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var wait sql.NullInt64
		if err := rows.Scan(&id, &wait); err != nil {
			t.Fatal(err)
		}
		waits[id] = wait
	}
	if waits["young"].Int64 > 2 || waits["old"].Int64 < 60 || waits["done"].Valid {
		t.Errorf("due in %v", waits)
	}
}

// O4: pages are whole while orders come in, and a wrong cursor is named.
func TestPagesOfOrders(t *testing.T) {
	t.Parallel()
	db, books := replicas(t, 1)
	for i := range 5 {
		mustOpen(t, books[0], fmt.Sprint("o", i), "ann")
	}
	mustOpen(t, books[0], "other", "bob")
	s := &server{db: db}
	var listed []string
	req := &checkoutpb.ListOrdersRequest{ClientId: "ann", Limit: 2}
	for {
		page, err := s.ListOrders(context.Background(), req)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.GetOrders() {
			listed = append(listed, o.GetOrderId())
		}
		if req.Cursor = page.GetNextCursor(); req.Cursor == "" {
			break
		}
		mustOpen(t, books[0], "late"+req.Cursor[:8], "ann")
	}
	if fmt.Sprint(listed) != "[o4 o3 o2 o1 o0]" {
		t.Errorf("listed %v", listed)
	}
	for field, bad := range map[string]*checkoutpb.ListOrdersRequest{
		"client_id": {ClientId: "x' OR '1'='1", Limit: 2},
		"limit":     {ClientId: "ann", Limit: 101},
		"cursor":    {ClientId: "ann", Limit: 2, Cursor: "nonsense"},
	} {
		if _, err := s.ListOrders(context.Background(), bad); !fault.Is(err, fault.Invalid) || fault.As(err).Field != field {
			t.Errorf("%s: got %v", field, err)
		}
	}
}

// A checkout waits for its row to be opened, and for all of its end, each time once.
func TestEachEndOfACheckoutIsOneRoundTrip(t *testing.T) {
	t.Parallel()
	namespace := testenv.Namespace(t)
	testenv.Database(t, namespace, schema.Checkouts)
	db, proxy := testenv.OpenProxied(t, namespace+schema.Checkouts)
	book := newOrders(db, ignore)
	before := proxy.Trips()
	c := mustOpen(t, book, "o", "ann")
	c.lines, c.total = []line{{"tea", "Tea", 2, 150}}, money.Amount{Minor: 300, Currency: "EUR"}
	if opened := proxy.Trips() - before; opened != 1 {
		t.Errorf("opened in %d round trips", opened)
	}
	if err := book.end(t.Context(), c, placing, placed); err != nil {
		t.Fatal(err)
	}
	if all := proxy.Trips() - before; all != 2 {
		t.Errorf("opened and placed in %d round trips", all)
	}
}
