package checkoutmanager

import "context"

func (s *saga) freezeCart(ctx context.Context, c *checkout) (err error) {
	c.lines, c.total, err = s.carts.freeze(ctx, c)
	return err
}

func (s *saga) thawCart(ctx context.Context, c *checkout) error { return s.carts.thaw(ctx, c) }

func (s *saga) reserveStock(ctx context.Context, c *checkout) error { return s.stock.reserve(ctx, c) }

// rollBackStock puts everything back on the shelf, whether it is held or already sold.
func (s *saga) rollBackStock(ctx context.Context, c *checkout) error { return s.stock.rollback(ctx, c) }

// takePayment charges the total; what costs nothing needs no payment.
func (s *saga) takePayment(ctx context.Context, c *checkout) error {
	if c.total.Minor == 0 {
		return nil
	}
	return s.cash.charge(ctx, c)
}

// giveMoneyBack cancels at the provider, or refunds what was charged. Until that is certain,
// nothing else is given back.
func (s *saga) giveMoneyBack(ctx context.Context, c *checkout) error { return s.cash.refund(ctx, c) }

func (s *saga) commitStock(ctx context.Context, c *checkout) error { return s.stock.commit(ctx, c) }

// leaveToRollBack: what is sold goes back by the same call as what is held.
func (s *saga) leaveToRollBack(context.Context, *checkout) error { return nil }
