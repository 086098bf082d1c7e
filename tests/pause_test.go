package tests

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cartwright/internal/lifecycle"
	"cartwright/internal/messaging"
	"cartwright/internal/testenv"
	"cartwright/jobs"
	schema "cartwright/sql"
)

const (
	// shortAnswer is how long the gateway of these tests waits before it answers 202.
	shortAnswer = 500 * time.Millisecond
	// pauseLasts is several times as long as a worker needs to do what waits.
	pauseLasts = 3 * time.Second
	// longInHand is how long some payments take: less than after which they would leave the worker.
	longInHand = 1500 * time.Millisecond
	// quietFor this long, nothing is in a worker's hand any more that would be done soon.
	quietFor = 300 * time.Millisecond
)

// pause pauses a queue and waits until all its workers say so and hear no more.
func (f *fleet) pause(queue messaging.Queue, by string) {
	f.t.Helper()
	f.says("queues", "pause", string(queue), "--by", by)
	f.isHeld(queue, by)
}

func (f *fleet) isHeld(queue messaging.Queue, by string) {
	f.t.Helper()
	w := f.wire()
	testenv.Eventually(f.t, readyLimit, string(queue)+" is paused", func() bool {
		for i := range f.replicas[string(queue)] {
			if !strings.Contains(f.readiness(string(queue), i), "paused by "+by+" since ") {
				return false
			}
		}
		return w.depth(queue).Consumers == 0
	})
}

// readiness is what a replica says of itself, empty while it is not ready.
func (s *shop) readiness(service string, replica int) string {
	resp, err := s.client.Get("http://" + s.env[fmt.Sprintf("%s_DEBUG_LISTEN_%d", strings.ToUpper(service), replica)] + "/readyz")
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return ""
	}
	return string(said)
}

// depth looks at a queue.
func (w *wire) depth(queue messaging.Queue) messaging.Depth {
	w.s.t.Helper()
	state, err := w.channel.QueueDeclarePassive(w.s.namespace+string(queue), true, false, false, false, nil)
	if err != nil {
		w.s.t.Fatal(err)
	}
	return messaging.Depth{Queue: queue, Waiting: state.Messages, Consumers: state.Consumers}
}

// B6: while a queue is paused, each request is answered 202 after its limit and its job waits: also
// when a worker is killed and started again meanwhile, and when one more starts. Resumed, every job
// is done once.
func TestAPausedQueueKeepsItsJobs(t *testing.T) {
	t.Parallel()
	const crowd, replicas = 24, 2
	f := newFleet(t, options{replicas: map[string]int{"checkoutmanager": replicas}, env: map[string]string{"GATEWAY_ANSWER_TIMEOUT": shortAnswer.String()}})
	f.product("tea", 100, crowd)
	all := f.crowd("c", crowd, "")
	f.fillAll(all, "tea")
	f.pause(jobs.Checkoutmanager, "ann")

	w := f.wire()
	waits := func(want int) {
		t.Helper()
		testenv.Eventually(t, readyLimit, "the jobs wait", func() bool { return w.depth(jobs.Checkoutmanager).Waiting == want })
		if n := f.countOrders(""); n != 0 {
			t.Errorf("%d checkouts have begun", n)
		}
	}
	f.areAccepted(all[:crowd/2])
	waits(crowd / 2)
	for i := range replicas { // the second of them is the only one that has known of the pause from its start
		f.kill("checkoutmanager", i)
		f.start("checkoutmanager", i)
		f.awaitReady("checkoutmanager", i)
	}
	f.areAccepted(all[crowd/2:])
	lifecycle.Pause(t.Context(), pauseLasts)
	waits(crowd)
	for i := range replicas {
		if said := f.readiness("checkoutmanager", i); !strings.Contains(said, "paused by ann since ") {
			t.Errorf("replica %d says %q", i, said)
		}
	}
	if said := f.says("queues", "pause", "checkoutmanager", "--by", "bob"); !strings.Contains(said, "paused already, by ann since ") {
		t.Errorf("paused again, it says %q", said)
	}
	if said := f.says("queues"); !strings.Contains(said, "by ann since ") || strings.Count(said, " no\n") != 1 {
		t.Errorf("it shows\n%s", said)
	}

	f.says("queues", "resume", "checkoutmanager", "--by", "bob")
	for _, b := range all {
		if o, n := f.ends(b.order), f.charges(b.order); o.Status != "PAID" || n != 1 {
			t.Errorf("%s: order is %s, with %d charges", b.client, o.Status, n)
		}
	}
	if n := f.countOrders(""); n != crowd {
		t.Errorf("%d orders, want %d", n, crowd)
	}
	if got := f.stock("tea"); got != (stock{}) {
		t.Errorf("stock: got %+v, want none", got)
	}
	for _, q := range []messaging.Queue{jobs.Checkoutmanager, jobs.Checkoutmanager.Retry(), jobs.Checkoutmanager.Dead()} {
		testenv.Eventually(t, readyLimit, string(q)+" is empty", func() bool { return w.depth(q).Waiting == 0 })
	}
	f.agrees()
}

