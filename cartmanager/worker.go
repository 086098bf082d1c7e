package cartmanager

import (
	"context"
	"log/slog"

	"cartwright/internal/fault"
	"cartwright/internal/messaging"
	"cartwright/jobs"
)

// worker does the jobs of the queue and answers those who wait for them.
type worker struct {
	carts   *Carts
	answers *jobs.Answers
	log     *slog.Logger
}

// handle does one job. A refusal is an answer, so the job is done; what can never be done is
// returned to be buried, and silence to be tried again.
func (w *worker) handle(ctx context.Context, m messaging.Message) error {
	job, err := w.decode(m)
	if err != nil {
		w.sent(ctx, m, w.answers.Failed(ctx, m, err, false))
		return err
	}
	replayed, err := w.carts.perform(ctx, m.ID, job)
	if err == nil {
		w.sent(ctx, m, w.answers.Done(ctx, m, replayed))
		return nil
	}
	switch fault.KindOf(err) {
	case fault.Refused, fault.NotFound, fault.Mismatch:
		w.sent(ctx, m, w.answers.Failed(ctx, m, err, replayed))
		return nil
	case fault.Invalid:
		w.sent(ctx, m, w.answers.Failed(ctx, m, err, replayed))
	case fault.Internal:
		w.sent(ctx, m, w.answers.Pending(ctx, m)) // the next try is seconds away
	}
	return err
}

// decode reads a job, which must be one about carts: the queue itself takes anything.
func (w *worker) decode(m messaging.Message) (jobs.Job, error) {
	if m.Kind == jobs.StartCheckout {
		return nil, fault.InvalidField("type", "%q is no job of this queue", m.Kind)
	}
	return jobs.Decode(m.Kind, m.Body)
}

// delayed tells whoever waits that the job is safe and will take longer.
func (w *worker) delayed(ctx context.Context, m messaging.Message, _ error) {
	w.sent(ctx, m, w.answers.Pending(ctx, m))
}

// sent notes an answer that did not leave. It decides nothing: it can be asked for again.
func (w *worker) sent(ctx context.Context, m messaging.Message, err error) {
	if err != nil {
		w.log.DebugContext(ctx, "answer not sent", "job_id", m.ID, "error", err)
	}
}
