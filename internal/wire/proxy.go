// Package wire stands between a client and a server, and breaks what is between them when asked.
// It knows nothing of what it carries.
package wire

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// bufferSize is what a proxy carries at a time.
	bufferSize = 32 << 10
	// listenFrom is the address that clients of a proxy find.
	listenFrom = "127.0.0.1:0"
)

// Proxy carries connections to one server. All of its methods may be called from any goroutine.
type Proxy struct {
	listener net.Listener
	target   string
	hands    sync.WaitGroup

	requests, replies gate
	pace              pace

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

// reset ends a connection so that both sides are told of a reset, and not of an end.
func (p *pair) reset() {
	for _, side := range []net.Conn{p.client, p.server} {
		if conn, is := side.(*net.TCPConn); is {
			_ = conn.SetLinger(0) // of one that is closed already nothing is left to tell
		}
	}
	p.close()
}

// New starts a proxy in front of target, a host:port, on a free port of this machine.
func New(ctx context.Context, target string) (*Proxy, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listenFrom)
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: listener, target: target, pairs: map[*pair]bool{}}
	p.hands.Go(p.accept)
	return p, nil
}

// Close ends the proxy and all that it carries.
func (p *Proxy) Close() error {
	err := p.listener.Close()
	p.Cut()
	p.hands.Wait()
	return err
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Target is the host:port that it leads to.
func (p *Proxy) Target() string { return p.target }

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
func (p *Proxy) Drop() { p.each((*pair).close) }

// Reset ends all connections with a reset. New ones are carried.
func (p *Proxy) Reset() { p.each((*pair).reset) }

func (p *Proxy) each(do func(*pair)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for pair := range p.pairs {
		do(pair)
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

// Deafen keeps back what clients say, until Heal: the server is up, and hears nothing new.
func (p *Proxy) Deafen() { p.requests.shut() }

// Delay has every piece wait that long on its way, in both directions, until Heal.
func (p *Proxy) Delay(wait time.Duration) { p.pace.set(wait, 0) }

// Throttle carries that many bytes a second, of each connection and direction, until Heal.
func (p *Proxy) Throttle(bytesPerSecond int) { p.pace.set(0, bytesPerSecond) }

// Say tells every client something, as if its server had.
func (p *Proxy) Say(b []byte) {
	p.each(func(pair *pair) { _, _ = pair.client.Write(b) }) // one that is gone hears nothing
}

// Heal carries connections again, and first what was kept back.
func (p *Proxy) Heal() {
	p.pace.set(0, 0)
	p.requests.open()
	p.replies.open()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = false
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // one that was gone before it was taken
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
		p.pump(both, server, client, &p.requests, func() {
			if !both.asking.Swap(true) {
				p.mu.Lock()
				p.trips++
				p.mu.Unlock()
			}
		})
	})
	ways.Go(func() { p.pump(both, client, server, &p.replies, func() { both.asking.Store(false) }) })
	ways.Wait()
}

// pump carries one direction until either end is gone, and tells of each piece before it goes on.
func (p *Proxy) pump(both *pair, to io.Writer, from io.Reader, through *gate, tell func()) {
	defer both.close()
	buffer := make([]byte, bufferSize)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			tell()
			if !p.pace.wait(n, both.gone) || !through.pass(both.gone) {
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
