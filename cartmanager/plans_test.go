package cartmanager

import (
	"testing"
	"time"

	"cartwright/internal/ids"
	"cartwright/internal/testenv"
	schema "cartwright/sql"
)

// Pruning reads what it deletes, and nothing of the answers that are kept.
func TestPruningReadsOnlyWhatIsOld(t *testing.T) {
	t.Parallel()
	const jobs, old = 6000, 1500
	db := testenv.Database(t, testenv.Namespace(t), schema.Carts)
	db.SetMaxOpenConns(1)
	now := time.Now().UTC()
	testenv.Fill(t, db, "processed_jobs", "job_id, request_hash, done_at", jobs, func(i int) []any {
		return []any{ids.Derive(ids.New()), make([]byte, 32), now.Add(time.Duration(i-old) * time.Second)}
	})
	if used := testenv.Index(t, db, pruneStatement, now, pruneStep); used != "pruned_by" {
		t.Errorf("it goes by %q", used)
	}
	for _, gone := range []int64{old, 0} {
		read := testenv.Reads(t, db, func() {
			if err := (pruner{db: db}).prune(t.Context(), now); err != nil {
				t.Fatal(err)
			}
		})
		if read > 2*gone+100 { // by the index, and the row
			t.Errorf("pruning %d answers reads %d rows", gone, read)
		}
	}
	var left int
	if err := db.QueryRow("SELECT COUNT(*) FROM processed_jobs").Scan(&left); err != nil || left != jobs-old {
		t.Errorf("%d are left, want %d, %v", left, jobs-old, err)
	}
}
