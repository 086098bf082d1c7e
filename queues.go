package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"slices"
	"strings"
	"text/tabwriter"

	"cartwright/internal/fault"
	"cartwright/internal/messaging"
	"cartwright/internal/pauses"
	"cartwright/internal/settings"
	"cartwright/internal/store"
	"cartwright/jobs"
	schema "cartwright/sql"
)

const queuesHelp = `
Usage: cartwright queues
       cartwright queues pause <queue> [--by name]
       cartwright queues resume <queue> [--by name]

Shows what waits on each queue, and which are paused, by whom and since when.

pause lets all workers of a queue, here and on every other machine, finish what they have in hand
and take no more, until resume. Jobs wait meanwhile, also when workers, servers or machines are
started again. Workers notice within a second or two. Both are recorded, in the table pauses of the
database on which the jobs are done.

  --by name   who does it, at most 64 characters; without it, the user of this system
`

// jobDatabases are where the jobs of each queue are done. Its workers read there whether it is paused.
var jobDatabases = map[messaging.Queue]string{jobs.Cartmanager: schema.Carts, jobs.Checkoutmanager: schema.Checkouts}

// queuesSettings are for showing.
type queuesSettings struct {
	Broker messaging.Settings
	DSN    string `env:"MYSQL_DSN,required" help:"an account that may read all databases"`
}

// pauseSettings are for pausing and resuming.
type pauseSettings struct {
	DSN       string `env:"ADMIN_DSN,required" help:"an account that may make databases and accounts, for migrate, bench, queues pause and queues resume"`
	Namespace string `env:"NAMESPACE" help:"put before the name of every database, queue and exchange, so that two shops can share servers"`
}

// queues makes the command that shows queues, pauses them and resumes them.
func queues(out io.Writer) func(context.Context, []string) error {
	return func(ctx context.Context, args []string) error {
		if slices.ContainsFunc(args, func(a string) bool { return a == "-h" || a == "-help" || a == "--help" }) {
			fmt.Fprintf(out, "%s\n\nSettings, from the environment (each also as …_FILE, the path of a file with the value):\n\n", strings.TrimSpace(queuesHelp))
			both := append(settings.Describe(&queuesSettings{}), settings.Describe(&pauseSettings{})...)
			printSettings(out, both[:len(both)-1]) // the last of both is the namespace
			return flag.ErrHelp
		}
		if len(args) == 0 {
			var s queuesSettings
			if err := settings.Load(os.Environ(), &s); err != nil {
				return err
			}
			return showQueues(ctx, out, s)
		}
		queue, by, err := whatToTurn(args)
		if err != nil {
			return err
		}
		var s pauseSettings
		if err := settings.Load(os.Environ(), &s); err != nil {
			return err
		}
		return turnQueue(ctx, out, s, queue, args[0] == "pause", by)
	}
}

// whatToTurn reads the arguments of pause and resume.
func whatToTurn(args []string) (queue messaging.Queue, by string, err error) {
	if args[0] != "pause" && args[0] != "resume" {
		return "", "", fmt.Errorf("queues can pause and resume, not %q (see cartwright queues --help)", args[0])
	}
	flags := flag.NewFlagSet("cartwright queues "+args[0], flag.ContinueOnError)
	flags.SetOutput(io.Discard) // its own idea of a usage
	flags.StringVar(&by, "by", "", "")
	var names []string
	for rest := args[1:]; ; { // flag stops at the name of the queue, and --by may be behind it too
		if err := flags.Parse(rest); err != nil {
			return "", "", fmt.Errorf("%w (see cartwright queues --help)", err)
		}
		if flags.NArg() == 0 {
			break
		}
		names, rest = append(names, flags.Arg(0)), flags.Args()[1:]
	}
	if len(names) != 1 {
		return "", "", fmt.Errorf("name one queue to %s: %s", args[0], listOfQueues())
	}
	queue = messaging.Queue(names[0])
	if jobDatabases[queue] == "" {
		return "", "", fault.New(fault.NotFound, "unknown_queue", "there is no queue %q with workers; there are %s", names[0], listOfQueues())
	}
	given := false
	flags.Visit(func(*flag.Flag) { given = true })
	if !given {
		by, err = whoAmI()
	}
	return queue, by, err
}

func listOfQueues() string {
	var names []string
	for _, w := range jobs.Topology("").Work {
		names = append(names, string(w.Name))
	}
	return strings.Join(names, " and ")
}

// whoAmI is the name of the user of this system.
func whoAmI() (string, error) {
	u, err := user.Current()
	if err != nil {
		return "", fmt.Errorf("say with --by who does it: %w", err)
	}
	return u.Username, nil
}

// turnQueue pauses or resumes a queue and says how it stands now.
func turnQueue(ctx context.Context, out io.Writer, s pauseSettings, queue messaging.Queue, pause bool, by string) error {
	db, err := store.Open(s.DSN, s.Namespace+jobDatabases[queue], 1)
	if err != nil {
		return err
	}
	defer db.Close()
	before, err := pauses.Change(ctx, db, string(queue), pause, by)
	if err != nil {
		return orMigrate(queue, err)
	}
	switch {
	case pause && before.Paused:
		fmt.Fprintf(out, "%s is paused already, %s\n", queue, before)
	case pause:
		fmt.Fprintf(out, "%s is paused: its workers finish what they have in hand, and jobs wait until it is resumed\n", queue)
	case before.Paused:
		fmt.Fprintf(out, "%s is resumed; it was paused %s\n", queue, before)
	default:
		fmt.Fprintf(out, "%s is not paused\n", queue)
	}
	return nil
}

// orMigrate tells what to do about a table that is not there yet.
func orMigrate(queue messaging.Queue, err error) error {
	if store.IsNoTable(err) {
		return fmt.Errorf("pauses of %s, run migrate: %w", queue, err)
	}
	return fmt.Errorf("pauses of %s: %w", queue, err)
}

// showQueues prints what waits on each queue, and which are paused. It prints what waits also when
// no database answers.
func showQueues(ctx context.Context, out io.Writer, s queuesSettings) error {
	broker := messaging.Broker{URL: s.Broker.URL, Topology: jobs.Topology(s.Broker.Namespace), Log: slog.New(slog.DiscardHandler)}
	depths, err := broker.Depths(ctx)
	if err != nil {
		return err
	}
	var faults []error
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "QUEUE\tWAITING\tCONSUMERS\tPAUSED")
	for _, d := range depths {
		paused := ""
		if jobDatabases[d.Queue] != "" {
			paused, err = howItStands(ctx, s, d.Queue)
			faults = append(faults, err)
		}
		fmt.Fprintf(table, "%s\t%d\t%d\t%s\n", d.Queue, d.Waiting, d.Consumers, paused)
	}
	return errors.Join(append(faults, table.Flush())...)
}

// howItStands says whether a queue is paused, by whom and since when.
func howItStands(ctx context.Context, s queuesSettings, queue messaging.Queue) (string, error) {
	db, err := store.Open(s.DSN, s.Broker.Namespace+jobDatabases[queue], 1)
	if err != nil {
		return "not known", err
	}
	defer db.Close()
	p, err := pauses.Of(ctx, db, string(queue))
	switch {
	case err != nil:
		return "not known", orMigrate(queue, err)
	case !p.Paused:
		return "no", nil
	}
	return p.String(), nil
}
