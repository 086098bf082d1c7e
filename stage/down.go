package stage

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
)

const downHelp = `
Usage: cartwright down

Stops the shop of this directory, in order: the gateway, the workers, the services, the broker,
the database. Each finishes what it has in hand. Data, passwords and choices are kept; "up"
starts the same shop again. Nothing else on this machine is touched.
`

// downLimit is room for every process to use its own limit to the full.
const downLimit = 6 * time.Minute

// Down stops what up has started and waits until it has ended.
func (s *Stage) Down(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("cartwright down", flag.ContinueOnError)
	if done, err := s.parse(flags, downHelp, args); done || err != nil {
		return err
	}
	if err := noMore(flags); err != nil {
		return err
	}
	return s.down(ctx)
}

func (s *Stage) down(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, downLimit)
	defer cancel()
	pid, err := holder(s.in(keeperLock))
	if err != nil {
		return fmt.Errorf("down: %w", err)
	}
	if pid == 0 {
		if err := s.endLeftBehind(ctx); err != nil {
			return err
		}
		s.say("No shop runs in %s.", s.Home)
		return nil
	}
	s.say("Stopping the shop in %s", s.Home)
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("supervisor %d: %w", pid, err)
	}
	look := time.NewTicker(pollEvery)
	defer look.Stop()
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			return fmt.Errorf("supervisor %d does not end: %w", pid, ctx.Err())
		}
		now, err := holder(s.in(keeperLock))
		if err != nil {
			return fmt.Errorf("down: %w", err)
		}
		if now != pid {
			s.say("Stopped. The data is kept; up starts it again.")
			return nil
		}
	}
}

// endLeftBehind ends what a killed supervisor has left behind.
func (s *Stage) endLeftBehind(ctx context.Context) error {
	st, err := s.readState()
	if err != nil {
		return fmt.Errorf("down: %w", err)
	}
	return s.clearAway(ctx, st)
}

const resetHelp = `
Usage: cartwright reset [--yes]

Stops the shop of this directory and removes its data, passwords, choices and logs for good.
Asks first.

  --yes   do not ask
`

// Reset stops the shop and removes all that it kept.
func (s *Stage) Reset(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("cartwright reset", flag.ContinueOnError)
	yes := flags.Bool("yes", false, "")
	if done, err := s.parse(flags, resetHelp, args); done || err != nil {
		return err
	}
	if err := noMore(flags); err != nil {
		return err
	}
	if !*yes {
		fmt.Fprintf(s.Out, "All orders, stock, passwords and logs in %s will be gone. Type yes to go on: ", s.Home)
		answer, _ := bufio.NewReader(s.In).ReadString('\n') // no answer at all is not yes either
		if strings.TrimSpace(answer) != "yes" {
			return errors.New("reset: not confirmed, nothing was removed")
		}
	}
	if err := s.down(ctx); err != nil {
		return err
	}
	var errs []error
	for _, name := range []string{choicesFile, secretsFile, planFile, stateFile, keeperLock, upLock, logDir, certsDir, mariaDB, rabbitMQ} {
		errs = append(errs, os.RemoveAll(s.in(name)))
	}
	if err := errors.Join(append(errs, s.dropPrograms(""))...); err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	s.say("Removed. up makes a new shop.")
	return nil
}
