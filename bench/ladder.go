package bench

import (
	"context"
	"fmt"
	"time"
)

// stepsMax ends a ladder that the shop never falls off.
const stepsMax = 100

// ladder raises the rate step by step until the p99 passes the limit or an answer is no 200. The
// knee is the last step before.
func ladder(ctx context.Context, b *bench) error {
	if err := b.shelve(ctx, b.products, plenty); err != nil {
		return err
	}
	if err := b.rung(ctx, b.rate, time.Duration(b.warmup)*time.Second, nil); err != nil {
		return err
	}
	knee := 0
	b.report.limit = b.limit
	steps := stepsMax
	if b.small {
		steps = smallSteps
	}
	for rate := b.rate; len(b.report.Phases) < steps; rate += b.step {
		var m Measure
		if err := b.rung(ctx, rate, time.Duration(b.seconds)*time.Second, &m); err != nil {
			return err
		}
		b.report.Phases = append(b.report.Phases, Phase{Measure: m})
		if m.P99 > ms(b.limit) || !m.allOK() {
			break
		}
		knee = rate
	}
	b.report.fact("knee: the last step with a p99 within "+b.limit.String()+" and no errors", float64(knee), "checkouts/s")
	if len(b.report.Phases) == steps {
		b.report.note("The ladder ended before the shop's limit was found: raise --step.")
	}
	return nil
}

// smallSteps are enough to see that the rate is raised.
const smallSteps = 2

// rung offers one rate for a while.
func (b *bench) rung(ctx context.Context, rate int, lasts time.Duration, m *Measure) error {
	n := int(float64(rate) * lasts.Seconds())
	from := b.newCarts(n)
	lines := make([]line, n)
	for i := range lines {
		lines[i] = line{from + i, (from + i) % b.products}
	}
	if _, err := b.fill(ctx, "carts", lines, b.buyers); err != nil {
		return err
	}
	if err := b.quiet(ctx); err != nil {
		return err
	}
	name := fmt.Sprintf("%d checkouts/s", rate)
	r, err := b.buy(ctx, load{what: name, n: n, hands: handsMax, rate: rate}, from)
	if err != nil {
		return err
	}
	if m != nil {
		*m = b.gen.answers.measure(name, r.samples, r.took)
		m.Offered = rate
	}
	return b.quiet(ctx)
}
