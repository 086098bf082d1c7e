// Package outbox gets events out of a database for good: saved in the same transaction as what
// they tell of, published in order with confirms, and deleted after the confirm. An event may
// come twice, and never gets lost.
//
// All events of a transaction are one row, a sheet, because a transaction of ours is one for
// hundreds of calls.
package outbox

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"cartwright/internal/failpoint"
	"cartwright/internal/ids"
	"cartwright/internal/lifecycle"
	"cartwright/internal/messaging"
	"cartwright/internal/mutation"
	"cartwright/internal/store"
)

const (
	sheetsMax = 16  // read at a time
	batchMax  = 500 // events on their way to the broker at a time
	idlePause = 100 * time.Millisecond
	failPause = time.Second
	moveTime  = 10 * time.Second
	lockTime  = 5 * time.Second
	// envelopeSize is room for a CloudEvent without its data. More is made when it is not enough.
	envelopeSize = 512
)

// Event is what a service has to tell. Data becomes the CloudEvent's data.
type Event struct {
	Type    string // such as "order.created"
	Subject string // the ID of what it is about
	Data    any    // marshalled as JSON
}

// Saved is an event that waits to be published.
type Saved struct {
	ID      string         `json:"id"`
	Type    string         `json:"type"`
	Subject string         `json:"subject"`
	Data    jsontext.Value `json:"data"`
	Time    time.Time      `json:"-"` // of its sheet
	// Sequence is the sheet's number and the place on it, as text of one length: of two events whose
	// transactions locked the same row, the later one has the greater sequence, however late or
	// often either is heard.
	Sequence string `json:"-"`
}

// Add saves events, to be published once tx is committed, in this order.
func Add(ctx context.Context, tx *store.Tx, events ...Event) error {
	if len(events) == 0 {
		return nil
	}
	text, err := writeSheet(events)
	if err != nil {
		return fmt.Errorf("events such as %s: %w", events[0].Type, err)
	}
	const insert = "INSERT INTO outbox (events) VALUES (?)"
	if mutation.On(mutation.EventsOutside) {
		if _, err := tx.ExecContext(ctx, insert, text); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "COMMIT")
		return err
	}
	return tx.Write(ctx, insert, text)
}

// writeSheet gives each event an ID.
func writeSheet(events []Event) ([]byte, error) {
	type entry struct { // reads back as Saved
		ID      string `json:"id"`
		Type    string `json:"type"`
		Subject string `json:"subject"`
		Data    any    `json:"data"`
	}
	sheet := make([]entry, len(events))
	for i, e := range events {
		sheet[i] = entry{ids.New(), e.Type, e.Subject, e.Data}
	}
	return json.Marshal(sheet)
}

// readSheet reads what writeSheet has written.
func readSheet(text []byte) (sheet []Saved, err error) {
	return sheet, jsonv2.Unmarshal(text, &sheet, asWritten)
}

// Queryer is a *sql.DB or one of its connections.
type Queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Waiting returns the events on the oldest sheets, in their order, and the sheets' numbers.
func Waiting(ctx context.Context, db Queryer, most int) (sheets []int64, events []Saved, err error) {
	rows, err := db.QueryContext(ctx, "SELECT id, events, created_at FROM outbox ORDER BY id LIMIT ?", most)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var number int64
		var text sql.RawBytes
		var saved time.Time
		if err := rows.Scan(&number, &text, &saved); err != nil {
			return nil, nil, err
		}
		sheet, err := readSheet(text)
		if err != nil {
			return nil, nil, fmt.Errorf("sheet %d: %w", number, err)
		}
		for i := range sheet {
			sheet[i].Time, sheet[i].Sequence = saved, sequence(number, i)
		}
		sheets, events = append(sheets, number), append(events, sheet...)
	}
	return sheets, events, rows.Err()
}

// sequence is that of the event at a place on a sheet.
func sequence(sheet int64, place int) string {
	return fmt.Sprintf("%020d.%06d", sheet, place)
}

// asWritten reads a sheet without looking for what Add cannot have written.
var asWritten = jsonv2.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

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
			lifecycle.Pause(ctx, failPause)
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
		case moved == sheetsMax:
		case ending:
			return nil
		default:
			lifecycle.Pause(ctx, idlePause)
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

// move publishes the oldest sheets and deletes exactly those. A number below the last one may
// still be in an uncommitted transaction, so the rows are named and not cut off at a number.
func (r Relay) move(ctx context.Context, conn *sql.Conn) (moved int, err error) {
	ctx, cancel := context.WithTimeout(ctx, moveTime)
	defer cancel()
	sheets, saved, err := Waiting(ctx, conn, sheetsMax)
	if err != nil || len(sheets) == 0 {
		return 0, store.Classify(err)
	}
	for batch := range slices.Chunk(saved, batchMax) {
		events := make([]messaging.Event, len(batch))
		for i, e := range batch {
			if events[i], err = r.CloudEvent(e); err != nil {
				return 0, err
			}
		}
		if err := r.Publisher.PublishEvents(ctx, events); err != nil && !mutation.On(mutation.ForgetUnconfirmed) {
			return 0, err
		}
	}
	if err := failpoint.Hit(failpoint.EventsConfirmed); err != nil {
		return 0, err
	}
	_, err = conn.ExecContext(ctx, "DELETE FROM outbox WHERE id IN "+store.In(len(sheets)), store.Args(sheets)...)
	return len(sheets), store.Classify(err)
}

// CloudEvent is the CloudEvents 1.0 document of an event. Its data are put in as they are: they were
// read as JSON a moment ago, and reading them again for each event is most of what a relay costs.
func (r Relay) CloudEvent(e Saved) (messaging.Event, error) {
	body := make([]byte, 0, len(e.Data)+envelopeSize)
	body = append(body, `{"specversion":"1.0"`...)
	for _, attribute := range [...]struct{ name, value string }{
		{"id", e.ID}, {"source", r.Source}, {"type", e.Type}, {"subject", e.Subject},
		{"time", e.Time.UTC().Format(time.RFC3339Nano)}, {"sequence", e.Sequence}, {"datacontenttype", "application/json"},
	} {
		body = append(body, `,"`+attribute.name+`":`...)
		var err error
		if body, err = jsontext.AppendQuote(body, attribute.value); err != nil {
			return messaging.Event{}, fmt.Errorf("event %s: %s: %w", e.ID, attribute.name, err)
		}
	}
	body = append(append(append(body, `,"data":`...), e.Data...), '}')
	return messaging.Event{ID: e.ID, Type: e.Type, Time: e.Time, Body: body}, nil
}
