// Package catalogue keeps what is for sale, and at what price. It owns the catalogue database. It
// knows nothing of how much of a product there is.
package catalogue

import (
	"context"
	"fmt"
	"log/slog"

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
	"cartwright/internal/settings"
	"cartwright/internal/store"
	"cartwright/jobs"
	"cartwright/proto/cataloguepb"
	schema "cartwright/sql"
)

// Settings of the service.
type Settings struct {
	Log         logging.Settings
	Broker      messaging.Settings
	TLS         identity.Settings
	Listen      string `env:"CATALOGUE_LISTEN" envDefault:"127.0.0.1:9140" help:"where catalogue serves gRPC"`
	DebugListen string `env:"CATALOGUE_DEBUG_LISTEN" envDefault:"127.0.0.1:9141" help:"where catalogue serves health, metrics and profiles"`
	DSN         string `env:"CATALOGUE_DSN,required" help:"database account of catalogue, as user:password@tcp(host:port)/"`
	Connections int    `env:"CATALOGUE_DB_CONNECTIONS" envDefault:"4" help:"most connections of catalogue to its database"`
}

// connectionsMin is one each for the relay, for reading, and for everything else.
const connectionsMin = 3

// Check tells what is wrong with the settings, beyond their types.
func (s Settings) Check() []error {
	if s.Connections < connectionsMin {
		return []error{fmt.Errorf("%sCATALOGUE_DB_CONNECTIONS is %d, must be %d or more", settings.Prefix, s.Connections, connectionsMin)}
	}
	return nil
}

// Run serves the catalogue until ctx ends.
func Run(ctx context.Context, log *slog.Logger, s Settings) error {
	name := s.Broker.Namespace + schema.Catalogue
	db, err := store.Open(s.DSN, name, s.Connections)
	if err != nil {
		return err
	}
	defer db.Close()
	self, err := identity.Open(s.TLS, "catalogue", log)
	if err != nil {
		return err
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	server := newServer(db, reg)
	publisher := messaging.NewPublisher(messaging.Broker{URL: s.Broker.URL, Service: "catalogue", Topology: jobs.Topology(s.Broker.Namespace), Log: log}, "catalogue")
	relay := outbox.Relay{DB: db, Database: name, Source: "cartwright/catalogue", Publisher: publisher, Log: log}

	database := debugport.Check{Name: "database", Ask: func(ctx context.Context) error { return store.Ping(ctx, db) }}
	broker := debugport.Check{Name: "broker", Ask: func(context.Context) error { return publisher.Ready() }}
	// Without the broker products are still read and changed, and the events wait: gRPC stays open.
	calls := rpc.Server{Addr: s.Listen, Log: log, Identity: self, Allows: access.Allows, Checks: []debugport.Check{database}, Register: func(r grpc.ServiceRegistrar) {
		cataloguepb.RegisterCatalogueServer(r, server)
	}}
	return lifecycle.Run(ctx, log,
		lifecycle.Part{Name: "debug port", Run: func(ctx context.Context) error {
			return debugport.Serve(ctx, s.DebugListen, reg, []debugport.Check{database, broker})
		}},
		lifecycle.Part{Name: "publisher", Run: publisher.Run},
		lifecycle.Part{Name: "relay", Run: relay.Run},
		lifecycle.Part{Name: "gRPC", Run: calls.Run},
	)
}
