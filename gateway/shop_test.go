package gateway

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"cartwright/internal/debugport"
	"cartwright/internal/identity"
	"cartwright/internal/messaging"
	"cartwright/internal/rpc"
	"cartwright/internal/testenv"
	"cartwright/jobs"
	"cartwright/proto/cartpb"
	"cartwright/proto/cataloguepb"
	"cartwright/proto/checkoutpb"
	"cartwright/proto/inventorypb"
)

const (
	testStaffKey  = "staff-key-of-a-test"
	testJobSecret = "job-secret-of-a-test"
	startLimit    = 20 * time.Second
)

// shop is a real gateway on a real broker, between services and workers that the test plays.
type shop struct {
	settings Settings
	url      string
	client   *http.Client
	services *services
	worker   *worker
	serving  atomic.Bool // what the services say of themselves
	outage   atomic.Bool // the test wants to see 503
}

// openShop starts everything and waits until the gateway is ready. Change settings before the
// start with change.
func openShop(t *testing.T, change func(*Settings)) *shop {
	t.Helper()
	s := newShop(t, change)
	s.startWorker(t)
	s.startGateway(t)
	s.waitUntilReady(t)
	return s
}

func newShop(t *testing.T, change func(*Settings)) *shop {
	t.Helper()
	_, amqpURL := testenv.Servers(t)
	s := &shop{services: &services{}, worker: &worker{script: map[string]reply{}}}
	s.serving.Store(true)
	s.settings = Settings{
		TLS:    identity.Settings{Insecure: true},
		Broker: messaging.Settings{URL: amqpURL, Namespace: "t" + strings.ToLower(rand.Text()[:10]) + "_"},
		Listen: testenv.FreeAddress(t), DebugListen: testenv.FreeAddress(t), AnswerTimeout: 30 * time.Second,
		StaffKey: testStaffKey, JobSecret: testJobSecret,
		CartmanagerAddr: testenv.FreeAddress(t), CheckoutmanagerAddr: testenv.FreeAddress(t), CatalogueAddr: testenv.FreeAddress(t), InventoryAddr: testenv.FreeAddress(t),
	}
	if change != nil {
		change(&s.settings)
	}
	s.url = "http://" + s.settings.Listen
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	s.client = &http.Client{Transport: transport, Timeout: 3 * startLimit}
	t.Cleanup(transport.CloseIdleConnections)
	testenv.Topology(t, jobs.Topology(s.settings.Broker.Namespace))
	s.startServices(t)
	return s
}

