// Package outbox gets events out of a database for good: a row saved in the same transaction as
// what it tells of, published in order with confirms, and deleted after the confirm. An event may
// come twice, and never gets lost.
package outbox

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"cartwright/internal/ids"
	"cartwright/internal/messaging"
	"cartwright/internal/store"
)

const (
	batchMax  = 500
	idlePause = 100 * time.Millisecond
	failPause = time.Second
	moveTime  = 10 * time.Second
	lockTime  = 5 * time.Second
)

// Event is what a service has to tell. Data becomes the CloudEvent's data.
type Event struct {
	Type    string // such as "order.created"
	Subject string // the ID of what it is about
	Data    any    // marshalled as JSON
}

// Add saves events, to be published once tx is committed, in this order.
func Add(ctx context.Context, tx *sql.Tx, events ...Event) error {
	if len(events) == 0 {
		return nil
	}
	args := make([]any, 0, 4*len(events))
	for _, e := range events {
		data, err := json.Marshal(e.Data)
		if err != nil {
			return fmt.Errorf("event %s: %w", e.Type, err)
		}
		args = append(args, ids.New(), e.Type, e.Subject, data)
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO outbox (event_id, type, subject, data)
		VALUES `+store.Tuples(len(events), "(?, ?, ?, ?)"), args...)
	return err
}

// Relay publishes the events of one database. Any number of replicas may run one: a lock of the
// database, which dies with its connection, lets one of them work, and so keeps the order.
type Relay struct {
	DB        *sql.DB
	Database  string // its name, for the lock
	Source    string // the CloudEvents source, such as "cartwright/inventory"
	Publisher *messaging.Publisher
	Log       *slog.Logger
}

// Run relays until ctx ends, and then once more what is still there.
func (r Relay) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := r.holding(ctx, func(conn *sql.Conn) error { return r.relay(ctx, conn) }); err != nil {
			r.Log.WarnContext(ctx, "events wait", "database", r.Database, "error", err)
			sleep(ctx, failPause)
		}
	}
	return nil
}

// relay moves events for as long as it may. It does not stop within a move, which would only
// publish the same events again later.
func (r Relay) relay(ctx context.Context, conn *sql.Conn) error {
	for {
		ending := ctx.Err() != nil // before the move, so that it sees all that was saved before the end
		moved, err := r.move(context.WithoutCancel(ctx), conn)
		switch {
		case err != nil:
			return err
		case moved == batchMax:
		case ending:
			return nil
		default:
			sleep(ctx, idlePause)
		}
	}
}

// holding runs fn on a connection that holds the relay's lock, or returns after lockTime when
// another replica keeps it.
func (r Relay) holding(ctx context.Context, fn func(*sql.Conn) error) error {
	conn, err := r.DB.Conn(ctx)
	if err != nil {
		return store.Classify(err)
	}
	defer conn.Close()
	lock := "outbox " + r.Database
	var got sql.NullInt64
	if err := conn.QueryRowContext(ctx, "SELECT GET_LOCK(?, ?)", lock, lockTime.Seconds()).Scan(&got); err != nil {
		return store.Classify(err)
	}
	if got.Int64 != 1 {
		return nil
	}
	defer func() {
		release, cancel := context.WithTimeout(context.WithoutCancel(ctx), lockTime)
		defer cancel()
		conn.ExecContext(release, "DO RELEASE_LOCK(?)", lock) //nolint:errcheck // a dead connection has released it already
	}()
	return fn(conn)
}

// move publishes the oldest events and deletes exactly those. A number below the last one may
// still be in an uncommitted transaction, so the rows are named and not cut off at a number.
func (r Relay) move(ctx context.Context, conn *sql.Conn) (moved int, err error) {
	ctx, cancel := context.WithTimeout(ctx, moveTime)
	defer cancel()
	numbers, events, err := r.oldest(ctx, conn)
	if err != nil || len(events) == 0 {
		return 0, store.Classify(err)
	}
	if err := r.Publisher.PublishEvents(ctx, events); err != nil {
		return 0, err
	}
	_, err = conn.ExecContext(ctx, "DELETE FROM outbox WHERE id IN "+store.In(len(numbers)), store.Args(numbers)...)
	return len(events), store.Classify(err)
}

func (r Relay) oldest(ctx context.Context, conn *sql.Conn) (numbers []int64, events []messaging.Event, err error) {
	rows, err := conn.QueryContext(ctx, `
		SELECT   id, event_id, type, subject, data, created_at
		FROM     outbox
		ORDER BY id
		LIMIT    ?`, batchMax)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var number int64
		var subject string
		var data []byte
		var e messaging.Event
		if err := rows.Scan(&number, &e.ID, &e.Type, &subject, &data, &e.Time); err != nil {
			return nil, nil, err
		}
		if e.Body, err = r.cloudEvent(e, number, subject, data); err != nil {
			return nil, nil, err
		}
		numbers, events = append(numbers, number), append(events, e)
	}
	return numbers, events, rows.Err()
}

// cloudEvent writes the CloudEvents 1.0 document of an event. Its sequence is the row's number, as
// text of one length: of two events whose transactions locked the same row, the later one has the
// greater sequence, however late or often either is heard.
func (r Relay) cloudEvent(e messaging.Event, number int64, subject string, data []byte) ([]byte, error) {
	return json.Marshal(struct {
		SpecVersion     string          `json:"specversion"`
		ID              string          `json:"id"`
		Source          string          `json:"source"`
		Type            string          `json:"type"`
		Subject         string          `json:"subject"`
		Time            string          `json:"time"`
		Sequence        string          `json:"sequence"`
		DataContentType string          `json:"datacontenttype"`
		Data            json.RawMessage `json:"data"`
	}{"1.0", e.ID, r.Source, e.Type, subject, e.Time.UTC().Format(time.RFC3339Nano), fmt.Sprintf("%020d", number), "application/json", data})
}

// sleep waits, or returns earlier when ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
