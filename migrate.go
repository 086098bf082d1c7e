package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"time"

	"cartwright/internal/fault"
	"cartwright/internal/logging"
	"cartwright/internal/messaging"
	"cartwright/jobs"
	schema "cartwright/sql"
)

// migrateSettings are the accounts that migrate makes and the one that it works with.
type migrateSettings struct {
	logging.Settings
	Broker messaging.Settings

	AdminDSN           string `env:"ADMIN_DSN,required" help:"an account that may make databases and accounts, for migrate, bench, and queues where it changes something"`
	ReaderDSN          string `env:"MYSQL_DSN" help:"an account that may read all databases"`
	InventoryDSN       string `env:"INVENTORY_DSN" help:"inventory's own account"`
	CartmanagerDSN     string `env:"CARTMANAGER_DSN" help:"cartmanager's own account"`
	CheckoutmanagerDSN string `env:"CHECKOUTMANAGER_DSN" help:"checkoutmanager's own account"`
	PaymentsDSN        string `env:"PAYMENTS_DSN" help:"payments' own account"`
	CatalogueDSN       string `env:"CATALOGUE_DSN" help:"catalogue's own account"`

	BrokerAdminURL     string `env:"BROKER_ADMIN_URL,required" help:"RabbitMQ's management API with an administrator's account, as http://user:password@host:port, for migrate, and for the rates that queues shows"`
	GatewayURL         string `env:"GATEWAY_AMQP_URL" help:"gateway's own account at the broker; migrate makes it, and dev runs the gateway with it"`
	InventoryURL       string `env:"INVENTORY_AMQP_URL" help:"inventory's, likewise"`
	CartmanagerURL     string `env:"CARTMANAGER_AMQP_URL" help:"cartmanager's, likewise"`
	CheckoutmanagerURL string `env:"CHECKOUTMANAGER_AMQP_URL" help:"checkoutmanager's, likewise"`
	PaymentsURL        string `env:"PAYMENTS_AMQP_URL" help:"payments', likewise"`
	CatalogueURL       string `env:"CATALOGUE_AMQP_URL" help:"catalogue's, likewise"`
}

// namespaceShape: a namespace becomes part of identifiers in statements.
var namespaceShape = regexp.MustCompile(`^[a-z0-9_]{0,32}$`)

// Check returns what is wrong with the settings beyond their types.
func (s *migrateSettings) Check() []error {
	if !namespaceShape.MatchString(s.Broker.Namespace) {
		return []error{fmt.Errorf("CARTWRIGHT_NAMESPACE must be up to 32 characters of a-z 0-9 _")}
	}
	return nil
}

const (
	// serverStartLimit is how long each server may take to be there: on a machine that has just
	// started, a minute is not rare.
	serverStartLimit = 2 * time.Minute
	serverWaitMin    = 250 * time.Millisecond
	serverWaitMax    = 4 * time.Second
)

// migrate makes everything that must exist on the servers, and lets each service's accounts do
// what that service does and nothing else. It may run again at any time, and beside a running
// shop. A server that is not there yet is waited for.
func migrate(ctx context.Context, out io.Writer, s migrateSettings) error {
	if err := insist(ctx, out, func() error { return migrateDatabases(ctx, out, s) }); err != nil {
		return err
	}
	return insist(ctx, out, func() error { return migrateBroker(ctx, out, s) })
}

// insist tries something again for as long as the server that it needs is not there, within limits.
func insist(ctx context.Context, out io.Writer, try func() error) error {
	end := time.Now().Add(serverStartLimit)
	for wait := serverWaitMin; ; wait = min(2*wait, serverWaitMax) {
		err := try()
		if !fault.Is(err, fault.Unavailable) || time.Now().After(end) {
			return err
		}
		fmt.Fprintf(out, "not yet, next try in %s: %v\n", wait, err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return err
		}
	}
}

// migrateDatabases makes every database, brings its tables up to date, and makes the accounts.
func migrateDatabases(ctx context.Context, out io.Writer, s migrateSettings) error {
	namespace := s.Broker.Namespace
	owners := map[string]string{
		schema.Inventory: s.InventoryDSN, schema.Carts: s.CartmanagerDSN, schema.Checkouts: s.CheckoutmanagerDSN,
		schema.Payments: s.PaymentsDSN, schema.Catalogue: s.CatalogueDSN,
	}
	for _, database := range schema.Databases() {
		if err := schema.Migrate(ctx, s.AdminDSN, namespace, database); err != nil {
			return err
		}
		if dsn := owners[database]; dsn != "" {
			if err := schema.Owner(ctx, s.AdminDSN, namespace, database, dsn); err != nil {
				return err
			}
		}
		version, err := schema.Version(ctx, s.AdminDSN, namespace, database)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "database %s%s is at version %d\n", namespace, database, version)
	}
	if s.ReaderDSN == "" {
		return nil
	}
	return schema.Reader(ctx, s.AdminDSN, namespace, s.ReaderDSN)
}

// migrateBroker makes every exchange and queue, and the accounts.
func migrateBroker(ctx context.Context, out io.Writer, s migrateSettings) error {
	admin, err := messaging.Administer(ctx, s.BrokerAdminURL)
	if err != nil {
		return err
	}
	topology := jobs.Topology(s.Broker.Namespace)
	broker := messaging.Broker{URL: s.Broker.URL, Topology: topology, Log: slog.New(slog.DiscardHandler)}
	if err := broker.Declare(); err != nil {
		return err
	}
	fmt.Fprintf(out, "all exchanges and queues are there\n")
	urls := map[string]string{
		"gateway": s.GatewayURL, "inventory": s.InventoryURL, "cartmanager": s.CartmanagerURL,
		"checkoutmanager": s.CheckoutmanagerURL, "payments": s.PaymentsURL, "catalogue": s.CatalogueURL,
	}
	for _, account := range topology.Accounts {
		if urls[account.Service] == "" {
			continue
		}
		did, err := admin.Admit(ctx, urls[account.Service], topology, account)
		if err != nil {
			return fmt.Errorf("%s: %w", account.Service, err)
		}
		fmt.Fprintf(out, "%s: broker account %s\n", account.Service, did)
	}
	return nil
}
