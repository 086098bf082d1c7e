package wire

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

const (
	// soon is room for a busy machine; never is how long nothing must come.
	soon  = 5 * time.Second
	never = 150 * time.Millisecond
)

// echo is a server that says what it is told, behind a proxy.
func echo(t *testing.T) *Proxy {
	t.Helper()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	go func() {
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				io.Copy(conn, conn) //nolint:errcheck // ends with the connection
			}()
		}
	}()
	p, err := New(t.Context(), server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func dial(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// hear says a word and returns what came back within the limit.
func hear(t *testing.T, conn net.Conn, word string, limit time.Duration) (string, error) {
	t.Helper()
	if _, err := conn.Write([]byte(word)); err != nil {
		return "", err
	}
	if err := conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 64)
	n, err := conn.Read(said)
	return string(said[:n]), err
}

func TestWhatIsKeptBackComesAfterTheHealing(t *testing.T) {
	t.Parallel()
	for name, keepBack := range map[string]func(*Proxy){"hold": (*Proxy).Hold, "mute": (*Proxy).Mute, "deafen": (*Proxy).Deafen} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := echo(t)
			conn := dial(t, p)
			if said, err := hear(t, conn, "a", soon); said != "a" {
				t.Fatalf("heard %q, %v", said, err)
			}
			keepBack(p)
			if said, err := hear(t, conn, "b", never); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("heard %q, %v, want nothing", said, err)
			}
			p.Heal()
			if said, err := hear(t, conn, "c", soon); said == "" || said[0] != 'b' {
				t.Errorf("heard %q, %v, want what was kept back", said, err)
			}
		})
	}
}

func TestACutEndsConnectionsAndRefusesNewOnes(t *testing.T) {
	t.Parallel()
	p := echo(t)
	conn := dial(t, p)
	hear(t, conn, "a", soon) //nolint:errcheck // only to be connected
	p.Cut()
	if said, err := hear(t, conn, "b", soon); err == nil {
		t.Errorf("an old connection heard %q", said)
	}
	if said, err := hear(t, dial(t, p), "b", soon); err == nil {
		t.Errorf("a new connection heard %q", said)
	}
	p.Heal()
	if said, err := hear(t, dial(t, p), "c", soon); said != "c" {
		t.Errorf("after the healing: heard %q, %v", said, err)
	}
	if n := p.Accepted(); n != 3 {
		t.Errorf("%d connections, want 3", n)
	}
}

func TestAResetIsNoEnd(t *testing.T) {
	t.Parallel()
	p := echo(t)
	conn := dial(t, p)
	hear(t, conn, "a", soon) //nolint:errcheck // only to be connected
	p.Reset()
	if err := conn.SetReadDeadline(time.Now().Add(soon)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: %v, want a reset", err)
	}
	if said, err := hear(t, dial(t, p), "b", soon); said != "b" {
		t.Errorf("a new connection heard %q, %v", said, err)
	}
}

func TestADelayAndAThrottleTakeTheirTime(t *testing.T) {
	t.Parallel()
	const least = 200 * time.Millisecond // both ways
	for name, slow := range map[string]func(*Proxy){
		"delay":    func(p *Proxy) { p.Delay(least / 2) },
		"throttle": func(p *Proxy) { p.Throttle(40) }, // 4 bytes, twice
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := echo(t)
			conn := dial(t, p)
			slow(p)
			began := time.Now()
			if said, err := hear(t, conn, "word", soon); said != "word" {
				t.Fatalf("heard %q, %v", said, err)
			}
			if took := time.Since(began); took < least {
				t.Errorf("took %s, want at least %s", took, least)
			}
		})
	}
}
