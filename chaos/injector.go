package chaos

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	"cartwright/internal/lifecycle"
	"cartwright/internal/store"
	"cartwright/internal/wire"
	"cartwright/stage"
)

const (
	// controlLimit is how long rabbitmqctl may take, which starts an Erlang of its own.
	controlLimit = 30 * time.Second
	// healLimit is how long healing is tried, while what is to be healed may be starting.
	healLimit = 2 * time.Minute
	healEvery = time.Second
	// adminLimit bounds a statement to a database that may hang.
	adminLimit = 5 * time.Second
	// usualConnections is what the stage gives MariaDB.
	usualConnections = 1000
)

// What RabbitMQ is told to sound an alarm, and to stop it: its own defaults, and the stage's.
var (
	memoryGone  = []string{"set_vm_memory_high_watermark", "0.00001"}
	memoryThere = []string{"set_vm_memory_high_watermark", "0.4"}
	diskGone    = []string{"set_disk_free_limit", "100000GB"}
	diskThere   = []string{"set_disk_free_limit", "200MB"}
)

// errAway says that what should be broken was broken already.
var errAway = errors.New("not running")

// injector breaks a shop, and heals it.
type injector struct {
	stage  *stage.Stage
	links  *links
	admin  *sql.DB // may do everything
	forger *forger
}

// wait waits until a fault is to be healed, which is at once when the run is given up.
type wait struct {
	ctx  context.Context // of one fault
	long time.Duration
}

func (w wait) over() { lifecycle.Pause(w.ctx, w.long) }

// healing is a context for making good what was broken, also when the run is given up.
func (w wait) healing() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(w.ctx), healLimit)
}

// inject runs all faults at their times, and returns when the last one is healed. done is told what
// became of each.
func (in *injector) inject(ctx context.Context, began time.Time, faults []Fault, done func(Fault, error)) {
	runs := map[string]func(*injector, wait, Fault) error{}
	for _, k := range kinds() {
		runs[k.name] = k.run
	}
	var hands sync.WaitGroup
	for _, f := range faults {
		if !lifecycle.Pause(ctx, time.Until(began.Add(f.At))) {
			break
		}
		hands.Go(func() { done(f, runs[f.Kind](in, wait{ctx, f.Lasts}, f)) })
	}
	hands.Wait()
}

// pid is the number of a process of our own stage that runs now. Errors: errAway.
func (in *injector) pid(name string) (int, error) {
	processes, err := in.stage.Processes()
	if err != nil {
		return 0, err
	}
	for _, p := range processes {
		if p.Name == name {
			return p.PID, nil
		}
	}
	return 0, fmt.Errorf("%s: %w", name, errAway)
}

func (in *injector) signal(name string, sig syscall.Signal) (pid int, err error) {
	if pid, err = in.pid(name); err != nil {
		return 0, err
	}
	if err := syscall.Kill(pid, sig); err != nil {
		return 0, fmt.Errorf("%s: %w", name, errors.Join(errAway, err))
	}
	return pid, nil
}

func (in *injector) kill(_ wait, f Fault) error {
	_, err := in.signal(f.Target, syscall.SIGKILL)
	return err
}

func (in *injector) restart(_ wait, f Fault) error {
	_, err := in.signal(f.Target, syscall.SIGTERM)
	return err
}

