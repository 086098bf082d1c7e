package gateway

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc"

	"cartwright/internal/debugport"
	"cartwright/internal/fault"
	"cartwright/internal/identity"
	"cartwright/internal/messaging"
	"cartwright/internal/rpc"
	"cartwright/internal/testenv"
	"cartwright/jobs"
)

// aSecond is how long a client may be left without an answer while something is away, with room
// for a busy machine.
const aSecond = 1500 * time.Millisecond

// Z7: the broker is unreachable from the start.
func TestNoBrokerIsSaidWithinASecond(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	s.settings.Broker.URL = "amqp://nobody@" + testenv.FreeAddress(t) + "/"
	s.startGateway(t)
	testenv.Eventually(t, startLimit, "the gateway answers", func() bool {
		r, err := s.tryAsk(t.Context(), "GET", "/v1/jobs/job-done", "")
		return err == nil && r.status == http.StatusOK
	})
	s.refusesWithinASecond(t)
	if live, ready := s.probe(t, "/livez"), s.probe(t, "/readyz"); live != http.StatusOK || ready != http.StatusServiceUnavailable {
		t.Errorf("livez is %d and readyz %d", live, ready)
	}
}

// E13: the broker goes away and comes back.
func TestALostBrokerIsSaidAndForgotten(t *testing.T) {
	t.Parallel()
	proxy, amqpURL := testenv.BrokerProxy(t)
	s := openShop(t, func(s *Settings) { s.Broker.URL = amqpURL })
	s.worker.says("waits", silence)
	waits := make(chan response, 1)
	go func() {
		r, err := s.tryAsk(t.Context(), "POST", addToCartPath, addBody("waits", 1))
		if err != nil {
			t.Error(err)
		}
		waits <- r
	}()
	testenv.Eventually(t, startLimit, "the job is in hand", func() bool { return len(s.worker.seen()) == 1 })
	// It may be in hand before the gateway has its confirm; confirms come in order.
	if r := s.ask(t, "POST", addToCartPath, addBody("jo", 1)); r.status != http.StatusOK {
		t.Fatalf("before the broker goes: %d %s", r.status, r.body)
	}

	proxy.Cut()
	if r := <-waits; r.status != http.StatusAccepted { // its answer cannot come any more
		t.Errorf("the request that waited got %d %s", r.status, r.body)
	}
	testenv.Eventually(t, startLimit, "the gateway is not ready", func() bool { return s.probe(t, "/readyz") == http.StatusServiceUnavailable })
	s.refusesWithinASecond(t)
	proxy.Heal()
	s.waitUntilReady(t)
	if r := s.ask(t, "POST", addToCartPath, addBody("jo", 1)); r.status != http.StatusOK {
		t.Errorf("after the broker came back: %d %s", r.status, r.body)
	}
}

func (s *shop) refusesWithinASecond(t *testing.T) {
	t.Helper()
	s.outage.Store(true)
	defer s.outage.Store(false)
	for _, path := range []string{addToCartPath, checkOutCartPath} {
		body, member := addBody("jo", 1), "jobID"
		if path == checkOutCartPath {
			body, member = checkoutBody("jo"), "orderID"
		}
		began := time.Now()
		r := s.ask(t, "POST", path, body)
		if took := time.Since(began); took > aSecond {
			t.Errorf("%s took %s", path, took)
		}
		if r.status != http.StatusServiceUnavailable || r.text("status") != failed || r.text(member) == "" || r.header.Get("Retry-After") == "" {
			t.Errorf("%s: got %d %s with %v", path, r.status, r.body, r.header)
		}
	}
}

