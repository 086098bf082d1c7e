package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	amqp "github.com/rabbitmq/amqp091-go"

	"cartwright/internal/messaging"
	"cartwright/internal/store"
	"cartwright/internal/testenv"
	"cartwright/jobs"
)

const soon = 30 * time.Second

// site is a corner of the servers that migrate is to set up: a namespace, and accounts that nobody
// has made yet.
type site struct {
	t        *testing.T
	settings migrateSettings
	topology messaging.Topology
	urls     map[string]string // of the broker accounts, by service
	dsns     map[string]string // of the database accounts, by service
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, urls: map[string]string{}, dsns: map[string]string{}}
	m := &s.settings
	m.AdminDSN, m.Broker.URL = testenv.Servers(t)
	m.BrokerAdminURL, m.Broker.Namespace = testenv.BrokerAdmin(t), testenv.Namespace(t)
	s.topology = jobs.Topology(m.Broker.Namespace)
	for _, a := range s.topology.Accounts {
		s.urls[a.Service] = testenv.BrokerAccount(t, m.Broker.Namespace+a.Service)
		s.dsns[a.Service] = s.newDSN(m.Broker.Namespace + a.Service)
	}
	m.ReaderDSN = s.newDSN(m.Broker.Namespace + "reader")
	s.hand()
	t.Cleanup(s.remove)
	return s
}

// hand gives migrate the accounts.
func (s *site) hand() {
	m := &s.settings
	m.GatewayURL, m.InventoryURL, m.CartmanagerURL = s.urls["gateway"], s.urls["inventory"], s.urls["cartmanager"]
	m.CheckoutmanagerURL, m.PaymentsURL, m.CatalogueURL = s.urls["checkoutmanager"], s.urls["payments"], s.urls["catalogue"]
	m.InventoryDSN, m.CartmanagerDSN, m.CheckoutmanagerDSN = s.dsns["inventory"], s.dsns["cartmanager"], s.dsns["checkoutmanager"]
	m.PaymentsDSN, m.CatalogueDSN = s.dsns["payments"], s.dsns["catalogue"]
}

func (s *site) newDSN(user string) string {
	cfg, err := mysql.ParseDSN(s.settings.AdminDSN)
	if err != nil {
		s.t.Fatal(err)
	}
	cfg.User, cfg.Passwd = user, rand.Text()
	return cfg.FormatDSN()
}

// remove takes away what testenv does not.
func (s *site) remove() {
	if conn, err := amqp.Dial(s.settings.Broker.URL); err == nil {
		s.topology.Delete(conn) //nolint:errcheck // a test may have deleted some of it
		conn.Close()
	}
	db, err := store.Open(s.settings.AdminDSN, "", 1)
	if err != nil {
		s.t.Error(err)
		return
	}
	defer db.Close()
	for _, user := range []string{"inventory", "cartmanager", "checkoutmanager", "payments", "catalogue", "gateway", "reader"} {
		if _, err := db.ExecContext(context.Background(), "DROP USER IF EXISTS ?@'%'", s.settings.Broker.Namespace+user); err != nil {
			s.t.Error(err)
		}
	}
}

func (s *site) migrate() (said string) {
	s.t.Helper()
	var out bytes.Buffer
	if err := migrate(s.t.Context(), &out, s.settings); err != nil {
		s.t.Fatal(err)
	}
	return out.String()
}

