package stage

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

const statusHelp = `
Usage: cartwright status

Prints a table of the processes of this directory's shop: number, whether it is ready, how
long it has been running, how often it was started again after it died, its ports. Ends with
status 1 if something is not ready or no shop runs.
`

// ErrNotReady says that a process of the shop, or all of it, is not ready.
var ErrNotReady = errors.New("not ready")

// Status prints what runs. Errors: ErrNotReady.
func (s *Stage) Status(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("cartwright status", flag.ContinueOnError)
	if done, err := s.parse(flags, statusHelp, args); done || err != nil {
		return err
	}
	if err := noMore(flags); err != nil {
		return err
	}
	pid, errHolder := holder(s.in(keeperLock))
	st, errState := s.readState()
	if err := errors.Join(errHolder, errState); err != nil {
		return fmt.Errorf("status: %w", err)
	}
	if pid == 0 {
		s.say("No shop runs in %s.", s.Home)
		return fmt.Errorf("status: %w", ErrNotReady)
	}
	return s.printTable(ctx, st)
}

func (s *Stage) printTable(ctx context.Context, st state) error {
	table := tabwriter.NewWriter(s.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SERVICE\tREPLICA\tPID\tREADY\tUPTIME\tRESTARTS\tPORTS")
	var unready []string
	for _, p := range st.Processes {
		answer := "yes"
		if err := p.ready(ctx); err != nil {
			answer = "no"
			unready = append(unready, p.Name)
		}
		service, replica, numbered := strings.Cut(p.Name, "-")
		if !numbered {
			replica = "1"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%d\t%s\n", service, replica, p.number(), answer, p.uptime(), p.Restarts, p.ports())
	}
	if err := table.Flush(); err != nil {
		return err
	}
	switch {
	case st.Fault != "":
		return fmt.Errorf("%w: %s", ErrNotReady, st.Fault)
	case len(unready) > 0:
		return fmt.Errorf("%w: %s", ErrNotReady, strings.Join(unready, ", "))
	case !st.Settled:
		return fmt.Errorf("%w: still starting", ErrNotReady)
	}
	return nil
}

// ready asks a service. A server counts as ready while it runs: its keeper notes it down only
// once it has answered.
func (p processState) ready(ctx context.Context) error {
	if !p.alive() {
		return errors.New("it does not run")
	}
	if p.Debug == "" {
		return nil
	}
	return ready(ctx, p.Debug)
}

func (p processState) number() string {
	if p.PID == 0 {
		return "-"
	}
	return strconv.Itoa(p.PID)
}

func (p processState) uptime() string {
	if p.Started.IsZero() {
		return "-"
	}
	return time.Since(p.Started).Truncate(time.Second).String()
}

func (p processState) ports() string {
	var ports []string
	for _, address := range []string{p.Listen, p.Debug} {
		if _, port, err := net.SplitHostPort(address); err == nil {
			ports = append(ports, port)
		}
	}
	return strings.Join(ports, " ")
}

const healthcheckHelp = `
Usage: cartwright healthcheck <service>

Asks the service that runs in this container or on this machine whether it is ready, at its
CARTWRIGHT_<SERVICE>_DEBUG_LISTEN. Ends with status 0 if it is. For health checks of
containers, which have no other program in them.
`

// Healthcheck asks one service whether it is ready. Errors: its answer, if it is not.
func (s *Stage) Healthcheck(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("cartwright healthcheck", flag.ContinueOnError)
	if done, err := s.parse(flags, healthcheckHelp, args); done || err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("name one service (see cartwright healthcheck --help)")
	}
	sv, err := serviceNamed(flags.Arg(0))
	if err != nil {
		return err
	}
	name := sv.listenSetting(true)
	value, _ := s.setting(name)
	debug, err := sv.address(map[string]string{name: value}, 1, true)
	if err != nil {
		return err
	}
	if err := ready(ctx, debug); err != nil {
		return fmt.Errorf("%s: %w", sv.name, err)
	}
	return nil
}
