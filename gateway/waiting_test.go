package gateway

import (
	"encoding/hex"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"cartwright/internal/fault"
	"cartwright/proto/jobspb"
)

// testRoom is a waiting room with the metrics that it counts in.
type testRoom struct {
	*waitingRoom
	reg *prometheus.Registry
}

func newRoom(places int) testRoom {
	reg := prometheus.NewRegistry()
	return testRoom{newWaitingRoom(places, newMetrics(reg)), reg}
}

// answerTo makes the body of a message that answers one wait.
func answerTo(t testing.TB, correlation, jobID string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(correlation)
	if err != nil {
		t.Fatal(err)
	}
	body, err := proto.Marshal(&jobspb.Answers{Answers: []*jobspb.Answer{{CorrelationId: raw, JobId: jobID, Outcome: jobspb.Outcome_OUTCOME_DONE}}})
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// droppedFor is how many answers were dropped for a reason.
func (r testRoom) droppedFor(t *testing.T, reason string) float64 {
	t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "answers_dropped_total" && m.GetLabel()[0].GetValue() == reason {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// K7
func TestOnlyTheAnswerToOnesOwnJobEndsAWait(t *testing.T) {
	r := newRoom(10)
	correlation, answer, err := r.enter("job")
	if err != nil {
		t.Fatal(err)
	}
	r.hear([]byte("nonsense"))
	r.hear(answerTo(t, "00", "job"))
	r.hear(answerTo(t, correlation, "another job"))
	select {
	case a := <-answer:
		t.Fatalf("the wait ended with %v", a)
	default:
	}
	r.hear(answerTo(t, correlation, "job"))
	r.hear(answerTo(t, correlation, "job")) // delivered twice
	if a := <-answer; a.GetOutcome() != jobspb.Outcome_OUTCOME_DONE {
		t.Errorf("the answer is %v", a)
	}
	r.leave(correlation)
	for reason, want := range map[string]float64{"undecodable": 1, "other job": 1, "nobody waits": 2} {
		if got := r.droppedFor(t, reason); got != want {
			t.Errorf("dropped because %s: %v, want %v", reason, got, want)
		}
	}
}

func TestALateAnswerIsDropped(t *testing.T) {
	r := newRoom(10)
	correlation, _, err := r.enter("job")
	if err != nil {
		t.Fatal(err)
	}
	r.leave(correlation)
	r.hear(answerTo(t, correlation, "job"))
	if got := r.droppedFor(t, "nobody waits"); got != 1 {
		t.Errorf("%v answers were dropped, want 1", got)
	}
}

func TestAFullRoomIsBusy(t *testing.T) {
	r := newRoom(2)
	first, _, _ := r.enter("a")
	if _, _, err := r.enter("b"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.enter("c"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("the third wait got %v", err)
	}
	r.leave(first)
	if _, _, err := r.enter("c"); err != nil {
		t.Errorf("after one left: %v", err)
	}
}

func TestLostAnswersEndEveryWait(t *testing.T) {
	r := newRoom(10)
	var waits sync.WaitGroup
	for i := range 5 {
		_, answer, err := r.enter(fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		waits.Go(func() {
			if o := read("job", <-answer); !o.accepted {
				t.Errorf("the wait ended with %+v", o)
			}
		})
	}
	r.endAll()
	waits.Wait()
}

func TestAcceptedJobsAreRememberedForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAcceptedJobs(3)
		a.add("first", acceptedJob{Kind: "cart.add", ClientID: "jo", At: time.Now()})
		time.Sleep(acceptedFor - 1)
		a.add("first", acceptedJob{Kind: "cart.add", ClientID: "jo", At: time.Now()}) // asked again
		if job, known := a.find("first", time.Now()); !known || job.ClientID != "jo" {
			t.Errorf("the job is %+v, known: %t", job, known)
		}
		time.Sleep(time.Nanosecond)
		if _, known := a.find("first", time.Now()); known {
			t.Error("the job is known for too long")
		}
		a.add("first", acceptedJob{At: time.Now()}) // in its second slot now
		a.add("second", acceptedJob{At: time.Now()})
		a.add("third", acceptedJob{At: time.Now()}) // over its first slot
		for _, id := range []string{"first", "second", "third"} {
			if _, known := a.find(id, time.Now()); !known {
				t.Errorf("%s is forgotten", id)
			}
		}
		a.add("fourth", acceptedJob{At: time.Now()})
		if _, known := a.find("first", time.Now()); known || len(a.byID) != 3 {
			t.Errorf("%d jobs are remembered, want 3 without the oldest", len(a.byID))
		}
	})
}

func FuzzAnswersFromTheReplyQueue(f *testing.F) {
	f.Add([]byte("nonsense"))
	f.Add(answerTo(f, "00112233445566778899aabbccddeeff", "job"))
	f.Fuzz(func(t *testing.T, body []byte) {
		r := newRoom(1)
		correlation, answer, err := r.enter("job")
		if err != nil {
			t.Fatal(err)
		}
		r.hear(body)
		r.hear(answerTo(t, correlation, "job"))
		read("job", <-answer)
	})
}
