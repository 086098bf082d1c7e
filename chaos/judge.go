package chaos

import (
	"fmt"
	"maps"
	"slices"

	"cartwright/bench"
	"cartwright/jobs"
)

// shownMax is how many violations of one rule are named; the rest are counted.
const shownMax = 10

// Violation is a rule that the shop has broken, and where.
type Violation struct {
	Rule string   `json:"rule"`
	Rows []string `json:"rows"` // at most shownMax
	More int      `json:"more,omitempty"`
}

// The rules that a history is held to, beside those of the books and of verify.
const (
	ruleAnswer  = "an answer belongs to the request that it answers"
	ruleOneEnd  = "one key has one ID and one end"
	ruleDone    = "what was accepted is done"
	ruleCarts   = "what was put into a cart is in the order or in the cart"
	ruleDead    = "the dead queues hold the poisoned messages, and nothing else"
	ruleLog     = "no process panics, and no secret is logged"
	ruleStock   = "a unit is sold after it came in, and once"
	ruleBooks   = "the books say what clients were told, and agree"
	ruleQuiet   = "the shop comes to rest when all is well again"
	ruleHealing = "everything runs again when all is well again"
)

// judge gathers violations.
type judge struct{ found map[string]*Violation }

func newJudge() *judge { return &judge{found: map[string]*Violation{}} }

func (j *judge) note(rule, format string, args ...any) {
	v := j.found[rule]
	if v == nil {
		v = &Violation{Rule: rule}
		j.found[rule] = v
	}
	if len(v.Rows) == shownMax {
		v.More++
		return
	}
	v.Rows = append(v.Rows, fmt.Sprintf(format, args...))
}

// violations lists what was found, rule by rule.
func (j *judge) violations() (all []Violation) {
	for _, rule := range slices.Sorted(maps.Keys(j.found)) {
		all = append(all, *j.found[rule])
	}
	return all
}

// history holds a history to the shop's ledger.
func (j *judge) history(entries []Entry, l *ledger) {
	ends := map[string]Entry{} // the first definite end of each job or order
	added := map[string]map[string]int64{}
	for _, e := range entries {
		switch e.Op {
		case opAdd, opCheckout:
			j.answer(e)
			j.oneEnd(e, ends)
			j.done(e, l)
		case opOrder, opJob:
			j.told(e, l)
		}
		if e.Op == opAdd && added[e.Client] == nil {
			added[e.Client] = map[string]int64{}
		}
		if job, is := l.jobs[idOf(e)]; e.Op == opAdd && is && !job.refused {
			added[e.Client][e.Product] = e.Quantity // once, however often it was asked for
		}
	}
	j.carts(added, l)
	j.dead(entries, l)
	j.stock(entries, l)
}

// idOf is the ID that the job of a request must have; empty for what is none.
func idOf(e Entry) string {
	switch e.Op {
	case opAdd:
		return jobs.ID(jobs.AddToCart, e.Client, e.Key)
	case opCheckout:
		return jobs.ID(jobs.StartCheckout, e.Client, e.Key)
	}
	return ""
}

// name is a request in words.
func (e Entry) name() string {
	return fmt.Sprintf("%s of %s %s at %.3f s", e.Op, e.Client, e.Product, e.Began.Seconds())
}

func (j *judge) answer(e Entry) {
	if want := idOf(e); e.ID != want && (e.ID != "" || e.accepted()) {
		j.note(ruleAnswer, "%s was answered with %q, its ID is %s", e.name(), e.ID, want)
	}
}

// oneEnd compares the ends that one key was told. A refusal without an ID is none: nothing was kept of
// that request.
func (j *judge) oneEnd(e Entry, ends map[string]Entry) {
	if !e.definite() || e.ID == "" {
		return
	}
	first, seen := ends[e.ID]
	switch {
	case !seen:
		ends[e.ID] = e
	case first.Code != e.Code || first.Error != e.Error:
		j.note(ruleOneEnd, "%s was answered %d %s, and later %d %s", first.name(), first.Code, first.Error, e.Code, e.Error)
	}
}

