package store_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cartwright/internal/fault"
	"cartwright/internal/store"
	"cartwright/internal/testenv"
	schema "cartwright/sql"
)

// shelf makes a table of two rows, a and b, in a database of the test's own.
func shelf(t *testing.T) *sql.DB {
	t.Helper()
	db := testenv.Database(t, testenv.Namespace(t), schema.Catalogue)
	for _, statement := range []string{
		"CREATE TABLE shelf (name VARCHAR(8) PRIMARY KEY, units INT NOT NULL) ENGINE=InnoDB",
		"INSERT INTO shelf VALUES ('a', 0), ('b', 0)",
	} {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	return db
}

func add(ctx context.Context, tx *store.Tx, name string) error {
	n, err := store.Matched(tx.ExecContext(ctx, "UPDATE shelf SET units = units + 1 WHERE name = ?", name))
	if err == nil && n != 1 {
		err = fault.New(fault.NotFound, "no_row", "no row %s", name)
	}
	return err
}

func read(ctx context.Context, tx *store.Tx, query string, to any) error {
	return tx.Read(ctx, store.Question{What: "shelf", Query: query, Each: func(rows *sql.Rows) error { return rows.Scan(to) }})
}

func wantUnits(t *testing.T, db *sql.DB, name string, want int) {
	t.Helper()
	var got int
	if err := db.QueryRowContext(t.Context(), "SELECT units FROM shelf WHERE name = ?", name).Scan(&got); err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("%s has %d units, want %d", name, got, want)
	}
}

func TestAnErrorTakesEverythingBack(t *testing.T) {
	t.Parallel()
	db := shelf(t)
	refusal := fault.New(fault.Refused, "out_of_stock", "none left")
	err := store.InTx(t.Context(), db, func(ctx context.Context, tx *store.Tx) error {
		return errors.Join(add(ctx, tx, "a"), refusal)
	})
	if !errors.Is(err, refusal) || !fault.Is(err, fault.Refused) {
		t.Errorf("%v, want %v", err, refusal)
	}
	wantUnits(t, db, "a", 0)
}

