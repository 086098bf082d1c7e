package stage

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"cartwright/internal/servers"
)

const upHelp = `
Usage: cartwright up [--scale service=number ...]

Starts the whole shop on this machine, in the background: private MariaDB and RabbitMQ, and
each replica of each service as a process of its own. Waits until all of them are ready, and
on new data seeds a few products, places one order and prints it. Everything is kept in
.cartwright/ under the current directory: data, passwords, certificates, logs.

Where a shop runs already, only what differs is changed, one process after the other: other
numbers of replicas, other settings, another build. Run twice, it changes nothing.

  --scale service=number   how many replicas of a service to run, 1 to 16; may be given
                           several times. Kept for later starts; 1 if never given. Services:
                           catalogue inventory payments cartmanager checkoutmanager gateway

Settings from the environment, kept for later starts; an empty value forgets one:

  CARTWRIGHT_HOME                 the directory to use instead of .cartwright (not kept)
  CARTWRIGHT_PORT_SHIFT           0; added to every port below that has no setting of its own, so
                                  that a second shop can run on this machine: 1000
  CARTWRIGHT_MARIADB_PORT         9150
  CARTWRIGHT_RABBITMQ_PORT        9160; Erlang's own port is CARTWRIGHT_RABBITMQ_DIST_PORT (9161)
  CARTWRIGHT_EPMD_PORT            9162, Erlang's port mapper
  CARTWRIGHT_RABBITMQ_ADMIN_PORT  9163, RabbitMQ's administration
  CARTWRIGHT_<SERVICE>_LISTEN     where a service listens; replica N listens 200*(N-1) above
  CARTWRIGHT_<SERVICE>_DEBUG_LISTEN  where it answers /livez, /readyz and /metrics
  CARTWRIGHT_INSECURE             true: no certificates between the services, for development
  CARTWRIGHT_...                  every other setting of the services is handed to them

Passwords, keys and the addresses of the services are made by up itself; those in its
environment are not used.
`

// upLimit bounds a start: minutes of database recovery on a slow disk, and a migration.
const upLimit = 15 * time.Minute

// Up brings the shop to what was asked for and waits until it is ready.
func (s *Stage) Up(ctx context.Context, args []string) error {
	scale := scaleFlag{}
	flags := flag.NewFlagSet("cartwright up", flag.ContinueOnError)
	flags.Var(scale, "scale", "")
	if done, err := s.parse(flags, upHelp, args); done || err != nil {
		return err
	}
	if err := noMore(flags); err != nil {
		return err
	}
	held, err := s.hold()
	if err != nil {
		return err
	}
	defer held.Close()
	ctx, cancel := context.WithTimeout(ctx, upLimit)
	defer cancel()
	c, p, sec, err := s.up(ctx, scale)
	if err != nil {
		return err
	}
	if !c.Shown {
		if err := s.demonstrate(ctx, c, p, sec); err != nil {
			return err
		}
	}
	s.printURLs(p)
	return nil
}

// hold makes the directory and keeps other starts out of it until the file is closed.
func (s *Stage) hold() (*os.File, error) {
	if missing := servers.Missing(); missing != nil {
		return nil, &servers.MissingError{Packages: missing}
	}
	for _, dir := range []string{s.Home, s.in(logDir), s.in(binDir)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("up: %w", err)
		}
	}
	held, err := lock(s.in(upLock))
	if err != nil {
		return nil, fmt.Errorf("up: %w", err)
	}
	return held, nil
}

// up brings the shop to what was asked for.
func (s *Stage) up(ctx context.Context, scale map[string]int) (c choices, p plan, sec secrets, err error) {
	c, errChoices := s.readChoices(scale)
	sec, errSecrets := s.readSecrets()
	program, errProgram := s.keepProgram()
	if err := errors.Join(errChoices, errSecrets, errProgram, s.ensureCerts()); err != nil {
		return c, p, sec, fmt.Errorf("up: %w", err)
	}
	if p, err = s.makePlan(c, sec, program); err != nil {
		return c, p, sec, fmt.Errorf("settings: %w", err)
	}
	if err := s.untilReady(ctx, c, p); err != nil {
		return c, p, sec, err
	}
	if err := s.dropPrograms(p.Program); err != nil {
		return c, p, sec, fmt.Errorf("up: %w", err)
	}
	return c, p, sec, nil
}

// untilReady starts or changes the shop and waits until it is ready. A supervisor that was
// already dying when it was found gives way to a new one.
func (s *Stage) untilReady(ctx context.Context, c choices, p plan) error {
	for last := false; ; last = true {
		err := s.makeSo(ctx, c, p)
		if err == nil {
			err = s.whenAllReady(ctx, p)
		}
		if !errors.Is(err, errGone) || last {
			return err
		}
	}
}

