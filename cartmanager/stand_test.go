package cartmanager

import (
	"context"
	"database/sql"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"cartwright/internal/identity"
	"cartwright/internal/ids"
	"cartwright/internal/messaging"
	"cartwright/internal/testenv"
	"cartwright/jobs"
	"cartwright/proto/cartpb"
	"cartwright/proto/jobspb"
	schema "cartwright/sql"
)

const (
	secret = "a key that signs jobs"
	soon   = 20 * time.Second // longer than a retry takes; tests wait for conditions, not for this
)

// stand is a whole cartmanager, of one or several replicas, with somebody who sends it jobs.
type stand struct {
	t         testing.TB
	db        *sql.DB
	goods     *goods
	broker    messaging.Broker
	publisher *messaging.Publisher
	replies   *messaging.Replies
	settings  Settings
	stops     []func() // of each replica

	mu    sync.Mutex
	waits map[string]chan *jobspb.Answer // by correlation
}

func open(t testing.TB, replicas int) *stand {
	t.Helper()
	dsn, url := testenv.Servers(t)
	return openWith(t, replicas, dsn, url)
}

// openWith opens a stand whose replicas reach the servers at dsn and url; its asker reaches the
// broker directly.
func openWith(t testing.TB, replicas int, dsn, url string) *stand {
	t.Helper()
	namespace := testenv.Namespace(t)
	_, direct := testenv.Servers(t)
	s := &stand{t: t, db: testenv.Database(t, namespace, schema.Carts), goods: openGoods(t), waits: map[string]chan *jobspb.Answer{}}
	s.broker = messaging.Broker{URL: direct, Topology: jobs.Topology(namespace), Keys: messaging.Keys{secret}, Log: testenv.Log(t), Metrics: messaging.NewMetrics(prometheus.NewRegistry())}
	testenv.Topology(t, s.broker.Topology)
	s.settings = Settings{
		TLS:    identity.Settings{Insecure: true},
		Broker: messaging.Settings{URL: url, Namespace: namespace}, DSN: dsn, Connections: 4, Prefetch: 64,
		JobSecret: secret, CatalogueAddr: s.goods.addr, InventoryAddr: s.goods.addr,
	}
	s.publisher = messaging.NewPublisher(s.broker, "test")
	s.replies = &messaging.Replies{Broker: s.broker, Name: "test", Hear: s.hear, Lost: func() {}}
	s.background(s.publisher.Run)
	s.background(s.replies.Run)
	for range replicas {
		s.addReplica()
	}
	s.eventually("replicas consume", func() bool {
		return s.publisher.Ready() == nil && s.replies.Ready() == nil && s.consumers() == replicas
	})
	return s
}

// background runs something until the test ends, or until it is stopped.
func (s *stand) background(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			s.t.Error(err)
		}
	})
	s.t.Cleanup(stop)
	return stop
}

func (s *stand) addReplica() {
	own := s.settings
	own.Listen, own.DebugListen = testenv.FreeAddress(s.t), testenv.FreeAddress(s.t)
	s.settings.Listen, s.settings.DebugListen = own.Listen, own.DebugListen // where the newest is
	s.stops = append(s.stops, s.background(func(ctx context.Context) error { return Run(ctx, testenv.Log(s.t), own) }))
}

func (s *stand) client() cartpb.CartsClient {
	return cartpb.NewCartsClient(dial(s.t, s.settings.Listen))
}

func (s *stand) eventually(what string, holds func() bool) {
	s.t.Helper()
	testenv.Eventually(s.t, soon, what, holds)
}

// depth looks at a queue.
func (s *stand) depth(q messaging.Queue) messaging.Depth {
	s.t.Helper()
	depths, err := s.broker.Depths(s.t.Context())
	if err != nil {
		return messaging.Depth{Queue: q, Waiting: -1}
	}
	for _, d := range depths {
		if d.Queue == q {
			return d
		}
	}
	s.t.Fatalf("no queue %s", q)
	return messaging.Depth{}
}

func (s *stand) consumers() int { return s.depth(jobs.Cartmanager).Consumers }

// message makes a job's message with an address for the answer.
func (s *stand) message(id string, job jobs.Job) messaging.Message {
	s.t.Helper()
	body, err := jobs.Encode(job)
	if err != nil {
		s.t.Fatal(err)
	}
	address, err := s.replies.Address()
	if err != nil {
		s.t.Fatal(err)
	}
	return messaging.Message{ID: id, Kind: jobs.KindOf(job), Body: body, ReplyTo: address, Correlation: messaging.NewCorrelation()}
}

// send publishes a message and returns where its answers arrive.
func (s *stand) send(m messaging.Message) <-chan *jobspb.Answer {
	s.t.Helper()
	answers := make(chan *jobspb.Answer, 16)
	s.mu.Lock()
	s.waits[m.Correlation] = answers
	s.mu.Unlock()
	if err := s.publisher.PublishJob(s.t.Context(), m); err != nil {
		s.t.Fatal(err)
	}
	return answers
}

func (s *stand) hear(body []byte) {
	var all jobspb.Answers
	if err := proto.Unmarshal(body, &all); err != nil {
		s.t.Error(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range all.GetAnswers() {
		s.waits[correlation(a)] <- a
	}
}

// ask sends a job under an ID and waits for the answer that ends it.
func (s *stand) ask(id string, job jobs.Job) *jobspb.Answer {
	s.t.Helper()
	return s.final(s.send(s.message(id, job)))
}

// do asks for a job under a new ID.
func (s *stand) do(job jobs.Job) *jobspb.Answer {
	s.t.Helper()
	return s.ask(ids.New(), job)
}

func (s *stand) final(answers <-chan *jobspb.Answer) *jobspb.Answer {
	s.t.Helper()
	limit := time.After(soon)
	for {
		select {
		case a := <-answers:
			if a.GetOutcome() != jobspb.Outcome_OUTCOME_PENDING {
				return a
			}
		case <-limit:
			s.t.Fatal("no answer")
		}
	}
}

// done asks for a job that must succeed.
func (s *stand) done(job jobs.Job) {
	s.t.Helper()
	if a := s.do(job); a.GetOutcome() != jobspb.Outcome_OUTCOME_DONE {
		s.t.Fatalf("%v: %v", job, a)
	}
}

// refused asks for a job that must be refused with a code, and returns the words.
func (s *stand) refused(job jobs.Job, code string) string {
	s.t.Helper()
	a := s.do(job)
	if a.GetOutcome() != jobspb.Outcome_OUTCOME_FAILED || a.GetFault().GetCode() != code {
		s.t.Fatalf("%v: %v, want %s", job, a, code)
	}
	return a.GetFault().GetMessage()
}

// cart reads a cart by gRPC, as "2 tea, 1 cup".
func (s *stand) cart(client string) string {
	s.t.Helper()
	var resp *cartpb.GetCartResponse
	asker := s.client()
	s.eventually("the cart is readable", func() (ok bool) { // a replica that was away serves again a moment later
		var err error
		resp, err = asker.GetCart(s.t.Context(), &cartpb.GetCartRequest{ClientId: client})
		return err == nil
	})
	var lines []line
	for _, l := range resp.GetLines() {
		lines = append(lines, line{product: l.GetProductId(), quantity: l.GetQuantity()})
	}
	return spell(lines)
}

func add(client, product string, quantity int64) jobs.Job {
	return &jobspb.AddToCart{ClientId: client, ProductId: product, Quantity: quantity}
}

func set(client, product string, quantity int64) jobs.Job {
	return &jobspb.SetCartLine{ClientId: client, ProductId: product, Quantity: quantity}
}
