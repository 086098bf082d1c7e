package checkoutmanager

import (
	"context"
	"fmt"
	"iter"
	"testing"
	"time"

	"cartwright/internal/fault"
	"cartwright/internal/money"
)

// This file runs the real walk through every history up to a bound: each call to a neighbour may
// be fine, lost, answered into the void, delayed (to arrive between any two later attempts, or
// last of all) or refused; each save may crash before or after it is committed; and two workers
// may walk one checkout with their calls interleaved in every way. After each history the
// neighbours' books must agree with the end that the checkout came to.

// rules are what keeps the histories whole. Each can be left out, to show that it is needed.
type rules struct {
	tombstones   bool // an undo refuses the do that comes after it
	undoRefused  bool // a step that was refused is undone too
	undoSilent   bool // a step that never answered is undone too
	guardedSaves bool // a save counts only from the state that it starts from
	moneyFirst   bool // money is given back before anything else
	askAgain     bool // silence is no answer
}

func allRules() rules { return rules{true, true, true, true, true, true} }

// choices enumerates: each run of a history asks for numbers, and next moves to the first
// sequence of answers that has not been tried.
type choices struct {
	taken  []int
	limits []int
	at     int
}

// pick returns 0 to n-1.
func (c *choices) pick(n int) int {
	if c.at == len(c.taken) {
		c.taken, c.limits = append(c.taken, 0), append(c.limits, n)
	}
	c.at++
	return c.taken[c.at-1]
}

// next tells whether there is another history.
func (c *choices) next() bool {
	c.at = 0
	for i := len(c.taken) - 1; i >= 0; i-- {
		if c.taken[i]+1 < c.limits[i] {
			c.taken[i]++
			c.taken, c.limits = c.taken[:i+1], c.limits[:i+1]
			return true
		}
	}
	return false
}

// world is everything outside the walk: the neighbours, the saved row, what is on its way.
type world struct {
	choices *choices
	rules   rules
	faults  int // that may still happen
	attempt int

	cart, stock, money string // the neighbours' books on this checkout
	row                state
	reason             *fault.Error
	late               []func() // requests that the network still holds
	broken             string   // what went wrong at a moment in between
}

// worker is one walker's view of the world; it remembers what was answered to it, which only the
// rules that are left out make use of.
type modelWorker struct {
	*world
	turn     func() // lets another worker go first
	answered map[string]string
}

type crash struct{}

var silence = fault.New(fault.Unavailable, "silence", "no answer")

// call asks a neighbour, with everything that may go wrong on the way.
func (w *modelWorker) call(name string, refusable bool, do func() error) error {
	w.turn()
	kinds := 1
	if w.faults > 0 {
		kinds = 4
		if refusable {
			kinds = 5
		}
	}
	kind := w.choices.pick(kinds)
	if kind > 0 {
		w.faults--
	}
	var err error
	switch kind {
	case 0:
		err = do()
	case 1: // lost
		err = silence
	case 2: // answered into the void
		do() //nolint:errcheck // nobody hears it
		err = silence
	case 3: // delayed
		w.late = append(w.late, func() { do() }) //nolint:errcheck // nobody hears it
		err = silence
	case 4:
		err = fault.New(fault.Refused, "no", "no")
	}
	w.look()
	switch {
	case err == nil:
		w.answered[name] = "yes"
	case fault.Is(err, fault.Refused):
		w.answered[name] = "no"
	default:
		w.answered[name] = "silence"
		if !w.rules.askAgain {
			return fault.New(fault.Refused, "silence", "silence taken for a no")
		}
	}
	return err
}

// undo asks for a step to be taken back, unless a rule that is left out forgets it.
func (w *modelWorker) undo(step, name string, do func() error) error {
	switch w.answered[step] {
	case "no":
		if !w.rules.undoRefused {
			return nil
		}
	case "silence":
		if !w.rules.undoSilent {
			return nil
		}
	}
	return w.call(name, false, do)
}

// look checks what must hold at every moment.
func (w *world) look() {
	if w.stock == "released" && w.money == "charged" {
		w.broken = "stock was given back while the money was still taken"
	}
}

var refused = fault.New(fault.Refused, "refused", "refused")

func (w *modelWorker) freeze(context.Context, *checkout) ([]line, money.Amount, error) {
	return []line{{"tea", "Tea", 1, 100}}, money.Amount{Minor: 100, Currency: "EUR"}, w.call("freeze", true, func() error {
		if w.cart == "thawed" {
			return refused
		}
		w.cart = "frozen"
		return nil
	})
}

