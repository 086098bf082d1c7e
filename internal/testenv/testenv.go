// Package testenv gives tests real servers: those named by CARTWRIGHT_TEST_ADMIN_DSN,
// CARTWRIGHT_TEST_AMQP_URL and CARTWRIGHT_TEST_BROKER_ADMIN_URL, or private ones that it starts when first asked. Each test gets a
// namespace of its own on them, so tests run side by side.
package testenv

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"

	"cartwright/internal/identity"
	"cartwright/internal/messaging"
	"cartwright/internal/servers"
	"cartwright/internal/store"
	schema "cartwright/sql"
)

const startLimit = 3 * time.Minute

// private are the servers that this test program started itself.
var private struct {
	once    sync.Once
	dir     string
	mariaDB *servers.MariaDB
	rabbit  *servers.RabbitMQ
	err     error
}

// Main runs a package's tests, ends the servers that were started for them, and fails when a
// goroutine is left behind. Call it from TestMain.
func Main(m *testing.M) {
	goleak.VerifyTestMain(runThenStop{m},
		// fasthttp's own housekeeping sleeps on for seconds after its server or client has stopped.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*HostClient).connsCleaner"))
}

// runThenStop ends the servers before goroutines are counted: each process has one that waits.
type runThenStop struct{ m *testing.M }

func (r runThenStop) Run() int {
	defer stopPrivate()
	return r.m.Run()
}

func stopPrivate() {
	if private.mariaDB != nil {
		private.mariaDB.Kill() //nolint:errcheck // its data goes next
	}
	if private.rabbit != nil {
		private.rabbit.Kill() //nolint:errcheck // its data goes next
	}
	if private.dir != "" {
		os.RemoveAll(private.dir)
	}
}

// Servers returns an account that may do everything in the database server, and the broker's URL.
// Without servers the test fails: a skipped test proves nothing.
func Servers(t testing.TB) (adminDSN, amqpURL string) {
	t.Helper()
	dsn, url := os.Getenv("CARTWRIGHT_TEST_ADMIN_DSN"), os.Getenv("CARTWRIGHT_TEST_AMQP_URL")
	if dsn != "" && url != "" {
		return dsn, url
	}
	private.once.Do(startPrivate)
	if private.err != nil {
		t.Fatalf("servers for tests: %v", private.err)
	}
	return private.mariaDB.DSN(), private.rabbit.URL()
}

// BrokerAdmin returns the address of the broker's administration, with an account in it that may
// do everything.
func BrokerAdmin(t testing.TB) (adminURL string) {
	t.Helper()
	Servers(t)
	if private.rabbit != nil {
		return private.rabbit.AdminURL()
	}
	adminURL = os.Getenv("CARTWRIGHT_TEST_BROKER_ADMIN_URL")
	if adminURL == "" {
		t.Fatal("CARTWRIGHT_TEST_BROKER_ADMIN_URL is not set, beside CARTWRIGHT_TEST_AMQP_URL")
	}
	return adminURL
}

// BrokerAccount thinks up a broker account for whoever is tested to make, and takes it away when
// the test ends.
func BrokerAccount(t testing.TB, user string) (amqpURL string) {
	t.Helper()
	_, admin := Servers(t)
	u, err := url.Parse(admin)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, rand.Text())
	DropBrokerAccount(t, user)
	return u.String()
}

// DropBrokerAccount takes a broker account away when the test ends.
func DropBrokerAccount(t testing.TB, user string) {
	t.Helper()
	address := BrokerAdmin(t) + "/api/users/" + url.PathEscape(user)
	t.Cleanup(func() {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodDelete, address, nil)
		if err != nil {
			t.Error(err)
			return
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Errorf("clean up: %v", err)
			return
		}
		resp.Body.Close()
		http.DefaultClient.CloseIdleConnections()
	})
}

