package messaging

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"cartwright/internal/fault"
)

const (
	// handleTimeout bounds one try at a job, far below the 30 minutes after which the broker
	// takes an unacknowledged job back.
	handleTimeout = 30 * time.Second
	// inHandMax is how long a job is tried again in the worker's hand while something it needs is
	// away. The jobs in hand then bound what is taken from the queue: an outage fills no retry queue.
	inHandMax   = 15 * time.Second
	inHandFirst = 50 * time.Millisecond
	inHandPause = time.Second
	// attemptsMax bounds tries that end with an error of ours, such as a panic. Silence is not
	// counted: a job that waits for a database waits for as long as it takes.
	attemptsMax = 5
	// crashesMax is how often a job may be the only one in hand when its worker dies.
	crashesMax = 3
	// suspectAfter deliveries of one message, its worker may be dying of it: it is tried alone.
	suspectAfter = 2
	stopTimeout  = 25 * time.Second // for the jobs in hand when the process is asked to stop
	settleTime   = 10 * time.Second
)

// Handler does a job. It knows nothing of the broker: it returns nil when the job's effects are
// saved, and otherwise an error whose kind decides what becomes of the job.
type Handler func(ctx context.Context, m Message) error

// Consumer takes jobs from one work queue, many at a time.
type Consumer struct {
	Broker    Broker
	Publisher *Publisher // for jobs that are put back or buried
	Queue     Queue
	Name      string // of the connection, for the broker's own lists
	Prefetch  int    // jobs in hand at a time: each has a goroutine
	Handle    Handler
	// Delayed is told, once per delivery, that something the job needs is away and it will be
	// tried again: whoever waits for the answer need not wait in the dark.
	Delayed func(ctx context.Context, m Message, err error)

	alone sync.Mutex // one suspect at a time
	ready atomic.Bool
}

// Ready is nil while jobs are being consumed.
func (c *Consumer) Ready() error {
	if !c.ready.Load() {
		return fault.Away("queue "+string(c.Queue), errEnded)
	}
	return nil
}

// Run consumes until ctx ends, then finishes the jobs in hand. Jobs that are in hand when the
// connection dies are delivered again, perhaps to another process.
func (c *Consumer) Run(ctx context.Context) error {
	return c.Broker.sessions(ctx, c.Name+".consume", c.serve)
}

func (c *Consumer) serve(ctx context.Context, conn *amqp.Connection) error {
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	if err := ch.Qos(c.Prefetch, 0, false); err != nil {
		return err
	}
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	cancelled := ch.NotifyCancel(make(chan string, 1))
	deliveries, err := ch.Consume(c.Broker.Topology.queue(c.Queue), c.Name, false, false, false, false, nil)
	if err != nil {
		return fmt.Errorf("queue %s: %w", c.Queue, err)
	}
	c.ready.Store(true)
	defer c.ready.Store(false)

	hands := &sync.WaitGroup{}
	work, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	for {
		select {
		case <-ctx.Done():
			return c.drain(ch, deliveries, hands, giveUp)
		case reason := <-closed:
			giveUp() // every job in hand belongs to somebody else now
			hands.Wait()
			return ended(reason)
		case <-cancelled:
			giveUp()
			hands.Wait()
			return fmt.Errorf("queue %s: %w: the broker cancelled the consumer", c.Queue, errEnded)
		case d, open := <-deliveries:
			if !open {
				deliveries = nil // closed says why
				continue
			}
			hands.Go(func() { c.take(work, d) })
		}
	}
}

// drain stops hearing, then lets the jobs in hand end, for a bounded time.
func (c *Consumer) drain(ch *amqp.Channel, deliveries <-chan amqp.Delivery, hands *sync.WaitGroup, giveUp context.CancelFunc) error {
	c.ready.Store(false)
	cancelErr := ch.Cancel(c.Name, false)
	for d := range deliveries { // what was already on its way here goes back untouched
		if err := d.Nack(false, true); err != nil {
			break
		}
	}
	timer := time.AfterFunc(stopTimeout, giveUp)
	defer timer.Stop()
	hands.Wait()
	return cancelErr
}

// take sees one delivery through: is it whole, has it been dangerous, do it, settle it.
func (c *Consumer) take(ctx context.Context, d amqp.Delivery) {
	began := time.Now()
	m, err := c.Broker.Keys.open(d)
	if err == nil && suspect(d, m) {
		c.isolate(ctx, d, m)
		return
	}
	if err == nil {
		if m.crashes > 0 {
			c.alone.Lock()
			defer c.alone.Unlock()
		}
		err = c.handle(ctx, m)
		if ctx.Err() != nil {
			return // the delivery is not ours any more: the broker hands it to somebody
		}
	}
	c.settle(ctx, d, m, err, began)
}

