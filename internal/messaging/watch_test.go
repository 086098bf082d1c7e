package messaging_test

import (
	"sync/atomic"
	"testing"

	"cartwright/internal/messaging"
)

// Z4: every watch hears every event of its types, and is told when it may have missed some.
func TestWatchesHearTheirEvents(t *testing.T) {
	t.Parallel()
	y := open(t)
	proxy, b := y.through()
	var lost atomic.Int32
	var heard [2]chan string
	var watches [2]*messaging.Watch
	for i, broker := range []messaging.Broker{b, y.broker} {
		heard[i] = make(chan string, 10)
		watches[i] = &messaging.Watch{Broker: broker, Name: "test", Types: []string{"thing.changed"},
			Hear: func(body []byte) { heard[i] <- string(body) }, Lost: func() { lost.Add(1) }}
		if watches[i].Ready() == nil {
			t.Error("ready without a connection")
		}
		y.background(watches[i].Run)
		y.eventually("events can be heard", func() bool { return watches[i].Ready() == nil })
	}
	y.tell("thing.ignored", "nobody's")
	y.tell("thing.changed", "first")
	for i := range heard {
		if got := <-heard[i]; got != "first" {
			t.Errorf("%d heard %q", i, got)
		}
	}

	proxy.Cut()
	y.eventually("the loss is known", func() bool { return lost.Load() == 1 && watches[0].Ready() != nil })
	proxy.Heal()
	y.eventually("events can be heard again", func() bool { return watches[0].Ready() == nil })
	y.tell("thing.changed", "second")
	for i := range heard {
		if got := <-heard[i]; got != "second" {
			t.Errorf("%d heard %q", i, got)
		}
	}
}

func (y *yard) tell(kind, body string) {
	y.t.Helper()
	if err := y.publisher.PublishEvents(y.t.Context(), []messaging.Event{{ID: newID(), Type: kind, Body: []byte(body)}}); err != nil {
		y.t.Fatal(err)
	}
}
