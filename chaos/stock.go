package chaos

import (
	"maps"
	"math"
	"slices"
	"time"
)

// never is when what nobody was told of has ended.
const never = time.Duration(math.MaxInt64)

// change is what one call did to a shelf: goods came in at the earliest when that was asked for, and a
// sale was made at the latest when its buyer was told.
type change struct {
	at    time.Duration
	units int64
}

// stock looks, for each product, whether the calls can have happened in some order, each between its
// request and its answer, in which no unit is sold that is not there (linearizability). Deliveries only
// add and sales only take, so of all orders the one with the earliest deliveries and the latest sales
// leaves most on the shelf: if that one goes below zero, all do. Whether a checkout has sold anything the
// ledger says; when, nobody knows if nobody was told, and then it may have been at any later time.
func (j *judge) stock(entries []Entry, l *ledger) {
	for product, changes := range changesOf(entries, l) {
		slices.SortFunc(changes, func(a, b change) int {
			if a.at != b.at {
				return int(max(-1, min(1, a.at-b.at)))
			}
			return int(b.units - a.units) // goods first
		})
		left := int64(0)
		for _, c := range changes {
			if left += c.units; left < 0 {
				j.note(ruleStock, "product %s: %d units had been sold beyond all that had come in, %s", product, -left, when(c.at))
				break
			}
		}
	}
}

func when(at time.Duration) string {
	if at == never {
		return "in the end"
	}
	return "at " + at.String()
}

// changesOf are the deliveries and sales of each product.
func changesOf(entries []Entry, l *ledger) map[string][]change {
	changes := map[string][]change{}
	for _, e := range calls(entries, opStock) {
		if e.Quantity > 0 {
			changes[e.Product] = append(changes[e.Product], change{e.Began, e.Quantity})
		}
	}
	for _, e := range calls(entries, opCheckout) {
		o := l.orders[idOf(e)]
		if o == nil || o.state != "placed" {
			continue
		}
		for product, quantity := range o.lines {
			changes[product] = append(changes[product], change{e.Ended, -quantity})
		}
	}
	return changes
}

// calls are the calls of one sort: each from when it was first asked for to when it was first said to be
// done, which may be never.
func calls(entries []Entry, op string) []Entry {
	byKey := map[string]Entry{}
	for _, e := range entries {
		if e.Op != op {
			continue
		}
		call, seen := byKey[e.Key]
		if !seen {
			call = e
			call.Ended = never
		}
		call.Began = min(call.Began, e.Began)
		if e.Code == 200 {
			call.Ended = min(call.Ended, e.Ended)
		}
		byKey[e.Key] = call
	}
	return slices.Collect(maps.Values(byKey))
}