// suspect tells whether a worker died with this message in hand often enough to look at it
// closely. The broker's count also grows for every innocent message that was prefetched beside a
// guilty one, so it is only a reason to look, never to bury.
func suspect(d amqp.Delivery, m Message) bool {
	if m.crashes > 0 {
		return d.Redelivered
	}
	return count(d.Headers["x-delivery-count"]) >= suspectAfter
}

// isolate sends a suspect round through the retry queue with a note of its own, so that it is
// tried alone; after crashesMax of those, it is buried.
func (c *Consumer) isolate(ctx context.Context, d amqp.Delivery, m Message) {
	m.crashes++
	if m.crashes > crashesMax {
		c.settle(ctx, d, m, fault.New(fault.Invalid, "crash", "a worker died %d times with only this job in hand", crashesMax), time.Now())
		return
	}
	c.moved(d, m, "isolated", c.Publisher.toQueue(ctx, c.Queue.retry(), c.Broker.Keys.seal(m)))
}

// handle tries the job until it has an answer. While something it needs is away, it stays in hand.
func (c *Consumer) handle(ctx context.Context, m Message) error {
	wait, until, told := inHandFirst, time.Now().Add(inHandMax), false
	for {
		err := c.try(ctx, m)
		if !fault.Is(err, fault.Unavailable) || ctx.Err() != nil || time.Now().After(until) {
			return err
		}
		if !told && c.Delayed != nil {
			c.Delayed(ctx, m, err)
			told = true
		}
		if !pause(ctx, wait/2+rand.N(wait)) {
			return err
		}
		wait = min(2*wait, inHandPause)
	}
}

// try runs the handler once. A panic is an error of ours and costs one attempt, not the worker.
func (c *Consumer) try(ctx context.Context, m Message) (err error) {
	ctx, cancel := context.WithTimeout(ctx, handleTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("handler panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return c.Handle(ctx, m)
}

// settle is the one place where a job's fate is told to the broker. A job gets its new home
// before it is acknowledged here, so a crash in between leaves two copies and never none.
func (c *Consumer) settle(ctx context.Context, d amqp.Delivery, m Message, err error, began time.Time) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	outcome := "done"
	var moveErr error
	switch {
	case err == nil:
	case fault.Is(err, fault.Unavailable):
		outcome = "later"
		moveErr = c.Publisher.toQueue(ctx, c.Queue.retry(), c.Broker.Keys.seal(m))
	case fault.Is(err, fault.Internal) && m.Attempt+1 < attemptsMax:
		outcome = "again"
		m.Attempt++
		moveErr = c.Publisher.toQueue(ctx, c.Queue.retry(), c.Broker.Keys.seal(m))
	default:
		outcome = "buried"
		moveErr = c.bury(ctx, d, err)
	}
	c.log(ctx, m, outcome, err, time.Since(began))
	c.moved(d, m, outcome, moveErr)
}

// moved acknowledges a delivery whose effects are saved or which has a new home. Without one, the
// broker keeps it.
func (c *Consumer) moved(d amqp.Delivery, m Message, outcome string, moveErr error) {
	var err error
	if moveErr != nil {
		outcome = "returned"
		err = d.Reject(true)
	} else {
		err = d.Ack(false)
	}
	if err != nil { // the connection is gone, and the broker will deliver it again
		c.Broker.Log.Warn("job not settled", "queue", c.Queue, "job_id", m.ID, "error", err)
		outcome = "lost connection"
	}
	c.Broker.Metrics.settled(c.Queue, m.Kind, outcome)
}

// bury puts the message as it came where people can look at it, with the reason.
func (c *Consumer) bury(ctx context.Context, d amqp.Delivery, reason error) error {
	headers := amqp.Table{}
	for k, v := range d.Headers {
		headers[k] = v
	}
	headers[headerReason] = reason.Error()[:min(len(reason.Error()), 1000)]
	return c.Publisher.toQueue(ctx, c.Queue.dead(), amqp.Publishing{
		ContentType: d.ContentType, DeliveryMode: amqp.Persistent, MessageId: d.MessageId, Type: d.Type,
		ReplyTo: d.ReplyTo, CorrelationId: d.CorrelationId, Timestamp: time.Now(), Headers: headers, Body: d.Body,
	})
}

// log writes the one line of a job.
func (c *Consumer) log(ctx context.Context, m Message, outcome string, err error, took time.Duration) {
	level, attrs := slog.LevelDebug, []any{"queue", c.Queue, "kind", m.Kind, "job_id", m.ID, "trace", m.Trace, "attempt", m.Attempt + 1, "outcome", outcome, "took_ms", took.Milliseconds()}
	if err != nil {
		level, attrs = slog.LevelWarn, append(attrs, "error", err)
	}
	c.Broker.Log.Log(ctx, level, "job", attrs...)
}
