package floor

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/go-sql-driver/mysql"
	amqp "github.com/rabbitmq/amqp091-go"

	"cartwright/internal/fault"
	"cartwright/internal/store"
)

const (
	// connections of each process to the database: more than it ever uses at a time.
	connections = 4

	// administrations is one connection for the lock, and one for making and taking away.
	administrations = 2

	// shelfUnits of every product are more than can be sold before the measurement ends.
	shelfUnits = 1_000_000_000

	// shelvesPerStatement keeps the statements that fill the shelves far below any packet limit.
	shelvesPerStatement = 1000

	// clearLimit is for taking everything away, also after an interrupt.
	clearLimit = 20 * time.Second

	// holdSeconds is how long the session that holds the ground may be idle: longer than any
	// measurement takes.
	holdSeconds = 4 * secondsMax
)

// ground is the database and the queue of a measurement. A named lock in the database server
// belongs to them, so that two measurements never share them; what a killed one left is built
// anew by the next.
type ground struct {
	settings Settings
	db       *sql.DB   // names no database
	hold     *sql.Conn // the session that has the lock
	queued   bool      // there is a queue to take away
}

// database is the name of the database; the lock has the same.
func (s Settings) database() string { return s.Broker.Namespace + "floor" }

// queue is the name of the queue of checkouts.
func (s Settings) queue() string { return s.Broker.Namespace + "floor.checkout" }

// answers is the name of the queue on which the gateway hears; it goes with the gateway's connection.
func (s Settings) answers() string { return s.Broker.Namespace + "floor.answers" }

// takeGround locks the ground. Nothing is made yet.
func takeGround(ctx context.Context, s Settings) (*ground, error) {
	patient := func(cfg *mysql.Config) { cfg.Params["wait_timeout"] = fmt.Sprint(holdSeconds) }
	db, err := store.Open(s.AdminDSN, "", administrations, patient)
	if err != nil {
		return nil, err
	}
	g := &ground{settings: s, db: db}
	var free sql.NullInt64
	if g.hold, err = db.Conn(ctx); err == nil {
		err = g.hold.QueryRowContext(ctx, "SELECT GET_LOCK(?, 0)", s.database()).Scan(&free)
	}
	if err == nil && free.Int64 != 1 {
		err = errors.New("another floor is being measured on this database server")
	}
	if err != nil {
		return nil, errors.Join(store.Classify(err), g.leave())
	}
	return g, nil
}

// leave gives up the lock, with the session that has it.
func (g *ground) leave() error {
	if g.hold != nil {
		g.hold.Close() //nolint:errcheck // the pool goes next
	}
	return g.db.Close()
}

// build makes the database, with its tables and full shelves, and the queue. An order and a
// reservation are in state 0 when they are opened, and in state 1 when they are done.
func (g *ground) build(ctx context.Context, products int) error {
	name := "`" + g.settings.database() + "`"
	for _, statement := range []string{"DROP DATABASE IF EXISTS " + name, "CREATE DATABASE " + name + " CHARACTER SET utf8mb4"} {
		if _, err := g.db.ExecContext(ctx, statement); err != nil {
			return store.Classify(err)
		}
	}
	db, err := g.settings.open()
	if err != nil {
		return err
	}
	defer db.Close()
	for _, table := range []string{
		"CREATE TABLE orders (id CHAR(36) PRIMARY KEY, client VARCHAR(64) NOT NULL, state TINYINT NOT NULL, created_at DATETIME NOT NULL DEFAULT NOW()) ENGINE=InnoDB",
		"CREATE TABLE reservations (id CHAR(36) PRIMARY KEY, product INT NOT NULL, units INT NOT NULL, state TINYINT NOT NULL) ENGINE=InnoDB",
		"CREATE TABLE stock (product INT PRIMARY KEY, on_hand BIGINT NOT NULL, reserved BIGINT NOT NULL) ENGINE=InnoDB",
	} {
		if _, err := db.ExecContext(ctx, table); err != nil {
			return store.Classify(err)
		}
	}
	if err := fill(ctx, db, products); err != nil {
		return store.Classify(err)
	}
	if err := g.settings.declare(); err != nil {
		return err
	}
	g.queued = true
	return nil
}

