package pauses

import (
	"context"
	"database/sql"
	"strings"
	"unicode"
	"unicode/utf8"

	"cartwright/internal/fault"
	"cartwright/internal/store"
)

// Change pauses a queue or resumes it, in the name of somebody. It returns how it stood before; when
// that was no different, nothing is changed and nothing is recorded.
func Change(ctx context.Context, db *sql.DB, queue string, paused bool, by string) (before Pause, err error) {
	if err := CheckName(by); err != nil {
		return Pause{}, err
	}
	err = store.InTx(ctx, db, func(ctx context.Context, tx *store.Tx) (err error) {
		before, err = Of(ctx, tx, queue)
		if err != nil || before.Paused == paused {
			return err
		}
		err = tx.Write(ctx, `
			INSERT INTO pauses (queue, turn, paused, changed_by, changed_at)
			VALUES (?, ?, ?, ?, NOW(6))`, queue, before.turn+1, paused, by)
		if store.IsDuplicate(err) {
			return store.ErrRaced // somebody else had this turn
		}
		return err
	})
	return before, err
}

// CheckName refuses a name of somebody that would not fit into the table, or not onto the line of a
// list, with a fault.Invalid.
func CheckName(by string) error {
	if strings.TrimSpace(by) == "" || utf8.RuneCountInString(by) > ByMax || !utf8.ValidString(by) {
		return fault.InvalidField("by", "must be a name of 1 to %d characters", ByMax)
	}
	for _, r := range by {
		if !unicode.IsPrint(r) {
			return fault.InvalidField("by", "must be a name on one line, without %q", r)
		}
	}
	return nil
}
