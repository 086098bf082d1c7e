package messaging

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
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

// Flow is what the broker's administration tells of a queue beyond its depth. What it does not tell,
// because its figures are off or too old, is nil.
type Flow struct {
	InHand  *int     // delivered and not acknowledged
	In, Out *float64 // messages a second that came, and that were acknowledged
}

// Flow asks about a queue in the virtual host of an AMQP URL. Errors: fault.Unavailable without an answer.
func (a *Administration) Flow(ctx context.Context, amqpURL string, t Topology, q Queue) (Flow, error) {
	u, err := parse(amqpURL)
	if err != nil {
		return Flow{}, err
	}
	_, said, err := a.ask(ctx, http.MethodGet, nil, "queues", u.Vhost, t.queue(q))
	if err != nil {
		return Flow{}, err
	}
	type rate struct {
		Rate *float64 `json:"rate"`
	}
	var told struct {
		Unacknowledged *int `json:"messages_unacknowledged"`
		Stats          struct {
			Publish rate `json:"publish_details"`
			Ack     rate `json:"ack_details"`
		} `json:"message_stats"`
	}
	if err := json.Unmarshal(said, &told); err != nil {
		return Flow{}, fmt.Errorf("the broker's administration on queue %s: %w", q, err)
	}
	return Flow{InHand: told.Unacknowledged, In: told.Stats.Publish.Rate, Out: told.Stats.Ack.Rate}, nil
}
