// Package checkoutmanager turns carts into orders. It owns the database checkouts with its orders
// and outbox, and is the only service that knows the order in which promises are made and taken
// back. It never touches another service's tables.
package checkoutmanager

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"google.golang.org/grpc"

	"cartwright/access"
	"cartwright/internal/debugport"
	"cartwright/internal/groupcommit"
	"cartwright/internal/identity"
	"cartwright/internal/lifecycle"
	"cartwright/internal/logging"
	"cartwright/internal/messaging"
	"cartwright/internal/outbox"
	"cartwright/internal/pauses"
	"cartwright/internal/rpc"
	"cartwright/internal/store"
	"cartwright/jobs"
	"cartwright/proto/checkoutpb"
	schema "cartwright/sql"
)

const name = "checkoutmanager"

// Settings of the service.
type Settings struct {
	logging.Settings
	Broker          messaging.Settings
	TLS             identity.Settings
	Listen          string        `env:"CHECKOUTMANAGER_LISTEN" envDefault:"127.0.0.1:9120" help:"where gRPC is served"`
	DebugListen     string        `env:"CHECKOUTMANAGER_DEBUG_LISTEN" envDefault:"127.0.0.1:9121" help:"where health, metrics and profiles are served"`
	DSN             string        `env:"CHECKOUTMANAGER_DSN,required" help:"MySQL or MariaDB, as user:password@tcp(host:port)/"`
	Connections     int           `env:"CHECKOUTMANAGER_DB_CONNECTIONS" envDefault:"8" help:"database connections at most"`
	Prefetch        int           `env:"CHECKOUTMANAGER_PREFETCH" envDefault:"512" help:"jobs in hand at a time"`
	Patience        time.Duration `env:"CHECKOUTMANAGER_PATIENCE" envDefault:"5m" help:"how long a checkout may wait for silent services before it is given up; must be less than INVENTORY_RESERVATION_TTL"`
	JobSecret       string        `env:"JOB_SECRET,required" help:"signs jobs: one key of at least 16 characters, or several divided by commas, the newest first"`
	CartmanagerAddr string        `env:"CARTMANAGER_ADDR" envDefault:"127.0.0.1:9110" help:"where cartmanager is: host:port, several divided by commas, or dns:///name:port"`
	InventoryAddr   string        `env:"INVENTORY_ADDR" envDefault:"127.0.0.1:9100" help:"where inventory is"`
	PaymentsAddr    string        `env:"PAYMENTS_ADDR" envDefault:"127.0.0.1:9130" help:"where payments is"`
}

// Check returns what is wrong with the settings beyond their types.
func (s *Settings) Check() (faults []error) {
	if _, err := messaging.ParseKeys(s.JobSecret); err != nil {
		faults = append(faults, fmt.Errorf("CARTWRIGHT_JOB_SECRET: %w", err))
	}
	if s.Prefetch < 1 || s.Prefetch > 4096 {
		faults = append(faults, fmt.Errorf("CARTWRIGHT_CHECKOUTMANAGER_PREFETCH is %d, want 1 to 4096", s.Prefetch))
	}
	if s.Connections < 2 || s.Connections > 200 {
		faults = append(faults, fmt.Errorf("CARTWRIGHT_CHECKOUTMANAGER_DB_CONNECTIONS is %d, want 2 to 200", s.Connections))
	}
	if s.Patience < time.Second || s.Patience > 24*time.Hour {
		faults = append(faults, fmt.Errorf("CARTWRIGHT_CHECKOUTMANAGER_PATIENCE is %s, want 1s to 24h", s.Patience))
	}
	return faults
}

