package testenv

import (
	"database/sql"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-sql-driver/mysql"

	"cartwright/internal/store"
)

// bufferSize is what a proxy carries at a time.
const bufferSize = 32 << 10

// Proxy stands between a client and a server, and breaks what is between them when asked. It
// knows nothing of what it carries.
type Proxy struct {
	listener net.Listener
	target   string
	hands    sync.WaitGroup

	requests, replies gate

	mu       sync.Mutex
	down     bool
	pairs    map[*pair]bool
	accepted int
	trips    int
}

// pair is a connection and its other half.
type pair struct {
	client, server net.Conn
	gone           chan struct{}
	once           sync.Once
	asking         atomic.Bool // the client spoke last
}

func (p *pair) close() {
	p.once.Do(func() {
		close(p.gone)
		p.client.Close()
		p.server.Close()
	})
}

// gate is what every byte of one direction passes.
type gate struct {
	mu     sync.Mutex
	opened chan struct{} // nil while the gate is open
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened == nil {
		g.opened = make(chan struct{})
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened != nil {
		close(g.opened)
		g.opened = nil
	}
}

// pass waits until the gate is open, and tells whether it was before gone.
func (g *gate) pass(gone <-chan struct{}) bool {
	g.mu.Lock()
	opened := g.opened
	g.mu.Unlock()
	if opened == nil {
		return true
	}
	select {
	case <-opened:
		return true
	case <-gone:
		return false
	}
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

// Accepted is how many connections there were so far.
func (p *Proxy) Accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
}

// Trips is how many times a client spoke after its server had: round trips, of what takes turns.
func (p *Proxy) Trips() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.trips
}

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

// Hold keeps every byte back, of old connections and of new ones, until Heal: a black hole.
func (p *Proxy) Hold() {
	p.requests.shut()
	p.replies.shut()
}

// Mute keeps back what the server says, until Heal: what it was asked, it does. With Drop after
// it, nobody ever hears what became of that.
func (p *Proxy) Mute() { p.replies.shut() }

// Say tells every client something, as if its server had.
func (p *Proxy) Say(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for pair := range p.pairs {
		_, _ = pair.client.Write(b) // one that is gone hears nothing
	}
}

// Heal carries connections again, and first what was kept back.
func (p *Proxy) Heal() {
	p.requests.open()
	p.replies.open()
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
		p.mu.Lock()
		p.accepted++
		p.mu.Unlock()
		p.hands.Go(func() { p.carry(client) })
	}
}

func (p *Proxy) carry(client net.Conn) {
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		client.Close()
		return
	}
	both := &pair{client: client, server: server, gone: make(chan struct{})}
	defer both.close()
	if !p.keep(both) {
		return
	}
	defer p.forget(both)
	var ways sync.WaitGroup
	ways.Go(func() {
		both.pump(server, client, &p.requests, func() {
			if !both.asking.Swap(true) {
				p.mu.Lock()
				p.trips++
				p.mu.Unlock()
			}
		})
	})
	ways.Go(func() { both.pump(client, server, &p.replies, func() { both.asking.Store(false) }) })
	ways.Wait()
}

// pump carries one direction until either end is gone, and tells of each piece before it goes on.
func (p *pair) pump(to io.Writer, from io.Reader, through *gate, tell func()) {
	defer p.close()
	buffer := make([]byte, bufferSize)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			tell()
			if !through.pass(p.gone) {
				return
			}
		}
		if _, writeErr := to.Write(buffer[:n]); err != nil || writeErr != nil {
			return
		}
	}
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
