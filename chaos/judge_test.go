package chaos

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cartwright/bench"
	"cartwright/jobs"
)

// told is a history of three shoppers: ann bought two of a tea that had five, bob's card was declined
// and his pot is still in the cart, cem was only told that his checkout is accepted. A poisoned
// message lies on a dead queue.
func told() []Entry {
	at := func(from, to int) (began, ended time.Duration) {
		return time.Duration(from) * time.Second, time.Duration(to) * time.Second
	}
	say := func(op, client, product string, quantity int64, code int) Entry {
		e := Entry{Op: op, Client: client, Product: product, Quantity: quantity, Key: client + product, Code: code}
		e.ID = idOf(e)
		return e
	}
	all := []Entry{
		say(opStock, "", "tea", 5, 200), say(opStock, "", "pot", 5, 200),
		say(opAdd, "ann", "tea", 2, 0), say(opAdd, "ann", "tea", 2, 200), say(opAdd, "bob", "pot", 1, 202), say(opAdd, "cem", "tea", 1, 200),
		say(opCheckout, "ann", "", 0, 503), say(opCheckout, "ann", "", 0, 200), say(opCheckout, "ann", "", 0, 200),
		say(opCheckout, "bob", "", 0, 402), say(opCheckout, "cem", "", 0, 202),
		{Op: opOrder, Client: "cem", Code: 200, Owner: "cem", Status: "PAID", Asked: orderOf("cem"), ID: orderOf("cem")},
		{Op: opPoison, Asked: "poison-1", Status: "cart.nonsense", Code: 200},
	}
	for i := range all {
		all[i].Began, all[i].Ended = at(i, i+1)
	}
	return all
}

func orderOf(client string) string { return jobs.ID(jobs.StartCheckout, client, client) }

// kept is the ledger that belongs to it.
func kept() *ledger {
	add := func(client, product string) string { return jobs.ID(jobs.AddToCart, client, client+product) }
	return &ledger{
		orders: map[string]*order{
			orderOf("ann"): {"ann", "placed", map[string]int64{"tea": 2}},
			orderOf("bob"): {"bob", "failed", map[string]int64{}},
			orderOf("cem"): {"cem", "placed", map[string]int64{"tea": 1}},
		},
		carts: map[string]map[string]int64{"bob": {"pot": 1}},
		jobs:  map[string]cartJob{add("ann", "tea"): {}, add("bob", "pot"): {}, add("cem", "tea"): {}},
		dead:  []string{"poison-1"},
	}
}

// The checker is not blind: each thing that is wrong is found, by the rule that it breaks, and nothing
// is found where nothing is wrong.
func TestWhatIsWrongIsFound(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, rule string
		damage     func(entries []Entry, l *ledger) []Entry
	}{
		{"nothing", "", func(e []Entry, _ *ledger) []Entry { return e }},
		{"a message is buried twice, as it may be", "", func(e []Entry, l *ledger) []Entry { l.dead = append(l.dead, "poison-1"); return e }},
		{"an accepted order is lost", ruleDone, func(e []Entry, l *ledger) []Entry { delete(l.orders, orderOf("cem")); return e[:11] }},
		{"an accepted order has no end", ruleDone, func(e []Entry, l *ledger) []Entry { l.orders[orderOf("cem")].state = "placing"; return e[:11] }},
		{"an accepted add is lost", ruleDone, func(e []Entry, l *ledger) []Entry { delete(l.jobs, e[4].ID); delete(l.carts, "bob"); return e }},
		{"a unit is oversold", ruleStock, func(e []Entry, l *ledger) []Entry { e[0].Quantity = 2; return e }},
		{"a unit is sold before it came in", ruleStock, func(e []Entry, l *ledger) []Entry { e[0].Began, e[0].Ended = time.Hour, 2*time.Hour; return e }},
		{"an order has a line more", ruleCarts, func(e []Entry, l *ledger) []Entry { l.orders[orderOf("ann")].lines["pot"] = 1; return e }},
		{"a line is in the order and in the cart", ruleCarts, func(e []Entry, l *ledger) []Entry { l.carts["ann"] = map[string]int64{"tea": 2}; return e }},
		{"what a failed checkout had is gone", ruleCarts, func(e []Entry, l *ledger) []Entry { delete(l.carts, "bob"); return e }},
		{"somebody who added nothing has something", ruleCarts, func(e []Entry, l *ledger) []Entry { l.carts["eve"] = map[string]int64{"tea": 1}; return e }},
		{"a declined order is paid", ruleOneEnd, func(e []Entry, l *ledger) []Entry { l.orders[orderOf("bob")].state = "placed"; return e }},
		{"a confirmed order is cancelled", ruleOneEnd, func(e []Entry, l *ledger) []Entry { l.orders[orderOf("ann")].state = "failed"; return e }},
		{"one key has two ends", ruleOneEnd, func(e []Entry, l *ledger) []Entry { e[8].Code, e[8].Error = 402, "declined"; return e }},
		{"one key has two IDs", ruleAnswer, func(e []Entry, l *ledger) []Entry { e[8].ID = orderOf("bob"); return e }},
		{"an answer is somebody else's", ruleAnswer, func(e []Entry, l *ledger) []Entry { e[11].Owner = "ann"; return e }},
		{"an order is somebody else's", ruleAnswer, func(e []Entry, l *ledger) []Entry { l.orders[orderOf("cem")].client = "ann"; return e }},
		{"an order is said to be cancelled, and is paid", ruleOneEnd, func(e []Entry, l *ledger) []Entry { e[11].Status = "CANCELLED"; return e }},
		{"poison is gone", ruleDead, func(e []Entry, l *ledger) []Entry { l.dead = nil; return e }},
		{"a good job is buried", ruleDead, func(e []Entry, l *ledger) []Entry { l.dead = append(l.dead, e[4].ID); return e }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			j, l := newJudge(), kept()
			j.history(c.damage(told(), l), l)
			found := j.violations()
			named := slices.ContainsFunc(found, func(v Violation) bool { return v.Rule == c.rule })
			if named != (c.rule != "") || c.rule == "" && len(found) > 0 {
				t.Errorf("found %+v, want %q", found, c.rule)
			}
		})
	}
}

