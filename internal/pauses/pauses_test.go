package pauses_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"cartwright/internal/fault"
	"cartwright/internal/pauses"
	"cartwright/internal/testenv"
	schema "cartwright/sql"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const (
	queue = "work"
	soon  = 30 * time.Second
)

func open(t *testing.T) *sql.DB {
	t.Helper()
	return testenv.Database(t, testenv.Namespace(t), schema.Carts)
}

func change(t *testing.T, db *sql.DB, paused bool, by string) pauses.Pause {
	t.Helper()
	before, err := pauses.Change(t.Context(), db, queue, paused, by)
	if err != nil {
		t.Fatal(err)
	}
	return before
}

// record is who did what, in order.
func record(t *testing.T, db *sql.DB) string {
	t.Helper()
	var all string
	err := db.QueryRowContext(t.Context(), `
		SELECT COALESCE(GROUP_CONCAT(CONCAT(queue, turn, IF(paused, ' paused by ', ' resumed by '), changed_by) ORDER BY queue, turn SEPARATOR ', '), '')
		FROM   pauses`).Scan(&all)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// B6: each pause and resume is recorded with who and when; one that changes nothing is not, and is
// told how it stands.
func TestWhoPausedAndResumedIsOnRecord(t *testing.T) {
	t.Parallel()
	db, began := open(t), time.Now()
	for _, one := range []struct {
		paused bool
		by     string
		before pauses.Pause
	}{
		{false, "ann", pauses.Pause{}},
		{true, "ann", pauses.Pause{}},
		{true, "bob", pauses.Pause{Paused: true, By: "ann"}},
		{false, "bob", pauses.Pause{Paused: true, By: "ann"}},
		{false, "cid", pauses.Pause{By: "bob"}},
		{true, strings.Repeat("é", pauses.ByMax), pauses.Pause{By: "bob"}},
	} {
		before := change(t, db, one.paused, one.by)
		if before.Paused != one.before.Paused || before.By != one.before.By {
			t.Errorf("paused %v by %s: before, it was %+v, want %+v", one.paused, one.by, before, one.before)
		}
		if age := time.Since(before.Since); before.By != "" && (age < 0 || age > time.Since(began)+time.Minute) {
			t.Errorf("it was so since %s", before.Since)
		}
	}
	if _, err := pauses.Change(t.Context(), db, "other", true, "dan"); err != nil {
		t.Fatal(err)
	}
	want := "other1 paused by dan, work1 paused by ann, work2 resumed by bob, work3 paused by " + strings.Repeat("é", pauses.ByMax)
	if got := record(t, db); got != want {
		t.Errorf("on record is\n%s\nwant\n%s", got, want)
	}
}

// B6: of many who pause at once, one does, and the others hear of it.
func TestOnePausesOfManyAtOnce(t *testing.T) {
	t.Parallel()
	const many = 16
	db := open(t)
	for round := range 4 {
		var did atomic.Int32
		var all sync.WaitGroup
		for i := range many {
			all.Go(func() {
				paused := round%2 == 0
				before, err := pauses.Change(t.Context(), db, queue, paused, fmt.Sprint("p", i))
				if err != nil {
					t.Error(err)
				}
				if before.Paused != paused {
					did.Add(1)
				}
			})
		}
		all.Wait()
		if n := did.Load(); n != 1 {
			t.Errorf("round %d: %d changed it", round, n)
		}
	}
	if got := record(t, db); strings.Count(got, " by ") != 4 {
		t.Errorf("on record is %s", got)
	}
}

// The table itself refuses what the code never does.
func TestTheTableHoldsTurnsApart(t *testing.T) {
	t.Parallel()
	db := open(t)
	for row, fine := range map[string]bool{"1, TRUE": true, "2, FALSE": true, "3, FALSE": false, "4, TRUE": false, "0, FALSE": false, "-1, TRUE": false} {
		_, err := db.ExecContext(t.Context(), "INSERT INTO pauses (queue, turn, paused, changed_by, changed_at) VALUES ('q', "+row+", 'ann', NOW(6))")
		if (err == nil) != fine {
			t.Errorf("row %s: %v", row, err)
		}
	}
}

func TestANameThatDoesNotFitOnALineIsRefused(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"", "  ", strings.Repeat("é", pauses.ByMax+1), "ann\nbob", "ann\x1b[31m", "\u202enna", "\xff"} {
		if _, err := pauses.Change(t.Context(), nil, queue, true, by); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", by, err)
		}
	}
}

// account is one that may do to the tables of carts what their owner may.
func account(t *testing.T, namespace string) (dsn string) {
	t.Helper()
	admin, _ := testenv.Servers(t)
	cfg, err := mysql.ParseDSN(admin)
	if err != nil {
		t.Fatal(err)
	}
	cfg.User, cfg.Passwd = namespace+"worker", rand.Text()
	t.Cleanup(func() {
		if _, err := testenv.Open(t, "").ExecContext(context.Background(), "DROP USER IF EXISTS ?@'%'", cfg.User); err != nil {
			t.Error(err)
		}
	})
	if err := schema.Owner(t.Context(), admin, namespace, schema.Carts, cfg.FormatDSN()); err != nil {
		t.Fatal(err)
	}
	return cfg.FormatDSN()
}
