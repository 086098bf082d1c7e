package rpc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"cartwright/internal/fault"
	"cartwright/internal/identity"
)

// revokedWithin is how soon a certificate that was taken back is refused.
const revokedWithin = 5 * time.Second

const life = 24 * time.Hour

// names of the tests' certificates: a server, two callers, and somebody who may not be called.
var subjects = []identity.Subject{{Name: "echo"}, {Name: "reader"}, {Name: "writer"}, {Name: "person", Person: true}}

// office is a directory of certificates, and a server that shows one of them.
type office struct {
	t    *testing.T
	dir  string
	addr string
	said *journal
}

type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) count(what string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.text.String(), what)
}

// allows lets everybody but reader call Say.
func allows(caller, called, method string) bool {
	return called == "echo" && (caller != "reader" && method == "/test.Echo/Say" || strings.HasPrefix(method, "/grpc.health."))
}

func certificates(t *testing.T, life time.Duration) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if _, err := (identity.Authority{Dir: dir, Life: life}).Ensure(subjects, nil); err != nil {
		t.Fatal(err)
	}
	return dir
}

// openOffice starts a server that shows the certificate of name.
func openOffice(t *testing.T, name string, allows func(caller, called, method string) bool) *office {
	t.Helper()
	o := &office{t: t, dir: certificates(t, life), addr: freeAddr(), said: &journal{}}
	o.serve(name, allows)
	return o
}

func (o *office) serve(name string, allows func(caller, called, method string) bool) {
	o.t.Helper()
	log := slog.New(slog.NewTextHandler(o.said, nil))
	self, err := identity.Open(identity.Settings{Dir: o.dir}, name, log)
	if err != nil {
		o.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	answer := says(func(_ context.Context, in string) (string, error) { return in, nil })
	server := Server{Addr: o.addr, Log: log, Identity: self, Allows: allows, Register: func(r grpc.ServiceRegistrar) { r.RegisterService(&echo, answer) }}
	go func() { ended <- server.Run(ctx) }()
	o.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			o.t.Error(err)
		}
	})
	for end := time.Now().Add(limit); ; {
		conn, err := net.Dial("tcp", o.addr)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(end) {
			o.t.Fatal(err)
		}
	}
}

// caller calls the server with a certificate of a directory.
func (o *office) caller(dir, name string) says {
	o.t.Helper()
	self, err := identity.Open(identity.Settings{Dir: dir}, name, slog.New(slog.NewTextHandler(o.said, nil)))
	if err != nil {
		o.t.Fatal(err)
	}
	conn, err := Dial(o.addr, self.Client("echo"))
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { conn.Close() })
	return func(ctx context.Context, in string) (string, error) {
		out := &wrapperspb.StringValue{}
		err := conn.Invoke(ctx, "/test.Echo/Say", wrapperspb.String(in), out, grpc.WaitForReady(false))
		return out.GetValue(), err
	}
}

