// Package gateway is the shop's front door: HTTP in, jobs on the broker out. It turns each change
// that a shopper asks for into a job, waits for the answer to that very job, and says honestly
// what it knows when no answer comes in time. Questions go to the services that own the answer.
// It owns nothing durable and decides nothing about stock or money: what it refuses because it is sold
// out, inventory has said so of a moment ago.
package gateway

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"cartwright/internal/debugport"
	"cartwright/internal/groupcommit"
	"cartwright/internal/identity"
	"cartwright/internal/lifecycle"
	"cartwright/internal/logging"
	"cartwright/internal/messaging"
	"cartwright/internal/rpc"
	"cartwright/jobs"
	"cartwright/pricelist"
	"cartwright/proto/cartpb"
	"cartwright/proto/cataloguepb"
	"cartwright/proto/checkoutpb"
	"cartwright/proto/inventorypb"
	"cartwright/soldout"
)

// Settings of a gateway.
type Settings struct {
	logging.Settings
	Broker              messaging.Settings
	TLS                 identity.Settings
	Listen              string        `env:"GATEWAY_LISTEN" envDefault:"127.0.0.1:5003" help:"where HTTP is served"`
	DebugListen         string        `env:"GATEWAY_DEBUG_LISTEN" envDefault:"127.0.0.1:5004" help:"where health, metrics and profiles are served"`
	AnswerTimeout       time.Duration `env:"GATEWAY_ANSWER_TIMEOUT" envDefault:"5s" help:"how long a request waits for its job before it is answered 202, 100ms to 60s"`
	StaffKey            string        `env:"STAFF_KEY" help:"opens the staff routes, at least 16 characters; without one they are off"`
	JobSecret           string        `env:"JOB_SECRET,required" help:"signs jobs; several keys divided by commas, the newest first, each of at least 16 characters"`
	CartmanagerAddr     string        `env:"CARTMANAGER_ADDR" envDefault:"127.0.0.1:9110" help:"where clients find the cartmanager"`
	CheckoutmanagerAddr string        `env:"CHECKOUTMANAGER_ADDR" envDefault:"127.0.0.1:9120" help:"where clients find the checkoutmanager"`
	CatalogueAddr       string        `env:"CATALOGUE_ADDR" envDefault:"127.0.0.1:9140" help:"where clients find the catalogue"`
	InventoryAddr       string        `env:"INVENTORY_ADDR" envDefault:"127.0.0.1:9100" help:"where clients find the inventory"`
}

const (
	answerTimeoutMin = 100 * time.Millisecond // below, even a quick job would be answered 202
	answerTimeoutMax = time.Minute            // what proxies in front of a shop usually allow
	staffKeyMin      = 16                     // characters: too many to guess over a network
)

// Check returns everything that is wrong with the settings.
func (s Settings) Check() (faults []error) {
	if s.AnswerTimeout < answerTimeoutMin || s.AnswerTimeout > answerTimeoutMax {
		faults = append(faults, fmt.Errorf("CARTWRIGHT_GATEWAY_ANSWER_TIMEOUT is %s, want %s to %s", s.AnswerTimeout, answerTimeoutMin, answerTimeoutMax))
	}
	if s.StaffKey != "" && len(s.StaffKey) < staffKeyMin {
		faults = append(faults, fmt.Errorf("CARTWRIGHT_STAFF_KEY has %d characters, want at least %d", len(s.StaffKey), staffKeyMin))
	}
	if _, err := messaging.ParseKeys(s.JobSecret); err != nil {
		faults = append(faults, fmt.Errorf("CARTWRIGHT_JOB_SECRET: %w", err))
	}
	return faults
}

// gateway is one running front door.
type gateway struct {
	log           *slog.Logger
	answerTimeout time.Duration
	staffKey      *[sha256.Size]byte // nil when the staff routes are off

	publisher *messaging.Publisher
	replies   *messaging.Replies
	room      *waitingRoom
	accepted  *acceptedJobs
	health    *health
	list      *pricelist.List
	soldOut   *soldout.List
	rush      *rush
	metrics   *metrics

	carts     cartpb.CartsClient
	orders    checkoutpb.OrdersClient
	catalogue cataloguepb.CatalogueClient
	inventory inventorypb.InventoryClient
	conns     []*grpc.ClientConn
}

