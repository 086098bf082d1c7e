// Package bench loads a running shop over HTTP, from outside, and reports how fast it answered,
// what that cost, and whether the books are right afterwards. It makes products, carts and orders
// of its own, whose names begin with the run's, and changes nothing else.
package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"cartwright/bench/floor"
	"cartwright/internal/settings"
	"cartwright/stage"
)

// Settings of the bench.
type Settings struct {
	URL       string `env:"URL" envDefault:"http://127.0.0.1:5003" help:"where the shop's gateway is, for demo and bench"`
	StaffKey  string `env:"STAFF_KEY,required" help:"opens the staff routes: at least 16 characters; without it they are off"`
	DSN       string `env:"MYSQL_DSN,required" help:"an account that may read all databases"`
	AdminDSN  string `env:"ADMIN_DSN" help:"an account that may write to all databases, for bench growth, backlog and --floor"`
	AMQPURL   string `env:"AMQP_URL" help:"RabbitMQ with an administrator's account, for bench backlog and --floor"`
	Namespace string `env:"NAMESPACE" help:"put before the name of every database, queue and exchange, so that two shops can share servers"`
	Commit    string `env:"COMMIT" envDefault:"unknown" help:"the version of the program, for bench's report"`
}

// Command is the bench as a command: where it writes, what its settings are, and how it finds the
// processes of the shop on this machine.
type Command struct {
	Out       io.Writer // the report
	Err       io.Writer // what it is doing
	Environ   []string
	Processes func() ([]stage.Process, error)
}

// ErrWrong says that the shop was wrong: oversold, charged twice, lost an order, or told a client
// something else than its books say.
var ErrWrong = errors.New("the shop's books are wrong")

// kind is one kind of bench: what stands behind `cartwright bench` chooses it.
type kind struct {
	name, does string
	run        func(ctx context.Context, args []string) error
}

// kinds is the table of all of them. One that does not load a shop reads its arguments itself.
func (c Command) kinds() (all []kind) {
	for _, s := range scenarios {
		all = append(all, kind{s.name, s.does, func(ctx context.Context, args []string) error { return c.runScenario(ctx, s, args) }})
	}
	return append(all, kind{"floor", "the least durable work that any correct checkout must do, without a shop", func(ctx context.Context, args []string) error {
		_, err := floor.Run(ctx, c.Out, args)
		return err
	}})
}

// Run runs what the first argument names, and the first scenario where it names nothing.
func (c Command) Run(ctx context.Context, args []string) error {
	name := scenarios[0].name
	switch {
	case len(args) > 0 && slices.Contains([]string{"help", "--help", "-help", "-h"}, args[0]):
		c.help()
		return nil
	case len(args) > 0 && documentFlag(args[0]):
		return c.runDocument(ctx, args)
	case len(args) > 0 && !strings.HasPrefix(args[0], "-"):
		name, args = args[0], args[1:]
	}
	var names []string
	for _, k := range c.kinds() {
		if k.name == name {
			return k.run(ctx, args)
		}
		names = append(names, k.name)
	}
	return fmt.Errorf("bench: there is no scenario %q; there are %s", name, strings.Join(names, ", "))
}

// runScenario runs one scenario and prints its report.
func (c Command) runScenario(ctx context.Context, s scenario, args []string) error {
	o, err := parseOptions(s, args)
	if errors.Is(err, flag.ErrHelp) {
		c.scenarioHelp(s)
		return nil
	}
	if err != nil {
		return err
	}
	report, err := c.report(ctx, s, o)
	if err != nil {
		return fmt.Errorf("bench %s: %w", s.name, err)
	}
	if o.plot != "" {
		if _, err := report.plot(o.plot); err != nil {
			return fmt.Errorf("bench %s: %w", s.name, err)
		}
	}
	write := report.text
	if o.json {
		write = report.json
	}
	if err := write(c.Out); err != nil {
		return err
	}
	return report.wrong()
}

// report runs one scenario on the shop and looks into the books afterwards.
func (c Command) report(ctx context.Context, s scenario, o options) (*Report, error) {
	var set Settings
	if err := settings.Load(c.Environ, &set); err != nil {
		return nil, fmt.Errorf("%w\n(./setup.sh bench sets them for the shop that it runs; so does eval \"$(./setup.sh env)\")", err)
	}
	if missing := s.missing(set, o); missing != "" {
		return nil, fmt.Errorf("%s%s is not set", settings.Prefix, missing)
	}
	b, err := c.open(ctx, set, o)
	if err != nil {
		return nil, err
	}
	defer b.close()
	b.report.Scenario, b.report.Does, b.report.Command = s.name, s.does, o.command(s)
	measure := func(ctx context.Context) error {
		if err := s.run(ctx, b); err != nil {
			return err
		}
		return b.audit(ctx)
	}
	if o.floor {
		err = b.besideFloor(ctx, measure)
	} else {
		err = measure(ctx)
	}
	return b.report, err
}

const helpHead = `Usage: cartwright bench [scenario] [flags]

Loads a running shop over HTTP and reports rate, latencies, answers, batch sizes, and the processor
time and memory of each process. Then it recomputes every balance and compares what clients were
told with the orders; the exit status is 1 when a unit was sold twice, a checkout charged twice, an
order lost, or a balance differs. The shop should have nothing else to do meanwhile.

`

const helpTail = `
  cartwright bench <scenario> --help       its flags, and an example
  cartwright bench --document docs/benchmark.md [--small]
                                           all scenarios one after the other, written up as a page,
                                           with plots in a folder beside it

It is told where the shop is by CARTWRIGHT_URL, CARTWRIGHT_STAFF_KEY and CARTWRIGHT_MYSQL_DSN, as
"./setup.sh env" prints them. "./setup.sh bench" sets them by itself.
`

func (c Command) help() {
	fmt.Fprint(c.Out, helpHead)
	for _, k := range c.kinds() {
		fmt.Fprintf(c.Out, "  %-10s %s\n", k.name, k.does)
	}
	fmt.Fprint(c.Out, helpTail)
}
