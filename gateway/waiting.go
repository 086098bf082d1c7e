package gateway

import (
	"encoding/hex"
	"sync"

	"google.golang.org/protobuf/proto"

	"cartwright/internal/failpoint"
	"cartwright/internal/fault"
	"cartwright/internal/messaging"
	"cartwright/internal/mutation"
	"cartwright/proto/jobspb"
)

// waitsMax bounds the requests that wait for an answer at a time: each holds a connection and a
// goroutine, and more of them would only wait longer.
const waitsMax = 10_000

// notYet is the answer of a job that is safe, but not finished as far as anybody can tell.
var notYet = &jobspb.Answer{Outcome: jobspb.Outcome_OUTCOME_PENDING}

// waitingRoom is where requests wait for the answers to their jobs, each under a correlation ID
// of its own that is never used again.
type waitingRoom struct {
	places  int
	metrics *metrics

	mu    sync.Mutex
	waits map[string]wait // by correlation ID
}

// wait is one request's. Its channel has room for the one answer, so whoever brings it never
// blocks, also when the request has just given up.
type wait struct {
	jobID  string
	answer chan *jobspb.Answer
}

func newWaitingRoom(places int, m *metrics) *waitingRoom {
	return &waitingRoom{places: places, metrics: m, waits: map[string]wait{}}
}

// enter begins a wait. It is refused with fault.Unavailable when all places are taken. Whoever
// enters must leave.
func (r *waitingRoom) enter(jobID string) (correlation string, answer <-chan *jobspb.Answer, err error) {
	w := wait{jobID, make(chan *jobspb.Answer, 1)}
	correlation = messaging.NewCorrelation()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waits) >= r.places {
		return "", nil, fault.New(fault.Unavailable, "busy", "too many requests are waiting for an answer")
	}
	r.waits[correlation] = w
	r.metrics.waiting.Set(float64(len(r.waits)))
	return correlation, w.answer, nil
}

// leave ends a wait, answered or not.
func (r *waitingRoom) leave(correlation string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waits, correlation)
	r.metrics.waiting.Set(float64(len(r.waits)))
}

// hear hands out the answers of one message from the reply queue. What nobody waits for is
// dropped and counted: it is late, or it is not meant for this process.
func (r *waitingRoom) hear(body []byte) {
	answers := &jobspb.Answers{}
	if failpoint.Hit(failpoint.AnswerHeard) != nil {
		return
	}
	if err := proto.Unmarshal(body, answers); err != nil {
		r.metrics.dropped.WithLabelValues("undecodable").Inc()
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range answers.GetAnswers() {
		if reason := r.deliver(a); reason != "" {
			r.metrics.dropped.WithLabelValues(reason).Inc()
		}
	}
}

// deliver gives an answer to whoever waits for it, or returns why it is dropped.
func (r *waitingRoom) deliver(a *jobspb.Answer) (dropped string) {
	correlation := hex.EncodeToString(a.GetCorrelationId())
	w, waits := r.waits[correlation]
	switch {
	case !waits:
		return "nobody waits"
	case w.jobID != a.GetJobId() && !mutation.On(mutation.AnyAnswer):
		return "other job"
	}
	delete(r.waits, correlation) // a second answer finds nobody
	w.answer <- a
	return ""
}

// endAll ends every wait at once: its answer will not come, or nobody may wait any longer. The
// jobs are safe where they are.
func (r *waitingRoom) endAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for correlation, w := range r.waits {
		delete(r.waits, correlation)
		w.answer <- notYet
	}
}
