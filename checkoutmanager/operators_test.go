package checkoutmanager

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"cartwright/internal/fault"
	"cartwright/internal/money"
	"cartwright/internal/testenv"
	"cartwright/proto/checkoutpb"
)

// happened lists what happened to a checkout, as words.
func (o *operators) happened(t *testing.T, id string) (all []string) {
	t.Helper()
	told, err := o.GetCheckout(t.Context(), &checkoutpb.GetCheckoutRequest{Id: id})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range told.GetHistory() {
		if e.GetAtUs() < told.GetCheckout().GetCreatedAtUs() {
			t.Errorf("%v is older than the checkout", e)
		}
		all = append(all, strings.TrimSpace(e.GetEvent()+" "+e.GetBy()+" "+e.GetNote()))
	}
	return all
}

func (o *operators) list(t *testing.T, older int64, limit int32) *checkoutpb.ListCheckoutsResponse {
	t.Helper()
	list, err := o.ListCheckouts(t.Context(), &checkoutpb.ListCheckoutsRequest{OlderThanSeconds: older, Limit: limit})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// B3: what has not ended is listed, the oldest first, with its tries and the last error; the history has
// each new reason once.
func TestUnfinishedCheckoutsAreListedWithTheirTroubles(t *testing.T) {
	t.Parallel()
	db, books := replicas(t, 1)
	o := &operators{db: db, orders: books[0]}
	var all []*checkout
	for i := range 4 {
		all = append(all, mustOpen(t, books[0], fmt.Sprint("o", i), "ann"))
	}
	for _, why := range []string{"stock is away", "stock is away", "payments are away", "stock is away"} {
		if err := books[0].park(t.Context(), all[1], errors.New(why)); err != nil {
			t.Fatal(err)
		}
	}
	if err := books[0].end(t.Context(), all[0], placing, placed); err != nil {
		t.Fatal(err)
	}
	list := o.list(t, 0, 2)
	if len(list.GetCheckouts()) != 2 || !list.GetMore() || list.GetCheckouts()[1].GetOrderId() != "o2" {
		t.Fatalf("listed %v", list)
	}
	c := list.GetCheckouts()[0]
	if c.GetCheckoutId() != all[1].id || c.GetOrderId() != "o1" || c.GetClientId() != "ann" || c.GetState() != "placing" || c.GetAttempts() != 4 ||
		c.GetLastError() != "stock is away" || c.GetDueAtUs() <= c.GetCreatedAtUs() {
		t.Errorf("listed %v", c)
	}
	if got, want := o.happened(t, "o1"), []string{"waits  stock is away", "waits  payments are away", "waits  stock is away"}; !slices.Equal(got, want) {
		t.Errorf("history %q, want %q", got, want)
	}
	if list := o.list(t, 3600, 10); len(list.GetCheckouts()) != 0 || list.GetMore() {
		t.Errorf("an hour old: %v", list)
	}
	if ended := o.happened(t, all[0].id); len(ended) != 0 {
		t.Errorf("what went straight to its end has a history: %q", ended)
	}
}

// B3: a checkout on its way is resumed, which makes it due, and undone, once: it is on its way back, due
// and in its own history, in the name of who did it. What has ended cannot be moved by anybody.
func TestCheckoutsAreMovedByHandWithinTheRules(t *testing.T) {
	t.Parallel()
	db, books := replicas(t, 1)
	o := &operators{db: db, orders: books[0]}
	c := mustOpen(t, books[0], "o", "ann")
	due := func() (n int) {
		if err := db.QueryRow("SELECT COUNT(*) FROM orders WHERE due_at <= NOW(6)").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if due() != 0 {
		t.Fatal("it is due at once")
	}
	resume := func(id, by string) error {
		_, err := o.ResumeCheckout(t.Context(), &checkoutpb.ResumeCheckoutRequest{Id: id, By: by})
		return err
	}
	undo := func(id, by string) error {
		_, err := o.UndoCheckout(t.Context(), &checkoutpb.UndoCheckoutRequest{Id: id, By: by})
		return err
	}
	if err := resume("o", "ann"); err != nil || due() != 1 {
		t.Errorf("resumed: %v, %d due", err, due())
	}
	if claimed, err := (&rescue{db: db}).claim(t.Context()); err != nil || len(claimed) != 1 || due() != 0 {
		t.Errorf("claimed %d, %v", len(claimed), err)
	}
	if err := undo(c.id, "bob"); err != nil || due() != 1 {
		t.Errorf("undone: %v, %d due", err, due())
	}
	for name, err := range map[string]error{"checkout_undoing": undo("o", "carl"), "unknown_checkout": undo("nothing", "carl")} {
		if fault.As(err).Code != name {
			t.Errorf("got %v, want %s", err, name)
		}
	}
	for field, err := range map[string]error{"id": undo("x' OR '1'='1", "carl"), "by": undo("o", " ")} {
		if !fault.Is(err, fault.Invalid) || fault.As(err).Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	if err := books[0].end(t.Context(), c, placing, placed); err != nil || c.state != undoing || c.reason.Code != undoneByHand {
		t.Errorf("its worker believes %s because of %v, %v", c.state, c.reason, err)
	}
	if err := books[0].end(t.Context(), c, undoing, failed); err != nil {
		t.Fatal(err)
	}
	if got := o.happened(t, "o"); len(got) != 2 || got[0] != "resumed ann" || got[1] != "turned bob undone_by_staff: the shop has undone this checkout" {
		t.Errorf("history %q", got)
	}
	for _, err := range []error{undo("o", "carl"), resume("o", "carl")} {
		if fault.As(err).Code != "checkout_failed" {
			t.Error(err)
		}
	}
	if got := o.happened(t, "o"); len(got) != 2 {
		t.Errorf("what was refused is in its history: %q", got)
	}
}

// B3, O12: while a worker places it, somebody undoes it: one of them wins, both know which, and what is
// placed stays so.
func TestUndoneByHandOrPlaced(t *testing.T) {
	t.Parallel()
	db, books := replicas(t, 2)
	o := &operators{db: db, orders: books[1]}
	ends := map[state]int{}
	for i := range 40 {
		c := mustOpen(t, books[0], fmt.Sprint("o", i), "ann")
		c.lines, c.total = []line{{"tea", "Tea", 1, 100}}, money.Amount{Minor: 100, Currency: "EUR"}
		var undone error
		var both sync.WaitGroup
		both.Go(func() {
			if err := books[0].end(t.Context(), c, placing, placed); err != nil {
				t.Error(err)
			}
		})
		both.Go(func() {
			_, undone = o.UndoCheckout(t.Context(), &checkoutpb.UndoCheckoutRequest{Id: c.id, By: "bob"})
		})
		both.Wait()
		ends[c.state]++
		if lost := fault.As(undone); c.state == placed && (lost == nil || lost.Code != "checkout_placed") || c.state == undoing && undone != nil {
			t.Errorf("%s is %s, and who undid it is told %v", c.id, c.state, undone)
		}
	}
	t.Logf("%v", ends)
}

// Looking for what has not ended reads nothing of what has.
func TestTheListOfUnfinishedReadsNothingElse(t *testing.T) {
	t.Parallel()
	db, _ := manyOrders(t)
	o := &operators{db: db}
	if used := testenv.Index(t, db, unfinishedQuery, 0, 100); used != "due" {
		t.Errorf("it goes by %q", used)
	}
	if read := testenv.Reads(t, db, func() { o.list(t, 0, 100) }); read > 2*few {
		t.Errorf("it reads %d rows", read)
	}
	if read := testenv.Reads(t, db, func() {
		if _, err := o.find(t.Context(), "nothing"); !fault.Is(err, fault.NotFound) {
			t.Error(err)
		}
	}); read > few {
		t.Errorf("one is found by reading %d rows", read)
	}
}
