package bench

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"cartwright/bench/floor"
	"cartwright/internal/messaging"
)

// The floor is measured for so long where the load is a real one, and for a small one.
const (
	floorLength = 6 * time.Second
	floorWarmUp = 2 * time.Second
	floorSmall  = time.Second
)

// besideFloor measures a scenario between two measurements of the floor, on the shop's own servers and with
// as many buyers and products, while the shop has nothing to do. It says what part of their mean the
// checkouts reached: a machine that others use too is rarely as fast a minute later.
func (b *bench) besideFloor(ctx context.Context, measure func(context.Context) error) error {
	before, err := b.measureFloor(ctx)
	if err != nil {
		return err
	}
	if err := measure(ctx); err != nil {
		return err
	}
	after, err := b.measureFloor(ctx)
	if err != nil {
		return err
	}
	b.report.fact("floor before", before, "checkouts/s")
	b.report.fact("floor after", after, "checkouts/s")
	b.report.fact("checkouts, as a part of the floor", b.report.phase("checkouts").Rate/((before+after)/2), "")
	return nil
}

// measureFloor returns checkouts per second.
func (b *bench) measureFloor(ctx context.Context) (float64, error) {
	b.progress.Say("measuring the floor")
	// The buyers of the floor do nothing but ask, and may have all processors for it.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU()))
	load := floor.Load{Buyers: b.buyers, Products: b.products, WarmUp: floorWarmUp, Length: floorLength}
	if b.small {
		load.WarmUp, load.Length = 0, floorSmall
	}
	least, err := floor.Measure(ctx, floor.Settings{Broker: messaging.Settings{URL: b.set.AMQPURL, Namespace: b.set.Namespace}, AdminDSN: b.set.AdminDSN}, load)
	if err != nil {
		return 0, fmt.Errorf("floor: %w", err)
	}
	return least.PerSecond, nil
}
