package messaging

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"cartwright/internal/fault"
	"cartwright/internal/lifecycle"
)

const (
	// looksMax is how often a letter may be put back before it is stored anew. RabbitMQ counts each time,
	// and from version 4 on drops a message of these queues after 20.
	looksMax = 10
	// letterConnect bounds the wait for a publisher.
	letterConnect = 10 * time.Second
	// returnLimit bounds the wait until what was given back lies there again.
	returnLimit = time.Second
	returnEvery = 5 * time.Millisecond
)

const (
	headerReturns  = "x-delivery-count"
	headerAcquired = "x-acquired-count" // what later versions of RabbitMQ count
	headerDeaths   = "x-death"          // the broker's own account of moves
)

// Letter is a message on a dead-letter queue.
type Letter struct {
	ID, Kind string // as they came, perhaps empty or nonsense
	Body     []byte
	Reason   string    // why it was buried, empty when nobody has said
	Buried   time.Time // zero when nobody has said
	Attempts int       // tries that ended with an error of ours
	delivery amqp.Delivery
}

// Letters is the dead-letter queue of a work queue in the hands of somebody who looks through it. What
// is in these hands, nobody else sees; what is neither replayed nor dropped goes back.
type Letters struct {
	Lie int // how many lay there at the beginning

	broker  Broker
	queue   Queue
	channel *amqp.Channel
	held    []Letter
	taken   int
	settled int // taken away

	publisher *Publisher // nil until it is needed
	end       func()     // of the publisher
}

// Letters opens the dead-letter queue of the work queue q for use, with an administrator's account.
// However use ends, and if the process dies, no letter is lost.
func (b Broker) Letters(ctx context.Context, q Queue, use func(context.Context, *Letters) error) error {
	return b.session(ctx, "letters", func(ctx context.Context, conn *connection) error {
		ch, err := conn.Channel()
		if err != nil {
			return err
		}
		state, err := ch.QueueDeclarePassive(b.Topology.queue(q.dead()), true, false, false, false, nil)
		if err != nil {
			return fmt.Errorf("queue %s: %w", q.dead(), err)
		}
		l := &Letters{Lie: state.Messages, broker: b, queue: q, channel: ch, end: func() {}}
		defer func() { l.end() }()
		return errors.Join(use(ctx, l), l.putBack(ctx))
	})
}

// Next takes up to most letters in hand, in the order of the queue; none after the last of those that
// lay there at the beginning, so one that is buried again meanwhile does not come twice.
func (l *Letters) Next(most int) (some []Letter, err error) {
	for len(some) < most && l.taken < l.Lie {
		d, found, err := l.channel.Get(l.broker.Topology.queue(l.queue.dead()), false)
		if err != nil {
			return nil, fmt.Errorf("queue %s: %w", l.queue.dead(), err)
		}
		if !found { // somebody else has the others
			l.taken = l.Lie
			break
		}
		l.taken++
		some = append(some, newLetter(d))
	}
	l.held = append(l.held, some...)
	return some, nil
}

func newLetter(d amqp.Delivery) Letter {
	l := Letter{ID: d.MessageId, Kind: d.Type, Body: d.Body, Buried: d.Timestamp, Attempts: count(d.Headers[headerAttempt]), delivery: d}
	if l.Reason, _ = d.Headers[headerReason].(string); l.Reason != "" {
		return l
	}
	deaths, _ := d.Headers[headerDeaths].([]any)
	if len(deaths) == 0 {
		return l
	}
	if last, ok := deaths[0].(amqp.Table); ok { // the broker itself has given it up
		l.Reason = fmt.Sprintf("the broker moved it here from %v: %v", last["queue"], last["reason"])
		l.Buried, _ = last["time"].(time.Time)
	}
	return l
}

// Replay stores letters on their work queue, each under its own ID and with its own signature and none
// of the notes on earlier tries, and takes each away from here only when the broker has it there. done
// is how many have moved. After an error or a crash, a letter may lie on both queues, and never on none.
func (l *Letters) Replay(ctx context.Context, letters []Letter) (done int, err error) {
	messages := make([]amqp.Publishing, len(letters))
	for i, letter := range letters {
		headers := amqp.Table{}
		for _, kept := range []string{headerSignature, headerTrace} {
			if value, has := letter.delivery.Headers[kept]; has {
				headers[kept] = value
			}
		}
		messages[i] = letter.again(headers, time.Time{})
	}
	return l.move(ctx, letters, l.queue, messages)
}