// Run serves HTTP until ctx ends, then lets the requests in hand finish.
func Run(ctx context.Context, log *slog.Logger, s Settings) error {
	reg := prometheus.NewRegistry()
	g, err := newGateway(log, reg, s)
	if err != nil {
		return err
	}
	defer g.close()
	defer g.list.Close()
	defer g.rush.wait()
	checks := []debugport.Check{
		{Name: "broker", Ask: func(context.Context) error { return g.publisher.Ready() }},
		{Name: "answers", Ask: func(context.Context) error { return g.replies.Ready() }},
	}
	return lifecycle.Run(ctx, log,
		lifecycle.Part{Name: "debug port", Run: func(ctx context.Context) error { return debugport.Serve(ctx, s.DebugListen, reg, checks) }},
		lifecycle.Part{Name: "publisher", Run: g.publisher.Run},
		lifecycle.Part{Name: "answers", Run: g.replies.Run},
		lifecycle.Part{Name: "price list", Run: g.list.Run},
		lifecycle.Part{Name: "sold-out list", Run: g.soldOut.Run},
		lifecycle.Part{Name: "health", Run: g.health.Run},
		lifecycle.Part{Name: "HTTP", Run: func(ctx context.Context) error { return g.serve(ctx, s.Listen) }},
	)
}

func newGateway(log *slog.Logger, reg *prometheus.Registry, s Settings) (*gateway, error) {
	keys, err := messaging.ParseKeys(s.JobSecret)
	if err != nil {
		return nil, fmt.Errorf("job secret: %w", err)
	}
	broker := messaging.Broker{
		URL: s.Broker.URL, Service: "gateway", Topology: jobs.Topology(s.Broker.Namespace), Keys: keys, Log: log, Metrics: messaging.NewMetrics(reg),
	}
	g := &gateway{
		log: log, answerTimeout: s.AnswerTimeout, metrics: newMetrics(reg),
		publisher: messaging.NewPublisher(broker, "gateway"), accepted: newAcceptedJobs(acceptedMax),
	}
	g.room = newWaitingRoom(waitsMax, g.metrics)
	g.replies = &messaging.Replies{Broker: broker, Name: "gateway", Hear: g.room.hear, Lost: g.room.endAll}
	if s.StaffKey != "" {
		hash := sha256.Sum256([]byte(s.StaffKey))
		g.staffKey = &hash
	}
	if err := g.dial(s); err != nil {
		return nil, errors.Join(err, g.close())
	}
	g.list = pricelist.New(broker, "gateway", pricelist.From(g.catalogue))
	g.soldOut = soldout.New(broker, "gateway", soldout.From(g.inventory))
	g.rush = newRush(g.soldOut, g.carts, g.orders, groupcommit.NewMetrics(reg))
	return g, nil
}

// dial makes the clients of all services; nothing is connected yet.
func (g *gateway) dial(s Settings) (err error) {
	self, err := identity.Open(s.TLS, "gateway", g.log)
	if err != nil {
		return err
	}
	connect := func(service, addr string) *grpc.ClientConn {
		conn, dialErr := rpc.Dial(addr, self.Client(service))
		if dialErr != nil {
			err = errors.Join(err, dialErr)
			return nil
		}
		g.conns = append(g.conns, conn)
		return conn
	}
	g.carts = cartpb.NewCartsClient(connect("cartmanager", s.CartmanagerAddr))
	g.orders = checkoutpb.NewOrdersClient(connect("checkoutmanager", s.CheckoutmanagerAddr))
	g.catalogue = cataloguepb.NewCatalogueClient(connect("catalogue", s.CatalogueAddr))
	g.inventory = inventorypb.NewInventoryClient(connect("inventory", s.InventoryAddr))
	if err != nil {
		return err
	}
	g.health, err = newHealth(map[messaging.Queue]string{
		jobs.Cartmanager:     s.CartmanagerAddr,
		jobs.Checkoutmanager: s.CheckoutmanagerAddr,
	}, self)
	return err
}

func (g *gateway) close() (err error) {
	for _, conn := range g.conns {
		err = errors.Join(err, conn.Close())
	}
	return err
}
