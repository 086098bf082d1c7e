package messaging

import (
	"math"
	"runtime"
	"slices"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"

	"cartwright/internal/failpoint"
)

// acks sends acknowledgements together. A quorum queue writes a record to its log for each that it
// gets, be it of one job or of all jobs up to one; and those that start together end together.
//
// Ack returns once somebody is on the way to send it. One that gets lost with its connection is
// that of a job which is delivered again, as with any acknowledgement.
type acks struct {
	amqp.Acknowledger // of the channel
	turn              sync.Mutex
	mu                sync.Mutex
	inHand            map[uint64]bool // delivery tags that must not be acknowledged by the way
	waiting           []uint64        // to be acknowledged; whoever puts the first here comes for all
}

func newAcks(channel amqp.Acknowledger) *acks {
	return &acks{Acknowledger: channel, inHand: map[uint64]bool{}}
}

// took notes a delivery before anybody can be done with it or with a later one.
func (a *acks) took(d amqp.Delivery) amqp.Delivery {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.inHand[d.DeliveryTag] = true
	d.Acknowledger = a
	return d
}

// Ack acknowledges this one delivery, be it together with others.
func (a *acks) Ack(tag uint64, _ bool) error {
	a.mu.Lock()
	delete(a.inHand, tag)
	a.waiting = append(a.waiting, tag)
	first := len(a.waiting) == 1
	a.mu.Unlock()
	if !first {
		return nil
	}
	runtime.Gosched() // those who can run may be done as well
	return a.send()
}

// send has sent all that waited when it returns.
func (a *acks) send() error {
	a.turn.Lock()
	defer a.turn.Unlock()
	if err := failpoint.Cut(failpoint.JobDone, a.Acknowledger); err != nil {
		return err
	}
	together, single := a.next()
	if together > 0 {
		if err := a.Acknowledger.Ack(together, true); err != nil {
			return err
		}
	}
	for _, tag := range single {
		if err := a.Acknowledger.Ack(tag, false); err != nil {
			return err
		}
	}
	return nil
}

// next takes what waits: the last tag that has nothing in hand before it, 0 for none, and those after.
func (a *acks) next() (together uint64, single []uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	tags := a.waiting
	a.waiting = nil
	slices.Sort(tags)
	oldest := uint64(math.MaxUint64)
	for tag := range a.inHand {
		oldest = min(oldest, tag)
	}
	n, _ := slices.BinarySearch(tags, oldest)
	if n > 0 {
		together = tags[n-1]
	}
	return together, tags[n:]
}
