package messaging

import (
	"math/rand/v2"
	"sync"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

// ledger is a channel's side of the broker: what it has delivered, and what it was told.
type ledger struct {
	amqp.Acknowledger
	t        *testing.T
	mu       sync.Mutex
	acked    map[uint64]bool
	done     map[uint64]bool // which may be acknowledged
	calls    int
	entered  chan struct{} // told of each call, when it is set
	released chan struct{} // each call waits for it, when it is set
}

func (l *ledger) Ack(tag uint64, multiple bool) error {
	if l.entered != nil {
		l.entered <- struct{}{}
		<-l.released
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	if l.acked[tag] {
		l.t.Errorf("%d is acknowledged twice, for which the broker closes the channel", tag)
	}
	for other := range l.done {
		if other == tag || multiple && other < tag {
			l.acked[other] = true
		}
	}
	for other := uint64(1); multiple && other <= tag; other++ {
		if !l.done[other] {
			l.t.Errorf("with %d, %d is acknowledged, which is in hand", tag, other)
		}
	}
	return nil
}

func newLedger(t *testing.T) *ledger {
	return &ledger{t: t, acked: map[uint64]bool{}, done: map[uint64]bool{}}
}

func (l *ledger) finish(d amqp.Delivery) {
	l.mu.Lock()
	l.done[d.DeliveryTag] = true
	l.mu.Unlock()
	if err := d.Ack(false); err != nil {
		l.t.Error(err)
	}
}

// E7: what is done at the same time is acknowledged by one call, and what is still in hand is not.
func TestAcknowledgementsTravelTogether(t *testing.T) {
	l := newLedger(t)
	l.entered, l.released = make(chan struct{}), make(chan struct{})
	a := newAcks(l)
	var deliveries []amqp.Delivery
	for tag := range uint64(10) {
		deliveries = append(deliveries, a.took(amqp.Delivery{DeliveryTag: tag + 1}))
	}
	var hands sync.WaitGroup
	hands.Go(func() { l.finish(deliveries[0]) })
	<-l.entered // 1 is on its way
	hands.Go(func() { l.finish(deliveries[1]) })
	for waits := 0; waits == 0; { // for the turn
		a.mu.Lock()
		waits = len(a.waiting)
		a.mu.Unlock()
	}
	for _, i := range []int{4, 2, 5, 8, 3} { // 7 and 10 stay in hand
		l.finish(deliveries[i])
	}
	for range 2 { // the next are those up to 6, and 9 by itself
		l.released <- struct{}{}
		<-l.entered
	}
	l.released <- struct{}{}
	hands.Wait()
	if l.calls != 3 || len(l.acked) != 7 || l.acked[7] || l.acked[10] {
		t.Errorf("%d calls acknowledged %v", l.calls, l.acked)
	}
}

func TestEachDeliveryIsAcknowledgedOnce(t *testing.T) {
	l := newLedger(t)
	a := newAcks(l)
	var workers sync.WaitGroup
	for tag := range uint64(20_000) {
		d := a.took(amqp.Delivery{DeliveryTag: tag + 1})
		workers.Go(func() {
			if rand.N(100) > 0 { // one in a hundred is never done
				l.finish(d)
			}
		})
	}
	workers.Wait()
	if len(l.acked) != len(l.done) || len(a.waiting) != 0 || len(a.inHand) != 20_000-len(l.done) {
		t.Errorf("%d of %d are acknowledged, %d wait, %d are in hand", len(l.acked), len(l.done), len(a.waiting), len(a.inHand))
	}
}
