package bench

import (
	"context"
	"time"
)

// flash sells a product of which there is far too little.
func flash(ctx context.Context, b *bench) error {
	if err := b.shelve(ctx, 1, int64(b.stock)); err != nil {
		return err
	}
	from := b.newCarts(b.checkouts)
	lines := make([]line, b.checkouts)
	for i := range lines {
		lines[i] = line{from + i, 0}
	}
	_, err := b.phase(ctx, "adds", func() (Measure, error) {
		r, err := b.fill(ctx, "adds", lines, b.buyers)
		return b.gen.answers.measure("adds", r.samples, r.took), err
	})
	if err != nil {
		return err
	}
	var r result
	_, err = b.phase(ctx, "checkouts", func() (m Measure, err error) {
		r, err = b.buy(ctx, load{what: "checkouts", n: b.checkouts, hands: b.buyers}, from)
		return b.gen.answers.measure("checkouts", r.samples, r.took), err
	})
	if err != nil {
		return err
	}
	b.afterSellOut(r)
	return nil
}

// afterSellOut reports when the last unit was gone, and how those were answered who came later.
func (b *bench) afterSellOut(r result) {
	sold, gone := 0, time.Duration(0)
	for _, s := range r.samples {
		if s.answer == success {
			sold, gone = sold+1, max(gone, s.due+s.took)
		}
	}
	b.report.fact("sold", float64(sold), "units")
	if sold < b.stock {
		b.report.note("The product did not sell out: %d of %d units were confirmed.", sold, b.stock)
		return
	}
	b.report.fact("sold out after", gone.Seconds(), "s")
	var late []sample
	for _, s := range r.samples {
		if s.due >= gone {
			late = append(late, s)
		}
	}
	b.report.Phases = append(b.report.Phases, Phase{Measure: b.gen.answers.measure("checkouts after the sell-out", late, r.took-gone)})
}
