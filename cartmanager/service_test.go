package cartmanager

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"cartwright/internal/fault"
	"cartwright/internal/ids"
	"cartwright/internal/messaging"
	"cartwright/internal/settings"
	"cartwright/internal/testenv"
	"cartwright/jobs"
	"cartwright/proto/cartpb"
	"cartwright/proto/jobspb"
)

func correlation(a *jobspb.Answer) string { return hex.EncodeToString(a.GetCorrelationId()) }

// spell writes lines as "2 tea, 1 cup".
func spell(lines []line) string {
	words := make([]string, len(lines))
	for i, l := range lines {
		words[i] = fmt.Sprint(l.quantity, " ", l.product)
	}
	return strings.Join(words, ", ")
}

// C1, C2, C8
func TestAddingAgainMakesTheLineLonger(t *testing.T) {
	t.Parallel()
	s := open(t, 1)
	if got := s.cart("ann"); got != "" {
		t.Fatalf("a client who never came has %q", got)
	}
	before := time.Now()
	s.done(add("ann", "tea", 2))
	s.done(add("ann", "cup", 1))
	s.done(add("ann", "tea", 3))
	if got := s.cart("ann"); got != "5 tea, 1 cup" {
		t.Errorf("the cart has %q", got)
	}
	resp, err := s.client().GetCart(t.Context(), &cartpb.GetCartRequest{ClientId: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	if age := time.UnixMicro(resp.GetUpdatedAtUs()).Sub(before); age < -time.Second || age > time.Minute {
		t.Errorf("updated %s after the first add", age)
	}
	if got := s.cart("bob"); got != "" {
		t.Errorf("another client has %q", got)
	}
}

// B7: carts of many, in the order asked, one of them twice and one of nobody.
func TestManyCartsAreReadAtOnce(t *testing.T) {
	t.Parallel()
	s := open(t, 1)
	s.done(add("ann", "tea", 2))
	s.done(add("bob", "cup", 1))
	resp, err := s.client().GetCarts(t.Context(), &cartpb.GetCartsRequest{ClientIds: []string{"bob", "nobody", "ann", "bob"}})
	if err != nil {
		t.Fatal(err)
	}
	var products []string
	for _, c := range resp.GetCarts() {
		product := "none"
		for _, l := range c.GetLines() {
			product = l.GetProductId()
		}
		products = append(products, product)
	}
	if got := strings.Join(products, " "); got != "cup none tea cup" {
		t.Errorf("the carts have %s", got)
	}
	for _, bad := range [][]string{nil, make([]string, batchMax+1), {"ann", "x' OR '1'='1"}} {
		if _, err := s.client().GetCarts(t.Context(), &cartpb.GetCartsRequest{ClientIds: bad}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%d clients: %v", len(bad), err)
		}
	}
}

// C3
func TestMoreThanThereIsIsRefused(t *testing.T) {
	t.Parallel()
	s := open(t, 1)
	if words := s.refused(add("ann", "tea", 11), "out_of_stock"); words != "only 10 of tea left" {
		t.Errorf("refused with %q", words)
	}
	s.done(add("ann", "tea", 6))
	s.refused(add("ann", "tea", 6), "out_of_stock")
	s.refused(set("ann", "tea", 11), "out_of_stock")
	s.goods.put("tea", "Green tea", 450, "EUR", 0)
	if words := s.refused(add("ann", "tea", 1), "out_of_stock"); words != "tea is sold out" {
		t.Errorf("refused with %q", words)
	}
	if got := s.cart("ann"); got != "6 tea" {
		t.Errorf("the cart has %q", got)
	}
}

// C5
func TestAnUnknownProductDoesNotSpoilTheCart(t *testing.T) {
	t.Parallel()
	s := open(t, 1)
	id := ids.New()
	if a := s.ask(id, add("ann", "unicorn", 1)); a.GetFault().GetCode() != "unknown_product" {
		t.Errorf("answer %v", a)
	}
	if a := s.ask(id, add("ann", "unicorn", 1)); a.GetFault().GetCode() != "unknown_product" || !a.GetReplayed() {
		t.Errorf("second answer %v", a)
	}
	s.goods.withdraw("cup")
	s.refused(add("ann", "cup", 1), "not_for_sale")
	s.done(add("ann", "tea", 1))
	if got := s.cart("ann"); got != "1 tea" {
		t.Errorf("the cart has %q", got)
	}
	resp, err := s.client().GetJob(t.Context(), &cartpb.GetJobRequest{JobId: id})
	if err != nil || resp.GetFault().GetCode() != "unknown_product" {
		t.Errorf("job %v, %v", resp, err)
	}
}

// C7
func TestLinesAreChangedAndTakenOut(t *testing.T) {
	t.Parallel()
	s := open(t, 1)
	s.done(set("ann", "tea", 4))
	s.done(add("ann", "cup", 2))
	s.done(add("ann", "book", 1))
	s.done(set("ann", "tea", 1))
	if got := s.cart("ann"); got != "1 tea, 2 cup, 1 book" {
		t.Errorf("the cart has %q", got)
	}
	s.done(set("ann", "cup", 0))
	s.done(&jobspb.RemoveCartLine{ClientId: "ann", ProductId: "tea"})
	s.done(&jobspb.RemoveCartLine{ClientId: "ann", ProductId: "tea"})
	s.done(set("ann", "unicorn", 0))
	if got := s.cart("ann"); got != "1 book" {
		t.Errorf("the cart has %q", got)
	}
	s.done(&jobspb.ClearCart{ClientId: "ann"})
	s.done(&jobspb.ClearCart{ClientId: "ann"})
	if got := s.cart("ann"); got != "" {
		t.Errorf("the cart has %q", got)
	}
}

// E5
func TestTheSameJobTenTimesOnTwoReplicasIsDoneOnce(t *testing.T) {
	t.Parallel()
	s := open(t, 2)
	id, job := ids.New(), add("ann", "tea", 1)
	first := 0
	var answers []<-chan *jobspb.Answer
	for range 10 {
		answers = append(answers, s.send(s.message(id, job)))
	}
	for _, a := range answers {
		final := s.final(a)
		if final.GetOutcome() != jobspb.Outcome_OUTCOME_DONE {
			t.Errorf("answer %v", final)
		}
		if !final.GetReplayed() {
			first++
		}
	}
	if got := s.cart("ann"); got != "1 tea" || first != 1 {
		t.Errorf("the cart has %q after %d firsts", got, first)
	}
}

// B1
func TestAKeyBelongsToOneRequest(t *testing.T) {
	t.Parallel()
	s := open(t, 1)
	id := ids.New()
	s.ask(id, add("ann", "tea", 1))
	a := s.ask(id, add("ann", "tea", 2))
	if kind := fault.KindOf(fault.FromProto(a.GetFault())); kind != fault.Mismatch || a.GetFault().GetCode() != "idempotency_mismatch" {
		t.Errorf("answer %v", a)
	}
	if a := s.ask(id, add("ann", "tea", 1)); a.GetOutcome() != jobspb.Outcome_OUTCOME_DONE || !a.GetReplayed() {
		t.Errorf("the first request again: %v", a)
	}
	if got := s.cart("ann"); got != "1 tea" {
		t.Errorf("the cart has %q", got)
	}
}

func TestReplicasThatRaceForOneCartLoseNothing(t *testing.T) {
	t.Parallel()
	s := open(t, 2)
	s.goods.put("lamp", "Lamp", 9900, "EUR", 120)
	var waits []<-chan *jobspb.Answer
	for range 200 {
		waits = append(waits, s.send(s.message(ids.New(), add("ann", "lamp", 1))))
	}
	done := 0
	for _, w := range waits {
		if s.final(w).GetOutcome() == jobspb.Outcome_OUTCOME_DONE {
			done++
		}
	}
	if got := s.cart("ann"); got != "120 lamp" || done != 120 {
		t.Errorf("%d done, the cart has %q", done, got)
	}
}

// C4, E7, E16
func TestABadJobIsBuriedAndTheNextServed(t *testing.T) {
	t.Parallel()
	s := open(t, 1)
	good := s.message(ids.New(), add("ann", "tea", 1))
	broken, unknown, zero := good, good, s.message(ids.New(), add("ann", "tea", 0))
	broken.Body = []byte{0xff, 0xff}
	unknown.Kind = "cart.polish"
	for field, m := range map[string]messaging.Message{"body": broken, "type": unknown, "quantity": zero} {
		m.ID, m.Correlation = ids.New(), messaging.NewCorrelation()
		a := s.final(s.send(m))
		if a.GetFault().GetField() != field {
			t.Errorf("answer %v, want one that names %s", a, field)
		}
		d := s.buried()
		if reason, _ := d.Headers["x-reason"].(string); d.MessageId != m.ID || !strings.HasPrefix(reason, field+": ") {
			t.Errorf("buried %s because %q", d.MessageId, reason)
		}
		s.done(add("ann", "tea", 1))
	}
	if got := s.cart("ann"); got != "3 tea" {
		t.Errorf("the cart has %q", got)
	}
}

func TestAForgedJobIsBuriedUnanswered(t *testing.T) {
	t.Parallel()
	s := open(t, 1)
	forger := s.broker
	forger.Keys = messaging.Keys{"a key that somebody made up"}
	publisher := messaging.NewPublisher(forger, "forger")
	s.background(publisher.Run)
	s.eventually("the forger is connected", func() bool { return publisher.Ready() == nil })
	m := s.message(ids.New(), add("ann", "tea", 1))
	if err := publisher.PublishJob(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	d := s.buried()
	if reason, _ := d.Headers["x-reason"].(string); d.MessageId != m.ID || !strings.HasPrefix(reason, "x-signature: ") {
		t.Errorf("buried %s because %q", d.MessageId, reason)
	}
	if got := s.cart("ann"); got != "" {
		t.Errorf("the cart has %q", got)
	}
}

// buried takes the next message from the dead queue.
func (s *stand) buried() amqp.Delivery {
	s.t.Helper()
	conn, err := amqp.Dial(s.broker.URL)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		s.t.Fatal(err)
	}
	var d amqp.Delivery
	s.eventually("a message is buried", func() bool {
		got, found, err := ch.Get(s.broker.Topology.Namespace+string(jobs.Cartmanager.Dead()), true)
		if err != nil {
			s.t.Fatal(err)
		}
		d = got
		return found
	})
	return d
}

// E6
func TestJobsOutliveTheDatabase(t *testing.T) {
	t.Parallel()
	proxy, dsn := testenv.DatabaseProxy(t)
	_, url := testenv.Servers(t)
	s := openWith(t, 1, dsn, url)
	s.done(add("ann", "book", 1))
	proxy.Cut()
	var waits []<-chan *jobspb.Answer
	for range 20 {
		waits = append(waits, s.send(s.message(ids.New(), add("ann", "book", 1))))
	}
	if a := <-waits[0]; a.GetOutcome() != jobspb.Outcome_OUTCOME_PENDING {
		t.Errorf("answer %v while the database is away", a)
	}
	proxy.Heal()
	for _, w := range waits {
		if a := s.final(w); a.GetOutcome() != jobspb.Outcome_OUTCOME_DONE {
			t.Errorf("answer %v", a)
		}
	}
	if got := s.cart("ann"); got != "21 book" {
		t.Errorf("the cart has %q", got)
	}
}

// E11: a replica that stops finishes or gives back what it has in hand.
func TestAReplicaStopsInTheMiddleOfManyJobs(t *testing.T) {
	t.Parallel()
	s := open(t, 2)
	var waits []<-chan *jobspb.Answer
	for range 100 {
		waits = append(waits, s.send(s.message(ids.New(), add("ann", "book", 1))))
	}
	var stopping sync.WaitGroup
	stopping.Go(s.stops[0])
	for range 100 {
		waits = append(waits, s.send(s.message(ids.New(), add("ann", "book", 1))))
	}
	for _, w := range waits {
		if a := s.final(w); a.GetOutcome() != jobspb.Outcome_OUTCOME_DONE {
			t.Errorf("answer %v", a)
		}
	}
	stopping.Wait()
	if got := s.cart("ann"); got != "200 book" {
		t.Errorf("the cart has %q", got)
	}
}

// Z6, Z7
func TestAServiceWithoutItsDatabaseIsNotReady(t *testing.T) {
	t.Parallel()
	proxy, dsn := testenv.DatabaseProxy(t)
	_, url := testenv.Servers(t)
	s := openWith(t, 1, dsn, url)
	s.eventually("ready", func() bool { return s.ready() == http.StatusOK })
	proxy.Cut()
	s.eventually("not ready", func() bool { return s.ready() == http.StatusServiceUnavailable })
	if _, err := s.client().GetCart(t.Context(), &cartpb.GetCartRequest{ClientId: "ann"}); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a cart without a database: %v", err)
	}
	proxy.Heal()
	s.eventually("ready again", func() bool { return s.ready() == http.StatusOK })
}

// ready is the status of the newest replica's readiness.
func (s *stand) ready() int {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+s.settings.DebugListen+"/readyz", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// Z13
func TestWrongSettingsAreNamed(t *testing.T) {
	t.Parallel()
	good := []string{"CARTWRIGHT_AMQP_URL=amqp://x", "CARTWRIGHT_CARTMANAGER_DSN=x", "CARTWRIGHT_JOB_SECRET=" + secret, "CARTWRIGHT_INSECURE=true"}
	var s Settings
	if err := settings.Load(good, &s); err != nil || s.Prefetch != 512 || s.Connections != 8 || s.Listen != "127.0.0.1:9110" {
		t.Errorf("%+v: %v", s, err)
	}
	for key, value := range map[string]string{"CARTWRIGHT_CARTMANAGER_PREFETCH": "5000", "CARTWRIGHT_CARTMANAGER_DB_CONNECTIONS": "1", "CARTWRIGHT_JOB_SECRET": "short"} {
		var s Settings
		if err := settings.Load(append(good, key+"="+value), &s); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s=%s: %v", key, value, err)
		}
	}
}