// Run works until ctx ends. What it was given is finished or left to others before it returns.
func Run(ctx context.Context, log *slog.Logger, s Settings) error {
	keys, err := messaging.ParseKeys(s.JobSecret)
	if err != nil {
		return err
	}
	db, err := store.Open(s.DSN, s.Broker.Namespace+schema.Checkouts, s.Connections)
	if err != nil {
		return err
	}
	defer db.Close()
	self, err := identity.Open(s.TLS, name, log)
	if err != nil {
		return err
	}
	conns, err := dialAll(self, service{"cartmanager", s.CartmanagerAddr}, service{"inventory", s.InventoryAddr}, service{"payments", s.PaymentsAddr})
	if err != nil {
		return err
	}
	defer closeAll(conns)

	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	observe := groupcommit.NewMetrics(reg).Of
	broker := messaging.Broker{URL: s.Broker.URL, Service: name, Topology: jobs.Topology(s.Broker.Namespace), Keys: keys, Log: log, Metrics: messaging.NewMetrics(reg)}
	publisher, mover := messaging.NewPublisher(broker, name), messaging.NewPublisher(broker, name+".moves")
	book := newOrders(db, observe)
	carts, stock, cash := newCartClient(conns[0], observe), newStockClient(conns[1], observe), newCashClient(conns[2], observe)
	// Checkouts that start together stay together, up to the payment and from there on, and back.
	groupcommit.InTurn(book.opens, carts.freezes, stock.reserves)
	groupcommit.InTurn(stock.commits, stock.rollbacks, carts.thaws, book.ends)
	saga := &saga{steps: checkoutSteps(), carts: carts, stock: stock, cash: cash, book: book, patience: s.Patience, now: time.Now}
	worker := &worker{saga: saga, orders: book, answers: jobs.NewAnswers(publisher), log: log}
	consumer := &messaging.Consumer{Broker: broker, Publisher: mover, Queue: jobs.Checkoutmanager, Name: name,
		Prefetch: s.Prefetch, Handle: worker.handle, Delayed: worker.delayed}
	gate := &pauses.Gate{DB: db, Queue: string(jobs.Checkoutmanager), Work: consumer, Log: log}
	rescue := &rescue{db: db, orders: book, log: log, walk: saga.walk}

	database := debugport.Check{Name: "database", Ask: func(ctx context.Context) error { return store.Ping(ctx, db) }}
	checks := []debugport.Check{database,
		{Name: "broker", Ask: func(context.Context) error { return publisher.Ready() }},
		{Name: "queue", Ask: func(context.Context) error { return gate.Ready() }, Note: gate.Note}}
	grpcServer := rpc.Server{Addr: s.Listen, Log: log, Identity: self, Allows: access.Allows, Checks: []debugport.Check{database},
		Register: func(r grpc.ServiceRegistrar) {
			checkoutpb.RegisterOrdersServer(r, &server{db: db, orders: book})
			checkoutpb.RegisterCheckoutsServer(r, &operators{db: db, orders: book})
		}}
	relay := outbox.Relay{DB: db, Database: s.Broker.Namespace + schema.Checkouts, Source: "cartwright/" + name, Publisher: publisher, Log: log}
	return lifecycle.Run(ctx, log,
		lifecycle.Part{Name: "debug port", Run: func(ctx context.Context) error { return debugport.Serve(ctx, s.DebugListen, reg, checks) }},
		lifecycle.Part{Name: "publisher", Run: publisher.Run},
		lifecycle.Part{Name: "mover", Run: mover.Run},
		lifecycle.Part{Name: "relay", Run: relay.Run},
		lifecycle.Part{Name: "gRPC", Run: grpcServer.Run},
		lifecycle.Part{Name: "rescue", Run: rescue.run},
		lifecycle.Part{Name: "consumer", Run: gate.Run},
	)
}

type service struct{ name, addr string }

func dialAll(self *identity.Identity, services ...service) (conns []*grpc.ClientConn, err error) {
	for _, s := range services {
		conn, err := rpc.Dial(s.addr, self.Client(s.name))
		if err != nil {
			closeAll(conns)
			return nil, err
		}
		conns = append(conns, conn)
	}
	return conns, nil
}

func closeAll(conns []*grpc.ClientConn) {
	for _, c := range conns {
		c.Close()
	}
}
