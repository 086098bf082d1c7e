// Package schema holds the tables of every database, as migrations, and brings a server up to
// date with them. It holds no queries and no data.
package schema

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"strings"

	"github.com/pressly/goose/v3"

	"cartwright/internal/store"
)

//go:embed inventory carts checkouts payments catalogue
var files embed.FS

// The databases, each with one owner.
const (
	Inventory = "inventory" // of inventory
	Carts     = "carts"     // of cartmanager
	Checkouts = "checkouts" // of checkoutmanager
	Payments  = "payments"  // of payments
	Catalogue = "catalogue" // of catalogue
)

const lockSeconds = 60

// Databases lists them all.
func Databases() []string { return []string{Inventory, Carts, Checkouts, Payments, Catalogue} }

// InNamespace puts the databases' real names where a query says {inventory} and the like.
func InNamespace(query, namespace string) string {
	for _, d := range Databases() {
		query = strings.ReplaceAll(query, "{"+d+"}", "`"+namespace+d+"`")
	}
	return query
}

// Migrate makes one database if it is missing and brings its tables to the newest version. It
// may run beside services that use the database, and beside another Migrate.
func Migrate(ctx context.Context, adminDSN, namespace, database string) error {
	server, err := store.Open(adminDSN, "", 1)
	if err != nil {
		return err
	}
	defer server.Close()
	// The name is ours and the namespace was checked: an identifier cannot be a parameter.
	create := fmt.Sprintf("CREATE DATABASE IF NOT EXISTS `%s%s` DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", namespace, database)
	conn, err := server.Conn(ctx)
	if err != nil {
		return store.Classify(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, create); err != nil {
		return fmt.Errorf("database %s%s: %w", namespace, database, store.Classify(err))
	}
	// A lock of the server, which dies with this connection, keeps a second Migrate waiting.
	if _, err := conn.ExecContext(ctx, "DO GET_LOCK(?, ?)", "migrate "+namespace+database, lockSeconds); err != nil {
		return fmt.Errorf("database %s%s: %w", namespace, database, store.Classify(err))
	}
	_, err = withProvider(ctx, adminDSN, namespace, database, func(p *goose.Provider) (int64, error) {
		_, err := p.Up(ctx)
		return 0, err
	})
	return err
}

// Down takes the newest migration of a database back.
func Down(ctx context.Context, adminDSN, namespace, database string) error {
	_, err := withProvider(ctx, adminDSN, namespace, database, func(p *goose.Provider) (int64, error) {
		_, err := p.Down(ctx)
		return 0, err
	})
	return err
}

// Version is the number of the newest migration that a database has.
func Version(ctx context.Context, adminDSN, namespace, database string) (int64, error) {
	return withProvider(ctx, adminDSN, namespace, database, func(p *goose.Provider) (int64, error) { return p.GetDBVersion(ctx) })
}

func withProvider(_ context.Context, adminDSN, namespace, database string, do func(*goose.Provider) (int64, error)) (int64, error) {
	db, err := store.Open(adminDSN, namespace+database, 4)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	provider, err := newProvider(db, database)
	if err != nil {
		return 0, fmt.Errorf("database %s%s: %w", namespace, database, err)
	}
	n, err := do(provider)
	if err != nil {
		return 0, fmt.Errorf("database %s%s: %w", namespace, database, store.Classify(err))
	}
	return n, nil
}

func newProvider(db *sql.DB, database string) (*goose.Provider, error) {
	tables, err := fs.Sub(files, database)
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectMySQL, db, tables, goose.WithDisableGlobalRegistry(true))
}
