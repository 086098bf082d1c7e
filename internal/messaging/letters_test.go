package messaging_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"cartwright/internal/fault"
	"cartwright/internal/messaging"
)

// buried fills the dead-letter queue with jobs under these IDs, as a consumer does it.
func (y *yard) buried(all ...string) {
	y.t.Helper()
	stop := y.consume(y.broker, &messaging.Consumer{Prefetch: 1, Handle: func(context.Context, messaging.Message) error {
		return fault.New(fault.Invalid, "bad", "nobody can do this")
	}})
	for i, id := range all {
		y.publish(id)
		y.eventually("it is buried", func() bool { return y.waiting(work.Dead()) == i+1 })
	}
	stop()
}

// letters lists the IDs of the dead letters.
func (y *yard) letters() (all []string) {
	y.t.Helper()
	err := y.broker.Letters(y.t.Context(), work, func(_ context.Context, l *messaging.Letters) error {
		some, err := l.Next(100)
		for _, letter := range some {
			all = append(all, letter.ID)
			if letter.Kind != "work.do" || string(letter.Body) != "body of "+letter.ID || letter.Reason != "nobody can do this" || letter.Buried.IsZero() {
				y.t.Errorf("letter %+v", letter)
			}
		}
		return err
	})
	if err != nil {
		y.t.Fatal(err)
	}
	return all
}

// B4: letters can be looked at as often as anybody likes, in their order, and nothing is counted up that
// would make RabbitMQ drop them.
func TestLookingAtLettersLeavesThemAsTheyWere(t *testing.T) {
	t.Parallel()
	y := open(t)
	want := []string{"a", "b", "c"}
	y.buried(want...)
	for range 25 {
		if got := y.letters(); !slices.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	for _, id := range want {
		d := y.take(work.Dead())
		if returns, _ := d.Headers["x-delivery-count"].(int64); returns > 10 || d.MessageId != id {
			t.Errorf("%s was put back %d times", d.MessageId, returns)
		}
	}
}

// B4: three are buried, one is replayed: it is done under its own ID, with a signature that holds and all
// its tries, and the others stay.
func TestAReplayedLetterIsDone(t *testing.T) {
	t.Parallel()
	y := open(t)
	y.buried("a", "b", "c")
	y.replay(t.Context(), func(l messaging.Letter) bool { return l.ID == "b" }, 1)
	if got := y.letters(); !slices.Equal(got, []string{"a", "c"}) {
		t.Errorf("left: %q", got)
	}
	desk := newDesk()
	y.consume(y.broker, &messaging.Consumer{Handle: desk.handle})
	v := desk.next(t)
	if v.job.ID != "b" || v.job.Attempt != 0 || string(v.job.Body) != "body of b" {
		t.Errorf("got %+v", v.job)
	}
	v.answer <- nil
	y.eventually("all is done", func() bool { return y.waiting(work) == 0 && y.waiting(work.Dead()) == 2 })
}

// replay puts letters back that are meant, and wants so many to move.
func (y *yard) replay(ctx context.Context, meant func(messaging.Letter) bool, want int) {
	y.t.Helper()
	err := y.broker.Letters(ctx, work, func(ctx context.Context, l *messaging.Letters) error {
		some, err := l.Next(100)
		if err != nil {
			return err
		}
		some = slices.DeleteFunc(some, func(l messaging.Letter) bool { return !meant(l) })
		if done, err := l.Replay(ctx, some); err != nil || done != want {
			return fmt.Errorf("%d were replayed, want %d: %w", done, want, err)
		}
		return nil
	})
	if err != nil {
		y.t.Fatal(err)
	}
}

// What is not replayed or dropped in the end, whatever the reason, lies where it lay.
func TestWhatIsInHandAtAnErrorGoesBack(t *testing.T) {
	t.Parallel()
	y := open(t)
	want := []string{"a", "b", "c"}
	y.buried(want...)
	second := errors.New("second thoughts")
	err := y.broker.Letters(t.Context(), work, func(ctx context.Context, l *messaging.Letters) error {
		some, err := l.Next(2)
		if err != nil || len(some) != 2 || l.Lie != 3 {
			t.Errorf("%d of %d in hand, %v", len(some), l.Lie, err)
		}
		if done, err := l.Drop(ctx, some[:1]); done != 1 || err != nil {
			t.Errorf("%d dropped, %v", done, err)
		}
		return second
	})
	if !errors.Is(err, second) {
		t.Error(err)
	}
	got := y.letters() // one that was in hand is behind one that was not
	if slices.Sort(got); !slices.Equal(got, want[1:]) {
		t.Errorf("left: %q", got)
	}
}

// A letter that its work queue does not take stays where it is.
func TestALetterThatCannotMoveStays(t *testing.T) {
	t.Parallel()
	y := open(t)
	y.buried("a")
	ch := y.channel()
	name := y.broker.Topology.Namespace + string(work)
	if err := ch.QueueUnbind(name, name, y.broker.Topology.Namespace+"queues", nil); err != nil {
		t.Fatal(err)
	}
	err := y.broker.Letters(t.Context(), work, func(ctx context.Context, l *messaging.Letters) error {
		some, err := l.Next(1)
		if err != nil {
			return err
		}
		if done, err := l.Replay(ctx, some); done != 0 || !fault.Is(err, fault.Unavailable) {
			t.Errorf("%d moved, %v", done, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if got := y.letters(); !slices.Equal(got, []string{"a"}) {
		t.Errorf("left: %q", got)
	}
}

// The broker has a letter on its work queue, and everything ends before its word comes and the letter is
// taken off the dead ones: then it lies on both. That is what a crash in mid-replay looks like from here.
func TestACrashInMidReplayLeavesTheLetterOnBothQueues(t *testing.T) {
	t.Parallel()
	y := open(t)
	y.buried("a", "b")
	proxy, broker := y.through()
	err := broker.Letters(t.Context(), work, func(ctx context.Context, l *messaging.Letters) error {
		some, err := l.Next(2)
		if err != nil {
			return err
		}
		if done, err := l.Replay(ctx, some[:1]); done != 1 || err != nil {
			t.Errorf("%d moved, %v", done, err)
		}
		proxy.Mute()
		ended := make(chan error, 1)
		go func() {
			_, err := l.Replay(ctx, some[1:])
			ended <- err
		}()
		y.eventually("the second has moved", func() bool { return y.waiting(work) == 2 })
		proxy.Cut()
		return <-ended
	})
	if err == nil {
		t.Error("nobody noticed")
	}
	y.eventually("the broker has noticed", func() bool { return y.waiting(work.Dead()) == 1 })
	if got := y.letters(); !slices.Equal(got, []string{"b"}) {
		t.Errorf("left: %q", got)
	}
	if first, second := y.take(work), y.take(work); first.MessageId != "a" || second.MessageId != "b" {
		t.Errorf("replayed: %q, %q", first.MessageId, second.MessageId)
	}
}
