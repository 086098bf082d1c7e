// Package tests proves what no single service can: whole paths through all services, on real
// servers, from the shopper's side.
package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"cartwright/cartmanager"
	"cartwright/catalogue"
	"cartwright/checkoutmanager"
	"cartwright/gateway"
	"cartwright/internal/ids"
	"cartwright/internal/servers"
	"cartwright/internal/settings"
	"cartwright/internal/testenv"
	"cartwright/inventory"
	"cartwright/jobs"
	"cartwright/payments"
	schema "cartwright/sql"
	"cartwright/verify"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const staffKey = "staff-key-of-the-tests"

// readyLimit is long because all tests share two cores, with the race detector on.
const readyLimit = 60 * time.Second

// shop is a whole shop in this process, with a namespace of its own on real servers.
type shop struct {
	t         testing.TB
	namespace string
	adminDSN  string
	env       map[string]string
	url       string
	inventory string // address of the first replica
	client    *http.Client
}

// options change a shop before it starts.
type options struct {
	replicas map[string]int    // 1 of each service when it is not named; 0 leaves it out
	env      map[string]string // settings, without the prefix
	dsn, url string            // other ways to the servers, such as through a proxy
}

var runs = map[string]func(ctx context.Context, log *slog.Logger, environ []string) error{
	"catalogue":       starter(catalogue.Run),
	"inventory":       starter(inventory.Run),
	"payments":        starter(payments.Run),
	"cartmanager":     starter(cartmanager.Run),
	"checkoutmanager": starter(checkoutmanager.Run),
	"gateway":         starter(gateway.Run),
}

func starter[S any](run func(context.Context, *slog.Logger, S) error) func(context.Context, *slog.Logger, []string) error {
	return func(ctx context.Context, log *slog.Logger, environ []string) error {
		var s S
		if err := settings.Load(environ, &s); err != nil {
			return err
		}
		return run(ctx, log, s)
	}
}

// newShop starts a shop and waits until it is ready. It ends with the test.
func newShop(t testing.TB, o options) *shop {
	t.Helper()
	s := prepareShop(t, o)
	for _, service := range []string{"catalogue", "inventory", "payments", "cartmanager", "checkoutmanager", "gateway"} {
		for i := range s.count(o, service) {
			s.start(service, i)
		}
	}
	return s
}

func (s *shop) count(o options, service string) int {
	if n, named := o.replicas[service]; named {
		return n
	}
	return 1
}

// prepareShop makes the databases and decides all addresses, and starts nothing.
func prepareShop(t testing.TB, o options) *shop {
	t.Helper()
	adminDSN, amqpURL := testenv.Servers(t)
	s := &shop{t: t, namespace: testenv.Namespace(t), adminDSN: adminDSN, client: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 1024}}}
	t.Cleanup(s.client.CloseIdleConnections)
	testenv.DeleteTopology(t, jobs.Topology(s.namespace))
	for _, d := range schema.Databases() {
		if err := schema.Migrate(t.Context(), adminDSN, s.namespace, d); err != nil {
			t.Fatal(err)
		}
	}
	dsn := adminDSN
	if o.dsn != "" {
		dsn = o.dsn
	}
	if o.url != "" {
		amqpURL = o.url
	}
	s.env = map[string]string{"AMQP_URL": amqpURL, "NAMESPACE": s.namespace, "JOB_SECRET": "job-secret-of-the-tests", "STAFF_KEY": staffKey, "PAYMENTS_TEST_SLOW": "3s"}
	for service := range runs {
		upper := strings.ToUpper(service)
		s.env[upper+"_DSN"] = dsn
		var all []string
		for i := range max(1, s.count(o, service)) {
			listen := freeAddress(t)
			s.env[fmt.Sprintf("%s_LISTEN_%d", upper, i)] = listen
			s.env[fmt.Sprintf("%s_DEBUG_LISTEN_%d", upper, i)] = freeAddress(t)
			all = append(all, listen)
		}
		s.env[upper+"_ADDR"] = strings.Join(all, ",")
	}
	maps.Copy(s.env, o.env)
	s.url = "http://" + s.env["GATEWAY_LISTEN_0"]
	s.inventory = s.env["INVENTORY_LISTEN_0"]
	return s
}

