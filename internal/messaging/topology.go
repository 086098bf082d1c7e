package messaging

import (
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Topology says everything that must exist on the broker, and who does what with it. An
// administrator declares it; the services only look whether it is there.
type Topology struct {
	Namespace string // put before every name, so that two installations can share a broker
	Jobs      string // topic exchange: jobs by kind
	Queues    string // topic exchange: each work queue and its companions, by their own names
	Replies   string // direct exchange: each waiting process's own queue, by its name
	Events    string // topic exchange: what happened, by type
	Work      []WorkQueue
	Accounts  []Account // one for each service that uses the broker
}

// WorkQueue is a durable quorum queue of jobs with three companions: <name>.retry, which hands
// jobs back after RetryAfter, <name>.alone, whose jobs are done one by one because a worker may
// have died of one of them, and <name>.dead, where jobs wait for people.
type WorkQueue struct {
	Name Queue
	Keys []string // binding keys on the exchange of jobs
}

// Queue is the name of a work queue, without the namespace.
type Queue string

const (
	// RetryAfter is how long a job that could not be done waits in its retry queue.
	RetryAfter = 5 * time.Second
	// lengthMax bounds each work queue. What does not fit is refused at publishing, never dropped.
	lengthMax = 1_000_000
	// deliveryLimit is the broker's own last net under a job that kills its worker again and
	// again. It counts for every job that was prefetched at a crash, so it is high; the guilty
	// one is found in the queue of those that are done alone, long before.
	deliveryLimit = 50
)

func (q Queue) retry() Queue { return q + ".retry" }
func (q Queue) alone() Queue { return q + ".alone" }
func (q Queue) dead() Queue  { return q + ".dead" }

// all lists a work queue and its companions.
func (q Queue) all() []Queue { return []Queue{q, q.retry(), q.alone(), q.dead()} }

// Dead is the name of the queue where the jobs of q wait for people.
func (q Queue) Dead() Queue { return q.dead() }

// Retry is the name of the queue where the jobs of q wait for their next try.
func (q Queue) Retry() Queue { return q.retry() }

// Declare makes everything in t exist. Declaring again what exists is no change; a queue that
// exists with other arguments is an error that names it. The exchange of queues takes whole names
// and no patterns; it is a topic exchange because only there a user can be held to some names.
func (t Topology) Declare(ch *amqp.Channel) error {
	exchanges := []struct{ name, kind string }{
		{t.Jobs, amqp.ExchangeTopic}, {t.Queues, amqp.ExchangeTopic}, {t.Replies, amqp.ExchangeDirect}, {t.Events, amqp.ExchangeTopic},
	}
	for _, e := range exchanges {
		if err := ch.ExchangeDeclare(t.name(e.name), e.kind, true, false, false, false, nil); err != nil {
			return fmt.Errorf("exchange %s: %w", t.name(e.name), err)
		}
	}
	for _, w := range t.Work {
		if err := t.declareWork(ch, w); err != nil {
			return err
		}
	}
	return nil
}

// declareWork makes a work queue and its companions. Dead letters move at least once, which
// quorum queues only promise when they refuse what does not fit.
func (t Topology) declareWork(ch *amqp.Channel, w WorkQueue) error {
	quorum := func(deadLetterTo Queue, extra amqp.Table) amqp.Table {
		args := amqp.Table{"x-queue-type": "quorum", "x-overflow": "reject-publish"}
		if deadLetterTo != "" {
			args["x-dead-letter-exchange"] = t.name(t.Queues)
			args["x-dead-letter-routing-key"] = t.queue(deadLetterTo)
			args["x-dead-letter-strategy"] = "at-least-once"
		}
		for k, v := range extra {
			args[k] = v
		}
		return args
	}
	queues := []struct {
		name Queue
		args amqp.Table
	}{
		{w.Name.dead(), quorum("", nil)},
		{w.Name, quorum(w.Name.dead(), amqp.Table{"x-delivery-limit": int32(deliveryLimit), "x-max-length": int32(lengthMax)})},
		{w.Name.alone(), quorum(w.Name.dead(), amqp.Table{"x-delivery-limit": int32(deliveryLimit)})},
		{w.Name.retry(), quorum(w.Name, amqp.Table{"x-message-ttl": int32(RetryAfter.Milliseconds())})},
	}
	for _, q := range queues {
		name := t.queue(q.name)
		if _, err := ch.QueueDeclare(name, true, false, false, false, q.args); err != nil {
			return fmt.Errorf("queue %s: %w", name, err)
		}
		if err := ch.QueueBind(name, name, t.name(t.Queues), false, nil); err != nil {
			return fmt.Errorf("queue %s: %w", name, err)
		}
	}
	for _, key := range w.Keys {
		if err := ch.QueueBind(t.queue(w.Name), key, t.name(t.Jobs), false, nil); err != nil {
			return fmt.Errorf("queue %s: %w", w.Name, err)
		}
	}
	return nil
}

func (t Topology) name(n string) string { return t.Namespace + n }
func (t Topology) queue(q Queue) string { return t.Namespace + string(q) }

// Delete takes everything in t away again, with what is in it. For tests and for people who give
// an installation up.
func (t Topology) Delete(conn *amqp.Connection) error {
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	defer ch.Close()
	for _, w := range t.Work {
		for _, q := range w.Name.all() {
			if _, err := ch.QueueDelete(t.queue(q), false, false, false); err != nil {
				return fmt.Errorf("queue %s: %w", t.queue(q), err)
			}
		}
	}
	for _, e := range []string{t.Jobs, t.Queues, t.Replies, t.Events} {
		if err := ch.ExchangeDelete(t.name(e), false, false); err != nil {
			return fmt.Errorf("exchange %s: %w", t.name(e), err)
		}
	}
	return nil
}
