package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"cartwright/internal/messaging"
	"cartwright/jobs"
)

// What each account may do at the broker, tried one by one: every operation on every queue and
// exchange of the topology, of a shop beside it, and of the broker itself.

// try is one operation. It returns what the broker said to it.
type try struct {
	name    string
	allowed bool
	do      func(ch *amqp.Channel) error
}

// corner is what the operations are tried on.
type corner struct {
	messaging.Topology
	neighbour string // a namespace in which there is another shop
	replies   string // the name of a reply queue of another gateway
}

const (
	replyName = "reply.00112233445566778899aabbccddeeff"
	watchName = "watch.00112233445566778899aabbccddeeff"
)

// X5, E17: at the broker, each service can do what it does and nothing else.
func TestBrokerAccountsCanDoNoMoreThanTheyNeed(t *testing.T) {
	t.Parallel()
	s, beside := newSite(t), newSite(t)
	s.migrate()
	beside.migrate()
	admin, err := amqp.Dial(s.settings.Broker.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	c := corner{s.topology, beside.topology.Namespace, s.topology.Namespace + replyName}
	for _, account := range s.topology.Accounts {
		conn, err := amqp.Dial(s.urls[account.Service])
		if err != nil {
			t.Fatalf("%s: %v", account.Service, err)
		}
		tries := slices.Concat(c.onQueues(account), c.onExchanges(account), c.publishing(account), c.ofPrivateQueues(account))
		refused := 0
		for _, try := range tries {
			err := once(conn, try.do)
			var said *amqp.Error
			denied := errors.As(err, &said) && said.Code == amqp.AccessRefused
			switch {
			case try.allowed && err != nil:
				t.Errorf("%s cannot %s: %v", account.Service, try.name, err)
			case !try.allowed && !denied:
				t.Errorf("%s can %s (%v)", account.Service, try.name, err)
			case denied:
				refused++
			}
		}
		if refused < 100 || refused == len(tries) {
			t.Errorf("%s: only %d of %d operations were refused", account.Service, refused, len(tries))
		}
		conn.Close()
	}
}

// once runs an operation on a channel of its own: the broker closes a channel on which something
// is refused.
func once(conn *amqp.Connection, do func(ch *amqp.Channel) error) error {
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	defer ch.Close()
	return do(ch)
}

// queues are all names on which something could be tried.
func (c corner) queues() (all []string) {
	for _, w := range c.Work {
		for _, q := range []messaging.Queue{w.Name, w.Name.Retry(), w.Name + ".alone", w.Name.Dead()} {
			all = append(all, c.Namespace+string(q), c.neighbour+string(q))
		}
	}
	return append(all, c.Namespace+"queue of nobody")
}

func (c corner) exchanges() (all []string) {
	for _, e := range []string{c.Jobs, c.Queues, c.Replies, c.Events} {
		all = append(all, c.Namespace+e, c.neighbour+e)
	}
	return append(all, "amq.topic", "amq.direct", "amq.fanout", "amq.headers")
}

func (c corner) onQueues(a messaging.Account) (tries []try) {
	for _, q := range c.queues() {
		reads := a.Works != "" && (q == c.Namespace+string(a.Works) || q == c.Namespace+string(a.Works)+".alone")
		add := func(what string, allowed bool, do func(*amqp.Channel) error) {
			tries = append(tries, try{what + " " + q, allowed, do})
		}
		add("consume", reads, func(ch *amqp.Channel) error {
			_, err := ch.Consume(q, "", false, false, false, false, nil)
			return err
		})
		add("get from", reads, func(ch *amqp.Channel) error { _, _, err := ch.Get(q, false); return err })
		add("purge", reads, func(ch *amqp.Channel) error { _, err := ch.QueuePurge(q, false); return err })
		add("declare", false, func(ch *amqp.Channel) error { _, err := ch.QueueDeclare(q, true, false, false, false, nil); return err })
		add("delete", false, func(ch *amqp.Channel) error { _, err := ch.QueueDelete(q, true, true, false); return err })
		add("publish past all exchanges to", false, publish("", q))
		for _, e := range c.exchanges() {
			add("bind to "+e, false, func(ch *amqp.Channel) error { return ch.QueueBind(q, "#", e, false, nil) })
			add("unbind from "+e, false, func(ch *amqp.Channel) error { return ch.QueueUnbind(q, "#", e, nil) })
		}
	}
	return tries
}

func (c corner) onExchanges(a messaging.Account) (tries []try) {
	for _, e := range append(c.exchanges(), c.Namespace+"exchange of nobody") {
		add := func(what string, allowed bool, do func(*amqp.Channel) error) {
			tries = append(tries, try{what + " " + e, allowed, do})
		}
		add("declare", false, func(ch *amqp.Channel) error { return ch.ExchangeDeclare(e, "topic", true, false, false, false, nil) })
		add("delete", false, func(ch *amqp.Channel) error { return ch.ExchangeDelete(e, true, false) })
		for _, other := range c.exchanges() {
			// The broker knows no finer right: whoever may hear answers and publish jobs may have answers
			// go where jobs go, where no queue takes them.
			allowed := a.Asks && e == c.Namespace+c.Jobs && other == c.Namespace+c.Replies
			add("bind to "+other, allowed, func(ch *amqp.Channel) error { return ch.ExchangeBind(e, "#", other, false, nil) })
		}
	}
	return tries
}

// publishing tries every key that means something on every exchange.
func (c corner) publishing(a messaging.Account) (tries []try) {
	keys := append(c.queues(), c.replies, jobs.AddToCart, jobs.StartCheckout)
	for _, other := range c.Accounts {
		if other.Tells != "" {
			keys = append(keys, other.Tells+".happened")
		}
	}
	for _, e := range append(c.exchanges(), "amq.default") {
		for _, key := range keys {
			allowed := false
			switch e {
			case c.Namespace + c.Jobs:
				allowed = a.Asks
			case c.Namespace + c.Replies:
				allowed = a.Works != ""
			case c.Namespace + c.Queues:
				own := []messaging.Queue{a.Works.Retry(), a.Works + ".alone", a.Works.Dead()}
				name, ours := strings.CutPrefix(key, c.Namespace)
				allowed = a.Works != "" && ours && slices.Contains(own, messaging.Queue(name))
			case c.Namespace + c.Events:
				allowed = a.Tells != "" && strings.HasPrefix(key, a.Tells+".")
			}
			tries = append(tries, try{fmt.Sprintf("publish to %s as %s", e, key), allowed, publish(e, key)})
		}
	}
	return tries
}

// ofPrivateQueues tries to make queues of its own, of the right name and of others, and to hear
// answers, events and what else there is on them.
func (c corner) ofPrivateQueues(a messaging.Account) []try {
	make := func(queue string) func(ch *amqp.Channel) error {
		return func(ch *amqp.Channel) error {
			_, err := ch.QueueDeclare(queue, false, true, true, false, amqp.Table{"x-queue-type": "classic"})
			if err == nil {
				_, err = ch.QueueDelete(queue, false, false, false)
			}
			return err
		}
	}
	hearAs := func(queue, key, exchange string) func(ch *amqp.Channel) error {
		return func(ch *amqp.Channel) error {
			_, err := ch.QueueDeclare(queue, false, true, true, false, amqp.Table{"x-queue-type": "classic"})
			if err == nil {
				err = ch.QueueBind(queue, key, exchange, false, nil)
			}
			if err == nil {
				_, err = ch.Consume(queue, "", true, true, false, false, nil)
			}
			if err == nil {
				_, err = ch.QueueDelete(queue, false, false, false)
			}
			return err
		}
	}
	hear := func(queue, exchange string) func(ch *amqp.Channel) error { return hearAs(queue, queue, exchange) }
	watch := c.Namespace + watchName
	return []try{
		{"make a watch queue", len(a.Watches) > 0, make(watch)},
		{"make a watch queue of another name", false, make(c.Namespace + "watch.x")},
		{"make a watch queue at the neighbour's", false, make(c.neighbour + watchName)},
		{"watch products", slices.Contains(a.Watches, "product"), hearAs(watch, "product.updated", c.Namespace+c.Events)},
		{"watch stock", slices.Contains(a.Watches, "stock"), hearAs(watch, "stock.sold_out", c.Namespace+c.Events)},
		{"watch what is only called like stock", false, hearAs(watch, "stocks.sold_out", c.Namespace+c.Events)},
		{"watch everything", false, hearAs(watch, "#", c.Namespace+c.Events)},
		{"watch orders", false, hearAs(watch, "order.created", c.Namespace+c.Events)},
		{"watch the neighbour's products", false, hearAs(watch, "product.updated", c.neighbour+c.Events)},
		{"make a reply queue", a.Asks, make(c.replies)},
		{"make a reply queue of another name", false, make(c.Namespace + "reply.x")},
		{"make a reply queue of a longer name", false, make(c.replies + "0")},
		{"make a reply queue at the neighbour's", false, make(c.neighbour + replyName)},
		{"make a reply queue beside the namespace", false, make("x" + c.replies)},
		{"hear answers", a.Asks, hear(c.replies, c.Namespace+c.Replies)},
		{"hear answers by another name", false, hear(c.Namespace+"reply.x", c.Namespace+c.Replies)},
		{"hear the neighbour's answers", false, hear(c.neighbour+replyName, c.neighbour+c.Replies)},
		{"overhear jobs", false, hear(c.replies, c.Namespace+c.Jobs)},
		{"overhear events", false, hear(c.replies, c.Namespace+c.Events)},
		{"overhear moves", false, hear(c.replies, c.Namespace+c.Queues)},
	}
}

// publish sends a message that nobody will understand, and waits for the broker's word.
func publish(exchange, key string) func(ch *amqp.Channel) error {
	return func(ch *amqp.Channel) error {
		if err := ch.Confirm(false); err != nil {
			return err
		}
		closed := ch.NotifyClose(make(chan *amqp.Error, 1))
		if exchange == "amq.default" {
			exchange = ""
		}
		confirm, err := ch.PublishWithDeferredConfirm(exchange, key, false, false, amqp.Publishing{})
		if err != nil {
			return err
		}
		late := time.After(soon)
		select {
		case <-confirm.Done():
			if !confirm.Acked() {
				select {
				case reason := <-closed:
					return reason
				case <-late:
				}
			}
			return nil
		case reason := <-closed:
			return reason
		case <-late:
			return errors.New("no word from the broker")
		}
	}
}
