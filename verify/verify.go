// Package verify recomputes every balance of a shop from its ledgers and names each row that
// differs. It only reads, from one consistent snapshot of all databases, so a shop may run
// meanwhile: what is still on its way is judged by what must hold at every moment.
package verify

import (
	"context"
	"database/sql"
	"fmt"
	"io"

	"cartwright/internal/logging"
	"cartwright/internal/store"
	schema "cartwright/sql"
)

// rowsMax is how many differing rows of one check are named; the rest are counted.
const rowsMax = 20

// Settings of the check.
type Settings struct {
	logging.Settings
	DSN       string `env:"MYSQL_DSN,required" help:"an account that may read all databases"`
	Namespace string `env:"NAMESPACE" help:"put before the name of every database, queue and exchange, so that two shops can share servers"`
}

// Finding is a check that found rows which differ.
type Finding struct {
	Check string
	Rows  []string // which row, and what differs, at most rowsMax
	More  int      // rows beyond those
}

// Run checks everything and writes what it found. agree is true when all balances agree.
func Run(ctx context.Context, out io.Writer, s Settings) (agree bool, err error) {
	findings, err := Check(ctx, s.DSN, s.Namespace)
	if err != nil {
		return false, err
	}
	for _, f := range findings {
		fmt.Fprintf(out, "%s:\n", f.Check)
		for _, row := range f.Rows {
			fmt.Fprintf(out, "  %s\n", row)
		}
		if f.More > 0 {
			fmt.Fprintf(out, "  and %d more\n", f.More)
		}
	}
	if len(findings) == 0 {
		fmt.Fprintln(out, "all balances agree")
	}
	return len(findings) == 0, nil
}

// Check returns what differs, nothing when all balances agree.
func Check(ctx context.Context, dsn, namespace string) (findings []Finding, err error) {
	db, err := store.Open(dsn, "", 1, store.Unhurried)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, store.Classify(err)
	}
	defer conn.Close()
	// One snapshot across all databases, on MySQL and MariaDB alike.
	for _, statement := range []string{"SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"} {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return nil, store.Classify(err)
		}
	}
	for _, c := range checks {
		f, err := c.run(ctx, conn, namespace)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, store.Classify(err))
		}
		if len(f.Rows) > 0 {
			findings = append(findings, f)
		}
	}
	return findings, nil
}

// check is one invariant: a query whose rows, of one text column each, break it.
type check struct{ name, query string }

func (c check) run(ctx context.Context, conn *sql.Conn, namespace string) (Finding, error) {
	f := Finding{Check: c.name}
	rows, err := conn.QueryContext(ctx, schema.InNamespace(c.query, namespace))
	if err != nil {
		return f, err
	}
	defer rows.Close()
	for rows.Next() {
		var row string
		if err := rows.Scan(&row); err != nil {
			return f, err
		}
		if len(f.Rows) == rowsMax {
			f.More++
			continue
		}
		f.Rows = append(f.Rows, row)
	}
	return f, rows.Err()
}
