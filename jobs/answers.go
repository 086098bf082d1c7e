package jobs

import (
	"context"
	"encoding/hex"
	"fmt"

	"google.golang.org/protobuf/proto"

	"cartwright/internal/fault"
	"cartwright/internal/groupcommit"
	"cartwright/internal/messaging"
	"cartwright/proto/jobspb"
)

// Answers sends the answers to jobs back to the gateways that wait for them. Those that are ready
// at the same time for the same gateway share a message.
type Answers struct {
	publisher *messaging.Publisher
	group     *groupcommit.Group[addressed, struct{}]
}

type addressed struct {
	to     string
	answer *jobspb.Answer
}

// NewAnswers makes a sender over a publisher.
func NewAnswers(p *messaging.Publisher) *Answers {
	a := &Answers{publisher: p}
	a.group = groupcommit.New(a.flush, groupcommit.Options[addressed]{})
	return a
}

// Done answers a job that ended well.
func (a *Answers) Done(ctx context.Context, m messaging.Message, replayed bool) error {
	return a.send(ctx, m, &jobspb.Answer{Outcome: jobspb.Outcome_OUTCOME_DONE, Replayed: replayed})
}

// Failed answers a job that was refused; why becomes part of the answer.
func (a *Answers) Failed(ctx context.Context, m messaging.Message, why error, replayed bool) error {
	return a.send(ctx, m, &jobspb.Answer{Outcome: jobspb.Outcome_OUTCOME_FAILED, Fault: fault.ToProto(why), Replayed: replayed})
}

// Pending tells whoever waits that the job is safe, but will take longer than they should wait.
func (a *Answers) Pending(ctx context.Context, m messaging.Message) error {
	return a.send(ctx, m, &jobspb.Answer{Outcome: jobspb.Outcome_OUTCOME_PENDING})
}

// send is best effort by nature: the gateway may be gone. Its error is for the log only, and must
// never decide what becomes of the job.
func (a *Answers) send(ctx context.Context, m messaging.Message, answer *jobspb.Answer) error {
	if m.ReplyTo == "" {
		return nil
	}
	correlation, err := hex.DecodeString(m.Correlation)
	if err != nil {
		return fmt.Errorf("correlation ID: %w", err)
	}
	answer.JobId, answer.CorrelationId = m.ID, correlation
	_, err = a.group.Do(ctx, addressed{m.ReplyTo, answer})
	return err
}

func (a *Answers) flush(ctx context.Context, batch []addressed) ([]groupcommit.Result[struct{}], error) {
	byGateway := map[string]*jobspb.Answers{}
	for _, item := range batch {
		if byGateway[item.to] == nil {
			byGateway[item.to] = &jobspb.Answers{}
		}
		byGateway[item.to].Answers = append(byGateway[item.to].Answers, item.answer)
	}
	sent := map[string]error{}
	for to, answers := range byGateway {
		body, err := proto.Marshal(answers)
		if err == nil {
			err = a.publisher.Reply(ctx, to, body)
		}
		sent[to] = err
	}
	results := make([]groupcommit.Result[struct{}], len(batch))
	for i, item := range batch {
		results[i].Err = sent[item.to]
	}
	return results, nil
}
