package schema

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"

	"cartwright/internal/store"
)

// rights lists what the owner of each database does with its tables. A ledger that is only added to
// cannot be rewritten, and what stays for good cannot be deleted, whatever the service is made to
// do. (FOR UPDATE needs UPDATE or DELETE as well; ON DUPLICATE KEY UPDATE needs INSERT and UPDATE.)
var rights = map[string]map[string]string{
	Inventory: {
		"stock": "SELECT, INSERT, UPDATE", "reservations": "SELECT, INSERT, UPDATE", "stock_movements": "SELECT, INSERT", "outbox": outboxRights,
	},
	Carts: {
		"carts": "SELECT, INSERT, UPDATE", "cart_lines": "SELECT, INSERT, UPDATE, DELETE", "freezes": "SELECT, INSERT, UPDATE",
		"processed_jobs": "SELECT, INSERT, DELETE", "pauses": "SELECT", "outbox": outboxRights,
	},
	Checkouts: {"orders": "SELECT, INSERT, UPDATE", "order_lines": "SELECT, INSERT", "checkout_history": "SELECT, INSERT", "pauses": "SELECT", "outbox": outboxRights},
	Payments:  {"payments": "SELECT, INSERT, UPDATE", "test_provider_charges": "SELECT, INSERT, UPDATE", "outbox": outboxRights},
	Catalogue: {"products": "SELECT, INSERT, UPDATE", "outbox": outboxRights},
}

const outboxRights = "SELECT, INSERT, DELETE"

// Owner lets the account of a DSN do with the tables of one database what their owner does, and
// nothing else there. The account is made when it is missing and gets the DSN's password. Nothing
// happens when it is the administrator's own.
func Owner(ctx context.Context, adminDSN, namespace, database, dsn string) error {
	return asAdmin(ctx, adminDSN, dsn, func(server *sql.DB, user string) error {
		for table, granted := range rights[database] {
			if _, err := server.ExecContext(ctx, fmt.Sprintf("GRANT %s ON `%s%s`.`%s` TO ?@'%%'", granted, namespace, database, table), user); err != nil {
				return err
			}
		}
		return revokeSurplus(ctx, server, namespace, database, user) // last, so that a service that runs is never without
	})
}

// Reader lets the account of a DSN read all databases, and nothing else.
func Reader(ctx context.Context, adminDSN, namespace, dsn string) error {
	return asAdmin(ctx, adminDSN, dsn, func(server *sql.DB, user string) error {
		for _, d := range Databases() {
			if _, err := server.ExecContext(ctx, fmt.Sprintf("GRANT SELECT ON `%s`.* TO ?@'%%'", pattern(namespace+d)), user); err != nil {
				return err
			}
		}
		return nil
	})
}

// asAdmin makes the account of a DSN and hands it on, unless it is the administrator's own.
func asAdmin(ctx context.Context, adminDSN, dsn string, grant func(server *sql.DB, user string) error) error {
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
	if err := grant(server, account.User); err != nil {
		return accountError(account.User, err)
	}
	return nil
}

// revokeSurplus takes from an owner what an earlier version gave and this one does not: rights on
// the database as a whole, and rights on its tables that are not in the list any more.
func revokeSurplus(ctx context.Context, server *sql.DB, namespace, database, user string) error {
	rows, err := server.QueryContext(ctx, `
		SELECT '*', privilege_type
		FROM   information_schema.schema_privileges
		WHERE  grantee = CONCAT(QUOTE(?), '@', QUOTE('%')) AND table_schema = ? AND privilege_type <> 'USAGE'
		UNION ALL
		SELECT table_name, privilege_type
		FROM   information_schema.table_privileges
		WHERE  grantee = CONCAT(QUOTE(?), '@', QUOTE('%')) AND table_schema = ? AND privilege_type <> 'USAGE'`,
		user, pattern(namespace+database), user, namespace+database)
	if err != nil {
		return err
	}
	defer rows.Close()
	var surplus []string
	for rows.Next() {
		var table, right string
		if err := rows.Scan(&table, &right); err != nil {
			return err
		}
		on := fmt.Sprintf("`%s%s`.`%s`", namespace, database, table)
		if table == "*" {
			on = fmt.Sprintf("`%s`.*", pattern(namespace+database))
		}
		if !slices.Contains(strings.Split(rights[database][table], ", "), right) {
			surplus = append(surplus, fmt.Sprintf("REVOKE %s ON %s FROM ?@'%%'", right, on))
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, statement := range surplus {
		if _, err := server.ExecContext(ctx, statement, user); err != nil {
			return err
		}
	}
	return nil
}

// pattern names one database in a grant on all of its tables, where _ and % are wild cards.
func pattern(database string) string {
	return strings.NewReplacer("_", `\_`, "%", `\%`).Replace(database)
}

// accountError names the account, never its password.
func accountError(user string, err error) error {
	return fmt.Errorf("database account %s: %w", user, store.Classify(err))
}
