// Package cartmanager keeps the carts. It owns the tables carts, cart_lines, freezes and
// processed_jobs. Shoppers change carts by jobs on its queue; a checkout takes the lines of a cart,
// or gives them back, by gRPC. It never takes a price from a
// shopper, and never holds stock or money.
package cartmanager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
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
	"cartwright/proto/cartpb"
	schema "cartwright/sql"
)

const name = "cartmanager"

// prefetchMax bounds the jobs in hand, each of which is a goroutine; more only wait for the one
// transaction that is on its way.
const prefetchMax = 4096

// Settings of the service.
type Settings struct {
	Log    logging.Settings
	Broker messaging.Settings
	TLS    identity.Settings

	Listen        string `env:"CARTMANAGER_LISTEN" envDefault:"127.0.0.1:9110" help:"where cartmanager serves gRPC"`
	DebugListen   string `env:"CARTMANAGER_DEBUG_LISTEN" envDefault:"127.0.0.1:9111" help:"where cartmanager serves health, metrics and profiles"`
	DSN           string `env:"CARTMANAGER_DSN,required,notEmpty" help:"cartmanager's account in the database server, as user:password@tcp(host:port)/"`
	Connections   int    `env:"CARTMANAGER_DB_CONNECTIONS" envDefault:"8" help:"connections to the database at most"`
	Prefetch      int    `env:"CARTMANAGER_PREFETCH" envDefault:"512" help:"cart jobs in hand at a time, 1 to 4096"`
	JobSecret     string `env:"JOB_SECRET,required,notEmpty" help:"key that signs jobs, at least 16 characters; several divided by commas, the newest first"`
	CatalogueAddr string `env:"CATALOGUE_ADDR" envDefault:"127.0.0.1:9140" help:"where catalogue is found: host:port, a list divided by commas, or dns:///name:port"`
	InventoryAddr string `env:"INVENTORY_ADDR" envDefault:"127.0.0.1:9100" help:"where inventory is found: host:port, a list divided by commas, or dns:///name:port"`
}

// Check returns everything that is wrong with s, each naming its key.
func (s *Settings) Check() (faults []error) {
	if s.Connections < 2 { // the relay keeps one
		faults = append(faults, errors.New("CARTWRIGHT_CARTMANAGER_DB_CONNECTIONS must be at least 2"))
	}
	if s.Prefetch < 1 || s.Prefetch > prefetchMax {
		faults = append(faults, fmt.Errorf("CARTWRIGHT_CARTMANAGER_PREFETCH must be from 1 to %d", prefetchMax))
	}
	if _, err := messaging.ParseKeys(s.JobSecret); err != nil {
		faults = append(faults, fmt.Errorf("CARTWRIGHT_JOB_SECRET: %w", err))
	}
	return faults
}

// Run serves until ctx ends, then finishes what is in hand. Its error says which part could not
// go on.
func Run(ctx context.Context, log *slog.Logger, s Settings) error {
	keys, err := messaging.ParseKeys(s.JobSecret)
	if err != nil {
		return fmt.Errorf("CARTWRIGHT_JOB_SECRET: %w", err)
	}
	database := s.Broker.Namespace + schema.Carts
	db, err := store.Open(s.DSN, database, s.Connections)
	if err != nil {
		return err
	}
	defer db.Close()
	self, err := identity.Open(s.TLS, name, log)
	if err != nil {
		return err
	}
	catalogue, err := rpc.Dial(s.CatalogueAddr, self.Client("catalogue"))
	if err != nil {
		return fmt.Errorf("catalogue: %w", err)
	}
	defer catalogue.Close()
	inventory, err := rpc.Dial(s.InventoryAddr, self.Client("inventory"))
	if err != nil {
		return fmt.Errorf("inventory: %w", err)
	}
	defer inventory.Close()

	reg := prometheus.NewRegistry()
	sizes := groupcommit.NewMetrics(reg)
	broker := messaging.Broker{URL: s.Broker.URL, Service: name, Topology: jobs.Topology(s.Broker.Namespace), Keys: keys, Log: log, Metrics: messaging.NewMetrics(reg)}
	publisher, mover := messaging.NewPublisher(broker, name), messaging.NewPublisher(broker, name+".moves")
	shop := newShop(catalogue, inventory, sizes)
	carts := newCarts(db, shop, sizes)
	defer carts.wait()
	w := &worker{carts: carts, answers: jobs.NewAnswers(publisher), log: log}
	consumer := &messaging.Consumer{Broker: broker, Publisher: mover, Queue: jobs.Cartmanager, Name: name, Prefetch: s.Prefetch, Handle: w.handle, Delayed: w.delayed}
	gate := &pauses.Gate{DB: db, Queue: string(jobs.Cartmanager), Work: consumer, Log: log}
	relay := outbox.Relay{DB: db, Database: database, Source: "cartwright/" + name, Publisher: publisher, Log: log}

	// Questions and freezes need the database only, so the broker has no say in the gRPC health.
	needs := []debugport.Check{{Name: "database", Ask: func(ctx context.Context) error { return store.Ping(ctx, db) }}}
	all := append(needs[:1:1],
		debugport.Check{Name: "broker publisher", Ask: func(context.Context) error { return publisher.Ready() }},
		debugport.Check{Name: "broker consumer", Ask: func(context.Context) error { return gate.Ready() }, Note: gate.Note})
	questions := rpc.Server{Addr: s.Listen, Log: log, Identity: self, Allows: access.Allows, Checks: needs, Register: func(r grpc.ServiceRegistrar) { cartpb.RegisterCartsServer(r, &server{carts: carts}) }}

	// Stopped from the last to the first: no new jobs, then no new calls, then the last events go out.
	return lifecycle.Run(ctx, log,
		lifecycle.Part{Name: "debug port", Run: func(ctx context.Context) error { return debugport.Serve(ctx, s.DebugListen, reg, all) }},
		lifecycle.Part{Name: "publisher", Run: publisher.Run},
		lifecycle.Part{Name: "mover", Run: mover.Run},
		lifecycle.Part{Name: "relay", Run: relay.Run},
		lifecycle.Part{Name: "pruner", Run: pruner{db, log}.run},
		lifecycle.Part{Name: "gRPC server", Run: questions.Run},
		lifecycle.Part{Name: "consumer", Run: gate.Run})
}
