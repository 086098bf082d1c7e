package gateway

import (
	"context"
	"time"

	"cartwright/internal/fault"
	"cartwright/jobs"
	"cartwright/proto/cartpb"
	"cartwright/proto/jobspb"
	"cartwright/soldout"
)

// knownTime bounds the question whether a job is known; then it goes the long way.
const knownTime = 500 * time.Millisecond

// outOfStock is the code of a refusal for want of stock.
const outOfStock = "out_of_stock"

// refusesEarly returns what a worker would say to a job for what is sold out, and counts that it did.
func (g *gateway) refusesEarly(ctx context.Context, id string, keyed bool, job jobs.Job) (why error) {
	if start, is := job.(*jobspb.StartCheckout); is {
		why = g.rush.refusal(ctx, id, start)
	} else {
		why = g.refusesAdd(ctx, id, keyed, jobs.PutsIn(job))
	}
	if why != nil {
		g.metrics.early.WithLabelValues(jobs.KindOf(job)).Inc()
	}
	return why
}

// refusesAdd refuses to put in what is sold out. No job is made of it and nothing is kept, so the
// Idempotency-Key is free for another try. A key that may have been used already goes the long way,
// to the answer that it has.
func (g *gateway) refusesAdd(ctx context.Context, id string, keyed bool, product string) error {
	if product == "" || !g.soldOut.Has(product) || keyed && g.mayKnow(ctx, id) {
		return nil
	}
	return soldout.Refusal(product)
}

// mayKnow tells whether a job was accepted here, or is known to who does it, or may be known because
// they did not answer.
func (g *gateway) mayKnow(ctx context.Context, id string) bool {
	if _, accepted := g.accepted.find(id, time.Now()); accepted {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, knownTime)
	defer cancel()
	_, err := g.carts.GetJob(ctx, &cartpb.GetJobRequest{JobId: id})
	return !fault.Is(err, fault.NotFound)
}

// learn takes from a worker's refusal that a product has nothing left, whose event may have come before
// this process did, or never; and that checkouts are refused for it.
func (g *gateway) learn(job jobs.Job, o outcome) {
	if o.fault == nil {
		return
	}
	f := fault.As(o.fault)
	if f.Code != outOfStock {
		return
	}
	if f.Details["available"] == "0" {
		g.soldOut.Suspect(f.Details["product"])
	}
	if _, is := job.(*jobspb.StartCheckout); is {
		g.rush.note()
	}
}
