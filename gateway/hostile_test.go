package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cartwright/internal/testenv"
)

const (
	slowClients = 100
	idleClients = 1_000  // in every run
	idleFull    = 10_000 // in the long form
	// Each connection is two open files of this process; half of what it may open is left for others.
	filesEach = 4
	// spareBytes and spareRoutines are what may be in use beyond the idle level once all are gone.
	spareBytes    = 64 << 20
	spareRoutines = 50
	// goneLimit is far more than the ten seconds after which the server sends unused goroutines home.
	goneLimit = time.Minute
)

// siege is a gateway with clients that mean it no good.
type siege struct {
	t    *testing.T
	addr string
	mu   sync.Mutex
	open []net.Conn
}

func (s *siege) dial() net.Conn {
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Error(err)
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = append(s.open, conn)
	return conn
}

// trickle sends a request that never ends, a few bytes at a time, until it is cut off.
func (s *siege) trickle(head, drop string, pause time.Duration) {
	conn := s.dial()
	if conn == nil {
		return
	}
	_, err := io.WriteString(conn, head)
	for err == nil {
		time.Sleep(pause)
		_, err = io.WriteString(conn, drop)
	}
}

// answerTo sends bytes and returns the status of the answer; 0 when the connection was closed instead.
func (s *siege) answerTo(request string) int {
	conn := s.dial()
	if conn == nil {
		return 0
	}
	conn.SetDeadline(time.Now().Add(startLimit)) //nolint:errcheck // then reading fails
	go io.WriteString(conn, request)             //nolint:errcheck // it may be refused before its end
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// X7: with thousands who connect and say nothing, hundreds who send a request that never ends, and some
// whose requests are huge, everybody else is served. The slow are cut off, the huge are told why, and
// when they have gone nothing of them is left.
func TestHostileClientsHinderNobody(t *testing.T) {
	g, _ := withoutBroker(t)
	addr := testenv.FreeAddress(t)
	stop := run(t, func(ctx context.Context) error { return g.serve(ctx, addr) })
	good := &http.Client{Timeout: startLimit, Transport: &http.Transport{DisableKeepAlives: true}}
	s := &siege{t: t, addr: addr}
	testenv.Eventually(t, startLimit, "the door is open", func() bool { return served(good, addr) == nil })
	routines, bytes := idleLevel()

	for range idleConnections(t) {
		s.dial()
	}
	var slow sync.WaitGroup
	var cut atomic.Int32
	for _, kind := range []struct{ head, drop string }{
		{"GET /v1/carts/jo HTTP/1.1\r\nHost: shop\r\n", "X-A: b\r\n"}, // slowloris
		{"POST /addToCart HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n{", " "},
		{"POST /addToCart HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n"},
	} {
		for range slowClients {
			slow.Go(func() { s.trickle(kind.head, kind.drop, 200*time.Millisecond); cut.Add(1) })
		}
	}
	s.huge()
	for range 50 {
		if err := served(good, addr); err != nil {
			t.Fatalf("a good client: %v", err)
		}
	}
	slow.Wait() // all of them were cut off
	if n := cut.Load(); n != 3*slowClients {
		t.Errorf("%d slow clients were cut off, want %d", n, 3*slowClients)
	}
	if err := served(good, addr); err != nil {
		t.Errorf("a good client afterwards: %v", err)
	}
	for _, conn := range s.open {
		conn.Close()
	}
	testenv.Eventually(t, goneLimit, "nothing is left of them", func() bool {
		r, b := idleLevel()
		return r <= routines+spareRoutines && b <= bytes+spareBytes
	})
	stop()
}

// huge sends what is too large in every way there is.
func (s *siege) huge() {
	s.t.Helper()
	post := "POST /addToCart HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\n"
	deep := strings.Repeat("[", bodyMax/2)
	for name, c := range map[string]struct {
		request string
		status  int
	}{
		"flood of headers":    {"GET /v1/carts/jo HTTP/1.1\r\nHost: shop\r\n" + strings.Repeat("X-A: b\r\n", 100_000) + "\r\n", 431},
		"endless chunks":      {post + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("400\r\n"+strings.Repeat(" ", 1024)+"\r\n", 4096), 413},
		"one large chunk":     {post + "Transfer-Encoding: chunked\r\n\r\n10000000\r\n" + strings.Repeat(" ", 1<<20), 413},
		"a chunk of no size":  {post + "Transfer-Encoding: chunked\r\n\r\n7fffffffffffffff\r\n" + strings.Repeat(" ", 1<<20), 400},
		"promise of a large":  {post + "Content-Length: 9223372036854775807\r\n\r\n" + strings.Repeat(" ", 1<<20), 413},
		"deep JSON":           {post + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(deep)) + deep, 400},
		"deep JSON of a name": {post + fmt.Sprintf("Content-Length: %d\r\n\r\n", 12+len(deep)) + `{"clientID":` + deep, 400},
	} {
		if status := s.answerTo(c.request); status != c.status {
			s.t.Errorf("%s: got %d, want %d", name, status, c.status)
		}
	}
}

// served asks for something that every customer asks for.
func served(client *http.Client, addr string) error {
	resp, err := client.Get("http://" + addr + "/v1/orders?clientID=jo")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %d", resp.StatusCode)
	}
	return nil
}

// idleConnections is how many this process can open.
func idleConnections(t *testing.T) int {
	t.Helper()
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	n := idleClients
	if os.Getenv("CARTWRIGHT_TEST_FULL") == "1" {
		n = idleFull
	}
	n = min(n, int(files.Cur)/filesEach)
	t.Logf("%d idle connections", n)
	return n
}

// idleLevel is what this process has in use.
func idleLevel() (routines int, bytes uint64) {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return runtime.NumGoroutine(), m.HeapInuse
}
