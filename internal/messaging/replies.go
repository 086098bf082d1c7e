package messaging

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"sync/atomic"

	amqp "github.com/rabbitmq/amqp091-go"

	"cartwright/internal/fault"
)

const replyBuffer = 1024

// Replies is the queue on which one process hears answers: exclusive, gone with its connection,
// and under a new random name on each, so that an answer to a former life reaches nobody.
type Replies struct {
	Broker Broker
	Name   string
	// Hear gets the body of each message; it must not block.
	Hear func(body []byte)
	// Lost is told that the answers to everything asked so far will not come.
	Lost func()

	queue atomic.Pointer[string]
}

// Address is the reply queue's name for a job's ReplyTo; an error while there is no connection.
func (r *Replies) Address() (string, error) {
	q := r.queue.Load()
	if q == nil {
		return "", fault.Away("the broker", errEnded)
	}
	return *q, nil
}

// Ready is nil while answers can be heard.
func (r *Replies) Ready() error {
	_, err := r.Address()
	return err
}

// Run hears answers until ctx ends.
func (r *Replies) Run(ctx context.Context) error {
	return r.Broker.sessions(ctx, r.Name+".replies", r.serve)
}

func (r *Replies) serve(ctx context.Context, conn *amqp.Connection) error {
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	address, name := r.newName()
	if _, err := ch.QueueDeclare(name, false, true, true, false, amqp.Table{"x-queue-type": "classic"}); err != nil {
		return fmt.Errorf("queue %s: %w", name, err)
	}
	if err := ch.QueueBind(name, name, r.Broker.Topology.name(r.Broker.Topology.Replies), false, nil); err != nil {
		return fmt.Errorf("queue %s: %w", name, err)
	}
	if err := ch.Qos(replyBuffer, 0, false); err != nil {
		return err
	}
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	// No acknowledgements: an answer that is lost here is asked for again.
	deliveries, err := ch.Consume(name, r.Name, true, true, false, false, nil)
	if err != nil {
		return fmt.Errorf("queue %s: %w", name, err)
	}
	r.queue.Store(&address)
	defer r.Lost()
	defer r.queue.Store(nil)
	for {
		select {
		case <-ctx.Done():
			return nil
		case reason := <-closed:
			return ended(reason)
		case d, open := <-deliveries:
			if !open {
				deliveries = nil // closed says why
				continue
			}
			r.Hear(d.Body)
		}
	}
}

// newName makes an address and the queue's full name with the namespace.
func (r *Replies) newName() (address, name string) {
	var random [16]byte
	rand.Read(random[:]) // never fails (crypto/rand)
	address = "reply." + hex.EncodeToString(random[:])
	return address, r.Broker.Topology.name(address)
}

// NewCorrelation makes a correlation ID: 128 random bits, never used twice.
func NewCorrelation() string {
	var random [16]byte
	rand.Read(random[:]) // never fails (crypto/rand)
	return hex.EncodeToString(random[:])
}
