package messaging_test

import (
	"sync/atomic"
	"testing"

	"cartwright/internal/fault"
	"cartwright/internal/messaging"
)

// K5, K7, E13: answers come to whoever asked, and those to a former life reach nobody.
func TestAReplyQueueHasANewNameAfterACut(t *testing.T) {
	t.Parallel()
	y := open(t)
	proxy, b := y.through()
	heard := make(chan string, 10)
	var lost atomic.Int32
	r := &messaging.Replies{Broker: b, Name: "test", Hear: func(body []byte) { heard <- string(body) }, Lost: func() { lost.Add(1) }}
	if _, err := r.Address(); !fault.Is(err, fault.Unavailable) {
		t.Errorf("an address without a connection: %v", err)
	}
	y.background(r.Run)
	y.eventually("answers can be heard", func() bool { return r.Ready() == nil })
	old, _ := r.Address()
	y.reply(old, "first")
	if got := <-heard; got != "first" {
		t.Errorf("heard %q", got)
	}

	proxy.Cut()
	y.eventually("the loss is known", func() bool { return lost.Load() == 1 && r.Ready() != nil })
	// The broker may be taking the queue away at this moment, and then says so.
	if err := y.publisher.Reply(t.Context(), old, []byte("while away")); err != nil && !fault.Is(err, fault.Unavailable) {
		t.Error(err)
	}
	proxy.Heal()
	y.eventually("answers can be heard again", func() bool { return r.Ready() == nil })
	renewed, _ := r.Address()
	if renewed == old {
		t.Errorf("still %s", old)
	}
	y.reply(old, "to a former life")
	y.reply(renewed, "second")
	if got := <-heard; got != "second" {
		t.Errorf("heard %q", got)
	}
}

func TestTwoProcessesHearTheirOwnAnswers(t *testing.T) {
	t.Parallel()
	y := open(t)
	var heard [2]chan string
	var replies [2]*messaging.Replies
	for i := range replies {
		heard[i] = make(chan string, 10)
		replies[i] = &messaging.Replies{Broker: y.broker, Name: "test", Hear: func(body []byte) { heard[i] <- string(body) }, Lost: func() {}}
		y.background(replies[i].Run)
		y.eventually("answers can be heard", func() bool { return replies[i].Ready() == nil })
	}
	for i, word := range []string{"for the first", "for the second"} {
		address, err := replies[i].Address()
		if err != nil {
			t.Fatal(err)
		}
		y.reply(address, word)
		if got := <-heard[i]; got != word {
			t.Errorf("heard %q", got)
		}
	}
	if len(heard[0])+len(heard[1]) != 0 {
		t.Error("an answer went to both")
	}
}

// reply sends an answer; that nobody is there any more is no error.
func (y *yard) reply(address, body string) {
	y.t.Helper()
	if err := y.publisher.Reply(y.t.Context(), address, []byte(body)); err != nil {
		y.t.Fatal(err)
	}
}
