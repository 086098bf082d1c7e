package inventory

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"cartwright/internal/fault"
	"cartwright/internal/identity"
	"cartwright/internal/messaging"
	"cartwright/internal/rpc"
	"cartwright/internal/settings"
	"cartwright/internal/testenv"
	"cartwright/jobs"
	"cartwright/proto/inventorypb"
	schema "cartwright/sql"
)

// process is the whole service, run as main runs it.
type process struct {
	inventorypb.InventoryClient
	conn     *grpc.ClientConn // of any client, not ours: it sees plain statuses
	settings Settings
	door     *door // to its database
}

// start runs the service until the test ends.
func start(t *testing.T) process {
	t.Helper()
	namespace := testenv.Namespace(t)
	db := testenv.Database(t, namespace, schema.Inventory)
	ok(t, db.PingContext(t.Context()))
	testenv.Topology(t, jobs.Topology(namespace))
	dsn, url := testenv.Servers(t)
	door := newDoor(t, between(dsn, "tcp(", ")"))
	p := process{door: door}
	ok(t, settings.Load([]string{
		"CARTWRIGHT_AMQP_URL=" + url,
		"CARTWRIGHT_NAMESPACE=" + namespace,
		"CARTWRIGHT_INSECURE=true",
		"CARTWRIGHT_INVENTORY_DSN=" + strings.Replace(dsn, between(dsn, "tcp(", ")"), door.Addr().String(), 1),
		"CARTWRIGHT_INVENTORY_LISTEN=" + testenv.FreeAddress(t),
		"CARTWRIGHT_INVENTORY_DEBUG_LISTEN=" + testenv.FreeAddress(t),
		"CARTWRIGHT_INVENTORY_RESERVATION_TTL=2s",
	}, &p.settings))
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, testenv.Log(t), p.settings) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the service ended with %v", err)
		}
	})
	conn, err := grpc.NewClient(p.settings.Listen, grpc.WithTransportCredentials(insecure.NewCredentials()))
	ok(t, err)
	t.Cleanup(func() { conn.Close() })
	p.conn, p.InventoryClient = conn, inventorypb.NewInventoryClient(conn)
	testenv.Eventually(t, 10*time.Second, "ready", func() bool { code, _ := p.debug("/readyz"); return code == http.StatusOK && p.serving() })
	return p
}

func between(s, before, after string) string {
	_, s, _ = strings.Cut(s, before)
	s, _, _ = strings.Cut(s, after)
	return s
}