func (w *modelWorker) thaw(context.Context, *checkout) error {
	return w.undo("freeze", "thaw", func() error {
		w.cart = w.grave("thawed")
		return nil
	})
}

func (w *modelWorker) reserve(context.Context, *checkout) error {
	return w.call("reserve", true, func() error {
		switch w.stock {
		case "released":
			return refused
		case "":
			w.stock = "held"
		}
		return nil
	})
}

func (w *modelWorker) commit(context.Context, *checkout) error {
	return w.call("commit", true, func() error {
		switch w.stock {
		case "held", "sold":
			w.stock = "sold"
			return nil
		}
		return refused
	})
}

func (w *modelWorker) rollback(context.Context, *checkout) error {
	return w.undo("reserve", "rollback", func() error {
		w.stock = w.grave("released")
		return nil
	})
}

func (w *modelWorker) charge(context.Context, *checkout) error {
	return w.call("charge", true, func() error {
		if w.money == "refunded" {
			return refused
		}
		w.money = "charged"
		return nil
	})
}

func (w *modelWorker) refund(context.Context, *checkout) error {
	return w.undo("charge", "refund", func() error {
		w.money = w.grave("refunded")
		return nil
	})
}

// grave is what an undo leaves behind.
func (w *world) grave(tombstone string) string {
	if w.rules.tombstones {
		return tombstone
	}
	return ""
}

// save changes the row, with a crash before or after.
func (w *modelWorker) save(c *checkout, from, to state, reason *fault.Error) error {
	w.turn()
	kinds := 1
	if w.faults > 0 {
		kinds = 3
	}
	kind := w.choices.pick(kinds)
	if kind > 0 {
		w.faults--
	}
	if kind == 1 {
		panic(crash{})
	}
	if w.row == from || !w.rules.guardedSaves {
		w.row = to
		if reason != nil {
			w.reason = reason
		}
	}
	if kind == 2 {
		panic(crash{})
	}
	c.state, c.reason = w.row, w.reason
	return nil
}

func (w *modelWorker) turnRound(c *checkout, reason *fault.Error) error {
	return w.save(c, placing, undoing, reason)
}

// modelBook is the book of a model worker.
type modelBook struct{ *modelWorker }

func (b modelBook) turn(_ context.Context, c *checkout, reason *fault.Error) error {
	return b.turnRound(c, reason)
}
func (b modelBook) end(_ context.Context, c *checkout, from, to state) error {
	return b.save(c, from, to, nil)
}

// try walks the checkout once with the real saga; false when it has to be walked again.
func (w *modelWorker) try() (ended bool) {
	defer func() {
		if p := recover(); p != nil {
			if _, isCrash := p.(crash); !isCrash {
				panic(p)
			}
			w.answered = map[string]string{} // a new process remembers nothing
		}
	}()
	clock := time.Unix(0, 0)
	c := &checkout{id: "c", state: w.row, reason: w.reason, opened: clock, total: money.Amount{Minor: 100, Currency: "EUR"}}
	s := &saga{steps: w.steps(), carts: w, stock: w, cash: w, book: modelBook{w}, patience: time.Minute, now: func() time.Time {
		return clock.Add(time.Duration(w.attempt/patienceAttempts) * time.Hour)
	}}
	return s.walk(context.Background(), c) == nil
}

// patienceAttempts is how many attempts patience lasts for.
const patienceAttempts = 3

func (w *world) steps() []step {
	steps := checkoutSteps()
	if !w.rules.moneyFirst { // the undos change places
		steps[1].undo, steps[2].undo = steps[2].undo, steps[1].undo
	}
	return steps
}

// deliver lets requests that are on their way arrive now, or later.
func (w *world) deliver(all bool) {
	var still []func()
	for _, arrive := range w.late {
		if all || w.choices.pick(2) == 1 {
			arrive()
			w.look()
			continue
		}
		still = append(still, arrive)
	}
	w.late = still
}

const attemptsEnough = 12

// alone is one worker, walking until the end.
func (w *world) alone() {
	worker := &modelWorker{world: w, turn: func() {}, answered: map[string]string{}}
	for !worker.try() {
		w.deliver(false)
		if w.attempt++; w.attempt > attemptsEnough {
			w.broken = "it does not end"
			return
		}
	}
}

