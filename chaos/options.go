package chaos

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

const help = `
Usage: cartwright chaos [--minutes N] [--seed N] [--json] [--keep]
       cartwright chaos --document page.md --seeds 1,2,3 [--minutes N]

Starts a shop of its own, buys from it with hundreds of shoppers, and breaks it meanwhile: processes
are killed, stopped and restarted, MariaDB and RabbitMQ too; what is between any two of them is cut,
swallowed, slowed down or reset; alarms are sounded, messages poisoned and repeated. Then everything is
healed, and the shop must come to rest within two minutes, with nothing sold twice, charged twice or
lost. What every client was told is held to the databases and to the queues. The exit status is 1 when
anything is wrong.

The shop has its own servers, passwords and folder, .cartwright/chaos/<run>, and listens on free ports
of 127.0.0.1. A shop that runs already is not touched. Ctrl-C heals, ends and removes it.

  --minutes N       how long shoppers come in and things are broken; 2, and fractions are possible
  --seed N          what is broken, when and where, and what each shopper wants, follows from it; a
                    random one if none is given. The report names it
  --json            the report as JSON
  --keep            keep the folder with history, logs and the contents of the databases, which
                    otherwise goes when all was right
  --document page   run --seeds one after the other and write the page with their totals

A run that was itself killed leaves its shop running: CARTWRIGHT_HOME=<its folder>/shop cartwright down
ends it.
`

// limits of a run.
const (
	minutesUsual = 2
	minutesLeast = 0.1
	minutesMost  = 24 * 60
)

// options are what may be chosen.
type options struct {
	minutes  float64
	seeds    []uint64
	json     bool
	keep     bool
	document string
}

func (o options) length() time.Duration { return time.Duration(o.minutes * float64(time.Minute)) }

// command is the command line that makes the run of a seed again.
func (o options) command(seed uint64) string {
	return fmt.Sprintf("cartwright chaos --minutes %s --seed %d", strconv.FormatFloat(o.minutes, 'f', -1, 64), seed)
}

// parseOptions reads the flags. Errors: flag.ErrHelp, when help is asked for.
func parseOptions(args []string) (options, error) {
	var o options
	var seed, seeds string
	flags := flag.NewFlagSet("cartwright chaos", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // flag would print its own idea of a usage
	flags.Float64Var(&o.minutes, "minutes", minutesUsual, "")
	flags.StringVar(&seed, "seed", "", "")
	flags.StringVar(&seeds, "seeds", "", "")
	flags.BoolVar(&o.json, "json", false, "")
	flags.BoolVar(&o.keep, "keep", false, "")
	flags.StringVar(&o.document, "document", "", "")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, fmt.Errorf("%w (see cartwright chaos --help)", err)
	}
	var faults []error
	if flags.NArg() > 0 {
		faults = append(faults, fmt.Errorf("unknown argument %q (see cartwright chaos --help)", flags.Arg(0)))
	}
	if o.minutes < minutesLeast || o.minutes > minutesMost {
		faults = append(faults, fmt.Errorf("--minutes is %g, want %g to %d", o.minutes, minutesLeast, minutesMost))
	}
	if (o.document == "") != (seeds == "") || seeds != "" && seed != "" {
		faults = append(faults, errors.New("--document goes with --seeds, and --seed without"))
	}
	var err error
	o.seeds, err = readSeeds(seed + seeds)
	return o, errors.Join(append(faults, err)...)
}

// readSeeds reads numbers divided by commas, and draws one where there are none.
func readSeeds(list string) (seeds []uint64, err error) {
	if list == "" {
		return []uint64{rand.Uint64N(1_000_000)}, nil
	}
	for word := range strings.SplitSeq(list, ",") {
		seed, err := strconv.ParseUint(strings.TrimSpace(word), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("seed %q is no whole number from 0 on", word)
		}
		seeds = append(seeds, seed)
	}
	return seeds, nil
}
