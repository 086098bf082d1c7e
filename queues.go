package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"slices"
	"strings"

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
       cartwright queues pause  <queue> [--by name]
       cartwright queues resume <queue> [--by name]
       cartwright queues peek   <queue>.dead [--limit n]
       cartwright queues replay <queue>.dead --id id | --all [--by name]
       cartwright queues drop   <queue>.dead --id id | --all [--by name]
       cartwright queues log [--limit n]

Shows of each queue what waits on it, what workers have in hand, how long ago the oldest of the dead
letters was buried, how many messages a second come and go, and which queues are paused, by whom and
since when. What nobody can tell now is a dash: RabbitMQ knows rates only where its management has
them on, and looking at a job that waits would count as a try at it.

pause lets all workers of a queue, here and on every other machine, finish what they have in hand
and take no more, until resume. Jobs wait meanwhile, also when workers, servers or machines are
started again. Workers notice within a second or two.

peek lists dead letters and why each was buried. They stay where they are.
replay puts dead letters back on their work queue, under the same ID: done before, they are not done
again. drop takes them away for good. What was asked for and never answered is better replayed.

log lists who has done what of this to which queue and letter, the newest first. It is recorded
before it is done, in the tables pauses and interventions of the database on which the jobs are done.

  --by name   who does it, at most 64 characters; without it, the user of this system
  --id id     the message with this ID
  --all       all that lie there now
  --limit n   how many to list, 1 to 1000; 20 unless told
