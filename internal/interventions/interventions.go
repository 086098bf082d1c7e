// Package interventions is the authority on what people did by hand with dead letters. Each deed is on
// record before it is done, in the database on which the jobs of the queue are done.
package interventions

import (
	"context"
	"database/sql"
	"time"

	"cartwright/internal/pauses"
	"cartwright/internal/store"
)

// Deed is what was done with a dead letter.
type Deed string

const (
	Replay Deed = "replay" // back to its work queue
	Drop   Deed = "drop"   // away for good
)

// Intervention is one deed: to which letter, why that was buried, by whom and when.
type Intervention struct {
	Queue     string // the work queue
	Deed      Deed
	MessageID string
	Kind      string
	Reason    string
	By        string
	At        time.Time
}

const (
	idMax     = 255 // characters, as long as a broker's message can have them
	reasonMax = 500 // characters, the column's width
)

// Record adds deeds in the name of by, all or none, with the database's time. fault.Invalid names a by
// that is no name.
func Record(ctx context.Context, db *sql.DB, by string, deeds ...Intervention) error {
	if err := pauses.CheckName(by); err != nil {
		return err
	}
	var args []any
	for _, d := range deeds {
		args = append(args, d.Queue, string(d.Deed), store.Clip(d.MessageID, idMax), store.Clip(d.Kind, idMax), store.Clip(d.Reason, reasonMax), by)
	}
	if len(args) == 0 {
		return nil
	}
	return store.InTx(ctx, db, func(ctx context.Context, tx *store.Tx) error {
		return tx.Write(ctx, `
			INSERT INTO interventions (queue, deed, message_id, kind, reason, done_by, done_at)
			VALUES `+store.Tuples(len(deeds), "(?, ?, ?, ?, ?, ?, NOW(6))"), args...)
	})
}

// Newest reads the last deeds of a database, the newest first, limit at most.
func Newest(ctx context.Context, db *sql.DB, limit int) (all []Intervention, err error) {
	rows, err := db.QueryContext(ctx, `
		SELECT   queue, deed, message_id, kind, reason, done_by, done_at
		FROM     interventions
		ORDER BY id DESC
		LIMIT    ?`, limit)
	if err != nil {
		return nil, store.Classify(err)
	}
	defer rows.Close()
	for rows.Next() {
		var i Intervention
		if err := rows.Scan(&i.Queue, &i.Deed, &i.MessageID, &i.Kind, &i.Reason, &i.By, &i.At); err != nil {
			return nil, err
		}
		all = append(all, i)
	}
	return all, store.Classify(rows.Err())
}
