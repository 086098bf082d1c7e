package messaging

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"cartwright/internal/failpoint"
	"cartwright/internal/fault"
	"cartwright/internal/mutation"
)

const (
	// inFlightMax bounds publishes that wait for their confirm, below the room for returned messages.
	inFlightMax = 2048
	// silenceMax is how long a message may go unconfirmed before the connection is given up.
	// A broker that is busy answers within a second or two; one that blocks publishing says so.
	silenceMax = 5 * time.Second
	cutTime    = time.Second // for saying goodbye to a broker that may not listen
)

// Publisher sends messages over a connection of its own, rebuilt whenever it dies. It may be used
// by many goroutines at once while Run runs.
type Publisher struct {
	broker  Broker
	name    string
	current atomic.Pointer[pubSession]
}

// NewPublisher makes a publisher; nothing is sent before Run.
func NewPublisher(b Broker, name string) *Publisher {
	return &Publisher{broker: b, name: name + ".publish"}
}

// Run keeps a connection until ctx ends.
func (p *Publisher) Run(ctx context.Context) error {
	return p.broker.sessions(ctx, p.name, p.serve)
}

// Ready is nil while a connection stands and the broker accepts messages.
func (p *Publisher) Ready() error {
	s := p.current.Load()
	if s == nil {
		return fault.Away("the broker", errEnded)
	}
	if s.blocked.Load() {
		return fault.Away("the broker", errBlocked)
	}
	return nil
}

// errBlocked: the broker is short of memory or disk and takes no messages from anybody.
var errBlocked = errors.New("the broker has blocked publishing")

// pubSession is what is built on one connection and dies with it.
type pubSession struct {
	channel *amqp.Channel
	wire    *gatherConn
	slots   chan struct{} // for messages that wait for their confirm
	turn    chan struct{} // whose turn it is to write
	gone    chan struct{} // closed when the session ends
	blocked atomic.Bool
	latest  atomic.Pointer[amqp.DeferredConfirmation] // of the message that was sent last

	returnsMu sync.Mutex
	returns   chan amqp.Return // unroutable messages, put here before their confirm resolves
	returned  map[identity]bool
}

// identity tells returned messages apart; the broker sends no more of them back than this.
type identity struct{ key, messageID string }

// serve owns one connection.
func (p *Publisher) serve(ctx context.Context, conn *connection) error {
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	if err := ch.Confirm(false); err != nil {
		return err
	}
	s := &pubSession{
		channel:  ch,
		wire:     conn.wire,
		slots:    make(chan struct{}, inFlightMax),
		turn:     make(chan struct{}, 1),
		gone:     make(chan struct{}),
		returns:  ch.NotifyReturn(make(chan amqp.Return, 2*inFlightMax)),
		returned: map[identity]bool{},
	}
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	blockings := conn.NotifyBlocked(make(chan amqp.Blocking, 1))
	p.current.Store(s)
	defer func() { conn.CloseDeadline(time.Now().Add(cutTime)) }() //nolint:errcheck // it may be dead already
	defer close(s.gone)                                            // first, so that whoever waits for a confirm hears of the end
	defer p.current.Store(nil)                                     // before that, so that nobody comes to this session any more
	var watched *amqp.DeferredConfirmation                         // sent at least silenceMax ago, when it is looked at
	looks := time.NewTicker(silenceMax)
	defer looks.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case reason := <-closed:
			return ended(reason)
		case <-looks.C: // a connection on which nothing is confirmed any more is as good as none
			if watched != nil && !resolved(watched) && !s.blocked.Load() {
				return fmt.Errorf("%w: nothing was confirmed for %s", errEnded, silenceMax)
			}
			watched = s.latest.Load()
		case b, open := <-blockings:
			if !open {
				return errEnded
			}
			s.blocked.Store(b.Active)
			watched = nil // what was sent meanwhile gets its time from here on
			p.broker.Log.Warn("broker blocks publishing", "active", b.Active, "reason", b.Reason)
		}
	}
}

// resolved tells whether the broker has confirmed or refused a message.
func resolved(confirm *amqp.DeferredConfirmation) bool {
	select {
	case <-confirm.Done():
		return true
	default:
		return false
	}
}

// PublishJob stores a job on the queue that takes its kind. nil means that the broker has it on
// disk. fault.Unavailable means unknown: publish again with the same ID.
func (p *Publisher) PublishJob(ctx context.Context, m Message) error {
	return p.publish(ctx, p.broker.Topology.name(p.broker.Topology.Jobs), m.Kind, true, p.broker.Keys.seal(m))
}

