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

// compareWithFloor measures the floor on the shop's own servers, with as many buyers and products,
// while the shop has nothing to do, and says what part of it the checkouts reached.
func (b *bench) compareWithFloor(ctx context.Context) error {
	b.progress.say("measuring the floor")
	// The buyers of the floor do nothing but ask, and may have all processors for it.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU()))
	load := floor.Load{Buyers: b.buyers, Products: b.products, WarmUp: floorWarmUp, Length: floorLength}
	if b.small {
		load.WarmUp, load.Length = 0, floorSmall
	}
	least, err := floor.Measure(ctx, floor.Settings{Broker: messaging.Settings{URL: b.set.AMQPURL, Namespace: b.set.Namespace}, AdminDSN: b.set.AdminDSN}, load)
	if err != nil {
		return fmt.Errorf("floor: %w", err)
	}
	b.report.fact("floor", least.PerSecond, "checkouts/s")
	b.report.fact("checkouts, as a part of the floor", b.report.phase("checkouts").Rate/least.PerSecond, "")
	return nil
}