// debug asks the debug port.
func (p process) debug(path string) (code int, body string) {
	resp, err := http.Get("http://" + p.settings.DebugListen + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	all, _ := io.ReadAll(resp.Body)
	http.DefaultClient.CloseIdleConnections()
	return resp.StatusCode, string(all)
}

func (p process) serving() bool {
	resp, err := grpc_health_v1.NewHealthClient(p.conn).Check(context.Background(), &grpc_health_v1.HealthCheckRequest{})
	return err == nil && resp.GetStatus() == grpc_health_v1.HealthCheckResponse_SERVING
}

func (p process) receive(t *testing.T, product string, units int64) {
	t.Helper()
	_, err := p.Adjust(t.Context(), &inventorypb.AdjustRequest{ProductId: product, Delta: units})
	ok(t, err)
}

// I2 over the wire: any client in any language can read why not, and how much is left.
func TestARefusalCarriesItsDetails(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.receive(t, "tea", 3)
	_, err := p.Reserve(t.Context(), reserveRequest("r", "tea", 4))
	st := status.Convert(err)
	if st.Code() != codes.FailedPrecondition || st.Message() != "only 3 of tea left" {
		t.Errorf("got %v", st)
	}
	info := detail[*errdetails.ErrorInfo](t, st)
	if info.GetReason() != "out_of_stock" || info.GetMetadata()["product"] != "tea" || info.GetMetadata()["available"] != "3" {
		t.Errorf("got %v", info)
	}

	conn, err := rpc.Dial(p.settings.Listen, identity.Insecure().Client("inventory")) // our own client gets the same error back whole
	ok(t, err)
	defer conn.Close()
	_, err = inventorypb.NewInventoryClient(conn).Reserve(t.Context(), reserveRequest("r", "tea", 4))
	if e := want(t, err, fault.Refused, "out_of_stock"); e.Details["available"] != "3" {
		t.Errorf("details %v", e.Details)
	}
}

func detail[D any](t *testing.T, st *status.Status) (none D) {
	t.Helper()
	for _, d := range st.Details() {
		if found, ok := d.(D); ok {
			return found
		}
	}
	t.Fatalf("%v has no %T", st, none)
	return none
}

// X5: SQL in a name is no name.
func TestQuotesAreNoIdentifier(t *testing.T) {
	t.Parallel()
	p := start(t)
	const evil = "x' OR '1'='1"
	reserve := func(id, product string) error {
		_, err := p.Reserve(t.Context(), reserveRequest(id, product, 1))
		return err
	}
	_, availability := p.GetAvailability(t.Context(), &inventorypb.GetAvailabilityRequest{ProductIds: []string{"tea", evil}})
	_, committed := p.Commit(t.Context(), &inventorypb.CommitRequest{ReservationId: evil})
	_, rolledBack := p.Rollback(t.Context(), &inventorypb.RollbackRequest{ReservationId: evil})
	_, adjusted := p.Adjust(t.Context(), &inventorypb.AdjustRequest{ProductId: evil, Delta: 1})
	for field, err := range map[string]error{
		"product_ids[1]":      availability,
		"lines[0].product_id": reserve("r", evil),
		"reservation_id":      reserve(evil, "tea"),
		"reservation_id ":     committed,
		"reservation_id  ":    rolledBack,
		"product_id":          adjusted,
	} {
		st := status.Convert(err)
		if st.Code() != codes.InvalidArgument {
			t.Errorf("%s: got %v, want InvalidArgument", field, st)
			continue
		}
		violations := detail[*errdetails.BadRequest](t, st).GetFieldViolations()
		if got := violations[0].GetField(); got != strings.TrimSpace(field) {
			t.Errorf("field %q, want %q", got, field)
		}
	}
}

// I12 over the wire.
func TestADeadlineIsHonouredOverTheWire(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.receive(t, "tea", 3)
	db := testenv.Open(t, p.settings.Broker.Namespace+schema.Inventory)
	free := shop{t: t, books: books{db: db}}.block("tea")
	defer free()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := p.Reserve(ctx, reserveRequest("r", "tea", 1))
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("got %v, want DeadlineExceeded", err)
	}
}

// Z6
func TestReflectionListsTheService(t *testing.T) {
	t.Parallel()
	p := start(t)
	stream, err := grpc_reflection_v1.NewServerReflectionClient(p.conn).ServerReflectionInfo(t.Context())
	ok(t, err)
	ok(t, stream.Send(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}}))
	resp, err := stream.Recv()
	ok(t, err)
	ok(t, stream.CloseSend())
	var services []string
	for _, s := range resp.GetListServicesResponse().GetService() {
		services = append(services, s.GetName())
	}
	if !slices.Contains(services, "cartwright.inventory.v1.Inventory") || !slices.Contains(services, "grpc.health.v1.Health") {
		t.Errorf("services %v", services)
	}
}

// Z6, Z7: without its database the service says so, answers at once that it cannot, and goes on
// by itself when the database is back.
func TestTheServiceOutlivesItsDatabasesAbsence(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.receive(t, "tea", 3)
	p.door.shut()
	testenv.Eventually(t, 5*time.Second, "not serving", func() bool { return !p.serving() })
	if code, body := p.debug("/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "database") {
		t.Errorf("ready: %d %s", code, body)
	}
	if code, _ := p.debug("/livez"); code != http.StatusOK {
		t.Errorf("live: %d", code)
	}
	_, err := p.Reserve(t.Context(), reserveRequest("r", "tea", 1))
	if code := status.Code(err); code != codes.Unavailable {
		t.Errorf("got %v, want Unavailable", err)
	}
	p.door.open()
	testenv.Eventually(t, 5*time.Second, "serving", p.serving)
	_, err = p.Reserve(t.Context(), reserveRequest("r", "tea", 1))
	ok(t, err)
}

