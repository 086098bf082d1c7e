package soldout

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cartwright/internal/ids"
	"cartwright/internal/messaging"
	"cartwright/internal/testenv"
	"cartwright/jobs"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const (
	soon = 30 * time.Second
	// heals is within what an event that never came, and an answer that never came, are made up for;
	// with room for two busy cores.
	heals = believedFor + confirmEvery + 2*time.Second
)

// stand has an inventory that is played, a list that listens, and a broker between.
type stand struct {
	t         *testing.T
	list      *List
	proxy     *testenv.Proxy
	publisher *messaging.Publisher

	mu   sync.Mutex
	gone map[string]bool
	away error
	asks int
	most int // products in one question
}

func open(t *testing.T) *stand {
	t.Helper()
	_, amqpURL := testenv.Servers(t)
	topology := jobs.Topology(testenv.Namespace(t))
	testenv.Topology(t, topology)
	broker := messaging.Broker{URL: amqpURL, Topology: topology, Log: testenv.Log(t), Metrics: messaging.NewMetrics(prometheus.NewRegistry())}
	s := &stand{t: t, gone: map[string]bool{}, publisher: messaging.NewPublisher(broker, "test")}
	run(t, s.publisher.Run)
	testenv.Eventually(t, soon, "the publisher is connected", func() bool { return s.publisher.Ready() == nil })
	s.proxy, broker.URL = testenv.BrokerProxy(t)
	s.list = New(broker, "test", s.ask)
	run(t, s.list.Run)
	s.listens()
	return s
}

