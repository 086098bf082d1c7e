package chaos

import (
	"context"
	"database/sql"
	"errors"

	amqp "github.com/rabbitmq/amqp091-go"

	"cartwright/internal/store"
	"cartwright/jobs"
	schema "cartwright/sql"
)

// order is one order as the shop's books have it.
type order struct {
	client, state string
	lines         map[string]int64 // units by product
}

// cartJob is a change of a cart that was done.
type cartJob struct{ refused bool }

// ledger is what the shop's own databases and queues say of a run, once it is quiet.
type ledger struct {
	orders map[string]*order           // by the ID that clients know
	carts  map[string]map[string]int64 // units by client and product
	jobs   map[string]cartJob          // by ID
	dead   []string                    // IDs of the messages that wait for people
}

// readLedger reads all of a run whose names begin with run. What lies on the dead queues is taken off
// them.
func readLedger(ctx context.Context, db *sql.DB, amqpURL, run string) (*ledger, error) {
	l := &ledger{orders: map[string]*order{}, carts: map[string]map[string]int64{}, jobs: map[string]cartJob{}}
	err := errors.Join(l.readOrders(ctx, db, run), l.readCarts(ctx, db, run), l.readJobs(ctx, db))
	if err != nil {
		return nil, err
	}
	l.dead, err = buried(amqpURL)
	return l, err
}

func (l *ledger) readOrders(ctx context.Context, db *sql.DB, run string) error {
	byCheckout := map[string]*order{}
	err := each(ctx, db, func(scan func(...any) error) error {
		var checkout, id string
		o := &order{lines: map[string]int64{}}
		err := scan(&checkout, &id, &o.client, &o.state)
		byCheckout[checkout], l.orders[id] = o, o
		return err
	}, "SELECT checkout_id, order_id, client_id, state FROM {checkouts}.orders WHERE client_id LIKE ?", run+"-c%")
	if err != nil {
		return err
	}
	return each(ctx, db, func(scan func(...any) error) error {
		var checkout, product string
		var quantity int64
		if err := scan(&checkout, &product, &quantity); err != nil {
			return err
		}
		if o := byCheckout[checkout]; o != nil {
			o.lines[product] += quantity
		}
		return nil
	}, "SELECT checkout_id, product_id, quantity FROM {checkouts}.order_lines")
}

func (l *ledger) readCarts(ctx context.Context, db *sql.DB, run string) error {
	return each(ctx, db, func(scan func(...any) error) error {
		var client, product string
		var quantity int64
		if err := scan(&client, &product, &quantity); err != nil {
			return err
		}
		if l.carts[client] == nil {
			l.carts[client] = map[string]int64{}
		}
		l.carts[client][product] = quantity
		return nil
	}, "SELECT client_id, product_id, quantity FROM {carts}.cart_lines WHERE client_id LIKE ?", run+"-c%")
}

func (l *ledger) readJobs(ctx context.Context, db *sql.DB) error {
	return each(ctx, db, func(scan func(...any) error) error {
		var id string
		var done cartJob
		err := scan(&id, &done.refused)
		l.jobs[id] = done
		return err
	}, "SELECT job_id, fault IS NOT NULL FROM {carts}.processed_jobs")
}

func each(ctx context.Context, db *sql.DB, use func(scan func(...any) error) error, query string, args ...any) error {
	rows, err := db.QueryContext(ctx, schema.InNamespace(query, ""), args...)
	return store.Each(rows, err, use)
}

// buried takes what lies on the dead queues off them, and returns the IDs.
func buried(amqpURL string) (ids []string, err error) {
	conn, err := amqp.Dial(amqpURL)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		return nil, err
	}
	for _, w := range jobs.Topology("").Work {
		for {
			const gone = true // nobody else looks at this shop
			d, got, err := ch.Get(string(w.Name.Dead()), gone)
			if err != nil {
				return ids, err
			}
			if !got {
				break
			}
			ids = append(ids, d.MessageId)
		}
	}
	return ids, nil
}
