package stage

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"
)

// What the supervisor calls the servers.
const (
	mariaDB  = "mariadb"
	rabbitMQ = "rabbitmq"
	migrate  = "migrate"
	itself   = "supervisor"
)

const (
	// pollEvery is how often a condition that nobody announces is looked at.
	pollEvery = 100 * time.Millisecond

	// readyLimit is how long a replica may take to become ready before a rolling replacement
	// stops, so that a broken build takes down one replica and not all.
	readyLimit = 60 * time.Second

	// migrateLimit is room for the one long migration of a big table.
	migrateLimit = 10 * time.Minute
)

const superviseHelp = `
Usage: cartwright supervise

Runs the processes of the plan that "up" has written, in the foreground, and starts again what
dies. "up" starts it by itself, in the background.

  SIGHUP   read the plan again and make it so
  SIGTERM  stop everything: the gateway, the workers, the services, the broker, the database
`

// A supervisor makes a plan so and keeps it so.
type supervisor struct {
	*Stage
	log *slog.Logger

	mu    sync.Mutex // guards what follows; processes come and go in other goroutines
	state state
	kept  []*kept
}

// Supervise runs until ctx ends, which is what SIGTERM does, and then stops everything.
func (s *Stage) Supervise(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("cartwright supervise", flag.ContinueOnError)
	if done, err := s.parse(flags, superviseHelp, args); done || err != nil {
		return err
	}
	held, err := lock(s.in(keeperLock))
	if err != nil {
		return fmt.Errorf("supervise: %w", err)
	}
	defer runtime.KeepAlive(held) // it is the kernel that gives it back, so that down waits for the end of this process
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGHUP)
	defer signal.Stop(again)

	v := &supervisor{Stage: s, log: slog.New(slog.NewTextHandler(s.Out, nil)), state: state{Boot: bootID()}}
	keepCtx, release := context.WithCancel(context.WithoutCancel(ctx)) // processes stop in order, not all at once
	defer release()
	err = v.run(ctx, keepCtx, again)
	v.stopAll()
	return err
}

func (v *supervisor) run(ctx, keepCtx context.Context, again <-chan os.Signal) error {
	p, err := v.readPlan()
	if err == nil {
		err = v.bringUp(ctx, keepCtx, p)
	}
	if err != nil {
		return err
	}
	renewal := time.NewTicker(certsEvery)
	defer renewal.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-renewal.C:
			if err := v.ensureCerts(); err != nil {
				v.log.Error("the certificates were not renewed", "error", err)
			}
			continue
		case <-again:
		}
		next, err := v.readPlan()
		if err == nil {
			err = v.change(ctx, keepCtx, p, next)
		}
		if err != nil { // what runs keeps running; up tells the people
			v.log.Error("the new plan could not be made so", "error", err)
			continue
		}
		p = next
	}
}

// readPlan begins a new chapter of the state.
func (v *supervisor) readPlan() (plan, error) {
	var p plan
	err := readJSON(v.in(planFile), &p)
	v.mu.Lock()
	v.state.Plan, v.state.Asked = p.id(), p.Asked
	v.state.Settled, v.state.Progress = false, nil
	v.state.Fault, v.state.Blame = "", ""
	v.mu.Unlock()
	if err != nil {
		return p, v.blame(itself, err)
	}
	return p, nil
}

// bringUp starts a whole shop. The broker takes longest, so the databases migrate meanwhile.
func (v *supervisor) bringUp(ctx, keepCtx context.Context, p plan) error {
	v.progress("starting MariaDB on port %d and RabbitMQ on port %d", p.Database.Port, p.Broker.Port)
	database, err := v.keepProcess(keepCtx, processPlan{Service: mariaDB, Listen: local(p.Database.Port)}, v.mariaDB(p.Database))
	if err != nil {
		return v.blame(mariaDB, err)
	}
	broker, err := v.keepProcess(keepCtx, processPlan{Service: rabbitMQ, Listen: local(p.Broker.Port)}, v.rabbitMQ(p.Broker))
	if err != nil {
		return v.blame(rabbitMQ, err)
	}
	if err := database.whenUp(ctx); err != nil {
		return v.blame(mariaDB, err)
	}
	if err := v.migrateBeside(ctx, p, broker); err != nil {
		return err
	}
	v.progress("starting %d processes of %d services", len(p.Processes), len(services))
	for _, process := range p.Processes {
		if err := v.add(keepCtx, p, process); err != nil {
			return v.blame(process.name(), err)
		}
	}
	v.settle()
	return nil
}

// migrateBeside migrates while the broker starts, for which migrate waits. When the broker cannot
// start, that is what people must be told, and not that migrate has waited in vain.
func (v *supervisor) migrateBeside(ctx context.Context, p plan, broker *kept) error {
	migrating, giveUp := context.WithCancel(ctx)
	defer giveUp()
	migrated := make(chan error, 1)
	go func() { migrated <- v.migrate(migrating, p) }()
	if err := broker.whenUp(ctx); err != nil {
		giveUp()
		<-migrated
		return v.blame(rabbitMQ, err)
	}
	return <-migrated
}

// change goes from what runs to what should run. New replicas come first and surplus ones go
// last, so that at each moment every address that somebody was given is answered at.
func (v *supervisor) change(ctx, keepCtx context.Context, from, to plan) error {
	if from.Database != to.Database || from.Broker != to.Broker {
		return v.blame(itself, errors.New("the ports of MariaDB and RabbitMQ cannot change while they run: take the shop down first"))
	}
	if from.fingerprint(from.Migrate) != to.fingerprint(to.Migrate) {
		if err := v.migrate(ctx, to); err != nil {
			return err
		}
	}
	for _, process := range to.Processes {
		if v.find(process.name()) == nil {
			v.progress("starting %s", process.name())
			if err := v.add(keepCtx, to, process); err != nil {
				return v.blame(process.name(), err)
			}
			if err := v.whenReady(ctx, process); err != nil {
				return v.blame(process.name(), err)
			}
		}
	}
	for _, process := range to.Processes {
		if err := v.replace(ctx, keepCtx, to, process); err != nil {
			return v.blame(process.name(), err)
		}
	}
	v.dropSurplus(to)
	v.settle()
	return nil
}

// replace stops and starts a process that was started by another plan.
func (v *supervisor) replace(ctx, keepCtx context.Context, to plan, process processPlan) error {
	old := v.find(process.name())
	if old.fingerprint == to.fingerprint(process) {
		return nil
	}
	v.progress("replacing %s", process.name())
	v.drop(old)
	if err := v.add(keepCtx, to, process); err != nil {
		return err
	}
	return v.whenReady(ctx, process)
}

func (v *supervisor) dropSurplus(to plan) {
	for _, k := range v.all() {
		wanted := slices.ContainsFunc(to.Processes, func(p processPlan) bool { return p.name() == k.name })
		if !wanted && k.name != mariaDB && k.name != rabbitMQ {
			v.progress("stopping %s", k.name)
			v.drop(k)
		}
	}
}
