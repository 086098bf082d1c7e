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

	sending sync.Mutex // a channel is written to by one at a time
	channel *amqp.Channel

	waiting sync.Map // by the request's ID, a channel for its answer
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
	g := &gateway{settings: s, channel: channel}
	failed := make(chan error, 2)
	go func() { failed <- g.deliver(heard) }()
	go func() { failed <- g.serve(ctx, ready) }()
	return <-failed
}

// deliver hands each answer to the request that waits for it.
func (g *gateway) deliver(heard <-chan amqp.Delivery) error {
	for m := range heard {
		if waits, found := g.waiting.LoadAndDelete(m.CorrelationId); found {
			waits.(chan []byte) <- m.Body
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
	g.waiting.Store(id, answer)
	g.sending.Lock()
	defer g.sending.Unlock()
	err := g.channel.PublishWithContext(ctx, "", g.settings.queue(), false, false, amqp.Publishing{
		DeliveryMode: amqp.Persistent, CorrelationId: id, ReplyTo: g.settings.answers(), Body: []byte(client),
	})
	return answer, err
}