func freeAddress(t testing.TB) string {
	t.Helper()
	port, err := servers.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// start runs one replica of a service until the test ends or stop is called, and waits until it
// is ready.
func (s *shop) start(service string, replica int) (stop func()) {
	s.t.Helper()
	stop = s.launch(service, replica)
	s.awaitReady(service, replica)
	return stop
}

// launch is start without waiting.
func (s *shop) launch(service string, replica int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	environ := s.environ(service, replica)
	log := testenv.Log(s.t).With("service", service, "replica", replica)
	go func() { ended <- runs[service](ctx, log, environ) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			s.t.Errorf("%s: %v", service, err)
		}
	}
	s.t.Cleanup(stop)
	return stop
}

// environ is the environment of one replica.
func (s *shop) environ(service string, replica int) (environ []string) {
	upper := strings.ToUpper(service)
	for k, v := range s.env {
		environ = append(environ, settings.Prefix+k+"="+v)
	}
	return append(environ,
		settings.Prefix+upper+"_LISTEN="+s.env[fmt.Sprintf("%s_LISTEN_%d", upper, replica)],
		settings.Prefix+upper+"_DEBUG_LISTEN="+s.env[fmt.Sprintf("%s_DEBUG_LISTEN_%d", upper, replica)])
}

func (s *shop) awaitReady(service string, replica int) {
	s.t.Helper()
	testenv.Eventually(s.t, readyLimit, service+" is ready", func() bool { return s.ready(service, replica) })
}

