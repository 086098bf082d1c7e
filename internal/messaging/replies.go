package messaging

import (
	"context"
	"sync/atomic"

	"cartwright/internal/fault"
)

// Replies is the queue on which one process hears answers: exclusive, gone with its connection,
// and under a new random name on each, so that an answer to a former life reaches nobody.
type Replies struct {
	Broker Broker
	Name   string
	// Hear gets the body of each message; it must not block.
	Hear func(body []byte)
	// Lost is told that the answers to everything asked so far will not come.
	Lost func()

	queue atomic.Pointer[string]
}

// Address is the reply queue's name for a job's ReplyTo; an error while there is no connection.
func (r *Replies) Address() (string, error) {
	q := r.queue.Load()
	if q == nil {
		return "", fault.Away("the broker", errEnded)
	}
	return *q, nil
}

// Ready is nil while answers can be heard.
func (r *Replies) Ready() error {
	_, err := r.Address()
	return err
}

// Run hears answers until ctx ends.
func (r *Replies) Run(ctx context.Context) error {
	return r.Broker.sessions(ctx, r.Name+".replies", r.serve)
}

func (r *Replies) serve(ctx context.Context, conn *connection) error {
	t, address := r.Broker.Topology, replyPrefix+randomName()
	q, err := openPrivate(conn, t.name(address), t.name(t.Replies), []string{t.name(address)}, r.Name)
	if err != nil {
		return err
	}
	r.queue.Store(&address)
	defer r.Lost()
	defer r.queue.Store(nil)
	return q.hear(ctx, r.Hear)
}

// NewCorrelation makes a correlation ID: 128 random bits, never used twice.
func NewCorrelation() string { return randomName() }
