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

const (
	privateBuffer = 1024 // messages on their way to one process
	replyPrefix   = "reply."
	watchPrefix   = "watch."
)

// Watch hears events, each process all of them, from when it is connected on. What happened before,
// or while the connection was lost, it does not hear: it serves to forget what one has remembered,
// never to learn what one must know.
type Watch struct {
	Broker Broker
	Name   string
	Types  []string // of events, as routing keys
	// Hear gets the body of each event; it must not block.
	Hear func(body []byte)
	// Lost is told that events may have been missed.
	Lost func()

	ready atomic.Bool
}

// Ready is nil while events can be heard.
func (w *Watch) Ready() error {
	if !w.ready.Load() {
		return fault.Away("the broker", errEnded)
	}
	return nil
}

// Run hears events until ctx ends.
func (w *Watch) Run(ctx context.Context) error {
	return w.Broker.sessions(ctx, w.Name+".watch", w.serve)
}

func (w *Watch) serve(ctx context.Context, conn *connection) error {
	t := w.Broker.Topology
	q, err := openPrivate(conn, t.name(watchPrefix+randomName()), t.name(t.Events), w.Types, w.Name)
	if err != nil {
		return err
	}
	w.ready.Store(true)
	defer w.Lost()
	defer w.ready.Store(false)
	return q.hear(ctx, w.Hear)
}

// private is a queue of one connection: exclusive, and gone with it.
type private struct {
	deliveries <-chan amqp.Delivery
	closed     <-chan *amqp.Error
}

// openPrivate makes the queue, binds it to an exchange and consumes it. There are no
// acknowledgements: what is lost here can be asked for again.
func openPrivate(conn *connection, name, exchange string, keys []string, consumer string) (*private, error) {
	ch, err := conn.Channel()
	if err != nil {
		return nil, err
	}
	if _, err := ch.QueueDeclare(name, false, true, true, false, amqp.Table{"x-queue-type": "classic"}); err != nil {
		return nil, fmt.Errorf("queue %s: %w", name, err)
	}
	for _, key := range keys {
		if err := ch.QueueBind(name, key, exchange, false, nil); err != nil {
			return nil, fmt.Errorf("queue %s: %w", name, err)
		}
	}
	if err := ch.Qos(privateBuffer, 0, false); err != nil {
		return nil, err
	}
	q := &private{closed: ch.NotifyClose(make(chan *amqp.Error, 1))}
	if q.deliveries, err = ch.Consume(name, consumer, true, true, false, false, nil); err != nil {
		return nil, fmt.Errorf("queue %s: %w", name, err)
	}
	return q, nil
}

// hear hands bodies over until the connection or ctx ends.
func (q *private) hear(ctx context.Context, hear func(body []byte)) error {
	deliveries := q.deliveries
	for {
		select {
		case <-ctx.Done():
			return nil
		case reason := <-q.closed:
			return ended(reason)
		case d, open := <-deliveries:
			if !open {
				deliveries = nil // closed says why
				continue
			}
			hear(d.Body)
		}
	}
}

// randomName is 128 random bits, never used twice.
func randomName() string {
	var random [16]byte
	rand.Read(random[:]) // never fails (crypto/rand)
	return hex.EncodeToString(random[:])
}