func (in *injector) stop(w wait, f Fault) error {
	stopped, err := in.signal(f.Target, syscall.SIGSTOP)
	if err != nil {
		return err
	}
	w.over()
	if now, err := in.pid(f.Target); err != nil || now != stopped {
		return nil // it was killed meanwhile, and is another one now
	}
	if err := syscall.Kill(stopped, syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

// broken does something to links, and heals them when it is time.
func (in *injector) broken(w wait, f Fault, harm func(*wire.Proxy)) error {
	hit := in.links.hit(f.Target)
	for _, p := range hit {
		harm(p)
	}
	w.over()
	for _, p := range hit {
		p.Heal()
	}
	return nil
}

func (in *injector) cut(w wait, f Fault) error    { return in.broken(w, f, (*wire.Proxy).Cut) }
func (in *injector) hole(w wait, f Fault) error   { return in.broken(w, f, (*wire.Proxy).Hold) }
func (in *injector) mute(w wait, f Fault) error   { return in.broken(w, f, (*wire.Proxy).Mute) }
func (in *injector) deafen(w wait, f Fault) error { return in.broken(w, f, (*wire.Proxy).Deafen) }
func (in *injector) reset(w wait, f Fault) error  { return in.broken(w, f, (*wire.Proxy).Reset) }

func (in *injector) delay(w wait, f Fault) error {
	return in.broken(w, f, func(p *wire.Proxy) { p.Delay(time.Duration(f.Amount) * time.Millisecond) })
}

func (in *injector) throttle(w wait, f Fault) error {
	return in.broken(w, f, func(p *wire.Proxy) { p.Throttle(f.Amount) })
}

// loseAnswers lets a server do what it is asked for a while, and then ends the connections on which
// the answers wait.
func (in *injector) loseAnswers(w wait, f Fault) error {
	hit := in.links.hit(f.Target)
	for _, p := range hit {
		p.Mute()
	}
	w.over()
	for _, p := range hit {
		p.Cut()
		p.Heal()
	}
	return nil
}

func (in *injector) memoryAlarm(w wait, _ Fault) error { return in.alarm(w, memoryGone, memoryThere) }
func (in *injector) diskAlarm(w wait, _ Fault) error   { return in.alarm(w, diskGone, diskThere) }

func (in *injector) alarm(w wait, sound, silence []string) error {
	ctx, cancel := context.WithTimeout(w.ctx, controlLimit)
	defer cancel()
	soundErr := in.stage.ControlBroker(ctx, sound...)
	if soundErr == nil {
		w.over()
	}
	ctx, cancel = w.healing() // also when it may have heard and not answered
	defer cancel()
	if err := insist(ctx, func() error { return in.stage.ControlBroker(ctx, silence...) }); err != nil {
		return err
	}
	if soundErr != nil {
		return fmt.Errorf("%w: %w", errAway, soundErr)
	}
	return nil
}

func (in *injector) limitConnections(w wait, f Fault) error {
	if err := in.allow(w.ctx, f.Amount); err != nil {
		return fmt.Errorf("%w: %w", errAway, err)
	}
	for _, p := range in.links.hit(everybody + linkSign + database) {
		p.Drop()
	}
	w.over()
	ctx, cancel := w.healing()
	defer cancel()
	return insist(ctx, func() error { return in.allow(ctx, usualConnections) })
}

// allow sets how many connections the database takes. One more is always kept for an administrator.
func (in *injector) allow(ctx context.Context, connections int) error {
	ctx, cancel := context.WithTimeout(ctx, adminLimit)
	defer cancel()
	_, err := in.admin.ExecContext(ctx, "SET GLOBAL max_connections = ?", connections)
	return store.Classify(err)
}

func (in *injector) poison(w wait, f Fault) error    { return in.forger.poison(w.ctx, f.Amount) }
func (in *injector) duplicate(w wait, f Fault) error { return in.forger.duplicate(w.ctx, f.Amount) }

// healAll makes good whatever may still be broken, and returns when the shop says that it is ready.
func (in *injector) healAll(ctx context.Context) error {
	in.links.heal()
	processes, err := in.stage.Processes()
	if err != nil {
		return err
	}
	for _, p := range processes {
		if err := syscall.Kill(p.PID, syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	for _, heal := range []func() error{
		func() error { return in.allow(ctx, usualConnections) },
		func() error { return in.stage.ControlBroker(ctx, memoryThere...) },
		func() error { return in.stage.ControlBroker(ctx, diskThere...) },
		func() error { return in.stage.Ready(ctx) },
	} {
		if err := insist(ctx, heal); err != nil {
			return err
		}
	}
	return nil
}

// insist does something until it succeeds or ctx ends, and returns the last reason.
func insist(ctx context.Context, do func() error) error {
	for {
		err := do()
		if err == nil {
			return nil
		}
		if !lifecycle.Pause(ctx, healEvery) {
			return err
		}
	}
}

// servicesOf are the names of the processes that are no servers.
func servicesOf(processes []stage.Process) (names []string) {
	for _, p := range processes {
		if !strings.HasPrefix(p.Name, broker) && !strings.HasPrefix(p.Name, database) {
			names = append(names, p.Name)
		}
	}
	return names
}
