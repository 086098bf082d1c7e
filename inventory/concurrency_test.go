package inventory

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cartwright/internal/fault"
	"cartwright/internal/groupcommit"
	"cartwright/internal/ids"
	"cartwright/internal/store"
	"cartwright/internal/testenv"
	"cartwright/proto/inventorypb"
)

// I5: 100 shoppers, 10 units, two replicas.
func TestAHundredShoppersTenUnits(t *testing.T) {
	t.Parallel()
	a := stocked(t, 10)
	replicas := []shop{a, on(t, a.db, time.Hour)}
	var got, refused atomic.Int64
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			s, id := replicas[i%2], ids.New()
			switch err := s.reserve(id, "tea", 1); {
			case err == nil:
				got.Add(1)
				if err := s.commit(id); err != nil {
					t.Error(err)
				}
			case fault.As(err).Code == "out_of_stock":
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got.Load() != 10 || refused.Load() != 90 {
		t.Errorf("%d got one and %d were refused, want 10 and 90", got.Load(), refused.Load())
	}
	a.wantStock("tea", 0, 0)
	a.wantBalanced()
}

// I11: two processes take the last unit at the same moment.
func TestTwoReplicasOneLastUnit(t *testing.T) {
	t.Parallel()
	a := setup(t, time.Hour)
	b := on(t, a.db, time.Hour)
	for i := range 20 {
		product := fmt.Sprintf("last-%d", i)
		a.receive(product, 1)
		var errs [2]error
		var both sync.WaitGroup
		for j, s := range []shop{a, b} {
			both.Go(func() { errs[j] = s.reserve(ids.New(), product, 1) })
		}
		both.Wait()
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Fatalf("%s: %v and %v, want one winner", product, errs[0], errs[1])
		}
		want(t, errors.Join(errs[0], errs[1]), fault.Refused, "out_of_stock")
		a.wantStock(product, 1, 1)
	}
}

// The same request reaches both replicas at once: a redelivery while the first still runs.
func TestTwoReplicasOneReservation(t *testing.T) {
	t.Parallel()
	a := stocked(t, 1000)
	b := on(t, a.db, time.Hour)
	for i := range 50 {
		id := fmt.Sprintf("r-%d", i)
		var both sync.WaitGroup
		for _, s := range []shop{a, b} {
			both.Go(func() {
				if err := s.reserve(id, "tea", 2); err != nil {
					t.Error(err)
				}
				if err := s.commit(id); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
	}
	a.wantStock("tea", 900, 0)
	a.wantBalanced()
}

// A replica reads a reservation and waits for its shelf. What becomes of the reservation meanwhile is
// seen: nothing is sold or given back twice, and each caller hears what is true in the end.
func TestAReservationMovedInBetweenIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	commit, rollback := shop.commit, shop.rollback
	expire := func(s shop, id string) error {
		return s.writes.DoAll(s.t.Context(), []operation{{verb: expire, id: id}})[0].Err
	}
	for name, calls := range map[string][2]func(shop, string) error{
		"two sell it": {commit, commit}, "two take it back": {rollback, rollback}, "one sells it and one takes it back": {commit, rollback},
		"one takes it back and one sweeps": {rollback, expire}, "two sweep": {expire, expire},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := stocked(t, 10)
			ok(t, a.reserve("r", "tea", 3))
			ok(t, a.reserve("other", "tea", 2))
			if name == "one takes it back and one sweeps" || name == "two sweep" {
				a.lapse("r")
			}
			free := a.block("tea")
			defer free()
			var both sync.WaitGroup
			var errs [2]error
			for i, s := range []shop{a, on(t, a.db, time.Hour)} {
				both.Go(func() { errs[i] = calls[i](s, "r") })
			}
			a.untilWaiting(2)
			free()
			both.Wait()
			refused := errs[0] // of a commit that came after the rollback
			ok(t, errs[1])
			if refused != nil {
				want(t, refused, fault.Refused, "reservation_released")
			}
			if name == "two sell it" {
				ok(t, refused)
				a.wantStock("tea", 7, 2)
			} else {
				a.wantStock("tea", 10, 2)
			}
			a.wantBalanced()
		})
	}
}