// plain calls the server past our own client.
func (o *office) plain(creds credentials.TransportCredentials) error {
	o.t.Helper()
	conn, err := grpc.NewClient(o.addr, grpc.WithTransportCredentials(creds))
	if err != nil {
		o.t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(o.t.Context(), limit)
	defer cancel()
	return conn.Invoke(ctx, "/test.Echo/Say", wrapperspb.String("x"), &wrapperspb.StringValue{})
}

func (o *office) roots() *x509.CertPool {
	o.t.Helper()
	text, err := os.ReadFile(filepath.Join(o.dir, "ca.crt"))
	if err != nil {
		o.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return pool
}

func served(t *testing.T, say says) {
	t.Helper()
	for end := time.Now().Add(limit); ; {
		out, err := say(t.Context(), "hello")
		if err == nil && out == "hello" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not served: %v", err)
		}
	}
}

func refused(t *testing.T, say says) {
	t.Helper()
	for range 5 {
		if out, err := say(t.Context(), "hello"); !fault.Is(err, fault.Unavailable) {
			t.Fatalf("served: %q, %v", out, err)
		}
	}
}

// X1: no certificate, one of another authority, plain text, an old protocol, an ended one: refused.
// A good one: served.
func TestOnlyACertificateOfTheAuthorityIsServed(t *testing.T) {
	t.Parallel()
	o := openOffice(t, "echo", allows)
	served(t, o.caller(o.dir, "writer"))
	served(t, o.caller(o.dir, "person"))

	strange := certificates(t, life)
	pair, err := tls.LoadX509KeyPair(filepath.Join(strange, "writer.crt"), filepath.Join(strange, "writer.key"))
	if err != nil {
		t.Fatal(err)
	}
	own, err := tls.LoadX509KeyPair(filepath.Join(o.dir, "writer.crt"), filepath.Join(o.dir, "writer.key"))
	if err != nil {
		t.Fatal(err)
	}
	for name, creds := range map[string]credentials.TransportCredentials{
		"no certificate":       credentials.NewTLS(&tls.Config{RootCAs: o.roots(), ServerName: "echo"}),
		"of another authority": credentials.NewTLS(&tls.Config{RootCAs: o.roots(), ServerName: "echo", Certificates: []tls.Certificate{pair}}),
		"TLS 1.2":              credentials.NewTLS(&tls.Config{RootCAs: o.roots(), ServerName: "echo", Certificates: []tls.Certificate{own}, MaxVersion: tls.VersionTLS12}),
		"plain text":           insecure.NewCredentials(),
	} {
		if err := o.plain(creds); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := o.plain(credentials.NewTLS(&tls.Config{RootCAs: o.roots(), ServerName: "echo", Certificates: []tls.Certificate{own}})); err != nil {
		t.Errorf("another program with a good certificate: %v", err)
	}
	if o.said.count("caller refused at the handshake") == 0 {
		t.Error("the log does not say whom it refused")
	}
}

// X1: a certificate that has ended is refused at the handshake, and on a connection that is older.
func TestACertificateThatHasEndedIsRefused(t *testing.T) {
	t.Parallel()
	o := openOffice(t, "echo", allows)
	short := identity.Authority{Dir: o.dir, Life: 3 * time.Second}
	if _, err := short.Ensure(subjects, []string{"writer"}); err != nil {
		t.Fatal(err)
	}
	say := o.caller(o.dir, "writer")
	served(t, say) // when the server has read the new list
	within(t, revokedWithin+short.Life, say)
	refused(t, o.caller(o.dir, "writer"))
}

// within waits until calls are refused, on the connection that there is.
func within(t *testing.T, bound time.Duration, say says) {
	t.Helper()
	began := time.Now()
	for {
		if _, err := say(t.Context(), "hello"); err != nil {
			if !fault.Is(err, fault.Unavailable) {
				t.Errorf("%v, want silence: the caller is to ask again", err)
			}
			break
		}
		if time.Since(began) > bound {
			t.Fatalf("still served after %s", bound)
		}
	}
	t.Logf("refused after %s", time.Since(began).Round(time.Millisecond))
	refused(t, say)
}

func (o *office) rewrite(change func(string) string) {
	o.t.Helper()
	path := filepath.Join(o.dir, "allowed.txt")
	text, err := os.ReadFile(path)
	if err != nil {
		o.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(change(string(text))), 0o600); err != nil {
		o.t.Fatal(err)
	}
}

var writersLine = regexp.MustCompile(`(?m)^([0-9a-f]+)( writer .*\n)`)

// X2: who is taken off the list is refused within seconds, without a restart, on the connection
// that it has; and served again when it is back. A serial number with leading zeros is the same.
func TestATakenBackCertificateIsRefusedOnALiveConnection(t *testing.T) {
	t.Parallel()
	o := openOffice(t, "echo", allows)
	say, other := o.caller(o.dir, "writer"), o.caller(o.dir, "person")
	served(t, say)
	served(t, other)
	line := ""
	o.rewrite(func(text string) string {
		line = writersLine.FindString(text)
		return writersLine.ReplaceAllString(text, "")
	})
	within(t, revokedWithin, say)
	refused(t, o.caller(o.dir, "writer"))
	served(t, other)
	if o.said.count("is not on the list") == 0 {
		t.Error("the log does not say why")
	}
	o.rewrite(func(text string) string { return text + "00:" + strings.ToUpper(line[:1]) + line[1:] })
	served(t, say)
}

// X2: a serial number whose first digit is zero in other tools' eyes.
func TestASerialNumberWithALeadingZeroWorks(t *testing.T) {
	t.Parallel()
	o := &office{t: t, dir: certificates(t, life), addr: freeAddr(), said: &journal{}}
	for tries := 0; ; tries++ {
		states, err := identity.Authority{Dir: o.dir, Life: life}.Ensure(subjects, []string{"writer"})
		if err != nil || tries > 1000 {
			t.Fatal(tries, err)
		}
		if len(states[2].Serial)%2 == 1 {
			break // an odd number of digits: in bytes, the first digit is a zero
		}
	}
	o.rewrite(func(text string) string { return writersLine.ReplaceAllString(text, "0$1$2") })
	o.serve("echo", allows)
	served(t, o.caller(o.dir, "writer"))
}

func allEverything(string, string, string) bool { return true }

// X2: a stream that was let in once does not outlive its caller's certificate.
func TestAStreamEndsWhenItsCallerIsTakenBack(t *testing.T) {
	t.Parallel()
	o := openOffice(t, "echo", allEverything)
	self, err := identity.Open(identity.Settings{Dir: o.dir}, "writer", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(o.addr, grpc.WithTransportCredentials(self.Client("echo")))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), revokedWithin)
	defer cancel()
	stream, err := grpc_reflection_v1.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	exchange := func() error {
		err := stream.Send(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}})
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	if err := exchange(); err != nil {
		t.Fatal(err)
	}
	o.rewrite(func(text string) string { return writersLine.ReplaceAllString(text, "") })
	for err == nil {
		err = exchange()
	}
	if ctx.Err() != nil {
		t.Errorf("still heard after %s", revokedWithin)
	}
}