func (s *shop) ready(service string, replica int) bool {
	resp, err := s.client.Get("http://" + s.env[fmt.Sprintf("%s_DEBUG_LISTEN_%d", strings.ToUpper(service), replica)] + "/readyz")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// answer is what the gateway said.
type answer struct {
	code   int
	header http.Header
	raw    string
	Status string `json:"status"`
	Error  string `json:"error"`
	JobID  string `json:"jobID"`
	Order  string `json:"orderID"`
}

// ask makes one request. key may be empty.
func (s *shop) ask(method, path, key string, body any) (answer, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return answer{}, err
	}
	req, err := http.NewRequest(method, s.url+path, bytes.NewReader(raw))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	if strings.HasPrefix(path, "/v1/products") && method != http.MethodGet {
		req.Header.Set("Authorization", "Bearer "+staffKey)
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{code: resp.StatusCode, header: resp.Header, raw: string(said)}
	json.Unmarshal(said, &a) //nolint:errcheck // not every answer is of this shape
	return a, nil
}

// must is ask for requests that have to be answered.
func (s *shop) must(method, path, key string, body any) answer {
	s.t.Helper()
	a, err := s.ask(method, path, key, body)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// product makes a product with stock.
func (s *shop) product(id string, minor, units int64) {
	s.t.Helper()
	put := s.must(http.MethodPut, "/v1/products/"+id, "", map[string]any{"name": "The " + id, "price": map[string]any{"amount": minor, "currency": "EUR"}, "active": true})
	if put.code/100 != 2 {
		s.t.Fatalf("product %s: %d %s", id, put.code, put.raw)
	}
	stock := s.must(http.MethodPost, "/v1/products/"+id+"/stock", ids.New(), map[string]any{"delta": units, "kind": "finite"})
	if stock.code/100 != 2 {
		s.t.Fatalf("stock of %s: %d %s", id, stock.code, stock.raw)
	}
}

func (s *shop) add(client, product string, quantity int64) answer {
	s.t.Helper()
	return s.must(http.MethodPost, "/addToCart", "", map[string]any{"clientID": client, "productID": product, "quantity": quantity})
}

// fill adds and insists.
func (s *shop) fill(client, product string, quantity int64) {
	s.t.Helper()
	if a := s.add(client, product, quantity); a.code != http.StatusOK {
		s.t.Fatalf("add %d of %s for %s: %d %s", quantity, product, client, a.code, a.raw)
	}
}

func (s *shop) checkOut(client, method, key string) (answer, error) {
	body := map[string]any{"clientID": client}
	if method != "" {
		body["paymentMethod"] = method
	}
	return s.ask(http.MethodPost, "/checkOutCart", key, body)
}

func (s *shop) mustCheckOut(client, method, key string) answer {
	s.t.Helper()
	a, err := s.checkOut(client, method, key)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// amount is money as the API writes it.
type amount struct {
	Amount   int64  `json:"amount"`
	Currency string `json:"currency"`
}

type item struct {
	ProductID string  `json:"productID"`
	Name      string  `json:"name"`
	Quantity  int64   `json:"quantity"`
	Price     *amount `json:"price"`
}

type cart struct {
	ClientID string  `json:"clientID"`
	Items    []item  `json:"items"`
	Total    *amount `json:"total"`
}

type order struct {
	OrderID  string  `json:"orderID"`
	ClientID string  `json:"clientID"`
	Status   string  `json:"status"`
	Reason   string  `json:"reason"`
	Items    []item  `json:"items"`
	Total    *amount `json:"total"`
}

type stock struct {
	OnHand, Reserved, Available int64
}

func read[T any](s *shop, path string) (value T) {
	s.t.Helper()
	a := s.must(http.MethodGet, path, "", nil)
	if a.code != http.StatusOK {
		s.t.Fatalf("GET %s: %d %s", path, a.code, a.raw)
	}
	if err := json.Unmarshal([]byte(a.raw), &value); err != nil {
		s.t.Fatalf("GET %s: %v in %s", path, err, a.raw)
	}
	return value
}

func (s *shop) cart(client string) cart { s.t.Helper(); return read[cart](s, "/v1/carts/"+client) }
func (s *shop) order(id string) order   { s.t.Helper(); return read[order](s, "/v1/orders/"+id) }
func (s *shop) stock(product string) stock {
	s.t.Helper()
	return read[struct{ Stock stock }](s, "/v1/products/"+product).Stock
}

// ends waits until an order is no longer PENDING.
func (s *shop) ends(id string) (o order) {
	s.t.Helper()
	testenv.Eventually(s.t, readyLimit, "order "+id+" has ended", func() bool {
		a, err := s.ask(http.MethodGet, "/v1/orders/"+id, "", nil)
		return err == nil && a.code == http.StatusOK && json.Unmarshal([]byte(a.raw), &o) == nil && o.Status != "PENDING"
	})
	return o
}

// agrees waits until nothing is on its way and all balances agree.
func (s *shop) agrees() {
	s.t.Helper()
	db := testenv.Open(s.t, s.namespace+schema.Checkouts)
	testenv.Eventually(s.t, readyLimit, "every checkout has ended", func() bool {
		var open int
		return db.QueryRow("SELECT COUNT(*) FROM orders WHERE due_at IS NOT NULL").Scan(&open) == nil && open == 0
	})
	findings, err := verify.Check(s.t.Context(), s.adminDSN, s.namespace)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range findings {
		s.t.Errorf("%s: %s", f.Check, strings.Join(f.Rows, "; "))
	}
}

// charges counts what the test provider has charged, and not given back, for an order.
func (s *shop) charges(orderID string) (n int) {
	s.t.Helper()
	db := testenv.Open(s.t, s.namespace+schema.Payments)
	err := db.QueryRow("SELECT COUNT(*) FROM test_provider_charges WHERE idempotency_key = ? AND outcome = 'charged' AND refunded_minor = 0", orderID).Scan(&n)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}
