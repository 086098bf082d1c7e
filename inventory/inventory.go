// Package inventory keeps stock and promises of stock. It owns the tables stock, reservations and
// stock_movements, and is the only one that decides whether a unit can be had. It never sees a
// price or a cart.
//
// Every change, whoever asks for it, goes through one group: a batch of concurrent calls becomes
// one transaction that locks the rows they concern, decides them in memory in the order in which
// they came (ledger), and writes the outcome once.
package inventory

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
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
	"cartwright/proto/inventorypb"
	schema "cartwright/sql"
)

// The bounds of a reservation's time. Below a second it would lapse on its way back to the
// caller; beyond a day a forgotten one would keep stock off the shelf for nothing.
const (
	ttlMin = time.Second
	ttlMax = 24 * time.Hour
)

// readTime bounds the query behind a question.
const readTime = 5 * time.Second

// Settings of the service.
type Settings struct {
	Log    logging.Settings
	Broker messaging.Settings
	TLS    identity.Settings

	Listen         string        `env:"INVENTORY_LISTEN" envDefault:"127.0.0.1:9100" help:"where gRPC is served"`
	DebugListen    string        `env:"INVENTORY_DEBUG_LISTEN" envDefault:"127.0.0.1:9101" help:"where health, metrics and profiles are served"`
	DSN            string        `env:"INVENTORY_DSN,required" help:"the service's MySQL user, as user:password@tcp(host:port)/"`
	ReservationTTL time.Duration `env:"INVENTORY_RESERVATION_TTL" envDefault:"15m" help:"how long stock is held for a checkout, 1s to 24h"`
	Connections    int           `env:"INVENTORY_DB_CONNECTIONS" envDefault:"8" help:"connections to the database, 4 to 200"`
}

// The bounds of the pool: the relay and a batch hold one connection each, and questions and
// health must not wait for them; and the server has connections for others too.
const (
	connectionsMin = 4
	connectionsMax = 200
)

// Check returns everything that is wrong with the settings.
func (s *Settings) Check() (faults []error) {
	if s.ReservationTTL < ttlMin || s.ReservationTTL > ttlMax {
		faults = append(faults, fmt.Errorf("CARTWRIGHT_INVENTORY_RESERVATION_TTL is %s, want %s to %s", s.ReservationTTL, ttlMin, ttlMax))
	}
	if s.Connections < connectionsMin || s.Connections > connectionsMax {
		faults = append(faults, fmt.Errorf("CARTWRIGHT_INVENTORY_DB_CONNECTIONS is %d, want %d to %d", s.Connections, connectionsMin, connectionsMax))
	}
	return faults
}

// Run serves until ctx ends. It starts without the database and the broker, and is ready when
// they are there; without the broker it goes on selling, and events wait in the outbox.
func Run(ctx context.Context, log *slog.Logger, s Settings) error {
	database := s.Broker.Namespace + schema.Inventory
	db, err := store.Open(s.DSN, database, s.Connections)
	if err != nil {
		return err
	}
	defer db.Close()
	self, err := identity.Open(s.TLS, "inventory", log)
	if err != nil {
		return err
	}
	reg := prometheus.NewRegistry()
	publisher := messaging.NewPublisher(messaging.Broker{
		URL: s.Broker.URL, Service: "inventory", Topology: jobs.Topology(s.Broker.Namespace), Log: log, Metrics: messaging.NewMetrics(reg),
	}, "inventory")
	stock := books{db: db, ttl: s.ReservationTTL}
	answering := newServer(stock, newMetrics(reg))

	hasDatabase := debugport.Check{Name: "database", Ask: func(ctx context.Context) error { return store.Ping(ctx, db) }}
	hasBroker := debugport.Check{Name: "broker", Ask: func(context.Context) error { return publisher.Ready() }}
	relay := outbox.Relay{DB: db, Database: database, Source: "cartwright/inventory", Publisher: publisher, Log: log}
	calls := rpc.Server{
		Addr:     s.Listen,
		Log:      log,
		Identity: self,
		Allows:   access.Allows,
		Register: func(r grpc.ServiceRegistrar) { inventorypb.RegisterInventoryServer(r, answering) },
		Checks:   []debugport.Check{hasDatabase},
	}
	return lifecycle.Run(ctx, log,
		lifecycle.Part{Name: "debug port", Run: func(ctx context.Context) error {
			return debugport.Serve(ctx, s.DebugListen, reg, []debugport.Check{hasDatabase, hasBroker})
		}},
		lifecycle.Part{Name: "publisher", Run: publisher.Run},
		lifecycle.Part{Name: "relay", Run: relay.Run},
		lifecycle.Part{Name: "groups", Run: answering.finish},
		lifecycle.Part{Name: "sweeper", Run: sweeper{stock, answering, log}.Run},
		lifecycle.Part{Name: "gRPC", Run: calls.Run},
	)
}
