package jobs

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"cartwright/internal/fault"
	"cartwright/internal/released"
	"cartwright/proto/jobspb"
)

// Jobs that an earlier gateway has queued are read by today's workers, and its answers by today's gateway.
func TestReleasedJobsAndAnswersAreRead(t *testing.T) {
	t.Parallel()
	said := map[string]proto.Message{
		AddToCart:      &jobspb.AddToCart{ClientId: "ann", ProductId: "tea", Quantity: 2},
		SetCartLine:    &jobspb.SetCartLine{ClientId: "ann", ProductId: "tea", Quantity: 10_000},
		RemoveCartLine: &jobspb.RemoveCartLine{ClientId: "ann", ProductId: "tea"},
		ClearCart:      &jobspb.ClearCart{ClientId: "ann"},
		StartCheckout:  &jobspb.StartCheckout{ClientId: "ann", PaymentMethod: "tok_visa", Email: "ann@example.org"},
		"answers":      releasedAnswers(),
	}
	var files []string
	for name, m := range said {
		released.Message(t, name, m)
		files = append(files, name+".pb", name+".json")
		if name == "answers" {
			continue
		}
		job, err := Decode(name, released.File(t, name+".pb", nil))
		if err != nil || !proto.Equal(job, m) {
			t.Errorf("%s: %v, %v", name, job, err)
		}
	}
	for kind := range newBody {
		if said[kind] == nil {
			t.Errorf("no example of %s", kind)
		}
	}
	released.Whole(t, files...)
}

// releasedAnswers have one answer of each outcome, and a fault of each kind.
func releasedAnswers() *jobspb.Answers {
	wait := []byte("0123456789abcdef")
	all := &jobspb.Answers{Answers: []*jobspb.Answer{
		{CorrelationId: wait, JobId: "job", Outcome: jobspb.Outcome_OUTCOME_DONE, Replayed: true},
		{CorrelationId: wait, JobId: "job", Outcome: jobspb.Outcome_OUTCOME_PENDING},
		{CorrelationId: wait, JobId: "job", Outcome: jobspb.Outcome_OUTCOME_FAILED, Fault: fault.ToProto(fault.InvalidField("quantity", "must be more"))},
	}}
	for kind := fault.Internal; kind <= fault.Unavailable; kind++ {
		why := fault.New(kind, "out_of_stock", "only 3 of tea left").With("product", "tea")
		all.Answers = append(all.Answers, &jobspb.Answer{CorrelationId: wait, JobId: "job", Outcome: jobspb.Outcome_OUTCOME_FAILED, Fault: fault.ToProto(why)})
	}
	return all
}
