package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"cartwright/internal/fault"
	"cartwright/internal/store"
	"cartwright/internal/testenv"
)

// proxied is the shelf's database through a proxy, on one connection.
func proxied(t *testing.T) (direct, db *sql.DB, proxy *testenv.Proxy) {
	t.Helper()
	direct = shelf(t)
	var name string
	if err := direct.QueryRowContext(t.Context(), "SELECT DATABASE()").Scan(&name); err != nil {
		t.Fatal(err)
	}
	db, proxy = testenv.OpenProxied(t, name)
	return direct, db, proxy
}

const (
	addOne = "UPDATE shelf SET units = units + 1 WHERE name = ?"
	putIn  = "INSERT INTO shelf VALUES (?, ?)"
)

// units asks for what is on the shelf under a name.
func units(name string, to *int) store.Question {
	return store.Question{What: "shelf", Query: "SELECT units FROM shelf WHERE name = ?", Args: []any{name},
		Each: func(rows *sql.Rows) error { return rows.Scan(to) }}
}

// wantNoneOpen looks for a transaction on the pool's only connection.
func wantNoneOpen(t *testing.T, db *sql.DB) {
	t.Helper()
	var open int
	err := db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_mysql_thread_id = CONNECTION_ID()").Scan(&open)
	if err != nil || open != 0 {
		t.Errorf("%d transactions are open, %v", open, err)
	}
}

// Who waits for the server waits with rows locked.
func TestATransactionWaitsForTheServerOnlyWhereItMust(t *testing.T) {
	t.Parallel()
	direct, db, proxy := proxied(t)
	var a, b int
	for _, c := range []struct {
		what  string
		trips int
		do    func(context.Context, *store.Tx) error
	}{
		{"nothing", 0, func(context.Context, *store.Tx) error { return nil }},
		{"one write", 1, func(ctx context.Context, tx *store.Tx) error { return tx.Write(ctx, addOne, "a") }},
		{"many writes", 1, func(ctx context.Context, tx *store.Tx) error {
			return errors.Join(tx.Write(ctx, addOne, "a"), tx.WriteAll(ctx, 2, "UPDATE shelf SET units = units + 1"),
				tx.WriteAll(ctx, 2, "UPDATE shelf SET units = units"), // found is enough, nothing has to change
				tx.Write(ctx, addOne, "b"))
		}},
		{"reads, then writes", 2, func(ctx context.Context, tx *store.Tx) error {
			return errors.Join(tx.Read(ctx, units("a", &a), units("none", nil), units("b", &b)), tx.Write(ctx, addOne, "a"), tx.Write(ctx, addOne, "b"))
		}},
		{"a write, a read of it, a write that is looked at, and more", 3, func(ctx context.Context, tx *store.Tx) error {
			err := errors.Join(tx.Write(ctx, addOne, "a"), tx.Read(ctx, units("a", &a)), tx.Write(ctx, addOne, "b"))
			n, matchErr := store.Matched(tx.ExecContext(ctx, "UPDATE shelf SET units = units + 0 WHERE units > 0"))
			if n != 2 {
				t.Errorf("%d rows matched", n)
			}
			return errors.Join(err, matchErr, tx.Write(ctx, addOne, "b"))
		}},
	} {
		before := proxy.Trips()
		if err := store.InTx(t.Context(), db, c.do); err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		if got := proxy.Trips() - before; got != c.trips {
			t.Errorf("%s: %d round trips, want %d", c.what, got, c.trips)
		}
	}
	if a != 5 || b != 2 {
		t.Errorf("read %d and %d", a, b)
	}
	wantUnits(t, direct, "a", 5)
	wantUnits(t, direct, "b", 5)
}

// Every error of a statement is told by the call it belongs to, with nothing of the transaction
// done, and the connection is as good as before.
func TestAnErrorInTheMiddleTakesEverythingBack(t *testing.T) {
	t.Parallel()
	direct, db, _ := proxied(t)
	runs := 0
	err := store.InTx(t.Context(), db, func(ctx context.Context, tx *store.Tx) error {
		runs++
		for _, name := range []string{"a", "far too long", "b"} {
			if err := tx.Write(ctx, "UPDATE shelf SET name = ?, units = units + 1 WHERE name = ?", name, name[:1]); err != nil {
				return fmt.Errorf("renaming to %s: %w", name, err)
			}
			if err := tx.Write(ctx, "INSERT INTO shelf VALUES (?, 1)", name); err != nil {
				return fmt.Errorf("adding %s: %w", name, err)
			}
		}
		return nil
	})
	if err == nil || !strings.HasPrefix(err.Error(), "adding a: Error 1062") || !fault.Is(err, fault.Internal) || runs != 2 {
		t.Errorf("%v after %d runs", err, runs)
	}
	wantNoneOpen(t, db)
	wantUnits(t, direct, "a", 0)
	if err := store.InTx(t.Context(), db, func(ctx context.Context, tx *store.Tx) error { return tx.Write(ctx, addOne, "a") }); err != nil {
		t.Error(err)
	}
	wantUnits(t, direct, "a", 1)
}

