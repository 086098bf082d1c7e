package main

import (
	"context"
	"fmt"
	"io"
	"regexp"

	"cartwright/internal/logging"
	schema "cartwright/sql"
)

// migrateSettings are the accounts that migrate makes and the one that it works with.
type migrateSettings struct {
	logging.Settings
	AdminDSN           string `env:"ADMIN_DSN,required" help:"an account that may make databases and accounts, for migrate"`
	ReaderDSN          string `env:"MYSQL_DSN" help:"an account that may read all databases"`
	Namespace          string `env:"NAMESPACE" help:"put before the name of every database, queue and exchange, so that two shops can share servers"`
	InventoryDSN       string `env:"INVENTORY_DSN" help:"inventory's own account"`
	CartmanagerDSN     string `env:"CARTMANAGER_DSN" help:"cartmanager's own account"`
	CheckoutmanagerDSN string `env:"CHECKOUTMANAGER_DSN" help:"checkoutmanager's own account"`
	PaymentsDSN        string `env:"PAYMENTS_DSN" help:"payments' own account"`
	CatalogueDSN       string `env:"CATALOGUE_DSN" help:"catalogue's own account"`
}

// namespaceShape: a namespace becomes part of identifiers in statements.
var namespaceShape = regexp.MustCompile(`^[a-z0-9_]{0,32}$`)

// Check returns what is wrong with the settings beyond their types.
func (s *migrateSettings) Check() []error {
	if !namespaceShape.MatchString(s.Namespace) {
		return []error{fmt.Errorf("CARTWRIGHT_NAMESPACE must be up to 32 characters of a-z 0-9 _")}
	}
	return nil
}

// migrate makes every database, brings its tables up to date, and lets each service's account
// into its own database only. It may run again at any time, and beside a running shop.
func migrate(ctx context.Context, out io.Writer, s migrateSettings) error {
	owners := map[string]string{
		schema.Inventory: s.InventoryDSN, schema.Carts: s.CartmanagerDSN, schema.Checkouts: s.CheckoutmanagerDSN,
		schema.Payments: s.PaymentsDSN, schema.Catalogue: s.CatalogueDSN,
	}
	for _, database := range schema.Databases() {
		if err := schema.Migrate(ctx, s.AdminDSN, s.Namespace, database); err != nil {
			return err
		}
		if dsn := owners[database]; dsn != "" {
			if err := schema.Owner(ctx, s.AdminDSN, s.Namespace, database, dsn); err != nil {
				return err
			}
		}
		version, err := schema.Version(ctx, s.AdminDSN, s.Namespace, database)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "database %s%s is at version %d\n", s.Namespace, database, version)
	}
	if s.ReaderDSN == "" {
		return nil
	}
	return schema.Reader(ctx, s.AdminDSN, s.Namespace, s.ReaderDSN)
}