func (s *shop) probe(t *testing.T, path string) int {
	t.Helper()
	resp, err := s.client.Get("http://" + s.settings.DebugListen + path)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestWorkersWithoutTheirDatabaseAreRefusedAtTheDoor(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil)
	s.serving.Store(false)
	s.outage.Store(true)
	testenv.Eventually(t, startLimit, "jobs are refused", func() bool {
		return s.ask(t, "POST", addToCartPath, addBody("jo", 1)).status == http.StatusServiceUnavailable
	})
	s.refusesWithinASecond(t)
	before := len(s.worker.seen())
	s.refusesWithinASecond(t)
	if after := len(s.worker.seen()); after != before {
		t.Errorf("%d refused jobs reached the worker", after-before)
	}
	s.serving.Store(true)
	testenv.Eventually(t, startLimit, "jobs are taken again", func() bool {
		return s.ask(t, "POST", addToCartPath, addBody("jo", 1)).status == http.StatusOK
	})
}

func TestAWorkerThatSaysNothingIsNoReasonToRefuse(t *testing.T) {
	t.Parallel()
	healthy, refusing, gone := testenv.FreeAddress(t), testenv.FreeAddress(t), testenv.FreeAddress(t)
	for addr, err := range map[string]error{healthy: nil, refusing: fault.Away("the database", context.DeadlineExceeded)} {
		check := debugport.Check{Name: "database", Ask: func(context.Context) error { return err }}
		server := rpc.Server{Addr: addr, Identity: identity.Insecure(), Log: quiet, Register: func(grpc.ServiceRegistrar) {}, Checks: []debugport.Check{check}}
		run(t, server.Run)
	}
	for _, c := range []struct {
		name, addrs string
		refused     bool
	}{
		{"gone", gone, false},
		{"refusing and gone", refusing + "," + gone, true},
		{"refusing, by name", "dns:///" + refusing, true},
		{"refusing and serving", refusing + ", " + healthy, false},
	} {
		h, err := newHealth(map[messaging.Queue]string{jobs.Cartmanager: c.addrs}, identity.Insecure())
		if err != nil {
			t.Fatal(err)
		}
		stop := run(t, h.Run)
		replicas := h.services[jobs.Cartmanager]
		testenv.Eventually(t, startLimit, c.name+" is known", func() bool {
			known := 0
			for _, r := range replicas {
				if n := r.state.Load(); n == serving || n >= strikesMax {
					known++
				}
			}
			return known == len(replicas) || c.addrs == gone || known == 1 && len(replicas) == 2 && c.refused
		})
		if err := h.refuses(jobs.Cartmanager); (err != nil) != c.refused || err != nil && !fault.Is(err, fault.Unavailable) {
			t.Errorf("%s: refuses with %v", c.name, err)
		}
		if err := h.refuses(jobs.Checkoutmanager); err != nil {
			t.Errorf("%s: another queue refuses with %v", c.name, err)
		}
		stop()
	}
}

// Z12: a request that waits when the process is asked to stop is still answered.
func TestAStopAnswersTheRequestsInHand(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	s.startWorker(t)
	stop := s.startGateway(t)
	s.waitUntilReady(t)
	release := make(chan struct{})
	s.worker.says("slow", func(ctx context.Context, to *jobs.Answers, m messaging.Message) error {
		<-release
		return to.Done(ctx, m, false)
	})
	answered := make(chan response, 1)
	go func() {
		r, err := s.tryAsk(t.Context(), "POST", checkOutCartPath, checkoutBody("slow"))
		if err != nil {
			t.Error(err)
		}
		answered <- r
	}()
	testenv.Eventually(t, startLimit, "the job is in hand", func() bool { return len(s.worker.seen()) == 1 })
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	testenv.Eventually(t, startLimit, "the door is closed", func() bool {
		conn, err := net.Dial("tcp", s.settings.Listen)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	close(release)
	if r := <-answered; r.status != http.StatusOK || r.text("status") != success {
		t.Errorf("got %d %s", r.status, r.body)
	}
	<-stopped
}

// A client that holds a connection open and says nothing does not hold up a stop.
func TestASilentConnectionDoesNotHoldUpAStop(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	stop := s.startGateway(t)
	s.waitUntilReady(t)
	conn, err := net.Dial("tcp", s.settings.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s.ask(t, "GET", "/v1/jobs/job-done", "") // the connection before it has been taken in
	began := time.Now()
	stop()
	if took := time.Since(began); took > 4*hurryMax {
		t.Errorf("the stop took %s", took)
	}
}
