// Package payments takes money through a provider and gives it back, once each. It owns the
// payments database, and is the only service that speaks to a payment provider. It never sees a
// card number: a method of payment is a token that the provider made.
package payments

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"google.golang.org/grpc"

	"cartwright/access"
	"cartwright/internal/debugport"
	"cartwright/internal/identity"
	"cartwright/internal/lifecycle"
	"cartwright/internal/logging"
	"cartwright/internal/messaging"
	"cartwright/internal/outbox"
	"cartwright/internal/rpc"
	"cartwright/internal/store"
	"cartwright/jobs"
	"cartwright/proto/paymentspb"
	schema "cartwright/sql"
)

// Settings of the service.
type Settings struct {
	Log         logging.Settings
	Broker      messaging.Settings
	TLS         identity.Settings
	Listen      string        `env:"PAYMENTS_LISTEN" envDefault:"127.0.0.1:9130" help:"where payments serves gRPC"`
	DebugListen string        `env:"PAYMENTS_DEBUG_LISTEN" envDefault:"127.0.0.1:9131" help:"where payments serves health, metrics and profiles"`
	DSN         string        `env:"PAYMENTS_DSN,required" help:"database account of payments, as user:password@tcp(host:port)/"`
	Connections int           `env:"PAYMENTS_DB_CONNECTIONS" envDefault:"8" help:"most connections of payments to its database"`
	Provider    string        `env:"PAYMENTS_PROVIDER" envDefault:"test" help:"who takes the money: test, which is only a game"`
	TestSlow    time.Duration `env:"PAYMENTS_TEST_SLOW" envDefault:"20s" help:"how long the test provider takes for tok_slow"`
}

// connectionsMin is one each for the relay, our books, the test provider's, and health.
const connectionsMin = 4

// Check tells what is wrong with the settings, beyond their types.
func (s Settings) Check() []error {
	var faults []error
	if err := checkProvider(s.Provider); err != nil {
		faults = append(faults, err)
	}
	if s.Connections < connectionsMin {
		faults = append(faults, wrongSetting("PAYMENTS_DB_CONNECTIONS", "is %d, must be %d or more", s.Connections, connectionsMin))
	}
	if s.TestSlow < 0 {
		faults = append(faults, wrongSetting("PAYMENTS_TEST_SLOW", "is %s, must not be negative", s.TestSlow))
	}
	return faults
}

// Run serves payments until ctx ends.
func Run(ctx context.Context, log *slog.Logger, s Settings) error {
	db, err := store.Open(s.DSN, s.Broker.Namespace+schema.Payments, s.Connections)
	if err != nil {
		return err
	}
	defer db.Close()
	self, err := identity.Open(s.TLS, "payments", log)
	if err != nil {
		return err
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m := newMetrics(reg)
	provider, background, err := newProvider(s, db, m)
	if err != nil {
		return err
	}
	server := newServer(db, provider, s.Provider, m)
	publisher := messaging.NewPublisher(messaging.Broker{URL: s.Broker.URL, Service: "payments", Topology: jobs.Topology(s.Broker.Namespace), Log: log}, "payments")
	relay := outbox.Relay{DB: db, Database: s.Broker.Namespace + schema.Payments, Source: "cartwright/payments", Publisher: publisher, Log: log}

	database := debugport.Check{Name: "database", Ask: func(ctx context.Context) error { return store.Ping(ctx, db) }}
	broker := debugport.Check{Name: "broker", Ask: func(context.Context) error { return publisher.Ready() }}
	// Without the broker money is still taken, and its events wait: gRPC stays open then.
	calls := rpc.Server{Addr: s.Listen, Log: log, Identity: self, Allows: access.Allows, Checks: []debugport.Check{database}, Register: func(r grpc.ServiceRegistrar) {
		paymentspb.RegisterPaymentsServer(r, server)
	}}
	return lifecycle.Run(ctx, log,
		lifecycle.Part{Name: "debug port", Run: func(ctx context.Context) error {
			return debugport.Serve(ctx, s.DebugListen, reg, []debugport.Check{database, broker})
		}},
		lifecycle.Part{Name: "publisher", Run: publisher.Run},
		lifecycle.Part{Name: "relay", Run: relay.Run},
		lifecycle.Part{Name: "provider", Run: background},
		lifecycle.Part{Name: "charges", Run: server.charges.run},
		lifecycle.Part{Name: "gRPC", Run: calls.Run},
	)
}
