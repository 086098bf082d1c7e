package gateway

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cartwright/internal/fault"
	"cartwright/internal/ids"
	"cartwright/internal/messaging"
	"cartwright/internal/testenv"
	"cartwright/jobs"
	"cartwright/soldout"
)

// teller tells the events of inventory.
type teller struct {
	s         *shop
	publisher *messaging.Publisher
	told      int
}

func (s *shop) teller(t *testing.T) *teller {
	t.Helper()
	_, amqpURL := testenv.Servers(t)
	broker := messaging.Broker{URL: amqpURL, Topology: jobs.Topology(s.settings.Broker.Namespace), Log: testenv.Log(t), Metrics: messaging.NewMetrics(prometheus.NewRegistry())}
	e := &teller{s: s, publisher: messaging.NewPublisher(broker, "teller")}
	run(t, e.publisher.Run)
	testenv.Eventually(t, startLimit, "the teller is connected", func() bool { return e.publisher.Ready() == nil })
	return e
}

// runsOut makes a product run out, and waits until the gateway has heard of it.
func (e *teller) runsOut(t *testing.T, product string) {
	t.Helper()
	e.s.services.set(&e.s.services.gone, product, true)
	testenv.Eventually(t, startLimit, "it is refused early", func() bool {
		e.tell(t, "stock.sold_out", product)
		return e.s.isRefusedEarly(t, product)
	})
}

// isBack makes units of it come in, and waits until the gateway has heard of it.
func (e *teller) isBack(t *testing.T, product string) {
	t.Helper()
	e.s.services.set(&e.s.services.gone, product, false)
	e.tell(t, "stock.available", product)
	testenv.Eventually(t, startLimit, "it can be had again", func() bool { return !e.s.isRefusedEarly(t, product) })
}

func (e *teller) tell(t *testing.T, kind, product string) {
	t.Helper()
	e.told++
	body := fmt.Sprintf(`{"type":%q,"subject":%q,"sequence":"%020d"}`, kind, product, e.told)
	if err := e.publisher.PublishEvents(t.Context(), []messaging.Event{{ID: ids.New(), Type: kind, Body: []byte(body)}}); err != nil {
		t.Fatal(err)
	}
}

// isRefusedEarly tries with a client of its own.
func (s *shop) isRefusedEarly(t *testing.T, product string) bool {
	t.Helper()
	return s.ask(t, "POST", "/addToCart", bodyOf(addRequest{"probe", product, 1})).status == http.StatusConflict
}

// jobsOf counts the jobs of a client that have reached the worker.
func (s *shop) jobsOf(clientID string) (n int) {
	for _, m := range s.worker.seen() {
		if job, err := jobs.Decode(m.Kind, m.Body); err == nil && job.GetClientId() == clientID {
			n++
		}
	}
	return n
}

// B7: what puts a sold-out product into a cart is refused without a job; everything else is not.
func TestASoldOutProductIsRefusedAtTheDoor(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil)
	e := s.teller(t)
	e.runsOut(t, "tea")
	before := s.metric(t, `early_refusals_total{kind="cart.add"}`)
	if r := s.ask(t, "POST", "/addToCart", addBody("ann", 2), "Prefer: respond-async"); r.status != http.StatusConflict || r.body != `{"status":"Failed","error":"tea is sold out"}` {
		t.Errorf("add: %d %s", r.status, r.body)
	}
	r := s.ask(t, "PUT", "/v1/carts/ann/items/tea", bodyOf(quantityRequest{2}))
	if want := `{"type":"about:blank","title":"Conflict","status":409,"detail":"tea is sold out","code":"out_of_stock"}`; r.status != http.StatusConflict || r.body != want {
		t.Errorf("set: %d %s", r.status, r.body)
	}
	if after := s.metric(t, `early_refusals_total{kind="cart.add"}`); before == "" || after == before {
		t.Errorf("refused adds: %q, then %q", before, after)
	}
	if sets := s.metric(t, `early_refusals_total{kind="cart.set"}`); sets != "1" {
		t.Errorf("refused sets: %q", sets)
	}
	if n := s.jobsOf("ann"); n != 0 {
		t.Errorf("%d jobs were made", n)
	}
	for what, r := range map[string]response{
		"an add of another product": s.ask(t, "POST", "/addToCart", bodyOf(addRequest{"bob", "cup", 1})),
		"a line of none":            s.ask(t, "PUT", "/v1/carts/bob/items/tea", bodyOf(quantityRequest{0})),
		"a line taken out":          s.ask(t, "DELETE", "/v1/carts/bob/items/tea", ""),
		"a cleared cart":            s.ask(t, "DELETE", "/v1/carts/bob", ""),
	} {
		if r.status != http.StatusOK {
			t.Errorf("%s: %d %s", what, r.status, r.body)
		}
	}
	if n := s.jobsOf("bob"); n != 4 {
		t.Errorf("%d of 4 jobs were made", n)
	}
	if r := s.ask(t, "POST", "/addToCart", addBody("ann", 0)); r.status != http.StatusBadRequest {
		t.Errorf("a wrong request: %d %s", r.status, r.body)
	}
}

