package inventory

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"cartwright/internal/fault"
	"cartwright/internal/outbox"
	"cartwright/internal/store"
	"cartwright/internal/testenv"
	"cartwright/proto/inventorypb"
)

// I1
func TestAvailabilityIsOnHandMinusReserved(t *testing.T) {
	t.Parallel()
	s := stocked(t, 10)
	ok(t, s.reserve("r", "tea", 3))
	s.wantStock("tea", 10, 3)
	asked := &inventorypb.GetAvailabilityRequest{ProductIds: []string{"tea", "unicorn"}}
	_, err := s.GetAvailability(t.Context(), asked)
	if e := want(t, err, fault.NotFound, "unknown_product"); e.Details["product"] != "unicorn" {
		t.Errorf("details %v do not name the product", e.Details)
	}
	asked.KnownOnly = true
	resp, err := s.GetAvailability(t.Context(), asked)
	ok(t, err)
	if len(resp.GetStock()) != 1 || resp.GetStock()[0].GetProductId() != "tea" {
		t.Errorf("got %v, want tea alone", resp.GetStock())
	}
}

// I2
func TestReserveWithoutAnIDMakesOne(t *testing.T) {
	t.Parallel()
	s := stocked(t, 10)
	resp, err := s.Reserve(t.Context(), reserveRequest("", "tea", 3))
	ok(t, err)
	if _, err := uuid.Parse(resp.GetReservationId()); err != nil {
		t.Errorf("token %q is no UUID", resp.GetReservationId())
	}
	s.wantStock("tea", 10, 3)
	ok(t, s.commit(resp.GetReservationId()))
	s.wantStock("tea", 7, 0)
}

func TestReserveTwiceIsReserveOnce(t *testing.T) {
	t.Parallel()
	s := stocked(t, 10)
	s.receive("pot", 5)
	two := &inventorypb.ReserveRequest{ReservationId: "r", Lines: []*inventorypb.Line{{ProductId: "tea", Quantity: 3}, {ProductId: "pot", Quantity: 1}}}
	for range 3 {
		_, err := s.Reserve(t.Context(), two)
		ok(t, err)
	}
	s.wantStock("tea", 10, 3)
	slices.Reverse(two.GetLines()) // the same wish in another order
	_, err := s.Reserve(t.Context(), two)
	ok(t, err)
	want(t, s.reserve("r", "tea", 3), fault.Mismatch, "reservation_mismatch")
	ok(t, s.commit("r"))
	_, err = s.Reserve(t.Context(), two)
	ok(t, err) // sold, and so what was asked for is had
	s.wantStock("tea", 7, 0)
	s.wantBalanced()
}

// I2: who has the last units and asks again has them still, and who gave them back hears that, and
// not that the shelf is empty.
func TestReserveTwiceIsReserveOnceOnAnEmptyShelf(t *testing.T) {
	t.Parallel()
	s := stocked(t, 3)
	ok(t, s.reserve("back", "tea", 3))
	ok(t, s.rollback("back"))
	ok(t, s.reserve("r", "tea", 3))
	for range 2 {
		ok(t, s.reserve("r", "tea", 3))
		want(t, s.reserve("r", "tea", 2), fault.Mismatch, "reservation_mismatch")
		want(t, s.reserve("back", "tea", 3), fault.Refused, "reservation_released")
		want(t, s.reserve("new", "tea", 1), fault.Refused, "out_of_stock")
		s.wantBalanced()
		ok(t, s.commit("r"))
	}
	s.wantStock("tea", 0, 0)
}

func TestLinesOfOneProductAreAddedUp(t *testing.T) {
	t.Parallel()
	s := stocked(t, 5)
	lines := []*inventorypb.Line{{ProductId: "tea", Quantity: 2}, {ProductId: "tea", Quantity: 4}}
	_, err := s.Reserve(t.Context(), &inventorypb.ReserveRequest{ReservationId: "r", Lines: lines})
	want(t, err, fault.Refused, "out_of_stock")
	lines[1].Quantity = 3
	_, err = s.Reserve(t.Context(), &inventorypb.ReserveRequest{ReservationId: "r", Lines: lines})
	ok(t, err)
	s.wantStock("tea", 5, 5)
	s.wantBalanced()
}