func TestWhatTheBooksSayIsAViolation(t *testing.T) {
	t.Parallel()
	for _, wrong := range []bench.Books{{Oversold: 1}, {Duplicates: 1}, {Lost: 1}, {Differences: []string{"a product"}}} {
		j := newJudge()
		if j.books(wrong); len(j.violations()) != 1 {
			t.Errorf("%+v is no violation", wrong)
		}
	}
	j := newJudge()
	if j.books(bench.Books{Paid: 3}); len(j.violations()) > 0 {
		t.Errorf("right books are a violation: %+v", j.violations())
	}
}

// An end that was told counts more than an acceptance, whichever came first; no answer counts least.
func TestABuyerIsHeldToTheEndThatHeWasTold(t *testing.T) {
	t.Parallel()
	client := func(n int) string { return fmt.Sprint("c", n) }
	var entries []Entry
	for n, codes := range [][]int{{202, 200}, {200, 202}, {503, 402, 0}, {202, 0}, {0, 503}, {}} {
		for _, code := range codes {
			entries = append(entries, Entry{Op: opCheckout, Client: client(n), Code: code})
		}
	}
	want := []bench.Verdict{bench.Paid, bench.Paid, bench.Refused, bench.Later, bench.Unclear, bench.NotAsked}
	for n, got := range toldOf(entries, client, len(want)) {
		if got.Verdict != want[n] {
			t.Errorf("buyer %d was told %v, want %v", n, got.Verdict, want[n])
		}
	}
}

func TestManyViolationsOfOneRuleAreCounted(t *testing.T) {
	t.Parallel()
	j := newJudge()
	for i := range shownMax + 3 {
		j.note(ruleDone, "%d", i)
	}
	if v := j.violations(); len(v) != 1 || len(v[0].Rows) != shownMax || v[0].More != 3 {
		t.Errorf("found %+v", v)
	}
}

func TestAReportSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	r := &Report{Seed: 7, Faults: []Happened{{Fault: Fault{Kind: "kill"}, Done: true}, {Fault: Fault{Kind: "stop"}}}}
	var right, wrong strings.Builder
	if err := r.write(&right, false); err != nil || r.wrong() != nil || !strings.Contains(right.String(), "1 faults of 1 kinds") || !strings.Contains(right.String(), "0 violations") {
		t.Errorf("%v %v\n%s", err, r.wrong(), right.String())
	}
	r.Violations = []Violation{{Rule: ruleDone, Rows: []string{"an order"}}}
	if err := r.write(&wrong, false); err != nil || r.wrong() == nil || !strings.Contains(wrong.String(), "an order") {
		t.Errorf("%v %v\n%s", err, r.wrong(), wrong.String())
	}
}
