package inventory

import (
	"context"
	"database/sql"
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

// A reservation appears after its lines were looked for and before its row is locked: then the
// shelves that it needs are not locked, and the transaction has to begin again.
func TestAReservationMadeInBetweenIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	s := stocked(t, 10)
	ok(t, s.reserve("r", "tea", 3))
	tx, err := s.db.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	ok(t, err)
	defer tx.Rollback()
	l := newLedger(map[string]shelf{})
	l.reservations, err = lockReservations(t.Context(), tx, names{"r": true})
	ok(t, err)
	if err := l.attach(t.Context(), tx, names{"r": true}, nil); !errors.Is(err, store.ErrRaced) {
		t.Errorf("got %v, want another try", err)
	}
	ok(t, l.attach(t.Context(), tx, names{}, nil)) // asked again: no shelf needed, lines read now
	if lines := l.reservations["r"].lines; len(lines) != 1 || lines[0] != (line{"tea", 3, 3}) {
		t.Errorf("lines %v", lines)
	}
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