func TestReserveIsAllOrNothing(t *testing.T) {
	t.Parallel()
	s := stocked(t, 10)
	s.receive("pot", 1)
	s.receive("cup", 0)
	_, err := s.Reserve(t.Context(), &inventorypb.ReserveRequest{ReservationId: "r", Lines: []*inventorypb.Line{
		{ProductId: "tea", Quantity: 2}, {ProductId: "pot", Quantity: 2}, {ProductId: "cup", Quantity: 1}}})
	e := want(t, err, fault.Refused, "out_of_stock")
	if e.Message != "only 1 of pot left" || e.Details["product"] != "pot" || e.Details["available"] != "1" {
		t.Errorf("got %q %v, want the first short line, pot, of which 1 is left", e.Message, e.Details)
	}
	s.wantStock("tea", 10, 0)
	if e := want(t, s.reserve("r2", "cup", 1), fault.Refused, "out_of_stock"); e.Message != "cup is sold out" || e.Details["available"] != "0" {
		t.Errorf("got %q %v", e.Message, e.Details)
	}
	if e := want(t, s.reserve("r3", "unicorn", 1), fault.NotFound, "unknown_product"); e.Details["product"] != "unicorn" {
		t.Errorf("details %v do not name the product", e.Details)
	}
	if n := s.count("SELECT COUNT(*) FROM reservations"); n != 0 {
		t.Errorf("%d reservations of refused requests", n)
	}
}

// I3
func TestCommitOnceSellsOnce(t *testing.T) {
	t.Parallel()
	s := stocked(t, 10)
	ok(t, s.reserve("r", "tea", 3))
	ok(t, s.commit("r"))
	ok(t, s.commit("r"))
	s.wantStock("tea", 7, 0)
	want(t, s.commit("nobody"), fault.NotFound, "unknown_reservation")
	s.wantBalanced()
}

// I4, I9: what was sold goes back on the shelf, once.
func TestRollbackGivesBackWhatIsHeldAndWhatIsSold(t *testing.T) {
	t.Parallel()
	s := stocked(t, 10)
	ok(t, s.reserve("held", "tea", 3))
	ok(t, s.reserve("sold", "tea", 2))
	ok(t, s.commit("sold"))
	s.wantStock("tea", 8, 3)
	for range 2 {
		ok(t, s.rollback("held"))
		ok(t, s.rollback("sold"))
		s.wantStock("tea", 10, 0)
	}
	want(t, s.commit("held"), fault.Refused, "reservation_released")
	want(t, s.reserve("sold", "tea", 2), fault.Refused, "reservation_released")
	s.wantBalanced()
	if n := s.count("SELECT SUM(delta) FROM stock_movements WHERE reference = 'sold'"); n != 0 {
		t.Errorf("sold and returned add up to %d", n)
	}
}

// I4: the request to reserve may still be on its way when it is taken back.
func TestRollbackBeforeReserveKeepsTheShelfFull(t *testing.T) {
	t.Parallel()
	s := stocked(t, 10)
	ok(t, s.rollback("late"))
	want(t, s.reserve("late", "tea", 1), fault.Refused, "reservation_released")
	want(t, s.commit("late"), fault.Refused, "reservation_released")
	ok(t, s.rollback("late"))
	s.wantStock("tea", 10, 0)
}

// I6
func TestTheLastUnitCanBeSold(t *testing.T) {
	t.Parallel()
	s := stocked(t, 1)
	ok(t, s.reserve("r", "tea", 1))
	ok(t, s.commit("r"))
	s.wantStock("tea", 0, 0)
	want(t, s.reserve("r2", "tea", 1), fault.Refused, "out_of_stock")
}

// I7
func TestAReservationLapses(t *testing.T) {
	t.Parallel()
	s := setup(t, 20*time.Millisecond)
	s.receive("tea", 10)
	ok(t, s.reserve("walked-away", "tea", 4))
	s.wantStock("tea", 10, 4)
	s.untilLapsed("walked-away")
	ok(t, s.sweep())
	s.wantStock("tea", 10, 0)
	want(t, s.commit("walked-away"), fault.Refused, "reservation_released")
	want(t, s.reserve("walked-away", "tea", 4), fault.Refused, "reservation_released")
	ok(t, s.rollback("walked-away"))
	s.wantBalanced()
}

