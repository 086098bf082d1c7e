package chaos

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"cartwright/bench"
	"cartwright/internal/lifecycle"
	"cartwright/internal/messaging"
	"cartwright/internal/progress"
	"cartwright/internal/store"
	"cartwright/jobs"
	"cartwright/stage"
)

const (
	// quietLimit is how long the shop may take, once it is healed, to have nothing left to do.
	quietLimit = 120 * time.Second
	quietEvery = 300 * time.Millisecond
	// looksQuiet is how often in a row the queues must be empty: what a worker has just been given is on
	// none of them.
	looksQuiet = 3
	// stopLimit bounds the end of the shop, however it was left.
	stopLimit = 2 * time.Minute
)

// run is one run: a shop, who buys from it, and what breaks it.
type run struct {
	options
	seed     uint64
	name     string // begins the names of clients and products
	folder   string
	view     progress.View
	links    *links
	judge    *judge
	report   *Report
	stage    *stage.Stage
	stageLog *os.File
	shop     stage.Shop

	history *history
	load    *load
	admin   *sql.DB

	mu   sync.Mutex // guards what the faults tell
	last string
}

// play opens the shop, breaks it, heals it and judges it.
func (r *run) play(ctx context.Context) (err error) {
	if r.history, err = newHistory(filepath.Join(r.folder, historyName)); err != nil {
		return err
	}
	door := newDoor(r.shop, r.history)
	defer door.close()
	r.load = &load{run: r.name, seed: r.seed, door: door}
	if r.admin, err = store.Open(r.shop.AdminDSN, "", 2, store.Unhurried); err != nil {
		return err
	}
	if err := r.load.fillShelves(ctx); err != nil {
		return err
	}
	processes, err := r.stage.Processes()
	if err != nil {
		return err
	}
	faults := plan(r.seed, r.length(), ground{servicesOf(processes), r.links.names()})
	for _, f := range faults {
		r.view.Say("  plan: %s", f)
	}
	if err := r.storm(ctx, faults); err != nil {
		return err
	}
	if err := r.rest(ctx); err != nil {
		return err
	}
	return r.look(ctx)
}

// storm lets shoppers in while the faults happen, and heals everything in the end.
func (r *run) storm(ctx context.Context, faults []Fault) error {
	forger, err := newForger(ctx, r.shop, r.seed, r.history)
	if err != nil {
		return err
	}
	in := &injector{stage: r.stage, links: r.links, admin: r.admin, forger: forger}
	seconds := int(r.length().Seconds())
	began := time.Now()
	stop := r.view.Follow(r.says, max(1, seconds), func() int { return min(seconds, int(time.Since(began).Seconds())) })
	var breaking sync.WaitGroup
	breaking.Go(func() { in.inject(ctx, began, faults, r.happened) })
	err = r.load.shop(ctx, r.length())
	breaking.Wait()
	stop()
	r.report.Requests, r.report.Shoppers = int(r.load.door.requests.Load()), int(r.load.shoppers.Load())
	err = errors.Join(err, forger.stop())
	if ctx.Err() != nil {
		return ctx.Err()
	}
	r.view.Say("healing")
	healing, cancel := context.WithTimeout(ctx, healLimit)
	defer cancel()
	if fault := in.healAll(healing); fault != nil {
		r.judge.note(ruleHealing, "%v", fault)
	}
	return err
}

// says is what the progress view tells.
func (r *run) says() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return fmt.Sprintf("%d checkouts, %d faults, last %s; seconds", r.load.checkouts.Load(), len(r.report.Faults), r.last)
}

// happened notes what became of a fault.
func (r *run) happened(f Fault, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	done := Happened{Fault: f, Done: err == nil}
	if err != nil {
		done.Why = err.Error()
		if !errors.Is(err, errAway) {
			r.judge.note(ruleHealing, "%s: %v", f, err)
		}
	}
	r.report.Faults = append(r.report.Faults, done)
	r.last = f.Kind + " " + f.Target
}

