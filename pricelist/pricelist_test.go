package pricelist_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"cartwright/internal/ids"
	"cartwright/internal/messaging"
	"cartwright/internal/testenv"
	"cartwright/jobs"
	"cartwright/pricelist"
	"cartwright/proto/cataloguepb"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const soon = 30 * time.Second

// stand has a catalogue that counts what it is asked, a list that listens, and a broker between.
type stand struct {
	t     *testing.T
	list  *pricelist.List
	proxy *testenv.Proxy

	mu     sync.Mutex
	prices map[string]int64
	asked  []string
	away   error
}

func open(t *testing.T) (*stand, *messaging.Publisher) {
	t.Helper()
	_, amqpURL := testenv.Servers(t)
	topology := jobs.Topology(testenv.Namespace(t))
	testenv.Topology(t, topology)
	broker := messaging.Broker{URL: amqpURL, Topology: topology, Log: testenv.Log(t), Metrics: messaging.NewMetrics(prometheus.NewRegistry())}
	publisher := messaging.NewPublisher(broker, "test")
	run(t, publisher.Run)
	testenv.Eventually(t, soon, "the publisher is connected", func() bool { return publisher.Ready() == nil })

	s := &stand{t: t, prices: map[string]int64{"tea": 450, "cup": 1250}}
	s.proxy, broker.URL = testenv.BrokerProxy(t)
	s.list = pricelist.New(broker, "test", s.load)
	t.Cleanup(s.list.Close)
	run(t, s.list.Run)
	s.listens()
	return s, publisher
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

func (s *stand) load(_ context.Context, wanted []string) (pricelist.Products, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, wanted...)
	found := pricelist.Products{}
	for _, id := range wanted {
		if price, known := s.prices[id]; known {
			found[id] = &cataloguepb.Product{ProductId: id, PriceMinor: price}
		}
	}
	return found, s.away
}

// set changes a price, and tells nobody.
func (s *stand) set(id string, price int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prices[id] = price
}

func (s *stand) asks() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

// listens waits until a second look asks nobody.
func (s *stand) listens() {
	s.t.Helper()
	testenv.Eventually(s.t, soon, "the list remembers", func() bool {
		s.price("tea")
		before := s.asks()
		s.price("tea")
		return s.asks() == before
	})
}

func (s *stand) price(id string) int64 {
	s.t.Helper()
	found, err := s.list.Find(s.t.Context(), []string{id})
	if err != nil {
		s.t.Fatal(err)
	}
	return found[id].GetPriceMinor()
}

// Z4: a second look asks nobody, an event makes the next one ask, and so does time.
func TestASecondLookAsksNobody(t *testing.T) {
	t.Parallel()
	s, publisher := open(t)
	hear := func(round int64) bool { // tells whether the event was faster than time
		s.list.Forget("tea")
		s.price("tea")
		began := time.Now()
		s.set("tea", round)
		if err := publisher.PublishEvents(t.Context(), []messaging.Event{{ID: ids.New(), Type: "product.updated", Body: []byte(`{"subject":"tea"}`)}}); err != nil {
			t.Fatal(err)
		}
		testenv.Eventually(t, soon, "the new price is seen", func() bool { return s.price("tea") == round })
		t.Logf("seen after %s", time.Since(began))
		return time.Since(began) < time.Second
	}
	if !slices.ContainsFunc([]int64{1, 2, 3, 4, 5}, hear) {
		t.Error("no event was heard")
	}

	s.set("tea", 600) // and the event is late
	began := time.Now()
	testenv.Eventually(t, soon, "the new price is seen", func() bool { return s.price("tea") == 600 })
	if late := time.Since(began); late > 5*time.Second {
		t.Errorf("a price was %s old", late)
	}

	s.set("tea", 700)
	s.list.Forget("tea")
	if got := s.price("tea"); got != 700 {
		t.Errorf("forgotten, and still %d", got)
	}
}

// What is not known is asked for each time, and an error is not remembered.
func TestOnlyProductsAreRemembered(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	if found, err := s.list.Find(t.Context(), []string{"new", "cup"}); err != nil || len(found) != 1 || found["cup"] == nil {
		t.Errorf("%v, %v", found, err)
	}
	s.set("new", 100)
	if got := s.price("new"); got != 100 {
		t.Errorf("a new product costs %d", got)
	}
	away := errors.New("away")
	s.away = away
	if _, err := s.list.Find(t.Context(), []string{"other"}); !errors.Is(err, away) {
		t.Errorf("%v", err)
	}
}

// E13: without a connection nothing is remembered, and afterwards nothing from before.
func TestNothingIsRememberedUnheard(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	s.proxy.Cut()
	testenv.Eventually(t, soon, "each look asks", func() bool {
		before := s.asks()
		s.price("tea")
		s.price("tea")
		return s.asks() == before+2
	})
	s.set("tea", 999)
	s.proxy.Heal()
	s.listens()
	if got := s.price("tea"); got != 999 {
		t.Errorf("remembered %d from before the cut", got)
	}
}

// Many who ask at once ask once.
func TestManyAskOnce(t *testing.T) {
	t.Parallel()
	s, _ := open(t)
	s.list.Forget("cup")
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() { s.price("cup") })
	}
	all.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(slices.DeleteFunc(s.asked, func(id string) bool { return id != "cup" })); n > 10 {
		t.Errorf("asked %d times", n)
	}
}
