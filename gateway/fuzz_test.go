package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"cartwright/internal/fault"
	"cartwright/internal/groupcommit"
	"cartwright/internal/messaging"
	"cartwright/internal/testenv"
	"cartwright/jobs"
	"cartwright/pricelist"
	"cartwright/proto/cartpb"
	"cartwright/proto/cataloguepb"
	"cartwright/proto/checkoutpb"
	"cartwright/proto/inventorypb"
	"cartwright/soldout"
)

// watched is a connection to a fake service that remembers an identifier which should never have got
// that far.
type watched struct {
	testenv.Calls
	wrong *string
}

func (w watched) Invoke(ctx context.Context, path string, request, answer any, options ...grpc.CallOption) error {
	if id, wrong := testenv.WrongID(request.(proto.Message)); wrong {
		*w.wrong = path + " of " + id
	}
	err := w.Calls.Invoke(ctx, path, request, answer, options...)
	if err != nil && strings.Contains(err.Error(), "secret words") { // a fault that the fakes play, which is theirs
		return fault.Away("a service", errors.New("it is broken"))
	}
	return err
}

// withoutBroker makes a gateway over fake services: jobs that get through all checks are answered 503.
func withoutBroker(f testing.TB) (g *gateway, wrong *string) {
	f.Helper()
	wrong = new(string)
	reg := prometheus.NewRegistry()
	broker := messaging.Broker{Topology: jobs.Topology("fuzz_"), Keys: messaging.Keys{testJobSecret}, Log: quiet, Metrics: messaging.NewMetrics(reg)}
	fakes := &services{}
	conn := func(desc *grpc.ServiceDesc, service any) watched {
		return watched{testenv.Calls{Desc: desc, Service: service}, wrong}
	}
	m := newMetrics(reg)
	g = &gateway{
		log: quiet, answerTimeout: time.Second, metrics: m, room: newWaitingRoom(10, m), accepted: newAcceptedJobs(10), health: &health{},
		publisher: messaging.NewPublisher(broker, "gateway"),
		carts:     cartpb.NewCartsClient(conn(&cartpb.Carts_ServiceDesc, fakeCarts{services: fakes})),
		orders:    checkoutpb.NewOrdersClient(conn(&checkoutpb.Orders_ServiceDesc, fakeOrders{services: fakes})),
		catalogue: cataloguepb.NewCatalogueClient(conn(&cataloguepb.Catalogue_ServiceDesc, fakeCatalogue{services: fakes})),
		inventory: inventorypb.NewInventoryClient(conn(&inventorypb.Inventory_ServiceDesc, fakeInventory{services: fakes})),
	}
	key := sha256.Sum256([]byte(testStaffKey))
	g.staffKey = &key
	g.replies = &messaging.Replies{Broker: broker, Name: "gateway", Hear: g.room.hear, Lost: g.room.endAll}
	g.list = pricelist.New(broker, "gateway", pricelist.From(g.catalogue))
	f.Cleanup(g.list.Close)
	g.soldOut = soldout.New(broker, "gateway", soldout.From(g.inventory))
	g.rush = newRush(g.soldOut, g.carts, g.orders, groupcommit.NewMetrics(reg))
	return g, wrong
}

// httpServer is the gateway's, without a port.
func (g *gateway) httpServer() *fasthttp.Server {
	app := g.newApp()
	app.Handler() // builds the routes
	app.Server().Handler = g.knownMethods(app.Server().Handler)
	return app.Server()
}

// tape is a connection whose client has said everything at once, and hears what it is told.
type tape struct {
	net.Conn
	said  *bytes.Reader
	heard bytes.Buffer
}

func (c *tape) Read(b []byte) (int, error)       { return c.said.Read(b) }
func (c *tape) Write(b []byte) (int, error)      { return c.heard.Write(b) }
func (c *tape) Close() error                     { return nil }
func (c *tape) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *tape) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *tape) SetReadDeadline(time.Time) error  { return nil }
func (c *tape) SetWriteDeadline(time.Time) error { return nil }

