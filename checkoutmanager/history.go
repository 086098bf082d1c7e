package checkoutmanager

import (
	"context"
	"slices"

	"cartwright/internal/store"
)

// What is noted in a checkout's history.
const (
	turned  = "turned"  // it is on its way back from here on
	waits   = "waits"   // it is tried again later
	resumed = "resumed" // somebody did not want to wait
)

// happening is one line of a checkout's history.
type happening struct{ id, event, by, note string }

// note puts onto the page what a move means beyond its row: when rescue looks next, and what the
// history says. A checkout that goes straight to its end leaves no history, so it costs nothing.
func (p *page) note(r row, m move) {
	switch {
	case m.kind == parkMove:
		p.parked = append(p.parked, m)
	case m.kind == resumeMove:
		p.resumed = append(p.resumed, m.id)
		p.history = append(p.history, happening{m.id, resumed, m.by, ""})
	case m.to == undoing:
		p.history = append(p.history, happening{m.id, turned, m.by, store.Clip(r.reasonCode+": "+r.reason, reasonMax)})
		if m.by != "" {
			p.resumed = append(p.resumed, m.id) // nobody else may have it in hand
		}
	}
}

// writeParked lets rescue look later. The history tells of it when the reason is another one.
func (p page) writeParked(ctx context.Context, tx *store.Tx) error {
	if len(p.parked) == 0 {
		return nil
	}
	ids, notes := make([]any, len(p.parked)), make([]any, len(p.parked))
	for i, m := range p.parked {
		ids[i], notes[i] = m.id, m.note
	}
	list := store.In(len(ids))
	note := "ELT(FIELD(checkout_id, " + list[1:] + ", " + list[1:]
	err := tx.Write(ctx, `
		INSERT INTO checkout_history (checkout_id, event, done_by, note, happened_at)
		SELECT   checkout_id, ?, '', `+note+`, NOW(6)
		FROM     orders
		WHERE    checkout_id IN `+list+` AND last_error <> `+note+`
		ORDER BY checkout_id`, slices.Concat([]any{waits}, ids, notes, ids, ids, notes)...)
	if err != nil {
		return err
	}
	return tx.Write(ctx, `
		UPDATE orders
		SET    due_at = NOW(6) + INTERVAL LEAST(GREATEST(TIMESTAMPDIFF(SECOND, created_at, NOW(6)) DIV 4, ?), ?) SECOND,
		       attempts = attempts + 1, last_error = `+note+`
		WHERE  checkout_id IN `+list+` AND state IN ('placing', 'undoing')`, slices.Concat([]any{parkSecondsMin, parkSecondsMax}, ids, notes, ids)...)
}

// writeResumed lets rescue look now.
func (p page) writeResumed(ctx context.Context, tx *store.Tx) error {
	if len(p.resumed) == 0 {
		return nil
	}
	return tx.Write(ctx, `
		UPDATE orders
		SET    due_at = NOW(6)
		WHERE  checkout_id IN `+store.In(len(p.resumed))+` AND state IN ('placing', 'undoing')`, store.Args(p.resumed)...)
}

func (p page) writeHistory(ctx context.Context, tx *store.Tx) error {
	if len(p.history) == 0 {
		return nil
	}
	var args []any
	for _, h := range p.history {
		args = append(args, h.id, h.event, h.by, h.note)
	}
	return tx.Write(ctx, `
		INSERT INTO checkout_history (checkout_id, event, done_by, note, happened_at)
		VALUES `+store.Tuples(len(p.history), "(?, ?, ?, ?, NOW(6))"), args...)
}
