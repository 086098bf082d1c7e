package floor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/gofiber/fiber/v2"
	amqp "github.com/rabbitmq/amqp091-go"

	"cartwright/internal/fault"
	"cartwright/internal/ids"
)

// gateway makes a message of each request, and an answer of each answer.
type gateway struct {
	settings Settings
	channel  *amqp.Channel // for publishing

	mu      sync.Mutex             // guards both: a channel is written to by one at a time
	waiting map[string]chan []byte // by the request's ID
}

func runGateway(ctx context.Context, s Settings, ready func(address string)) error {
	hearing, answers, err := s.dial()
	if err != nil {
		return err
	}
	defer hearing.Close()
	sending, channel, err := s.dial()
	if err != nil {
		return err
	}
	defer sending.Close()
	if _, err := answers.QueueDeclare(s.answers(), false, true, true, false, nil); err != nil {
		return fmt.Errorf("queue %s: %w", s.answers(), err)
	}
	heard, err := answers.Consume(s.answers(), "", true, true, false, false, nil)
	if err != nil {
		return fmt.Errorf("queue %s: %w", s.answers(), err)
	}
	g := &gateway{settings: s, channel: channel, waiting: map[string]chan []byte{}}
	failed := make(chan error, 2)
	go func() { failed <- g.deliver(heard) }()
	go func() { failed <- g.serve(ctx, ready) }()
	return <-failed
}

// deliver hands each answer to the request that waits for it.
func (g *gateway) deliver(heard <-chan amqp.Delivery) error {
	for m := range heard {
		g.mu.Lock()
		waits, found := g.waiting[m.CorrelationId]
		delete(g.waiting, m.CorrelationId)
		g.mu.Unlock()
		if found {
			waits <- m.Body
		}
	}
	return fault.Away("the broker", errors.New("the connection on which answers come has ended"))
}

func (g *gateway) serve(ctx context.Context, ready func(address string)) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("HTTP port: %w", err)
	}
	// Messages keep strings of a request after it has ended.
	app := fiber.New(fiber.Config{Immutable: true, DisableStartupMessage: true})
	app.Post(checkOutPath, g.checkOut)
	ready(listener.Addr().String())
	return app.Listener(listener)
}

func (g *gateway) checkOut(c *fiber.Ctx) error {
	var body struct {
		ClientID string `json:"clientID"`
	}
	if err := json.Unmarshal(c.Body(), &body); err != nil {
		return c.Status(fiber.StatusBadRequest).SendString(err.Error())
	}
	answer, err := g.send(c.UserContext(), ids.New(), body.ClientID)
	if err != nil {
		return c.Status(fiber.StatusServiceUnavailable).SendString(err.Error())
	}
	return c.Send(<-answer)
}

// send publishes a checkout and returns where its answer arrives. Nothing is confirmed: the answer
// comes after the message has been on disk.
func (g *gateway) send(ctx context.Context, id, client string) (<-chan []byte, error) {
	answer := make(chan []byte, 1)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting[id] = answer
	err := g.channel.PublishWithContext(ctx, "", g.settings.queue(), false, false, amqp.Publishing{
		DeliveryMode: amqp.Persistent, CorrelationId: id, ReplyTo: g.settings.answers(), Body: []byte(client),
	})
	return answer, err
}