// I7, with nobody's help.
func TestTheRunningServiceSweeps(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.receive(t, "tea", 3)
	_, err := p.Reserve(t.Context(), reserveRequest("r", "tea", 3))
	ok(t, err)
	testenv.Eventually(t, 10*time.Second, "back on the shelf", func() bool {
		resp, err := p.GetAvailability(t.Context(), &inventorypb.GetAvailabilityRequest{ProductIds: []string{"tea"}})
		return err == nil && resp.GetStock()[0].GetAvailable() == 3
	})
	_, err = p.Commit(t.Context(), &inventorypb.CommitRequest{ReservationId: "r"})
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("late commit: %v", err)
	}
	_, metrics := p.debug("/metrics")
	for _, line := range []string{`stock_operations_total{outcome="done",verb="expire"} 1`, `groupcommit_batch_size_count{group="writes"}`} {
		if !strings.Contains(metrics, line) {
			t.Errorf("no %s in the metrics", line)
		}
	}
}

func TestEventsReachTheBroker(t *testing.T) {
	t.Parallel()
	p := start(t)
	events := listen(t, p.settings.Broker)
	p.receive(t, "tea", 1)
	_, err := p.Reserve(t.Context(), reserveRequest("r", "tea", 1))
	ok(t, err)
	for _, kind := range []string{"stock.adjusted", "stock.available", "stock.sold_out"} {
		select {
		case d := <-events:
			var e struct{ Type, Source, Subject string }
			ok(t, json.Unmarshal(d.Body, &e))
			if e.Type != kind || e.Subject != "tea" || e.Source != "cartwright/inventory" {
				t.Errorf("got %s, want %s", d.Body, kind)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no %s", kind)
		}
	}
}

// listen hears every event of a shop.
func listen(t *testing.T, s messaging.Settings) <-chan amqp.Delivery {
	t.Helper()
	conn, err := amqp.Dial(s.URL)
	ok(t, err)
	t.Cleanup(func() { conn.Close() })
	ch, err := conn.Channel()
	ok(t, err)
	q, err := ch.QueueDeclare("", false, true, true, false, nil)
	ok(t, err)
	ok(t, ch.QueueBind(q.Name, "#", s.Namespace+jobs.Topology("").Events, false, nil))
	events, err := ch.Consume(q.Name, "", true, true, false, false, nil)
	ok(t, err)
	return events
}

func TestWrongSettingsAreAllNamed(t *testing.T) {
	t.Parallel()
	err := settings.Load([]string{"CARTWRIGHT_AMQP_URL=amqp://x", "CARTWRIGHT_INVENTORY_DSN=x", "CARTWRIGHT_INVENTORY_RESERVATION_TTL=1ms",
		"CARTWRIGHT_INVENTORY_DB_CONNECTIONS=1"}, &Settings{})
	for _, key := range []string{"RESERVATION_TTL", "DB_CONNECTIONS"} {
		if !strings.Contains(fmt.Sprint(err), "CARTWRIGHT_INVENTORY_"+key) {
			t.Errorf("%v does not name %s", err, key)
		}
	}
}

// door is a way to a server that can be shut.
type door struct {
	net.Listener
	to string

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]bool
}

func newDoor(t *testing.T, to string) *door {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	d := &door{Listener: l, to: to, conns: map[net.Conn]bool{}}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { d.pass(in) })
		}
	})
	t.Cleanup(func() { l.Close(); d.shut(); all.Wait() })
	return d
}

// pass carries bytes both ways until either side, or the door, is closed.
func (d *door) pass(in net.Conn) {
	defer in.Close()
	out, err := net.Dial("tcp", d.to)
	if err != nil || !d.enter(in, out) {
		return
	}
	defer out.Close()
	var back sync.WaitGroup
	back.Go(func() { io.Copy(in, out); in.Close() })
	io.Copy(out, in)
	out.Close()
	back.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.conns, in)
	delete(d.conns, out)
}

func (d *door) enter(conns ...net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range conns {
		if d.closed {
			c.Close()
			continue
		}
		d.conns[c] = true
	}
	return !d.closed
}

func (d *door) shut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for c := range d.conns {
		c.Close()
	}
}

func (d *door) open() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = false
}