// X5, X7: whatever bytes come in, nobody is told of an internal error, every refusal has its form and
// names what is wrong, and no service is asked for what is no identifier.
func FuzzHTTP(f *testing.F) {
	for _, seed := range httpSeeds() {
		f.Add([]byte(seed))
	}
	g, wrong := withoutBroker(f)
	server := g.httpServer()
	f.Fuzz(func(t *testing.T, raw []byte) {
		*wrong = ""
		c := &tape{said: bytes.NewReader(raw)}
		server.ServeConn(c) //nolint:errcheck // what the client has to know is in the answer
		if *wrong != "" {
			t.Errorf("a service was asked for %s", *wrong)
		}
		for answers := bufio.NewReader(&c.heard); ; {
			if _, err := answers.Peek(1); err != nil {
				return
			}
			resp, err := http.ReadResponse(answers, methodOf(raw))
			if err != nil {
				t.Fatalf("no HTTP: %v", err)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatalf("half an answer: %v", err)
			}
			if methodOf(raw) == nil {
				judgeAnswer(t, resp, body)
			} else {
				return // to HEAD there is no body, and which of several requests was one is hard to say
			}
		}
	})
}

// methodOf is a HEAD request if there may be one in the bytes.
func methodOf(raw []byte) *http.Request {
	if bytes.Contains(raw, []byte("HEAD")) {
		return &http.Request{Method: http.MethodHead}
	}
	return nil
}

func judgeAnswer(t *testing.T, resp *http.Response, body []byte) {
	t.Helper()
	if resp.StatusCode < http.StatusBadRequest {
		return
	}
	var told struct {
		Status                      any
		Title, Detail, Field, Error string
	}
	if err := json.Unmarshal(body, &told); err != nil {
		t.Fatalf("%d, and no JSON: %q", resp.StatusCode, body)
	}
	isProblem := resp.Header.Get("Content-Type") == "application/problem+json"
	switch {
	case resp.StatusCode >= http.StatusInternalServerError && resp.StatusCode != http.StatusServiceUnavailable:
		t.Fatalf("%d %s", resp.StatusCode, body)
	case isProblem && (told.Status != float64(resp.StatusCode) || told.Title == "" || told.Detail == ""):
		t.Fatalf("%d without its words: %s", resp.StatusCode, body)
	case !isProblem && (told.Status != failed || told.Error == ""):
		t.Fatalf("%d without its words: %s", resp.StatusCode, body)
	case isProblem && resp.StatusCode == http.StatusBadRequest && told.Field == "" && told.Detail != unreadable:
		t.Fatalf("it is wrong, but where? %s", body)
	}
}

// httpSeeds are requests to every route, and some that came from no client of ours.
func httpSeeds() (seeds []string) {
	const head = " HTTP/1.1\r\nHost: shop\r\n"
	sized := func(first, headers, body string) string {
		return first + head + headers + "Content-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
	}
	staff := asStaff + "\r\n"
	for _, get := range []string{
		"/v1/carts/jo", "/v1/carts/a%20b", "/v1/orders?clientID=jo&limit=5&cursor=second", "/v1/orders/order-paid", "/v1/jobs/job-refused", "/v1/products?limit=100",
		"/v1/products?cursor=%ff", "/v1/products/tea", "/documentation", "/swagger/swagger.json", "/swagger/%2e%2e%2fgateway.go", "/v1/products/nobody?\x00",
	} {
		seeds = append(seeds, "GET "+get+head+"\r\n")
	}
	return append(seeds,
		sized("POST /addToCart", "Idempotency-Key: k\r\n", addBody("jo", 2)),
		sized("POST /checkOutCart", "Prefer: respond-async\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n", checkoutBody("jo")),
		sized("PUT /v1/carts/jo/items/tea", "", `{"quantity":0}`),
		sized("PUT /v1/products/tea", staff, `{"name":"Tea","price":{"amount":1290,"currency":"EUR"},"active":true}`),
		sized("POST /v1/products/tea/stock", staff+"Idempotency-Key: delivery-1\r\n", `{"delta":-5,"kind":"finite"}`),
		sized("POST /v1/products/tea/stock", "Authorization: Bearer wrong\r\n", `{}`),
		"DELETE /v1/carts/jo"+head+"X-Request-ID: <script>\r\n\r\nDELETE /v1/carts/jo/items/tea"+head+"\r\n",
		"POST /addToCart"+head+"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"cli\r\n0\r\n\r\n",
		"HEAD /v1/products"+head+"\r\n", "BREW /addToCart"+head+"\r\n", "GET http://elsewhere/v1/orders HTTP/1.0\r\n\r\n", "hello\r\n\r\n", "")
}