// fill puts every product on its shelf.
func fill(ctx context.Context, db *sql.DB, products int) error {
	for first := 0; first < products; first += shelvesPerStatement {
		n := min(shelvesPerStatement, products-first)
		args := make([]any, 0, 2*n)
		for product := first; product < first+n; product++ {
			args = append(args, product, shelfUnits)
		}
		if _, err := db.ExecContext(ctx, "INSERT INTO stock (product, on_hand, reserved) VALUES "+store.Tuples(n, "(?, ?, 0)"), args...); err != nil {
			return err
		}
	}
	return nil
}

// agrees compares the tables with the number of answers: each checkout that was answered, and no
// other, has left a finished order, a committed reservation, and one unit less on a shelf.
func (g *ground) agrees(ctx context.Context, answers int) error {
	db, err := g.settings.open()
	if err != nil {
		return err
	}
	defer db.Close()
	var orders, finished, reservations, committed, sold, reserved int
	err = db.QueryRowContext(ctx, `
		SELECT o.opened, o.finished, r.opened, r.committed, s.sold, s.held
		FROM   (SELECT COUNT(*) AS opened, COALESCE(SUM(state = 1), 0) AS finished FROM orders) o,
		       (SELECT COUNT(*) AS opened, COALESCE(SUM(state = 1), 0) AS committed FROM reservations) r,
		       (SELECT SUM(? - on_hand) AS sold, SUM(reserved) AS held FROM stock) s`,
		shelfUnits).Scan(&orders, &finished, &reservations, &committed, &sold, &reserved)
	if err != nil {
		return store.Classify(err)
	}
	for _, count := range []int{orders, finished, reservations, committed, sold} {
		if count != answers || reserved != 0 {
			return fmt.Errorf("%d checkouts were answered, and the tables have %d orders, %d of them finished, %d reservations, %d of them committed, %d units sold and %d reserved",
				answers, orders, finished, reservations, committed, sold, reserved)
		}
	}
	return nil
}

// clear takes everything away. It is done also when ctx has ended, since that is what an interrupt is.
func (g *ground) clear(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), clearLimit)
	defer cancel()
	_, err := g.db.ExecContext(ctx, "DROP DATABASE IF EXISTS `"+g.settings.database()+"`")
	err = store.Classify(err)
	if g.queued {
		err = errors.Join(err, g.settings.undeclare())
	}
	return errors.Join(err, g.leave())
}

// open opens a pool for the database of the floor.
func (s Settings) open() (*sql.DB, error) {
	return store.Open(s.AdminDSN, s.database(), connections)
}

var errAddress = errors.New("CARTWRIGHT_AMQP_URL must be amqp://user:password@host:port/vhost")

// dial connects to the broker with the client library as it comes, and opens a channel.
func (s Settings) dial() (*amqp.Connection, *amqp.Channel, error) {
	if _, err := amqp.ParseURI(s.Broker.URL); err != nil {
		return nil, nil, errAddress // the library's own error repeats it, password and all
	}
	conn, err := amqp.Dial(s.Broker.URL)
	if err != nil {
		return nil, nil, fault.Away("the broker", err)
	}
	ch, err := conn.Channel()
	if err != nil {
		return nil, nil, errors.Join(fault.Away("the broker", err), conn.Close())
	}
	return conn, ch, nil
}

// declare makes the queue, or empties the one that a killed measurement left.
func (s Settings) declare() error {
	conn, ch, err := s.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := ch.QueueDeclare(s.queue(), true, false, false, false, amqp.Table{"x-queue-type": "quorum"}); err != nil {
		return fmt.Errorf("queue %s: %w", s.queue(), err)
	}
	if _, err := ch.QueuePurge(s.queue(), false); err != nil {
		return fmt.Errorf("queue %s: %w", s.queue(), err)
	}
	return nil
}

func (s Settings) undeclare() error {
	conn, ch, err := s.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := ch.QueueDelete(s.queue(), false, false, false); err != nil {
		return fmt.Errorf("queue %s: %w", s.queue(), err)
	}
	return nil
}
