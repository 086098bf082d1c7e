// Package verify recomputes every balance of a shop from its ledgers and names each row that
// differs. It only reads, and a shop may run meanwhile: what is found wrong is so in one consistent
// snapshot of all databases, and what is still on its way is judged by what must hold at every moment.
package verify

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
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
	Check string   `json:"check"`
	Rows  []string `json:"rows"` // which row, and what differs, at most rowsMax
	More  int      `json:"more"` // rows beyond those
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

// RunJSON does what Run does, for machines: {"agree": …, "findings": […]}.
func RunJSON(ctx context.Context, out io.Writer, s Settings) (agree bool, err error) {
	findings, err := Check(ctx, s.DSN, s.Namespace)
	if err != nil {
		return false, err
	}
	report := struct {
		Agree    bool      `json:"agree"`
		Findings []Finding `json:"findings"`
	}{len(findings) == 0, append([]Finding{}, findings...)}
	return report.Agree, json.NewEncoder(out).Encode(report)
}

// Check returns what differs, nothing when all balances agree.
func Check(ctx context.Context, dsn, namespace string) (findings []Finding, err error) {
	db, err := store.Open(dsn, "", len(tables)+1, store.Unhurried)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, store.Classify(err)
	}
	defer conn.Close()
	a := &audit{db: db, conn: conn, namespace: namespace, found: make([]Finding, len(checks))}
	if err := errors.Join(a.shelves(ctx), a.walk(ctx)); err != nil {
		return nil, err
	}
	for i, f := range a.found {
		if f.Check = checks[i].name; len(f.Rows) > 0 {
			findings = append(findings, f)
		}
	}
	return findings, nil
}

// audit is one run of all checks.
type audit struct {
	db        *sql.DB
	conn      *sql.Conn // for snapshots
	namespace string
	found     []Finding // by check
}

// add notes rows of a check.
func (a *audit) add(check int, rows ...string) {
	f := &a.found[check]
	named := min(len(rows), rowsMax-len(f.Rows))
	f.Rows = append(f.Rows, rows[:named]...)
	f.More += len(rows) - named
}

// inSnapshot reads with fn what all databases had at one moment, on MySQL and MariaDB alike.
func (a *audit) inSnapshot(ctx context.Context, fn func() error) error {
	for _, statement := range []string{"SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"} {
		if _, err := a.conn.ExecContext(ctx, statement); err != nil {
			return store.Classify(err)
		}
	}
	err := fn()
	_, ended := a.conn.ExecContext(ctx, "ROLLBACK")
	return errors.Join(err, store.Classify(ended))
}

// shelves judges the products, and asks the database what it knows by itself.
func (a *audit) shelves(ctx context.Context) error {
	return a.inSnapshot(ctx, func() error {
		all, err := readShelves(ctx, a.conn, a.namespace)
		if err != nil {
			return err
		}
		for i, c := range checks {
			if c.query != "" {
				if err := a.ask(ctx, i); err != nil {
					return fmt.Errorf("%s: %w", c.name, err)
				}
			}
			if c.shelf == nil {
				continue
			}
			for _, s := range all {
				if row := c.shelf(s); row != "" {
					a.add(i, row)
				}
			}
		}
		return nil
	})
}

// ask adds the rows that a check's query gives.
func (a *audit) ask(ctx context.Context, check int) error {
	rows, err := a.conn.QueryContext(ctx, schema.InNamespace(checks[check].query, a.namespace))
	var row string
	return each(rows, err, []any{&row}, func() error {
		a.add(check, row)
		return nil
	})
}

// suspectsMax is how many checkouts are judged again at a time.
const suspectsMax = 500

// walk judges every checkout. The tables are read side by side and a page at a time, each page as it is
// when its turn comes. So a checkout that is on its way may look wrong: those that do are read again,
// from one snapshot, and that is what counts. What is wrong for good looks wrong whenever it is read.
func (a *audit) walk(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var streams []*stream
	defer func() {
		cancel()
		for _, s := range streams {
			s.end()
		}
	}()
	for _, s := range tables {
		streams = append(streams, s.walk(ctx, a.db, a.namespace))
	}
	var suspects []any
	err := merge(streams, func(c *checkout) error {
		if !c.looksWrong() {
			return nil
		}
		if suspects = append(suspects, c.id); len(suspects) < suspectsMax {
			return nil
		}
		batch := suspects
		suspects = nil
		return a.judge(ctx, batch)
	})
	if err != nil || len(suspects) == 0 {
		return err
	}
	return a.judge(ctx, suspects)
}

// looksWrong tells whether a check has found something.
func (c *checkout) looksWrong() bool {
	for i := range checks {
		if rule := checks[i].checkout; rule != nil && len(rule(c)) > 0 {
			return true
		}
	}
	return false
}

// judge adds what is wrong with these checkouts at one moment.
func (a *audit) judge(ctx context.Context, ids []any) error {
	return a.inSnapshot(ctx, func() error {
		var streams []*stream
		for _, s := range tables {
			opened, err := s.read(ctx, a.conn, a.namespace, ids)
			if err != nil {
				return err
			}
			streams = append(streams, opened)
		}
		return merge(streams, func(c *checkout) error {
			for i := range checks {
				if rule := checks[i].checkout; rule != nil {
					a.add(i, rule(c)...)
				}
			}
			return nil
		})
	})
}