// X3: who may not make a call is told so, and it is not made; by default nobody may.
func TestACallerWithoutARightIsDenied(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]*office{"reader": openOffice(t, "echo", allows), "writer": openOffice(t, "echo", nil)} {
		pair, err := tls.LoadX509KeyPair(filepath.Join(o.dir, name+".crt"), filepath.Join(o.dir, name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		err = o.plain(credentials.NewTLS(&tls.Config{RootCAs: o.roots(), ServerName: "echo", Certificates: []tls.Certificate{pair}}))
		if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), name+" may not call /test.Echo/Say of echo") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// X1: a server that is another than the one that was called hears nothing, and the log names it.
func TestAServerThatIsAnotherIsNotCalled(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"reader", "person"} {
		o := openOffice(t, name, allEverything)
		refused(t, o.caller(o.dir, "writer"))
		if o.said.count("echo shows a wrong certificate") == 0 {
			t.Errorf("the log does not say that %s is not echo", name)
		}
	}
	o := &office{t: t, dir: certificates(t, life), addr: freeAddr(), said: &journal{}}
	alias := identity.Authority{Dir: o.dir, Life: life, Hosts: []string{"echo"}} // a host of that name is not the service
	if _, err := alias.Ensure(subjects, []string{"reader"}); err != nil {
		t.Fatal(err)
	}
	o.serve("reader", allEverything)
	refused(t, o.caller(o.dir, "writer"))
	if o.said.count("the certificate is of reader, and echo was called") == 0 {
		t.Error("the log does not say who it is")
	}
	o = openOffice(t, "echo", allows)
	refused(t, o.caller(certificates(t, life), "writer")) // its authority is another
}

// X6: a wrong certificate is tried again with growing pauses, and told of now and then.
func TestARefusedCallerPausesBetweenItsTries(t *testing.T) {
	t.Parallel()
	o := &office{t: t, dir: certificates(t, life), addr: freeAddr(), said: &journal{}}
	strange := certificates(t, life)
	pair, err := tls.LoadX509KeyPair(filepath.Join(strange, "echo.crt"), filepath.Join(strange, "echo.key"))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", o.addr, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	handshakes := make(chan int)
	go func() {
		n := 0
		for ; ; n++ {
			conn, err := listener.Accept()
			if err != nil {
				break
			}
			conn.(*tls.Conn).Handshake() //nolint:errcheck // it is to be refused
			conn.Close()
		}
		handshakes <- n
	}()
	say := o.caller(o.dir, "writer")
	calls := 0
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); calls++ {
		if _, err := say(t.Context(), "x"); err == nil {
			t.Fatal("served")
		}
	}
	listener.Close()
	if n := <-handshakes; n < 2 || n > 20 {
		t.Errorf("%d connections in 3 s for %d calls", n, calls)
	}
	if n := o.said.count("echo shows a wrong certificate"); n != 1 {
		t.Errorf("told %d times in 3 s of %d calls, want once", n, calls)
	}
	if o.said.count("PRIVATE KEY") > 0 {
		t.Error("a key is in the log")
	}
}

// Health can be asked by everybody who has a certificate, or clients could not find out who serves.
func TestHealthIsForEverybodyWithACertificate(t *testing.T) {
	t.Parallel()
	o := openOffice(t, "echo", allows)
	self, err := identity.Open(identity.Settings{Dir: o.dir}, "reader", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(o.addr, grpc.WithTransportCredentials(self.Client("echo")))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if _, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{}); err != nil {
		t.Error(err)
	}
}