// areAccepted has all shoppers check out once, at the same time, and holds each to be answered 202
// when the gateway's time is up.
func (s *shop) areAccepted(all []*shopper) {
	s.t.Helper()
	var hands sync.WaitGroup
	for _, b := range all {
		hands.Go(func() {
			began := time.Now()
			a, err := s.checkOut(b.client, b.method, b.key)
			took := time.Since(began)
			if err != nil || a.code != http.StatusAccepted || took < shortAnswer || took > shortAnswer+s.slack {
				s.t.Errorf("%s: %d %s after %s, %v", b.client, a.code, a.raw, took, err)
			}
			b.accepted, b.order = true, a.Order
		})
	}
	hands.Wait()
}

// B6: both queues are paused and resumed several times while a crowd shops. What is in hand is
// finished, what is not waits; nothing is lost, done twice or buried.
func TestAPauseUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	const pausesOfEach = 3
	f := newFleet(t, options{replicas: map[string]int{"cartmanager": 2, "checkoutmanager": 2}, env: map[string]string{"PAYMENTS_TEST_SLOW": longInHand.String()}})
	ctx, cancel := context.WithTimeout(t.Context(), 2*crashLimit)
	defer cancel()
	crowd := crashCrowd(600, 3000)
	f.product("tea", 100, int64(crowd))
	all := f.crowd("c", crowd, "")
	for i := range all {
		if i%2 == 0 {
			all[i].method = "tok_slow"
		}
	}
	wait := f.shopping(ctx, all)
	for range pausesOfEach {
		f.whenPlaced(f.countOrders("placed") + crowd/(4*pausesOfEach))
		f.says("queues", "pause", string(jobs.Checkoutmanager), "--by", "ann")
		inHand := f.countOrders("placing")
		f.isHeld(jobs.Checkoutmanager, "ann")
		testenv.Eventually(t, readyLimit, "what was in hand is finished", func() bool { return f.countOrders("placing") == 0 })
		f.pause(jobs.Cartmanager, "ann")
		before := f.settledJobs()
		testenv.Eventually(t, readyLimit, "what was in hand is done", func() (done bool) {
			lifecycle.Pause(ctx, quietFor)
			done, before = f.settledJobs() == before, f.settledJobs()
			return done
		})
		lifecycle.Pause(ctx, pauseLasts)
		if after := f.settledJobs(); after != before {
			t.Errorf("%s jobs were done before and %s after", before, after)
		}
		if inHand == 0 {
			t.Error("no checkout was in hand")
		}
		t.Logf("paused with %d in hand, now %d are placed and %d wait", inHand, f.countOrders("placed"), f.wire().depth(jobs.Checkoutmanager).Waiting)
		for _, q := range slices.Backward([]messaging.Queue{jobs.Checkoutmanager, jobs.Cartmanager}) {
			f.says("queues", "resume", string(q), "--by", "bob")
		}
	}
	wait()
	f.soldTo(all, 0)
	for _, q := range []messaging.Queue{jobs.Cartmanager, jobs.Checkoutmanager} {
		if n := f.wire().depth(q.Dead()).Waiting; n != 0 {
			t.Errorf("%d jobs of %s were buried", n, q)
		}
		var turns int
		err := f.database(databaseOf(q)).QueryRow("SELECT COUNT(*) FROM pauses WHERE queue = ? AND changed_by = IF(paused, 'ann', 'bob')", q).Scan(&turns)
		if err != nil || turns != 2*pausesOfEach {
			t.Errorf("%d turns of %s are on record: %v", turns, q, err)
		}
	}
}

func databaseOf(q messaging.Queue) string {
	return map[messaging.Queue]string{jobs.Cartmanager: schema.Carts, jobs.Checkoutmanager: schema.Checkouts}[q]
}

// settledJobs counts the jobs that have left their marks in the tables.
func (s *shop) settledJobs() string {
	s.t.Helper()
	var carts int
	if err := s.database(schema.Carts).QueryRow("SELECT COUNT(*) FROM processed_jobs").Scan(&carts); err != nil {
		s.t.Fatal(err)
	}
	return fmt.Sprintf("%d cart and %d checkout", carts, s.countOrders(""))
}
