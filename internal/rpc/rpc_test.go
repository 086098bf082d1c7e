package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"cartwright/internal/debugport"
	"cartwright/internal/fault"
	"cartwright/internal/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const limit = 40 * time.Second

// says is a service of one method, which gets a string and answers one.
type says func(ctx context.Context, in string) (string, error)

var echo = grpc.ServiceDesc{ServiceName: "test.Echo", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{MethodName: "Say", Handler: say}}}

func say(srv any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
	in := &wrapperspb.StringValue{}
	if err := decode(in); err != nil {
		return nil, err
	}
	return intercept(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: "/test.Echo/Say"}, func(ctx context.Context, in any) (any, error) {
		out, err := srv.(says)(ctx, in.(*wrapperspb.StringValue).GetValue())
		return wrapperspb.String(out), err
	})
}

// serve runs a server until stop, or the end of the test, on an address that nobody else uses.
func serve(t *testing.T, answer says, checks ...debugport.Check) (addr string, stop func()) {
	t.Helper()
	addr = freeAddr()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	server := Server{Addr: addr, Identity: identity.Insecure(), Log: slog.New(slog.DiscardHandler), Checks: checks, Register: func(r grpc.ServiceRegistrar) { r.RegisterService(&echo, answer) }}
	go func() { ended <- server.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return addr, stop
}

func freeAddr() string {
	return fmt.Sprintf("127.%d.%d.%d:9000", 1+rand.IntN(250), 1+rand.IntN(250), 1+rand.IntN(250))
}

// dial makes a client and waits until somebody answers it.
func dial(t *testing.T, addr string) says {
	t.Helper()
	say := connect(t, addr)
	for end := time.Now().Add(limit); ; {
		if _, err := say(t.Context(), "hello"); err == nil || time.Now().After(end) {
			return say
		}
	}
}

func connect(t *testing.T, addr string) says {
	conn := dialled(t, addr)
	return func(ctx context.Context, in string) (string, error) {
		out := &wrapperspb.StringValue{}
		err := conn.Invoke(ctx, "/test.Echo/Say", wrapperspb.String(in), out)
		return out.GetValue(), err
	}
}

func dialled(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := Dial(addr, identity.Insecure().Client("echo"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// unless gives the greeting back, and hands everything else to then.
func unless(then says) says {
	return func(ctx context.Context, in string) (string, error) {
		if in == "hello" {
			return in, nil
		}
		return then(ctx, in)
	}
}

func TestErrorsKeepTheirKind(t *testing.T) {
	t.Parallel()
	addr, _ := serve(t, unless(func(context.Context, string) (string, error) {
		return "", fmt.Errorf("order 1: %w", fault.New(fault.Refused, "out_of_stock", "no tea left").With("product", "tea"))
	}))
	_, err := dial(t, addr)(t.Context(), "x")
	if got := fault.As(err); got.Kind != fault.Refused || got.Code != "out_of_stock" || got.Details["product"] != "tea" {
		t.Errorf("%+v", got)
	}
}

func TestPanicIsAnInternalErrorWhoseWordsStayHere(t *testing.T) {
	t.Parallel()
	addr, _ := serve(t, unless(func(context.Context, string) (string, error) { panic("password hunter2") }))
	say := dial(t, addr)
	_, err := say(t.Context(), "x")
	if !fault.Is(err, fault.Internal) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
	if out, err := say(t.Context(), "hello"); out != "hello" || err != nil {
		t.Errorf("the next call: %q, %v", out, err)
	}
}

func TestDeadlineTravels(t *testing.T) {
	t.Parallel()
	lefts := make(chan time.Duration, 1)
	addr, _ := serve(t, unless(func(ctx context.Context, _ string) (string, error) {
		deadline, _ := ctx.Deadline()
		lefts <- time.Until(deadline)
		<-ctx.Done()
		return "", ctx.Err()
	}))
	say := dial(t, addr)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := say(ctx, "x"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("%v, want silence", err)
	}
	if left := <-lefts; left <= 0 || left > 300*time.Millisecond {
		t.Errorf("%s were left", left)
	}
}

func TestCallWithoutADeadlineGetsOne(t *testing.T) {
	t.Parallel()
	lefts := make(chan time.Duration, 1)
	addr, _ := serve(t, unless(func(ctx context.Context, _ string) (string, error) {
		deadline, _ := ctx.Deadline()
		lefts <- time.Until(deadline)
		return "", nil
	}))
	if _, err := dial(t, addr)(context.WithoutCancel(t.Context()), "x"); err != nil {
		t.Fatal(err)
	}
	if left := <-lefts; left <= 0 || left > callTimeout {
		t.Errorf("%s were left", left)
	}
}

func TestStoppingFinishesTheCallInHand(t *testing.T) { // Z12
	t.Parallel()
	begun, finish := make(chan struct{}), make(chan struct{})
	addr, stop := serve(t, unless(func(context.Context, string) (string, error) {
		close(begun)
		<-finish
		return "finished", nil
	}))
	say := dial(t, addr)
	answer := make(chan error, 1)
	go func() {
		out, err := say(t.Context(), "x")
		if err == nil && out != "finished" {
			err = errors.New(out)
		}
		answer <- err
	}()
	<-begun
	time.AfterFunc(100*time.Millisecond, func() { close(finish) })
	stop()
	if err := <-answer; err != nil {
		t.Errorf("the call in hand: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := say(ctx, "hello"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a call after the stop: %v", err)
	}
}

func TestNobodyHomeIsSilence(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if _, err := connect(t, freeAddr())(ctx, "x"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("%v", err)
	}
	if _, err := Dial("dns://\x00", identity.Insecure().Client("echo")); err == nil {
		t.Error("an address that is none was accepted")
	}
}

// Nobody notices a change of replicas: calls go round the replicas that serve, and past the one that
// is gone or says that it cannot.
func TestCallsGoRoundTheReplicasThatServe(t *testing.T) { // Z3
	t.Parallel()
	heard := [2]atomic.Int32{}
	counting := func(i int) says {
		return func(_ context.Context, in string) (string, error) { heard[i].Add(1); return in, nil }
	}
	var ill atomic.Bool
	check := debugport.Check{Name: "database", Ask: func(context.Context) error {
		if ill.Load() {
			return errors.New("gone")
		}
		return nil
	}}
	first, _ := serve(t, counting(0), check)
	second, stopSecond := serve(t, counting(1))
	say := dial(t, first+", "+second+","+freeAddr())
	both := func() bool { return heard[0].Load() > 10 && heard[1].Load() > 10 }
	calls(t, say, "both replicas are asked", both)

	ill.Store(true)
	since := heard[0].Load()
	calls(t, say, "the ill replica is left alone", func() bool {
		before := heard[0].Load()
		quiet := before == since
		since = before
		return quiet
	})
	ill.Store(false)
	heard[0].Store(0)
	heard[1].Store(0)
	calls(t, say, "both replicas are asked again", both)
	stopSecond()
	heard[0].Store(0)
	calls(t, say, "one replica does it all", func() bool { return heard[0].Load() > 100 })
}

// calls makes bunches of calls, none of which may fail, until a condition holds.
func calls(t *testing.T, say says, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); {
		for range 50 {
			if _, err := say(t.Context(), "hello"); err != nil {
				t.Fatalf("until %s: %v", what, err)
			}
		}
		if holds() {
			return
		}
	}
	t.Fatalf("not in time: %s", what)
}

func TestHealthFollowsTheChecks(t *testing.T) { // Z6
	t.Parallel()
	var ill atomic.Bool
	addr, _ := serve(t, unless(nil), debugport.Check{Name: "database", Ask: func(context.Context) error {
		if ill.Load() {
			return errors.New("gone")
		}
		return nil
	}})
	// Not one of our own clients: they leave a replica that is ill alone.
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	health := grpc_health_v1.NewHealthClient(conn)
	wait := func(want grpc_health_v1.HealthCheckResponse_ServingStatus) {
		t.Helper()
		var got grpc_health_v1.HealthCheckResponse_ServingStatus
		for end := time.Now().Add(limit); time.Now().Before(end); {
			answer, err := health.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}, grpc.WaitForReady(true))
			if got = answer.GetStatus(); err == nil && got == want {
				return
			}
		}
		t.Errorf("health is %v, want %v", got, want)
	}
	wait(grpc_health_v1.HealthCheckResponse_SERVING)
	ill.Store(true)
	wait(grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	ill.Store(false)
	wait(grpc_health_v1.HealthCheckResponse_SERVING)
}

func TestReflectionListsTheServices(t *testing.T) { // Z6
	t.Parallel()
	addr, _ := serve(t, unless(nil))
	dial(t, addr)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	stream, err := grpc_reflection_v1.NewServerReflectionClient(dialled(t, addr)).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	answer, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range answer.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	if all := strings.Join(names, " "); !strings.Contains(all, "test.Echo") || !strings.Contains(all, "grpc.health.v1.Health") {
		t.Errorf("%s", all)
	}
}

func TestTakenPortIsAnError(t *testing.T) {
	t.Parallel()
	err := Server{Addr: "127.0.0.1:notaport"}.Run(t.Context())
	if err == nil || !strings.HasPrefix(err.Error(), "gRPC port: ") {
		t.Errorf("%v", err)
	}
}
