package stage

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"cartwright/internal/lifecycle"
)

const (
	// A process that dies is started again after pauseFirst, and after twice as long each time
	// up to pauseMax; so a crash costs next to nothing and a crash loop leaves the cores to others.
	pauseFirst = 200 * time.Millisecond
	pauseMax   = 10 * time.Second

	// livedWell is how long a process must have lived for its next crash to count as the first.
	livedWell = 30 * time.Second

	// stopLimit is how long a process may take to finish what it has in hand. MariaDB writes
	// back its buffer pool in it.
	stopLimit = 60 * time.Second

	// triesFirst is how often a process may die before it ever ran that long, until somebody
	// who waits for it is told that it does not start.
	triesFirst = 3
)

// A child is a running process, as servers starts them.
type child interface {
	PID() int
	Done() <-chan struct{}
	Err() error
	Stop(context.Context) error
}

// A keeper keeps one process running until it is stopped.
type keeper struct {
	name    string
	start   func(context.Context) (child, error) // returns once it is of use, where that can be told
	changed func()
	log     *slog.Logger

	cancel context.CancelFunc
	done   chan struct{}
	up     chan struct{} // closed when the process has been started for the first time

	mu       sync.Mutex
	pid      int
	started  time.Time
	restarts int
	fault    error // why it is not running
}

func newKeeper(name string, log *slog.Logger) *keeper {
	return &keeper{name: name, log: log, done: make(chan struct{}), up: make(chan struct{})}
}

// keep starts the process, and starts it again whenever it ends, until stop.
func (k *keeper) keep(ctx context.Context) {
	ctx, k.cancel = context.WithCancel(ctx)
	go k.run(ctx)
}

// stop ends the process and waits until it has ended.
func (k *keeper) stop() {
	k.cancel()
	<-k.done
}

func (k *keeper) run(ctx context.Context) {
	defer close(k.done)
	for pause := pauseFirst; ; pause = min(2*pause, pauseMax) {
		born := time.Now()
		err := k.once(ctx)
		if ctx.Err() != nil {
			k.note(nil, nil)
			return
		}
		if time.Since(born) > livedWell {
			pause = pauseFirst
		}
		k.log.Warn("process ended, starting it again", "process", k.name, "pause", pause, "error", err)
		k.note(nil, err)
		if !lifecycle.Pause(ctx, pause) {
			return
		}
		k.mu.Lock()
		k.restarts++
		k.mu.Unlock()
	}
}

// once starts the process and returns how it ended. When ctx ends, the process is stopped.
func (k *keeper) once(ctx context.Context) error {
	c, err := k.start(ctx)
	if err != nil {
		return err
	}
	k.note(c, nil)
	select {
	case <-k.up:
	default:
		close(k.up)
	}
	select {
	case <-c.Done():
		return c.Err()
	case <-ctx.Done():
	}
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	if err := c.Stop(stopCtx); err != nil {
		k.log.Error("process did not stop well", "process", k.name, "error", err)
	}
	return nil
}

func (k *keeper) note(c child, fault error) {
	k.mu.Lock()
	k.pid, k.started, k.fault = 0, time.Time{}, fault
	if c != nil {
		k.pid, k.started = c.PID(), time.Now()
	}
	k.mu.Unlock()
	k.changed()
}

// state reads how the process is doing.
func (k *keeper) state() (pid int, started time.Time, restarts int, fault error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.pid, k.started, k.restarts, k.fault
}

// whenUp waits until the process has been started once. Errors: the last reason when it has
// died triesFirst times instead.
func (k *keeper) whenUp(ctx context.Context) error {
	look := time.NewTicker(pollEvery)
	defer look.Stop()
	for {
		select {
		case <-k.up:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
			if _, _, restarts, fault := k.state(); fault != nil && restarts+1 >= triesFirst {
				return fault
			}
		}
	}
}