// B7, K8: an early refusal does not use the key up.
func TestAnEarlyRefusalLeavesTheKeyFree(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil)
	e := s.teller(t)
	e.runsOut(t, "tea")
	for range 2 {
		if r := s.ask(t, "POST", "/addToCart", addBody("ann", 2), "Idempotency-Key: k"); r.status != http.StatusConflict || r.header.Get(replayedHeader) != "" {
			t.Errorf("sold out: %d %s", r.status, r.body)
		}
	}
	e.isBack(t, "tea")
	if r := s.ask(t, "POST", "/addToCart", addBody("ann", 2), "Idempotency-Key: k"); r.status != http.StatusOK || r.header.Get(replayedHeader) != "" {
		t.Errorf("back again: %d %s", r.status, r.body)
	}
	if n := s.jobsOf("ann"); n != 1 {
		t.Errorf("%d jobs were made, want 1", n)
	}
}

// B7, K8: a key that was used, or may have been, has its answer from who knows it.
func TestAUsedKeyIsNotRefusedEarly(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil)
	e := s.teller(t)
	s.worker.says("here", done)
	s.worker.says("elsewhere", again)
	if r := s.ask(t, "POST", "/addToCart", addBody("here", 2), "Idempotency-Key: k"); r.status != http.StatusOK {
		t.Fatalf("in time: %d %s", r.status, r.body)
	}
	s.services.set(&s.services.done, jobs.ID(jobs.AddToCart, "elsewhere", "k"), true)
	e.runsOut(t, "tea")
	s.worker.says("here", again)
	for _, clientID := range []string{"here", "elsewhere"} {
		r := s.ask(t, "POST", "/addToCart", addBody(clientID, 2), "Idempotency-Key: k")
		if r.status != http.StatusOK || r.header.Get(replayedHeader) != "true" {
			t.Errorf("a key used %s: %d %s", clientID, r.status, r.body)
		}
	}
}

// B7: who brings goods in by way of a gateway finds them for sale there at once.
func TestWhatCameInHereIsForSaleHere(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil)
	e := s.teller(t)
	e.runsOut(t, "tea")
	// No event tells of it, nor would inventory if it were asked.
	if r := s.ask(t, "POST", "/v1/products/tea/stock", bodyOf(stockRequest{Delta: 5}), asStaff); r.status != http.StatusOK {
		t.Fatalf("stock: %d %s", r.status, r.body)
	}
	if r := s.ask(t, "POST", "/addToCart", addBody("ann", 1)); r.status != http.StatusOK {
		t.Errorf("add: %d %s", r.status, r.body)
	}
}

// B7: a refusal of a worker makes the gateway ask, and then it knows by itself. A product that there is
// too little of is not sold out.
func TestARefusalIsLearntFrom(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil)
	s.services.set(&s.services.gone, "tea", true)
	s.services.set(&s.services.gone, "cup", true)
	s.worker.says("probe", fails(soldout.Refusal("tea")))
	s.worker.says("few", fails(fault.New(fault.Refused, "out_of_stock", "only 3 of cup left").With("product", "cup").With("available", "3")))
	s.ask(t, "POST", "/addToCart", bodyOf(addRequest{"few", "cup", 4}))
	testenv.Eventually(t, startLimit, "it is refused early", func() bool {
		before := s.jobsOf("probe")
		return s.isRefusedEarly(t, "tea") && s.jobsOf("probe") == before
	})
	if r := s.ask(t, "POST", "/addToCart", bodyOf(addRequest{"bob", "cup", 1})); r.status != http.StatusOK {
		t.Errorf("of a product that there is too little of: %d %s", r.status, r.body)
	}
}

// B7: when nobody says whether a key was used, the job goes the long way.
func TestAKeyThatNobodyCanTellOfIsNotRefusedEarly(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	s.settings.CartmanagerAddr = testenv.FreeAddress(t) // nobody is there
	s.startWorker(t)
	s.startGateway(t)
	s.waitUntilReady(t)
	e := s.teller(t)
	e.runsOut(t, "tea")
	began := time.Now()
	if r := s.ask(t, "POST", "/addToCart", addBody("ann", 2), "Idempotency-Key: k"); r.status != http.StatusOK {
		t.Errorf("a key that may have been used: %d %s", r.status, r.body)
	}
	t.Logf("after %s", time.Since(began))
	if n := s.jobsOf("ann"); n != 1 {
		t.Errorf("%d jobs were made, want 1", n)
	}
}