// I7: the time is up while the shelf is waited for.
func TestACommitThatWaitedTooLongIsRefused(t *testing.T) {
	t.Parallel()
	s := stocked(t, 10)
	ok(t, s.reserve("r", "tea", 3))
	free := s.block("tea")
	defer free()
	answer := make(chan error)
	go func() { answer <- s.commit("r") }()
	s.untilWaiting(1)
	s.lapse("r")
	free()
	want(t, <-answer, fault.Refused, "reservation_released")
	s.wantStock("tea", 10, 0)
	s.wantBalanced()
}

// A reservation is looked for in vain, and made by another replica before it is looked for again:
// its shelves are not locked then, and the transaction has to begin again.
func TestAReservationMadeInBetweenIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	l := newLedger(map[string]shelf{"pot": {"pot", finite, 1, 0}})
	l.reservations["r"] = &reservation{state: held, stored: held, lines: []line{{"tea", 3, 3}}}
	if err := l.hasShelves(names{"r": true}, names{"pot": true}); !errors.Is(err, store.ErrRaced) {
		t.Errorf("got %v, want another try", err)
	}
	ok(t, l.hasShelves(names{}, names{"pot": true})) // asked for again: no shelf is needed
	if err := l.hasShelves(names{"r": true}, names{"tea": true}); err == nil || errors.Is(err, store.ErrRaced) {
		t.Errorf("got %v of a shelf that is gone", err)
	}
}

// A replica looks for a reservation in vain and waits for a shelf, and another one makes it: then it
// is taken back, and leaves no second row.
func TestAReservationMadeWhileItIsTakenBackIsTakenBack(t *testing.T) {
	t.Parallel()
	a := stocked(t, 10)
	a.receive("pot", 10)
	b := on(t, a.db, time.Hour)
	free := a.block("pot")
	defer free()
	answers := make(chan []groupcommit.Result[shelf])
	go func() {
		answers <- a.writes.DoAll(t.Context(), []operation{{verb: rollback, id: "r"}, {verb: reserve, id: "x", lines: []line{{Product: "pot", Quantity: 1}}}})
	}()
	a.untilWaiting(1)
	ok(t, b.reserve("r", "tea", 3))
	free()
	for _, answer := range <-answers {
		ok(t, answer.Err)
	}
	a.wantStock("tea", 10, 0)
	a.wantStock("pot", 10, 1)
	want(t, b.commit("r"), fault.Refused, "reservation_released")
	a.wantBalanced()
}

// untilWaiting waits until so many transactions stand before a shelf that is locked.
func (s shop) untilWaiting(transactions int64) {
	s.t.Helper()
	testenv.Eventually(s.t, 5*time.Second, "a transaction waits", func() bool {
		return s.count(`
			SELECT COUNT(*)
			FROM   information_schema.processlist
			WHERE  db = DATABASE() AND id <> CONNECTION_ID() AND info LIKE '%FROM%stock%FOR UPDATE'`) == transactions
	})
}

// I12: somebody sits on the row. The call ends in time, and when the row is free the next one
// is served.
func TestABlockedRowEndsInADeadline(t *testing.T) {
	t.Parallel()
	s := stocked(t, 10)
	free := s.block("tea")
	defer free()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := s.Reserve(ctx, reserveRequest("r", "tea", 1))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline", err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("a limit of 300 ms took %s", took)
	}
	free()
	ok(t, s.reserve("r2", "tea", 1))
	s.wantBalanced()
}

// I12: nobody set a deadline, and the flush ends by itself.
func TestABlockedRowEndsWithoutADeadlineToo(t *testing.T) {
	if testing.Short() {
		t.Skip("takes the 10 seconds of a transaction's limit")
	}
	t.Parallel()
	s := stocked(t, 10)
	free := s.block("tea")
	defer free()
	began := time.Now()
	err := s.reserve("r", "tea", 1)
	if fault.KindOf(err) != fault.Unavailable {
		t.Errorf("got %v, want silence: it may have happened", err)
	}
	if took := time.Since(began); took > store.TransactionTime+2*time.Second {
		t.Errorf("took %s", took)
	}
	free()
	ok(t, s.rollback("r"))
	s.wantStock("tea", 10, 0)
}

