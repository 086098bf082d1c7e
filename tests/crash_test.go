package tests

import (
	"context"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"cartwright/internal/ids"
	"cartwright/internal/lifecycle"
	"cartwright/internal/servers"
	"cartwright/internal/testenv"
)

const (
	// fullKey asks for the long form of the tests that have one.
	fullKey = "CARTWRIGHT_TEST_FULL"
	// buyersAtOnce keeps a crowd long enough in the shop for something to break meanwhile.
	buyersAtOnce = 100
	crashLimit   = 90 * time.Second
	// registryPause is how old a quorum queue has to be before its broker may be killed: RabbitMQ
	// 3.10 writes the registry of its queues half a second after the last was declared, and a queue
	// that is not in it is stuck for ever. Only the first second of a shop's life is in that danger.
	registryPause = 2 * time.Second
)

func crashCrowd(short, full int) int {
	if os.Getenv(fullKey) == "1" {
		return full
	}
	return short
}

// shopping lets each of a crowd add a tea and check it out, buyersAtOnce at a time. wait returns
// when all of them have an end.
func (s *shop) shopping(ctx context.Context, all []*shopper) (wait func()) {
	return s.shoppingOver(ctx, 0, all, buyersAtOnce)
}

// shoppingOver has the crowd come in evenly over a time, and at most so many be there at once.
func (s *shop) shoppingOver(ctx context.Context, over time.Duration, all []*shopper, atOnce int) (wait func()) {
	var hands sync.WaitGroup
	work := make(chan *shopper)
	hands.Go(func() {
		defer close(work)
		for _, b := range all {
			work <- b
			lifecycle.Pause(ctx, over/time.Duration(len(all)))
		}
	})
	for range atOnce {
		hands.Go(func() {
			for b := range work {
				if err := b.add(ctx, "tea", ids.New()); err != nil {
					s.t.Error(err)
					continue
				}
				if err := b.checkOut(ctx); err != nil {
					s.t.Error(err)
				}
			}
		})
	}
	return hands.Wait
}

// whenPlaced waits until that many orders are placed.
func (s *shop) whenPlaced(n int) {
	s.t.Helper()
	testenv.Eventually(s.t, crashLimit, "orders are placed", func() bool { return s.countOrders("placed") >= n })
}

// soldTo holds the shop to have sold one tea to each of so many.
func (s *shop) soldTo(all []*shopper, before int) {
	s.t.Helper()
	report(s.t, all)
	for _, b := range all {
		if b.code != 200 {
			s.t.Errorf("%s: the last answer was %d", b.client, b.code)
		}
	}
	if n := s.countOrders("placed"); n != before+len(all) {
		s.t.Errorf("%d placed orders, want %d", n, before+len(all))
	}
	if got := s.stock("tea"); got != (stock{}) {
		s.t.Errorf("stock: got %+v, want none", got)
	}
	s.agrees()
}

// K8, E11, I11, X6: kill -9 of a checkoutmanager, a cartmanager and an inventory in the middle of
// hundreds of checkouts. Every one ends, nobody waits longer than the limit, the books agree.
//
// Z12: then every process is asked to stop while others check out; it ends well, and nothing is
// lost.
func TestKilledAndStoppedProcessesLoseNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{
		replicas: map[string]int{"cartmanager": 3, "checkoutmanager": 3, "inventory": 2},
		env:      map[string]string{"LOG_LEVEL": "debug"}})
	ctx, cancel := context.WithTimeout(t.Context(), 2*crashLimit)
	defer cancel()
	crowd := crashCrowd(600, 2000)
	f.product("tea", 100, int64(crowd))
	all := f.crowd("c", crowd, "")
	wait := f.shopping(ctx, all)
	victims := []string{"checkoutmanager", "cartmanager", "inventory"}
	for i, service := range victims {
		f.whenPlaced((i + 1) * crowd / 8)
		f.kill(service, 0)
		t.Logf("%s killed, %d orders placed", service, f.countOrders("placed"))
		lifecycle.Pause(ctx, time.Second) // it stays away for a while
		f.start(service, 0)
	}
	wait()
	f.soldTo(all, 0)
	for _, service := range victims {
		f.awaitReady(service, 0)
	}

	f.product("tea", 100, int64(crowd/2))
	later := f.crowd("later", crowd/2, "")
	for _, b := range later {
		b.mayBreak = true // the gateway goes too
	}
	wait = f.shopping(ctx, later)
	f.whenPlaced(crowd + crowd/16)
	for _, service := range slices.Backward(startOrder) {
		f.stop(service, 0)
		f.start(service, 0)
		f.awaitReady(service, 0)
	}
	wait()
	f.soldTo(later, crowd)
	f.keepsItsSecrets()
}

// E10, E13, E6: RabbitMQ is killed in the middle of checkouts and started again with its data,
// and then MariaDB. No service is restarted.
func TestKilledServersLoseNothing(t *testing.T) {
	t.Parallel()
	broker, database := ownServers(t)
	f := newFleet(t, options{own: servings{database.DSN(), broker.URL(), broker.AdminURL()}, replicas: map[string]int{"cartmanager": 2, "checkoutmanager": 2}})
	ctx, cancel := context.WithTimeout(t.Context(), 2*crashLimit)
	defer cancel()
	crowd := crashCrowd(400, 2000)
	f.product("tea", 100, int64(crowd))
	all := f.crowd("c", crowd, "")
	lifecycle.Pause(ctx, registryPause)
	wait := f.shopping(ctx, all)

	f.whenPlaced(crowd / 8)
	if err := broker.Kill(); err != nil {
		t.Fatal(err)
	}
	t.Logf("broker killed, %d orders placed", f.countOrders("placed"))
	revived, err := servers.StartRabbitMQ(ctx, broker.Config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { revived.Kill() }) //nolint:errcheck // its data goes next

	f.whenPlaced(f.countOrders("placed") + crowd/8)
	if err := database.Kill(); err != nil {
		t.Fatal(err)
	}
	again, err := servers.StartMariaDB(ctx, database.Config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { again.Kill() }) //nolint:errcheck // its data goes next
	t.Logf("database killed and started, %d orders placed", f.countOrders("placed"))
	wait()
	f.soldTo(all, 0)
}

// ownServers starts a broker and a database server for one test alone.
func ownServers(t *testing.T) (*servers.RabbitMQ, *servers.MariaDB) {
	t.Helper()
	dir, err := os.MkdirTemp("", "cartwright-crash-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // the servers' own users must be able to enter
		t.Fatal(err)
	}
	database, err := servers.StartMariaDB(t.Context(), servers.MariaDBConfig{Dir: dir + "/mariadb", Admin: "admin", Password: "password-of-a-test", OnParentDeath: syscall.SIGKILL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { database.Kill() }) //nolint:errcheck // its data goes next
	broker, err := servers.StartRabbitMQ(t.Context(), servers.RabbitMQConfig{Dir: dir + "/rabbitmq", User: "admin", Password: "password-of-a-test", OnParentDeath: syscall.SIGKILL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { broker.Kill() }) //nolint:errcheck // its data goes next
	return broker, database
}
