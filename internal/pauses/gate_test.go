package pauses_test

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"cartwright/internal/fault"
	"cartwright/internal/pauses"
	"cartwright/internal/store"
	"cartwright/internal/testenv"
	schema "cartwright/sql"
)

// work is what a gate lets run. It counts how often it began and ended.
type work struct {
	began, ended atomic.Int32
	fails        chan error // ends it by itself
}

func (w *work) Run(ctx context.Context) error {
	w.began.Add(1)
	defer w.ended.Add(1)
	select {
	case <-ctx.Done():
		return nil
	case err := <-w.fails:
		return err
	}
}

func (w *work) Ready() error {
	if w.began.Load() == w.ended.Load() {
		return errors.New("it does not work")
	}
	return nil
}

// bell rings at each warning.
type bell struct {
	slog.Handler
	rung atomic.Int32
}

func (b *bell) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		b.rung.Add(1)
	}
	return b.Handler.Handle(ctx, r)
}

// door is a gate that is being watched.
type door struct {
	*pauses.Gate
	t    *testing.T
	work *work
	bell *bell
	stop func() error
}

// guard runs a gate until the test ends, or until it is stopped.
func guard(t *testing.T, db *sql.DB) *door {
	t.Helper()
	d := &door{t: t, work: &work{fails: make(chan error)}, bell: &bell{Handler: testenv.Log(t).Handler()}}
	d.Gate = &pauses.Gate{DB: db, Queue: queue, Work: d.work, Log: slog.New(d.bell)}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	d.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		if err := d.stop(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d *door) eventually(what string, holds func() bool) {
	d.t.Helper()
	testenv.Eventually(d.t, soon, what, holds)
}

// stands holds the gate to have let work run so often and to have ended it so often.
func (d *door) stands(began, ended int32) {
	d.t.Helper()
	if d.work.began.Load() != began || d.work.ended.Load() != ended {
		d.t.Errorf("the work began %d times and ended %d times, want %d and %d", d.work.began.Load(), d.work.ended.Load(), began, ended)
	}
}

// B6: a pause ends the work and a resume begins it again, for every replica; paused is not unready,
// and is told with who and when.
func TestAPauseEndsTheWorkAndAResumeBeginsItAgain(t *testing.T) {
	t.Parallel()
	db := open(t)
	replicas := []*door{guard(t, db), guard(t, db)}
	for _, d := range replicas {
		d.eventually("it works", func() bool { return d.work.began.Load() == 1 && d.Ready() == nil && d.Note() == "" })
	}
	for turn := range int32(2) {
		change(t, db, true, "ann")
		if turn == 0 {
			replicas = append(replicas, guard(t, db)) // it begins when the others do for the second time
			replicas[2].work.began.Add(1)
			replicas[2].work.ended.Add(1)
		}
		for _, d := range replicas {
			d.eventually("the work has ended", func() bool {
				return d.work.ended.Load() == turn+1 && d.Ready() == nil && strings.HasPrefix(d.Note(), "paused by ann since 2") && strings.HasSuffix(d.Note(), " UTC")
			})
			d.stands(turn+1, turn+1)
		}
		change(t, db, false, "bob")
		for _, d := range replicas {
			d.eventually("it works again", func() bool { return d.work.began.Load() == turn+2 && d.Ready() == nil && d.Note() == "" })
		}
	}
	change(t, db, true, "ann")
	replicas[0].eventually("the work has ended", func() bool { return replicas[0].work.ended.Load() == 3 })
	for _, d := range replicas {
		if err := d.stop(); err != nil {
			t.Error(err)
		}
		d.stands(3, 3)
	}
}

// B6: the pause of one queue is no other's.
func TestOnlyTheQueueThatIsPausedWaits(t *testing.T) {
	t.Parallel()
	db := open(t)
	if _, err := pauses.Change(t.Context(), db, "other", true, "ann"); err != nil {
		t.Fatal(err)
	}
	d := guard(t, db)
	d.eventually("it works", func() bool { return d.Ready() == nil })
	d.stands(1, 0)
}

// B6: while the database cannot be read, what works goes on and what is paused stays so. A replica
// that starts then waits until it knows.
func TestADatabaseThatCannotBeReadChangesNothing(t *testing.T) {
	t.Parallel()
	namespace := testenv.Namespace(t)
	testenv.Database(t, namespace, schema.Carts)
	direct := testenv.Open(t, namespace+schema.Carts)
	for _, paused := range []bool{false, true} {
		change(t, direct, paused, "ann")
		proxy, dsn := testenv.DatabaseProxy(t)
		db, err := store.Open(dsn, namespace+schema.Carts, 4)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		old := guard(t, db)
		old.eventually("it knows", func() bool { return old.Ready() == nil && (old.Note() != "") == paused })
		proxy.Cut()
		young := guard(t, db)
		tries := proxy.Accepted()
		young.eventually("both have looked in vain", func() bool {
			return old.bell.rung.Load() == 1 && young.bell.rung.Load() == 1 && proxy.Accepted() >= tries+6
		})
		if paused {
			old.stands(0, 0)
		} else {
			old.stands(1, 0)
		}
		young.stands(0, 0)
		if err := young.Ready(); old.Ready() != nil || !fault.Is(err, fault.Unavailable) {
			t.Errorf("paused %v: the old one says %v, the young one %v", paused, old.Ready(), err)
		}
		proxy.Heal()
		young.eventually("the young one knows", func() bool { return young.Ready() == nil && (young.Note() != "") == paused })
		if n := old.bell.rung.Load(); n != 1 {
			t.Errorf("%d complaints of one outage", n)
		}
	}
}

// Z11: new code runs on the tables of an earlier version, where nothing can be paused, until migrate
// has made the table and given the right to read it.
func TestWithoutTheTableNothingIsPaused(t *testing.T) {
	t.Parallel()
	admin, _ := testenv.Servers(t)
	namespace := testenv.Namespace(t)
	db := testenv.Database(t, namespace, schema.Carts)
	dsn := account(t, namespace)
	testenv.Down(t, namespace, schema.Carts, 2)
	if _, err := db.ExecContext(t.Context(), "REVOKE SELECT ON `"+namespace+schema.Carts+"`.pauses FROM '"+namespace+"worker'@'%'"); err != nil {
		t.Fatal(err)
	}
	own, err := store.Open(dsn, namespace+schema.Carts, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	both := []*door{guard(t, db), guard(t, own)} // the servers tell the two apart
	for _, d := range both {
		d.eventually("it works", func() bool { return d.Ready() == nil })
	}
	if err := schema.Migrate(t.Context(), admin, namespace, schema.Carts); err != nil {
		t.Fatal(err)
	}
	if err := schema.Owner(t.Context(), admin, namespace, schema.Carts, dsn); err != nil {
		t.Fatal(err)
	}
	change(t, db, true, "ann")
	for _, d := range both {
		d.eventually("it is paused", func() bool { return d.Note() != "" && d.work.ended.Load() == 1 })
		d.stands(1, 1)
	}
}

// What ends by an error of its own ends the gate with it.
func TestAnErrorOfTheWorkIsTheGates(t *testing.T) {
	t.Parallel()
	d := guard(t, open(t))
	broken := errors.New("broken")
	d.work.fails <- broken
	d.eventually("the work has ended", func() bool { return d.work.ended.Load() == 1 })
	ended := d.stop()
	d.stop = func() error { return nil }
	if !errors.Is(ended, broken) {
		t.Errorf("the gate ended with %v", ended)
	}
	d.stands(1, 1)
}