// Two transactions lock the same rows in opposite order, and meet in the middle: the server ends
// one of them, and that one is run again.
func TestTheVictimOfADeadlockIsRunAgain(t *testing.T) {
	t.Parallel()
	db := shelf(t)
	var bothHaveOne sync.WaitGroup
	bothHaveOne.Add(2)
	var runs atomic.Int32
	cross := func(first, second string) error {
		met := false
		return store.InTx(t.Context(), db, func(ctx context.Context, tx *store.Tx) error {
			runs.Add(1)
			if err := add(ctx, tx, first); err != nil {
				return err
			}
			if !met {
				met = true
				bothHaveOne.Done()
				bothHaveOne.Wait()
			}
			return add(ctx, tx, second)
		})
	}
	var all sync.WaitGroup
	for _, order := range [][2]string{{"a", "b"}, {"b", "a"}} {
		all.Go(func() {
			if err := cross(order[0], order[1]); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if runs.Load() < 3 {
		t.Errorf("%d runs: there was no deadlock", runs.Load())
	}
	wantUnits(t, db, "a", 2)
	wantUnits(t, db, "b", 2)
}

func TestALostRaceIsRunAgainButNotForEver(t *testing.T) {
	t.Parallel()
	db := shelf(t)
	runs := 0
	race := func(wins int) error {
		runs = 0
		return store.InTx(t.Context(), db, func(ctx context.Context, tx *store.Tx) error {
			if err := add(ctx, tx, "a"); err != nil {
				return err
			}
			if runs++; runs == wins {
				return nil
			}
			return store.ErrRaced
		})
	}
	if err := race(3); err != nil || runs != 3 {
		t.Errorf("%v after %d runs", err, runs)
	}
	wantUnits(t, db, "a", 1)
	if err := race(-1); !fault.Is(err, fault.Unavailable) {
		t.Errorf("%v after %d runs, want unavailable", err, runs)
	}
	wantUnits(t, db, "a", 1)
}

func TestALostConnectionIsUnavailable(t *testing.T) {
	t.Parallel()
	db := shelf(t)
	err := store.InTx(t.Context(), db, func(ctx context.Context, tx *store.Tx) error {
		if err := add(ctx, tx, "a"); err != nil {
			return err
		}
		var id int64
		if err := read(ctx, tx, "SELECT CONNECTION_ID()", &id); err != nil {
			return err
		}
		if _, err := db.ExecContext(ctx, "KILL ?", id); err != nil {
			return err
		}
		return add(ctx, tx, "b")
	})
	if !fault.Is(err, fault.Unavailable) {
		t.Errorf("%v, want unavailable", err)
	}
	wantUnits(t, db, "a", 0)
	if err := store.Ping(t.Context(), db); err != nil {
		t.Errorf("the pool has not recovered: %v", err)
	}
}

func TestNoServerIsUnavailable(t *testing.T) {
	t.Parallel()
	db, err := store.Open("nobody@tcp(127.0.0.1:1)/", "none", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tx := store.InTx(t.Context(), db, func(context.Context, *store.Tx) error { return nil })
	for _, err := range []error{tx, store.Ping(t.Context(), db)} {
		if !fault.Is(err, fault.Unavailable) {
			t.Errorf("%v, want unavailable", err)
		}
	}
}

func TestALockThatIsNeverGivenUpEndsInTime(t *testing.T) {
	t.Parallel()
	db := shelf(t)
	holder, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Rollback() //nolint:errcheck // the test is over
	if _, err := holder.ExecContext(t.Context(), "UPDATE shelf SET units = 5 WHERE name = 'a'"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	err = store.InTx(t.Context(), db, func(ctx context.Context, tx *store.Tx) error { return add(ctx, tx, "a") })
	if !fault.Is(err, fault.Unavailable) {
		t.Errorf("%v, want unavailable", err)
	}
	if took := time.Since(began); took > store.TransactionTime+5*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestSessionsAreSetAsPromised(t *testing.T) {
	t.Parallel()
	db := shelf(t)
	var zone string
	var lockWait, idle int
	if err := db.QueryRowContext(t.Context(), "SELECT @@time_zone, @@innodb_lock_wait_timeout, @@wait_timeout").Scan(&zone, &lockWait, &idle); err != nil {
		t.Fatal(err)
	}
	if zone != "+00:00" || lockWait != 3 || idle != 60 {
		t.Errorf("zone %s, lock wait %d s, idle %d s", zone, lockWait, idle)
	}
	if _, err := db.ExecContext(t.Context(), "INSERT INTO shelf VALUES ('far too long', 1)"); err == nil {
		t.Error("a value that does not fit was cut off in silence")
	}
	// An UPDATE that changes nothing has still found its row.
	for range 2 {
		if n, err := store.Matched(db.ExecContext(t.Context(), "UPDATE shelf SET units = 5 WHERE name = 'a'")); err != nil || n != 1 {
			t.Errorf("%d rows, %v", n, err)
		}
	}
}

// At READ COMMITTED a transaction sees what others have committed since its first look.
func TestTransactionsReadWhatIsCommitted(t *testing.T) {
	t.Parallel()
	db := shelf(t)
	err := store.InTx(t.Context(), db, func(ctx context.Context, tx *store.Tx) error {
		for want := range 2 {
			var got int
			if err := read(ctx, tx, "SELECT units FROM shelf WHERE name = 'a'", &got); err != nil {
				return err
			}
			if got != want {
				t.Errorf("it reads %d, want %d", got, want)
			}
			if _, err := db.ExecContext(ctx, "UPDATE shelf SET units = 1 WHERE name = 'a'"); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestDuplicateIsTold(t *testing.T) {
	t.Parallel()
	db := shelf(t)
	_, err := db.ExecContext(t.Context(), "INSERT INTO shelf VALUES ('a', 1)")
	if !store.IsDuplicate(err) || store.IsDuplicate(nil) || store.IsDuplicate(errors.New("Duplicate entry")) {
		t.Errorf("%v", err)
	}
}

func TestAddressThatIsNoneIsAnError(t *testing.T) {
	t.Parallel()
	if _, err := store.Open("what is this", "none", 1); err == nil || !strings.HasPrefix(err.Error(), "database address: ") {
		t.Errorf("%v", err)
	}
}

func TestPlaceholders(t *testing.T) {
	t.Parallel()
	if got := store.In(3); got != "(?, ?, ?)" {
		t.Error(got)
	}
	if got := store.Tuples(2, "(?, NOW(6))"); got != "(?, NOW(6)), (?, NOW(6))" {
		t.Error(got)
	}
	if got := store.Args([]string{"a", "b"}); len(got) != 2 || got[0] != "a" || got[1] != "b" {
		t.Error(got)
	}
}
