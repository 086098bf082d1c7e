package checkoutmanager

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"sync/atomic"
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

// I11, E5: one row, however many processes open it at once, and one of them has made it.
func TestManyOpenOneOrder(t *testing.T) {
	t.Parallel()
	_, books := replicas(t, 2)
	for range 20 {
		id := ids.New()
		var made atomic.Int64
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				c, fresh, err := books[i%2].open(t.Context(), id, ask("ann"))
				switch {
				case err != nil:
					t.Error(err)
				case c.state != placing || c.clientID != "ann":
					t.Errorf("opened %+v", c)
				case fresh:
					made.Add(1)
				}
			})
		}
		all.Wait()
		if made.Load() != 1 {
			t.Errorf("%d have made the row, want 1", made.Load())
		}
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
		if err := db.QueryRow("SELECT state, (SELECT COUNT(*) FROM order_lines l WHERE l.order_id = o.order_id) FROM orders o WHERE order_id = ?", id).Scan(&saved, &rows); err != nil {
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
	if err := books[1].turn(t.Context(), mustOpen(t, books[1], all[givenUp].id, "ann"), fault.New(fault.Refused, "timed_out", "took too long")); err != nil {
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
		if err := db.QueryRow("SELECT state, total_minor, currency FROM orders WHERE order_id = ?", c.id).Scan(&saved, &total.Minor, &total.Currency); err != nil {
			t.Fatal(err)
		}
		want := placed
		if i == givenUp {
			want = undoing
		}
		if saved != want || c.state != want || want == placed && total != c.total {
			t.Errorf("%s is %s over %v, its worker believes %s over %v", c.id, saved, total, c.state, c.total)
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
	for _, id := range []string{"young", "old", "done"} {
		mustOpen(t, books[0], id, "ann")
	}
	if _, err := db.Exec("UPDATE orders SET created_at = NOW(6) - INTERVAL 400 SECOND WHERE order_id = 'old'"); err != nil {
		t.Fatal(err)
	}
	done := mustOpen(t, books[0], "done", "ann")
	if err := books[0].end(t.Context(), done, placing, placed); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{books[0].park(t.Context(), "young"), books[0].park(t.Context(), "old"), books[0].park(t.Context(), "done")} {
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
