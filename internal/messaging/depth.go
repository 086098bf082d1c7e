package messaging

import (
	"context"
	"fmt"
)

// Depth is how much waits on a queue now.
type Depth struct {
	Queue     Queue
	Waiting   int // ready to be delivered; what workers have in hand is not counted
	Consumers int
}

// Depths looks at every work queue of the topology and its companions, in that order.
func (b Broker) Depths(ctx context.Context) ([]Depth, error) {
	var depths []Depth
	err := b.session(ctx, "depths", func(_ context.Context, conn *connection) error {
		ch, err := conn.Channel()
		if err != nil {
			return err
		}
		for _, w := range b.Topology.Work {
			for _, q := range w.Name.all() {
				state, err := ch.QueueDeclarePassive(b.Topology.queue(q), true, false, false, false, nil)
				if err != nil {
					return fmt.Errorf("queue %s: %w", q, err)
				}
				depths = append(depths, Depth{q, state.Messages, state.Consumers})
			}
		}
		return nil
	})
	return depths, err
}
