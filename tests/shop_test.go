// Package tests proves what no single service can: whole paths through all services, on real
// servers, from the shopper's side.
package tests

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"cartwright/access"
	"cartwright/bench/floor"
	"cartwright/cartmanager"
	"cartwright/catalogue"
	"cartwright/checkoutmanager"
	"cartwright/gateway"
	"cartwright/internal/identity"
	"cartwright/internal/settings"
	"cartwright/internal/store"
	"cartwright/internal/testenv"
	"cartwright/inventory"
	"cartwright/jobs"
	"cartwright/payments"
	schema "cartwright/sql"
	"cartwright/verify"
)

// The test program stands in for the program, which the floor starts again for each of its parts.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "bench" && os.Args[2] == "floor" {
		if _, err := floor.Run(context.Background(), os.Stdout, os.Args[3:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	testenv.Main(m)
}

const staffKey = "staff-key-of-the-tests"

// readyLimit is long because all tests share two cores, with the race detector on.
const readyLimit = 60 * time.Second

// shop is a whole shop in this process, with a namespace of its own on real servers.
type shop struct {
	t           testing.TB
	namespace   string
	adminDSN    string
	brokerURL   string // the administrator's
	brokerAdmin string
	env         map[string]string
	url         string
	certs       string // directory of the certificates
	inventory   string // address of the first replica
	replicas    map[string]int
	slack       time.Duration // what a client may wait beyond the gateway's limit
	pools       map[string]*sql.DB
	client      *http.Client
}

// options change a shop before it starts.
type options struct {
	replicas map[string]int    // 1 of each service when it is not named; 0 leaves it out
	env      map[string]string // settings, without the prefix
	dsn, url string            // other ways to the servers, such as through a proxy
	own      servings          // servers that nobody else uses, in place of the common ones
	tags     string            // a fleet's program is built with
	points   string            // a fleet's folder of failpoints
}

// servings is a database server, a broker and that one's administration.
type servings struct{ dsn, url, brokerAdmin string }

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
	s := &shop{t: t, slack: slack, pools: map[string]*sql.DB{}, client: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 1024}}}
	t.Cleanup(s.client.CloseIdleConnections)
	s.adminDSN, s.brokerURL, s.brokerAdmin = o.own.dsn, o.own.url, o.own.brokerAdmin
	if o.own == (servings{}) {
		s.adminDSN, s.brokerURL = testenv.Servers(t)
		s.brokerAdmin = testenv.BrokerAdmin(t)
		s.namespace = testenv.Namespace(t)
		testenv.Topology(t, jobs.Topology(s.namespace))
	}
	for _, d := range schema.Databases() {
		if err := schema.Migrate(t.Context(), s.adminDSN, s.namespace, d); err != nil {
			t.Fatal(err)
		}
	}
	dsn := s.adminDSN
	if o.dsn != "" {
		dsn = o.dsn
	}
	amqpURL := s.brokerURL
	if o.url != "" {
		amqpURL = o.url
	}
	s.env = map[string]string{"AMQP_URL": amqpURL, "NAMESPACE": s.namespace, "JOB_SECRET": "job-secret-of-the-tests", "STAFF_KEY": staffKey, "PAYMENTS_TEST_SLOW": "3s"}
	s.certs = testenv.Certificates(t, access.Subjects()...)
	s.env["TLS_DIR"] = s.certs
	s.replicas = map[string]int{}
	for service := range runs {
		upper := strings.ToUpper(service)
		s.replicas[service] = s.count(o, service)
		s.env[upper+"_DSN"] = dsn
		var all []string
		for i := range max(1, s.count(o, service)) {
			listen := testenv.FreeAddress(t)
			s.env[fmt.Sprintf("%s_LISTEN_%d", upper, i)] = listen
			s.env[fmt.Sprintf("%s_DEBUG_LISTEN_%d", upper, i)] = testenv.FreeAddress(t)
			all = append(all, listen)
		}
		s.env[upper+"_ADDR"] = strings.Join(all, ",")
	}
	maps.Copy(s.env, o.env)
	s.url = "http://" + s.env["GATEWAY_LISTEN_0"]
	s.inventory = s.env["INVENTORY_LISTEN_0"]
	return s
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

// agrees waits until nothing is on its way and all balances agree.
func (s *shop) agrees() {
	s.t.Helper()
	db := s.database(schema.Checkouts)
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
	db := s.database(schema.Payments)
	err := db.QueryRow("SELECT COUNT(*) FROM test_provider_charges WHERE idempotency_key = ? AND outcome = 'charged' AND refunded_minor = 0", s.checkoutOf(orderID)).Scan(&n)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// checkoutOf is the ID under which others have made their promises to an order.
func (s *shop) checkoutOf(orderID string) (id string) {
	s.t.Helper()
	if err := s.database(schema.Checkouts).QueryRow("SELECT checkout_id FROM orders WHERE order_id = ?", orderID).Scan(&id); err != nil {
		s.t.Fatalf("order %s: %v", orderID, err)
	}
	return id
}

// countOrders counts the checkouts in a state, or all of them.
func (s *shop) countOrders(state string) (n int) {
	s.t.Helper()
	db := s.database(schema.Checkouts)
	if err := db.QueryRow("SELECT COUNT(*) FROM orders WHERE ? IN ('', state)", state).Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

// database looks into one of the shop's databases, past every proxy.
func (s *shop) database(name string) *sql.DB {
	s.t.Helper()
	if s.pools[name] == nil {
		db, err := store.Open(s.adminDSN, s.namespace+name, 4)
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { db.Close() })
		s.pools[name] = db
	}
	return s.pools[name]
}

// lines gives what a reader holds, line by line.
func lines(t testing.TB, from io.Reader) iter.Seq[string] {
	t.Helper()
	text, err := io.ReadAll(from)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Lines(string(text))
}

// dial makes a connection to a service with a certificate of the shop, past all that our own
// clients do.
func (s *shop) dial(as, service, addr string) *grpc.ClientConn {
	s.t.Helper()
	who, err := identity.Open(identity.Settings{Dir: s.certs}, as, testenv.Log(s.t))
	if err != nil {
		s.t.Fatal(err)
	}
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(who.Client(service)))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	return conn
}
