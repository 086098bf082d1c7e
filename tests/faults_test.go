package tests

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/health/grpc_health_v1"

	"cartwright/internal/ids"
	"cartwright/internal/lifecycle"
	"cartwright/internal/testenv"
)

const (
	// detection is how long a loss may go unnoticed: a second on a quiet machine.
	detection = 3 * time.Second
	// refusal is how long half of the clients wait for their 503 from then on, and refusalMax any
	// of them, with a processor that many shops share.
	refusal    = 1200 * time.Millisecond
	refusalMax = 4 * time.Second
	// crowdSize shoppers check out and add at the same time while something breaks.
	crowdSize = 100
	// endLimit bounds everything that must have ended once all is well again.
	endLimit = 90 * time.Second
)

// outage is something that every service loses at once.
type outage struct {
	name    string
	broker  bool          // else the database
	lasts   time.Duration // while new requests come in
	cause   func(*testenv.Proxy)
	noticed bool // whether new requests are refused meanwhile
}

// outages: a connection to a broker that falls silent is given up after three missed heartbeats,
// which is fifteen seconds.
var outages = []outage{
	{"the database is cut off", false, 4 * time.Second, (*testenv.Proxy).Cut, true},
	{"the database falls silent", false, 4 * time.Second, (*testenv.Proxy).Hold, true},
	{"the broker is cut off", true, 4 * time.Second, (*testenv.Proxy).Cut, true},
	{"the broker falls silent", true, 17 * time.Second, (*testenv.Proxy).Hold, true},
	{"the database's answers are lost", false, time.Second, muteAndDrop, false},
	{"the broker's confirms are lost", true, time.Second, muteAndDrop, false},
}

// muteAndDrop lets a server do what it was asked, and nobody ever hears of it.
func muteAndDrop(p *testenv.Proxy) {
	p.Mute()
	lifecycle.Pause(context.Background(), 300*time.Millisecond) // long enough for a batch to be committed behind the silence
	p.Cut()
	p.Heal()
}

// E6, E10, E13, K5: something is away for seconds while a hundred shoppers check out and add.
// Each of them hears an honest answer in time, new requests are refused with Retry-After, and
// once it is back, without any restart, every key has one order, paid once.
func TestAnOutageLosesNothing(t *testing.T) {
	t.Parallel()
	for _, o := range outages {
		t.Run(strings.ReplaceAll(o.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			o.run(t)
		})
	}
}

func (o outage) run(t *testing.T) {
	replicas := options{replicas: map[string]int{"cartmanager": 2, "checkoutmanager": 2}}
	proxy, way := testenv.BrokerProxy, &replicas.url
	if !o.broker {
		proxy, way = testenv.DatabaseProxy, &replicas.dsn
	}
	between, leads := proxy(t)
	*way = leads
	s := newShop(t, replicas)
	s.product("tea", 100, crowdSize)
	s.product("pot", 700, 100*crowdSize)
	all := s.crowd("c", crowdSize, "")
	s.fillAll(all, "tea")

	ctx, cancel := context.WithTimeout(t.Context(), endLimit)
	defer cancel()
	var hands sync.WaitGroup
	for _, b := range all {
		hands.Go(func() {
			if err := b.checkOut(ctx); err != nil {
				t.Error(err)
			}
		})
		potLover := &shopper{s: s, client: b.client}
		hands.Go(func() {
			if err := potLover.add(ctx, "pot", ids.New()); err != nil {
				t.Error(err)
			}
		})
	}
	testenv.Eventually(t, readyLimit, "a checkout has begun", func() bool { return s.countOrders("") > 0 })
	o.cause(between)
	probes := s.probeFor(o.lasts)
	if o.noticed {
		s.isLiveAndNotReady(o.broker)
	}
	between.Heal()
	hands.Wait()
	report(t, all)
	if o.noticed {
		probes.areRefused(t)
	}
	s.allPaidOnce(all)
}

