package gateway

import (
	"context"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"cartwright/internal/failpoint"
	"cartwright/internal/fault"
	"cartwright/internal/ids"
	"cartwright/internal/messaging"
	"cartwright/jobs"
	"cartwright/proto/jobspb"
)

const (
	// publishTimeout is for the broker's confirm, so that a client hears within a second that it
	// is away.
	publishTimeout = 900 * time.Millisecond
	// keyMax is the longest Idempotency-Key, in characters.
	keyMax = 255

	keyHeader      = "Idempotency-Key"
	replayedHeader = "Idempotent-Replayed"
	preferHeader   = "Prefer"
	appliedHeader  = "Preference-Applied"
	respondAsync   = "respond-async"
)

// What an answer's status says.
const (
	success  = "Success"
	failed   = "Failed"
	accepted = "Accepted"
)

// outcome is what is known of a job when the time to answer has come.
type outcome struct {
	jobID    string
	accepted bool // safe, but not finished
	replayed bool
	fault    error // of a finished job: nil when it went well
}

// submit puts a job on the broker and waits for its answer. Its error means that the job may or
// may not have been accepted, and is safe to submit again under the same Idempotency-Key.
func (g *gateway) submit(c *fiber.Ctx, job jobs.Job) (outcome, error) {
	began := time.Now()
	if err := jobs.Check(job); err != nil {
		return outcome{}, err
	}
	id, keyed, err := jobID(c, job)
	if err != nil {
		return outcome{}, err
	}
	kind := jobs.KindOf(job)
	if err := g.health.refuses(queueOf(kind)); err != nil {
		return outcome{}, &jobError{id, err}
	}
	if err := g.refusesEarly(c.UserContext(), id, keyed, job); err != nil {
		return outcome{}, err
	}
	body, err := jobs.Encode(job)
	if err != nil {
		return outcome{}, err
	}
	m := messaging.Message{ID: id, Kind: kind, Body: body, Trace: traceOf(c).parent}
	known := acceptedJob{Kind: kind, ClientID: job.GetClientId(), At: began}
	if wantsAsync(c) {
		c.Set(appliedHeader, respondAsync)
		return g.leave(c.UserContext(), m, known)
	}
	o, err := g.await(c.UserContext(), m, known)
	g.learn(job, o)
	return o, err
}

// leave puts a job on the broker and waits for nothing.
func (g *gateway) leave(ctx context.Context, m messaging.Message, known acceptedJob) (outcome, error) {
	if err := g.publish(ctx, m, known); err != nil {
		return outcome{}, &jobError{m.ID, err}
	}
	return outcome{jobID: m.ID, accepted: true}, nil
}

// await puts a job on the broker and waits for its answer, up to the limit.
func (g *gateway) await(ctx context.Context, m messaging.Message, known acceptedJob) (outcome, error) {
	limit := time.NewTimer(g.answerTimeout)
	defer limit.Stop()
	correlation, answer, err := g.room.enter(m.ID)
	if err != nil {
		return outcome{}, &jobError{m.ID, err}
	}
	defer g.room.leave(correlation)
	// The address is read after entering: when the queue behind it is lost, this wait is ended too.
	if m.ReplyTo, err = g.replies.Address(); err != nil {
		return outcome{}, &jobError{m.ID, err}
	}
	m.Correlation = correlation
	if err := g.publish(ctx, m, known); err != nil {
		select {
		case a := <-answer:
			if a != notYet { // the confirm was lost or late, but a worker has had the job
				return read(m.ID, a), nil
			}
		default:
		}
		return outcome{}, &jobError{m.ID, err}
	}
	select {
	case a := <-answer:
		return read(m.ID, a), nil
	case <-limit.C:
		return outcome{jobID: m.ID, accepted: true}, nil
	}
}

// publish waits for the broker's confirm, for a bounded time, and remembers the job.
func (g *gateway) publish(ctx context.Context, m messaging.Message, known acceptedJob) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	if err := failpoint.Hit(failpoint.JobMade); err != nil {
		return err
	}
	if err := g.publisher.PublishJob(ctx, m); err != nil {
		return err
	}
	g.accepted.add(m.ID, known)
	return failpoint.Hit(failpoint.JobConfirmed)
}

// read turns a worker's answer into an outcome. An outcome of a kind that this gateway does not
// know says at least that the job is in good hands.
func read(jobID string, a *jobspb.Answer) outcome {
	o := outcome{jobID: jobID, replayed: a.GetReplayed()}
	switch a.GetOutcome() {
	case jobspb.Outcome_OUTCOME_DONE:
	case jobspb.Outcome_OUTCOME_FAILED:
		if o.fault = fault.FromProto(a.GetFault()); o.fault == nil {
			o.fault = fault.New(fault.Internal, "internal", "internal error")
		}
	default:
		o.accepted = true
	}
	return o
}

// jobID is the job's ID by the request's Idempotency-Key, or a new one without.
func jobID(c *fiber.Ctx, job jobs.Job) (id string, keyed bool, err error) {
	key, keyed, err := idempotencyKey(c)
	if err != nil || !keyed {
		return ids.New(), false, err
	}
	return jobs.ID(jobs.KindOf(job), job.GetClientId(), key), true, nil
}

// idempotencyKey reads the header: 1 to 255 printable ASCII characters.
func idempotencyKey(c *fiber.Ctx) (key string, given bool, err error) {
	values := c.Request().Header.PeekAll(keyHeader)
	if len(values) == 0 {
		return "", false, nil
	}
	key = string(values[0])
	if len(values) > 1 || len(key) == 0 || len(key) > keyMax || strings.ContainsFunc(key, notPrintable) {
		return "", true, fault.InvalidField(keyHeader, "must be one header of 1 to %d printable ASCII characters", keyMax)
	}
	return key, true, nil
}

func notPrintable(r rune) bool { return r < ' ' || r > '~' }

// wantsAsync tells whether the client prefers not to wait (RFC 7240, section 4.1).
func wantsAsync(c *fiber.Ctx) bool {
	for _, header := range c.Request().Header.PeekAll(preferHeader) {
		for preference := range strings.SplitSeq(string(header), ",") {
			token, _, _ := strings.Cut(preference, ";")
			if strings.EqualFold(strings.TrimSpace(token), respondAsync) {
				return true
			}
		}
	}
	return false
}

// queueOf is the queue that takes a kind of job.
func queueOf(kind string) messaging.Queue {
	if kind == jobs.StartCheckout {
		return jobs.Checkoutmanager
	}
	return jobs.Cartmanager
}