// block holds a product's row on a connection of its own until free is called.
func (s shop) block(product string) (free func()) {
	s.t.Helper()
	tx, err := s.db.BeginTx(context.Background(), nil)
	ok(s.t, err)
	var onHand int64
	ok(s.t, tx.QueryRow("SELECT on_hand FROM stock WHERE product_id = ? FOR UPDATE", product).Scan(&onHand))
	return sync.OnceFunc(func() {
		if err := tx.Rollback(); err != nil {
			s.t.Error(err)
		}
	})
}

// The locking reads of rows that somebody else does not have must not wait for those he has,
// however small the tables look.
func TestALockedNeighbourIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	s := setup(t, time.Hour)
	for _, p := range []string{"cup", "pot", "tea"} {
		s.receive(p, 10)
	}
	free := s.block("pot")
	defer free()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := s.Reserve(ctx, &inventorypb.ReserveRequest{ReservationId: "r", Lines: []*inventorypb.Line{{ProductId: "cup", Quantity: 1}, {ProductId: "tea", Quantity: 1}}})
	ok(t, err)
}

// B2: what one batch RPC brings is one transaction.
func TestABatchRPCIsOneFlush(t *testing.T) {
	t.Parallel()
	s := stocked(t, 1000)
	var flushes atomic.Int64
	s.writes = groupcommit.New(func(ctx context.Context, ops []operation) ([]groupcommit.Result[shelf], error) {
		flushes.Add(1)
		return s.flush(ctx, ops)
	}, groupcommit.Options[operation]{})
	req := &inventorypb.ReserveBatchRequest{}
	commits, rollbacks := &inventorypb.CommitBatchRequest{}, &inventorypb.RollbackBatchRequest{}
	for range batchMax {
		id := ids.New()
		req.Requests = append(req.Requests, reserveRequest(id, "tea", 1))
		commits.Requests = append(commits.Requests, &inventorypb.CommitRequest{ReservationId: id})
		rollbacks.Requests = append(rollbacks.Requests, &inventorypb.RollbackRequest{ReservationId: id})
	}
	reserved, err := s.ReserveBatch(t.Context(), req)
	wantAllDone(t, reserved, err)
	s.wantStock("tea", 1000, batchMax)
	committed, err := s.CommitBatch(t.Context(), commits)
	wantAllDone(t, committed, err)
	s.wantStock("tea", 1000-batchMax, 0)
	returned, err := s.RollbackBatch(t.Context(), rollbacks)
	wantAllDone(t, returned, err)
	s.wantStock("tea", 1000, 0)
	if flushes.Load() != 3 {
		t.Errorf("%d flushes for 3 calls", flushes.Load())
	}
	s.wantBalanced()
}

// Full carts make statements of thousands of rows, which are cut into several.
func TestManyFullCartsAtOnce(t *testing.T) {
	t.Parallel()
	s := setup(t, time.Hour)
	req, commits := &inventorypb.ReserveBatchRequest{}, &inventorypb.CommitBatchRequest{}
	const carts, products = 20, 3 * linesMax
	ops := make([]operation, products)
	for i := range ops {
		ops[i] = operation{verb: adjust, id: ids.New(), product: fmt.Sprintf("p-%d", i), delta: carts}
	}
	for _, r := range s.writes.DoAll(t.Context(), ops) {
		ok(t, r.Err)
	}
	for c := range carts {
		cart := &inventorypb.ReserveRequest{ReservationId: fmt.Sprintf("cart-%d", c)}
		for i := range linesMax {
			cart.Lines = append(cart.Lines, &inventorypb.Line{ProductId: ops[(c*linesMax+i)%products].product, Quantity: 1})
		}
		req.Requests = append(req.Requests, cart)
		commits.Requests = append(commits.Requests, &inventorypb.CommitRequest{ReservationId: cart.GetReservationId()})
	}
	_, err := s.ReserveBatch(t.Context(), req)
	ok(t, err)
	_, err = s.CommitBatch(t.Context(), commits)
	ok(t, err)
	if n := s.count("SELECT -SUM(delta) FROM stock_movements WHERE kind = 'sold'"); n != carts*linesMax {
		t.Errorf("%d sold, want %d", n, carts*linesMax)
	}
	s.wantBalanced()
}

