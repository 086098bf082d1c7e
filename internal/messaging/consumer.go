package messaging

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"cartwright/internal/failpoint"
	"cartwright/internal/fault"
	"cartwright/internal/hands"
	"cartwright/internal/lifecycle"
	"cartwright/internal/mutation"
)

const (
	// handleTimeout bounds one try at a job, far below the 30 minutes after which the broker
	// takes an unacknowledged job back.
	handleTimeout = 30 * time.Second
	// aloneTimeout bounds the one try at a suspect. It is below stopTimeout, so that a consumer that
	// stops does not give it up, which the broker could not tell from a crash.
	aloneTimeout = 20 * time.Second
	// inHandMax is how long a job is tried again in the worker's hand while something it needs is
	// away. The jobs in hand then bound what is taken from the queue: an outage fills no retry queue.
	inHandMax   = 15 * time.Second
	inHandFirst = 50 * time.Millisecond
	inHandPause = time.Second
	// attemptsMax bounds tries that end with an error of ours, such as a panic. Silence is not
	// counted: a job that waits for a database waits for as long as it takes.
	attemptsMax = 5
	// suspectAfter deliveries of one message, its worker may be dying of it: it is tried alone.
	suspectAfter = 2
	// crashesMax is how often a job may be the only suspect in hand when its worker dies.
	crashesMax  = 3
	stopTimeout = 25 * time.Second // for the jobs in hand when the process is asked to stop
	settleTime  = 10 * time.Second
	// settlePause is before a job that could not be given its new home is tried again.
	settlePause = time.Second
)

// Handler does a job. It knows nothing of the broker: it returns nil when the job's effects are
// saved, and otherwise an error whose kind decides what becomes of the job.
type Handler func(ctx context.Context, m Message) error

// Consumer takes jobs from one work queue, many at a time.
type Consumer struct {
	Broker Broker
	// Publisher sends jobs to be retried or buried. It must serve nothing else: a quorum queue that
	// is stuck leaves everything unconfirmed that comes after its message on the same channel.
	Publisher *Publisher
	Queue     Queue
	Name      string // of the connection, for the broker's own lists
	Prefetch  int    // jobs in hand at a time: each has a goroutine
	// Since when this consumer is there: by default, the start of the process. Of several on one queue
	// the oldest has its hands filled first, and the next gets what it cannot take: jobs that go together
	// cost much less than the same jobs in several hands.
	Since  time.Time
	Handle Handler
	// Delayed is told, once per stay in hand, that something the job needs is away and it will be
	// tried again: whoever waits for the answer need not wait in the dark.
	Delayed func(ctx context.Context, m Message, err error)

	// trial is held while a suspect is tried, and while one is sent to be tried: it must have left
	// its old place for good before it can do harm, or each crash would leave one copy more.
	trial sync.Mutex
	ready atomic.Bool
}

// started is when this process was.
var started = time.Now()

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

func (c *Consumer) serve(ctx context.Context, conn *connection) error {
	many, err := c.listen(conn, c.Queue, c.Prefetch)
	if err != nil {
		return err
	}
	alone, err := c.listen(conn, c.Queue.alone(), 1)
	if err != nil {
		return err
	}
	c.ready.Store(true)
	defer c.ready.Store(false)

	team := hands.New()
	work, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer team.End()
	defer giveUp() // after a lost connection, every job in hand belongs to somebody else
	jobs, suspects := many.deliveries, alone.deliveries
	for {
		select {
		case <-ctx.Done():
			return c.drain(team, giveUp, many, alone)
		case reason := <-many.closed:
			return ended(reason)
		case reason := <-alone.closed:
			return ended(reason)
		case <-many.cancelled:
			return fmt.Errorf("%w: the consumer was cancelled", errEnded)
		case <-alone.cancelled:
			return fmt.Errorf("%w: the consumer was cancelled", errEnded)
		case d, open := <-jobs:
			if !open {
				jobs = nil // closed says why
				continue
			}
			d = many.acks.took(d)
			team.Do(func() {
				for !c.take(work, many, d) {
				}
			})
		case d, open := <-suspects:
			if !open {
				suspects = nil
				continue
			}
			d = alone.acks.took(d)
			team.Do(func() {
				for !c.takeAlone(work, d) {
				}
			})
		}
	}
}

