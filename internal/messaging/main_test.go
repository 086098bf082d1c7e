package messaging_test

import (
	"context"
	"encoding/hex"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/prometheus/client_golang/prometheus"

	"cartwright/internal/ids"
	"cartwright/internal/messaging"
	"cartwright/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const (
	work   messaging.Queue = "work"
	secret string          = "a key of sixteen and more"
	// soon is longer than a round through the retry queue with all its reconnects; tests wait for
	// conditions, not for this.
	soon = 45 * time.Second
)

// yard is a broker's corner of its own: one work queue, and a publisher that is connected.
type yard struct {
	t         testing.TB
	broker    messaging.Broker
	publisher *messaging.Publisher
}

func open(t testing.TB) *yard {
	t.Helper()
	_, url := testenv.Servers(t)
	topology := messaging.Topology{
		Namespace: testenv.Namespace(t), Jobs: "jobs", Queues: "queues", Replies: "replies", Events: "events",
		Work: []messaging.WorkQueue{{Name: work, Keys: []string{"work.*"}}},
	}
	testenv.Topology(t, topology)
	y := &yard{t: t, broker: messaging.Broker{
		URL: url, Topology: topology, Keys: messaging.Keys{secret}, Log: testenv.Log(t), Metrics: messaging.NewMetrics(prometheus.NewRegistry()),
	}}
	y.publisher = y.publisherOf(y.broker)
	return y
}

// through is the same corner, reached through a proxy that can break.
func (y *yard) through() (*testenv.Proxy, messaging.Broker) {
	y.t.Helper()
	proxy, url := testenv.BrokerProxy(y.t)
	b := y.broker
	b.URL = url
	return proxy, b
}

// publisherOf runs a publisher until the test ends, and waits until it is connected.
func (y *yard) publisherOf(b messaging.Broker) *messaging.Publisher {
	y.t.Helper()
	p := messaging.NewPublisher(b, "test")
	y.background(p.Run)
	y.eventually("the publisher is connected", func() bool { return p.Ready() == nil })
	return p
}

// background runs something until the test ends, or until it is stopped.
func (y *yard) background(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			y.t.Errorf("ended with %v", err)
		}
	})
	y.t.Cleanup(stop)
	return stop
}

// consume runs a consumer until the test ends, or until it is stopped, and waits until it hears.
func (y *yard) consume(b messaging.Broker, c *messaging.Consumer) (stop func()) {
	y.t.Helper()
	c.Broker, c.Queue, c.Name = b, work, "test"
	if c.Publisher == nil {
		c.Publisher = y.publisher
	}
	if c.Prefetch == 0 {
		c.Prefetch = 10
	}
	stop = y.background(c.Run)
	y.eventually("the consumer hears", func() bool { return c.Ready() == nil })
	return stop
}

func (y *yard) eventually(what string, holds func() bool) {
	y.t.Helper()
	testenv.Eventually(y.t, soon, what, holds)
}

// publish stores a job under an ID.
func (y *yard) publish(id string) {
	y.t.Helper()
	if err := y.publisher.PublishJob(y.t.Context(), job(id)); err != nil {
		y.t.Fatal(err)
	}
}

func job(id string) messaging.Message {
	return messaging.Message{ID: id, Kind: "work.do", Body: []byte("body of " + id)}
}

func newReplyTo() string { return "reply." + hex.EncodeToString(make([]byte, 16)) }

// waiting tells how many messages lie on a queue, not counting those in a worker's hand.
func (y *yard) waiting(q messaging.Queue) int {
	y.t.Helper()
	depths, err := y.broker.Depths(y.t.Context())
	if err != nil {
		y.t.Fatal(err)
	}
	for _, d := range depths {
		if d.Queue == q {
			return d.Waiting
		}
	}
	y.t.Fatalf("no queue %s", q)
	return 0
}

// channel opens a bare channel to the broker.
func (y *yard) channel() *amqp.Channel {
	y.t.Helper()
	conn, err := amqp.Dial(y.broker.URL)
	if err != nil {
		y.t.Fatal(err)
	}
	y.t.Cleanup(func() { conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		y.t.Fatal(err)
	}
	return ch
}

// take waits for a message on a queue and takes it off.
func (y *yard) take(q messaging.Queue) (d amqp.Delivery) {
	y.t.Helper()
	ch := y.channel()
	y.eventually("a message lies on "+string(q), func() (found bool) {
		var err error
		if d, found, err = ch.Get(y.broker.Topology.Namespace+string(q), true); err != nil {
			y.t.Fatal(err)
		}
		return found
	})
	return d
}

// counter counts what a handler has seen, by message ID.
type counter struct {
	mu   sync.Mutex
	seen map[string]int
}

func (c *counter) handle(_ context.Context, m messaging.Message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen = map[string]int{}
	}
	c.seen[m.ID]++
	return nil
}

// distinct is the number of different messages seen.
func (c *counter) distinct() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.seen)
}

// desk is a handler whose test decides what becomes of each job.
type desk struct{ visits chan visit }

// visit is one try at a job.
type visit struct {
	ctx    context.Context
	job    messaging.Message
	answer chan error // to be sent what the handler returns
}

func newDesk() *desk { return &desk{make(chan visit, 100)} }

func (d *desk) handle(ctx context.Context, m messaging.Message) error {
	v := visit{ctx, m, make(chan error, 1)}
	d.visits <- v
	return <-v.answer
}

func (d *desk) next(t testing.TB) visit {
	t.Helper()
	select {
	case v := <-d.visits:
		return v
	case <-time.After(soon):
		t.Fatal("nobody came")
		return visit{}
	}
}

func newID() string { return ids.New() }
