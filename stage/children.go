package stage

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"time"

	"cartwright/internal/servers"
)

// onParentDeath is what children are sent when the supervisor is killed: they end in good
// order, and the next up finds their ports free.
const onParentDeath = syscall.SIGTERM

// stopOrder closes the door first; then the workers finish what they have in hand, which
// needs the services, which need the broker and the database.
var stopOrder = [][]string{
	{"gateway"},
	{"cartmanager", "checkoutmanager"},
	{"catalogue", "inventory", "payments"},
	{rabbitMQ},
	{mariaDB},
}

// What a shop's database gets of the machine. A page is taken into memory when it is first used, so a
// small shop uses less. The redo log is on disk, and holds what a few minutes of checkouts change:
// with a small one, they wait for pages to be written.
const (
	bufferPool = "512M"
	redoLog    = "512M"
)

// kept is a process that the supervisor keeps, with the plan that it was started by.
type kept struct {
	*keeper
	plan        processPlan
	fingerprint string
	output      *logFile
}

// A starter starts a process that writes to output.
type starter func(ctx context.Context, output *logFile) (child, error)

// keepProcess starts to keep a process whose output goes to a log of its own.
func (v *supervisor) keepProcess(keepCtx context.Context, process processPlan, start starter) (*kept, error) {
	output, err := openLog(v.in(logDir, process.name()+".log"))
	if err != nil {
		return nil, err
	}
	k := &kept{plan: process, output: output, keeper: newKeeper(process.name(), v.log)}
	k.start = func(ctx context.Context) (child, error) { return start(ctx, output) }
	k.changed = v.write
	v.mu.Lock()
	v.kept = append(v.kept, k)
	v.mu.Unlock()
	k.keep(keepCtx)
	return k, nil
}

// add starts to keep a replica of a service.
func (v *supervisor) add(keepCtx context.Context, p plan, process processPlan) error {
	k, err := v.keepProcess(keepCtx, process, func(_ context.Context, output *logFile) (child, error) {
		c, err := servers.Start(process.name(), v.command(p, process, output))
		if err != nil {
			return nil, err
		}
		return c, nil
	})
	if err == nil {
		k.fingerprint = p.fingerprint(process)
	}
	return err
}

// drop stops a process and forgets it.
func (v *supervisor) drop(k *kept) {
	k.stop()
	v.mu.Lock()
	v.kept = slices.DeleteFunc(v.kept, func(other *kept) bool { return other == k })
	v.mu.Unlock()
	if err := k.output.Close(); err != nil {
		v.log.Error("log was not closed well", "process", k.name, "error", err)
	}
	v.write()
}

func (v *supervisor) stopAll() {
	for _, names := range stopOrder {
		var stopping sync.WaitGroup
		for _, k := range v.all() {
			if slices.Contains(names, k.plan.Service) {
				v.log.Info("stopping", "process", k.name)
				stopping.Go(func() { v.drop(k) })
			}
		}
		stopping.Wait()
	}
}

func (v *supervisor) all() []*kept {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.kept)
}

func (v *supervisor) find(name string) *kept {
	for _, k := range v.all() {
		if k.name == name {
			return k
		}
	}
	return nil
}

func (v *supervisor) command(p plan, process processPlan, output *logFile) servers.Command {
	return servers.Command{
		Path: p.Program, Args: []string{process.Service}, Dir: v.Home,
		Env: process.environment(v.Environ), Output: output, OnParentDeath: onParentDeath,
	}
}

func (v *supervisor) mariaDB(p databasePlan) starter {
	return func(ctx context.Context, output *logFile) (child, error) {
		m, err := servers.StartMariaDB(ctx, servers.MariaDBConfig{
			Dir: v.in(mariaDB), Port: p.Port, Admin: adminAccount, Password: p.Password,
			BufferPool: bufferPool, RedoLog: redoLog, Output: output, OnParentDeath: onParentDeath,
		})
		if err != nil {
			return nil, err
		}
		v.note(mariaDB, m.Note)
		return m, nil
	}
}