// allPaidOnce holds the shop to what a crowd was told: each has one paid order and one pot, in
// that order or still in the cart.
func (s *shop) allPaidOnce(all []*shopper) {
	s.t.Helper()
	for service := range runs {
		for i := range s.replicas[service] {
			s.awaitReady(service, i)
		}
	}
	for _, b := range all {
		if b.code != http.StatusOK {
			s.t.Errorf("%s: the last answer was %d", b.client, b.code)
			continue
		}
		units := map[string]int64{}
		o := s.order(b.order)
		for _, i := range append(o.Items, s.cart(b.client).Items...) {
			units[i.ProductID] += i.Quantity
		}
		if o.Status != "PAID" || units["tea"] != 1 || units["pot"] != 1 {
			s.t.Errorf("%s: order is %s, ordered and in the cart: %v", b.client, o.Status, units)
		}
	}
	if n := s.countOrders("placed"); n != len(all) {
		s.t.Errorf("%d placed orders, want %d", n, len(all))
	}
	if got, want := s.stock("tea"), (stock{}); got != want {
		s.t.Errorf("stock of tea: got %+v, want %+v", got, want)
	}
	s.agrees()
}

// probe is one new request during an outage.
type probe struct {
	what  string
	after time.Duration // since the outage began
	took  time.Duration
	a     answer
	err   error
}

type probes []*probe

// probeFor sends a new request of each sort four times a second, and returns when the last one is
// answered.
func (s *shop) probeFor(lasts time.Duration) (all probes) {
	began := time.Now()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	var hands sync.WaitGroup
	for i := 0; time.Since(began) < lasts; i++ {
		for what, body := range map[string]any{
			"/addToCart":    map[string]any{"clientID": fmt.Sprint("adds", i), "productID": "pot", "quantity": 1},
			"/checkOutCart": map[string]any{"clientID": fmt.Sprint("has-nothing", i)},
		} {
			p := &probe{what: what, after: time.Since(began)}
			all = append(all, p)
			hands.Go(func() {
				p.a, p.err = s.ask(http.MethodPost, what, "", body)
				p.took = time.Since(began) - p.after
			})
		}
		<-tick.C
	}
	hands.Wait()
	return all
}

// areRefused holds all probes to the answer limit, and those after the detection to a quick 503.
func (all probes) areRefused(t *testing.T) {
	t.Helper()
	detected, waits := time.Duration(0), []time.Duration{}
	for _, p := range all {
		if p.err == nil && p.a.code == http.StatusServiceUnavailable && p.a.header.Get("Retry-After") != "" && p.took < refusalMax {
			waits = append(waits, p.took)
			continue
		}
		detected = max(detected, p.after)
		if p.err != nil || p.took > answerLimit+slack || p.after > detection {
			t.Errorf("%s, %s into the outage: %d %s %v after %s", p.what, p.after.Round(time.Millisecond), p.a.code, p.a.raw, p.err, p.took.Round(time.Millisecond))
		}
	}
	if len(waits) == 0 {
		t.Fatal("nobody was refused")
	}
	slices.Sort(waits)
	median, slowest := waits[len(waits)/2], waits[len(waits)-1]
	t.Logf("the last request that was not refused came %s into the outage; refusals took %s at the median, %s at most", detected.Round(time.Millisecond), median.Round(time.Millisecond), slowest.Round(time.Millisecond))
	if median > refusal {
		t.Errorf("the median refusal took %s, more than %s", median, refusal)
	}
}

// Z6, Z7, E14: a process that has lost its database or its broker is alive and not ready; without
// the database its gRPC health says so too. The gateway has no database.
func (s *shop) isLiveAndNotReady(broker bool) {
	s.t.Helper()
	for service := range runs {
		if service == "gateway" && !broker {
			continue
		}
		if live, ready := s.probe(service, "/livez"), s.probe(service, "/readyz"); live != http.StatusOK || ready != http.StatusServiceUnavailable {
			s.t.Errorf("%s: livez is %d and readyz %d", service, live, ready)
		}
		if broker {
			continue // questions are answered without it
		}
		if got, want := s.health(service), grpc_health_v1.HealthCheckResponse_NOT_SERVING; got != want {
			s.t.Errorf("gRPC health of %s: %s, want %s", service, got, want)
		}
	}
}

func (s *shop) health(service string) grpc_health_v1.HealthCheckResponse_ServingStatus {
	s.t.Helper()
	conn := s.dial("observer", service, s.env[strings.ToUpper(service)+"_LISTEN_0"])
	defer conn.Close()
	ctx, cancel := context.WithTimeout(s.t.Context(), slack)
	defer cancel()
	answer, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		s.t.Errorf("gRPC health of %s: %v", service, err)
	}
	return answer.GetStatus()
}
