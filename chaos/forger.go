package chaos

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"cartwright/internal/ids"
	"cartwright/internal/lifecycle"
	"cartwright/internal/messaging"
	"cartwright/jobs"
	"cartwright/proto/jobspb"
	"cartwright/stage"
)

const (
	// publishLimit is how long the messages of one fault are tried to be put on their queues, and
	// publishAgain how long that waits in between: the broker may be starting.
	publishLimit = 10 * time.Second
	publishAgain = 500 * time.Millisecond
	// confirmLimit bounds one try.
	confirmLimit = 2 * time.Second
)

// forger puts messages on the work queues past the gateways: what no worker can do anything with,
// and jobs that were delivered before.
type forger struct {
	history         *history
	known, stranger *messaging.Publisher // signs as the gateways do, and with a key of its own
	stop            func() error

	mu   sync.Mutex // guards rand, which many faults draw from
	rand *rand.Rand
}

func newForger(ctx context.Context, shop stage.Shop, seed uint64, h *history) (*forger, error) {
	keys, err := messaging.ParseKeys(shop.JobSecret)
	if err != nil {
		return nil, err
	}
	publisher := func(name string, keys messaging.Keys) *messaging.Publisher {
		b := messaging.Broker{URL: shop.AMQPURL, Topology: jobs.Topology(""), Keys: keys, Log: slog.New(slog.DiscardHandler)}
		return messaging.NewPublisher(b, name)
	}
	f := &forger{
		history: h, rand: rand.New(rand.NewPCG(seed, 1)),
		known: publisher("chaos", keys), stranger: publisher("chaos-stranger", messaging.Keys{"the key of somebody else"}),
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	ended := make(chan error, 2)
	for _, p := range []*messaging.Publisher{f.known, f.stranger} {
		running.Go(func() { ended <- p.Run(ctx) })
	}
	f.stop = func() error {
		cancel()
		running.Wait()
		return errors.Join(<-ended, <-ended)
	}
	return f, nil
}

// publish puts a message on its queue, and tells whether that was confirmed.
func (f *forger) publish(ctx context.Context, p *messaging.Publisher, m messaging.Message) error {
	for {
		try, done := context.WithTimeout(ctx, confirmLimit)
		err := p.PublishJob(try, m)
		done()
		if err == nil || !lifecycle.Pause(ctx, publishAgain) {
			return err
		}
	}
}

// poison puts messages on the queues that must end on the dead queues. The history has each of them:
// 200 is one that certainly is on its queue, 0 one that may be.
func (f *forger) poison(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, publishLimit)
	defer cancel()
	var errs []error
	for range n {
		p, m := f.poisoned()
		e := Entry{Op: opPoison, Asked: m.ID, Status: m.Kind, Began: f.history.now()}
		err := f.publish(ctx, p, m)
		if e.Ended = f.history.now(); err == nil {
			e.Code = 200
		} else {
			errs = append(errs, err)
		}
		f.history.add(e)
	}
	if len(errs) == n {
		return errors.Join(errAway, errs[0])
	}
	return nil
}

// poisoned draws a message that makes no sense.
func (f *forger) poisoned() (*messaging.Publisher, messaging.Message) {
	readable, err := jobs.Encode(&jobspb.StartCheckout{ClientId: "nobody"})
	if err != nil {
		panic(err) // the job is a constant
	}
	all := []struct {
		by *messaging.Publisher
		m  messaging.Message
	}{
		{f.stranger, messaging.Message{Kind: jobs.StartCheckout, Body: readable}},
		{f.known, messaging.Message{Kind: jobs.StartCheckout, Body: []byte("\xff\xff no protobuf")}},
		{f.known, messaging.Message{Kind: "checkout.nonsense", Body: readable}},
		{f.known, messaging.Message{Kind: "cart.nonsense", Body: readable}},
		{f.known, messaging.Message{Kind: jobs.AddToCart, Body: []byte("\xff\xff no protobuf")}},
		{f.stranger, messaging.Message{Kind: jobs.ClearCart, Body: readable}},
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	one := all[f.rand.IntN(len(all))]
	one.m.ID = ids.New()
	return one.by, one.m
}

// duplicate delivers jobs again that clients have asked for before, some a moment ago and some long
// since, in an order of its own.
func (f *forger) duplicate(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, publishLimit)
	defer cancel()
	asked := f.history.all()
	if len(asked) == 0 {
		return errAway
	}
	sent := 0
	for range n {
		f.mu.Lock()
		i := f.rand.IntN(len(asked))
		if f.rand.IntN(2) == 0 {
			i = len(asked) - 1 - f.rand.IntN(min(len(asked), n))
		}
		f.mu.Unlock()
		m, is, err := jobOf(asked[i])
		switch {
		case err != nil:
			return err
		case !is:
			continue
		}
		if err := f.publish(ctx, f.known, m); err != nil {
			return errors.Join(errAway, err)
		}
		sent++
	}
	if sent == 0 {
		return errAway
	}
	return nil
}

// jobOf is the job that a gateway made of a request; is is false where it may have made none.
func jobOf(e Entry) (m messaging.Message, is bool, err error) {
	var job jobs.Job
	switch {
	case e.Op == opAdd && e.accepted():
		job = &jobspb.AddToCart{ClientId: e.Client, ProductId: e.Product, Quantity: e.Quantity}
	case e.Op == opCheckout && e.accepted():
		job = &jobspb.StartCheckout{ClientId: e.Client, PaymentMethod: e.Method}
	default:
		return m, false, nil
	}
	m = messaging.Message{Kind: jobs.KindOf(job), ID: jobs.ID(jobs.KindOf(job), e.Client, e.Key)}
	m.Body, err = jobs.Encode(job)
	return m, true, err
}