// rest waits until the shop has nothing left to do: no checkout is open, no event and no job waits.
func (r *run) rest(ctx context.Context) error {
	r.view.Say("waiting until the shop is at rest")
	began := time.Now()
	patient, cancel := context.WithTimeout(ctx, quietLimit)
	defer cancel()
	audit := r.audit()
	for empty := 0; empty < looksQuiet; {
		waits, err := r.waiting(patient)
		if err == nil {
			err = audit.Quiet(patient)
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case patient.Err() != nil:
			r.judge.note(ruleQuiet, "not within %s: %d jobs wait; %v", quietLimit, waits, err)
			return nil
		case err == nil && waits == 0:
			empty++
		default:
			empty = 0
		}
		lifecycle.Pause(patient, quietEvery)
	}
	r.report.Rest = time.Since(began).Seconds()
	return nil
}

// waiting is how many jobs wait to be done.
func (r *run) waiting(ctx context.Context) (n int, err error) {
	b := messaging.Broker{URL: r.shop.AMQPURL, Topology: jobs.Topology(""), Log: slog.New(slog.DiscardHandler)}
	depths, err := b.Depths(ctx)
	if err != nil {
		return 0, err
	}
	for _, d := range depths {
		if d.Queue != jobs.Cartmanager.Dead() && d.Queue != jobs.Checkoutmanager.Dead() {
			n += d.Waiting
		}
	}
	return n, nil
}

// audit is the bench's look into the books, of this run.
func (r *run) audit() *bench.Audit {
	return &bench.Audit{
		DB: r.admin, DSN: r.shop.DSN, Run: r.name, Received: r.load.received, Patience: quietLimit,
		Told: toldOf(r.history.all(), r.load.client, int(r.load.shoppers.Load())),
	}
}

// look holds everything that was seen to everything that is there.
func (r *run) look(ctx context.Context) error {
	r.view.Say("looking into the books")
	ledger, err := readLedger(ctx, r.admin, r.shop.AMQPURL, r.name)
	if err != nil {
		return err
	}
	r.judge.history(r.history.all(), ledger)
	if r.judge.found[ruleQuiet] == nil { // otherwise they are not at rest, and cannot agree
		if r.report.Books, err = r.audit().Look(ctx); err != nil {
			return err
		}
		r.judge.books(r.report.Books)
	}
	if err := r.judge.logs(r.shop); err != nil {
		return err
	}
	r.report.Answers = answers(r.history.all())
	r.report.Violations = r.judge.violations()
	return nil
}

// clean ends the shop, and removes what it has left unless somebody may want to look at it.
func (r *run) clean(ctx context.Context, keep bool) error {
	ctx, cancel := context.WithTimeout(ctx, stopLimit)
	defer cancel()
	var errs []error
	if r.history != nil {
		errs = append(errs, r.history.close())
	}
	if keep && r.admin != nil {
		r.view.Say("keeping what there is to see in %s", r.folder)
		errs = append(errs, dump(ctx, r.admin, filepath.Join(r.folder, "databases")), r.report.save(filepath.Join(r.folder, "report.json")))
	}
	if r.admin != nil {
		errs = append(errs, r.admin.Close())
	}
	if r.stage != nil {
		errs = append(errs, r.stage.Stop(ctx))
	}
	errs = append(errs, r.links.close())
	if r.stageLog != nil {
		errs = append(errs, r.stageLog.Close())
	}
	if !keep {
		return errors.Join(append(errs, os.RemoveAll(r.folder))...)
	}
	for _, big := range []string{"bin", broker, database, "certs"} {
		errs = append(errs, os.RemoveAll(filepath.Join(r.folder, "shop", big)))
	}
	return errors.Join(errs...)
}

// answers counts what clients were answered, by what they asked and the code.
func answers(entries []Entry) map[string]int {
	counts := map[string]int{}
	for _, e := range entries {
		if e.Op != opPoison {
			counts[fmt.Sprintf("%s %d", e.Op, e.Code)]++
		}
	}
	return counts
}