func startPrivate() {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	if private.dir, private.err = os.MkdirTemp("", "cartwright-test-"); private.err != nil {
		return
	}
	if private.err = os.Chmod(private.dir, 0o755); private.err != nil {
		return // the servers' own users must be able to enter
	}
	password := rand.Text()
	private.mariaDB, private.err = servers.StartMariaDB(ctx, servers.MariaDBConfig{
		Dir: private.dir + "/mariadb", Admin: "admin", Password: password, OnParentDeath: syscall.SIGKILL})
	if private.err != nil {
		return
	}
	private.rabbit, private.err = servers.StartRabbitMQ(ctx, servers.RabbitMQConfig{
		Dir: private.dir + "/rabbitmq", User: "admin", Password: password, OnParentDeath: syscall.SIGKILL})
}

// Namespace makes a prefix for a test's databases and queues, and takes away everything under it
// when the test ends.
func Namespace(t testing.TB) string {
	t.Helper()
	namespace := "t" + strings.ToLower(rand.Text()[:10]) + "_"
	dsn, _ := Servers(t)
	t.Cleanup(func() { dropDatabases(t, dsn, namespace) })
	return namespace
}

// Database makes one migrated database for the test and returns a pool for looking into it.
func Database(t testing.TB, namespace, database string) *sql.DB {
	t.Helper()
	dsn, _ := Servers(t)
	if err := schema.Migrate(t.Context(), dsn, namespace, database); err != nil {
		t.Fatal(err)
	}
	return Open(t, namespace+database)
}

// Down takes a database back to a version.
func Down(t testing.TB, namespace, database string, version int64) {
	t.Helper()
	dsn, _ := Servers(t)
	for {
		now, err := schema.Version(t.Context(), dsn, namespace, database)
		if err != nil {
			t.Fatal(err)
		}
		if now <= version {
			return
		}
		if err := schema.Down(t.Context(), dsn, namespace, database); err != nil {
			t.Fatal(err)
		}
	}
}

// Open opens a pool for a database that exists.
func Open(t testing.TB, database string) *sql.DB {
	t.Helper()
	dsn, _ := Servers(t)
	db, err := store.Open(dsn, database, 16)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func dropDatabases(t testing.TB, dsn, namespace string) {
	db, err := store.Open(dsn, "", 1)
	if err != nil {
		t.Error(err)
		return
	}
	defer db.Close()
	for _, name := range schema.Databases() {
		if _, err := db.ExecContext(context.Background(), fmt.Sprintf("DROP DATABASE IF EXISTS `%s%s`", namespace, name)); err != nil {
			t.Errorf("clean up: %v", err)
		}
	}
}

// Topology declares a topology and takes it away when the test ends.
func Topology(t testing.TB, topology messaging.Topology) {
	t.Helper()
	_, url := Servers(t)
	if err := (messaging.Broker{URL: url, Topology: topology}).Declare(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn, err := amqp.Dial(url)
		if err != nil {
			return // a test that broke the broker has nothing left to clean
		}
		defer conn.Close()
		topology.Delete(conn)
	})
}

// FreeAddress is an address of 127.0.0.1 where nobody listens, and that no other test of this
// machine has been given.
func FreeAddress(t testing.TB) string {
	t.Helper()
	port, err := servers.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// certLife is what a shop has, and so nobody is warned of its end.
const certLife = 90 * 24 * time.Hour

// Certificates makes certificates for a test and returns their directory.
func Certificates(t testing.TB, subjects ...identity.Subject) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if _, err := (identity.Authority{Dir: dir, Life: certLife}).Ensure(subjects, nil); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Log is a logger whose lines go to the test's output.
func Log(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(&lines{t: t}, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// lines writes to a test's log until the test has ended.
type lines struct {
	mu   sync.Mutex
	t    testing.TB
	over bool
	once sync.Once
}

var _ io.Writer = (*lines)(nil)

func (l *lines) Write(b []byte) (int, error) {
	l.once.Do(func() {
		l.t.Cleanup(func() { l.mu.Lock(); l.over = true; l.mu.Unlock() })
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.over {
		l.t.Log(strings.TrimRight(string(b), "\n"))
	}
	return len(b), nil
}

// Eventually waits until a condition holds and fails the test when it does not within limit.
func Eventually(t testing.TB, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		if holds() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}
