package testenv

import (
	"database/sql"
	"net/url"
	"testing"

	"github.com/go-sql-driver/mysql"

	"cartwright/internal/store"
	"cartwright/internal/wire"
)

// Proxy stands between a client and a server, and breaks what is between them when asked.
type Proxy = wire.Proxy

// NewProxy starts a proxy in front of target, a host:port. It ends with the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	p, err := wire.New(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// DatabaseProxy puts a proxy in front of the database server and returns the DSN that leads
// through it.
func DatabaseProxy(t testing.TB) (p *Proxy, dsn string) {
	t.Helper()
	admin, _ := Servers(t)
	cfg, err := mysql.ParseDSN(admin)
	if err != nil {
		t.Fatal(err)
	}
	p = NewProxy(t, cfg.Addr)
	cfg.Addr = p.Addr()
	return p, cfg.FormatDSN()
}

// OpenProxied opens one connection through a proxy to a database that exists.
func OpenProxied(t testing.TB, database string) (*sql.DB, *Proxy) {
	t.Helper()
	proxy, dsn := DatabaseProxy(t)
	db, err := store.Open(dsn, database, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := store.Ping(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	return db, proxy
}

// BrokerProxy puts a proxy in front of the broker and returns the URL that leads through it.
func BrokerProxy(t testing.TB) (p *Proxy, amqpURL string) {
	t.Helper()
	_, admin := Servers(t)
	u, err := url.Parse(admin)
	if err != nil {
		t.Fatal(err)
	}
	p = NewProxy(t, u.Host)
	u.Host = p.Addr()
	return p, u.String()
}
