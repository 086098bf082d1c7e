package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
)

const (
	refusedFirst = 100 * time.Millisecond
	refusedMax   = 3 * time.Second
)

// patient asks a server that does not let our account in less and less often, whoever is in a
// hurry: in between, everybody is told what the server said last.
type patient struct {
	driver.Connector

	mu      sync.Mutex
	refusal error
	wait    time.Duration
	again   time.Time // when the server is to be asked next
}

func (p *patient) Connect(ctx context.Context) (driver.Conn, error) {
	if err := p.lately(); err != nil {
		return nil, err
	}
	conn, err := p.Connector.Connect(ctx)
	p.note(err)
	return conn, err
}

// lately is what the server said when it is too early to ask again; otherwise the caller may, and others wait for what it hears.
func (p *patient) lately() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refusal == nil || time.Now().Before(p.again) {
		return p.refusal
	}
	p.again = time.Now().Add(p.wait)
	return nil
}

func (p *patient) note(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var said *mysql.MySQLError
	if !errors.As(err, &said) || !slices.Contains([]uint16{errWrongPassword, errNoSuchAccess, errNoSuchDatabase}, said.Number) {
		p.refusal, p.wait = nil, 0
		return
	}
	p.refusal, p.wait = err, min(max(2*p.wait, refusedFirst), refusedMax)
	p.again = time.Now().Add(p.wait)
}