// done holds a request to what became of it. Whether a checkout that was accepted has an order, the
// comparison with the books tells as well; here each of the answers counts, and not only the last.
func (j *judge) done(e Entry, l *ledger) {
	id := idOf(e)
	if e.Op == opCheckout {
		o := l.orders[id]
		switch {
		case e.accepted() && o == nil:
			j.note(ruleDone, "%s was answered %d, and there is no order %s", e.name(), e.Code, id)
		case o != nil && o.client != e.Client:
			j.note(ruleAnswer, "%s became an order of %s", e.name(), o.client)
		case o != nil && (e.Code == 200 && o.state != "placed" || e.refused() && o.state != "failed"):
			j.note(ruleOneEnd, "%s was answered %d %s, and its order is %s", e.name(), e.Code, e.Error, o.state)
		case o != nil && o.state != "placed" && o.state != "failed":
			j.note(ruleDone, "%s: its order is still %s", e.name(), o.state)
		}
		return
	}
	job, known := l.jobs[id]
	switch {
	case e.accepted() && !known:
		j.note(ruleDone, "%s was answered %d, and was not done", e.name(), e.Code)
	case known && e.ID != "" && (e.Code == 200 && job.refused || e.refused() && !job.refused):
		j.note(ruleOneEnd, "%s was answered %d %s, and the job says otherwise", e.name(), e.Code, e.Error)
	}
}

// told holds the answer to a question to what became of what was asked for.
func (j *judge) told(e Entry, l *ledger) {
	if e.Code != 200 {
		return
	}
	if e.ID != e.Asked || e.Op == opOrder && e.Owner != e.Client {
		j.note(ruleAnswer, "%s asked for %s and was told of %s of %s", e.name(), e.Asked, e.ID, e.Owner)
	}
	if !e.ended() {
		return
	}
	switch o, job := l.orders[e.Asked], l.jobs[e.Asked]; {
	case e.Op == opOrder && (o == nil || (e.Status == "PAID") != (o.state == "placed")):
		j.note(ruleOneEnd, "%s was told that %s is %s, and it is not", e.name(), e.Asked, e.Status)
	case e.Op == opJob && (e.Status == "Failed") != job.refused:
		j.note(ruleOneEnd, "%s was told that %s is %s, and it is not", e.name(), e.Asked, e.Status)
	}
}

// carts holds what was added, by client and product, to the orders and the carts.
func (j *judge) carts(added map[string]map[string]int64, l *ledger) {
	have := map[string]map[string]int64{}
	count := func(client string, lines map[string]int64) {
		if have[client] == nil {
			have[client] = map[string]int64{}
		}
		for product, quantity := range lines {
			have[client][product] += quantity
		}
	}
	for client, lines := range l.carts {
		count(client, lines)
	}
	for _, o := range l.orders {
		if o.state == "placed" {
			count(o.client, o.lines)
		}
	}
	for client, lines := range added {
		if !maps.Equal(lines, have[client]) {
			j.note(ruleCarts, "%s added %v, and has %v", client, lines, have[client])
		}
		delete(have, client)
	}
	for client, lines := range have {
		j.note(ruleCarts, "%s added nothing, and has %v", client, lines)
	}
}

// dead holds the dead queues to the poison: a message may be there twice, but no other may be there,
// and none that was put on its queue for certain may be missing.
func (j *judge) dead(entries []Entry, l *ledger) {
	poison := map[string]bool{}
	for _, e := range entries {
		if e.Op != opPoison {
			continue
		}
		poison[e.Asked] = true
		if e.Code == 200 && !slices.Contains(l.dead, e.Asked) {
			j.note(ruleDead, "message %s (%s) is on no dead queue", e.Asked, e.Status)
		}
	}
	for _, id := range l.dead {
		if !poison[id] {
			j.note(ruleDead, "message %s was buried, and is no poison", id)
		}
	}
}

// toldOf is what each cart's buyer was told at last: an end counts more than an acceptance.
func toldOf(entries []Entry, client func(int) string, shoppers int) []bench.Told {
	number := map[string]int{}
	for n := range shoppers {
		number[client(n)] = n
	}
	all := make([]bench.Told, shoppers)
	for _, e := range entries {
		n, is := number[e.Client]
		if e.Op != opCheckout || !is {
			continue
		}
		verdict := bench.Unclear
		switch {
		case e.Code == 200:
			verdict = bench.Paid
		case e.Code == 202:
			verdict = bench.Later
		case e.refused():
			verdict = bench.Refused
		}
		known := &all[n]
		if decided := known.Verdict == bench.Paid || known.Verdict == bench.Refused; decided || known.Verdict == bench.Later && verdict == bench.Unclear {
			continue
		}
		*known = bench.Told{Verdict: verdict, Words: fmt.Sprint(e.Code, " ", e.Error)}
	}
	return all
}
