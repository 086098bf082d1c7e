package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"github.com/go-sql-driver/mysql"

	"cartwright/internal/fault"
)

// ErrRaced is returned by a transaction's function that lost a race which a second look settles,
// such as a unique key taken a moment ago by another process. InTx runs the function again.
var ErrRaced = errors.New("lost a race")

// Server errors that we act on. The numbers are the same on MySQL and MariaDB unless said.
const (
	errDuplicateKey     = 1062
	errTooManyConns     = 1040
	errNoSuchAccess     = 1044 // to a whole database, which may not exist yet
	errWrongPassword    = 1045
	errNoSuchDatabase   = 1049
	errServerShutdown   = 1053
	errNoTableAccess    = 1142
	errNoSuchTable      = 1146
	errLockWaitTimeout  = 1205 // rolls back the statement only: the transaction is ours to roll back
	errDeadlock         = 1213 // rolls back the whole transaction
	errRecordChanged    = 1020 // MariaDB 11.6 and later: a snapshot conflict, treated as a deadlock
	errReadOnly         = 1290
	errQueryInterrupted = 1317
	errConnectionKilled = 1927
	errTableFull        = 1114
)

// Classify gives an error of the driver its kind: a lost connection or a server that is going
// down is fault.Unavailable, and so is one that does not let our account in or at its tables, which
// people can mend while we wait; faults that are labelled already stay; the rest is internal.
func Classify(err error) error {
	var labelled *fault.Error
	var server *mysql.MySQLError
	var network net.Error
	switch {
	case err == nil, errors.As(err, &labelled), errors.Is(err, ErrRaced), errors.Is(err, sql.ErrNoRows):
		return err
	case errors.As(err, &server):
		switch server.Number {
		case errTooManyConns, errServerShutdown, errReadOnly, errQueryInterrupted, errConnectionKilled, errTableFull:
			return fault.Away("the database", err)
		case errNoSuchAccess, errNoTableAccess, errNoSuchDatabase:
			return fault.Away("the database", fmt.Errorf("it does not let this account at its tables, run migrate: %w", err))
		case errWrongPassword:
			return fault.Away("the database", fmt.Errorf("it does not let this account in, wrong user or password: %w", err))
		}
		return err
	case errors.Is(err, mysql.ErrInvalidConn), errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone), errors.Is(err, sql.ErrTxDone),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fault.Away("the database", err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return fault.As(err) // first: a deadline is a network error too
	case errors.As(err, &network):
		return fault.Away("the database", err)
	default:
		return err
	}
}

// IsDuplicate tells whether a unique key was already taken.
func IsDuplicate(err error) bool {
	var server *mysql.MySQLError
	return errors.As(err, &server) && server.Number == errDuplicateKey
}

// IsNoTable tells whether a table is missing. To an account without rights to it, the servers say the
// same of a missing table as of one that is there.
func IsNoTable(err error) bool {
	var server *mysql.MySQLError
	return errors.As(err, &server) && (server.Number == errNoSuchTable || server.Number == errNoTableAccess)
}

func retryable(err error) bool {
	if errors.Is(err, ErrRaced) {
		return true
	}
	var server *mysql.MySQLError
	if !errors.As(err, &server) {
		return false
	}
	switch server.Number {
	case errDeadlock, errLockWaitTimeout, errRecordChanged:
		return true
	}
	return false
}

// backOff waits a few milliseconds, longer with each try and never the same twice, so that two
// victims of one deadlock do not meet again.
func backOff(ctx context.Context, try int) error {
	timer := time.NewTimer(time.Duration(try) * time.Duration(1+rand.IntN(5)) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fault.As(ctx.Err())
	}
}
