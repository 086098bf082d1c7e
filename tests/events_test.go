package tests

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"cartwright/internal/testenv"
	schema "cartwright/sql"
)

// hear binds a queue of the test's own to the shop's events.
func (w *wire) hear() <-chan amqp.Delivery {
	w.s.t.Helper()
	q, err := w.channel.QueueDeclare("", false, true, true, false, nil)
	if err != nil {
		w.s.t.Fatal(err)
	}
	if err := w.channel.QueueBind(q.Name, "#", w.s.namespace+"cartwright.events", false, nil); err != nil {
		w.s.t.Fatal(err)
	}
	heard, err := w.channel.ConsumeWithContext(w.s.t.Context(), q.Name, "", true, true, false, false, nil)
	if err != nil {
		w.s.t.Fatal(err)
	}
	return heard
}

// cloudEvent is what a listener needs of an event.
type cloudEvent struct {
	SpecVersion, ID, Source, Type, Subject string
	Data                                   map[string]any
}

// next waits for the next event of a type.
func next(t *testing.T, heard <-chan amqp.Delivery, kind string) (e cloudEvent) {
	t.Helper()
	limit := time.NewTimer(readyLimit)
	defer limit.Stop()
	for {
		select {
		case d := <-heard:
			if err := json.Unmarshal(d.Body, &e); err != nil {
				t.Fatalf("event %s: %v", d.Body, err)
			}
			if e.Type == kind && d.MessageId == e.ID && d.ContentType == "application/cloudevents+json" {
				return e
			}
		case <-limit.C:
			t.Fatalf("no event %s within %s", kind, readyLimit)
		}
	}
}

// E3: a process is killed after it has committed and before it could publish. The event comes
// once the process runs again; what was rolled back is told to nobody.
func TestAnEventOutlivesTheProcessThatSavedIt(t *testing.T) {
	t.Parallel()
	between, leads := testenv.BrokerProxy(t)
	f := newFleet(t, options{})
	heard := f.wire().hear()
	common := f.env["AMQP_URL"]
	restart := func() {
		f.kill("catalogue", 0)
		f.start("catalogue", 0)
	}
	f.env["AMQP_URL"] = leads // catalogue alone goes through the proxy
	restart()
	f.awaitReady("catalogue", 0)
	between.Cut()
	f.product("tea", 100, 1)
	if n := f.waitingEvents(schema.Catalogue); n != 1 {
		t.Fatalf("%d events wait, want 1", n)
	}
	f.env["AMQP_URL"] = common
	restart()
	if e := next(t, heard, "product.updated"); e.Subject != "tea" || e.SpecVersion != "1.0" || e.Source == "" {
		t.Errorf("event: %+v", e)
	}
	testenv.Eventually(t, readyLimit, "the event has left", func() bool { return f.waitingEvents(schema.Catalogue) == 0 })

	refused := f.must(http.MethodPost, "/v1/products/tea/stock", "", map[string]any{"delta": -5})
	if refused.code != http.StatusConflict {
		t.Errorf("5 of 1 taken: %d %s", refused.code, refused.raw)
	}
	ann := f.crowd("ann", 1, "")
	f.fillAll(ann, "tea")
	checkOutAll(t, t.Context(), ann)
	if e := next(t, heard, "order.created"); e.Subject != ann[0].order || e.Data["totalPrice"] != 100.0 || e.Data["customerId"] != "ann0" {
		t.Errorf("event: %+v", e)
	}
}

// wantTold waits until events of all these types have named an order. They come from several
// services, in any order.
func wantTold(t *testing.T, heard <-chan amqp.Delivery, order string, kinds ...string) {
	t.Helper()
	limit := time.NewTimer(readyLimit)
	defer limit.Stop()
	for len(kinds) > 0 {
		select {
		case d := <-heard:
			var e cloudEvent
			if err := json.Unmarshal(d.Body, &e); err != nil {
				t.Fatalf("event %s: %v", d.Body, err)
			}
			if e.Data["orderId"] == order {
				kinds = slices.DeleteFunc(kinds, func(kind string) bool { return kind == e.Type })
			}
		case <-limit.C:
			t.Fatalf("no event %v names order %s", kinds, order)
		}
	}
}