// After its first error a transaction does nothing more, even for a caller who has not seen it.
func TestAnErrorThatIsPassedOverEndsTheTransactionToo(t *testing.T) {
	t.Parallel()
	db := shelf(t)
	err := store.InTx(t.Context(), db, func(ctx context.Context, tx *store.Tx) error {
		tx.ExecContext(ctx, "INSERT INTO shelf VALUES ('a', 1)") //nolint:errcheck // the point of it
		return tx.Write(ctx, addOne, "b")
	})
	if !store.IsDuplicate(err) {
		t.Errorf("%v, want a duplicate", err)
	}
	wantUnits(t, db, "b", 0)
}

// The key is free when the transaction looks, and taken when it writes.
func TestATakenKeyInAPacketIsARaceRunAgain(t *testing.T) {
	t.Parallel()
	direct, db, _ := proxied(t)
	runs := 0
	err := store.InTx(t.Context(), db, func(ctx context.Context, tx *store.Tx) error {
		found := -1
		if err := tx.Read(ctx, units("c", &found)); err != nil {
			return err
		}
		if runs++; runs == 1 {
			if _, err := direct.ExecContext(ctx, putIn, "c", 7); err != nil {
				return err
			}
		}
		if err := tx.Write(ctx, addOne, "a"); err != nil {
			return err
		}
		if found >= 0 {
			return tx.Write(ctx, addOne, "c")
		}
		err := tx.Write(ctx, putIn, "c", 1)
		if store.IsDuplicate(err) {
			return store.ErrRaced
		}
		return errors.Join(err, tx.Write(ctx, addOne, "b"))
	})
	if err != nil || runs != 2 {
		t.Errorf("%v after %d runs", err, runs)
	}
	wantUnits(t, direct, "a", 1)
	wantUnits(t, direct, "b", 0)
	wantUnits(t, direct, "c", 8)
}

