package bench

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// options are what may be chosen of a run.
type options struct {
	buyers    int
	rate      int // requests due a second; 0 is a closed loop
	checkouts int
	seconds   int
	warmup    int // seconds
	products  int
	stock     int
	step      int
	rows      int
	jobs      int
	limit     time.Duration
	floor     bool
	small     bool
	json      bool
	plot      string
}

// number is a flag that takes a whole number.
type number struct {
	name     string
	min, max int
	help     string
	of       func(*options) *int
}

// numbers are all of them; each scenario takes some. The upper limits are far above what one
// machine can do, and low enough that a slip of the finger does not fill its disk.
var numbers = []number{
	{"buyers", 1, handsMax, "buyers at a time, each with one request in hand", func(o *options) *int { return &o.buyers }},
	{"rate", 0, 50_000, "checkouts due a second, at fixed times, whatever the answers do", func(o *options) *int { return &o.rate }},
	{"step", 1, 50_000, "by how many checkouts a second the rate is raised", func(o *options) *int { return &o.step }},
	{"checkouts", 1, checkoutsMax, "checkouts to make", func(o *options) *int { return &o.checkouts }},
	{"seconds", 0, 3600, "how long checkouts are made at most; 0 makes all of them, and with --rate 10 seconds' worth", func(o *options) *int { return &o.seconds }},
	{"warmup", 0, 60, "seconds of checkouts before those that count; without --rate, at most a tenth of them", func(o *options) *int { return &o.warmup }},
	{"products", 1, 100_000, "products that are bought", func(o *options) *int { return &o.products }},
	{"stock", 1, 1_000_000, "units of the product", func(o *options) *int { return &o.stock }},
	{"rows", 1000, 50_000_000, "finished orders that are put into the databases between the two loads", func(o *options) *int { return &o.rows }},
	{"jobs", 1, 1_000_000, "checkouts that are queued", func(o *options) *int { return &o.jobs }},
}

const (
	checkoutsMax = 2_000_000 // what is remembered of them still fits into memory
	limitMin     = time.Millisecond
	limitMax     = 30 * time.Second // beyond, the gateway has answered 202 long ago
)

// parseOptions reads a scenario's flags. --small changes the defaults, and not what is chosen.
// Errors: flag.ErrHelp, when help is asked for.
func parseOptions(s scenario, args []string) (options, error) {
	o := s.defaults
	if slices.Contains(args, "--small") || slices.Contains(args, "-small") {
		o = s.small
	}
	flags := flag.NewFlagSet("cartwright bench "+s.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // flag would print its own idea of a usage
	for _, n := range s.numbers() {
		flags.IntVar(n.of(&o), n.name, *n.of(&o), n.help)
	}
	if s.takes("limit") {
		flags.DurationVar(&o.limit, "limit", o.limit, "")
	}
	if s.takes("floor") {
		flags.BoolVar(&o.floor, "floor", false, "")
	}
	flags.BoolVar(&o.small, "small", false, "")
	flags.BoolVar(&o.json, "json", false, "")
	flags.StringVar(&o.plot, "plot", "", "")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, fmt.Errorf("%w (see %s --help)", err, flags.Name())
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unknown argument %q (see %s --help)", flags.Arg(0), flags.Name())
	}
	o = o.sensible()
	return o, errors.Join(o.faults(s)...)
}

// faults are the flags out of their limits, all of them.
func (o options) faults(s scenario) (faults []error) {
	for _, n := range s.numbers() {
		if n.name == "checkouts" && o.rate > 0 {
			continue // they follow from the rate, see below
		}
		if v := *n.of(&o); v < n.min || v > n.max {
			faults = append(faults, fmt.Errorf("--%s is %d, want %d to %d", n.name, v, n.min, n.max))
		}
	}
	if o.rate > 0 && o.checkouts > checkoutsMax {
		faults = append(faults, fmt.Errorf("--rate %d for --seconds %d makes %d checkouts, want %d at most", o.rate, o.seconds, o.checkouts, checkoutsMax))
	}
	if o.floor && o.rate > 0 {
		faults = append(faults, errors.New("--floor is measured with buyers who ask again when answered, so without --rate"))
	}
	if s.takes("step") && o.rate == 0 {
		faults = append(faults, errors.New("--rate is 0, want at least 1 for the first step"))
	}
	if s.takes("limit") && (o.limit < limitMin || o.limit > limitMax) {
		faults = append(faults, fmt.Errorf("--limit is %s, want %s to %s", o.limit, limitMin, limitMax))
	}
	return faults
}

// openSeconds is how long an open loop lasts when nobody says.
const openSeconds = 10

// sensible fills in what follows from the rest: an open loop makes as many checkouts as are due.
func (o options) sensible() options {
	if o.rate > 0 {
		if o.seconds == 0 {
			o.seconds = openSeconds
		}
		o.checkouts = o.rate * o.seconds
	}
	return o
}

// warmCarts is how many carts are kept for warming up.
func (o options) warmCarts() int {
	switch {
	case o.warmup == 0:
		return 0
	case o.rate > 0:
		return o.rate * o.warmup
	}
	return o.checkouts / 10
}

// command is the command line that makes this run again.
func (o options) command(s scenario) string {
	words := []string{"./setup.sh bench", s.name}
	normal := s.defaults
	if o.small {
		words, normal = append(words, "--small"), s.small
	}
	for _, n := range s.numbers() {
		derived := n.name == "checkouts" && o.rate > 0
		if v := *n.of(&o); v != *n.of(&normal) && !derived {
			words = append(words, fmt.Sprintf("--%s %d", n.name, v))
		}
	}
	if o.floor {
		words = append(words, "--floor")
	}
	if s.takes("limit") && o.limit != normal.limit {
		words = append(words, "--limit "+o.limit.String())
	}
	return strings.Join(words, " ")
}

func (c Command) scenarioHelp(s scenario) {
	fmt.Fprintf(c.Out, "Usage: cartwright bench %s [flags]\n\n%s.\n\n%s\n\n", s.name, strings.ToUpper(s.does[:1])+s.does[1:], s.tells)
	for _, n := range s.numbers() {
		fmt.Fprintf(c.Out, "  --%-14s %s (%d)\n", n.name, n.help, *n.of(&s.defaults))
	}
	if s.takes("limit") {
		fmt.Fprintf(c.Out, "  --%-14s %s (%s)\n", "limit", "the p99 that must not be passed", s.defaults.limit)
	}
	if s.takes("floor") {
		fmt.Fprintf(c.Out, "  --%-14s %s\n", "floor", "measures the floor too, on the same servers right before and after, and tells the ratio")
	}
	fmt.Fprintf(c.Out, "  --%-14s %s\n", "small", "a run of a few seconds, to see that all of it works; its figures say nothing")
	fmt.Fprintf(c.Out, "  --%-14s %s\n", "json", "the report as JSON")
	fmt.Fprintf(c.Out, "  --%-14s %s\n", "plot folder", "draws the latencies there, as SVG")
	fmt.Fprintf(c.Out, "\nExample: cartwright bench %s %s\n", s.name, s.example)
}
