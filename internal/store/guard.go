package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"strings"
)

// guarded is a connection on which one call is one statement, as it would be if the server had not
// been told that we send several in a packet. Only what Tx has joined goes through, of which it has
// looked at each part. So what is smuggled into a statement can still not end it and begin another.
type guarded struct{ session }

// session is what the driver's connections can do, all of which the pool is to find on ours.
type session interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.NamedValueChecker
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

var errSeveral = errors.New("several statements where one was expected")

// refuseSeveral refuses a text with a semicolon in it, wherever: none of our statements needs one,
// and so nobody has to know where it would end a statement. At the end it does nothing.
func refuseSeveral(query string) error {
	if strings.Contains(strings.TrimRight(query, "; \t\r\n"), ";") {
		return errSeveral
	}
	return nil
}

type joinedKey struct{}

// joined marks a call whose statements Tx has looked at one by one. Nobody else can.
func joined(ctx context.Context) context.Context { return context.WithValue(ctx, joinedKey{}, true) }

func look(ctx context.Context, query string) error {
	if ctx.Value(joinedKey{}) != nil {
		return nil
	}
	return refuseSeveral(query)
}

func (g guarded) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := look(ctx, query); err != nil {
		return nil, err
	}
	return g.session.ExecContext(ctx, query, args)
}

func (g guarded) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := look(ctx, query); err != nil {
		return nil, err
	}
	return g.session.QueryContext(ctx, query, args)
}

// PrepareContext looks too, although servers prepare one statement at most.
func (g guarded) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if err := look(ctx, query); err != nil {
		return nil, err
	}
	return g.session.PrepareContext(ctx, query)
}