// ear is one queue as it is heard on one connection.
type ear struct {
	channel    *amqp.Channel
	acks       *acks
	tag        string
	prefetch   int
	deliveries <-chan amqp.Delivery
	closed     <-chan *amqp.Error
	cancelled  <-chan string
	calls      sync.Mutex // one at a time: the library gives an answer to whoever asks for any
}

func (c *Consumer) listen(conn *connection, q Queue, prefetch int) (*ear, error) {
	ch, err := conn.Channel()
	if err != nil {
		return nil, fmt.Errorf("channel: %w", err)
	}
	if err := ch.Qos(prefetch, 0, false); err != nil {
		return nil, fmt.Errorf("prefetch: %w", err)
	}
	e := &ear{channel: ch, acks: newAcks(ch), tag: c.Name + "." + string(q), prefetch: prefetch, closed: ch.NotifyClose(make(chan *amqp.Error, 1)), cancelled: ch.NotifyCancel(make(chan string, 1))}
	rank := amqp.Table{"x-priority": -cmp.Or(c.Since, started).Unix()}
	if e.deliveries, err = ch.Consume(c.Broker.Topology.queue(q), e.tag, false, false, false, false, rank); err != nil {
		return nil, fmt.Errorf("queue %s: %w", q, err)
	}
	return e, nil
}

// drain stops hearing, then lets the jobs in hand end, for a bounded time.
func (c *Consumer) drain(team *hands.Hands, giveUp context.CancelFunc, ears ...*ear) error {
	c.ready.Store(false)
	for _, e := range ears {
		if err := e.stop(); err != nil {
			return err // the connection is gone, and what is in hand with it
		}
	}
	timer := time.AfterFunc(stopTimeout, giveUp)
	defer timer.Stop()
	team.End()
	return nil
}

// stop hears no more. What was already on its way here goes back untouched.
func (e *ear) stop() error {
	e.calls.Lock()
	defer e.calls.Unlock()
	if err := e.channel.Cancel(e.tag, false); err != nil {
		return err
	}
	for d := range e.deliveries {
		if err := d.Nack(false, true); err != nil {
			return err
		}
	}
	return nil
}

// take sees one delivery through: is it whole, has it been dangerous, do it, settle it. It tells
// whether the job has left our hands. One that has not, because it could not be given its new
// home, is taken again: what it needs may be back, while the broker would only bring it here again.
func (c *Consumer) take(ctx context.Context, from *ear, d amqp.Delivery) (settled bool) {
	began := time.Now()
	m, err := c.Broker.Keys.open(d)
	if err == nil && count(d.Headers["x-delivery-count"]) >= suspectAfter {
		return c.isolate(ctx, from, d, m)
	}
	if err == nil && mutation.On(mutation.AckEarly) {
		defer c.handle(ctx, m) //nolint:errcheck // too late to tell anybody
		return c.settle(ctx, d, m, nil, began)
	}
	if err == nil {
		err = c.handle(ctx, m)
	}
	return c.settle(ctx, d, m, err, began)
}

// isolate sends a suspect to where it is tried alone. The broker's count also grows for every
// innocent job that was prefetched beside a guilty one, so it is only a reason to look closely,
// never to bury.
func (c *Consumer) isolate(ctx context.Context, from *ear, d amqp.Delivery, m Message) (settled bool) {
	c.trial.Lock()
	defer c.trial.Unlock()
	settled = c.move(ctx, d, m, "isolated", func(ctx context.Context) error {
		return c.Publisher.toQueue(ctx, c.Queue.alone(), c.Broker.Keys.seal(m))
	})
	if settled && ctx.Err() == nil {
		from.flush()
	}
	return settled
}