// again is the letter as a message of its own.
func (l Letter) again(headers amqp.Table, at time.Time) amqp.Publishing {
	d := l.delivery
	return amqp.Publishing{
		ContentType: d.ContentType, DeliveryMode: amqp.Persistent, MessageId: d.MessageId, Type: d.Type,
		ReplyTo: d.ReplyTo, CorrelationId: d.CorrelationId, Timestamp: at, Headers: headers, Body: d.Body,
	}
}

// Drop takes letters away for good. done is how many are gone.
func (l *Letters) Drop(_ context.Context, letters []Letter) (done int, err error) {
	for _, letter := range letters {
		if err := l.settle(letter); err != nil {
			return done, err
		}
		done++
	}
	return done, l.flush()
}

// move stores messages on a queue, waits for the broker's word on each, and then takes their letters
// away from here.
func (l *Letters) move(ctx context.Context, letters []Letter, to Queue, messages []amqp.Publishing) (done int, err error) {
	if len(messages) == 0 {
		return 0, nil
	}
	if err := l.connect(ctx); err != nil {
		return 0, err
	}
	var faults []error
	for i, err := range l.publisher.allToQueue(ctx, to, messages) {
		if err == nil {
			err = l.settle(letters[i])
		}
		if err == nil {
			done++
		} else {
			faults = append(faults, fmt.Errorf("message %q: %w", letters[i].ID, err))
		}
	}
	if len(faults) > 0 {
		return done, faults[0]
	}
	return done, l.flush()
}

// settle takes one letter off the queue.
func (l *Letters) settle(letter Letter) error {
	for i, h := range l.held {
		if h.delivery.DeliveryTag == letter.delivery.DeliveryTag {
			l.held = append(l.held[:i:i], l.held[i+1:]...)
			break
		}
	}
	l.settled++
	return letter.delivery.Ack(false)
}

// flush returns when the broker has heard of all acknowledgements so far: it answers a channel's calls
// in their order.
func (l *Letters) flush() error {
	_, err := l.channel.QueueDeclarePassive(l.broker.Topology.queue(l.queue.dead()), true, false, false, false, nil)
	return err
}

// putBack gives back what is still in hand, in its order.
func (l *Letters) putBack(ctx context.Context) error {
	var worn []Letter
	var messages []amqp.Publishing
	for _, letter := range l.held {
		headers := letter.delivery.Headers
		if max(count(headers[headerReturns]), count(headers[headerAcquired])) < looksMax {
			if err := letter.delivery.Nack(false, true); err != nil {
				return err
			}
			continue
		}
		kept := amqp.Table{}
		for key, value := range headers {
			if key != headerReturns && key != headerAcquired {
				kept[key] = value
			}
		}
		worn, messages = append(worn, letter), append(messages, letter.again(kept, letter.delivery.Timestamp))
	}
	anew, err := l.move(ctx, worn, l.queue.dead(), messages)
	if err != nil {
		return err // what was not stored anew goes back by itself, with the connection
	}
	return l.backAgain(ctx, l.Lie-l.settled+anew)
}

// backAgain waits until so many letters lie there for the next one who looks: a quorum queue answers
// before it has put back what it was given. It does not wait for long, since somebody may have come already.
func (l *Letters) backAgain(ctx context.Context, want int) error {
	for end := time.Now().Add(returnLimit); ; {
		state, err := l.channel.QueueDeclarePassive(l.broker.Topology.queue(l.queue.dead()), true, false, false, false, nil)
		if err != nil || state.Messages >= want || time.Now().After(end) || !lifecycle.Pause(ctx, returnEvery) {
			return err
		}
	}
}

// connect makes a publisher for what is moved.
func (l *Letters) connect(ctx context.Context) error {
	if l.publisher == nil {
		l.publisher = NewPublisher(l.broker, "letters")
		ctx, cancel := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			l.publisher.Run(ctx) //nolint:errcheck // it ends when it is told to
		}()
		l.end = func() { cancel(); <-ended }
	}
	for end := time.Now().Add(letterConnect); ; {
		err := l.publisher.Ready()
		if err == nil || time.Now().After(end) {
			return err
		}
		if !lifecycle.Pause(ctx, reconnectFirst/10) {
			return fault.Away("the broker", ctx.Err())
		}
	}
}

// allToQueue stores messages on a queue in their order, and tells of each what became of it.
func (p *Publisher) allToQueue(ctx context.Context, q Queue, messages []amqp.Publishing) []error {
	t := p.broker.Topology
	waits, faults := make([]func() error, len(messages)), make([]error, len(messages))
	for i, m := range messages {
		waits[i], faults[i] = p.send(ctx, t.name(t.Queues), t.queue(q), true, m)
		if faults[i] != nil {
			waits[i] = func() error { return faults[i] }
		}
	}
	for i, wait := range waits {
		faults[i] = wait()
	}
	return faults
}
