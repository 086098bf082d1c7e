package cartmanager

import (
	"time"

	"cartwright/internal/fault"
	"cartwright/internal/mutation"
	"cartwright/internal/outbox"
	"cartwright/jobs"
	"cartwright/proto/jobspb"
)

// books is what one transaction has read under its locks, and what its changes make of it.
type books struct {
	now     time.Time
	carts   map[string]*cart    // by client; of every client that a change names
	freezes map[string]*freeze  // by checkout; of every checkout that a change names
	done    map[string]*doneJob // by job; absent for a job that was not done yet
	events  []outbox.Event
}

// doneJob is a job's answer, for those who ask again.
type doneJob struct {
	fingerprint [32]byte
	err         error // why it was refused; nil for a success
	fresh       bool  // done in this transaction
}

// change is one change of a cart. It is decided in memory, in the order of arrival, after
// everything it touches was read.
type change interface {
	touches() subject
	// decide makes the change, or refuses and leaves the books as they were.
	decide(b *books) (outcome, error)
}

// subject says what to read for a change. client is always given.
type subject struct {
	client, checkout, job string
	isNew                 bool // most likely nobody has heard of the checkout or the job yet
}

// outcome is what a change has to tell besides its error.
type outcome struct {
	lines    []frozenLine // of a freeze
	replayed bool         // of a job: it was done before, and this is its answer again
}

// jobChange is a job of a shopper. Its answer is kept with its effect.
type jobChange struct {
	id          string
	fingerprint [32]byte
	job         jobs.Job
	offer       offer // of the product, for jobs that put something in
}

func (j *jobChange) touches() subject {
	return subject{client: j.job.GetClientId(), job: j.id, isNew: true}
}

func (j *jobChange) decide(b *books) (outcome, error) {
	if mutation.On(mutation.NoDedup) {
		return outcome{}, j.apply(b.carts[j.job.GetClientId()])
	}
	if before := b.done[j.id]; before != nil {
		if before.fingerprint != j.fingerprint {
			return outcome{}, fault.New(fault.Mismatch, "idempotency_mismatch", "this Idempotency-Key was used for another request")
		}
		return outcome{replayed: true}, before.err
	}
	err := j.offer.refused
	if err == nil {
		err = j.apply(b.carts[j.job.GetClientId()])
	}
	b.done[j.id] = &doneJob{fingerprint: j.fingerprint, err: err, fresh: true}
	return outcome{}, err
}

func (j *jobChange) apply(c *cart) error {
	switch job := j.job.(type) {
	case *jobspb.AddToCart:
		return c.add(job.GetProductId(), job.GetQuantity(), j.offer.left)
	case *jobspb.SetCartLine:
		if job.GetQuantity() > 0 {
			return c.set(job.GetProductId(), job.GetQuantity(), j.offer.left)
		}
		c.remove(job.GetProductId())
	case *jobspb.RemoveCartLine:
		c.remove(job.GetProductId())
	case *jobspb.ClearCart:
		c.clear()
	}
	return nil
}

// hold names a checkout's hold on a client's cart.
type hold struct {
	checkout, client string
	order            string // of a thaw, which tells of it
}

func (h hold) touches() subject { return subject{client: h.client, checkout: h.checkout} }

// own finds the hold in the books. A checkout belongs to one client for good.
func (h hold) own(b *books) (*freeze, error) {
	f := b.freezes[h.checkout]
	if f.state != unheardOf && f.client != h.client {
		return nil, fault.New(fault.Mismatch, "checkout_mismatch", "checkout %s belongs to another client", h.checkout)
	}
	f.client = h.client
	return f, nil
}

// freezeChange takes the lines for a checkout, at the prices in offers.
type freezeChange struct {
	hold
	offers map[string]*product
	lines  int // in the cart when it was looked into
}

func (f *freezeChange) touches() subject {
	s := f.hold.touches()
	s.isNew = true
	return s
}

func (f *freezeChange) decide(b *books) (outcome, error) {
	own, err := f.own(b)
	if err == nil {
		err = own.take(b.carts[f.client], f.offers)
	}
	if err != nil {
		return outcome{}, err
	}
	return outcome{lines: own.lines}, nil
}

// thawChange gives the lines back to the cart.
type thawChange struct{ hold }

func (t *thawChange) decide(b *books) (outcome, error) {
	own, err := t.own(b)
	if err != nil {
		return outcome{}, err
	}
	putBack, err := own.thaw(b.carts[t.client])
	if putBack {
		b.events = append(b.events, cartThawed(t.hold))
	}
	return outcome{}, err
}

// cartThawed tells that a checkout failed and its lines are in the cart again.
func cartThawed(h hold) outbox.Event {
	return outbox.Event{Type: "cart.thawed", Subject: h.client, Data: struct {
		ClientID   string `json:"clientId"`
		OrderID    string `json:"orderId"`
		CheckoutID string `json:"checkoutId"`
	}{h.client, h.order, h.checkout}}
}
