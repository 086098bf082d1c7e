package testenv

import (
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/go-sql-driver/mysql"
)

// Proxy stands between a client and a server, and breaks what is between them when asked. It
// knows nothing of what it carries.
type Proxy struct {
	listener net.Listener
	target   string
	hands    sync.WaitGroup

	mu    sync.Mutex
	down  bool
	pairs map[*pair]bool
}

// pair is a connection and its other half.
type pair struct{ client, server net.Conn }

func (p *pair) close() {
	p.client.Close()
	p.server.Close()
}

// NewProxy starts a proxy in front of target, a host:port. It ends with the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{listener: listener, target: target, pairs: map[*pair]bool{}}
	p.hands.Go(p.accept)
	t.Cleanup(func() {
		listener.Close()
		p.Cut()
		p.hands.Wait()
	})
	return p
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Drop closes all connections. New ones are carried.
func (p *Proxy) Drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for pair := range p.pairs {
		pair.close()
	}
}

// Cut closes all connections, and new ones at once, until Heal.
func (p *Proxy) Cut() {
	p.mu.Lock()
	p.down = true
	p.mu.Unlock()
	p.Drop()
}

// Heal carries connections again.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = false
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.hands.Go(func() { p.carry(client) })
	}
}

func (p *Proxy) carry(client net.Conn) {
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		client.Close()
		return
	}
	both := &pair{client, server}
	defer both.close()
	if !p.keep(both) {
		return
	}
	defer p.forget(both)
	var ways sync.WaitGroup
	for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
		ways.Go(func() {
			io.Copy(way[0], way[1]) //nolint:errcheck // a broken connection is what a proxy is for
			both.close()
		})
	}
	ways.Wait()
}

func (p *Proxy) keep(both *pair) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down {
		return false
	}
	p.pairs[both] = true
	return true
}

func (p *Proxy) forget(both *pair) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.pairs, both)
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
