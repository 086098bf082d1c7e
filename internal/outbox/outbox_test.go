package outbox_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/prometheus/client_golang/prometheus"

	"cartwright/internal/messaging"
	"cartwright/internal/outbox"
	"cartwright/internal/store"
	"cartwright/internal/testenv"
	schema "cartwright/sql"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const soon = 30 * time.Second

// post is a database with an outbox, and somebody who hears all events.
type post struct {
	t          testing.TB
	db         *sql.DB
	database   string
	broker     messaging.Broker
	deliveries <-chan amqp.Delivery
	complaints *bell
}

// bell counts the warnings of relays.
type bell struct {
	slog.Handler
	rung atomic.Int32
}

func (b *bell) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == "events wait" {
		b.rung.Add(1)
	}
	return b.Handler.Handle(ctx, r)
}

func open(t testing.TB) *post {
	t.Helper()
	_, url := testenv.Servers(t)
	namespace := testenv.Namespace(t)
	p := &post{t: t, db: testenv.Database(t, namespace, schema.Carts), database: namespace + schema.Carts, complaints: &bell{Handler: testenv.Log(t).Handler()}}
	p.broker = messaging.Broker{
		URL: url, Keys: messaging.Keys{"a key of sixteen and more"}, Log: testenv.Log(t), Metrics: messaging.NewMetrics(prometheus.NewRegistry()),
		Topology: messaging.Topology{Namespace: namespace, Jobs: "jobs", Queues: "queues", Replies: "replies", Events: "events"},
	}
	testenv.Topology(t, p.broker.Topology)
	conn, err := amqp.Dial(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	q, err := ch.QueueDeclare("", false, true, true, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := ch.QueueBind(q.Name, "#", namespace+"events", false, nil); err != nil {
		t.Fatal(err)
	}
	if p.deliveries, err = ch.Consume(q.Name, "", true, true, false, false, nil); err != nil {
		t.Fatal(err)
	}
	return p
}

// relay runs a relay with a publisher of its own until the test ends, or until it is stopped.
func (p *post) relay(db *sql.DB, b messaging.Broker) (stop func()) {
	publisher := messaging.NewPublisher(b, "test")
	stopPublisher := p.background(publisher.Run)
	stopRelay := p.background(outbox.Relay{DB: db, Database: p.database, Source: "cartwright/test", Publisher: publisher, Log: slog.New(p.complaints)}.Run)
	stop = sync.OnceFunc(func() { stopRelay(); stopPublisher() })
	p.t.Cleanup(stop)
	testenv.Eventually(p.t, soon, "the publisher is connected", func() bool { return publisher.Ready() == nil })
	return stop
}

func (p *post) background(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			p.t.Error(err)
		}
	})
}

// tell saves numbered events in one transaction.
func (p *post) tell(numbers ...int) {
	p.t.Helper()
	if err := store.InTx(p.t.Context(), p.db, func(ctx context.Context, tx *store.Tx) error { return add(ctx, tx, numbers...) }); err != nil {
		p.t.Fatal(err)
	}
}

func add(ctx context.Context, tx *store.Tx, numbers ...int) error {
	var events []outbox.Event
	for _, n := range numbers {
		events = append(events, outbox.Event{Type: "order.created", Subject: fmt.Sprint("order-", n), Data: map[string]int{"number": n}})
	}
	return outbox.Add(ctx, tx, events...)
}

// sequenceLength is room for the number of every sheet and every place on it, so that texts compare
// like numbers.
const sequenceLength = 20 + 1 + 6

// document is what a CloudEvents 1.0 reader sees.
type document struct {
	SpecVersion, ID, Source, Type, Subject, Time, Sequence, DataContentType string
	Data                                                                    struct{ Number int }
}

func (p *post) hear() (d document) {
	p.t.Helper()
	select {
	case m := <-p.deliveries:
		if err := json.Unmarshal(m.Body, &d); err != nil || m.MessageId != d.ID || m.RoutingKey != d.Type {
			p.t.Fatalf("%s: %v in %+v", m.Body, err, m)
		}
	case <-time.After(soon):
		p.t.Fatal("nothing heard")
	}
	return d
}

// inOrder hears the events up to a number. One may come again, with all after it, but none may be
// left out; and a later one has a greater sequence.
func (p *post) inOrder(last int) {
	p.t.Helper()
	sequence := ""
	for next := 0; next <= last; {
		d := p.hear()
		switch n := d.Data.Number; {
		case n == next:
			if d.Sequence <= sequence || len(d.Sequence) != sequenceLength {
				p.t.Fatalf("%d has the sequence %q, after %q", n, d.Sequence, sequence)
			}
			sequence = d.Sequence
			next++
		case n > next:
			p.t.Fatalf("%d came before %d", n, next)
		}
	}
}

func (p *post) waiting() (n int) {
	p.t.Helper()
	_, events, err := outbox.Waiting(p.t.Context(), p.db, 1000)
	if err != nil {
		p.t.Fatal(err)
	}
	return len(events)
}

func (p *post) delivered() {
	p.t.Helper()
	testenv.Eventually(p.t, soon, "the outbox is empty", func() bool { return p.waiting() == 0 })
}

