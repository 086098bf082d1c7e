// Package messaging is the authority on the broker: connections that are rebuilt whole when they
// die, publishing with confirms, work queues whose jobs are settled in one place, and answers to
// the very process that waits. It knows nothing of what the messages say.
package messaging

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"cartwright/internal/lifecycle"
)

const (
	heartbeat      = 5 * time.Second // a dead peer is noticed after three
	dialTimeout    = 3 * time.Second
	reconnectFirst = 100 * time.Millisecond
	reconnectMax   = 3 * time.Second
	frameSize      = 128 << 10
)

// Settings say where the broker is.
type Settings struct {
	URL       string `env:"AMQP_URL,required" help:"RabbitMQ, as amqp://user:password@host:port/vhost: with the service's own account; for migrate and queues, with the administrator's"`
	Namespace string `env:"NAMESPACE" help:"put before the name of every database, queue and exchange, so that two shops can share servers"`
}

// Broker says where the broker is and what must exist on it.
type Broker struct {
	URL      string
	Service  string // whose account it is; empty for an administrator's
	Topology Topology
	Keys     Keys // sign and check jobs
	Log      *slog.Logger
	Metrics  *Metrics
}

// errEnded ends a session that lost its connection; the loop builds the next one.
var errEnded = errors.New("connection to the broker ended")

// sessions runs one connection after the other until ctx ends. Everything that is built on a
// connection dies with it: the client library's own recovery stays off, because an ack of a
// delivery from before a cut would settle another message after it.
func (b Broker) sessions(ctx context.Context, name string, session func(context.Context, *connection) error) error {
	wait := reconnectFirst
	for {
		began := time.Now()
		err := b.session(ctx, name, session)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > 10*reconnectMax {
			wait = reconnectFirst
		}
		b.Log.Warn("broker session ended", "connection", name, "error", err, "again_in_ms", wait.Milliseconds())
		if !lifecycle.Pause(ctx, wait/2+rand.N(wait)) {
			return nil
		}
		wait = min(2*wait, reconnectMax)
	}
}

func (b Broker) session(ctx context.Context, name string, session func(context.Context, *connection) error) error {
	conn, err := b.connect(name)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := b.Topology.check(conn.Connection, b.Service); err != nil {
		return err
	}
	return session(ctx, conn)
}

// connection is one to the broker, and what is written to it.
type connection struct {
	*amqp.Connection
	wire *gatherConn
}

func (b Broker) connect(name string) (*connection, error) {
	address, err := parse(b.URL)
	if err != nil {
		return nil, err
	}
	c := &connection{}
	c.Connection, err = amqp.DialConfig(b.URL, amqp.Config{
		Heartbeat:  heartbeat,
		FrameSize:  frameSize,
		Locale:     "en_US",
		Dial:       c.dial,
		Properties: amqp.Table{"connection_name": name, "product": "cartwright", "capabilities": amqp.Table{"consumer_cancel_notify": true, "connection.blocked": true, "publisher_confirms": true, "basic.nack": true}},
	})
	switch {
	case errors.Is(err, amqp.ErrCredentials): // RabbitMQ says no more than that it hangs up
		return nil, fmt.Errorf("connect: user %s is not let in, wrong user or password: %w", address.Username, err)
	case err != nil:
		return nil, fmt.Errorf("connect: user %s: %w", address.Username, err)
	}
	return c, nil
}

var errAddress = errors.New("the broker's address must be amqp://user:password@host:port/vhost")

// parse reads the broker's address. The library's own error would repeat it, password and all.
func parse(address string) (amqp.URI, error) {
	u, err := amqp.ParseURI(address)
	if err != nil {
		return u, errAddress
	}
	return u, nil
}

// dial connects as the client library would, and gathers what is written.
func (c *connection) dial(network, addr string) (net.Conn, error) {
	conn, err := amqp.DefaultDial(dialTimeout)(network, addr)
	if err != nil {
		return nil, err
	}
	c.wire = newGatherConn(conn)
	return c.wire, nil
}

// ended makes an error of what a connection or channel said when it closed.
func ended(reason *amqp.Error) error {
	if reason == nil {
		return errEnded
	}
	return fmt.Errorf("%w: %w", errEnded, reason)
}
