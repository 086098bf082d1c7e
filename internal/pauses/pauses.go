// Package pauses is the authority on which queues are paused. A pause is a row in the database on
// which the jobs of the queue are done. So it holds for every replica, also for one that starts
// later, and it outlives every process and the broker. Each pause and each resume stays on record.
package pauses

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"cartwright/internal/store"
)

// ByMax is how many characters the name of whoever pauses or resumes may have, as in the table.
const ByMax = 64

// Pause is how it stands with a queue, and who made it so. The zero value is a queue that was never
// paused.
type Pause struct {
	Paused bool
	By     string
	Since  time.Time
	turn   int // of the queue, from 1
}

// String says who and when, for people.
func (p Pause) String() string {
	return fmt.Sprintf("by %s since %s UTC", p.By, p.Since.UTC().Format(time.DateTime))
}

// asked is a database or a transaction.
type asked interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Of looks up how it stands with a queue.
func Of(ctx context.Context, db asked, queue string) (p Pause, err error) {
	rows, err := db.QueryContext(ctx, `
		SELECT   turn, paused, changed_by, changed_at
		FROM     pauses
		WHERE    queue = ?
		ORDER BY turn DESC
		LIMIT    1`, queue)
	if err != nil {
		return Pause{}, store.Classify(err)
	}
	defer rows.Close()
	if rows.Next() {
		if err := rows.Scan(&p.turn, &p.Paused, &p.By, &p.Since); err != nil {
			return Pause{}, err
		}
	}
	return p, store.Classify(rows.Err())
}

// Newest reads the last pauses and resumes of a database, of all its queues, the newest first.
func Newest(ctx context.Context, db asked, limit int) (all []Pause, err error) {
	rows, err := db.QueryContext(ctx, `
		SELECT   turn, paused, changed_by, changed_at
		FROM     pauses
		ORDER BY changed_at DESC, turn DESC
		LIMIT    ?`, limit)
	if err != nil {
		return nil, store.Classify(err)
	}
	defer rows.Close()
	for rows.Next() {
		var p Pause
		if err := rows.Scan(&p.turn, &p.Paused, &p.By, &p.Since); err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, store.Classify(rows.Err())
}
