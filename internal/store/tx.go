package store

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"cartwright/internal/fault"
)

const (
	// packetMax bounds what is sent together, far below what every server accepts (16 MiB). What is
	// asked for by one call goes together even when it is larger.
	packetMax    = 1 << 20
	rollbackTime = 3 * time.Second
)

// errUnanswered is for a server that answers fewer questions than it was asked.
var errUnanswered = errors.New("the server has not answered")

// Tx is a transaction under way. Whoever waits for the server does so with rows locked, so it waits
// as rarely as it can: a write whose result nobody has to look at goes along with the next read, or
// with the commit, in one packet. The server does a packet in order, up to the first error.
//
// That error ends the transaction: whatever is asked of it afterwards returns the same.
type Tx struct {
	conn    *sql.Conn
	apart   bool // every statement goes by itself, so that each error is told by the call it belongs to
	waiting []statement
	size    int  // of what waits, about
	late    bool // some of it belongs to calls that have returned, and can tell no error any more
	begun   bool // perhaps, and not ended for certain
	rows    *sql.Rows
	err     error // the first one
	untold  bool  // it may belong to a call that has returned
}

type statement struct {
	query string
	args  []any
}

// Question is a read. Each is handed every row; What names the question in errors.
type Question struct {
	What  string
	Query string
	Args  []any
	Each  func(*sql.Rows) error
}

// Write does a statement at the latest with the commit. Its error may be told later than here; but
// one of the statement itself, such as a duplicate key, makes InTx run the function again with
// every statement apart, and then it is told here. So callers look at it as if it always were.
func (tx *Tx) Write(ctx context.Context, query string, args ...any) error {
	if tx.apart {
		_, err := tx.ExecContext(ctx, query, args...)
		return err
	}
	return tx.later(ctx, statement{query, args})
}

// WriteAll is Write for an UPDATE or DELETE that must find this many rows. If it finds others, nothing
// is committed, and the function is run again; should it find others then, that is ErrRaced.
func (tx *Tx) WriteAll(ctx context.Context, rows int, query string, args ...any) error {
	if tx.apart {
		matched, err := Matched(tx.ExecContext(ctx, query, args...))
		if err == nil && matched != int64(rows) {
			return ErrRaced
		}
		return err
	}
	// The server compares, and so need not be waited for. An unsigned 0 - 1 is an error everywhere.
	return tx.later(ctx, statement{query, args},
		statement{"SET @missed = CAST(0 AS UNSIGNED) - (ROW_COUNT() <> ?)", []any{rows}})
}

// ExecContext does a statement now.
func (tx *Tx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if err := tx.add(ctx, statement{query, args}); err != nil {
		return nil, err
	}
	return tx.send(ctx)
}

// QueryContext reads now. The rows are to be closed before anything else is asked.
func (tx *Tx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return tx.ask(ctx, statement{query, args})
}

// Read asks questions all together, so none may depend on the answer to another.
func (tx *Tx) Read(ctx context.Context, questions ...Question) error {
	if tx.apart {
		for _, q := range questions {
			if err := tx.read(ctx, q); err != nil {
				return err
			}
		}
		return nil
	}
	return tx.read(ctx, questions...)
}

func (tx *Tx) read(ctx context.Context, questions ...Question) error {
	if len(questions) == 0 {
		return nil
	}
	asked := make([]statement, len(questions))
	for i, q := range questions {
		asked[i] = statement{q.Query, q.Args}
	}
	rows, err := tx.ask(ctx, asked...)
	if err != nil {
		return fmt.Errorf("%s: %w", questions[0].What, err)
	}
	defer rows.Close()
	for i, q := range questions {
		if i > 0 && !rows.NextResultSet() {
			err = cmp.Or(rows.Err(), errUnanswered)
		} else {
			err = eachRow(rows, q.Each)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", q.What, tx.fail(err, false))
		}
	}
	return nil
}

