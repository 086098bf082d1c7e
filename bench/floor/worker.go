package floor

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"cartwright/internal/fault"
	"cartwright/internal/store"
)

// prefetch is how many messages are in hand: a few batches, so that the next one is there when
// one is done.
const prefetch = 4 * batchMax

// worker turns messages into finished orders, one batch after the other.
type worker struct {
	db        *sql.DB
	inventory *grpc.ClientConn
	taking    *amqp.Channel
	answering *amqp.Channel
}

func runWorker(ctx context.Context, s Settings, inventory string, ready func(address string)) error {
	w, deliveries, leave, err := newWorker(s, inventory)
	defer leave()
	if err != nil {
		return err
	}
	// The client library hands deliveries over one by one; here they wait, so that a batch finds them.
	here := make(chan amqp.Delivery, prefetch)
	go func() {
		defer close(here)
		for m := range deliveries {
			here <- m
		}
	}()
	ready("")
	for {
		batch := next(here)
		if batch == nil {
			return fault.Away("the broker", errors.New("the connection on which checkouts come has ended"))
		}
		if err := w.checkOut(ctx, batch); err != nil {
			return err
		}
	}
}

// newWorker connects the worker with all that it needs. leave is there also after an error.
func newWorker(s Settings, inventory string) (w *worker, deliveries <-chan amqp.Delivery, leave func(), err error) {
	w = &worker{}
	var closers []func() error
	leave = func() {
		for _, close := range closers {
			close() //nolint:errcheck // the process ends
		}
	}
	if w.db, err = s.open(); err != nil {
		return w, nil, leave, err
	}
	closers = append(closers, w.db.Close)
	if w.inventory, err = grpc.NewClient(inventory, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		return w, nil, leave, fmt.Errorf("inventory: %w", err)
	}
	closers = append(closers, w.inventory.Close)
	for _, channel := range []**amqp.Channel{&w.taking, &w.answering} {
		var conn *amqp.Connection
		if conn, *channel, err = s.dial(); err != nil {
			return w, nil, leave, err
		}
		closers = append(closers, conn.Close)
	}
	if err = w.taking.Qos(prefetch, 0, false); err == nil {
		deliveries, err = w.taking.Consume(s.queue(), "", false, false, false, false, nil)
	}
	if err != nil {
		err = fmt.Errorf("queue %s: %w", s.queue(), err)
	}
	return w, deliveries, leave, err
}

// next waits for a message and takes along what else is there. It returns nil when no more come.
func next(here <-chan amqp.Delivery) (batch []amqp.Delivery) {
	first, more := <-here
	if !more {
		return nil
	}
	for batch = append(batch, first); len(batch) < batchMax; batch = append(batch, first) {
		select {
		case first, more = <-here:
			if !more {
				return batch
			}
		default:
			return batch
		}
	}
	return batch
}

// checkOut takes a batch through all stages and answers it.
func (w *worker) checkOut(ctx context.Context, batch []amqp.Delivery) error {
	var packed strings.Builder
	orders, rows := make([]any, 0, len(batch)), make([]any, 0, 2*len(batch))
	for _, m := range batch {
		packed.WriteString(m.CorrelationId)
		orders = append(orders, m.CorrelationId)
		rows = append(rows, m.CorrelationId, string(m.Body))
	}
	open := "INSERT IGNORE INTO orders (id, client, state) VALUES " + store.Tuples(len(batch), "(?, ?, 0)")
	if _, err := w.db.ExecContext(ctx, open, rows...); err != nil {
		return store.Classify(err)
	}
	request := wrapperspb.String(packed.String())
	for _, method := range []string{reserveMethod, commitMethod} {
		if err := w.inventory.Invoke(ctx, method, request, new(wrapperspb.StringValue)); err != nil {
			return fmt.Errorf("inventory: %w", err)
		}
	}
	if _, err := w.db.ExecContext(ctx, "UPDATE orders SET state = 1 WHERE id IN "+store.In(len(orders)), orders...); err != nil {
		return store.Classify(err)
	}
	return w.answer(ctx, batch)
}

var success = []byte(`{"status":"Success","error":""}`)

// answer answers each message to where it came from, and acknowledges all of them at once.
func (w *worker) answer(ctx context.Context, batch []amqp.Delivery) error {
	for _, m := range batch {
		if err := w.answering.PublishWithContext(ctx, "", m.ReplyTo, false, false, amqp.Publishing{CorrelationId: m.CorrelationId, Body: success}); err != nil {
			return fault.Away("the broker", err)
		}
	}
	if err := w.taking.Ack(batch[len(batch)-1].DeliveryTag, true); err != nil {
		return fault.Away("the broker", err)
	}
	return nil
}
