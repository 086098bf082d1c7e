package tests

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"cartwright/internal/failpoint"
	"cartwright/internal/servers"
	"cartwright/internal/settings"
	"cartwright/internal/store"
	"cartwright/internal/testenv"
)

const (
	buildLimit = 10 * time.Minute
	// stopLimit is how long a service may take to finish what it has in hand.
	stopLimit = 40 * time.Second
)

// fleet is a shop whose replicas are processes of the real program, each service with accounts of
// its own in the database and at the broker, as migrate makes them.
type fleet struct {
	*shop
	program   string
	points    string // the folder in which each service has one for its failpoints; empty when it has none
	passwords []string
	logs      *journal
	running   map[string]*servers.Process // by service and replica
}

// journal keeps what all processes say.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// startOrder is the order in which services need each other; any other works too.
var startOrder = []string{"catalogue", "inventory", "payments", "cartmanager", "checkoutmanager", "gateway"}

// newFleet builds the program, migrates with it, starts everything and waits until it is ready.
// All of it ends with the test, and with this process, however that ends.
func newFleet(t testing.TB, o options) *fleet {
	t.Helper()
	f := &fleet{shop: prepareShop(t, o), program: build(t, o.tags), points: o.points, logs: &journal{}, running: map[string]*servers.Process{}}
	f.slack = fleetSlack
	f.env["LOG_LEVEL"] = "warn"
	maps.Copy(f.env, o.env)
	f.giveAccounts()
	f.migrate()
	t.Cleanup(f.killAll)
	for _, service := range startOrder {
		for i := range f.replicas[service] {
			f.start(service, i)
		}
	}
	for _, service := range startOrder {
		for i := range f.replicas[service] {
			f.awaitReady(service, i)
		}
	}
	return f
}

// build makes the program without the race detector, which would slow the processes down. tags are
// build tags, divided by commas.
func build(t testing.TB, tags string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), buildLimit)
	defer cancel()
	program := filepath.Join(t.TempDir(), "cartwright")
	if out, err := exec.CommandContext(ctx, "go", "build", "-tags", tags, "-o", program, "cartwright").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return program
}

// giveAccounts thinks up the accounts of each service.
func (f *fleet) giveAccounts() {
	f.t.Helper()
	for service := range runs {
		f.giveBrokerAccount(service)
		key := strings.ToUpper(service) + "_DSN"
		if service == "gateway" {
			delete(f.env, key)
			continue
		}
		cfg, err := mysql.ParseDSN(f.env[key])
		if err != nil {
			f.t.Fatal(err)
		}
		cfg.User, cfg.Passwd = f.namespace+service, rand.Text()
		f.env[key] = cfg.FormatDSN()
		f.passwords = append(f.passwords, cfg.Passwd)
		if f.namespace != "" { // else the server goes with it
			f.t.Cleanup(func() { dropAccount(f.t, f.adminDSN, cfg.User) })
		}
	}
}

func (f *fleet) giveBrokerAccount(service string) {
	f.t.Helper()
	u, err := url.Parse(f.env["AMQP_URL"])
	if err != nil {
		f.t.Fatal(err)
	}
	password := rand.Text()
	u.User = url.UserPassword(f.namespace+service, password)
	f.env[strings.ToUpper(service)+"_AMQP_URL"] = u.String()
	f.passwords = append(f.passwords, password)
	if f.namespace != "" { // else the broker goes with it
		testenv.DropBrokerAccount(f.t, f.namespace+service)
	}
}

func dropAccount(t testing.TB, adminDSN, user string) {
	db, err := store.Open(adminDSN, "", 1)
	if err != nil {
		t.Error(err)
		return
	}
	defer db.Close()
	if _, err := db.ExecContext(context.Background(), "DROP USER IF EXISTS ?@'%'", user); err != nil {
		t.Errorf("clean up: %v", err)
	}
}

func (f *fleet) migrate() {
	f.t.Helper()
	command := exec.CommandContext(f.t.Context(), f.program, "migrate")
	command.Env = append(f.environ("inventory", 0), settings.Prefix+"ADMIN_DSN="+f.adminDSN,
		settings.Prefix+"AMQP_URL="+f.brokerURL, settings.Prefix+"BROKER_ADMIN_URL="+f.brokerAdmin)
	if out, err := command.CombinedOutput(); err != nil {
		f.t.Fatalf("migrate: %v\n%s", err, out)
	}
}

// start runs one replica as a process, and does not wait for it.
func (f *fleet) start(service string, i int) {
	f.t.Helper()
	name := fmt.Sprint(service, "-", i)
	p, err := servers.Start(name, servers.Command{
		Path: f.program, Args: []string{service}, Env: append(f.environ(service, i), "PATH="+os.Getenv("PATH"), failpoint.Folder+"="+filepath.Join(f.points, service)),
		Dir: filepath.Dir(f.program), Output: f.logs, OnParentDeath: syscall.SIGKILL,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.running[name] = p
}

// kill ends one replica with SIGKILL: it can save nothing, and say goodbye to nobody.
func (f *fleet) kill(service string, i int) {
	f.t.Helper()
	if err := f.running[fmt.Sprint(service, "-", i)].Kill(); err != nil {
		f.t.Fatal(err)
	}
}

// stop asks one replica to end, with SIGTERM, and holds it to do so well and in time.
func (f *fleet) stop(service string, i int) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), stopLimit)
	defer cancel()
	began, p := time.Now(), f.running[fmt.Sprint(service, "-", i)]
	if err := p.Stop(ctx); err != nil {
		f.t.Error(err)
	}
	if err := p.Err(); err != nil {
		f.t.Errorf("%s did not end well: %v", service, err)
	}
	f.t.Logf("%s-%d stopped within %s", service, i, time.Since(began).Round(time.Millisecond))
}

func (f *fleet) killAll() {
	for _, p := range f.running {
		if err := p.Kill(); err != nil {
			f.t.Error(err)
		}
	}
	if f.t.Failed() {
		text := f.logs.String()
		f.t.Logf("the first and the last that the processes said:\n%s\n...\n%s", text[:min(len(text), 10_000)], text[max(0, len(text)-10_000):])
	}
}

// X6: no secret is ever written to a log.
func (f *fleet) keepsItsSecrets() {
	f.t.Helper()
	admin, err := mysql.ParseDSN(f.adminDSN)
	if err != nil {
		f.t.Fatal(err)
	}
	text := f.logs.String()
	for _, secret := range slices.Concat(f.passwords, []string{f.env["JOB_SECRET"], staffKey, admin.Passwd, f.brokerURL, f.brokerAdmin, "PRIVATE KEY"}) {
		if i := strings.Index(text, secret); i >= 0 {
			f.t.Errorf("a secret is in the log: %q", text[max(0, i-200):i])
		}
	}
	if len(text) == 0 {
		f.t.Error("the log is empty, so nothing is proved")
	}
}