func eachRow(rows *sql.Rows, do func(*sql.Rows) error) error {
	for rows.Next() {
		if err := do(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// later lets statements wait beyond the call that they belong to.
func (tx *Tx) later(ctx context.Context, more ...statement) error {
	err := tx.add(ctx, more...)
	tx.late = true
	return err
}

// add lets statements wait. If there is no room for them, what waits already is sent first.
func (tx *Tx) add(ctx context.Context, more ...statement) error {
	if tx.err != nil {
		return tx.err
	}
	size := 0
	for _, s := range more {
		if err := refuseSeveral(s.query); err != nil {
			return tx.fail(err, false)
		}
		size += s.size()
	}
	if len(tx.waiting) > 0 && tx.size+size > packetMax {
		if _, err := tx.send(ctx); err != nil {
			return err
		}
	}
	tx.waiting, tx.size = append(tx.waiting, more...), tx.size+size
	return nil
}

// size is about how long a statement will be, and rather too much.
func (s statement) size() int {
	size := len(s.query)
	for _, arg := range s.args {
		switch arg := arg.(type) {
		case string:
			size += 2*len(arg) + 2 // every character may have to be escaped
		case []byte:
			size += 2*len(arg) + 10
		default:
			size += 32
		}
	}
	return size
}

// send does what waits, and returns the result of the last statement.
func (tx *Tx) send(ctx context.Context) (sql.Result, error) {
	p := tx.packet()
	result, err := tx.conn.ExecContext(joined(ctx), p.query, p.args...)
	return result, tx.fail(p.told(err), p.late)
}

// ask does what waits and then some reads, and returns the rows of these.
func (tx *Tx) ask(ctx context.Context, reads ...statement) (*sql.Rows, error) {
	if err := tx.add(ctx, reads...); err != nil {
		return nil, err
	}
	p := tx.packet()
	rows, err := tx.conn.QueryContext(joined(ctx), p.query, p.args...) // passes over what has no rows
	if err != nil {
		return nil, tx.fail(p.told(err), p.late)
	}
	tx.rows = rows
	return rows, nil
}

// commit does what waits, and ends the transaction.
func (tx *Tx) commit(ctx context.Context) error {
	switch {
	case tx.err != nil:
		return tx.err
	case !tx.begun && len(tx.waiting) == 0:
		return nil
	case !tx.begun && len(tx.waiting) == 1: // a transaction by itself
		only := tx.waiting[0]
		_, err := tx.conn.ExecContext(ctx, only.query, only.args...)
		return tx.fail(err, true)
	}
	if err := tx.add(ctx, statement{query: "COMMIT"}); err != nil {
		return err
	}
	_, err := tx.send(ctx)
	tx.begun = err != nil
	return err
}

// end gives the connection back with no transaction on it, or else not at all.
func (tx *Tx) end(ctx context.Context) {
	defer tx.conn.Close()
	if tx.rows != nil {
		tx.rows.Close()
	}
	if !tx.begun {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTime)
	defer cancel()
	if _, err := tx.conn.ExecContext(ctx, "ROLLBACK"); err != nil {
		tx.conn.Raw(func(any) error { return driver.ErrBadConn }) //nolint:errcheck // the pool forgets the connection
	}
}

// fail keeps the first error, and whether the call that it belongs to may not have been told of it.
// Where it only says to try again, or that the server cannot be reached, nobody needs to know.
func (tx *Tx) fail(err error, late bool) error {
	if err == nil || tx.err != nil {
		return err
	}
	tx.err = err
	var server *mysql.MySQLError
	tx.untold = late && errors.As(err, &server) && !retryable(err) && !fault.Is(Classify(err), fault.Unavailable)
	return err
}

// packet is what is sent together.
type packet struct {
	query      string
	args       []any
	statements int // those of the caller
	parts      []string
	late       bool
}

// joint divides the statements of a packet. Its first line break ends a comment that a statement
// may end with, which would swallow the next one.
const joint = "\n;\n"

// packet takes what waits, and begins the transaction in front of it.
func (tx *Tx) packet() packet {
	p := packet{statements: len(tx.waiting), late: tx.late}
	if !tx.begun {
		p.parts = append(p.parts, "START TRANSACTION")
	}
	for _, s := range tx.waiting {
		p.parts, p.args = append(p.parts, s.query), append(p.args, s.args...)
	}
	p.query = strings.Join(p.parts, joint)
	tx.waiting, tx.size, tx.late, tx.begun = nil, 0, false, true
	return p
}

// told names in an error what it may belong to: the first words of each statement.
func (p packet) told(err error) error {
	if err == nil || p.statements < 2 {
		return err
	}
	var heads []string
	for _, part := range p.parts[len(p.parts)-p.statements:] {
		words := strings.Fields(part)
		heads = append(heads, strings.Join(words[:min(3, len(words))], " "))
	}
	return fmt.Errorf("one of %s: %w", strings.Join(heads, ", "), err)
}
