package chaos

import (
	"maps"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// stockSearch bounds the search for an order of one product's calls in which each was possible.
const stockSearch = 20 * time.Second

// shelf is one product's model: how many units are there. A call takes some off, or brings some in.
// Whether a checkout whose answer nobody heard has sold anything is known by now, and when is not: it
// may have been at any time since it was asked for.
var shelf = porcupine.Model{
	Init: func() any { return int64(0) },
	Step: func(state, input, _ any) (bool, any) {
		left := state.(int64) + input.(int64)
		return left >= 0, left
	},
	DescribeOperation: func(input, _ any) string { return "" },
}

// stock looks, for each product of which there were few, whether there is an order of all deliveries and
// sales in which no unit is sold that is not there.
func (j *judge) stock(entries []Entry, l *ledger) {
	for product, calls := range callsOf(entries, l) {
		if porcupine.CheckOperationsTimeout(shelf, calls, stockSearch) == porcupine.Illegal {
			j.note(ruleStock, "product %s: there is no order of its %d deliveries and sales in which each was possible", product, len(calls))
		}
	}
}

// callsOf are the deliveries and sales of each product that could run out.
func callsOf(entries []Entry, l *ledger) map[string][]porcupine.Operation {
	calls, received, sold := map[string][]porcupine.Operation{}, map[string]int64{}, map[string]int64{}
	add := func(product string, delta int64, from, to time.Duration) {
		calls[product] = append(calls[product], porcupine.Operation{ClientId: len(calls[product]), Input: delta, Call: int64(from), Return: int64(to)})
	}
	for key, e := range firstToLast(entries, opStock) {
		if e.Quantity > 0 && key != "" {
			add(e.Product, e.Quantity, e.Began, e.Ended)
			received[e.Product] += e.Quantity
		}
	}
	for _, e := range firstToLast(entries, opCheckout) {
		o := l.orders[idOf(e)]
		if o == nil || o.state != "placed" {
			continue
		}
		for product, quantity := range o.lines {
			add(product, -quantity, e.Began, e.Ended)
			sold[product] += quantity
		}
	}
	maps.DeleteFunc(calls, func(product string, _ []porcupine.Operation) bool {
		return sold[product] == 0 || received[product] > 2*sold[product] // it could not have run out
	})
	return calls
}

// firstToLast are the calls of one sort by their key: each from when it was first asked for to when it
// was first said to be done, which may be never.
func firstToLast(entries []Entry, op string) map[string]Entry {
	calls := map[string]Entry{}
	byBegin := slices.SortedStableFunc(slices.Values(entries), func(a, b Entry) int { return int(a.Began - b.Began) })
	for _, e := range byBegin {
		if e.Op != op {
			continue
		}
		first, seen := calls[e.Key]
		if !seen {
			first = e
			first.Ended = math.MaxInt64
		}
		if e.Code == 200 {
			first.Ended = min(first.Ended, e.Ended)
		}
		calls[e.Key] = first
	}
	return calls
}