// E1, E3
func TestOnlyWhatWasCommittedIsTold(t *testing.T) {
	t.Parallel()
	p := open(t)
	changedMyMind := errors.New("changed my mind")
	err := store.InTx(t.Context(), p.db, func(ctx context.Context, tx *store.Tx) error { return errors.Join(add(ctx, tx, 1), changedMyMind) })
	if !errors.Is(err, changedMyMind) {
		t.Fatal(err)
	}
	before := time.Now().Add(-time.Minute)
	p.tell(2)
	p.relay(p.db, p.broker)
	d := p.hear()
	at, err := time.Parse(time.RFC3339Nano, d.Time)
	if err != nil || at.Before(before) || at.After(time.Now().Add(time.Minute)) {
		t.Errorf("time %q: %v", d.Time, err)
	}
	if d.Data.Number != 2 || d.SpecVersion != "1.0" || d.Source != "cartwright/test" || d.Type != "order.created" || d.Subject != "order-2" || d.DataContentType != "application/json" {
		t.Errorf("heard %+v", d)
	}
	p.delivered()
}

// E3: between commit and publish the process may die.
func TestEventsOutliveTheProcess(t *testing.T) {
	t.Parallel()
	p := open(t)
	stop := p.relay(p.db, p.broker)
	p.tell(0)
	p.inOrder(0)
	stop()
	p.tell(0, 1)
	p.relay(p.db, p.broker)
	p.inOrder(1)
	p.delivered()
}

func TestWhatWasSavedBeforeTheStopIsStillTold(t *testing.T) {
	t.Parallel()
	p := open(t)
	stop := p.relay(p.db, p.broker)
	p.tell(0)
	p.inOrder(0)
	p.tell(0, 1, 2)
	stop()
	if n := p.waiting(); n != 0 {
		t.Errorf("%d events are left behind", n)
	}
	p.inOrder(2)
}

func TestTwoRelaysKeepTheOrder(t *testing.T) {
	t.Parallel()
	p := open(t)
	p.relay(p.db, p.broker)
	p.relay(testenv.Open(t, p.database), p.broker)
	for n := 0; n < 1500; n += 3 {
		p.tell(n, n+1, n+2)
	}
	p.inOrder(1499)
	p.delivered()
}

// A number is given at the insert, so a later one may be committed first.
func TestALateCommitIsNotPassedOver(t *testing.T) {
	t.Parallel()
	p := open(t)
	p.relay(p.db, p.broker)
	saved, commit, late := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		late <- store.InTx(t.Context(), p.db, func(ctx context.Context, tx *store.Tx) error {
			if err := add(ctx, tx, 1); err != nil {
				return err
			}
			_, err := tx.ExecContext(ctx, "DO 0") // what only waits has no number yet
			close(saved)
			<-commit
			return err
		})
	}()
	<-saved
	p.tell(2)
	if n := p.hear().Data.Number; n != 2 {
		t.Errorf("heard %d", n)
	}
	close(commit)
	if err := <-late; err != nil {
		t.Fatal(err)
	}
	if n := p.hear().Data.Number; n != 1 {
		t.Errorf("heard %d", n)
	}
	p.delivered()
}

// A transaction may have more to tell than a publisher has places for at a time.
func TestManyEventsOfOneTransactionAreToldInOrder(t *testing.T) {
	t.Parallel()
	p := open(t)
	p.relay(p.db, p.broker)
	numbers := make([]int, 5000)
	for n := range numbers {
		numbers[n] = n
	}
	p.tell(numbers...)
	p.inOrder(len(numbers) - 1)
	p.delivered()
}

// E4
func TestEventsWaitForTheBroker(t *testing.T) {
	t.Parallel()
	p := open(t)
	proxy, url := testenv.BrokerProxy(t)
	b := p.broker
	b.URL = url
	p.relay(p.db, b)
	p.tell(0)
	p.inOrder(0)
	p.delivered()
	proxy.Cut()
	p.tell(0, 1, 2)
	testenv.Eventually(t, soon, "the relay has tried", func() bool { return p.complaints.rung.Load() > 0 })
	if n := p.waiting(); n != 3 || len(p.deliveries) != 0 {
		t.Errorf("%d events wait, want 3", n)
	}
	proxy.Heal()
	p.inOrder(2)
	p.delivered()
}

// E3, E4: connections that die at any moment make events come twice, and never get one lost.
func TestNoEventIsLostWhileConnectionsDrop(t *testing.T) {
	t.Parallel()
	const events, drops = 400, 8
	p := open(t)
	toBroker, url := testenv.BrokerProxy(t)
	toDatabase, dsn := testenv.DatabaseProxy(t)
	db, err := store.Open(dsn, p.database, 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	b := p.broker
	b.URL = url
	p.relay(db, b)
	for n := range events {
		p.tell(n)
		if n%(events/drops) == 0 {
			toBroker.Drop()
			toDatabase.Drop()
		}
	}
	p.inOrder(events - 1)
	p.delivered()
}

func TestAnotherRelayTakesOver(t *testing.T) {
	t.Parallel()
	p := open(t)
	stop := p.relay(p.db, p.broker)
	p.tell(0)
	p.inOrder(0)
	p.relay(testenv.Open(t, p.database), p.broker)
	stop()
	p.tell(0, 1)
	p.inOrder(1)
	p.delivered()
}
