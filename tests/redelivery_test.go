package tests

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
	"google.golang.org/protobuf/proto"

	"cartwright/internal/ids"
	"cartwright/internal/messaging"
	"cartwright/internal/testenv"
	"cartwright/jobs"
	"cartwright/proto/jobspb"
)

// wire is a test's own way to the broker, past the shop.
type wire struct {
	s       *shop
	channel *amqp.Channel
}

func (s *shop) wire() *wire {
	s.t.Helper()
	_, url := testenv.Servers(s.t)
	conn, err := amqp.Dial(url)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	channel, err := conn.Channel()
	if err != nil {
		s.t.Fatal(err)
	}
	return &wire{s, channel}
}

// take waits for a message on a queue and takes it away.
func (w *wire) take(queue messaging.Queue) (d amqp.Delivery) {
	w.s.t.Helper()
	testenv.Eventually(w.s.t, readyLimit, "a message on "+string(queue), func() bool {
		var got bool
		var err error
		if d, got, err = w.channel.Get(w.s.namespace+string(queue), true); err != nil {
			w.s.t.Fatal(err)
		}
		return got
	})
	return d
}

// put publishes a message in the form in which it was taken, through an exchange of the shop's.
func (w *wire) put(exchange, key string, d amqp.Delivery) {
	w.s.t.Helper()
	err := w.channel.PublishWithContext(w.s.t.Context(), w.s.namespace+exchange, key, true, false, amqp.Publishing{
		ContentType: d.ContentType, DeliveryMode: amqp.Persistent, MessageId: d.MessageId, Type: d.Type,
		ReplyTo: d.ReplyTo, CorrelationId: d.CorrelationId, Headers: d.Headers, Body: d.Body})
	if err != nil {
		w.s.t.Fatal(err)
	}
}

// settled waits until nothing waits on a work queue nor its retry queue.
func (w *wire) settled(queue messaging.Queue) {
	w.s.t.Helper()
	testenv.Eventually(w.s.t, readyLimit, string(queue)+" is empty", func() bool {
		for _, q := range []messaging.Queue{queue, queue.Retry()} {
			state, err := w.channel.QueueDeclarePassive(w.s.namespace+string(q), true, false, false, false, nil)
			if err != nil {
				w.s.t.Fatal(err)
			}
			if state.Messages > 0 {
				return false
			}
		}
		return true
	})
}

// capturedCheckout makes a shop without checkoutmanagers, lets ann check one tea out, and takes
// the job off the queue.
func capturedCheckout(t *testing.T, checkoutmanagers int) (*shop, *wire, amqp.Delivery, string) {
	t.Helper()
	s := prepareShop(t, options{replicas: map[string]int{"checkoutmanager": checkoutmanagers}, env: map[string]string{"GATEWAY_ANSWER_TIMEOUT": "500ms"}})
	for _, service := range []string{"catalogue", "inventory", "payments", "cartmanager", "gateway"} {
		s.start(service, 0)
	}
	s.product("tea", 100, 10)
	s.fillAll([]*shopper{{s: s, client: "ann"}}, "tea")
	a := s.mustCheckOut("ann", "", "k")
	if a.code != http.StatusAccepted {
		t.Fatalf("check out: %d %s", a.code, a.raw)
	}
	w := s.wire()
	return s, w, w.take(jobs.Checkoutmanager), a.Order
}

// E5, K8: the same job ten times, to two workers at once, and ten times more when it is long
// done, is one order, one charge, one unit off the shelf.
func TestTheSameJobManyTimesIsOneOrder(t *testing.T) {
	t.Parallel()
	s, w, job, order := capturedCheckout(t, 2)
	for range 10 {
		w.put("cartwright.jobs", job.Type, job)
	}
	for i := range 2 {
		s.start("checkoutmanager", i)
	}
	if o := s.ends(order); o.Status != "PAID" {
		t.Errorf("order: %+v", o)
	}
	for range 10 {
		w.put("cartwright.jobs", job.Type, job)
	}
	w.settled(jobs.Checkoutmanager)
	if n := s.charges(order); n != 1 {
		t.Errorf("%d charges, want 1", n)
	}
	if got, want := s.stock("tea"), (stock{9, 0, 9}); got != want {
		t.Errorf("stock: got %+v, want %+v", got, want)
	}
	if n := s.countOrders(""); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}
	s.agrees()
}

