// Package store is the authority on talking to MySQL and MariaDB: how a pool is opened, how a
// transaction is run and run again, and what the servers' errors mean.
package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"cartwright/internal/failpoint"
	"cartwright/internal/fault"
)

const (
	connectTimeout  = 3 * time.Second
	TransactionTime = 10 * time.Second // a whole transaction, with its retries
	triesMax        = 5                // InnoDB rolls back one side of a deadlock; the second try normally wins
	lockWaitSeconds = 3                // well below TransactionTime, so that a wait ends as an error we can name
	idleSeconds     = 60               // a process that was paused inside a transaction must not keep its locks for hours
)

// Open opens a pool of connections to one database. The DSN is go-sql-driver's; the database
// name in it is replaced. Nothing is dialled yet.
//
// Every session runs READ COMMITTED: we never read, decide and write on a snapshot, and without
// gap locks far fewer statements deadlock.
func Open(dsn, database string, connections int, options ...Option) (*sql.DB, error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, fmt.Errorf("database address: %w", err)
	}
	cfg.DBName = database
	cfg.ParseTime = true
	cfg.Loc = time.UTC
	cfg.Timeout = connectTimeout
	cfg.ReadTimeout = TransactionTime
	cfg.WriteTimeout = TransactionTime
	cfg.ClientFoundRows = true   // UPDATE counts the rows matched, so that a repeated save is no lost race
	cfg.InterpolateParams = true // one round trip a statement instead of two
	cfg.MultiStatements = true   // for Tx alone: guarded refuses them elsewhere
	cfg.RejectReadOnly = true    // after a failover, leave the old primary
	cfg.Collation = "utf8mb4_bin"
	cfg.Logger = &mysql.NopLogger{} // every error is also returned
	cfg.Params = map[string]string{
		"time_zone":                "'+00:00'",
		"innodb_lock_wait_timeout": fmt.Sprint(lockWaitSeconds),
		"wait_timeout":             fmt.Sprint(idleSeconds),
		"sql_mode":                 "'STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'",
	}
	// A time with more digits than its column has would not be looked for in the column's index.
	if err := cfg.Apply(mysql.TimeTruncate(time.Microsecond)); err != nil {
		return nil, fmt.Errorf("database address: %w", err)
	}
	for _, change := range options {
		change(cfg)
	}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, fmt.Errorf("database address: %w", err)
	}
	db := sql.OpenDB(&patient{Connector: readCommitted{connector}})
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	db.SetConnMaxIdleTime(idleSeconds * time.Second / 2) // closed by us before the server does it
	db.SetConnMaxLifetime(5 * time.Minute)               // finds new servers behind a name
	return db, nil
}

// readCommitted sets the isolation of each new session, so that no transaction spends a round trip
// on it. MariaDB 10.11 and MySQL know the variable under different names, but accept the same
// statement.
type readCommitted struct{ driver.Connector }

func (c readCommitted) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	opened, ok := conn.(session)
	if !ok {
		return nil, errors.Join(errors.New("the driver's connections cannot do all that is needed"), conn.Close())
	}
	if _, err := opened.ExecContext(ctx, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", nil); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return guarded{opened}, nil
}

// Option changes what Open would do.
type Option func(*mysql.Config)

// Unhurried lets a statement run for as long as it takes: for reports, never for a service.
func Unhurried(cfg *mysql.Config) { cfg.ReadTimeout = 0 }

// Ping tells whether the database answers a query now, within the caller's limit.
func Ping(ctx context.Context, db *sql.DB) error {
	var one int
	return Classify(db.QueryRowContext(ctx, "SELECT 1").Scan(&one))
}

// InTx runs fn in one READ COMMITTED transaction and commits. fn may run several times: when the
// server chose it as a deadlock's victim, when a lock wait timed out, when fn itself returned
// ErrRaced, and when a call of Write is yet to be told of its error. So fn holds nothing but SQL,
// and what it learnt is used after InTx has returned.
//
// An error of the connection is fault.Unavailable: the commit may have been under way, and then the
// transaction may have happened. Everything in this system that writes can be asked again with the
// same ID.
func InTx(ctx context.Context, db *sql.DB, fn func(ctx context.Context, tx *Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, TransactionTime)
	defer cancel()
	var err error
	apart := false
	for try := 1; try <= triesMax; try++ {
		var untold bool
		untold, err = once(ctx, db, apart, fn)
		if untold {
			apart = true
			continue // there is nobody to wait for
		}
		if !retryable(err) {
			return err
		}
		if waitErr := backOff(ctx, try); waitErr != nil {
			return waitErr
		}
	}
	return fault.Away("the database", err)
}

func once(ctx context.Context, db *sql.DB, apart bool, fn func(ctx context.Context, tx *Tx) error) (untold bool, err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return false, Classify(err)
	}
	tx := &Tx{conn: conn, apart: apart}
	defer tx.end(ctx)
	if err = failpoint.After(fn(ctx, tx), failpoint.TxFilled); err == nil {
		err = failpoint.After(tx.commit(ctx), failpoint.TxCommitted)
	}
	return tx.untold, Classify(err)
}

// Matched tells how many rows an UPDATE or DELETE found.
func Matched(res sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// Tuples writes n copies of one tuple of placeholders for a multi-row statement:
// Tuples(2, "(?, ?)") is "(?, ?), (?, ?)".
func Tuples(n int, tuple string) string {
	return strings.TrimSuffix(strings.Repeat(tuple+", ", n), ", ")
}

// Args turns a slice into arguments for In.
func Args[T any](values []T) []any {
	args := make([]any, len(values))
	for i, v := range values {
		args[i] = v
	}
	return args
}

// In writes the placeholders of an IN list: In(3) is "(?, ?, ?)". n must be at least 1.
func In(n int) string { return "(" + Tuples(n, "?") + ")" }

// Each hands every row of what a query gave to use, with the means to scan it, and closes them.
func Each(rows *sql.Rows, err error, use func(scan func(dest ...any) error) error) error {
	if err != nil {
		return Classify(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := use(rows.Scan); err != nil {
			return Classify(err)
		}
	}
	return Classify(rows.Err())
}

// Clip makes text of others fit a column of so many characters: valid UTF-8, and no longer.
func Clip(text string, most int) string {
	runes := []rune(strings.ToValidUTF8(text, "?"))
	return string(runes[:min(len(runes), most)])
}