// makeSo hands the plan to the supervisor, having started it if it does not run, and returns
// when all of the plan has been started.
func (s *Stage) makeSo(ctx context.Context, c choices, p plan) error {
	pid, errHolder := holder(s.in(keeperLock))
	st, errState := s.readState()
	if err := errors.Join(errHolder, errState); err != nil {
		return fmt.Errorf("up: %w", err)
	}
	if pid != 0 && st.Plan == p.id() && st.Settled {
		s.say("The shop is running already, with the same build, scale and settings: nothing to change.")
		return nil
	}
	if pid == 0 {
		if err := s.clearAway(ctx, st); err != nil {
			return err
		}
		st = state{}
	}
	if err := portsFree(p, st); err != nil {
		return err
	}
	p.Asked = time.Now().UTC().Format(time.RFC3339Nano)
	if err := errors.Join(writeJSON(s.in(choicesFile), c), writeJSON(s.in(planFile), p)); err != nil {
		return fmt.Errorf("up: %w", err)
	}
	if pid == 0 {
		s.say("Starting a shop in %s", s.Home)
		if err := s.spawn(ctx); err != nil {
			return fmt.Errorf("supervisor: %w", err)
		}
		return s.watch(ctx, p)
	}
	s.say("The shop is running; changing what differs.")
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("supervisor %d: %w", pid, err)
	}
	return s.watch(ctx, p)
}

// clearAway waits for processes that a killed supervisor has left behind; they have been asked
// to stop by its death. What a reboot has left behind in state.json is only its text.
func (s *Stage) clearAway(ctx context.Context, old state) error {
	if old.Boot == bootID() {
		for _, process := range old.Processes {
			if !process.alive() {
				continue
			}
			s.say("Waiting until %s (process %d) of the last run has ended", process.Name, process.PID)
			if err := process.end(ctx); err != nil {
				return err
			}
		}
	}
	if err := os.Remove(s.in(stateFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// end waits until a process that is not our child is gone, and kills it after stopLimit.
func (p processState) end(ctx context.Context) error {
	late := time.After(stopLimit)
	look := time.NewTicker(pollEvery)
	defer look.Stop()
	for p.alive() {
		select {
		case <-look.C:
		case <-late:
			if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("%s (process %d): %w", p.Name, p.PID, err)
			}
		case <-ctx.Done():
			return fmt.Errorf("%s (process %d) does not end: %w", p.Name, p.PID, ctx.Err())
		}
	}
	return nil
}

// portsFree refuses a plan whose ports others listen on. What runs already has its own.
func portsFree(p plan, running state) error {
	var faults []error
	for _, l := range p.listeners() {
		own := func(process processState) bool { return process.Name == l.name }
		if slices.ContainsFunc(running.Processes, own) {
			continue
		}
		listener, err := net.Listen("tcp", l.address)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s cannot listen on %s: %w (%s moves it, %sPORT_SHIFT moves all)", l.name, l.address, reason(err), prefix+l.setting, prefix))
			continue
		}
		faults = append(faults, listener.Close())
	}
	return errors.Join(faults...)
}

// reason leaves out of an error what the sentence around it says already.
func reason(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// spawn starts the supervisor in a session of its own, so that it outlives this command and
// its terminal, and waits until it holds its lock.
func (s *Stage) spawn(ctx context.Context) error {
	output, err := os.OpenFile(s.in(logDir, itself+".log"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer output.Close()
	cmd := exec.Command(s.Program, "supervise")
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.Home, output, output
	cmd.Env = append(slices.Clone(s.Environ), prefix+"HOME="+s.Home)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ends with the supervisor or with this command, whichever is first
	look := time.NewTicker(pollEvery)
	defer look.Stop()
	for {
		select {
		case <-look.C:
		case err := <-ended:
			return s.explain(fmt.Errorf("it ended at once: %w", err), itself)
		case <-ctx.Done():
			return ctx.Err()
		}
		if pid, err := holder(s.in(keeperLock)); err != nil || pid != 0 {
			return err
		}
	}
}

// demonstrate seeds a few products and places one order.
func (s *Stage) demonstrate(ctx context.Context, c choices, p plan, sec secrets) error {
	cmd := exec.CommandContext(ctx, p.Program, "demo")
	cmd.Env = processPlan{Env: p.exports(sec)}.environment(s.Environ)
	cmd.Stdout, cmd.Stderr = s.Out, s.Out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("the shop runs, but the demonstration ended with: %w (%s logs shows why)", err, filepath.Base(s.Program))
	}
	c.Shown = true
	return writeJSON(s.in(choicesFile), c)
}

func (s *Stage) printURLs(p plan) {
	s.say("")
	for _, process := range p.Processes {
		if process.Service == "gateway" {
			s.say("%-10s http://%s", process.name(), reachable(process.Listen))
			s.say("%-10s http://%s/documentation", "", reachable(process.Listen))
			s.say("%-10s http://%s/metrics", "", reachable(process.Debug))
		}
	}
	s.say("%-10s %s", "logs", s.in(logDir))
}