// run runs a part of the shop until the test ends, or until stop is called.
func run(t *testing.T, part func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- part(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("a part of the shop ended with %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

func (s *shop) startGateway(t *testing.T) (stop func()) {
	log := testenv.Log(t)
	return run(t, func(ctx context.Context) error { return Run(ctx, log, s.settings) })
}

func (s *shop) waitUntilReady(t *testing.T) {
	t.Helper()
	testenv.Eventually(t, startLimit, "the gateway is ready", func() bool {
		resp, err := s.client.Get("http://" + s.settings.DebugListen + "/readyz")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return false
		}
		conn, err := net.Dial("tcp", s.settings.Listen)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

func (s *shop) startServices(t *testing.T) {
	log := testenv.Log(t)
	for addr, register := range map[string]func(grpc.ServiceRegistrar){
		s.settings.CartmanagerAddr:     func(r grpc.ServiceRegistrar) { cartpb.RegisterCartsServer(r, fakeCarts{services: s.services}) },
		s.settings.CheckoutmanagerAddr: func(r grpc.ServiceRegistrar) { checkoutpb.RegisterOrdersServer(r, fakeOrders{services: s.services}) },
		s.settings.CatalogueAddr: func(r grpc.ServiceRegistrar) {
			cataloguepb.RegisterCatalogueServer(r, fakeCatalogue{services: s.services})
		},
		s.settings.InventoryAddr: func(r grpc.ServiceRegistrar) {
			inventorypb.RegisterInventoryServer(r, fakeInventory{services: s.services})
		},
	} {
		check := debugport.Check{Name: "database", Ask: func(context.Context) error {
			if !s.serving.Load() {
				return errors.New("the database is away")
			}
			return nil
		}}
		server := rpc.Server{Addr: addr, Identity: identity.Insecure(), Log: log, Register: register, Checks: []debugport.Check{check}}
		run(t, server.Run)
	}
}

// startWorker starts what answers jobs on both queues.
func (s *shop) startWorker(t *testing.T) (stop func()) {
	t.Helper()
	_, amqpURL := testenv.Servers(t)
	broker := messaging.Broker{
		URL: amqpURL, Topology: jobs.Topology(s.settings.Broker.Namespace), Keys: messaging.Keys{testJobSecret},
		Log: testenv.Log(t), Metrics: messaging.NewMetrics(prometheus.NewRegistry()),
	}
	publisher := messaging.NewPublisher(broker, "worker")
	s.worker.answers = jobs.NewAnswers(publisher)
	stops := []func(){run(t, publisher.Run)}
	for _, queue := range []messaging.Queue{jobs.Cartmanager, jobs.Checkoutmanager} {
		consumer := &messaging.Consumer{Broker: broker, Publisher: publisher, Queue: queue, Name: "worker", Prefetch: 256, Handle: s.worker.handle}
		stops = append(stops, run(t, consumer.Run))
		testenv.Eventually(t, startLimit, "the worker hears", func() bool { return consumer.Ready() == nil })
	}
	return func() {
		stops[2]()
		stops[1]()
		stops[0]()
	}
}

// worker answers jobs as the test wants, by client.
type worker struct {
	answers *jobs.Answers

	mu     sync.Mutex
	script map[string]reply
	did    []messaging.Message
}

// reply is what a worker does with a job in the end.
type reply func(ctx context.Context, to *jobs.Answers, m messaging.Message) error

func done(ctx context.Context, to *jobs.Answers, m messaging.Message) error {
	return to.Done(ctx, m, false)
}

func again(ctx context.Context, to *jobs.Answers, m messaging.Message) error {
	return to.Done(ctx, m, true)
}

func pending(ctx context.Context, to *jobs.Answers, m messaging.Message) error {
	return to.Pending(ctx, m)
}

func silence(context.Context, *jobs.Answers, messaging.Message) error { return nil }

func fails(why error) reply {
	return func(ctx context.Context, to *jobs.Answers, m messaging.Message) error {
		return to.Failed(ctx, m, why, false)
	}
}

// says sets what the worker answers to the jobs of a client; without it, they are done.
func (w *worker) says(clientID string, r reply) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.script[clientID] = r
}

func (w *worker) handle(ctx context.Context, m messaging.Message) error {
	job, err := jobs.Decode(m.Kind, m.Body)
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.did = append(w.did, m)
	r, scripted := w.script[job.GetClientId()]
	w.mu.Unlock()
	if !scripted {
		r = done
	}
	return r(ctx, w.answers, m)
}

// seen returns the jobs that the worker has seen.
func (w *worker) seen() []messaging.Message {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]messaging.Message{}, w.did...)
}

// response is an answer over HTTP.
type response struct {
	status int
	header http.Header
	body   string
	values map[string]any // of a JSON body
}

// ask sends a request and holds the answer's code against the document. A header is given as "Name: value"; a body is JSON unless a header says
// otherwise.
func (s *shop) ask(t testing.TB, method, path, body string, headers ...string) response {
	t.Helper()
	r, err := s.tryAsk(t.Context(), method, path, body, headers...)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if op := operationOf(method, path); op != nil && op.Responses[strconv.Itoa(r.status)] == nil {
		t.Errorf("%s %s: the document does not know of an answer %d", method, path, r.status)
	}
	return r
}

// tryAsk sends a request, and sends it again, as clients should, when the machine was too busy
// for the gateway's short limits.
func (s *shop) tryAsk(ctx context.Context, method, path, body string, headers ...string) (r response, err error) {
	for range 5 {
		r, err = s.send(ctx, method, path, body, headers...)
		if err != nil || r.status != http.StatusServiceUnavailable || s.outage.Load() || strings.Contains(path+body, "away") || strings.Contains(path+body, "s503") {
			break
		}
	}
	return r, err
}

func (s *shop) send(ctx context.Context, method, path, body string, headers ...string) (response, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(body))
	if err != nil {
		return response{}, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return response{}, err
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		return response{}, err
	}
	r := response{status: resp.StatusCode, header: resp.Header, body: string(content)}
	if strings.Contains(resp.Header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(content, &r.values); err != nil {
			return r, err
		}
	}
	return r, nil
}

// text is a member of a JSON body, empty when it is missing or no string.
func (r response) text(name string) string {
	s, _ := r.values[name].(string)
	return s
}

const asStaff = "Authorization: Bearer " + testStaffKey

// bodyOf writes a request's body as its documented type says.
func bodyOf(request any) string {
	text, err := json.Marshal(request)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func addBody(clientID string, quantity int64) string {
	return bodyOf(addRequest{ClientID: clientID, ProductID: "tea", Quantity: quantity})
}

func checkoutBody(clientID string) string { return bodyOf(checkoutRequest{ClientID: clientID}) }

// metric reads one line of the gateway's metrics, such as `answers_awaited`.
func (s *shop) metric(t testing.TB, line string) string {
	t.Helper()
	resp, err := s.client.Get("http://" + s.settings.DebugListen + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(text)) {
		if value, found := strings.CutPrefix(l, line+" "); found {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

var quiet = slog.New(slog.DiscardHandler)