// letsIn tells whether the broker lets an account in.
func letsIn(amqpURL string) bool {
	conn, err := amqp.Dial(amqpURL)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

func withPassword(t *testing.T, address, password string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(u.User.Username(), password)
	return u.String()
}

// Z11, X6: migrate says what it did; twice is once; a password that was changed in the settings is
// changed at the servers.
func TestMigrateMayRunAgainAndChangesPasswords(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	said := s.migrate()
	for _, line := range []string{"carts is at version 2", "all exchanges and queues are there", "gateway: broker account " + s.settings.Broker.Namespace + "gateway was made"} {
		if !strings.Contains(said, line) {
			t.Errorf("it does not say %q:\n%s", line, said)
		}
	}
	before := s.urls["gateway"]
	s.urls["gateway"] = withPassword(t, before, rand.Text()+"/ ä%?#")
	s.hand()
	if said := s.migrate(); !strings.Contains(said, "gateway was brought up to date") || strings.Contains(said, "was made") {
		t.Errorf("the second time, it says:\n%s", said)
	}
	if letsIn(before) || !letsIn(s.urls["gateway"]) || !letsIn(s.urls["payments"]) {
		t.Errorf("old password %v, new password %v, untouched one %v", letsIn(before), letsIn(s.urls["gateway"]), letsIn(s.urls["payments"]))
	}
	for _, secret := range []string{"amqp://", s.settings.BrokerAdminURL} {
		if strings.Contains(said, secret) {
			t.Errorf("it gives a secret away:\n%s", said)
		}
	}
}

// An account that everything is done with is left as it is: or migrate would take its own rights.
func TestMigrateLeavesTheAdministratorAlone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.settings.CatalogueURL, s.settings.CatalogueDSN = s.settings.Broker.URL, s.settings.AdminDSN
	for range 2 {
		if said := s.migrate(); !strings.Contains(said, "left alone") {
			t.Errorf("it says:\n%s", said)
		}
	}
}

// Z2: the broker may start after migrate; a wrong account is told at once, without its password.
func TestMigrateWaitsForTheBrokerAndNotForAWrongPassword(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	u, err := url.Parse(s.settings.BrokerAdminURL)
	if err != nil {
		t.Fatal(err)
	}
	late := testenv.NewProxy(t, u.Host)
	late.Cut()
	u.Host = late.Addr()
	s.settings.BrokerAdminURL = u.String()
	heal := time.AfterFunc(2*time.Second, late.Heal)
	defer heal.Stop()
	s.migrate()

	for _, wrong := range []struct{ address, want string }{
		{withPassword(t, u.String(), "a-wrong-secret"), "wrong user or password"},
		{"http://user:a-wrong-secret@[::1/", "must be http://user:password@host:port"},
	} {
		s.settings.BrokerAdminURL = wrong.address
		began := time.Now()
		err := migrate(t.Context(), &bytes.Buffer{}, s.settings)
		if err == nil || !strings.Contains(err.Error(), wrong.want) || strings.Contains(err.Error(), "a-wrong-secret") || time.Since(began) > soon {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
	}
}

// dev and migrate share one environment; a service of dev gets its own account out of it.
func TestAServiceTakesItsOwnBrokerAccount(t *testing.T) {
	t.Parallel()
	environ := []string{"CARTWRIGHT_AMQP_URL=chief", "CARTWRIGHT_GATEWAY_AMQP_URL_FILE=/own", "CARTWRIGHT_PAYMENTS_AMQP_URL=", "PATH=/bin"}
	for service, want := range map[string]string{
		"gateway":  "CARTWRIGHT_PAYMENTS_AMQP_URL= PATH=/bin CARTWRIGHT_AMQP_URL_FILE=/own",
		"payments": strings.Join(environ, " "),
	} {
		if got := strings.Join(withOwnBroker(environ, service), " "); got != want {
			t.Errorf("%s gets %q, want %q", service, got, want)
		}
	}
}

// No account exists at the broker that nobody asked for.
func TestThereIsNoGuest(t *testing.T) {
	t.Parallel()
	_, admin := testenv.Servers(t)
	u, err := url.Parse(admin)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("guest", "guest")
	if host, _, err := net.SplitHostPort(u.Host); err != nil || host != "127.0.0.1" {
		t.Fatalf("the broker is at %s: elsewhere than here, guest is not let in anyway", u.Host)
	}
	if letsIn(u.String()) {
		t.Error("guest was let in")
	}
}
