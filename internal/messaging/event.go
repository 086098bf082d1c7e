package messaging

import (
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Event tells the world outside what happened. It leaves as a CloudEvents 1.0 message in
// structured mode; its type is the routing key.
type Event struct {
	ID   string
	Type string // such as "order.created"
	Body []byte // the CloudEvents document, JSON
	Time time.Time
}

func (e Event) publishing() amqp.Publishing {
	return amqp.Publishing{
		ContentType:  "application/cloudevents+json",
		DeliveryMode: amqp.Persistent,
		MessageId:    e.ID,
		Type:         e.Type,
		Timestamp:    e.Time,
		Headers:      amqp.Table{"event_type": e.Type},
		Body:         e.Body,
	}
}