func (s *shop) waitingEvents(database string) (n int) {
	s.t.Helper()
	if err := s.database(database).QueryRow("SELECT COUNT(*) FROM outbox").Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

// Z2: every service is started before the servers are there, stays alive meanwhile, and comes up
// by itself.
func TestServicesWaitForTheirServers(t *testing.T) {
	t.Parallel()
	database, dsn := testenv.DatabaseProxy(t)
	broker, url := testenv.BrokerProxy(t)
	database.Cut()
	broker.Cut()
	s := prepareShop(t, options{dsn: dsn, url: url})
	for service := range runs {
		s.launch(service, 0)
	}
	for service := range runs {
		testenv.Eventually(t, readyLimit, service+" is alive", func() bool { return s.probe(service, "/livez") == http.StatusOK })
		if code := s.probe(service, "/readyz"); code != http.StatusServiceUnavailable {
			t.Errorf("%s without its servers: readyz is %d", service, code)
		}
	}
	database.Heal()
	broker.Heal()
	for service := range runs {
		s.awaitReady(service, 0)
	}
	// Each was ready a moment before the others have heard of it. A refusal comes through all of them.
	for path, refusal := range map[string]int{"/addToCart": http.StatusNotFound, "/checkOutCart": http.StatusConflict} {
		testenv.Eventually(t, readyLimit, path+" reaches its worker and whom that asks", func() bool {
			body := map[string]any{"clientID": "nobody"}
			if path == "/addToCart" {
				body["productID"], body["quantity"] = "nothing", 1
			}
			return s.must(http.MethodPost, path, "", body).code == refusal
		})
	}
	s.product("tea", 100, 1)
	ann := s.crowd("ann", 1, "")
	s.fillAll(ann, "tea")
	checkOutAll(t, t.Context(), ann)
	if ann[0].code != http.StatusOK {
		t.Errorf("check out: %d", ann[0].code)
	}
}

// I7: a payment takes longer than stock is held for. The reservation lapses, so the late commit is
// refused, the money goes back, and the unit is for sale again. Every event on the way names the order
// as its customer knows it.
func TestALapsedReservationIsNotSold(t *testing.T) {
	t.Parallel()
	s := newShop(t, options{env: map[string]string{"INVENTORY_RESERVATION_TTL": "1s", "PAYMENTS_TEST_SLOW": "4s"}})
	heard := s.wire().hear()
	s.product("tea", 100, 1)
	s.fill("ann", "tea", 1)
	s.fill("bob", "tea", 1)
	a := s.mustCheckOut("ann", "tok_slow", "")
	testenv.Eventually(t, readyLimit, "the unit is free again", func() bool { return s.stock("tea") == stock{1, 0, 1} })
	if b := s.mustCheckOut("bob", "", ""); b.code != http.StatusOK {
		t.Errorf("bob: %d %s", b.code, b.raw)
	}
	if o := s.ends(a.Order); o.Status != "CANCELLED" || o.Reason == "" {
		t.Errorf("order: %+v", o)
	}
	wantTold(t, heard, a.Order, "payment.processed", "payment.refunded", "cart.thawed", "order.cancelled")
	s.providerIsEven(a.Order)
	if got := s.stock("tea"); got != (stock{}) {
		t.Errorf("stock: got %+v, want none", got)
	}
	s.agrees()
}

// probe asks a service's debug port; 0 when there is no answer.
func (s *shop) probe(service, path string) int {
	resp, err := s.client.Get("http://" + s.env[strings.ToUpper(service)+"_DEBUG_LISTEN_0"] + path)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}