// toQueue stores a message on one work queue or companion.
func (p *Publisher) toQueue(ctx context.Context, q Queue, msg amqp.Publishing) error {
	t := p.broker.Topology
	return p.publish(ctx, t.name(t.Queues), t.queue(q), true, msg)
}

// Reply sends a body to the reply queue at an address. The waiting process may be gone, which is
// no error, so it is not mandatory; and an answer can be asked for again, so it is not persistent.
func (p *Publisher) Reply(ctx context.Context, address string, body []byte) error {
	t := p.broker.Topology
	return p.publish(ctx, t.name(t.Replies), t.name(address), false, amqp.Publishing{ContentType: contentType, Body: body})
}

// PublishEvents stores events in their order on the exchange of events and waits for all the
// confirms. nil means that the broker has every one.
func (p *Publisher) PublishEvents(ctx context.Context, events []Event) error {
	t := p.broker.Topology
	waits := make([]func() error, 0, len(events))
	var failed error
	for _, e := range events {
		wait, err := p.send(ctx, t.name(t.Events), e.Type, false, e.publishing())
		if failed = err; err != nil {
			break
		}
		waits = append(waits, wait)
	}
	failed = failpoint.After(failed, failpoint.EventsSent)
	for _, wait := range waits { // all of them, whatever one says: each gives its slot back
		if err := wait(); failed == nil {
			failed = err
		}
	}
	return failed
}

func (p *Publisher) publish(ctx context.Context, exchange, key string, mandatory bool, msg amqp.Publishing) error {
	wait, err := p.send(ctx, exchange, key, mandatory, msg)
	if err != nil {
		return err
	}
	if mutation.On(mutation.NoConfirm) {
		go wait() //nolint:errcheck // nobody listens
		return nil
	}
	lost := failpoint.Hit(failpoint.MessageSent)
	if err := wait(); err != nil {
		return err
	}
	return lost
}

// send writes a message and returns how to wait for its confirm, which must be called: until then
// the message has a slot.
func (p *Publisher) send(ctx context.Context, exchange, key string, mandatory bool, msg amqp.Publishing) (wait func() error, err error) {
	if err := p.Ready(); err != nil {
		return nil, err
	}
	s := p.current.Load()
	if s == nil {
		return nil, fault.Away("the broker", errEnded)
	}
	select {
	case s.slots <- struct{}{}:
	case <-s.gone:
		return nil, fault.Away("the broker", errEnded)
	case <-ctx.Done():
		return nil, fault.Away("the broker", ctx.Err())
	}
	confirm, err := s.write(ctx, exchange, key, mandatory, msg)
	if err != nil {
		<-s.slots
		return nil, fault.Away("the broker", err)
	}
	return func() error {
		defer func() { <-s.slots }()
		return s.confirmed(ctx, confirm, identity{key, msg.MessageId})
	}, nil
}

// write hands a message to the connection. A broker that has stopped reading would hold up whoever
// writes for as long as it likes, so they write only while there is room, and may tire of waiting for it.
func (s *pubSession) write(ctx context.Context, exchange, key string, mandatory bool, msg amqp.Publishing) (*amqp.DeferredConfirmation, error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-s.gone:
		return nil, errEnded
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for full := s.wire.full(); full != nil; full = s.wire.full() {
		select {
		case <-full:
		case <-s.gone:
			return nil, errEnded
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	confirm, err := s.channel.PublishWithDeferredConfirm(exchange, key, mandatory, false, msg)
	if err == nil {
		s.latest.Store(confirm)
	}
	return confirm, err
}

// confirmed waits for the broker's word. Only a true confirm of a message that did not come back
// means stored; everything else means unknown.
func (s *pubSession) confirmed(ctx context.Context, confirm *amqp.DeferredConfirmation, id identity) error {
	select {
	case <-confirm.Done():
	case <-s.gone:
		return fault.Away("the broker", errEnded)
	case <-ctx.Done():
		return fault.Away("the broker", ctx.Err())
	}
	if !confirm.Acked() {
		return fault.Away("the broker", errors.New("publish was not confirmed"))
	}
	if s.cameBack(id) && !mutation.On(mutation.NoMandatory) {
		return fault.Away("the broker", errors.New("no queue takes this message"))
	}
	return nil
}

// cameBack tells whether the broker returned a message because no queue takes it. A return is put
// into the channel before its confirm resolves, so whoever has the confirm finds it there.
func (s *pubSession) cameBack(id identity) bool {
	s.returnsMu.Lock()
	defer s.returnsMu.Unlock()
	for {
		select {
		case r, open := <-s.returns:
			if !open {
				return false
			}
			s.returned[identity{r.RoutingKey, r.MessageId}] = true
			continue
		default:
		}
		break
	}
	came := s.returned[id]
	delete(s.returned, id)
	return came
}
