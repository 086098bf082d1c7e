package checkoutmanager

import (
	"context"
	"fmt"
	"time"

	"cartwright/internal/fault"
	"cartwright/internal/money"
	"cartwright/internal/mutation"
)

// state is the saga's memory of a checkout, saved in its row.
type state string

const (
	placing state = "placing" // on the way forward
	undoing state = "undoing" // turned round: everything is being given back
	placed  state = "placed"  // the end: all promises were kept
	failed  state = "failed"  // the end: nothing is held, nothing was taken
)

// checkout is one checkout as a worker sees it: the row as it was last read or saved, and what
// the steps have learnt since. Customers know it by its order's ID, which follows from their key;
// the promises of others are made under its own, which its row was saved with.
type checkout struct {
	id, orderID, clientID, method, email string

	state  state
	reason *fault.Error // why it turned round
	lines  []line       // known once the cart is frozen
	total  money.Amount
	opened time.Time // by this process's clock, from the age that the database told
}

// line is one product of an order, at the catalogue's name and price of the freeze.
type line struct {
	productID, name string
	quantity        int64
	unitPriceMinor  int64
}

// What the saga needs of others. Every call is idempotent by the checkout's ID. An error of the
// kind fault.Unavailable is silence: it may have happened. Every other labelled error is a no.
type (
	cartKeeper interface {
		freeze(context.Context, *checkout) ([]line, money.Amount, error)
		thaw(context.Context, *checkout) error
	}
	stockKeeper interface {
		reserve(context.Context, *checkout) error
		commit(context.Context, *checkout) error
		rollback(context.Context, *checkout) error
	}
	cashier interface {
		charge(context.Context, *checkout) error
		refund(context.Context, *checkout) error
	}
	// book saves the two moves of a checkout. turn and end are guarded by the saved state, and
	// put the row into c as it is afterwards, whoever decided it.
	book interface {
		turn(ctx context.Context, c *checkout, reason *fault.Error) error
		end(ctx context.Context, c *checkout, from, to state) error
	}
)

// saga walks checkouts to one of their two ends.
type saga struct {
	steps    []step
	carts    cartKeeper
	stock    stockKeeper
	cash     cashier
	book     book
	patience time.Duration // shorter than a reservation lives, so nothing expires while it is being paid
	now      func() time.Time
}

// step is a promise that another service makes to a checkout. It may be asked for, and taken
// back, any number of times, and taken back without ever having been asked for.
type step struct {
	name string
	do   func(*saga, context.Context, *checkout) error
	undo func(*saga, context.Context, *checkout) error
}

// The order of these lines is the saga; undo goes through them backwards, so money is given back
// before stock, and stock before the cart.
func checkoutSteps() []step {
	steps := []step{
		{"freeze cart", (*saga).freezeCart, (*saga).thawCart},
		{"reserve stock", (*saga).reserveStock, (*saga).rollBackStock},
		{"take payment", (*saga).takePayment, (*saga).giveMoneyBack},
		{"commit stock", (*saga).commitStock, (*saga).leaveToRollBack},
	}
	if mutation.On(mutation.UnitsBeforeMoney) {
		steps[1].undo, steps[2].undo = steps[2].undo, steps[1].undo
	}
	return steps
}

// walk takes a checkout as far as it can go now. It starts from the top every time, also after a
// crash: each step answers as it did before, so nothing is saved between steps on the way
// forward. An error means that somebody did not answer: walk again, any time, anywhere.
func (s *saga) walk(ctx context.Context, c *checkout) error {
	if c.state == placing {
		if err := s.forward(ctx, c); err != nil {
			return err
		}
	}
	if c.state == undoing { // turned just now, or earlier, or by another worker in between
		return s.back(ctx, c)
	}
	return nil
}

// forward asks for each promise in turn, and then writes the order.
func (s *saga) forward(ctx context.Context, c *checkout) error {
	for _, step := range s.steps {
		if err := step.do(s, ctx, c); err != nil {
			return s.stopped(ctx, c, step.name, err)
		}
	}
	if err := s.book.end(ctx, c, placing, placed); err != nil {
		return s.stopped(ctx, c, "save order", err)
	}
	return nil
}

// stopped decides what an error on the way forward means. A no turns the checkout round. Silence
// does not: the step may have happened, and asking again is how we find out, for as long as
// patience lasts. That goes for the order itself too: money is not kept for one that cannot be
// written. If it was written after all, the turn finds it placed, and changes nothing.
func (s *saga) stopped(ctx context.Context, c *checkout, step string, err error) error {
	switch {
	case isNo(err):
		return s.book.turn(ctx, c, fault.As(err))
	case s.now().Sub(c.opened) > s.patience:
		return s.book.turn(ctx, c, fault.New(fault.Refused, "timed_out", "the checkout was given up: %s took too long", step))
	default:
		return fmt.Errorf("%s: %w", step, err)
	}
}

// back takes every promise back, also those that were refused, never answered or never asked for
// by us: a request may still be on its way, perhaps from a worker that sleeps. Each undo leaves a
// tombstone behind which such a latecomer is refused.
func (s *saga) back(ctx context.Context, c *checkout) error {
	for i := len(s.steps) - 1; i >= 0; i-- {
		err := s.steps[i].undo(s, ctx, c)
		switch {
		case err == nil:
		case isNo(err): // such as a refund that the provider refuses: people must help, and rescue keeps asking
			return &fault.Error{Kind: fault.Unavailable, Code: undoRefused, Message: "undo of " + s.steps[i].name + " was refused: " + err.Error()}
		default:
			return fmt.Errorf("undo of %s: %w", s.steps[i].name, err)
		}
	}
	return s.book.end(ctx, c, undoing, failed)
}

// undoRefused is the code of a way back that somebody has barred for now.
const undoRefused = "undo_refused"

// isNo tells a definite no from silence and from errors of ours, after both of which asking again
// is right.
func isNo(err error) bool {
	switch fault.KindOf(err) {
	case fault.Unavailable, fault.Internal:
		return mutation.On(mutation.SilenceIsNo)
	}
	return true
}