func (v *supervisor) rabbitMQ(p brokerPlan) starter {
	return func(ctx context.Context, output *logFile) (child, error) {
		r, err := servers.StartRabbitMQ(ctx, servers.RabbitMQConfig{
			Dir: v.in(rabbitMQ), Port: p.Port, AdminPort: p.AdminPort, DistPort: p.DistPort, EPMDPort: p.EPMDPort,
			User: brokerAccount, Password: p.Password, Output: output, OnParentDeath: onParentDeath,
		})
		if err != nil {
			return nil, err
		}
		v.note(rabbitMQ, r.Note)
		return r, nil
	}
}

// migrate brings the databases and the broker to the shape that the plan's program expects.
func (v *supervisor) migrate(ctx context.Context, p plan) error {
	v.progress("migrating the databases and the broker")
	output, err := openLog(v.in(logDir, migrate+".log"))
	if err != nil {
		return v.blame(itself, err)
	}
	defer output.Close()
	process, err := servers.Start(migrate, v.command(p, p.Migrate, output))
	if err != nil {
		return v.blame(migrate, err)
	}
	ctx, cancel := context.WithTimeout(ctx, migrateLimit)
	defer cancel()
	select {
	case <-process.Done():
		err = process.Err()
	case <-ctx.Done():
		err = errors.Join(ctx.Err(), process.Kill())
	}
	if err != nil {
		return v.blame(migrate, err)
	}
	return nil
}

// whenReady waits until a replica says that it is. Errors: the last reason when it dies again
// and again instead, or is not ready within readyLimit.
func (v *supervisor) whenReady(ctx context.Context, process processPlan) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	if err := v.find(process.name()).whenUp(ctx); err != nil {
		return err
	}
	look := time.NewTicker(pollEvery)
	defer look.Stop()
	for {
		err := ready(ctx, process.Debug)
		if err == nil {
			return nil
		}
		if _, _, restarts, fault := v.find(process.name()).state(); fault != nil && restarts+1 >= triesFirst {
			return fault
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return fmt.Errorf("not ready within %s: %w", readyLimit, err)
		}
	}
}

// askLimit bounds one question to a process on this machine.
const askLimit = 2 * time.Second

// ready asks a process whether it is, on its debug address.
func ready(ctx context.Context, debug string) error {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+reachable(debug)+"/readyz", nil)
	if err != nil {
		return err
	}
	req.Close = true // nobody keeps the connection
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", req.URL, resp.Status)
	}
	return nil
}

// progress tells those who wait what is being done.
func (v *supervisor) progress(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	v.log.Info(line)
	v.mu.Lock()
	v.state.Progress = append(v.state.Progress, line)
	v.mu.Unlock()
	v.write()
}

func (v *supervisor) note(name, note string) {
	if note != "" {
		v.progress("%s %s", name, note)
	}
}

// blame notes why the plan could not be made so, for up to tell.
func (v *supervisor) blame(name string, err error) error {
	err = fmt.Errorf("%s: %w", name, err)
	v.mu.Lock()
	v.state.Fault, v.state.Blame = err.Error(), name
	v.mu.Unlock()
	v.write()
	return err
}

func (v *supervisor) settle() {
	v.mu.Lock()
	v.state.Settled = true
	v.mu.Unlock()
	v.write()
}

// write writes the state down. That it cannot must not keep a process from being started again.
func (v *supervisor) write() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.state.Processes = make([]processState, 0, len(v.kept))
	for _, k := range v.kept {
		pid, started, restarts, _ := k.state()
		v.state.Processes = append(v.state.Processes, processState{
			Name: k.name, PID: pid, Birth: birth(pid), Started: started, Restarts: restarts, Listen: k.plan.Listen, Debug: k.plan.Debug,
		})
	}
	if err := writeJSON(v.in(stateFile), v.state); err != nil {
		v.log.Error("the state was not written", "error", err)
	}
}
