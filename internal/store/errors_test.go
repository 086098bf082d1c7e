package store_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"

	"github.com/go-sql-driver/mysql"

	"cartwright/internal/fault"
	"cartwright/internal/store"
)

func TestSilenceOfTheServerIsUnavailable(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		mysql.ErrInvalidConn, driver.ErrBadConn, sql.ErrConnDone, sql.ErrTxDone, io.EOF, io.ErrUnexpectedEOF,
		&net.OpError{Op: "dial", Err: errors.New("connection refused")}, os.ErrDeadlineExceeded,
		context.DeadlineExceeded, context.Canceled,
		&mysql.MySQLError{Number: 1040}, &mysql.MySQLError{Number: 1053}, &mysql.MySQLError{Number: 1290},
		&mysql.MySQLError{Number: 1044}, &mysql.MySQLError{Number: 1045}, &mysql.MySQLError{Number: 1049}, &mysql.MySQLError{Number: 1142},
	} {
		wrapped := store.Classify(fmt.Errorf("stock: %w", err))
		if !fault.Is(wrapped, fault.Unavailable) || !errors.Is(wrapped, err) {
			t.Errorf("%v became %v", err, wrapped)
		}
	}
}

func TestWhatIsNoSilenceStaysWhatItIs(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		nil, store.ErrRaced, sql.ErrNoRows, errors.New("bug"), fault.New(fault.Refused, "out_of_stock", "none left"),
		&mysql.MySQLError{Number: 1062}, &mysql.MySQLError{Number: 1064},
	} {
		if got := store.Classify(err); got != err {
			t.Errorf("%v became %v", err, got)
		}
	}
}