// One write and nothing else is a transaction too, and its error is told like any other.
func TestATakenKeyOfTheOnlyWriteIsTold(t *testing.T) {
	t.Parallel()
	db := shelf(t)
	name := "a"
	err := store.InTx(t.Context(), db, func(ctx context.Context, tx *store.Tx) error {
		err := tx.Write(ctx, putIn, name, 1)
		if store.IsDuplicate(err) {
			name = "c"
			return store.ErrRaced
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	wantUnits(t, db, "c", 1)
}

// Whoever never looks is told of a race by every run, and in the end that the database is busy.
func TestARaceLostByEveryRunIsUnavailable(t *testing.T) {
	t.Parallel()
	db := shelf(t)
	for what, write := range map[string]func(context.Context, *store.Tx) error{
		"a taken key": func(ctx context.Context, tx *store.Tx) error {
			err := tx.Write(ctx, putIn, "a", 1)
			if store.IsDuplicate(err) {
				return store.ErrRaced
			}
			return err
		},
		"too few rows": func(ctx context.Context, tx *store.Tx) error {
			return tx.WriteAll(ctx, 3, "UPDATE shelf SET units = 9")
		},
		"too many rows": func(ctx context.Context, tx *store.Tx) error {
			return tx.WriteAll(ctx, 1, "UPDATE shelf SET units = 9")
		},
	} {
		runs := 0
		err := store.InTx(t.Context(), db, func(ctx context.Context, tx *store.Tx) error {
			runs++
			return errors.Join(tx.Write(ctx, addOne, "b"), write(ctx, tx), tx.Write(ctx, addOne, "b"))
		})
		if !errors.Is(err, store.ErrRaced) || !fault.Is(err, fault.Unavailable) || runs != 5 {
			t.Errorf("%s: %v after %d runs", what, err, runs)
		}
		wantUnits(t, db, "a", 0)
		wantUnits(t, db, "b", 0)
	}
}

// The server does what it was sent, and the answer never comes: it may have happened, and has.
func TestALostAnswerToTheCommitIsUnavailable(t *testing.T) {
	t.Parallel()
	direct, db, proxy := proxied(t)
	err := store.InTx(t.Context(), db, func(ctx context.Context, tx *store.Tx) error {
		var a int
		if err := tx.Read(ctx, units("a", &a)); err != nil {
			return err
		}
		proxy.Mute()
		go func() {
			testenv.Eventually(t, 10*time.Second, "the commit", func() bool {
				var a int
				return direct.QueryRowContext(ctx, "SELECT units FROM shelf WHERE name = 'a'").Scan(&a) != nil || a == 1
			})
			proxy.Drop()
		}()
		return tx.Write(ctx, addOne, "a")
	})
	if !fault.Is(err, fault.Unavailable) {
		t.Errorf("%v, want unavailable", err)
	}
	proxy.Heal()
	wantUnits(t, direct, "a", 1)
	if err := store.Ping(t.Context(), db); err != nil {
		t.Errorf("the pool has not recovered: %v", err)
	}
}

// A context may end between two packets or while one is under way. No lock outlives it.
func TestAContextThatEndsLeavesNoTransactionOpen(t *testing.T) {
	t.Parallel()
	direct, db, _ := proxied(t)
	for what, wait := range map[string]string{"between packets": "", "in a packet": "SELECT SLEEP(5)"} {
		ctx, cancel := context.WithCancel(t.Context())
		err := store.InTx(ctx, db, func(ctx context.Context, tx *store.Tx) error {
			if _, err := tx.ExecContext(ctx, addOne, "a"); err != nil {
				return err
			}
			if wait == "" {
				cancel()
				return tx.Write(ctx, addOne, "b")
			}
			time.AfterFunc(100*time.Millisecond, cancel)
			return errors.Join(tx.Write(ctx, addOne, "b"), tx.Read(ctx, store.Question{What: "sleep", Query: wait, Each: func(*sql.Rows) error { return nil }}))
		})
		cancel()
		if !fault.Is(err, fault.Unavailable) {
			t.Errorf("%s: %v, want unavailable", what, err)
		}
		wantNoneOpen(t, db)
		// The server may need a moment to see that its client is gone.
		testenv.Eventually(t, 10*time.Second, "the row is free", func() bool {
			_, err := direct.ExecContext(t.Context(), "UPDATE shelf SET units = units + 10 WHERE name = 'a'")
			return err == nil
		})
	}
	wantUnits(t, direct, "a", 20)
	wantUnits(t, direct, "b", 0)
}

// One call is one statement, whoever makes it, and whatever is smuggled into it; but semicolons
// may be in what is saved.
func TestACallIsOneStatement(t *testing.T) {
	t.Parallel()
	db := shelf(t)
	const smuggled = "UPDATE shelf SET units = 1 WHERE name = 'a'; DELETE FROM shelf"
	tries := map[string]func() error{
		"exec":    func() error { _, err := db.ExecContext(t.Context(), smuggled); return err },
		"query":   func() error { return db.QueryRowContext(t.Context(), "SELECT 1; SELECT 2").Err() },
		"prepare": func() error { _, err := db.PrepareContext(t.Context(), smuggled); return err },
	}
	for what, do := range map[string]func(context.Context, *store.Tx) error{
		"write":     func(ctx context.Context, tx *store.Tx) error { return tx.Write(ctx, smuggled) },
		"write all": func(ctx context.Context, tx *store.Tx) error { return tx.WriteAll(ctx, 1, smuggled) },
		"exec in a transaction": func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.ExecContext(ctx, smuggled)
			return err
		},
		"read": func(ctx context.Context, tx *store.Tx) error { return tx.Read(ctx, store.Question{Query: smuggled}) },
	} {
		tries[what] = func() error { return store.InTx(t.Context(), db, do) }
	}
	for what, try := range tries {
		if err := try(); err == nil || !strings.Contains(err.Error(), "several statements") {
			t.Errorf("%s: %v", what, err)
		}
	}
	wantUnits(t, db, "a", 0)
	const quoting = "'; --"
	err := store.InTx(t.Context(), db, func(ctx context.Context, tx *store.Tx) error {
		return errors.Join(tx.Write(ctx, "UPDATE shelf SET units = 1 WHERE name = 'a' -- a note"), tx.Write(ctx, putIn, quoting, 3), tx.Write(ctx, addOne, quoting))
	})
	if err != nil {
		t.Error(err)
	}
	wantUnits(t, db, "a", 1)
	wantUnits(t, db, quoting, 4)
}

// What would be too much for one packet goes in several, and is still one transaction.
func TestMoreThanAPacketIsOneTransaction(t *testing.T) {
	t.Parallel()
	direct, db, proxy := proxied(t)
	if _, err := direct.ExecContext(t.Context(), "CREATE TABLE letters (id INT PRIMARY KEY, body LONGBLOB NOT NULL) ENGINE=InnoDB"); err != nil {
		t.Fatal(err)
	}
	letter := []byte(strings.Repeat("'", 200<<10)) // twice as long once it is escaped
	changedMyMind := errors.New("changed my mind")
	for _, end := range []error{changedMyMind, nil} {
		before := proxy.Trips()
		err := store.InTx(t.Context(), db, func(ctx context.Context, tx *store.Tx) error {
			for id := range 40 {
				if err := tx.Write(ctx, "INSERT INTO letters VALUES (?, ?)", id, letter); err != nil {
					return err
				}
			}
			return end
		})
		if !errors.Is(err, end) {
			t.Fatal(err)
		}
		var n, long int
		if err := direct.QueryRowContext(t.Context(), "SELECT COUNT(*), COALESCE(SUM(LENGTH(body)), 0) FROM letters").Scan(&n, &long); err != nil {
			t.Fatal(err)
		}
		if end == nil && (n != 40 || long != 40*len(letter)) || end != nil && n != 0 {
			t.Errorf("%d letters, %d bytes", n, long)
		}
		if trips := proxy.Trips() - before; trips != 20 {
			t.Errorf("%d packets", trips)
		}
	}
}