// A batch may change its shelves in few ways or in many, which are different statements.
func TestShelvesChangeInAnyNumberOfWays(t *testing.T) {
	t.Parallel()
	for _, ways := range []int64{1, alikeMax, alikeMax + 1, 50} {
		s := setup(t, time.Hour)
		var received, reserved, sold []operation
		for i := range int64(50) {
			product, id := fmt.Sprintf("p-%d", i), fmt.Sprintf("r-%d", i)
			received = append(received, operation{verb: adjust, id: ids.New(), product: product, delta: 100})
			reserved = append(reserved, operation{verb: reserve, id: id, lines: []line{{Product: product, Quantity: 1 + i%ways}}})
			sold = append(sold, operation{verb: commit, id: id})
		}
		for i, ops := range [][]operation{received, reserved, sold} {
			for _, r := range s.writes.DoAll(t.Context(), ops) {
				ok(t, r.Err)
			}
			for p := range int64(50) {
				units := 1 + p%ways
				s.wantStock(fmt.Sprintf("p-%d", p), 100-[]int64{0, 0, units}[i], []int64{0, units, 0}[i])
			}
		}
		s.wantBalanced()
	}
}

func wantAllDone(t *testing.T, resp *inventorypb.BatchResponse, err error) {
	t.Helper()
	ok(t, err)
	if len(resp.GetResults()) != batchMax {
		t.Fatalf("%d results", len(resp.GetResults()))
	}
	for i, r := range resp.GetResults() {
		if err := fault.FromProto(r.GetFault()); err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
	}
}

// A bad item has its own answer and takes nobody with it.
func TestABatchAnswersForEachItem(t *testing.T) {
	t.Parallel()
	s := stocked(t, 3)
	resp, err := s.ReserveBatch(t.Context(), &inventorypb.ReserveBatchRequest{Requests: []*inventorypb.ReserveRequest{
		reserveRequest("a", "tea", 2),
		reserveRequest("", "tea", 1),
		reserveRequest("c", "unicorn", 1),
		reserveRequest("d", "tea", 2),
		reserveRequest("a", "tea", 2),
		reserveRequest("f", "tea", 1),
	}})
	ok(t, err)
	for i, code := range []string{"", "invalid_field", "unknown_product", "out_of_stock", "", ""} {
		if got := resp.GetResults()[i].GetFault().GetCode(); got != code {
			t.Errorf("request %d: %q, want %q", i, got, code)
		}
	}
	s.wantStock("tea", 3, 3)
	s.wantBalanced()
}

// I5, I10, B2: everything at once on few products and few reservations, by two replicas and their
// sweepers, each ID used by several callers.
func TestTortureLeavesTheBooksBalanced(t *testing.T) {
	t.Parallel()
	a := setup(t, time.Hour)
	products := []string{"cup", "pot", "tea", "tin"}
	for _, p := range products {
		a.receive(p, 100)
	}
	replicas := []shop{a, on(t, a.db, time.Hour)}
	const callers, calls = 24, 60
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for range calls {
				if err := replicas[rand.IntN(2)].anything(products); fault.Is(err, fault.Internal) || fault.Is(err, fault.Unavailable) {
					t.Errorf("%v: %v", fault.KindOf(err), err)
				}
			}
		})
	}
	all.Wait()
	a.wantBalanced()
}

// anything makes one call at random.
func (s shop) anything(products []string) error {
	id := fmt.Sprintf("r-%03d", rand.IntN(200))
	switch n := rand.IntN(20); {
	case n < 9:
		lines := make([]*inventorypb.Line, 1+rand.IntN(3))
		for i := range lines {
			lines[i] = &inventorypb.Line{ProductId: products[rand.IntN(len(products))], Quantity: 1 + rand.Int64N(3)}
		}
		_, err := s.Reserve(s.t.Context(), &inventorypb.ReserveRequest{ReservationId: id, Lines: lines})
		return err
	case n < 14:
		return s.commit(id)
	case n < 17:
		return s.rollback(id)
	case n < 18:
		s.lapse(id)
		return s.sweep()
	default:
		_, err := s.Adjust(s.t.Context(), &inventorypb.AdjustRequest{ProductId: products[rand.IntN(len(products))], Delta: rand.Int64N(41) - 20})
		return err
	}
}