// together is two workers on one checkout, their calls interleaved by choice. Whoever crashes or
// hears nothing starts again once.
func (w *world) together() {
	run := func() (next func() (struct{}, bool), stop func()) {
		return iter.Pull(func(yield func(struct{}) bool) {
			worker := &modelWorker{world: w, turn: func() { yield(struct{}{}) }, answered: map[string]string{}}
			worker.try()
		})
	}
	first, stopFirst := run()
	second, stopSecond := run()
	defer stopFirst()
	defer stopSecond()
	goesOn := []bool{true, true}
	for goesOn[0] || goesOn[1] {
		who := 0
		switch {
		case goesOn[0] && goesOn[1]:
			who = w.choices.pick(2)
		case goesOn[1]:
			who = 1
		}
		_, goesOn[who] = []func() (struct{}, bool){first, second}[who]()
	}
	w.alone() // rescue, once both are gone
}

// verdict says what is wrong once everything has ended and arrived; empty when nothing is.
func (w *world) verdict() string {
	w.deliver(true)
	switch {
	case w.broken != "":
		return w.broken
	case w.row == placed && (w.cart != "frozen" || w.stock != "sold" || w.money != "charged"):
		return fmt.Sprintf("placed, but cart %q, stock %q, money %q", w.cart, w.stock, w.money)
	case w.row == failed && (w.cart == "frozen" || w.stock == "held" || w.stock == "sold" || w.money == "charged"):
		return fmt.Sprintf("failed, but cart %q, stock %q, money %q", w.cart, w.stock, w.money)
	case w.row != placed && w.row != failed:
		return fmt.Sprintf("ended %s", w.row)
	}
	return ""
}

// enumerate runs every history with up to so many faults, at most limit of them.
func enumerate(r rules, faults, limit int, play func(*world)) (histories, broken int, example string) {
	c := &choices{}
	for {
		w := &world{choices: c, rules: r, faults: faults, row: placing}
		play(w)
		histories++
		if v := w.verdict(); v != "" {
			broken++
			if example == "" {
				example = v
			}
		}
		if !c.next() || histories == limit {
			return histories, broken, example
		}
	}
}

// K8, B1: every history of one checkout with up to four faults ends whole.
func TestEveryHistoryOfACheckoutEndsWhole(t *testing.T) {
	t.Parallel()
	histories, broken, example := enumerate(allRules(), 4, 0, (*world).alone)
	t.Logf("%d histories, %d broken", histories, broken)
	if broken > 0 {
		t.Errorf("%d of %d histories broken, such as: %s", broken, histories, example)
	}
	if histories < 50_000 {
		t.Errorf("only %d histories, want at least 50,000", histories)
	}
}

// I11: two workers on one checkout, one fault, every interleaving up to a bound.
func TestEveryHistoryOfTwoWorkersEndsWhole(t *testing.T) {
	t.Parallel()
	limit := 200_000
	if testing.Short() {
		limit = 50_000
	}
	histories, broken, example := enumerate(allRules(), 1, limit, (*world).together)
	t.Logf("%d histories, %d broken", histories, broken)
	if broken > 0 {
		t.Errorf("%d of %d histories broken, such as: %s", broken, histories, example)
	}
}

// Each rule of the saga is needed: without it, there are histories that end broken.
func TestLeavingOutAnyRuleBreaksHistories(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		leaveOut func(*rules)
		play     func(*world)
	}{
		"tombstones":                           {func(r *rules) { r.tombstones = false }, (*world).alone},
		"undo of a step that was refused":      {func(r *rules) { r.undoRefused = false }, (*world).alone},
		"undo of a step that never answered":   {func(r *rules) { r.undoSilent, r.askAgain = false, false }, (*world).alone},
		"giving up undoes what never answered": {func(r *rules) { r.undoSilent = false }, (*world).alone},
		"guarded saves":                        {func(r *rules) { r.guardedSaves = false }, (*world).together},
		"money first":                          {func(r *rules) { r.moneyFirst = false }, (*world).alone},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := allRules()
			c.leaveOut(&r)
			histories, broken, example := enumerate(r, 3, 60_000, c.play)
			t.Logf("%d of %d histories broken, such as: %s", broken, histories, example)
			if broken == 0 {
				t.Errorf("none of %d histories broken: the rule seems to be needless", histories)
			}
		})
	}
}