// K7: what nobody waits for, and what nobody can read, is dropped from a gateway's own queue and
// counted; the next check out is answered.
func TestAForeignAnswerBlocksNobody(t *testing.T) {
	t.Parallel()
	s, w, job, order := capturedCheckout(t, 1)
	foreign, err := proto.Marshal(&jobspb.Answers{Answers: []*jobspb.Answer{
		{JobId: order, CorrelationId: make([]byte, 16), Outcome: jobspb.Outcome_OUTCOME_DONE},
		{JobId: "", CorrelationId: nil, Outcome: 99},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range [][]byte{foreign, []byte("no protobuf"), nil} {
		w.put("cartwright.replies", s.namespace+job.ReplyTo, amqp.Delivery{Body: body})
	}
	testenv.Eventually(t, readyLimit, "three answers are dropped and counted", func() bool {
		return s.metric("gateway", `answers_dropped_total{reason="nobody waits"}`) == "2" &&
			s.metric("gateway", `answers_dropped_total{reason="undecodable"}`) == "1"
	})
	w.put("cartwright.jobs", job.Type, job)
	s.start("checkoutmanager", 0)
	if o := s.ends(order); o.Status != "PAID" {
		t.Errorf("order: %+v", o)
	}
	s.fillAll([]*shopper{{s: s, client: "bob"}}, "tea")
	bob := &shopper{s: s, client: "bob", key: ids.New()}
	if err := bob.checkOut(t.Context()); err != nil || bob.code != http.StatusOK {
		t.Errorf("bob: %d %v", bob.code, err)
	}
}

// metric reads one sample from a service's metrics; empty when there is none.
func (s *shop) metric(service, sample string) string {
	s.t.Helper()
	resp, err := s.client.Get("http://" + s.env[strings.ToUpper(service)+"_DEBUG_LISTEN_0"] + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	for line := range lines(s.t, resp.Body) {
		line = strings.TrimSpace(line)
		if value, is := strings.CutPrefix(line, sample+" "); is {
			return value
		}
	}
	return ""
}

// E7, X5: what no gateway has made goes to the dead queue with its reason, whole, and the next
// job is served.
func TestAPoisonedJobIsBuriedWithItsReason(t *testing.T) {
	t.Parallel()
	s, w, job, order := capturedCheckout(t, 1)
	for _, c := range []struct {
		name, reason string
		change       func(*amqp.Delivery)
	}{
		{"another client", "signature", func(d *amqp.Delivery) { d.Body = mustMarshal(t, &jobspb.StartCheckout{ClientId: "mallory"}) }},
		{"another ID", "signature", func(d *amqp.Delivery) { d.MessageId = ids.New() }},
		{"a foreign reply queue", "reply_to", func(d *amqp.Delivery) { d.ReplyTo = "amq.gen-mallory" }},
		{"another gateway's reply queue", "signature", func(d *amqp.Delivery) { d.ReplyTo = "reply." + strings.Repeat("0", 32) }},
		{"no signature", "signature", func(d *amqp.Delivery) { d.Headers = nil }},
		{"a job of another queue", "signature", func(d *amqp.Delivery) { d.Type = jobs.ClearCart }},
		{"no protobuf", "content_type", func(d *amqp.Delivery) { d.ContentType = "application/json" }},
		{"no ID", "message_id", func(d *amqp.Delivery) { d.MessageId = "" }},
	} {
		forged := job
		c.change(&forged)
		w.put("cartwright.jobs", jobs.StartCheckout, forged)
		s.isBuried(w, c.name, c.reason, forged)
	}
	s.buriesWhatItCannotRead(w)
	w.put("cartwright.jobs", job.Type, job)
	if o := s.ends(order); o.Status != "PAID" || o.ClientID != "ann" {
		t.Errorf("order: %+v", o)
	}
	if n := s.countOrders(""); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}
	s.agrees()
}

// isBuried starts the worker if it does not run yet, and looks for the message on its dead queue.
func (s *shop) isBuried(w *wire, name, reason string, want amqp.Delivery) {
	s.t.Helper()
	if !s.ready("checkoutmanager", 0) {
		s.start("checkoutmanager", 0)
	}
	got := w.take(jobs.Checkoutmanager.Dead())
	said, _ := got.Headers["x-reason"].(string)
	if !strings.Contains(said, reason) {
		s.t.Errorf("%s: buried because %q, want it to name %q", name, said, reason)
	}
	if string(got.Body) != string(want.Body) || got.MessageId != want.MessageId || got.Type != want.Type || got.ReplyTo != want.ReplyTo {
		s.t.Errorf("%s: buried as %q %q %q, want it as it came", name, got.MessageId, got.Type, got.ReplyTo)
	}
}

// buriesWhatItCannotRead sends jobs with a good signature that make no sense.
func (s *shop) buriesWhatItCannotRead(w *wire) {
	s.t.Helper()
	keys, err := messaging.ParseKeys(s.env["JOB_SECRET"])
	if err != nil {
		s.t.Fatal(err)
	}
	_, url := testenv.Servers(s.t)
	publisher := messaging.NewPublisher(messaging.Broker{URL: url, Topology: jobs.Topology(s.namespace), Keys: keys, Log: testenv.Log(s.t)}, "poisoner")
	ctx, cancel := context.WithCancel(s.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- publisher.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			s.t.Error(err)
		}
	}()
	testenv.Eventually(s.t, readyLimit, "the publisher is connected", func() bool { return publisher.Ready() == nil })
	for _, c := range []struct {
		reason string
		m      messaging.Message
	}{
		{"body", messaging.Message{Kind: jobs.StartCheckout, Body: []byte("\xff\xff no protobuf")}},
		{"type", messaging.Message{Kind: "checkout.nonsense", Body: nil}},
		{"clientID", messaging.Message{Kind: jobs.StartCheckout, Body: mustMarshal(s.t, &jobspb.StartCheckout{ClientId: "x' OR '1'='1"})}},
		{"paymentMethod", messaging.Message{Kind: jobs.StartCheckout, Body: mustMarshal(s.t, &jobspb.StartCheckout{ClientId: "ann", PaymentMethod: "4242424242424242"})}},
	} {
		c.m.ID = ids.New()
		if err := publisher.PublishJob(s.t.Context(), c.m); err != nil {
			s.t.Fatal(err)
		}
		s.isBuried(w, fmt.Sprintf("a job with a wrong %s", c.reason), c.reason, amqp.Delivery{MessageId: c.m.ID, Type: c.m.Kind, Body: c.m.Body})
	}
}

func mustMarshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	body, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return body
}
