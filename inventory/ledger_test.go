package inventory

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"cartwright/internal/fault"
)

// history drives ledgers batch after batch, as the database would: what one batch left is what
// the next one finds. Beside it a plain account is kept of what was received and sold.
type history struct {
	shelves      map[string]shelf
	reservations map[string]*reservation
	adjustments  map[string]movement

	moved map[string]int64 // the sum of all movements, by product
}

func newHistory() *history {
	return &history{map[string]shelf{}, map[string]*reservation{}, map[string]movement{}, map[string]int64{}}
}

// batch decides operations and keeps what became of them.
func (h *history) batch(ops []operation) []error {
	l := newLedger(h.shelves)
	for id, r := range h.reservations {
		stored := *r
		stored.stored = r.state
		l.reservations[id] = &stored
	}
	for id, m := range h.adjustments {
		l.adjustments[id] = m
	}
	errs := make([]error, len(ops))
	for i, a := range l.decide(ops) {
		errs[i] = a.Err
	}
	h.shelves, h.reservations, h.adjustments = l.shelves, l.reservations, l.adjustments
	for _, m := range l.movements {
		h.moved[m.product] += m.delta
	}
	return errs
}

// check proves the books: nothing negative, on hand as the movements say, reserved as is held.
func (h *history) check(t rapid.TB) {
	t.Helper()
	reserved := map[string]int64{}
	for id, r := range h.reservations {
		for _, n := range r.lines {
			if r.state == held {
				reserved[n.Product] += n.Counted
			}
			if n.Counted != 0 && n.Counted != n.Quantity {
				t.Fatalf("reservation %s counted %d of %d", id, n.Counted, n.Quantity)
			}
		}
	}
	for product, s := range h.shelves {
		if s.reserved < 0 || s.reserved > s.onHand {
			t.Fatalf("%+v", s)
		}
		if s.onHand != h.moved[product] {
			t.Fatalf("%s: %d on hand, but the movements add up to %d", product, s.onHand, h.moved[product])
		}
		if s.reserved != reserved[product] {
			t.Fatalf("%s: %d reserved, but %d held", product, s.reserved, reserved[product])
		}
	}
}

// anyOperation draws from few names, so that most operations meet each other.
func anyOperation(t *rapid.T, label string) operation {
	product := rapid.SampledFrom([]string{"tea", "pot", "cup"})
	o := operation{
		verb: rapid.SampledFrom([]verb{reserve, reserve, reserve, commit, commit, rollback, expire, adjust, adjust}).Draw(t, label+" verb"),
		id:   rapid.StringMatching(`[a-h]`).Draw(t, label+" id"),
	}
	switch o.verb {
	case reserve:
		wanted := rapid.MapOfN(product, rapid.Int64Range(1, 6), 1, 3).Draw(t, label+" lines")
		for _, p := range []string{"tea", "pot", "cup"} {
			if n := wanted[p]; n > 0 {
				o.lines = append(o.lines, line{Product: p, Quantity: n})
			}
		}
	case adjust:
		o.product = product.Draw(t, label+" product")
		o.delta = rapid.Int64Range(-6, 20).Draw(t, label+" delta")
		o.kind = rapid.SampledFrom([]kind{"", "", finite, infinite}).Draw(t, label+" kind")
	}
	return o
}

// I5, I8: whatever is asked in whatever order, the books balance.
func TestNoHistoryOversells(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory()
		for b := range rapid.IntRange(1, 12).Draw(t, "batches") {
			for id, r := range h.reservations {
				r.lapsed = r.state == held && rapid.IntRange(0, 4).Draw(t, "lapses "+id) == 0
			}
			var ops []operation
			for i := range rapid.IntRange(1, 20).Draw(t, "calls") {
				ops = append(ops, anyOperation(t, fmt.Sprintf("%d.%d", b, i)))
			}
			h.batch(ops)
			h.check(t)
		}
	})
}

// Grouping is invisible: a batch gives every call the answer that it would have had alone, and
// leaves the same books.
func TestABatchIsTheSameAsOneByOne(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var ops []operation
		for i := range rapid.IntRange(1, 40).Draw(t, "calls") {
			ops = append(ops, anyOperation(t, fmt.Sprint(i)))
		}
		together, apart := newHistory(), newHistory()
		for i, err := range together.batch(ops) {
			alone := apart.batch(ops[i : i+1])[0]
			if fmt.Sprint(err) != fmt.Sprint(alone) {
				t.Fatalf("%d: %+v: %v in a batch, %v alone", i, ops[i], err, alone)
			}
		}
		if a, b := fmt.Sprint(together.shelves), fmt.Sprint(apart.shelves); a != b {
			t.Fatalf("%s in a batch, %s one by one", a, b)
		}
	})
}

