// Package floor measures how fast a machine can do the least durable work that any correct checkout
// must do, and nothing beyond it:
//
//	HTTP request ─▶ one persistent message on a quorum queue ─▶ the order's row is inserted
//	─▶ RPC: stock is reserved ─▶ RPC: stock is committed ─▶ the order's row is finished ─▶ answer
//
// Nothing is checked, priced, signed, encrypted or paid for, and every stage works in batches that
// are written by hand. So what a shop reaches in the same run, divided by this figure, says what
// the shop's correctness costs.
//
// Gateway, worker and inventory are processes of their own, as in a shop, and the buyers are in the
// process that started them. All of it works in a database and a queue that exist for as long as
// it takes.
package floor

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"cartwright/internal/messaging"
	"cartwright/internal/settings"
)

const (
	// batchMax is how many checkouts go through a stage together at most: what the services' groups
	// take too.
	batchMax = 256

	// buyersMax is far more than what fills every batch; each buyer holds a connection.
	buyersMax = 4096

	// secondsMax keeps a measurement within what its tables and its memory of answers are made for.
	secondsMax = 600

	// productsMax bounds the time that it takes to fill the shelves.
	productsMax = 1_000_000
)

// Settings say on which servers the floor is measured.
type Settings struct {
	Broker   messaging.Settings
	AdminDSN string `env:"ADMIN_DSN,required" help:"an account that may make databases and accounts, for migrate, bench, and queues where it changes something"`
}

// Load is what the buyers do.
type Load struct {
	Buyers   int           // at a time, each with one request after the other
	Products int           // among which they choose; with 1 everybody wants the same
	WarmUp   time.Duration // before anything is counted
	Length   time.Duration
}

// Result is what was measured.
type Result struct {
	Buyers, Products int
	Checkouts        int // that were answered, without those of the warm-up
	PerSecond        float64
	P50, P99         time.Duration
}

func (r Result) String() string {
	return fmt.Sprintf("floor: %d buyers, %d products: %.0f checkouts/s, p50 %.1f ms, p99 %.1f ms",
		r.Buyers, r.Products, r.PerSecond, milliseconds(r.P50), milliseconds(r.P99))
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

const help = `Measures how fast this machine can do the least durable work that any correct checkout must do:
a request, a message on a quorum queue, an order's row, stock reserved, stock committed, the row
finished, an answer. What a shop reaches beside it says what its correctness costs.

Usage: cartwright bench floor [flags]

  --buyers 256      how many buy at a time
  --seconds 8       for how long they do
  --products 10000  among how many products they choose; with 1 everybody wants the same
  --warmup 2        seconds of load before anything is counted

It works in a database and a queue of its own, and takes them away again. Settings, from the
environment, as cartwright env prints them for a running shop:

`

// Run is the command: it reads flags and settings, measures, and prints the result.
// Errors: flag.ErrHelp when help was asked for and given.
func Run(ctx context.Context, out io.Writer, args []string) (Result, error) {
	load, part, err := parse(out, args)
	if err != nil {
		return Result{}, err
	}
	var s Settings
	if err := settings.Load(os.Environ(), &s); err != nil {
		return Result{}, err
	}
	if part.role != "" {
		return Result{}, part.play(ctx, out, s)
	}
	result, err := Measure(ctx, s, load)
	if err != nil {
		return Result{}, fmt.Errorf("floor: %w", err)
	}
	fmt.Fprintln(out, result)
	return result, nil
}

// parse reads the flags: those of people, and those that a measurement gives to its children.
func parse(out io.Writer, args []string) (Load, part, error) {
	var p part
	flags := flag.NewFlagSet("cartwright bench floor", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // flag would print its own idea of a usage
	buyers, seconds := flags.Int("buyers", 256, ""), flags.Int("seconds", 8, "")
	products, warmUp := flags.Int("products", 10000, ""), flags.Int("warmup", 2, "")
	flags.StringVar(&p.role, "role", "", "")
	flags.StringVar(&p.inventory, "inventory", "", "")
	err := flags.Parse(args)
	p.products = *products
	load := Load{Buyers: *buyers, Products: *products, WarmUp: time.Duration(*warmUp) * time.Second, Length: time.Duration(*seconds) * time.Second}
	switch {
	case errors.Is(err, flag.ErrHelp):
		printHelp(out)
		return load, p, err
	case err != nil:
		return load, p, fmt.Errorf("%w (see %s --help)", err, flags.Name())
	case flags.NArg() > 0:
		return load, p, fmt.Errorf("unknown argument %q (see %s --help)", flags.Arg(0), flags.Name())
	}
	return load, p, load.check()
}

func (l Load) check() error {
	var wrong []string
	within := func(name string, n, low, high int) {
		if n < low || n > high {
			wrong = append(wrong, fmt.Sprintf("%s must be %d to %d", name, low, high))
		}
	}
	within("buyers", l.Buyers, 1, buyersMax)
	within("products", l.Products, 1, productsMax)
	within("seconds", int(l.Length/time.Second), 1, secondsMax)
	within("warmup", int(l.WarmUp/time.Second), 0, secondsMax)
	if wrong != nil {
		return errors.New(strings.Join(wrong, "; "))
	}
	return nil
}

func printHelp(out io.Writer) {
	fmt.Fprint(out, help)
	table := tabwriter.NewWriter(out, 2, 0, 2, ' ', 0)
	for _, s := range settings.Describe(&Settings{}) {
		fmt.Fprintf(table, "  %s\t%s\n", s.Key, s.Help)
	}
	table.Flush() //nolint:errcheck // standard output is gone
}

// Measure builds the ground, starts the three processes, lets the buyers loose, and compares what
// is in the tables with what was answered.
func Measure(ctx context.Context, s Settings, load Load) (result Result, err error) {
	if err := load.check(); err != nil {
		return Result{}, err
	}
	site, err := takeGround(ctx, s)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, site.clear(ctx)) }()
	if err := site.build(ctx, load.Products); err != nil {
		return Result{}, err
	}
	family, err := startFamily(ctx, s, load.Products)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, family.end()) }()
	crowd := newCrowd(family.gateway, load.Buyers)
	defer crowd.leave()
	warm, err := crowd.buy(family.ctx, load.WarmUp)
	if err != nil {
		return Result{}, family.blame(err)
	}
	bought, err := crowd.buy(family.ctx, load.Length)
	if err != nil {
		return Result{}, family.blame(err)
	}
	if err := site.agrees(ctx, len(warm.took)+len(bought.took)); err != nil {
		return Result{}, err
	}
	return bought.result(load), nil
}
