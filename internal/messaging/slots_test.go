package messaging_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"cartwright/internal/fault"
	"cartwright/internal/messaging"
)

// E4, E13: events that are published while the broker is silent give their places back, however
// often that fails: once it speaks again, there is room for everybody.
func TestEventsThatFailGiveTheirPlacesBack(t *testing.T) {
	t.Parallel()
	y := open(t)
	proxy, broker := y.through()
	p := y.publisherOf(broker)
	const batch, failures = 500, 6 // together more than may be in flight
	events := make([]messaging.Event, batch)
	for i := range events {
		events[i] = messaging.Event{ID: newID(), Type: "thing.happened", Body: []byte(fmt.Sprint(i)), Time: time.Now()}
	}
	proxy.Mute()
	for range failures {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		if err := p.PublishEvents(ctx, events); !fault.Is(err, fault.Unavailable) {
			t.Errorf("while the broker is silent: %v", err)
		}
		cancel()
	}
	proxy.Heal() // the same connection goes on: a new one would have places of its own
	y.eventually("events leave again", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		return p.PublishEvents(ctx, events) == nil
	})
}
