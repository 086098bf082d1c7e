package checkoutmanager

import (
	"context"
	"log/slog"

	"golang.org/x/sync/singleflight"

	"cartwright/internal/fault"
	"cartwright/internal/messaging"
	"cartwright/jobs"
	"cartwright/proto/jobspb"
)

// What a worker needs besides the saga.
type (
	// opener keeps the rows that a worker begins with and lets go of; *orders is one.
	opener interface {
		open(ctx context.Context, orderID string, r request) (c *checkout, fresh bool, err error)
		park(ctx context.Context, c *checkout, why error) error
	}
	// answerer tells whoever waits for a job; *jobs.Answers is one. Its errors are for the log.
	answerer interface {
		Done(ctx context.Context, m messaging.Message, replayed bool) error
		Failed(ctx context.Context, m messaging.Message, why error, replayed bool) error
		Pending(ctx context.Context, m messaging.Message) error
	}
)

// worker does checkout jobs.
type worker struct {
	saga    *saga
	orders  opener
	answers answerer
	log     *slog.Logger
	// inHand lets several jobs for one checkout (the same key, asked at the same time) share one
	// walk. It only saves work: two walks of one checkout, here or elsewhere, are safe.
	inHand singleflight.Group
}

// result is what a walk leaves for those who share it.
type result struct {
	checkout *checkout
	fresh    bool
}

// handle does one job: open the checkout or find it, walk it to its end, and answer.
func (w *worker) handle(ctx context.Context, m messaging.Message) error {
	request, err := read(m.Kind, m.Body)
	if err != nil {
		w.note(ctx, m, w.answers.Failed(ctx, m, err, false))
		return err
	}
	leads := false
	shared, err, _ := w.inHand.Do(m.ID+string(request.fingerprint[:]), func() (any, error) {
		leads = true
		return w.checkOut(ctx, m.ID, request)
	})
	switch {
	case fault.Is(err, fault.Mismatch):
		w.note(ctx, m, w.answers.Failed(ctx, m, err, false))
		return nil
	case isForRescue(err):
		return w.leave(ctx, m, shared.(result).checkout, err)
	case err != nil:
		return err
	}
	r := shared.(result)
	w.answer(ctx, m, r.checkout, !leads || !r.fresh)
	return nil
}

func (w *worker) answer(ctx context.Context, m messaging.Message, c *checkout, replayed bool) {
	if c.state == placed {
		w.note(ctx, m, w.answers.Done(ctx, m, replayed))
		return
	}
	w.note(ctx, m, w.answers.Failed(ctx, m, c.reason, replayed))
}

func (w *worker) checkOut(ctx context.Context, orderID string, r request) (result, error) {
	c, fresh, err := w.orders.open(ctx, orderID, r)
	if err != nil {
		return result{}, err
	}
	err = w.saga.walk(ctx, c)
	w.log.DebugContext(ctx, "walked", "order_id", orderID, "checkout_id", c.id, "state", c.state, "error", err)
	return result{c, fresh}, err
}

// read makes a request of a job, checked as if it came from a stranger. Its error is fault.Invalid.
func read(kind string, body []byte) (request, error) {
	job, err := jobs.Decode(kind, body)
	if err != nil {
		return request{}, err
	}
	start, ok := job.(*jobspb.StartCheckout)
	if !ok {
		return request{}, fault.InvalidField("type", "%q does not belong on this queue", kind)
	}
	fingerprint, err := jobs.Fingerprint(job)
	if err != nil {
		return request{}, fault.InvalidField("body", "cannot be read")
	}
	return request{start.GetClientId(), start.GetPaymentMethod(), start.GetEmail(), fingerprint}, nil
}

// isForRescue tells silence that a worker should not wait out: its row says that it is unfinished,
// and rescue walks it on.
func isForRescue(err error) bool {
	if err == nil {
		return false
	}
	code := fault.As(err).Code
	return code == errPending.Code || code == undoRefused
}

// leave lets go of a job whose checkout goes on without it.
func (w *worker) leave(ctx context.Context, m messaging.Message, c *checkout, why error) error {
	if err := w.orders.park(ctx, c, why); err != nil {
		return err
	}
	w.note(ctx, m, w.answers.Pending(ctx, m))
	return nil
}

// delayed tells whoever waits that something is away, and that the job will be done all the same.
func (w *worker) delayed(ctx context.Context, m messaging.Message, _ error) {
	w.note(ctx, m, w.answers.Pending(ctx, m))
}

// note logs an answer that could not be sent; the asker's next question finds the order.
func (w *worker) note(ctx context.Context, m messaging.Message, err error) {
	if err != nil {
		w.log.DebugContext(ctx, "answer not sent", "order_id", m.ID, "error", err)
	}
}