// flush returns when the broker has taken in all acknowledgements so far: it answers a channel's
// calls in their order.
func (e *ear) flush() {
	e.calls.Lock()
	defer e.calls.Unlock()
	if e.acks.send() != nil {
		return // a lost connection, as below
	}
	_ = e.channel.Qos(e.prefetch, 0, false) // an error means a lost connection, of which serve hears too
}

// takeAlone does a suspect, while this worker has no other: on this queue, the broker's count is
// the number of workers that died with it.
func (c *Consumer) takeAlone(ctx context.Context, d amqp.Delivery) (settled bool) {
	began := time.Now()
	m, err := c.Broker.Keys.open(d)
	switch {
	case err != nil:
	case count(d.Headers["x-delivery-count"]) >= crashesMax:
		err = fault.New(fault.Invalid, "crash", "a worker died %d times with only this job in hand", crashesMax)
	default:
		err = c.tryAlone(ctx, m)
		if fault.Is(err, fault.Unavailable) && ctx.Err() == nil && c.Delayed != nil {
			c.Delayed(ctx, m, err)
		}
	}
	return c.settle(ctx, d, m, err, began)
}

// tryAlone tries a suspect once: others wait behind it.
func (c *Consumer) tryAlone(ctx context.Context, m Message) error {
	c.trial.Lock()
	defer c.trial.Unlock()
	if ctx.Err() != nil { // while it waited, the connection went, and the job with it
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, aloneTimeout)
	defer cancel()
	return c.try(ctx, m)
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
		if !lifecycle.Pause(ctx, wait/2+rand.N(wait)) {
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
	if err := failpoint.Hit(failpoint.JobTaken); err != nil {
		return err
	}
	return c.Handle(ctx, m)
}

// settle is the one place where a job's fate is told to the broker. A job gets its new home
// before it is acknowledged here, so a crash in between leaves two copies and never none.
func (c *Consumer) settle(ctx context.Context, d amqp.Delivery, m Message, err error, began time.Time) (settled bool) {
	if ctx.Err() != nil {
		return true // the delivery is not ours any more: the broker hands it to somebody
	}
	tried, outcome := m, "done"
	home := func(context.Context) error { return nil }
	retry := func(ctx context.Context) error {
		return c.Publisher.toQueue(ctx, c.Queue.retry(), c.Broker.Keys.seal(m))
	}
	switch {
	case err == nil:
	case fault.Is(err, fault.Unavailable):
		outcome, home = "later", retry
	case fault.Is(err, fault.Internal) && m.Attempt+1 < attemptsMax:
		m.Attempt++
		outcome, home = "again", retry
	default:
		outcome, home = "buried", func(ctx context.Context) error { return c.bury(ctx, d, err) }
	}
	c.log(ctx, tried, outcome, err, time.Since(began))
	return c.move(ctx, d, m, outcome, home)
}

// move acknowledges a delivery once its effects are saved or it has a new home.
func (c *Consumer) move(ctx context.Context, d amqp.Delivery, m Message, outcome string, home func(context.Context) error) (settled bool) {
	try, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	err := home(try)
	if err != nil && ctx.Err() == nil {
		c.Broker.Log.Warn("job stays in hand", "queue", c.Queue, "kind", m.Kind, "job_id", m.ID, "outcome", outcome, "error", err)
		return !lifecycle.Pause(ctx, settlePause)
	}
	if err == nil {
		err = d.Ack(false)
	}
	if err != nil { // the connection is gone, and the broker will deliver it again
		c.Broker.Log.Warn("job not settled", "queue", c.Queue, "job_id", m.ID, "error", err)
		outcome = "lost connection"
	}
	c.Broker.Metrics.settled(c.Queue, m.Kind, outcome)
	return true
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