// Every operation asked a second time, at once, changes nothing and answers the same.
func TestAskingTwiceIsAskingOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory()
		for i := range rapid.IntRange(1, 40).Draw(t, "calls") {
			o := anyOperation(t, fmt.Sprint(i))
			first := h.batch([]operation{o})[0]
			shelves := fmt.Sprint(h.shelves)
			second := h.batch([]operation{o})[0]
			if fault.KindOf(first) != fault.KindOf(second) || (first == nil) != (second == nil) {
				t.Fatalf("%+v: %v at first, then %v", o, first, second)
			}
			if after := fmt.Sprint(h.shelves); after != shelves {
				t.Fatalf("%+v: %s at first, then %s", o, shelves, after)
			}
		}
	})
}

// A refused call leaves no trace: nothing to write.
func TestARefusalWritesNothing(t *testing.T) {
	t.Parallel()
	l := newLedger(map[string]shelf{"tea": {"tea", finite, 5, 2}})
	l.reservations["gone"] = &reservation{state: released, stored: released}
	answers := l.decide([]operation{
		{verb: reserve, id: "a", lines: []line{{Product: "tea", Quantity: 4}}},
		{verb: reserve, id: "b", lines: []line{{Product: "tea", Quantity: 1}, {Product: "unicorn", Quantity: 1}}},
		{verb: reserve, id: "gone", lines: []line{{Product: "tea", Quantity: 1}}},
		{verb: commit, id: "gone"},
		{verb: commit, id: "unheard-of"},
		{verb: adjust, id: "c", product: "tea", delta: -4, kind: infinite},
		{verb: adjust, id: "d", product: "unicorn", delta: -1},
		{verb: adjust, id: "e", product: "tea", delta: onHandMax},
	})
	for i, a := range answers {
		if a.Err == nil {
			t.Errorf("operation %d was not refused", i)
		}
	}
	if l.shelves["tea"] != l.before["tea"] || len(l.shelves) != 1 || len(l.reservations) != 1 || len(l.adjustments)+len(l.movements)+len(l.events) != 0 {
		t.Errorf("refusals left a trace: %+v", l)
	}
}

// What one batch takes and gives back nobody outside could have seen.
func TestNoEventForWhatABatchUndoes(t *testing.T) {
	t.Parallel()
	l := newLedger(map[string]shelf{"tea": {"tea", finite, 1, 0}})
	l.decide([]operation{{verb: reserve, id: "a", lines: []line{{Product: "tea", Quantity: 1}}}, {verb: rollback, id: "a"}})
	if len(l.events) != 0 {
		t.Errorf("events %v", l.events)
	}
	l.decide([]operation{{verb: reserve, id: "b", lines: []line{{Product: "tea", Quantity: 1}}}})
	if len(l.events) != 1 || l.events[0].Type != "stock.sold_out" {
		t.Errorf("events %v, want stock.sold_out", l.events)
	}
}

// I7: a promise whose time is up goes back once, whoever comes first and how many follow.
func TestWhatLapsedGoesBackOnce(t *testing.T) {
	t.Parallel()
	for _, first := range []verb{expire, commit, rollback} {
		l := newLedger(map[string]shelf{"tea": {"tea", finite, 5, 4}})
		l.reservations["a"] = &reservation{state: held, stored: held, lapsed: true, lines: []line{{"tea", 3, 3}}}
		l.decide([]operation{{verb: first, id: "a"}, {verb: expire, id: "a"}, {verb: commit, id: "a"}, {verb: rollback, id: "a"}})
		if got := l.shelves["tea"]; got.reserved != 1 || got.onHand != 5 || l.reservations["a"].state != released || len(l.movements) != 0 {
			t.Errorf("%s first: %+v", first, got)
		}
	}
}

// A closure that lost to a deadlock is run again with the same operations.
func TestDecidingChangesNoOperation(t *testing.T) {
	t.Parallel()
	ops := []operation{{verb: reserve, id: "a", lines: []line{{Product: "tea", Quantity: 1}}}}
	newLedger(map[string]shelf{"tea": {"tea", finite, 1, 0}}).decide(ops)
	if ops[0].lines[0].Counted != 0 {
		t.Error("the operation was changed")
	}
}
