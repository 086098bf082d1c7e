package schema

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/go-sql-driver/mysql"

	"cartwright/internal/store"
)

// Owner lets the account of a DSN read and write the rows of one database, and nothing else. The
// account is made when it is missing and gets the DSN's password. Nothing happens when it is the
// administrator's own.
func Owner(ctx context.Context, adminDSN, namespace, database, dsn string) error {
	return grant(ctx, adminDSN, dsn, "SELECT, INSERT, UPDATE, DELETE", []string{namespace + database})
}

// Reader lets the account of a DSN read all databases, and nothing else.
func Reader(ctx context.Context, adminDSN, namespace, dsn string) error {
	var all []string
	for _, d := range Databases() {
		all = append(all, namespace+d)
	}
	return grant(ctx, adminDSN, dsn, "SELECT", all)
}

func grant(ctx context.Context, adminDSN, dsn, rights string, databases []string) error {
	admin, err := mysql.ParseDSN(adminDSN)
	if err != nil {
		return fmt.Errorf("administrator's database address: %w", err)
	}
	account, err := mysql.ParseDSN(dsn)
	if err != nil {
		return fmt.Errorf("database address: %w", err)
	}
	if account.User == admin.User {
		return nil
	}
	server, err := store.Open(adminDSN, "", 1)
	if err != nil {
		return err
	}
	defer server.Close()
	for _, statement := range []string{"CREATE USER IF NOT EXISTS ?@'%' IDENTIFIED BY ?", "ALTER USER ?@'%' IDENTIFIED BY ?"} {
		if _, err := server.ExecContext(ctx, statement, account.User, account.Passwd); err != nil {
			return accountError(account.User, err)
		}
	}
	for _, d := range databases {
		if err := grantOne(ctx, server, rights, d, account.User); err != nil {
			return accountError(account.User, err)
		}
	}
	return nil
}

// grantOne names the database in the statement: an identifier cannot be a parameter. In a grant,
// _ and % would be wild cards.
func grantOne(ctx context.Context, server *sql.DB, rights, database, user string) error {
	escaped := strings.NewReplacer("_", `\_`, "%", `\%`).Replace(database)
	_, err := server.ExecContext(ctx, fmt.Sprintf("GRANT %s ON `%s`.* TO ?@'%%'", rights, escaped), user)
	return err
}

// accountError names the account, never its password.
func accountError(user string, err error) error {
	return fmt.Errorf("database account %s: %w", user, store.Classify(err))
}