func run(t *testing.T, part func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- part(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func (s *stand) listens() {
	s.t.Helper()
	testenv.Eventually(s.t, soon, "events can be heard", func() bool { return s.list.watch.Ready() == nil })
}

func (s *stand) ask(_ context.Context, products []string) (map[string]bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asks++
	s.most = max(s.most, len(products))
	answer := map[string]bool{}
	for _, p := range products {
		answer[p] = s.gone[p]
	}
	return answer, s.away
}

// set changes what inventory knows, and tells nobody.
func (s *stand) set(product string, gone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone[product] = gone
}

// questions counts what inventory was asked.
func (s *stand) questions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asks
}

// tell publishes an event. A sequence of 0 is left out.
func (s *stand) tell(kind, product string, sequence int) {
	s.t.Helper()
	body := fmt.Sprintf(`{"type":%q,"subject":%q}`, kind, product)
	if sequence > 0 {
		body = fmt.Sprintf(`{"type":%q,"subject":%q,"sequence":"%020d"}`, kind, product, sequence)
	}
	s.tellRaw(kind, body)
}

func (s *stand) tellRaw(kind, body string) {
	s.t.Helper()
	if err := s.publisher.PublishEvents(s.t.Context(), []messaging.Event{{ID: ids.New(), Type: kind, Body: []byte(body)}}); err != nil {
		s.t.Fatal(err)
	}
}

// heard waits until everything that was told so far is heard.
func (s *stand) heard() {
	s.t.Helper()
	mark := ids.New()
	s.set(mark, true)
	s.tell(ranOut, mark, 1)
	s.becomes(mark, true)
}

func (s *stand) becomes(product string, gone bool) (after time.Duration) {
	s.t.Helper()
	began := time.Now()
	testenv.Eventually(s.t, soon, fmt.Sprintf("%s is sold out: %v", product, gone), func() bool { return s.list.Has(product) == gone })
	return time.Since(began)
}

// runsOut makes a product run out, as inventory would tell.
func (s *stand) runsOut(product string, sequence int) {
	s.t.Helper()
	s.set(product, true)
	s.tell(ranOut, product, sequence)
	s.becomes(product, true)
}

// B7: what has run out is known at once, stays known for as long as it is so, and is known to be back
// at once.
func TestWhatRunsOutIsKnownUntilItIsBack(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.runsOut("tea", 1)
	if s.list.Has("cup") {
		t.Error("cup is sold out")
	}
	enough := int((believedFor+2*confirmEvery)/confirmEvery) + s.questions()
	testenv.Eventually(t, soon, "it was confirmed for long enough", func() bool {
		if !s.list.Has("tea") {
			t.Fatal("it was forgotten")
		}
		return s.questions() > enough
	})
	s.tell(isBack, "tea", 2) // inventory, if it were asked, would say no, so the event does it
	t.Logf("back after %s", s.becomes("tea", false))
}

// B7: events that come twice or late do not undo newer ones.
func TestAnOldEventChangesNothing(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.runsOut("tea", 5)
	s.tell(isBack, "tea", 4)
	s.heard()
	if !s.list.Has("tea") {
		t.Error("an older event has brought it back")
	}
	s.tell(isBack, "tea", 6)
	s.tell(ranOut, "tea", 5)
	s.heard()
	if s.list.Has("tea") {
		t.Error("it came back, and an older event has taken it away again")
	}
}

// B7: the event that it is back never comes.
func TestAMissedEventHeals(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.runsOut("tea", 1)
	s.set("tea", false)
	if late := s.becomes("tea", false); late > heals {
		t.Errorf("it healed after %s", late)
	}
	s.runsOut("tea", 2) // and from then on all is as before
}

// B7: nobody can say any more whether it is still so.
func TestWithoutAConfirmationItIsForgotten(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.runsOut("tea", 1)
	s.mu.Lock()
	s.away = errors.New("away")
	s.mu.Unlock()
	if late := s.becomes("tea", false); late > heals {
		t.Errorf("it was believed for %s", late)
	}
	s.list.mu.Lock()
	now := time.Now()
	s.list.products["cup"] = &entry{gone: true, sequence: "1", until: now}
	s.list.mu.Unlock()
	if s.list.Has("cup") {
		t.Error("it is believed until the next look, however long that takes")
	}
}

// B7: a product whose event came before this process did.
func TestASuspicionIsAskedAbout(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.set("tea", true)
	s.list.Suspect("tea")
	s.list.Suspect("cup")
	if late := s.becomes("tea", true); late > heals {
		t.Errorf("it was known after %s", late)
	}
	if s.list.Has("cup") {
		t.Error("cup is sold out")
	}
}

// B7: an answer that may be older than an event is not believed.
func TestAnAnswerDoesNotOvertakeAnEvent(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.runsOut("tea", 1)
	before := s.list.due()
	s.tell(isBack, "tea", 2)
	s.becomes("tea", false)
	if err := s.list.askFor(t.Context(), []string{"tea"}, before); err != nil || s.list.Has("tea") {
		t.Errorf("the answer from before the event was believed (%v)", err)
	}
}

// B7: what was known before events were lost is not believed after it, nor what was being asked.
func TestWhatMayHaveBeenMissedIsForgotten(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.runsOut("tea", 1)
	s.proxy.Cut()
	testenv.Eventually(t, soon, "the loss is known", func() bool { return s.list.watch.Ready() != nil })
	s.becomes("tea", false)
	s.list.Suspect("tea")
	if err := s.list.askForAll(t.Context()); err != nil || s.list.Has("tea") {
		t.Errorf("an answer is believed while events cannot be heard (%v)", err)
	}
	s.set("tea", false)
	s.proxy.Heal()
	s.listens()
	if s.list.Has("tea") {
		t.Error("it is believed after the cut")
	}
	s.runsOut("cup", 1)
	before := s.list.due()
	s.list.forget()
	s.list.add("cup", &entry{sequence: before.seen["cup"].sequence})
	if err := s.list.askFor(t.Context(), []string{"cup"}, before); err != nil || s.list.Has("cup") {
		t.Errorf("an answer to a question from before the loss is believed (%v)", err)
	}
}

// B7: an event that cannot be read could be about anything; one without a sequence, of any time.
func TestAnEventThatSaysTooLittleIsNotBelieved(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, told := range []func(){
		func() { s.tell(ranOut, "tea", 0) },
		func() { s.tellRaw(isBack, `{"type":`) },
		func() { s.tellRaw(isBack, `{"type":"stock.available","sequence":"9"}`) },
	} {
		s.runsOut("tea", 1)
		told()
		s.becomes("tea", false) // inventory, if it were asked, would say that it is gone
	}
}

// B7: the memory is bounded, and so is a question.
func TestTheMemoryIsBounded(t *testing.T) {
	t.Parallel()
	s := open(t)
	for i := range productsMax + 500 {
		product := fmt.Sprint("p", i)
		s.set(product, true)
		s.list.hear(fmt.Appendf(nil, `{"type":%q,"subject":%q,"sequence":"1"}`, ranOut, product))
		s.list.Suspect(product)
	}
	known := 0
	for i := range productsMax + 500 {
		if s.list.Has(fmt.Sprint("p", i)) {
			known++
		}
	}
	if known != productsMax {
		t.Errorf("%d products are known, want %d", known, productsMax)
	}
	testenv.Eventually(t, soon, "all were asked about", func() bool {
		return s.questions() >= productsMax/askMax
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.most != askMax {
		t.Errorf("%d products in one question, want %d", s.most, askMax)
	}
}

// B7: nobody is asked about what nobody wants, and it makes room.
func TestWhatNobodyWantsIsForgotten(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.runsOut("tea", 1)
	s.list.mu.Lock()
	s.list.products["tea"].wanted = time.Now().Add(-wantedFor)
	s.list.mu.Unlock()
	testenv.Eventually(t, heals, "it made room", func() bool {
		s.list.mu.Lock()
		defer s.list.mu.Unlock()
		return s.list.products["tea"] == nil
	})
}

// B7: a product that is not counted is never sold out, nor one that inventory does not know.
func TestWhatIsNotCountedIsNeverSoldOut(t *testing.T) {
	t.Parallel()
	gone, err := From(inventory{})(t.Context(), []string{"tea", "song", "cup", "new"})
	if err != nil {
		t.Fatal(err)
	}
	for product, want := range map[string]bool{"tea": true, "song": false, "cup": false, "new": false} {
		if gone[product] != want {
			t.Errorf("%s is gone: %v", product, gone[product])
		}
	}
}
