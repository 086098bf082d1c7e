package messaging

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Account is what one service does on the broker. All that its user may do there follows from it,
// and all that must exist before the service can work.
type Account struct {
	Service string
	Asks    bool     // publishes jobs, and hears the answers on reply queues of its own
	Works   Queue    // takes jobs off this queue, moves them to its companions, and answers them
	Tells   string   // publishes the events whose type begins with this word
	Watches []string // hears the events whose type begins with one of these words, on queues of its own
}

// permissions are RabbitMQ's: regular expressions of the names that a user may configure, write to
// and read from; and, for topic exchanges, of the routing keys under which it may publish and
// bind.
type permissions struct {
	configure, write, read string
	keys                   map[string]keys // by exchange
}

type keys struct{ write, read string }

// permissions of an account: nothing that it has no use for. It may write to the two companions
// that it does not hear only because RabbitMQ 4.3 lets nobody look at a queue to which they may do
// nothing; to publish to them takes an exchange, and to bind them the right to read from one.
func (t Topology) permissions(a Account) permissions {
	var configure, write, read []string
	byExchange := map[string]keys{}
	if a.Asks {
		replies := t.private(replyPrefix)
		configure = append(configure, replies)
		write = append(write, replies, exactly(t.name(t.Jobs)))
		read = append(read, replies, exactly(t.name(t.Replies)))
	}
	if q := a.Works; q != "" {
		write = append(write, exactly(t.name(t.Queues), t.name(t.Replies), t.queue(q.retry()), t.queue(q.dead())))
		read = append(read, exactly(t.queue(q), t.queue(q.alone())))
		byExchange[t.name(t.Queues)] = keys{write: whole(exactly(t.queue(q.retry()), t.queue(q.alone()), t.queue(q.dead()))), read: whole()}
	}
	events := keys{whole(), whole()}
	if a.Tells != "" {
		write = append(write, exactly(t.name(t.Events)))
		events.write = begins(a.Tells)
	}
	if len(a.Watches) > 0 {
		watches := t.private(watchPrefix)
		configure, write = append(configure, watches), append(write, watches)
		read = append(read, watches, exactly(t.name(t.Events)))
		events.read = begins(a.Watches...)
	}
	if a.hasEvents() {
		byExchange[t.name(t.Events)] = events
	}
	return permissions{whole(configure...), whole(write...), whole(read...), byExchange}
}

// private matches the names that processes think up for queues of their own.
func (t Topology) private(prefix string) string {
	return regexp.QuoteMeta(t.name(prefix)) + "[0-9a-f]{32}"
}

// hasEvents tells whether an account has to do with events at all.
func (a Account) hasEvents() bool { return a.Tells != "" || len(a.Watches) > 0 }

// begins matches the types of events of some kinds.
func begins(words ...string) string { return `^(` + exactly(words...) + `)\.` }

// exactly matches these names and nothing that only looks like them.
func exactly(names ...string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = regexp.QuoteMeta(n)
	}
	return strings.Join(quoted, "|")
}

// whole matches names that are whole one of the patterns, and none when there are no patterns.
func whole(patterns ...string) string {
	if len(patterns) == 0 {
		return "^$"
	}
	return "^(" + strings.Join(patterns, "|") + ")$"
}

// uses lists what must exist for a service; for nobody in particular, everything.
func (t Topology) uses(service string) (exchanges []string, queues []Queue) {
	i := slices.IndexFunc(t.Accounts, func(a Account) bool { return a.Service == service })
	if i < 0 {
		for _, w := range t.Work {
			queues = append(queues, w.Name.all()...)
		}
		return []string{t.Jobs, t.Queues, t.Replies, t.Events}, queues
	}
	a := t.Accounts[i]
	if a.Asks {
		exchanges = append(exchanges, t.Jobs, t.Replies)
	}
	if a.Works != "" {
		exchanges, queues = append(exchanges, t.Queues, t.Replies), a.Works.all()
	}
	if a.hasEvents() {
		exchanges = append(exchanges, t.Events)
	}
	return exchanges, queues
}

// check tells what a service needs and does not find.
func (t Topology) check(conn *amqp.Connection, service string) error {
	ch, err := conn.Channel()
	if err != nil {
		return fmt.Errorf("channel: %w", err)
	}
	defer ch.Close()
	exchanges, queues := t.uses(service)
	for _, e := range exchanges {
		if err := ch.ExchangeDeclarePassive(t.name(e), "", true, false, false, false, nil); err != nil {
			return fmt.Errorf("exchange %s%w", t.name(e), missing(err))
		}
	}
	for _, q := range queues {
		if _, err := ch.QueueDeclarePassive(t.queue(q), true, false, false, false, nil); err != nil {
			return fmt.Errorf("queue %s%w", t.queue(q), missing(err))
		}
	}
	return nil
}

// missing says what to do about a name that the broker does not know.
func missing(err error) error {
	var said *amqp.Error
	if errors.As(err, &said) && said.Code == amqp.NotFound {
		return fmt.Errorf(" is missing, run migrate: %w", err)
	}
	return fmt.Errorf(": %w", err)
}
