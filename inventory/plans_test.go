package inventory

import (
	"testing"
	"time"

	"cartwright/internal/ids"
	"cartwright/internal/testenv"
	schema "cartwright/sql"
)

// The sweeper reads what has lapsed, and nothing of what is sold or held for longer.
func TestTheSweepReadsOnlyWhatHasLapsed(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t, testenv.Namespace(t), schema.Inventory)
	db.SetMaxOpenConns(1)
	now, lapsed := time.Now().UTC(), 0
	testenv.Fill(t, db, "reservations", "reservation_id, state, contents, expires_at", 6000, func(i int) []any {
		switch {
		case i%1000 == 0:
			lapsed++
			return []any{ids.New(), held, `[{"product":"tea","quantity":1,"counted":1}]`, now.Add(-time.Minute)}
		case i%50 == 0:
			return []any{ids.New(), held, `[{"product":"tea","quantity":1,"counted":1}]`, now.Add(time.Hour)}
		}
		return []any{ids.New(), sold, `[{"product":"tea","quantity":1,"counted":1}]`, nil}
	})
	if used := testenv.Index(t, db, lapsedQuery, sweepMax); used != "lapses" {
		t.Errorf("it goes by %q", used)
	}
	var found []string
	read := testenv.Reads(t, db, func() {
		var err error
		if found, err = (sweeper{server: &server{}, books: books{db: db}}).lapsed(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	if len(found) != lapsed || read > 100 {
		t.Errorf("%d lapsed and %d rows read, want %d and at most 100", len(found), read, lapsed)
	}
}
