package messaging_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"cartwright/internal/fault"
	"cartwright/internal/messaging"
)

// E10, E16, E17
func TestAConfirmedJobIsOnTheQueue(t *testing.T) {
	t.Parallel()
	y := open(t)
	m := messaging.Message{ID: newID(), Kind: "work.do", Body: []byte("b"), ReplyTo: newReplyTo(), Correlation: messaging.NewCorrelation(), Trace: "00-trace"}
	if err := y.publisher.PublishJob(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	d := y.take(work)
	if d.DeliveryMode != amqp.Persistent || d.ContentType != "application/x-protobuf" || d.MessageId != m.ID || d.Type != m.Kind ||
		d.ReplyTo != m.ReplyTo || d.CorrelationId != m.Correlation || d.Headers["traceparent"] != m.Trace || string(d.Body) != "b" {
		t.Errorf("the broker has %+v", d)
	}
}

func TestAJobThatNoQueueTakesIsNotAccepted(t *testing.T) {
	t.Parallel()
	y := open(t)
	var publishers sync.WaitGroup
	for i := range 200 {
		publishers.Go(func() {
			m := job(fmt.Sprint("same-", i/2)) // a good and a bad one share an ID
			if i%2 == 1 {
				m.Kind = "play.do"
			}
			err := y.publisher.PublishJob(t.Context(), m)
			if bad := i%2 == 1; bad != fault.Is(err, fault.Unavailable) || bad != (err != nil) {
				t.Errorf("%s: %v", m.Kind, err)
			}
		})
	}
	publishers.Wait()
	if n := y.waiting(work); n != 100 {
		t.Errorf("%d jobs on the queue, want 100", n)
	}
}

func TestThousandsPublishAtOnce(t *testing.T) {
	t.Parallel()
	y := open(t)
	var publishers sync.WaitGroup
	for range 5000 { // more than may be in flight
		publishers.Go(func() {
			if err := y.publisher.PublishJob(t.Context(), job(newID())); err != nil {
				t.Error(err)
			}
		})
	}
	publishers.Wait()
	if n := y.waiting(work); n != 5000 {
		t.Errorf("%d jobs on the queue", n)
	}
}

// E13
func TestAPublisherWithoutABrokerSaysSoAtOnceAndComesBack(t *testing.T) {
	t.Parallel()
	y := open(t)
	proxy, b := y.through()
	p := y.publisherOf(b)
	proxy.Cut()
	y.eventually("the publisher knows", func() bool { return p.Ready() != nil })
	began := time.Now()
	err := p.PublishJob(t.Context(), job(newID()))
	if !fault.Is(err, fault.Unavailable) || time.Since(began) > time.Second {
		t.Errorf("%v after %s", err, time.Since(began))
	}
	proxy.Heal()
	y.eventually("the publisher is back", func() bool { return p.PublishJob(t.Context(), job("back")) == nil })
	if d := y.take(work); d.MessageId != "back" {
		t.Errorf("the queue has %s", d.MessageId)
	}
}

// E4, E13: a confirm is a promise, also when the connection dies all the time.
func TestNothingConfirmedIsLostWhileConnectionsDrop(t *testing.T) {
	t.Parallel()
	const jobs, drops = 300, 5
	y := open(t)
	proxy, b := y.through()
	p := y.publisherOf(b)
	var publishers sync.WaitGroup
	var refused atomic.Int32
	for i := range jobs {
		publishers.Go(func() {
			for p.PublishJob(t.Context(), job(fmt.Sprint("job-", i))) != nil { // asked again until it is confirmed
				refused.Add(1)
				runtime.Gosched()
			}
		})
		if i%(jobs/drops) == 0 {
			y.eventually("the publisher is connected", func() bool { return p.Ready() == nil })
			proxy.Drop()
		}
	}
	publishers.Wait()
	if refused.Load() == 0 {
		t.Error("no publish met a dead connection")
	}
	c := &counter{}
	y.consume(y.broker, &messaging.Consumer{Handle: c.handle})
	y.eventually("every job has come", func() bool { return c.distinct() == jobs })
}

// E13: a connection that is alive and confirms nothing is given up. So it is while a quorum queue
// is stuck: everything waits behind the message for that queue.
func TestAPublisherLeavesAConnectionThatConfirmsNothing(t *testing.T) {
	t.Parallel()
	y := open(t)
	proxy, b := y.through()
	p := y.publisherOf(b)
	proxy.Mute()
	stop := y.background(func(ctx context.Context) error {
		for ticks := time.NewTicker(time.Second); ; {
			select {
			case <-ctx.Done():
				return nil
			case <-ticks.C:
				proxy.Say([]byte{8, 0, 0, 0, 0, 0, 0, 0xCE}) // a heartbeat, AMQP 0-9-1 section 4.2.7
			}
		}
	})
	if err := p.PublishJob(t.Context(), job(newID())); !fault.Is(err, fault.Unavailable) || p.Ready() == nil {
		t.Errorf("while the broker confirms nothing: %v, then %v", err, p.Ready())
	}
	stop()
	proxy.Heal()
	y.eventually("the publisher is back", func() bool { return p.PublishJob(t.Context(), job(newID())) == nil })
}

func TestEventsComeInTheirOrder(t *testing.T) {
	t.Parallel()
	y := open(t)
	ch := y.channel()
	q, err := ch.QueueDeclare("", false, true, true, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := ch.QueueBind(q.Name, "order.*", y.broker.Topology.Namespace+"events", false, nil); err != nil {
		t.Fatal(err)
	}
	var events []messaging.Event
	for i := range 500 {
		events = append(events, messaging.Event{ID: fmt.Sprint("event-", i), Type: "order.created", Body: []byte("{}")})
	}
	if err := y.publisher.PublishEvents(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	deliveries, err := ch.Consume(q.Name, "", true, true, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range events {
		d := <-deliveries
		if d.MessageId != events[i].ID || d.Headers["event_type"] != "order.created" || d.ContentType != "application/cloudevents+json" || d.DeliveryMode != amqp.Persistent {
			t.Fatalf("number %d is %+v", i, d)
		}
	}
}

func TestAQueueThatWasMadeDifferentlyIsNamed(t *testing.T) {
	t.Parallel()
	y := open(t)
	ch := y.channel()
	name := y.broker.Topology.Namespace + string(work)
	if _, err := ch.QueueDelete(name, false, false, false); err != nil {
		t.Fatal(err)
	}
	if _, err := ch.QueueDeclare(name, true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	if err := y.broker.Declare(); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("%v does not name %s", err, name)
	}
}

// E13: a broker that has stopped reading holds nobody up for longer than they want to wait.
func TestAPublishEndsInTimeAlthoughNobodyReads(t *testing.T) {
	t.Parallel()
	y := open(t)
	proxy, b := y.through()
	p := y.publisherOf(b)
	proxy.Hold()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	var publishers sync.WaitGroup
	for range 1000 { // more than all buffers on the way have room for
		publishers.Go(func() {
			m := job(newID())
			m.Body = make([]byte, 60<<10)
			if err := p.PublishJob(ctx, m); !fault.Is(err, fault.Unavailable) {
				t.Errorf("while nobody reads: %v", err)
			}
		})
	}
	publishers.Wait()
	if p.Ready() != nil { // which would have ended the waiting too
		t.Error("the connection is gone")
	}
}
