package messaging_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"cartwright/internal/fault"
	"cartwright/internal/messaging"
)

// E7, E8, E14: what a handler returns decides what becomes of a job.
func TestEachEndOfAJobHasItsPlace(t *testing.T) {
	t.Parallel()
	y, d := open(t), newDesk()
	y.consume(y.broker, &messaging.Consumer{Handle: d.handle})

	y.publish("done")
	d.next(t).answer <- nil

	y.publish("never")
	d.next(t).answer <- fault.InvalidField("body", "makes no sense")
	if dead := y.take(work.Dead()); dead.MessageId != "never" || dead.Headers["x-reason"] != "body: makes no sense" || string(dead.Body) != "body of never" {
		t.Errorf("buried %+v", dead)
	}

	y.publish("again")
	d.next(t).answer <- errors.New("a fault of ours")
	second := d.next(t)
	second.answer <- nil
	if second.job.ID != "again" || second.job.Attempt != 1 || string(second.job.Body) != "body of again" {
		t.Errorf("the second try is %+v", second.job)
	}

	last := job("last")
	last.Attempt = 4
	if err := y.publisher.PublishJob(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	d.next(t).answer <- errors.New("a fault of ours")
	if dead := y.take(work.Dead()); dead.MessageId != "last" || dead.Headers["x-reason"] != "a fault of ours" {
		t.Errorf("buried %+v", dead)
	}
	y.empty()
}

// empty checks that nothing is left anywhere.
func (y *yard) empty() {
	y.t.Helper()
	for _, q := range []messaging.Queue{work, "work.alone", work.Retry(), work.Dead()} {
		y.eventually(fmt.Sprintf("%s is empty", q), func() bool { return y.waiting(q) == 0 })
	}
}

// E6: silence costs no attempt. The job stays in hand for a while, then waits in the retry queue.
func TestAJobOutwaitsWhatIsAway(t *testing.T) {
	t.Parallel()
	y := open(t)
	var tries, told atomic.Int32
	var back atomic.Bool
	var attempt atomic.Int32
	y.consume(y.broker, &messaging.Consumer{
		Handle: func(_ context.Context, m messaging.Message) error {
			tries.Add(1)
			attempt.Store(int32(m.Attempt))
			if !back.Load() {
				return fault.Away("the database", nil)
			}
			return nil
		},
		Delayed: func(context.Context, messaging.Message, error) { told.Add(1) },
	})
	y.publish("waits")
	y.eventually("the job is tried in hand", func() bool { return tries.Load() > 3 })
	if told.Load() != 1 {
		t.Errorf("told %d times of one delay", told.Load())
	}
	y.eventually("the job waits in the retry queue", func() bool { return y.waiting(work.Retry()) == 1 })
	before := tries.Load()
	back.Store(true)
	y.eventually("the job is tried again", func() bool { return tries.Load() == before+1 })
	if attempt.Load() != 0 {
		t.Errorf("silence cost %d attempts", attempt.Load())
	}
	y.empty()
}

// E7, E14: a job that cannot be put aside, because the broker is deaf or the queue it should go to is
// stuck, stays in hand and is tried again.
func TestAJobThatCannotBePutAsideIsTriedAgain(t *testing.T) {
	t.Parallel()
	y, d := open(t), newDesk()
	proxy, b := y.through()
	y.consume(y.broker, &messaging.Consumer{Handle: d.handle, Publisher: y.publisherOf(b)})
	proxy.Hold()
	y.publish("stays")
	for range 2 {
		v := d.next(t)
		if v.job.Attempt != 0 || v.ctx.Err() != nil {
			t.Errorf("attempt %d, %v", v.job.Attempt, v.ctx.Err())
		}
		v.answer <- errors.New("a fault of ours")
	}
	d.next(t).answer <- nil
	y.empty()
}

// E14
func TestAPanicCostsAnAttemptAndNotTheWorker(t *testing.T) {
	t.Parallel()
	y, c := open(t), &counter{}
	y.consume(y.broker, &messaging.Consumer{Handle: func(ctx context.Context, m messaging.Message) error {
		if m.ID == "bad" && m.Attempt == 0 {
			panic("so bad")
		}
		return c.handle(ctx, m)
	}})
	y.publish("bad")
	y.publish("good")
	y.eventually("the good one is done, then the bad one", func() bool { return c.distinct() == 2 })
	y.empty()
}

// E7, K7: what no gateway of ours has written is buried unread.
func TestAForgedMessageIsBuriedWithTheReason(t *testing.T) {
	t.Parallel()
	y, c := open(t), &counter{}
	y.consume(y.broker, &messaging.Consumer{Handle: c.handle})
	honest := y.intercepted()
	ch := y.channel()
	for reason, forge := range map[string]func(*amqp.Publishing){
		"x-signature":    func(p *amqp.Publishing) { p.Body = []byte("another body") },
		"reply_to":       func(p *amqp.Publishing) { p.ReplyTo = "amq.rabbitmq.trace" },
		"correlation_id": func(p *amqp.Publishing) { p.CorrelationId = "1" },
		"message_id":     func(p *amqp.Publishing) { p.MessageId = "no ID" },
		"content_type":   func(p *amqp.Publishing) { p.ContentType = "application/json" },
		"body":           func(p *amqp.Publishing) { p.Body = make([]byte, 64<<10+1) },
	} {
		forged := honest
		forge(&forged)
		if err := ch.PublishWithContext(t.Context(), "", y.broker.Topology.Namespace+string(work), true, false, forged); err != nil {
			t.Fatal(err)
		}
		dead := y.take(work.Dead())
		if got, _ := dead.Headers["x-reason"].(string); !strings.HasPrefix(got, reason+": ") || string(dead.Body) != string(forged.Body) {
			t.Errorf("%s: buried because %q", reason, got)
		}
	}
	if err := ch.PublishWithContext(t.Context(), "", y.broker.Topology.Namespace+string(work), true, false, honest); err != nil {
		t.Fatal(err)
	}
	y.eventually("the honest one is done", func() bool { return c.distinct() == 1 })
	y.empty()
}

// intercepted is a job as it lies on the queue, signed and with somebody who waits.
func (y *yard) intercepted() amqp.Publishing {
	y.t.Helper()
	other := messaging.NewPublisher(y.broker, "intercepted")
	y.background(other.Run)
	y.eventually("connected", func() bool { return other.Ready() == nil })
	ch := y.channel()
	q, err := ch.QueueDeclare("", false, true, true, false, nil)
	if err != nil {
		y.t.Fatal(err)
	}
	if err := ch.QueueBind(q.Name, "tap.#", y.broker.Topology.Namespace+"jobs", false, nil); err != nil {
		y.t.Fatal(err)
	}
	m := messaging.Message{ID: newID(), Kind: "tap.do", Body: []byte("b"), ReplyTo: newReplyTo(), Correlation: messaging.NewCorrelation()}
	if err := other.PublishJob(y.t.Context(), m); err != nil {
		y.t.Fatal(err)
	}
	d, found, err := ch.Get(q.Name, true)
	if err != nil || !found {
		y.t.Fatalf("nothing intercepted: %v", err)
	}
	return amqp.Publishing{ContentType: d.ContentType, MessageId: d.MessageId, Type: d.Type, ReplyTo: d.ReplyTo, CorrelationId: d.CorrelationId, Headers: d.Headers, Body: d.Body}
}

func TestAKeyCanBeReplacedWhileJobsWait(t *testing.T) {
	t.Parallel()
	y, c := open(t), &counter{}
	y.publish("old")
	b := y.broker
	b.Keys = messaging.Keys{"a new key that is long too", secret}
	p := y.publisherOf(b)
	if err := p.PublishJob(t.Context(), job("new")); err != nil {
		t.Fatal(err)
	}
	y.consume(b, &messaging.Consumer{Handle: c.handle})
	y.eventually("both keys count", func() bool { return c.distinct() == 2 })
}

// E11, E13: a job in hand at a cut belongs to the next connection. Its first handler may end as it
// likes: its word does not count any more.
func TestAJobInHandAtACutIsDeliveredAgain(t *testing.T) {
	t.Parallel()
	y, d := open(t), newDesk()
	proxy, b := y.through()
	y.consume(b, &messaging.Consumer{Handle: d.handle})
	y.publish("cut-off")
	first := d.next(t)
	proxy.Drop()
	<-first.ctx.Done()
	first.answer <- nil
	second := d.next(t)
	if second.job.ID != "cut-off" || second.ctx.Err() != nil {
		t.Errorf("second delivery %+v", second.job)
	}
	second.answer <- nil
	y.empty()
	select {
	case v := <-d.visits:
		t.Errorf("%s came a third time", v.job.ID)
	default:
	}
}

// E12, Z12
func TestAConsumerThatStopsFinishesWhatIsInHand(t *testing.T) {
	t.Parallel()
	y, d := open(t), newDesk()
	stop := y.consume(y.broker, &messaging.Consumer{Handle: d.handle, Prefetch: 3})
	for i := range 8 {
		y.publish(fmt.Sprint("job-", i))
	}
	inHand := []visit{d.next(t), d.next(t), d.next(t)}
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	y.eventually("the others are given up", func() bool { return y.waiting(work) == 5 })
	for _, v := range inHand {
		if v.ctx.Err() != nil {
			t.Errorf("%s was cancelled", v.job.ID)
		}
		v.answer <- nil
	}
	<-stopped
	if n := y.waiting(work); n != 5 {
		t.Errorf("%d jobs are left, want 5", n)
	}
	c := &counter{}
	y.consume(y.broker, &messaging.Consumer{Handle: c.handle})
	y.eventually("the next worker does the rest", func() bool { return c.distinct() == 5 })
	y.empty()
}

// B6: a consumer that has stopped may run again. Meanwhile jobs wait on the work queue, also one that
// was in the retry queue, and that costs none of them an attempt.
func TestAConsumerMayStopAndRunAgain(t *testing.T) {
	t.Parallel()
	y, d := open(t), newDesk()
	c := &messaging.Consumer{Handle: d.handle}
	stop := y.consume(y.broker, c)
	for range 3 {
		y.publish("retried")
		y.publish("finished")
		inHand := map[string]visit{}
		for range 2 {
			v := d.next(t)
			inHand[v.job.ID] = v
		}
		inHand["retried"].answer <- errors.New("a fault of ours")
		stopped := make(chan struct{})
		go func() { stop(); close(stopped) }()
		y.eventually("it does not hear", func() bool { return c.Ready() != nil })
		inHand["finished"].answer <- nil
		<-stopped
		y.publish("waits")
		y.eventually("both wait", func() bool { return y.waiting(work) == 2 })
		stop = y.background(c.Run)
		for range 2 {
			v := d.next(t)
			want := map[string]int{"retried": 1, "waits": 0}
			if attempt, known := want[v.job.ID]; !known || v.job.Attempt != attempt {
				t.Errorf("%s came with attempt %d", v.job.ID, v.job.Attempt)
			}
			v.answer <- nil
		}
		y.empty()
	}
}

// Z12: a consumer that is asked to stop in the middle of isolating does stop, and loses nothing.
func TestAConsumerStopsWhileItIsolates(t *testing.T) {
	t.Parallel()
	const jobs = 40
	for range 5 {
		y := open(t)
		proxy, b := y.through()
		var inHand atomic.Int32
		stop := y.consume(b, &messaging.Consumer{Prefetch: jobs, Handle: func(ctx context.Context, _ messaging.Message) error {
			if inHand.Add(1) <= 2*jobs {
				<-ctx.Done()
			}
			return ctx.Err()
		}})
		for i := range jobs {
			y.publish(fmt.Sprint("job-", i))
		}
		for deaths := range 2 { // of its worker, as the broker sees it
			y.eventually("all are in hand", func() bool { return inHand.Load() == int32(jobs*(deaths+1)) })
			proxy.Drop()
		}
		y.eventually("isolating has begun", func() bool { return inHand.Load() > 2*jobs })
		stopped := make(chan struct{})
		go func() { stop(); close(stopped) }()
		select {
		case <-stopped:
		case <-time.After(soon):
			t.Fatal("it does not stop")
		}
		c := &counter{}
		stop = y.consume(y.broker, &messaging.Consumer{Handle: c.handle})
		y.eventually("all are done", func() bool {
			return c.distinct() >= jobs-int(inHand.Load()-2*jobs) && y.waiting(work)+y.waiting(work+".alone") == 0
		})
		stop()
	}
}

// A job of which its worker dies is found among the innocent that were in hand beside it, tried
// alone, and buried in the end.
func TestAJobThatKillsItsWorkerIsIsolated(t *testing.T) {
	t.Parallel()
	y, c := open(t), &counter{}
	proxy, b := y.through()
	var crashes atomic.Int32
	y.consume(b, &messaging.Consumer{Handle: func(ctx context.Context, m messaging.Message) error {
		if m.ID == "deadly" {
			n := crashes.Add(1)
			if limit, _ := ctx.Deadline(); n > 2 && time.Until(limit) > 20*time.Second {
				t.Error("alone, it has more time than a consumer that stops would leave it")
			}
			proxy.Drop() // the broker sees the same when a process dies
			<-ctx.Done()
			return ctx.Err()
		}
		return c.handle(ctx, m)
	}})
	y.publish("deadly")
	for i := range 20 {
		y.publish(fmt.Sprint("innocent-", i))
	}
	dead := y.take(work.Dead())
	if dead.MessageId != "deadly" || !strings.Contains(fmt.Sprint(dead.Headers["x-reason"]), "worker died") {
		t.Errorf("buried %s because %v", dead.MessageId, dead.Headers["x-reason"])
	}
	if n := crashes.Load(); n != 5 { // two among others, three alone
		t.Errorf("%d crashes before it was buried, want 5", n)
	}
	y.eventually("the innocent are done", func() bool { return c.distinct() == 20 })
	y.empty()
}

// B9: several workers cost no more than one, because jobs stay together for as long as one can take them.
func TestTheOldestWorkerIsFilledFirst(t *testing.T) {
	t.Parallel()
	y, older, younger := open(t), newDesk(), newDesk()
	now := time.Now()
	y.consume(y.broker, &messaging.Consumer{Prefetch: 4, Since: now, Handle: younger.handle})
	stop := y.consume(y.broker, &messaging.Consumer{Prefetch: 4, Since: now.Add(-time.Minute), Handle: older.handle})
	for i := range 6 {
		y.publish(fmt.Sprint("job-", i))
	}
	var visits []visit
	for range 4 {
		visits = append(visits, older.next(t))
	}
	for range 2 { // what it cannot take
		visits = append(visits, younger.next(t))
	}
	for _, v := range visits {
		v.answer <- nil
	}
	y.empty()
	stop()
	y.publish("later")
	younger.next(t).answer <- nil
	y.empty()
}