`

// jobDatabases are where the jobs of each queue are done. Its workers read there whether it is paused.
var jobDatabases = map[messaging.Queue]string{jobs.Cartmanager: schema.Carts, jobs.Checkoutmanager: schema.Checkouts}

// queuesSettings are for showing.
type queuesSettings struct {
	Broker   messaging.Settings
	DSN      string `env:"MYSQL_DSN,required" help:"an account that may read all databases"`
	AdminURL string `env:"BROKER_ADMIN_URL" help:"RabbitMQ's management API, for rates and for what is in hand; without it they are not told"`
}

// broker is the administrator's way to all queues.
func (s queuesSettings) broker() messaging.Broker {
	return messaging.Broker{URL: s.Broker.URL, Topology: jobs.Topology(s.Broker.Namespace), Log: slog.New(slog.DiscardHandler)}
}

// pauseSettings are for pausing and resuming.
type pauseSettings struct {
	DSN       string `env:"ADMIN_DSN,required" help:"an account that may make databases and accounts, for migrate, bench, and queues where it changes something"`
	Namespace string `env:"NAMESPACE" help:"put before the name of every database, queue and exchange, so that two shops can share servers"`
}

// queues makes the command that shows queues, pauses them and resumes them, and deals with dead letters.
func queues(out io.Writer) func(context.Context, []string) error {
	return func(ctx context.Context, args []string) error {
		if slices.ContainsFunc(args, func(a string) bool { return a == "-h" || a == "-help" || a == "--help" }) {
			fmt.Fprintf(out, "%s\n\nSettings, from the environment (each also as …_FILE, the path of a file with the value):\n\n", strings.TrimSpace(queuesHelp))
			both := append(settings.Describe(&queuesSettings{}), settings.Describe(&pauseSettings{})...)
			printSettings(out, both[:len(both)-1]) // the last of both is the namespace
			return flag.ErrHelp
		}
		o := queueOrder{}
		if len(args) > 0 {
			var err error
			if o, err = readQueueOrder(args); err != nil {
				return err
			}
		}
		return o.run(ctx, out, os.Environ())
	}
}

// run does what was asked for, with the settings that this needs.
func (o queueOrder) run(ctx context.Context, out io.Writer, environ []string) error {
	var shows queuesSettings
	var turns pauseSettings
	switch o.verb {
	case "pause", "resume":
		if err := settings.Load(environ, &turns); err != nil {
			return err
		}
		return turnQueue(ctx, out, turns, o.queue, o.verb == "pause", o.by)
	case "replay", "drop":
		var s letterSettings
		if err := settings.Load(environ, &s); err != nil {
			return err
		}
		return moveLetters(ctx, out, s, o)
	}
	if err := settings.Load(environ, &shows); err != nil {
		return err
	}
	switch o.verb {
	case "peek":
		return peekQueue(ctx, out, shows, o)
	case "log":
		return showDeeds(ctx, out, shows, o.limit)
	}
	return showQueues(ctx, out, shows)
}

// queueOrder is what was asked for at the command line; its zero value is to show all queues.
type queueOrder struct {
	verb  string
	queue messaging.Queue // the work queue, also where its dead letters are meant
	by    string
	id    string
	all   bool
	limit int
}

const (
	listedByDefault = 20
	listedMax       = 1000
)

// queueVerbs tells which flags each verb knows, and whether it wants a queue's dead letters.
var queueVerbs = map[string]struct {
	flags []string
	dead  bool
}{
	"pause": {[]string{"by"}, false}, "resume": {[]string{"by"}, false},
	"peek": {[]string{"limit"}, true}, "replay": {[]string{"by", "id", "all"}, true}, "drop": {[]string{"by", "id", "all"}, true},
	"log": {[]string{"limit"}, false},
}

// readQueueOrder reads the arguments behind queues.
func readQueueOrder(args []string) (o queueOrder, err error) {
	o.verb = args[0]
	knows, known := queueVerbs[o.verb]
	if !known {
		return o, fmt.Errorf("queues can pause, resume, peek, replay, drop and log, not %q (see cartwright queues --help)", o.verb)
	}
	flags := flag.NewFlagSet("cartwright queues "+o.verb, flag.ContinueOnError)
	flags.StringVar(&o.by, "by", "", "")
	flags.StringVar(&o.id, "id", "", "")
	flags.BoolVar(&o.all, "all", false, "")
	flags.IntVar(&o.limit, "limit", listedByDefault, "")
	names, given, err := parseMixed(flags, args[1:])
	if err != nil {
		return o, fmt.Errorf("%w (see cartwright queues --help)", err)
	}
	for name := range given {
		if !slices.Contains(knows.flags, name) {
			return o, fmt.Errorf("queues %s has no --%s (see cartwright queues --help)", o.verb, name)
		}
	}
	switch {
	case o.limit < 1 || o.limit > listedMax:
		return o, fault.InvalidField("limit", "must be 1 to %d", listedMax)
	case slices.Contains(knows.flags, "all") && given["id"] == given["all"]:
		return o, fmt.Errorf("say which letters to %s: --id id or --all", o.verb)
	case o.verb == "log" && len(names) == 0:
		return o, nil
	}
	if o.queue, err = theQueue(o.verb, names, knows.dead); err == nil && !given["by"] && slices.Contains(knows.flags, "by") {
		o.by, err = whoAmI()
	}
	return o, err
}

// parseMixed reads flags and names in any order, where flag itself stops at the first name.
func parseMixed(flags *flag.FlagSet, args []string) (names []string, given map[string]bool, err error) {
	flags.SetOutput(io.Discard) // its own idea of a usage
	for rest := args; ; {
		if err := flags.Parse(rest); err != nil {
			return nil, nil, err
		}
		if flags.NArg() == 0 {
			break
		}
		names, rest = append(names, flags.Arg(0)), flags.Args()[1:]
	}
	given = map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	return names, given, nil
}

// theQueue finds the work queue that is named, by itself or by its dead letters.
func theQueue(verb string, names []string, dead bool) (messaging.Queue, error) {
	suffix := ""
	if dead {
		suffix = deadSuffix
	}
	if verb == "log" {
		return "", fmt.Errorf("log lists all queues, got %q", names)
	}
	if len(names) != 1 {
		return "", fmt.Errorf("name one queue to %s: %s", verb, listOfQueues(suffix))
	}
	name, whole := strings.CutSuffix(names[0], suffix)
	queue := messaging.Queue(name)
	switch {
	case jobDatabases[queue] != "" && whole:
		return queue, nil
	case dead && jobDatabases[queue] != "":
		return "", fault.New(fault.Invalid, "no_dead_letters", "only dead letters can be looked at without harm, which are on %s: RabbitMQ counts each look at a job as a try", queue.Dead())
	case dead:
		return "", fault.New(fault.NotFound, "unknown_queue", "there is no queue %q of dead letters; there are %s", names[0], listOfQueues(suffix))
	}
	return "", fault.New(fault.NotFound, "unknown_queue", "there is no queue %q with workers; there are %s", names[0], listOfQueues(suffix))
}

var deadSuffix = string(messaging.Queue("").Dead())

func listOfQueues(suffix string) string {
	var names []string
	for _, w := range jobs.Topology("").Work {
		names = append(names, string(w.Name)+suffix)
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
		return orMigrate("pauses", queue, err)
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
func orMigrate(table string, queue messaging.Queue, err error) error {
	if store.IsNoTable(err) {
		return fmt.Errorf("%s of %s, run migrate: %w", table, queue, err)
	}
	return fmt.Errorf("%s of %s: %w", table, queue, err)
}