// I7: the time counts, not the sweeper.
func TestALateCommitIsRefusedBeforeTheSweeperCame(t *testing.T) {
	t.Parallel()
	s := stocked(t, 10)
	for _, id := range []string{"committed", "asked-again", "taken-back", "good"} {
		ok(t, s.reserve(id, "tea", 2))
	}
	s.lapse("committed", "asked-again", "taken-back")
	want(t, s.commit("committed"), fault.Refused, "reservation_released")
	want(t, s.reserve("asked-again", "tea", 2), fault.Refused, "reservation_released")
	ok(t, s.rollback("taken-back"))
	s.wantStock("tea", 10, 4)
	ok(t, s.sweep())
	s.wantStock("tea", 10, 2)
	ok(t, s.commit("good"))
	s.wantStock("tea", 8, 0)
	s.wantBalanced()
}

// I7: the sweeper picked it, and then it was sold.
func TestWhatIsSoldDoesNotExpire(t *testing.T) {
	t.Parallel()
	s := stocked(t, 10)
	ok(t, s.reserve("sold", "tea", 2))
	ok(t, s.reserve("held", "tea", 2))
	ok(t, s.commit("sold"))
	for _, r := range s.writes.DoAll(t.Context(), []operation{{verb: expire, id: "sold"}, {verb: expire, id: "held"}, {verb: expire, id: "unheard-of"}}) {
		ok(t, r.Err)
	}
	s.wantStock("tea", 8, 2)
	s.wantBalanced()
}

// lapse lets the time of reservations be up.
func (s shop) lapse(ids ...string) {
	s.t.Helper()
	_, err := s.db.ExecContext(s.t.Context(), "UPDATE reservations SET expires_at = NOW(6) WHERE state = 'held' AND reservation_id IN "+store.In(len(ids)), store.Args(ids)...)
	ok(s.t, err)
}

// sweep runs the sweeper once.
func (s shop) sweep() error {
	return sweeper{s.books, s.server, testenv.Log(s.t)}.sweep(s.t.Context())
}

func (s shop) untilLapsed(id string) {
	s.t.Helper()
	testenv.Eventually(s.t, 5*time.Second, id+" lapses", func() bool {
		return s.count("SELECT COUNT(*) FROM reservations WHERE reservation_id = ? AND expires_at <= NOW(6)", id) == 1
	})
}

func TestTheSweeperTakesMoreThanOneFlush(t *testing.T) {
	t.Parallel()
	s := setup(t, time.Millisecond)
	s.receive("tea", 1000)
	var all []*inventorypb.ReserveRequest
	for i := range 2*sweepMax + 10 {
		all = append(all, reserveRequest(fmt.Sprintf("r-%04d", i), "tea", 1))
	}
	for chunk := range slices.Chunk(all, batchMax) {
		_, err := s.ReserveBatch(t.Context(), &inventorypb.ReserveBatchRequest{Requests: chunk})
		ok(t, err)
	}
	s.untilLapsed(all[len(all)-1].GetReservationId())
	ok(t, s.sweep())
	s.wantStock("tea", 1000, 0)
	s.wantBalanced()
}

func TestEventsTellWhatCanBeBought(t *testing.T) {
	t.Parallel()
	s := stocked(t, 2)
	ok(t, s.reserve("a", "tea", 1))
	ok(t, s.reserve("b", "tea", 1))
	want(t, s.reserve("c", "tea", 1), fault.Refused, "out_of_stock")
	ok(t, s.rollback("a"))
	got := strings.Join(s.events(), "\n")
	wanted := `stock.adjusted tea {"productId":"tea","delta":2,"onHand":2}
stock.available tea {"productId":"tea","available":2}
stock.sold_out tea {"productId":"tea"}
stock.available tea {"productId":"tea","available":1}`
	if got != wanted {
		t.Errorf("got\n%s\nwant\n%s", got, wanted)
	}
}

func (s shop) events() (all []string) {
	s.t.Helper()
	_, events, err := outbox.Waiting(s.t.Context(), s.db, 1000)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range events {
		all = append(all, fmt.Sprintf("%s %s %s", e.Type, e.Subject, e.Data))
	}
	return all
}
